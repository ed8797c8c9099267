//! The bytes that upstream trackers send.

use std::net::{IpAddr, SocketAddr};

/// A peer that the odd tracker of a [`Case`](super::case::Case) gives.
pub(super) const PEER: &str = "10.1.1.1:1001";
/// A peer that the correct tracker gives.
pub(super) const GOOD_PEER: &str = "10.2.2.2:2002";

pub(super) fn compact(peers: &[&str]) -> Vec<u8> {
    peers.iter().flat_map(|peer| entry(peer)).collect()
}

pub(super) fn entry(peer: &str) -> Vec<u8> {
    let peer: SocketAddr = peer.parse().unwrap();
    let ip = match peer.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    [&ip[..], &peer.port().to_be_bytes()].concat()
}

pub(super) fn bencoded(bytes: &[u8]) -> Vec<u8> {
    [bytes.len().to_string().as_bytes(), b":", bytes].concat()
}

/// Returns a dictionary with these IPv4 peers in compact form.
pub(super) fn with_peers(peers: &[&str]) -> Vec<u8> {
    [b"d8:intervali1800e5:peers", &bencoded(&compact(peers))[..], b"e"].concat()
}

pub(super) fn one_peer() -> Vec<u8> {
    with_peers(&[PEER])
}

/// Returns a dictionary with [`PEER`] in compact form. `front` is the beginning of the dictionary before the key `peers`,
/// and `behind` is the rest after the peers.
pub(super) fn around_peers(front: &str, behind: &str) -> Vec<u8> {
    [front.as_bytes(), b"5:peers", &bencoded(&compact(&[PEER])), behind.as_bytes()].concat()
}

pub(super) fn http(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    [b"HTTP/1.1 ", head.as_bytes(), b"\r\n\r\n", body.as_ref()].concat()
}

/// Returns a reply with the headers that most trackers send.
pub(super) fn with_length(head: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    http(&format!("{head}\r\nContent-Type: text/plain\r\nContent-Length: {}", body.len()), body)
}

pub(super) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    with_length("200 OK", body)
}

pub(super) fn chunked(body: impl AsRef<[u8]>) -> Vec<u8> {
    http("200 OK\r\nTransfer-Encoding: chunked", body)
}

pub(super) fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Encodes bytes as gzip (RFC 1952) without compression.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let trailer = [(!crc).to_le_bytes(), (bytes.len() as u32).to_le_bytes()].concat();
    [b"\x1f\x8b\x08\0\0\0\0\0\0\xff", &stored(bytes)[..], &trailer].concat()
}

/// Encodes bytes as HTTP's `deflate`, which is the zlib format (RFC 1950), without compression.
pub(super) fn zlib(bytes: &[u8]) -> Vec<u8> {
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (a + b) % 65_521)
    });
    [b"\x78\x01", &stored(bytes)[..], &(b << 16 | a).to_be_bytes()].concat()
}

pub(super) fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len() as u16;
    [b"\x01", &length.to_le_bytes()[..], &(!length).to_le_bytes(), bytes].concat()
}

/// The beginning of a gzip stream. Each zero byte after this beginning inflates to 1,032 zero bytes.
pub(super) const BOMB: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xec\xc1\x01\x01\0\0\0\x80\x90\xfe\xaf\xee\x08\x0a";

/// Returns a dictionary whose compact peers are these bytes.
pub(super) fn around_peers_of(list: &[u8]) -> Vec<u8> {
    [b"d8:intervali1800e5:peers", &bencoded(list)[..], b"e"].concat()
}
