//! The PROXY protocol, versions 1 and 2: the header that a proxy puts before a connection or a datagram to name the
//! client (HAProxy's `proxy-protocol.txt`, sections 2.1 and 2.2).
//!
//! A header can claim any address. So headers are read only on listeners that the operator has declared to be for
//! proxies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// The longest header of version 1 in bytes, with its line end (section 2.1).
pub const MAX_V1: usize = 107;

/// The longest header of version 2 that is accepted, in bytes. The length field allows 64 KiB, but IPv6 addresses take
/// only 36 bytes. The TLVs that proxies add (section 2.2) take a few hundred bytes; with a client's certificate, one or
/// two kilobytes.
pub const MAX_V2: usize = 4096;

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The command of version 2 for a connection that a proxy makes for a client (section 2.2).
const PROXY: u8 = 1;
/// The transport of version 2 for TCP and for streams of Unix sockets (section 2.2).
const STREAM: u8 = 1;

/// Bytes before the addresses of version 2: the signature, version and command, family and transport, and a length.
const FIXED_V2: usize = 16;

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The length of the header in bytes.
    pub len: usize,
    /// The client's address, canonical. `None` when the proxy connects for itself, as in its health checks (`LOCAL`),
    /// or does not name the client (`UNKNOWN`, a Unix socket).
    pub source: Option<SocketAddr>,
}

/// Why bytes are not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The bytes do not begin like a header. Either the sender is not a proxy, or the proxy is not configured to send a
    /// header.
    #[error("it begins with no PROXY protocol header")]
    NoHeader,
    /// The header is longer than allowed.
    #[error("its PROXY protocol header is too long")]
    TooLong,
    /// The header cannot be parsed.
    #[error("its PROXY protocol header is malformed")]
    Unreadable,
    /// A datagram ends before its header does.
    #[error("its PROXY protocol header is cut off")]
    CutOff,
    /// A datagram's header describes a stream.
    #[error("its PROXY protocol header describes a stream, not datagrams")]
    Stream,
}

/// Reads the header at the beginning of a stream. `None` while more bytes are needed. A header has at most [`MAX_V1`]
/// or [`MAX_V2`] bytes.
///
/// A header that names UDP is accepted, because proxies may translate UDP to TCP.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    if begins(bytes, SIGNATURE_V2) {
        return parse_v2(bytes);
    }
    if begins(bytes, SIGNATURE_V1) { parse_v1(bytes) } else { Err(Malformed::NoHeader) }
}

/// Splits a datagram into the client's address and the bytes after the header. The address is `None` in the cases that
/// [`Header::source`] lists. Only version 2 is read: version 1 cannot express UDP (section 2.1).
///
/// # Errors
/// The header is longer than the datagram: unlike on a stream, no rest can follow. Or the header describes a stream
/// (transport `0x1`), so that no connection is taken for a datagram. Section 2.2 allows a receiver to refuse such a
/// header.
pub fn parse_datagram(datagram: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), Malformed> {
    if !datagram.starts_with(SIGNATURE_V2) {
        return Err(Malformed::NoHeader);
    }
    let header = parse_v2(datagram)?.ok_or(Malformed::CutOff)?;
    // The transport is checked only if the command is `PROXY`. With the other command, `LOCAL`, the proxy sends the
    // datagram for itself, and may write any transport.
    let [command, transport] = [12, 13].map(|at| datagram.get(at).map_or(0, |byte| byte & 0x0f));
    if (command, transport) == (PROXY, STREAM) {
        return Err(Malformed::Stream);
    }
    Ok((header.source, datagram.get(header.len..).unwrap_or_default()))
}

/// Returns whether these bytes begin with the signature, or are the beginning of the signature.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let within = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = memchr::memmem::find(within, b"\r\n") else {
        return if bytes.len() < MAX_V1 { Ok(None) } else { Err(Malformed::TooLong) };
    };
    let line = within.get(SIGNATURE_V1.len()..end).and_then(|line| std::str::from_utf8(line).ok());
    let source = v1_source(line.ok_or(Malformed::Unreadable)?)?;
    Ok(Some(Header { len: end + 2, source }))
}

/// Reads the line after `PROXY `: `TCP4 192.0.2.1 192.0.2.2 56324 443`, or `UNKNOWN` followed by any text.
fn v1_source(line: &str) -> Result<Option<SocketAddr>, Malformed> {
    let mut words = line.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let mut word = || words.next().ok_or(Malformed::Unreadable);
    let [source, destination, source_port, destination_port] = [word()?, word()?, word()?, word()?];
    let ip = match family {
        Some("TCP4") => v1_address::<Ipv4Addr>(source, destination)?.into(),
        Some("TCP6") => v1_address::<Ipv6Addr>(source, destination)?.into(),
        _ => return Err(Malformed::Unreadable),
    };
    let port = |text: &str| text.parse::<u16>().map_err(|_| Malformed::Unreadable);
    port(destination_port)?;
    if words.next().is_some() {
        return Err(Malformed::Unreadable);
    }
    Ok(Some(canonical(ip, port(source_port)?)))
}

/// Returns the source address, if both addresses are of the family that the line names.
fn v1_address<A: std::str::FromStr>(source: &str, destination: &str) -> Result<A, Malformed> {
    match (source.parse(), destination.parse::<A>()) {
        (Ok(source), Ok(_)) => Ok(source),
        _ => Err(Malformed::Unreadable),
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_V2>() else { return Ok(None) };
    let [.., version_and_command, family_and_transport, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let len = FIXED_V2 + length;
    if len > MAX_V2 {
        return Err(Malformed::TooLong);
    }
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Unreadable),
    };
    let Some(body) = rest.get(..length) else { return Ok(None) };
    // A proxy that connects for itself may write any family and any addresses, so they are not read.
    let source = if is_local { None } else { v2_source(family_and_transport, body)? };
    Ok(Some(Header { len, source }))
}

/// Reads the addresses, the source first, then the ports. The TLVs after them (section 2.2) are of no use here.
fn v2_source(family_and_transport: u8, body: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    let v4 = || {
        let &[a, b, c, d, _, _, _, _, high, low, _, _] = body.first_chunk::<12>()?;
        Some(canonical([a, b, c, d].into(), u16::from_be_bytes([high, low])))
    };
    let v6 = || {
        let (addresses, ports) = body.first_chunk::<36>()?.split_first_chunk::<32>()?;
        let &[high, low, _, _] = ports.first_chunk::<4>()?;
        Some(canonical((*addresses.first_chunk::<16>()?).into(), u16::from_be_bytes([high, low])))
    };
    match family_and_transport {
        0x11 | 0x12 => v4().map(Some).ok_or(Malformed::Unreadable),
        0x21 | 0x22 => v6().map(Some).ok_or(Malformed::Unreadable),
        // Unspecified, or a Unix socket: there is no address that other peers could use.
        0x00 | 0x31 | 0x32 => Ok(None),
        _ => Err(Malformed::Unreadable),
    }
}

fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

#[cfg(test)]
mod tests;
