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

/// Returns two addresses of one family.
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
    // The line end must be within the limit as well.
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
    // The length field already shows that the header is too long, so the reader does not wait for the rest.
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

/// The bytes are copied from section 2.2. The other tests read only headers that the tests themselves write.
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
