//! The addresses on which a server listens: several on one port, names with several addresses, and addresses that the
//! host gets later.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};

use crate::dsl::{Server, TestConnection, announce, eventually, retracker};

/// Returns whether this host has IPv6, which most of these tests need.
fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        eprintln!("skipped: this host has no IPv6");
    }
    has
}

/// Finds a port that is free for TCP and UDP over both families. Another process may take the port before the server
/// does. Then the server does not start, and the test tries another port.
fn free_port() -> u16 {
    eventually("a free port", || {
        let tcp =
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)));
        let port = tcp.unwrap().local_addr().unwrap().port();
        let udp =
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
        udp.is_ok().then_some(port)
    })
}

fn answers(address: &str) -> bool {
    TestConnection::to(address).announce(&announce("t", "a").at("10.0.0.1")).int("interval") == 30
}

/// Starts a server on a free port. The port replaces `{port}` in the arguments.
fn start(arguments: &[&str], listeners: usize) -> (Server, u16) {
    let port = free_port();
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.replace("{port}", &port.to_string())).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let server = retracker(&arguments).listeners(listeners).start();
    (server, port)
}

#[test]
fn both_families_can_share_a_port_each_on_its_own_socket() {
    if !has_ipv6() {
        return;
    }
    for arguments in [
        ["-l", "0.0.0.0:{port}", "-l", "[::]:{port}"],
        ["-l", "[::]:{port}", "-l", "0.0.0.0:{port}"],
        ["-l", ":{port}", "-l", "0.0.0.0:{port}"],
        ["-l", "127.0.0.1:{port}", "-l", ":{port}"],
        ["-l", ":{port}", "-l", "127.0.0.1:{port}"],
        ["-l", "[::1]:{port}", "-l", "[::]:{port}"],
        ["-l", "0.0.0.0:{port}", "-l", "127.0.0.1:{port}"],
    ] {
        let both = !arguments.contains(&"0.0.0.0:{port}") || !arguments.contains(&"127.0.0.1:{port}");
        let (server, port) = start(&arguments, 2);
        assert!(answers(&format!("127.0.0.1:{port}")), "{arguments:?}");
        assert!(!both || answers(&format!("[::1]:{port}")), "{arguments:?}");
        assert_eq!(server.stop().code, Some(0));
    }
}

#[test]
fn a_repeated_address_counts_once_and_is_an_error_for_two_purposes() {
    for arguments in [["-l", ":{port}", "-l", ":{port}"], ["-l", "127.0.0.1:{port}", "-l", "127.0.0.1:{port}"]] {
        let (server, port) = start(&arguments, 1);
        assert!(answers(&format!("127.0.0.1:{port}")), "{arguments:?}");
        assert_eq!(server.stop().code, Some(0));
    }
    let port = free_port();
    let (plain, proxied) = (format!("127.0.0.1:{port}"), format!("proxy+tcp://127.0.0.1:{port}"));
    let exit = retracker(&["-l", &plain, "-l", &proxied]).run();
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr.concat().contains(&proxied), "{exit:?}");
}

#[test]
fn proxies_may_have_another_address_on_the_same_port() {
    let (server, port) = start(&["-l", ":{port}", "-l", "proxy+tcp://127.0.0.1:{port}"], 2);
    let mut connection = TestConnection::to(&format!("127.0.0.1:{port}"));
    connection.send("PROXY TCP4 10.0.0.9 10.0.0.1 1000 80\r\n");
    assert_eq!(connection.announce(&announce("t", "a")).external_ip(), "10.0.0.9");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn udp_listens_as_tcp_does() {
    if !has_ipv6() {
        return;
    }
    for (first, second) in [
        ("0.0.0.0:{port}", "[::]:{port}"),
        ("[::]:{port}", "0.0.0.0:{port}"),
        (":{port}", "0.0.0.0:{port}"),
        ("127.0.0.1:{port}", ":{port}"),
    ] {
        let arguments = ["-u", first, "-u", second, "-l", first, "-l", second];
        let (server, port) = start(&arguments, 2);
        for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
            connects(SocketAddr::new(ip, port));
        }
        assert_eq!(server.stop().code, Some(0));
    }
    let (server, _) =
        start(&["-u", "proxy+udp://0.0.0.0:{port}", "-u", "proxy+udp://[::]:{port}", "-l", "127.0.0.1:0"], 1);
    assert_eq!(server.udp_addresses().len(), 2);
}

