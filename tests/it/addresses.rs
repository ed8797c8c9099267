//! 4. The client's address.

use crate::dsl::{Reply, Server, TestConnection, announce, escape, id, observer, retracker};
use crate::fake_tracker::{FakeTracker, sends};
use crate::proxied::version_1;
use crate::service::{ONE_PEER, forwarders};

/// Announces a client with this `X-Real-IP`. Returns the address that the tracker uses for the client.
fn known_as(connection: &mut TestConnection, real_ip: &str) -> String {
    connection.announce_with(&announce("t", "a"), &[("X-Real-IP", real_ip)]).external_ip()
}

#[test]
#[cfg(target_os = "linux")]
fn s4_1_the_address_is_the_socket_s() {
    let server = Server::start(&[]);
    let connect_from = |source: [u8; 4]| TestConnection::from(source.into(), &server.addresses()[0]);
    let reply = connect_from([127, 0, 0, 2]).announce(&announce("t", "a"));
    assert_eq!(reply.external_ip(), "127.0.0.2");
    let reply = connect_from([127, 0, 0, 3]).announce(&announce("t", "b"));
    assert_eq!((reply.external_ip().as_str(), reply.peers()), ("127.0.0.3", vec!["127.0.0.2:6881".to_owned()]));
}

#[test]
fn s4_1_the_address_of_an_ipv6_socket() {
    let Some(server) = Server::start_on_ipv6(&[]) else { return };
    let reply = server.announce(&announce("t", "a"));
    assert_eq!(reply.external_ip(), "::1");
    let reply = server.announce(&announce("t", "b").port(1));
    assert_eq!(reply.peers(), ["[::1]:6881"]);
}

#[test]
fn s4_1_ipv4_on_a_socket_for_both_families_is_ipv4() {
    let server = Server::start(&["-l", ":0"]);
    let (_, port) = server.addresses()[0].rsplit_once(':').unwrap();
    let mut connection = TestConnection::to(&format!("127.0.0.1:{port}"));
    assert_eq!(connection.announce(&announce("t", "a")).external_ip(), "127.0.0.1");
    assert_eq!(connection.announce(&announce("t", "b").port(1)).peers(), ["127.0.0.1:6881"]);
}

