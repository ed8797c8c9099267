//! 6.8. Listeners on which each datagram begins with a PROXY header, which has the client's address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::dsl::{Server, announce, eventually, id, observer, retracker};
use crate::proxied::{LOCAL, version_1, version_2_of};
use crate::udp_client::{TRANSACTION, UdpAnnounce, UdpClient, connect_packet, scrape_packet, udp_announce};
use crate::udp_malformed::Random;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn server(args: &[&str]) -> Server {
    Server::start(&[&["-u", "proxy+udp://127.0.0.1:0", "-p"], args].concat())
}

/// Makes a client behind a proxy on this host, and gets an id.
fn client(server: &Server, source: &str) -> UdpClient {
    let address = server.udp_address();
    let proxy = if address.is_ipv4() { LOOPBACK } else { address.ip() };
    UdpClient::behind(proxy, address, source)
}

/// Sends this datagram unchanged, and checks that it gets no reply.
fn is_dropped(client: &UdpClient, datagram: &[u8]) {
    client.socket.send(datagram).unwrap();
    let answers = client.answers(b"");
    assert!(answers.is_empty(), "{}: {answers:?}", datagram.escape_ascii());
}

fn dropped(server: &Server) -> usize {
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    let name = "retracker_udp_errors_total{reason=\"unproxied\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap()
}

#[test]
fn s6_8_the_header_gives_the_client_s_address() {
    let v6 = Server::start_on_ipv6(&["-u", "proxy+udp://[::1]:0"]);
    for server in [Some(server(&[])), v6].iter().flatten() {
        let announces = |source, peer| client(server, source).announce(&udp_announce("t", peer)).peers;
        assert_eq!(announces("203.0.113.5:1000", "a"), [""; 0]);
        assert_eq!(announces("203.0.113.6:1000", "b"), ["203.0.113.5:6881"]);
        // The list has the client's address family, not the proxy's.
        assert_eq!(announces("[2001:db8::5]:1000", "c"), [""; 0]);
        assert_eq!(announces("[2001:db8::6]:1000", "d"), ["[2001:db8::5]:6881"]);
        // The peers that a client gets also depend on the client's address.
        assert_eq!(announces("[::ffff:10.0.0.9]:1000", "e"), ["203.0.113.5:6881", "203.0.113.6:6881"]);
        assert_eq!(announces("203.0.113.7:1000", "f"), ["203.0.113.5:6881", "203.0.113.6:6881"]);
        let all = server.announce(&observer("t")).peers();
        assert!(all.contains(&"10.0.0.9:6881".to_owned()) && all.len() == 6, "{all:?}");
        let asks = client(server, "[2001:db8::5]:1000");
        let scrape = asks.ask(&scrape_packet(asks.id, &[id("t")]));
        assert_eq!((scrape.len(), scrape[19]), (20, 6));
        // The proxy is on this network, but the client is elsewhere. So the client's `ip` field does not count.
        let claims = client(server, "203.0.113.8:1000");
        claims.announce(&udp_announce("u", "a").at([10, 0, 0, 1]));
        assert_eq!(server.announce(&observer("u")).peers(), ["203.0.113.8:6881"]);
    }
}

#[test]
fn s6_8_an_id_is_valid_for_one_client() {
    let server = server(&[]);
    let [mut one, mut other] = ["203.0.113.5:1000", "203.0.113.6:1000"].map(|source| client(&server, source));
    assert_ne!(one.id, other.id);
    let announce = udp_announce("t", "a");
    assert_eq!(other.refused(&announce.packet(one.id)), "connection id has expired");
    assert_eq!(other.refused(&scrape_packet(one.id, &[id("t")])), "connection id has expired");
    assert_eq!(server.announce(&observer("t")).counts(), [0, 0, 0]);
    one.announce(&announce);
    // An id is valid for every port of the client, as it is without a proxy.
    let elsewhere = client(&server, "203.0.113.5:2000");
    one.id = elsewhere.id;
    one.announce(&announce);
    // The proxy's own id is valid for the proxy only.
    let own = UdpClient::with_header(LOOPBACK, server.udp_address(), LOCAL.to_vec());
    other.id = own.id;
    assert_eq!(other.refused(&announce.packet(other.id)), "connection id has expired");
}

