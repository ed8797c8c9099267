//! Listeners for the PROXY protocol. The proxy sends the client's address before the first request.

use std::net::{IpAddr, SocketAddr};

use crate::addresses::known;
use crate::dsl::{Server, TestConnection, announce, observer, request, retracker};

/// Starts a server for proxies on a port of 127.0.0.1. Returns also its address.
fn server(args: &[&str]) -> (Server, String) {
    let server = Server::start(&[&["-l", "proxy+tcp://127.0.0.1:0"], args].concat());
    let address = server.addresses()[0].strip_prefix("proxy+tcp://").unwrap().to_owned();
    (server, address)
}

pub(crate) fn version_1(source: &str) -> Vec<u8> {
    let source: SocketAddr = source.parse().unwrap();
    let (family, destination) = if source.is_ipv4() { ("TCP4", "10.0.0.1") } else { ("TCP6", "fd00::1") };
    format!("PROXY {family} {} {destination} {} 80\r\n", source.ip(), source.port()).into_bytes()
}

fn version_2(source: &str, tlvs: &[u8]) -> Vec<u8> {
    version_2_of(1, source, tlvs)
}

/// Returns a version 2 header for a stream (transport 1) or for datagrams (2).
pub(crate) fn version_2_of(transport: u8, source: &str, tlvs: &[u8]) -> Vec<u8> {
    let source: SocketAddr = source.parse().unwrap();
    let (family, addresses) = match source.ip() {
        IpAddr::V4(ip) => (0x10, [ip.octets(), [10, 0, 0, 1]].concat()),
        IpAddr::V6(ip) => (0x20, [ip.octets(), [0xfd; 16]].concat()),
    };
    let body = [&addresses[..], &source.port().to_be_bytes(), &[0, 80], tlvs].concat();
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21", &[family | transport][..], &length, &body].concat()
}

pub(crate) const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Sends this PROXY header and two announces. Returns the client's address, which must be the same for both.
fn known_as(address: &str, header: &[u8], headers: &[(&str, &str)]) -> String {
    let mut connection = TestConnection::to(address);
    let announce = request("GET", announce("t", "a").target(), headers);
    connection.send([header, &announce].concat());
    let first = known(&connection.reply());
    connection.send(&announce);
    assert_eq!(known(&connection.reply()), first, "the next request has the same address");
    first
}

