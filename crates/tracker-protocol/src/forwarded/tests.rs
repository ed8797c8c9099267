use super::*;
use proptest::prelude::*;

/// In these tests all of `10.0.0.0/8` and `fd00::/8` are proxies.
fn is_trusted(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 10,
        IpAddr::V6(ip) => ip.octets()[0] == 0xfd,
    }
}

/// Returns the client's address, `proxy` with the proxy's address, `-` if no host is named, or `?` if the header is
/// unclear.
fn of(syntax: Syntax, lines: &[&str]) -> String {
    match client(lines.iter().map(|line| line.as_bytes()), syntax, is_trusted) {
        Named::Client(ip) => ip.to_string(),
        Named::Proxy(ip) => format!("proxy {ip}"),
        Named::NotSaid => "-".to_owned(),
        Named::Unclear => "?".to_owned(),
    }
}

#[test]
fn the_name_decides_the_syntax() {
    assert_eq!(Syntax::of("Forwarded"), Syntax::Forwarded);
    assert_eq!(Syntax::of("x-forwarded-FOR"), Syntax::XForwardedFor);
    assert_eq!(Syntax::of("CF-Connecting-IP"), Syntax::Single);
}

#[test]
fn x_forwarded_for_is_read_from_the_right_past_trusted_proxies() {
    for (lines, client) in [
        (&["203.0.113.5"][..], "203.0.113.5"),
        (&["6.6.6.6, 203.0.113.5"], "203.0.113.5"),
        (&["6.6.6.6,203.0.113.5 , 10.0.0.1,10.0.0.2"], "203.0.113.5"),
        (&["6.6.6.6", "203.0.113.5", "10.0.0.1"], "203.0.113.5"),
        (&["6.6.6.6", "203.0.113.5", ""], "203.0.113.5"),
        (&["10.0.0.3, 10.0.0.1"], "proxy 10.0.0.3"),
        (&["10.0.0.3", "10.0.0.1"], "proxy 10.0.0.3"),
        (&["203.0.113.5, ,, 10.0.0.1,"], "203.0.113.5"),
        (&["2001:db8::5, fd00::1"], "2001:db8::5"),
        (&["[2001:db8::5]:4711"], "2001:db8::5"),
        (&["203.0.113.5:4711"], "203.0.113.5"),
        (&["::ffff:203.0.113.5"], "203.0.113.5"),
        (&["203.0.113.5, unknown"], "-"),
        (&["203.0.113.5, unknown, 10.0.0.1"], "-"),
        (&["unknown, 203.0.113.5"], "203.0.113.5"),
        (&["<script>, 203.0.113.5"], "203.0.113.5"),
        (&["203.0.113.5, <script>"], "?"),
        (&["203.0.113.5, <script>, 10.0.0.1"], "?"),
        (&["203.0.113.5, localhost"], "?"),
        (&["", ","], "-"),
        (&["Unknown"], "-"),
        (&["-"], "-"),
        (&["_hidden"], "-"),
        (&["6.6.6.6", "unknown", "10.0.0.1"], "-"),
        (&[" \"[2001:db8::5]:4711\" "], "2001:db8::5"),
        (&["\"203.0.113.5\", \"10.0.0.1:80\""], "203.0.113.5"),
        (&["[fe80::5%eth0]:80"], "fe80::5"),
        (&[], "-"),
    ] {
        assert_eq!(of(Syntax::XForwardedFor, lines), client, "{lines:?}");
    }
}