#[test]
#[cfg(target_os = "linux")]
fn s6_8_an_id_is_valid_through_one_proxy() {
    // An attacker that can reach this listener acts as a proxy and gets an id. If the id were valid through other proxies,
    // the attacker could forge a proxy's address, and the server would send long lists to that address.
    let server = server(&[]);
    let attacker = client(&server, "203.0.113.5:1000");
    let victim = UdpClient::behind([127, 0, 0, 2].into(), server.udp_address(), "203.0.113.5:1000");
    assert_eq!(victim.refused(&udp_announce("t", "a").packet(attacker.id)), "connection id has expired");
    victim.announce(&udp_announce("t", "a"));
}

#[test]
fn s6_8_a_proxy_that_speaks_for_itself() {
    let server = server(&[]);
    let unspecified = [&LOCAL[..12], b"\x21\0\0\0"].concat();
    for (n, header) in [LOCAL.to_vec(), unspecified].into_iter().enumerate() {
        let torrent = format!("t{n}");
        let client = UdpClient::with_header(LOOPBACK, server.udp_address(), header);
        // The client's address is unknown. So the client is not listed, and gets only peers that every client can
        // reach.
        server.announce(&announce(&torrent, "neighbour").at("10.0.0.1"));
        server.announce(&announce(&torrent, "outside").at("9.9.9.9"));
        assert_eq!(client.announce(&udp_announce(&torrent, "a").at([10, 0, 0, 9])).peers, ["9.9.9.9:6881"]);
        let peers = server.announce(&observer(&torrent).at("127.0.0.1")).peers();
        assert_eq!(peers, ["9.9.9.9:6881", "10.0.0.1:6881"]);
    }
    assert_eq!(dropped(&server), 0);
}

#[test]
fn s6_8_datagrams_without_a_header_are_dropped_and_logged_once() {
    let server = server(&["-d"]);
    let client = client(&server, "203.0.113.5:1000");
    let connect = connect_packet(TRANSACTION);
    let header = version_2_of(2, "203.0.113.5:1000", b"tlv");
    let with = |at: usize, byte: u8| {
        let mut header = header.clone();
        header[at] = byte;
        [&header[..], &connect].concat()
    };
    let mut wrong = vec![
        connect.clone(),
        [&version_1("203.0.113.5:1000"), &connect[..]].concat(),
        [&version_2_of(1, "203.0.113.5:1000", b""), &connect[..]].concat(),
        [&version_2_of(1, "[2001:db8::5]:1000", b""), &connect[..]].concat(),
        // These headers are wrong in the signature, the version, the command, the family, the transport, or the length.
        with(0, b'\n'),
        with(12, 0x11),
        with(12, 0x22),
        with(13, 0x42),
        with(13, 0x13),
        with(13, 0x22),
        with(14, 0xff),
        with(15, 0xff),
        with(15, 11),
    ];
    wrong.extend((0..header.len()).map(|length| header[..length].to_vec()));
    for datagram in &wrong {
        is_dropped(&client, datagram);
    }
    assert_eq!(dropped(&server), wrong.len());
    // A bad request after a correct header is dropped too, but does not count as a datagram without a header.
    is_dropped(&client, &header);
    is_dropped(&client, &[&header[..], &header, &connect].concat());
    assert_eq!(dropped(&server), wrong.len());
    client.announce(&udp_announce("t", "a"));
    let log = server.stop().stderr;
    let logged = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!(logged("dropped a datagram from 127.0.0.1: "), wrong.len());
    assert_eq!((logged("WARN"), logged("on a listener that expects the PROXY protocol: ")), (1, 1), "{log:?}");
}