/// Checks that a connect request (BEP 15) is answered.
fn connects(address: SocketAddr) {
    let ip = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { std::net::IpAddr::from(Ipv6Addr::LOCALHOST) };
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(crate::dsl::DEADLINE)).unwrap();
    socket.connect(address).unwrap();
    socket.send(b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0\0\0\0\x07").unwrap();
    let mut reply = [0; 16];
    assert_eq!(socket.recv(&mut reply).unwrap(), 16, "{address}");
    assert_eq!(reply[..8], *b"\0\0\0\0\0\0\0\x07");
}

/// Returns the addresses of `localhost`.
fn localhost() -> Vec<std::net::IpAddr> {
    let mut found: Vec<_> = ("localhost", 0).to_socket_addrs().unwrap().map(|address| address.ip()).collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().filter(|ip| TcpListener::bind((*ip, 0)).is_ok()).collect()
}

#[test]
fn a_name_means_all_of_its_addresses_at_one_port() {
    let addresses = localhost();
    let server = retracker(&["-l", "localhost:0", "-u", "localhost:0"]).listeners(addresses.len() * 2 - 1).start();
    let ports = |bound: &[String]| -> Vec<u16> {
        bound.iter().map(|address| address.rsplit_once(':').unwrap().1.parse().unwrap()).collect()
    };
    assert_eq!(ports(server.addresses()), vec![ports(server.addresses())[0]; addresses.len()]);
    assert_eq!(ports(server.udp_addresses()), vec![ports(server.udp_addresses())[0]; addresses.len()]);
    for address in server.addresses() {
        assert!(answers(address), "{address}");
    }
    for ip in addresses {
        connects((ip, ports(server.udp_addresses())[0]).into());
    }
}

#[test]
fn a_name_is_healthy_when_all_of_its_addresses_answer() {
    let addresses = localhost();
    let by_name = |port: u16| retracker(&["healthcheck", "-l", &format!("localhost:{port}")]).run();
    let (_server, port) = start(&["-l", "localhost:{port}"], addresses.len());
    let exit = by_name(port);
    assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
    if addresses.len() < 2 {
        return eprintln!("skipped: localhost has only one address on this host");
    }
    for ip in addresses {
        let (_half, port) = match ip {
            std::net::IpAddr::V4(_) => start(&["-l", "127.0.0.1:{port}"], 1),
            std::net::IpAddr::V6(_) => start(&["-l", "[::1]:{port}"], 1),
        };
        let exit = by_name(port);
        assert_eq!(exit.code, Some(1), "{exit:?}");
        assert!(exit.stderr.concat().contains(" at "), "{exit:?}");
    }
}

#[test]
fn the_health_check_of_a_silent_listener_times_out() {
    // The kernel accepts connections for this listener, and no program answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let exit = retracker(&["healthcheck", "-l", &address]).run();
    assert_eq!(exit.code, Some(1), "{exit:?}");
}

#[test]
fn an_unknown_name_ends_the_start_after_a_while() {
    let exit = retracker(&["-l", "no-such-name.invalid:0"]).run();
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr.iter().all(|line| line.contains("no-such-name.invalid")), "{exit:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_can_listen_on_an_address_that_the_host_gets_later() {
    // No host has these addresses, which are for documentation (RFC 5737, RFC 3849).
    for address in ["192.0.2.77:0", "[2001:db8::77]:0"] {
        if address.starts_with('[') && !has_ipv6() {
            continue;
        }
        let server = retracker(&["-l", "127.0.0.1:0", "-l", address, "-u", address]).start();
        let ip = address.trim_end_matches(":0");
        assert!(server.addresses()[1].starts_with(ip), "{:?}", server.addresses());
        assert!(server.logged("this host does not have the address").contains("WARN"));
        assert!(answers(&server.addresses()[0]));
        assert_eq!(server.stop().code, Some(0));
    }
}