#[test]
fn s4_2_x_real_ip_with_x() {
    let server = Server::start(&["-x"]);
    let mut connection = server.connect();
    for (header, known) in [
        ("203.0.113.5", "203.0.113.5"),
        (" 192.168.1.15 ", "192.168.1.15"),
        ("2001:db8::5", "2001:db8::5"),
        ("2001:DB8:0:0::5", "2001:db8::5"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
    ] {
        assert_eq!(known_as(&mut connection, header), known, "{header}");
    }
    let lower_case = connection.announce_with(&announce("t", "a"), &[("x-real-ip", "10.0.0.9")]);
    assert_eq!(lower_case.external_ip(), "10.0.0.9");
    // One peer id is one client, even with several addresses.
    assert_eq!(server.announce(&observer("t").numwant(1)).counts(), [0, 1, 0]);
}

#[test]
fn s4_2_x_real_ip_without_x_is_ignored() {
    let server = Server::start(&[]);
    assert_eq!(known_as(&mut server.connect(), "203.0.113.5"), "127.0.0.1");
}

#[test]
fn s4_2_other_headers_of_proxies_are_ignored() {
    for args in [&[][..], &["-x"]] {
        let server = Server::start(args);
        let headers =
            [("X-Forwarded-For", "203.0.113.5"), ("Forwarded", "for=203.0.113.5"), ("CF-Connecting-IP", "10.1.1.1")];
        let reply = server.connect().announce_with(&announce("t", "a"), &headers);
        assert_eq!(reply.external_ip(), "127.0.0.1", "{args:?}");
    }
}

#[test]
fn s4_2_a_missing_or_unparsable_header_falls_back_to_the_socket_and_is_logged_once() {
    for header in [&[][..], &[("X-Real-IP", "unknown")], &[("X-Real-IP", "")], &[("X-Real-IP", "10.0.0.1, 10.0.0.2")]] {
        let server = Server::start(&["-x", "-p"]);
        let mut connection = server.connect();
        for _ in 0..3 {
            let reply = connection.announce_with(&announce("t", "a"), header);
            assert_eq!(reply.external_ip(), "127.0.0.1", "{header:?}");
        }
        let metrics = String::from_utf8(connection.get("/metrics").body).unwrap();
        assert!(metrics.lines().any(|line| line == "retracker_real_ip_missing_total 3"), "{header:?}: {metrics}");
        let log = server.stop().stderr;
        assert_eq!(log.iter().filter(|line| line.contains("X-Real-IP")).count(), 1, "{header:?}: {log:?}");
    }
}

/// Announces a client with these headers. Returns its address as [`known`] does.
fn known_with(server: &Server, headers: &[(&str, &str)]) -> String {
    known(&server.connect().announce_with(&announce("t", "a"), headers))
}

/// Returns the `external ip` of a reply, or `?` if the reply has a warning instead.
pub(crate) fn known(reply: &Reply) -> String {
    if reply.tree().get("external ip").is_some() {
        return reply.external_ip();
    }
    let warning = reply.string("warning message").unwrap();
    assert!(warning.contains("not listed") && warning.contains("REAL_IP_HEADER"), "{warning}");
    "?".to_owned()
}

#[test]
fn s4_2_the_headers_of_trusted_proxies() {
    let by_flag = || retracker(&["--trusted-proxies", "10.0.0.0/8, 127.0.0.1"]);
    for (setup, by_network) in [
        (by_flag(), false),
        (by_flag().env("TRUSTED_PROXIES", "10.0.0.1"), false),
        (retracker(&[]).env("TRUSTED_PROXIES", "127.0.0.0/8"), true),
        (retracker(&[]).env("TRUSTED_PROXIES", "::ffff:127.0.0.0/104"), true),
    ] {
        let server = setup.start();
        for (header, known) in [
            (("X-Real-IP", "203.0.113.5"), "203.0.113.5"),
            (("X-Forwarded-For", "203.0.113.5"), "203.0.113.5"),
            (("X-Forwarded-For", "6.6.6.6, 203.0.113.5, 127.0.0.1"), "203.0.113.5"),
            (("X-Forwarded-For", "6.6.6.6, [2001:db8::5]:4711"), "2001:db8::5"),
            (("Forwarded", "for=6.6.6.6, for=203.0.113.5;proto=http;by=127.0.0.1"), "203.0.113.5"),
            (("Forwarded", "for=\"[2001:db8::5]:4711\""), "2001:db8::5"),
            (("Forwarded", "for=unknown"), "?"),
            (("Forwarded", "for=6.6.6.6, for=_hidden"), "?"),
            (("Forwarded", "proto=https"), "?"),
            (("X-Real-IP", ""), "?"),
            (("X-Real-IP", "-"), "?"),
            (("X-Real-IP", "example.com"), "?"),
            (("X-Real-IP", "127.0.0.1"), if by_network { "127.0.0.1" } else { "?" }),
            (("X-Real-IP", "\"[2001:db8::5]:4711\""), "2001:db8::5"),
        ] {
            assert_eq!(known_with(&server, &[header]), known, "{header:?}");
        }
        assert_eq!(known_with(&server, &[]), "?");
    }
}

#[test]
fn s4_2_the_header_of_a_name() {
    let proxies = ["--trusted-proxies", "127.0.0.1"];
    for (name, value, known) in [
        ("X-Real-IP", "203.0.113.5", "203.0.113.5"),
        ("x-forwarded-for", "6.6.6.6, 203.0.113.5", "203.0.113.5"),
        ("Forwarded", "for=6.6.6.6, for=203.0.113.5", "203.0.113.5"),
        ("CF-Connecting-IP", "203.0.113.5", "203.0.113.5"),
        ("CF-Connecting-IP", "6.6.6.6, 203.0.113.5", "?"),
    ] {
        let [by_flag, by_variable] = [
            retracker(&[&proxies[..], &["--real-ip-header", name]].concat()),
            retracker(&proxies).env("REAL_IP_HEADER", name),
        ];
        for setup in [by_flag, by_variable] {
            let server = setup.start();
            assert_eq!(known_with(&server, &[(name, value)]), known, "{name}: {value}");
            // Other headers in the request are ignored.
            let lies = ["X-Real-IP", "X-Forwarded-For", "True-Client-IP"]
                .into_iter()
                .filter(|lie| !lie.eq_ignore_ascii_case(name));
            let headers: Vec<_> = lies.map(|lie| (lie, "7.7.7.7")).chain([(name, value)]).collect();
            assert_eq!(known_with(&server, &headers), known, "{headers:?}");
        }
    }
}

#[test]
fn s4_2_spoofed_headers_do_not_win() {
    let lies = [("X-Real-IP", "6.6.6.6"), ("X-Forwarded-For", "6.6.6.6"), ("Forwarded", "for=6.6.6.6")];
    // The sender is not a trusted proxy.
    for args in [&[][..], &["--trusted-proxies", "10.0.0.0/8,fd00::1"], &["-x", "--trusted-proxies", "127.0.0.2"]] {
        let server = Server::start(args);
        for lie in lies {
            assert_eq!(known_with(&server, &[lie]), "127.0.0.1", "{args:?} {lie:?}");
        }
        assert_eq!(known_with(&server, &lies), "127.0.0.1", "{args:?}");
        assert_eq!(server.stop().stderr.iter().filter(|line| line.contains("WARN")).count(), 0);
    }
    // A trusted proxy passes a spoofed header on. Neither that header nor `ip=` counts.
    let server = Server::start(&["--trusted-proxies", "127.0.0.1"]);
    for honest in [("X-Real-IP", "203.0.113.5"), ("X-Forwarded-For", "8.8.8.8, 203.0.113.5")] {
        for lie in lies.into_iter().filter(|(name, _)| *name != honest.0) {
            let claim = announce("t", "a").at("192.0.2.1");
            let reply = server.connect().announce_with(&claim, &[honest, lie]);
            assert_eq!(known(&reply), "?", "{honest:?} {lie:?}");
        }
    }
    assert_eq!(server.announce(&observer("t")).peers(), [""; 0]);
    let line = server.logged("does not name the client of a request");
    assert!(line.contains("6.6.6.6") && line.contains("REAL_IP_HEADER"), "{line}");
}

#[test]
fn s4_2_x_with_trusted_proxies_is_their_x_real_ip_only() {
    let server = Server::start(&["-x", "--trusted-proxies", "127.0.0.1"]);
    let headers = [("X-Real-IP", "203.0.113.5"), ("X-Forwarded-For", "6.6.6.6")];
    assert_eq!(known_with(&server, &headers), "203.0.113.5");
    assert_eq!(known_with(&server, &headers[1..]), "?");
}

#[test]
fn s4_2_clients_of_unclear_address_are_not_listed() {
    let named = ["--trusted-proxies", "127.0.0.1", "--real-ip-header", "X-Real-IP"];
    let (honest, lie) = (("X-Real-IP", "8.8.8.8"), ("X-Forwarded-For", "192.168.1.9"));
    for (args, headers, remedy) in [
        (&named[..2], &[honest, lie][..], "REAL_IP_HEADER"),
        (&named[..2], &[("X-Forwarded-For", "6.6.6.6, 8.8.8.8"), ("Forwarded", "for=192.168.1.9")], "REAL_IP_HEADER"),
        (&named, &[honest, ("X-Real-IP", "192.168.1.9")], "REAL_IP_HEADER"),
        (&named, &[lie], "REAL_IP_HEADER"),
        (&named, &[("X-Real-IP", "bogus")], "REAL_IP_HEADER"),
        (&named, &[], "REAL_IP_HEADER"),
        // The proxy that adds these headers is not configured as trusted.
        (&[], &[lie], "TRUSTED_PROXIES"),
        (&[], &[honest], "TRUSTED_PROXIES"),
        (&[], &[("Forwarded", "for=unknown"), ("Via", "1.1 squid")], "TRUSTED_PROXIES"),
    ] {
        let upstream = FakeTracker::start(sends(ONE_PEER));
        let file = forwarders(&upstream);
        let listen = "127.0.0.1:0,proxy+tcp://127.0.0.1:0";
        let args = [&["-p", "-f", file.path().to_str().unwrap()], args].concat();
        let server = retracker(&args).env("LISTEN_ADDR", listen).start();
        // A local client and one on the internet announce through the other listener.
        let mut others = TestConnection::to(server.addresses()[1].strip_prefix("proxy+tcp://").unwrap());
        others.send(version_1("127.0.0.2:1"));
        for ip in ["192.168.1.5", "9.9.9.9"] {
            others.announce(&announce("t", ip).at(ip));
        }
        let context = format!("{args:?} {headers:?}");
        let victim = announce("t", "192.168.1.5").at("192.168.1.5");
        for request in [announce("t", "unclear").port(1), victim.clone().event("stopped"), victim.seed()] {
            for _ in 0..2 {
                let reply = server.connect().announce_with(&request, headers);
                let is_stopped = request.query().contains("stopped");
                assert_eq!(reply.peers(), ["9.9.9.9:6881"][usize::from(is_stopped)..], "{context}");
                assert!(reply.string("warning message").is_some_and(|warning| warning.contains(remedy)), "{context}");
            }
        }
        let scrape = others.get(format!("/scrape?info_hash={}", escape(&id("t")))).text();
        assert!(scrape.contains("8:completei0e") && scrape.contains("10:incompletei2e"), "{context}: {scrape}");
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        assert!(metrics.contains("retracker_announces_unlisted_total{reason=\"unclear\"} 6\n"), "{metrics}");
        assert!(metrics.contains("retracker_real_ip_missing_total 6\n"), "{metrics}");
        let log = server.stop().stderr;
        assert_eq!(log.iter().filter(|line| line.contains(remedy)).count(), 1, "{log:?}");
        let requests = upstream.requests();
        assert!(
            !requests.iter().any(|request| request.contains("unclear") || request.contains("stopped")),
            "{context}: {requests:?}"
        );
    }
}

#[test]
fn s4_2_an_empty_header_contradicts_no_other() {
    let server = Server::start(&["--trusted-proxies", "127.0.0.1"]);
    for nothing in [
        ("X-Forwarded-For", ""),
        ("X-Forwarded-For", "unknown"),
        ("X-Forwarded-For", "-"),
        ("X-Forwarded-For", ", ,"),
        ("X-Forwarded-For", "\"203.0.113.5:80\","),
        ("Forwarded", "proto=https"),
        ("Forwarded", "for=_hidden"),
        ("Forwarded", ""),
        ("X-Real-IP", "203.0.113.5 "),
    ] {
        assert_eq!(known_with(&server, &[("X-Real-IP", "203.0.113.5"), nothing]), "203.0.113.5", "{nothing:?}");
    }
}

#[test]
fn s4_2_the_proxy_behind_a_unix_socket_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", folder.path().join("retracker.sock").display());
    for (args, headers, known) in [
        (&[][..], &[("X-Forwarded-For", "6.6.6.6, 203.0.113.5")][..], "203.0.113.5"),
        (&[], &[("X-Real-IP", "203.0.113.5")], "203.0.113.5"),
        (&["-x"], &[("X-Real-IP", "203.0.113.5"), ("X-Forwarded-For", "6.6.6.6")], "203.0.113.5"),
        (
            &["--real-ip-header", "Forwarded"],
            &[("X-Real-IP", "6.6.6.6"), ("Forwarded", "for=203.0.113.5")],
            "203.0.113.5",
        ),
        (&["--trusted-proxies", "10.0.0.1"], &[("X-Forwarded-For", "203.0.113.5, 10.0.0.1")], "203.0.113.5"),
        // Without the header that names the client, the client's address is unknown.
        (&[], &[], "?"),
        (&["-x"], &[("X-Forwarded-For", "203.0.113.5")], "?"),
    ] {
        let server = Server::start(&[&["-l", &unix], args].concat());
        assert_eq!(retracker(&["healthcheck", "-l", &unix]).run().code, Some(0));
        assert_eq!(known_with(&server, headers), known, "{args:?} {headers:?}");
        server.stop();
    }
}

