//! What counts as one client, which hosts may change or remove a client, and which peers are evicted.

use crate::dsl::{AnnounceQuery, Reply, Server, TestConnection, announce, observer};

/// Sends an announce that comes from the address `host`.
fn from(connection: &mut TestConnection, host: &str, announce: &AnnounceQuery) -> Reply {
    connection.announce_with(announce, &[("X-Real-IP", host)])
}

/// Returns the peers that a new client gets. The client then leaves again.
fn seen(connection: &mut TestConnection) -> Vec<String> {
    let reply = from(connection, "192.168.1.200", &observer("t"));
    let mut peers = reply.peers();
    from(connection, "192.168.1.200", &observer("t").event("stopped"));
    peers.sort();
    peers
}

#[test]
fn one_client_with_several_addresses_counts_once() {
    let server = Server::start(&["-x"]);
    let mut connection = server.connect();
    for host in ["192.168.1.5", "192.168.1.6", "fd00::5", "fd00::6"] {
        let reply = from(&mut connection, host, &announce("t", "a").seed());
        assert_eq!(reply.counts(), [1, 0, 0], "{host}");
    }
    from(&mut connection, "192.168.1.7", &announce("t", "b").seed());
    // A reply lists the first address of every client before it lists a second address of any client.
    for host in ["192.168.1.9", "fd00::9"] {
        let mut peers = from(&mut connection, host, &announce("t", "c").port(1).numwant(2)).peers();
        peers.sort();
        assert_eq!(peers, ["192.168.1.5:6881", "192.168.1.7:6881"]);
    }
    let all = from(&mut connection, "192.168.1.9", &announce("t", "c").port(1)).peers();
    assert_eq!(all.len(), 5, "{all:?}");
    let left = from(&mut connection, "192.168.1.5", &announce("t", "a").event("stopped"));
    assert_eq!(left.counts(), [2, 1, 0], "the client still counts, with its other addresses");
}

#[test]
fn one_download_counts_once() {
    let server = Server::start(&["-x"]);
    let mut connection = server.connect();
    for event in ["completed", "completed", "started", "completed", "stopped", "started", "completed"] {
        for host in ["192.168.1.5", "fd00::5"] {
            assert_eq!(from(&mut connection, host, &announce("t", "a").event(event)).counts()[2], 1, "{event}");
            assert_eq!(from(&mut connection, host, &announce("t", "a").event(event).seed()).counts()[2], 1, "{event}");
        }
    }
}

#[test]
fn no_other_host_changes_or_ends_a_peer() {
    let server = Server::start(&["-x"]);
    let mut connection = server.connect();
    from(&mut connection, "192.168.1.5", &announce("t", "a"));
    let attacks = [
        announce("t", "a").event("stopped"),
        announce("t", "a").event("stopped").without("port"),
        announce("t", "a").event("stopped").at("192.168.1.5"),
        announce("t", "a").event("stopped").without("port").at("192.168.1.5"),
        announce("t", "evil").at("192.168.1.5").seed(),
        announce("t", "evil").at("192.168.1.5").event("stopped"),
        announce("t", "a").at("192.168.1.5").seed(),
    ];
    for attack in &attacks {
        let counts = from(&mut connection, "192.168.1.66", attack).counts();
        assert_eq!(counts, [0, 1, 0], "{}", attack.query());
        assert_eq!(seen(&mut connection), ["192.168.1.5:6881"], "{}", attack.query());
    }
    assert_eq!(from(&mut connection, "192.168.1.5", &announce("t", "a").event("stopped")).counts(), [0, 0, 0]);
}

#[test]
fn a_stop_ends_all_ports_that_the_client_had() {
    let server = Server::start(&["-x"]);
    let mut connection = server.connect();
    for port in [6881, 6882, 6883] {
        assert_eq!(from(&mut connection, "192.168.1.5", &announce("t", "a").port(port)).counts(), [0, 1, 0]);
    }
    assert_eq!(seen(&mut connection).len(), 3);
    from(&mut connection, "192.168.1.5", &announce("t", "a").port(6883).event("stopped"));
    assert_eq!(seen(&mut connection), [""; 0]);
}

#[test]
fn a_flood_from_one_host_takes_no_torrent_from_another() {
    for hosts in [1, 100] {
        let server = Server::start(&["-x", "--max-peers", "300"]);
        let mut connection = server.connect();
        let host = |n: u32| format!("10.0.0.{}", 1 + n % hosts);
        for n in 0..100 {
            from(&mut connection, &host(n), &announce(&format!("torrent {n}"), "a"));
        }
        for n in 0..1_000 {
            for port in [1, 2] {
                let flood = announce(&format!("flood {n}"), &format!("b{n}")).port(port).numwant(0);
                from(&mut connection, "10.200.200.200", &flood);
            }
        }
        for n in 0..100 {
            let counts =
                from(&mut connection, "10.9.9.9", &observer(&format!("torrent {n}")).event("stopped")).counts();
            assert_eq!(counts, [0, 1, 0], "torrent {n} of {hosts} hosts");
        }
    }
}