#[test]
fn s6_8_only_trusted_proxies_count_if_there_are_any() {
    let peers = |server: &Server| {
        client(server, "203.0.113.5:1000").announce(&udp_announce("t", "a"));
        server.announce(&observer("t")).peers()
    };
    for args in [&["--trusted-proxies", "127.0.0.1"][..], &["-x"], &[]] {
        assert_eq!(peers(&server(args)), ["203.0.113.5:6881"], "{args:?}");
    }
    let server = server(&["--trusted-proxies", "10.0.0.0/8"]);
    let socket = std::net::UdpSocket::bind((LOOPBACK, 0)).unwrap();
    socket.connect(server.udp_address()).unwrap();
    let header = version_2_of(2, "10.0.0.1:1000", b"");
    for sent in [[&header[..], &connect_packet(TRANSACTION)].concat(), connect_packet(TRANSACTION)] {
        socket.send(&sent).unwrap();
    }
    eventually("both datagrams are dropped", || (dropped(&server) == 2).then_some(()));
    socket.set_nonblocking(true).unwrap();
    assert_eq!(socket.recv(&mut [0; 64]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn s6_8_datagrams_of_a_proxy_that_hides_its_clients_are_listed_nowhere() {
    let server = Server::start(&["-u", "127.0.0.1:0", "--trusted-proxies", "127.0.0.1,10.0.0.0/8"]);
    let neighbour = [("X-Real-IP", "192.168.1.5")];
    server.connect().announce_with(&announce("t", "neighbour"), &neighbour);
    server.connect().announce_with(&announce("t", "outside"), &[("X-Real-IP", "9.9.9.9")]);
    let hidden = udp_announce("t", "hidden").at([192, 168, 1, 5]);
    for hidden in [hidden.clone(), UdpAnnounce { peer: id("neighbour"), event: 3, ..hidden }] {
        let peers = UdpClient::of(&server).announce(&hidden).peers;
        assert_eq!(peers, ["9.9.9.9:6881"][usize::from(hidden.event == 3)..]);
    }
    let asks = announce("t", "asks").without("port");
    let peers = server.connect().announce_with(&asks, &neighbour).peers();
    assert_eq!(peers, ["9.9.9.9:6881", "192.168.1.5:6881"]);
    server.logged("does not name the client of its datagrams");
}

#[test]
fn s6_8_no_answer_is_larger_than_the_request_behind_the_header() {
    let server = server(&[]);
    let client = client(&server, "203.0.113.5:1000");
    let mut random = Random(3);
    for _ in 0..10_000 {
        let packet = random.packet();
        let answers = client.answers(&packet);
        let bytes: usize = answers.iter().map(Vec::len).sum();
        assert!(answers.len() <= 1 && bytes <= packet.len(), "{}: {answers:?}", packet.escape_ascii());
    }
    // The server sends no error. The PROXY header does not count as part of the request, so the error would be larger
    // than the request.
    assert_eq!(client.answers(&scrape_packet([0; 8], &[])), [[0; 0]; 0]);
}

#[test]
fn s6_8_beside_a_listener_for_clients() {
    let listen = "127.0.0.1:0, proxy+udp://127.0.0.1:0";
    let server = retracker(&[]).env("UDP_LISTEN_ADDR", listen).start();
    let [plain, proxied] = server.udp_addresses() else { panic!("{:?}", server.udp_addresses()) };
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    let plain = address(plain.strip_prefix("udp://").unwrap());
    let proxied = address(proxied.strip_prefix("proxy+udp://").unwrap());
    let direct = UdpClient::to(plain);
    direct.announce(&udp_announce("t", "a").at([10, 0, 0, 1]));
    let behind = UdpClient::behind(LOOPBACK, proxied, "10.0.0.2:1000");
    assert_eq!(behind.announce(&UdpAnnounce { port: 1, ..udp_announce("t", "b") }).peers, ["10.0.0.1:6881"]);
    // An ordinary listener drops datagrams with a PROXY header. An id is valid only at the listener that issued the id.
    is_dropped(&direct, &[version_2_of(2, "10.0.0.3:1", b""), connect_packet(TRANSACTION)].concat());
    assert_eq!(behind.refused(&udp_announce("t", "c").packet(direct.id)), "connection id has expired");
}

#[test]
fn s6_8_a_port_that_is_taken_ends_the_start() {
    let server = server(&[]);
    let address = format!("proxy+udp://{}", server.udp_address());
    let exit = retracker(&["-l", "127.0.0.1:0", "-u", &address]).run();
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr[0].contains(&format!("cannot listen on {address}: ")), "{exit:?}");
}
