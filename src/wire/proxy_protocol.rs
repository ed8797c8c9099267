//! The PROXY protocol, versions 1 and 2: what a proxy puts in front of a connection, or of a datagram, to say whose it is
//! (HAProxy's `proxy-protocol.txt`, sections 2.1 and 2.2).
//!
//! Whoever can send it can claim any address. It is read only where the operator has said that a proxy speaks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// The longest header of version 1, its line end included (section 2.1).
pub const MAX_V1: usize = 107;

/// The longest header of version 2 that is taken. Its length field could say 64 KiB; addresses take 36 bytes, and what
/// proxies add to them (section 2.2.7) a few hundred, or a kilobyte or two with a client's certificate.
pub const MAX_V2: usize = 4096;

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The command of version 2 with which a proxy speaks for somebody else (section 2.2).
const PROXY: u8 = 1;
/// The transport of version 2 that stands for TCP and for streams of Unix sockets (section 2.2).
const STREAM: u8 = 1;

/// What comes before the addresses of version 2: the signature, version and command, family and transport, and a length.
const FIXED_V2: usize = 16;

/// A header, read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it takes.
    pub len: usize,
    /// Where the proxied connection or datagram comes from; its address is canonical. None when the proxy speaks for
    /// itself, as in its health checks (`LOCAL`), or does not say for whom (`UNKNOWN`, a Unix socket): then the other
    /// end of the socket counts.
    pub source: Option<SocketAddr>,
}

/// This is no header, nor the beginning of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It begins as no header does: somebody who is no proxy, or a proxy that was not told to send one.
    #[error("it begins with no PROXY protocol header")]
    NoHeader,
    /// It is longer than a header may be.
    #[error("its PROXY protocol header is too long")]
    TooLong,
    /// What the header says is not to be understood.
    #[error("its PROXY protocol header is malformed")]
    Unreadable,
    /// A datagram ends before its header does.
    #[error("its PROXY protocol header is cut off")]
    CutOff,
    /// A datagram's header tells of a stream.
    #[error("its PROXY protocol header tells of a stream, and not of datagrams")]
    Stream,
}

/// Reads the header at the beginning of a stream, as far as it has come. None while more is needed: at most [`MAX_V1`] or
/// [`MAX_V2`] bytes in all.
///
/// Whether the client spoke TCP or UDP to the proxy is passed over: a proxy may translate.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    if begins(bytes, SIGNATURE_V2) {
        return parse_v2(bytes);
    }
    if begins(bytes, SIGNATURE_V1) { parse_v1(bytes) } else { Err(Malformed::NoHeader) }
}

/// Takes the header off a datagram. Gives where the datagram comes from, none as in [`Header`], and what the header stands
/// before. Only version 2 can stand there: version 1 has no word for UDP (section 2.1).
///
/// # Errors
/// Unlike at the beginning of a stream, a header that ends too late is one that is cut off; and so that nobody's connection
/// is taken for a datagram, one that tells of a stream (transport `0x1`, section 2.2) is refused, as a receiver may.
pub fn parse_datagram(datagram: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), Malformed> {
    if !datagram.starts_with(SIGNATURE_V2) {
        return Err(Malformed::NoHeader);
    }
    let header = parse_v2(datagram)?.ok_or(Malformed::CutOff)?;
    // What it says when it speaks for itself counts for nothing, not even this.
    let [command, transport] = [12, 13].map(|at| datagram.get(at).map_or(0, |byte| byte & 0x0f));
    if (command, transport) == (PROXY, STREAM) {
        return Err(Malformed::Stream);
    }
    Ok((header.source, datagram.get(header.len..).unwrap_or_default()))
}

/// Whether these bytes are the beginning of what starts so, or go on from there.
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

/// What follows `PROXY `: `TCP4 192.0.2.1 192.0.2.2 56324 443`, or `UNKNOWN` and anything.
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

/// The source, if both are addresses of the family that the line has named.
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
    // A proxy that speaks for itself may put there what it likes.
    let source = if is_local { None } else { v2_source(family_and_transport, body)? };
    Ok(Some(Header { len, source }))
}

/// The addresses, the source first, then the ports. What follows them (TLVs, section 2.2) is of no use here.
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
        // Unspecified, or a Unix socket: there is no address to be told to others.
        0x00 | 0x31 | 0x32 => Ok(None),
        _ => Err(Malformed::Unreadable),
    }
}

fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let (from, to) = (source.ip(), destination.ip());
        format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [SIGNATURE_V2, &[0x20 | command, family], &length, body].concat()
    }

    fn v2_proxy(source: SocketAddr, destination: SocketAddr, transport: u8, tlvs: &[u8]) -> Vec<u8> {
        let octets = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
        let body = [octets(source.ip()), octets(destination.ip()), ports, tlvs.to_vec()].concat();
        v2(1, if source.is_ipv4() { 0x10 } else { 0x20 } | transport, &body)
    }

    /// Two addresses of one family.
    fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
        let v4 = any::<[(Ipv4Addr, u16); 2]>().prop_map(|[a, b]| (a.into(), b.into()));
        let v6 = any::<[(Ipv6Addr, u16); 2]>().prop_map(|[a, b]| (a.into(), b.into()));
        prop_oneof![v4, v6]
    }

    fn source(bytes: &[u8]) -> Option<SocketAddr> {
        let header = parse(bytes).unwrap().unwrap();
        assert_eq!(header.len, bytes.len());
        header.source
    }

    #[test]
    fn version_1() {
        let address = |text: &str| Some(text.parse().unwrap());
        assert_eq!(source(b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n"), address("192.0.2.1:56324"));
        assert_eq!(source(b"PROXY TCP6 2001:db8::1 ::1 1 0\r\n"), address("[2001:db8::1]:1"));
        assert_eq!(source(b"PROXY TCP6 ::ffff:10.0.0.9 ::1 1 2\r\n"), address("10.0.0.9:1"));
        assert_eq!(source(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(source(b"PROXY UNKNOWN ffff::1 whatever \x01\r\n"), None);
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n");
        assert_eq!((longest.len(), source(longest.as_bytes())), (MAX_V1, None));
    }

    #[test]
    fn version_1_that_is_wrong() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 2 3\r\n",
            "PROXY TCP4  192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 65536 2\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 -1 2\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            "PROXY unknown\r\n",
            "PROXY TCP4 192.0.2.1 10.0.0.1 1 \u{e9}\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(Malformed::Unreadable), "{line}");
        }
        for other in ["GET / HTTP/1.1\r\n", "proxy TCP4", "PROXIES", "\r\n\r\nGET", " PROXY "] {
            assert_eq!(parse(other.as_bytes()), Err(Malformed::NoHeader), "{other}");
        }
        let endless = [SIGNATURE_V1, &[b'x'; MAX_V1]].concat();
        assert_eq!(parse(&endless[..MAX_V1 - 1]), Ok(None));
        assert_eq!(parse(&endless[..MAX_V1]), Err(Malformed::TooLong));
        // The line end must be within as well.
        let late = [SIGNATURE_V1, b"UNKNOWN", &[b' '; MAX_V1 - 14], b"\r\n"].concat();
        assert_eq!(parse(&late), Err(Malformed::TooLong));
    }

    #[test]
    fn version_2_that_speaks_for_nobody() {
        for family in 0..=255 {
            assert_eq!(source(&v2(0, family, b"what it likes")), None, "LOCAL {family}");
        }
        assert_eq!(source(&v2(1, 0x00, b"")), None);
        assert_eq!(source(&v2(1, 0x31, &[b'/'; 216])), None);
    }

    #[test]
    fn version_2_that_is_wrong() {
        for family in [0x01, 0x10, 0x13, 0x20, 0x23, 0x30, 0x41, 0xff] {
            assert_eq!(parse(&v2(1, family, &[1; 300])), Err(Malformed::Unreadable), "{family}");
        }
        assert_eq!(parse(&v2(2, 0x11, &[1; 12])), Err(Malformed::Unreadable), "an unknown command");
        let mut version_3 = v2(1, 0x11, &[1; 12]);
        version_3[12] = 0x31;
        assert_eq!(parse(&version_3), Err(Malformed::Unreadable));
        assert_eq!(parse(&v2(1, 0x11, &[1; 11])), Err(Malformed::Unreadable), "too short for IPv4");
        assert_eq!(parse(&v2(1, 0x21, &[1; 35])), Err(Malformed::Unreadable), "too short for IPv6");
        let longest = vec![1; MAX_V2 - FIXED_V2];
        assert!(parse(&v2(1, 0x11, &longest)).unwrap().is_some());
        // Said in the length already, so that nobody waits for the rest.
        let too_long = v2(1, 0x11, &[&longest[..], b"1"].concat());
        assert_eq!(parse(&too_long[..FIXED_V2]), Err(Malformed::TooLong));
    }

    #[test]
    fn datagrams_have_version_2_only_and_whole() {
        let (source, destination) = ("192.0.2.1:6881".parse().unwrap(), "10.0.0.1:6969".parse().unwrap());
        let header = v2_proxy(source, destination, 2, b"tlv");
        let datagram = [&header[..], b"connect"].concat();
        assert_eq!(parse_datagram(&datagram), Ok((Some(source), &b"connect"[..])));
        assert_eq!(parse_datagram(&header), Ok((Some(source), &b""[..])));
        assert_eq!(parse_datagram(&header[..20]), Err(Malformed::CutOff));
        assert_eq!(parse_datagram(&header[..11]), Err(Malformed::NoHeader));
        assert_eq!(parse_datagram(&v1(source, destination)), Err(Malformed::NoHeader));
        assert_eq!(parse_datagram(b""), Err(Malformed::NoHeader));
        for tcp in [0x11, 0x21, 0x31] {
            assert_eq!(parse_datagram(&v2(1, tcp, &[1; 300])), Err(Malformed::Stream), "{tcp:#x}");
        }
    }

    #[test]
    fn datagrams_of_nobody_in_particular() {
        let behind = |header: Vec<u8>| parse_datagram(&[&header[..], b"connect"].concat()).map(|(source, _)| source);
        for family in 0..=255 {
            assert_eq!(behind(v2(0, family, b"what it likes")), Ok(None), "LOCAL {family:#x}");
        }
        assert_eq!(behind(v2(1, 0x00, b"")), Ok(None));
        assert_eq!(behind(v2(1, 0x32, &[b'/'; 216])), Ok(None));
        assert_eq!(parse_datagram(&[&v2(0, 0, b"tlv")[..], b"x"].concat()), Ok((None, &b"x"[..])));
    }

    /// Byte by byte as section 2.2 has it, so that what is read is not only what the tests write.
    #[test]
    fn datagrams_as_the_specification_has_them() {
        let v4 = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x12\x00\x0c\
            \xcb\x00\x71\x05\x0a\x00\x00\x01\x1a\xe1\x1b\x39connect";
        assert_eq!(parse_datagram(v4), Ok((Some("203.0.113.5:6881".parse().unwrap()), &b"connect"[..])));
        let v6 = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x22\x00\x24\
            \x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\
            \xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x1a\xe1\x1b\x39connect";
        assert_eq!(parse_datagram(v6), Ok((Some("[2001:db8::5]:6881".parse().unwrap()), &b"connect"[..])));
    }

    proptest! {
        #[test]
        fn what_a_proxy_writes_is_read(
            (from, to) in pair(), transport in 1u8..=2, tlvs in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let expected = Some(canonical(from.ip(), from.port()));
            prop_assert_eq!(source(&v1(from, to)), expected);
            prop_assert_eq!(source(&v2_proxy(from, to, transport, &tlvs)), expected);
        }

        #[test]
        fn it_may_come_in_pieces_and_what_follows_changes_nothing(
            (from, to) in pair(), tlvs in proptest::collection::vec(any::<u8>(), 0..100), rest in any::<Vec<u8>>(),
        ) {
            for header in [v1(from, to), v2_proxy(from, to, 1, &tlvs)] {
                for end in 0..header.len() {
                    prop_assert_eq!(parse(&header[..end]), Ok(None));
                }
                let whole = parse(&header);
                prop_assert_eq!(parse(&[&header[..], &rest].concat()), whole);
            }
        }

        #[test]
        fn a_datagram_is_read_whole_or_not_at_all(
            (from, to) in pair(), tlvs in proptest::collection::vec(any::<u8>(), 0..300), packet in any::<Vec<u8>>(),
        ) {
            let header = v2_proxy(from, to, 2, &tlvs);
            let datagram = [&header[..], &packet].concat();
            let expected = Some(canonical(from.ip(), from.port()));
            prop_assert_eq!(parse_datagram(&datagram), Ok((expected, &packet[..])));
            for end in 0..header.len() {
                let expected = if end < SIGNATURE_V2.len() { Malformed::NoHeader } else { Malformed::CutOff };
                prop_assert_eq!(parse_datagram(&datagram[..end]), Err(expected));
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            signature in 0usize..3, mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let signature = [&b""[..], SIGNATURE_V1, SIGNATURE_V2][signature];
            bytes.splice(..0, signature.iter().copied());
            if let Ok(Some(header)) = parse(&bytes) {
                prop_assert!(header.len <= bytes.len().min(MAX_V2));
            }
            if let Ok((source, packet)) = parse_datagram(&bytes) {
                let header = Header { len: bytes.len() - packet.len(), source };
                prop_assert_eq!(parse(&bytes), Ok(Some(header)));
            }
        }
    }
}