#[test]
fn the_header_gives_the_client_s_address() {
    let (server, address) = server(&[]);
    for (header, known) in [
        (version_1("203.0.113.5:6881"), "203.0.113.5"),
        (version_1("[2001:db8::5]:6881"), "2001:db8::5"),
        (version_1("[::ffff:10.0.0.9]:6881"), "10.0.0.9"),
        (version_2("203.0.113.5:6881", b""), "203.0.113.5"),
        (version_2("[2001:db8::5]:6881", &[7; 1000]), "2001:db8::5"),
        (version_1("0.0.0.0:6881"), "?"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "?"),
        (LOCAL.to_vec(), "?"),
    ] {
        assert_eq!(known_as(&address, &header, &[]), known, "{}", header.escape_ascii());
        // The client in the PROXY header is not a trusted proxy. So its HTTP headers do not change its address.
        assert_eq!(known_as(&address, &header, &[("X-Real-IP", "6.6.6.6"), ("Forwarded", "for=6.6.6.6")]), known);
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_header_may_come_in_pieces() {
    let (_server, address) = server(&[]);
    for header in [version_1("203.0.113.5:6881"), version_2("203.0.113.5:6881", b"tlv")] {
        let mut connection = TestConnection::to(&address);
        for byte in header.iter().chain(&request("GET", announce("t", "a").target(), &[])) {
            connection.send([*byte]);
        }
        assert_eq!(connection.reply().external_ip(), "203.0.113.5");
    }
}

#[test]
fn a_connection_without_a_header_is_closed_and_logged_once() {
    let (server, address) = server(&[]);
    for sent in [
        request("GET", announce("t", "a").target(), &[]),
        b"PROXY TCP4 203.0.113.5\r\nGET /health HTTP/1.1\r\n\r\n".to_vec(),
        [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        [version_1("203.0.113.5:6881"), version_1("203.0.113.6:6881")].concat(),
        b"PROXY".to_vec(),
        Vec::new(),
    ] {
        let mut connection = TestConnection::to(&address);
        connection.send(&sent);
        connection.half_close();
        let rest = connection.rest();
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", rest.escape_ascii());
    }
    assert_eq!(known_as(&address, &version_1("10.0.0.9:1"), &[]), "10.0.0.9");
    let log = server.stop().stderr;
    let warnings: Vec<_> = log.iter().filter(|line| line.contains("WARN")).collect();
    assert!(
        matches!(&warnings[..], [line] if line.contains("PROXY protocol") && line.contains("proxy_protocol on")),
        "{log:?}"
    );
}

#[test]
fn a_header_counts_from_trusted_proxies_only_once_there_are_any() {
    let header = version_1("203.0.113.5:6881");
    let (_server, address) = server(&["--trusted-proxies", "127.0.0.1"]);
    assert_eq!(known_as(&address, &header, &[]), "203.0.113.5");
    // The tracker does not record an untrusted proxy's address as the client's.
    let (server_of_others, address) = server(&["--trusted-proxies", "10.0.0.0/8"]);
    let mut connection = TestConnection::to(&address);
    connection.send([&header[..], &request("GET", announce("t", "a").at("10.0.0.9").target(), &[])].concat());
    let warning = connection.reply().string("warning message").unwrap();
    assert!(warning.contains("not listed") && warning.contains("TRUSTED_PROXIES"), "{warning}");
    server_of_others.logged("TRUSTED_PROXIES");
    // There are two proxies. The second proxy's PROXY header names the first proxy, and the first proxy's HTTP header
    // names the client.
    let (_server, address) = server(&["--trusted-proxies", "127.0.0.1,10.0.0.1"]);
    let header = version_1("10.0.0.1:4711");
    assert_eq!(known_as(&address, &header, &[("X-Forwarded-For", "6.6.6.6, 203.0.113.5")]), "203.0.113.5");
}

#[test]
fn a_header_at_an_ordinary_listener_is_a_bad_request() {
    let server = Server::start(&["-x", "--trusted-proxies", "127.0.0.1"]);
    let sent = [version_1("203.0.113.5:6881"), request("GET", announce("t", "a").target(), &[])].concat();
    assert!(!server.raw(sent).starts_with(b"HTTP/1.1 200"));
    assert_eq!(server.announce(&observer("t")).peers(), [""; 0]);
}

#[test]
fn unix_sockets_and_several_listeners() {
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", folder.path().join("retracker.sock").display());
    let listen = format!("127.0.0.1:0,proxy+tcp://127.0.0.1:0,proxy+{unix}");
    let server = retracker(&[]).env("LISTEN_ADDR", &listen).start();
    let [plain, tcp, proxied_unix] = server.addresses() else { panic!("{:?}", server.addresses()) };
    assert_eq!(proxied_unix, &format!("proxy+{unix}"));
    assert_eq!(known_as(plain, b"", &[]), "127.0.0.1");
    assert_eq!(known_as(&unix, &version_2("203.0.113.5:1", b""), &[]), "203.0.113.5");
    // A Unix socket counts as a trusted proxy. So the HTTP header is used if the PROXY header has no address.
    assert_eq!(known_as(&unix, LOCAL, &[("X-Real-IP", "203.0.113.6")]), "203.0.113.6");
    assert_eq!(known_as(&unix, LOCAL, &[]), "?");
    for address in [tcp, proxied_unix, &format!("{plain},{tcp},{proxied_unix}")] {
        let exit = retracker(&["healthcheck", "-l", address]).run();
        assert_eq!(exit.code, Some(0), "{address}: {exit:?}");
    }
}