#[test]
fn s4_3_an_ip_parameter_counts_from_this_network() {
    let server = Server::start(&["-x"]);
    let mut connection = server.connect();
    let claim = announce("t", "a").at("192.168.1.15");
    for (source, known) in [
        ("127.0.0.1", "192.168.1.15"),
        ("10.0.0.1", "192.168.1.15"),
        ("172.31.255.255", "192.168.1.15"),
        ("192.168.255.255", "192.168.1.15"),
        ("::1", "192.168.1.15"),
        ("fd00::1", "192.168.1.15"),
        ("::ffff:10.0.0.1", "192.168.1.15"),
        ("203.0.113.5", "203.0.113.5"),
        ("172.32.0.1", "172.32.0.1"),
        ("100.64.0.1", "100.64.0.1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        let reply = connection.announce_with(&claim, &[("X-Real-IP", source)]);
        assert_eq!(reply.external_ip(), known, "from {source}");
    }
}

#[test]
fn s4_3_a_setting_decides_whose_ip_parameter_counts() {
    let stranger = [("X-Real-IP", "203.0.113.5")];
    let neighbour = [("X-Real-IP", "10.0.0.1")];
    let claim = announce("t", "a").at("192.168.1.15");
    for (ip_param, of_a_neighbour, of_a_stranger) in [
        ("never", "10.0.0.1", "203.0.113.5"),
        ("private", "192.168.1.15", "203.0.113.5"),
        ("always", "192.168.1.15", "192.168.1.15"),
        ("Always", "192.168.1.15", "192.168.1.15"),
    ] {
        let [by_flag, by_variable] =
            [retracker(&["-x", "--ip-param", ip_param]), retracker(&["-x"]).env("IP_PARAM", ip_param)];
        for server in [by_flag.env("IP_PARAM", "private").start(), by_variable.start()] {
            let mut connection = server.connect();
            assert_eq!(connection.announce_with(&claim, &neighbour).external_ip(), of_a_neighbour, "{ip_param}");
            assert_eq!(connection.announce_with(&claim, &stranger).external_ip(), of_a_stranger, "{ip_param}");
        }
    }
}

#[test]
fn s4_3_announces_of_web_pages_do_not_count() {
    let server = Server::start(&["-p"]);
    let mut connection = server.connect();
    connection.announce(&announce("t", "a").at("10.0.0.1"));
    connection.announce(&announce("t", "b"));
    for (page, is_one) in [
        (("Origin", "https://evil.example"), true),
        (("Origin", "null"), true),
        (("Referer", "http://evil.example/"), true),
        (("Sec-Fetch-Site", "cross-site"), true),
        (("Sec-Fetch-Mode", "no-cors"), true),
        (("Sec-Fetch-Site", "none"), false),
        // WebTorrent on Node.js sends this header, so a request with it does not count as a web page's.
        (("Sec-Fetch-Mode", "cors"), false),
    ] {
        let claims = announce("t", "page").at("10.0.0.250").port(22);
        let reply = connection.announce_with(&claims, &[page]);
        let known = if is_one { "127.0.0.1" } else { "10.0.0.250" };
        assert_eq!((reply.external_ip().as_str(), reply.peers().is_empty()), (known, is_one), "{page:?}");
        // A web page cannot remove a client that runs on the same host as the browser.
        connection.announce_with(&announce("t", "b").event("stopped"), &[("Origin", "null")]);
        let peers = connection.announce(&observer("t").without("ip")).peers();
        assert_eq!(peers.len(), if is_one { 2 } else { 3 }, "{page:?}: {peers:?}");
    }
    let metrics = String::from_utf8(connection.get("/metrics").body).unwrap();
    assert!(metrics.contains("retracker_announces_unlisted_total{reason=\"page\"} 12\n"), "{metrics}");
    // `Accept-Language` shows a browser, but not a web page: the user may have typed the URL. Only `ip=` is ignored.
    let reply = connection.announce_with(&announce("t", "c").at("10.0.0.251"), &[("Accept-Language", "en")]);
    assert_eq!(reply.external_ip(), "127.0.0.1");
}

#[test]
fn s4_3_a_client_on_the_internet_cannot_register_another_address() {
    let server = Server::start(&["-x"]);
    let mut connection = server.connect();
    let victim = [("ip", "192.0.2.1"), ("ipv4", "192.0.2.1"), ("ipv6", "2001:db8:dead::1")];
    let query = victim.into_iter().fold(announce("t", "a"), |announce, (name, ip)| announce.with(name, ip));
    for stranger in ["203.0.113.5", "2001:db8::5"] {
        connection.announce_with(&query, &[("X-Real-IP", stranger)]);
    }
    assert_eq!(connection.announce(&observer("t")).peers(), ["203.0.113.5:6881", "[2001:db8::5]:6881"]);
}

#[test]
fn s4_4_many_clients_behind_one_private_address_cause_a_warning() {
    for address in ["172.17.0.1", "127.0.0.1", "fd00::1"] {
        let server = Server::start(&["-p", "-x"]);
        let mut connection = server.connect();
        let mut from = |address, n: u16| {
            let announce = announce("t", &format!("{n}")).port(n);
            connection.announce_with(&announce, &[("X-Real-IP", address)]).string("warning message")
        };
        // Some users run two clients, and a crashed client comes back with a new id. So four ids at one address cause
        // no warning.
        for _ in 0..3 {
            assert!((1..=4).all(|n| from(address, n).is_none()), "{address}");
        }
        assert_eq!(from(address, 5), None, "{address}");
        let warnings: Vec<_> = (0..2).flat_map(|_| 1..=5).map(|n| from(address, n)).collect();
        let warning = warnings.last().unwrap().clone().unwrap_or_else(|| panic!("no warning for {address}"));
        assert!(warning.contains(address), "{warning}");
        assert_eq!(from(address, 1), Some(warning), "all clients at the address get the warning");
        assert_eq!(from("10.0.0.6", 6), None);
        let metrics = String::from_utf8(connection.get("/metrics").body).unwrap();
        assert!(metrics.lines().any(|line| line == "retracker_gateway_addresses 1"), "{metrics}");
        let log = server.stop().stderr;
        let lines: Vec<_> =
            log.iter().filter(|line| line.contains(&format!("reach this tracker as {address}"))).collect();
        assert!(matches!(&lines[..], [line] if line.contains("WARN")), "{log:?}");
    }
}

#[test]
fn s4_4_the_log_and_the_front_page_name_the_problem_and_the_remedy() {
    for (address, remedy) in [
        ("172.17.0.1", "network_mode: host"),
        ("172.20.0.1", "network_mode: host"),
        ("192.168.65.1", "Docker Desktop"),
        ("127.0.0.1", "docs/reverse-proxy.md"),
        ("192.168.1.1", "docs/reverse-proxy.md"),
    ] {
        let server = Server::start(&["-x"]);
        let mut connection = server.connect();
        let page = |connection: &mut TestConnection| String::from_utf8(connection.get("/").body).unwrap();
        assert!(!page(&mut connection).contains("Many clients"), "{address}");
        for n in (0..3).flat_map(|_| 1..=5) {
            connection.announce_with(&announce("t", &n.to_string()).port(n), &[("X-Real-IP", address)]);
        }
        let page = page(&mut connection);
        assert!(page.contains(&format!("as {address}")) && page.contains(remedy), "{page}");
        // If the page advised to trust this address, a user with five clients could become a trusted proxy.
        assert!(!page.contains(&format!("={address}")), "{page}");
        let line = server.logged(&format!("reach this tracker as {address}"));
        assert!(line.contains(remedy) && !line.contains(&format!("={address}")), "{line}");
    }
}

#[test]
fn s4_4_no_warning_for_public_addresses_many_torrents_old_ids_or_ip_parameters() {
    let server = Server::start(&["-x"]);
    let mut connection = server.connect();
    for n in 1..=30_u16 {
        let client = (n % 10).to_string();
        let public = (announce("public", &client).port(n), "8.8.8.8");
        let seeder = (announce(&format!("t{n}"), &client), "192.168.1.15");
        // This client restarts again and again, each time with another id and another port.
        let restarted = (announce("restarted", &n.to_string()).port(n), "192.168.1.16");
        let claims =
            (announce("claimed", &client).port(n).at("192.168.1.17"), ["10.0.0.1", "10.0.0.2"][usize::from(n % 2)]);
        for (announce, from) in [public, seeder, restarted, claims] {
            let reply = connection.announce_with(&announce, &[("X-Real-IP", from)]);
            assert_eq!(reply.string("warning message"), None, "{announce:?}");
        }
    }
}