#[test]
fn forwarded_in_every_dress() {
    for (lines, client) in [
        // The examples of RFC 7239, sections 4 and 7.
        (&["For=\"[2001:db8:cafe::17]:4711\""][..], "2001:db8:cafe::17"),
        (&["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60"),
        (&["for=192.0.2.43, for=198.51.100.17"], "198.51.100.17"),
        (&["for=\"_gazonk\""], "-"),
        (&["for=192.0.2.43, for=\"[2001:db8:cafe::17]\", for=unknown"], "-"),
        (&["for=_hidden, for=_SEVKISEK"], "-"),
        // Lists that trusted proxies have extended, in one line or in several lines, and with other parameters.
        (&["for=6.6.6.6, for=192.0.2.43;by=10.0.0.1, for=10.0.0.1"], "192.0.2.43"),
        (&["for=6.6.6.6, for=192.0.2.43", "for=10.0.0.1"], "192.0.2.43"),
        (&["by=10.0.0.2 ; FOR=\"192.0.2.43:80\" ; host=\"a,b;c\""], "192.0.2.43"),
        (&["for=192.0.2.43;ext=\"a \\\", for=6.6.6.6\""], "192.0.2.43"),
        // Elements without a `for`, or with two, and values that are no address.
        (&["for=192.0.2.43, by=10.0.0.1"], "-"),
        (&["proto=https"], "-"),
        (&["for=192.0.2.43;for=6.6.6.6"], "?"),
        (&["192.0.2.43"], "-"),
        (&["for=\"192.0.2.43"], "?"),
        (&["for=\"_hidden:_port\""], "-"),
        (&["for=\"Unknown:4711\""], "-"),
        (&["for=unknown", "for=10.0.0.1"], "-"),
        (&["for=\"192.0.2.43\\\""], "?"),
    ] {
        assert_eq!(of(Syntax::Forwarded, lines), client, "{lines:?}");
    }
}

#[test]
fn what_a_client_writes_does_not_change_what_the_proxy_says() {
    for invented in ["for=\"", "for=6.6.6.6;x=\"", "\\", "for=6.6.6.6, \"\\\"", "\"\"\"", "for=6.6.6.6;x=\"\\\\\\"] {
        for element in ["for=192.0.2.43", "for=\"192.0.2.43\"", "for=\"192.0.2.43:1\";by=\"[fd00::1]:2\""] {
            let line = format!("{invented}, {element}");
            assert_eq!(of(Syntax::Forwarded, &[&line]), "192.0.2.43", "{line}");
        }
    }
}

#[test]
fn a_single_address_is_the_only_one() {
    for (lines, client) in [
        (&[" 203.0.113.5 "][..], "203.0.113.5"),
        (&["203.0.113.5", "203.0.113.5"], "203.0.113.5"),
        (&["203.0.113.5,::ffff:203.0.113.5"], "203.0.113.5"),
        (&["203.0.113.5,"], "203.0.113.5"),
        (&["\"[2001:db8::5]:4711\""], "2001:db8::5"),
        (&["fe80::5%eth0"], "fe80::5"),
        (&["10.0.0.5"], "proxy 10.0.0.5"),
        (&["6.6.6.6", "203.0.113.5"], "?"),
        (&["6.6.6.6, 203.0.113.5"], "?"),
        (&["6.6.6.6", ""], "?"),
        (&["6.6.6.6", "unknown"], "?"),
        (&["example.com"], "?"),
        (&["::5::"], "?"),
        (&["", ""], "-"),
        (&["unknown"], "-"),
        (&["(null)"], "-"),
        (&[], "-"),
    ] {
        assert_eq!(of(Syntax::Single, lines), client, "{lines:?}");
    }
}

fn written(ip: IpAddr, syntax: Syntax) -> String {
    match (syntax, ip) {
        (Syntax::Forwarded, IpAddr::V4(ip)) => format!("for={ip}"),
        (Syntax::Forwarded, IpAddr::V6(ip)) => format!("for=\"[{ip}]:4711\""),
        _ => ip.to_string(),
    }
}

proptest! {
    #[test]
    fn the_client_is_found_behind_any_lie(
        lies in "[ -~]{0,80}", client in any::<[u8; 4]>(), v6 in any::<bool>(),
        proxies in proptest::collection::vec(any::<[u8; 3]>(), 0..4),
    ) {
        let ip: IpAddr = if v6 { [[0x20, 1], [client[0], client[1]]].concat().try_into().map(|start: [u8; 4]| {
            let mut octets = [7; 16];
            octets[..4].copy_from_slice(&start);
            octets.into()
        }).unwrap() } else { client.into() };
        prop_assume!(!is_trusted(ip));
        for syntax in [Syntax::Forwarded, Syntax::XForwardedFor] {
            let mut line = format!("{lies}, {}", written(ip, syntax));
            for [b, c, d] in &proxies {
                line = format!("{line}, {}", written([10, *b, *c, *d].into(), syntax));
            }
            prop_assert_eq!(of(syntax, &[&line]), ip.to_string(), "{}", line);
            prop_assert_eq!(of(syntax, &[&lies, &line]), ip.to_string(), "{}", line);
        }
    }

    #[test]
    fn any_bytes_are_read(lines in proptest::collection::vec(any::<Vec<u8>>(), 0..4)) {
        for syntax in [Syntax::Forwarded, Syntax::XForwardedFor, Syntax::Single] {
            let _ = client(lines.iter().map(Vec::as_slice), syntax, is_trusted);
        }
    }
}
