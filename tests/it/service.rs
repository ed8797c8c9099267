//! The service around the tracker: the pages, the log, and the stop.

use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::time::Instant;

use tempfile::NamedTempFile;

use crate::dsl::{Exit, Reply, Server, announce, escape, eventually, request, retracker};
use crate::fake_tracker::{FakeTracker, script, sends_when_told};

/// An upstream tracker's answer with the peer 10.0.0.7:6881.
pub(crate) const ONE_PEER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\nd8:intervali60e5:peers6:\x0a\x00\x00\x07\x1a\xe1e";

/// Writes a file of forwarders with one entry.
pub(crate) fn forwarders(upstream: &FakeTracker) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "- uri: http://{}/announce", upstream.address()).unwrap();
    file
}

/// Starts a server that waits up to a minute for this upstream tracker.
pub(crate) fn patient(upstream: &FakeTracker) -> Server {
    // The server reads the file before it listens, so the file may be deleted after `start`.
    retracker(&["-t", "60"]).env("FORWARDS_FILE", forwarders(upstream).path()).start()
}

fn content_type(reply: &Reply) -> &str {
    reply.header("content-type").unwrap_or_default()
}

// --- Pages ----------------------------------------------------------------------------------------------------

#[test]
fn health() {
    let server = Server::start(&[]);
    let reply = server.get("/health");
    assert_eq!(reply.status, 200);
    assert!(content_type(&reply).starts_with("text/plain") && !reply.body.is_empty(), "{reply:?}");
}

#[test]
fn the_front_page_shows_the_udp_url_if_there_is_one() {
    let server = retracker(&[]).env("UDP_LISTEN_ADDR", "127.0.0.1:0").start();
    let port = server.udp_address().port();
    let mut connection = server.connect();
    let mut page = |host: &str| {
        connection.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        String::from_utf8(connection.reply().body).unwrap()
    };
    for (host, name) in [
        ("retracker.local", "retracker.local"),
        ("192.168.1.1:8080", "192.168.1.1"),
        ("[fd00::1]:80", "[fd00::1]"),
        ("[fd00::1]", "[fd00::1]"),
    ] {
        assert!(page(host).contains(&format!("udp://{name}:{port}/announce")), "{host}: {}", page(host));
    }
    assert!(!String::from_utf8(Server::start(&[]).get("/").body).unwrap().contains("udp://"));
}

#[test]
fn the_front_page_shows_the_announce_url_with_its_own_host() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let mut page = |host: &str| {
        connection.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let reply = connection.reply();
        assert_eq!(reply.status, 200, "{host}");
        assert!(content_type(&reply).starts_with("text/html"), "{host}");
        String::from_utf8(reply.body).unwrap()
    };
    for host in ["retracker.local", "retracker.local:8080", "192.168.1.1", "[fd00::1]:8080", "tracker_1.example"] {
        assert!(page(host).contains(&format!("http://{host}/announce")), "{host}");
    }
    for host in ["\"><script>alert(1)</script>", "a/b", "a'b", "&amp;", "a b", ""] {
        let page = page(host);
        assert!(page.contains("/announce") && !page.contains("alert"), "{host}");
        assert!(host.is_empty() || !page.contains(&format!("//{host}")), "{host}");
    }
    let mut connection = server.connect();
    connection.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(connection.reply().status, 200);
}

#[test]
fn favicon() {
    let reply = Server::start(&[]).get("/favicon.ico");
    assert_eq!(reply.status, 200);
    assert!(content_type(&reply).starts_with("image/"), "{}", content_type(&reply));
    assert!(reply.body.starts_with(&[0, 0, 1, 0]), "no icon");
}

#[test]
fn head_is_answered_like_get_on_every_page() {
    // `wget --spider` and uptime monitors use HEAD.
    let server = Server::start(&["-p"]);
    let mut connection = server.connect();
    for target in ["/", "/health", "/favicon.ico", "/metrics", "/nowhere"] {
        let get = connection.get(target);
        let head = connection.head(target);
        assert_eq!((head.status, content_type(&head)), (get.status, content_type(&get)), "{target}");
    }
}

#[test]
fn metrics_have_the_requested_format() {
    let server = Server::start(&["-p"]);
    let mut connection = server.connect();
    let announces = 3;
    for _ in 0..announces {
        connection.announce(&announce("t", "a"));
    }
    let classic = ("text/plain", "version=0.0.4");
    let open_metrics = ("application/openmetrics-text", "version=1.0.0");
    for (accept, (kind, version)) in [
        (None, classic),
        (Some("*/*"), classic),
        (Some("text/plain"), classic),
        (Some("text/plain;version=0.0.4"), classic),
        (Some("application/openmetrics-text"), open_metrics),
        (Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"), open_metrics),
        (Some("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.9"), classic),
        (Some("APPLICATION/OpenMetrics-Text; version=1.0.0"), open_metrics),
        (Some("application/openmetrics-text;q=0, text/plain"), classic),
        (Some("text/html"), classic),
    ] {
        let headers: Vec<_> = accept.iter().map(|accept| ("Accept", *accept)).collect();
        let reply = connection.get_with("/metrics", &headers);
        let mut parameters = content_type(&reply).split(';').map(str::trim);
        assert_eq!((reply.status, parameters.next()), (200, Some(kind)), "{accept:?}");
        assert!(parameters.any(|parameter| parameter == version), "{accept:?}: {}", content_type(&reply));
        let text = String::from_utf8(reply.body).unwrap();
        assert!(text.lines().any(|line| line == format!("requests {announces}")), "{accept:?}: {text}");
        assert_eq!(text.ends_with("# EOF\n"), kind == open_metrics.0, "{accept:?}: {text}");
    }
}

#[test]
fn an_accept_header_may_have_several_lines() {
    let server = Server::start(&["-p"]);
    let mut connection = server.connect();
    let lines = [("Accept", "text/plain;q=0.4"), ("Accept", "application/openmetrics-text;q=0.6")];
    assert!(content_type(&connection.get_with("/metrics", &lines)).starts_with("application/openmetrics-text"));
}

#[cfg(target_os = "linux")]
#[test]
fn process_metrics_have_the_usual_names() {
    let before = std::time::SystemTime::now();
    let text = String::from_utf8(Server::start(&["-p"]).get("/metrics").body).unwrap();
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
    };
    let open = value("process_open_fds");
    assert!(open > 0.0 && value("process_max_fds") >= open);
    assert!(value("process_virtual_memory_max_bytes") >= value("process_virtual_memory_bytes"));
    assert!(value("process_cpu_seconds_total") >= 0.0 && value("process_resident_memory_bytes") > 0.0);
    let before = before.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let started = value("process_start_time_seconds");
    // The start time is not exact, because the kernel counts it from the boot time, which the kernel rounds to seconds.
    assert!((before - 10.0..before + 60.0).contains(&started), "{started} is not about {before}");
}

#[test]
fn metrics_only_when_enabled() {
    assert_eq!(Server::start(&[]).get("/metrics").status, 404);
}

// --- Stop -----------------------------------------------------------------------------------------------------

/// Checks that the server ended without cutting off a connection.
fn assert_none_cut(exit: &Exit) {
    assert!(!exit.stderr.iter().any(|line| line.contains("shutdown: ")), "{exit:?}");
}

#[test]
fn term_and_int_end_the_server_with_0() {
    for signal in ["TERM", "INT"] {
        let server = Server::start(&[]);
        // The server does not wait for connections without a request.
        let mut idle = server.connect();
        idle.get("/health");
        let mut silent = server.connect();
        server.signal(signal);
        let exit = server.wait();
        assert_eq!(exit.code, Some(0), "{signal}: {exit:?}");
        assert_none_cut(&exit);
        assert_eq!((idle.rest(), silent.rest()), (vec![], vec![]));
    }
}

#[test]
fn requests_under_way_are_finished_and_new_connections_learn_of_the_end() {
    let (script, answer) = sends_when_told(ONE_PEER);
    let upstream = FakeTracker::start(script);
    let server = patient(&upstream);
    let mut client = server.connect();
    client.send(request("GET", announce("t", "a").target(), &[]));
    upstream.request(1);

    server.signal("TERM");
    let health = eventually("health reports the shutdown", || {
        // If the server accepts the connection just before the signal, it closes the connection as an idle one, and the
        // answer is empty. Then the attempt is repeated.
        let answer = String::from_utf8(server.raw(request("GET", "/health", &[]))).unwrap();
        answer.starts_with("HTTP/1.1 503 ").then_some(answer)
    });
    assert!(health.contains("Connection: close\r\n") && health.ends_with("\r\n\r\ndraining\n"), "{health}");
    answer.send(()).unwrap();
    assert_eq!(client.reply().peers(), ["10.0.0.7:6881"]);
    assert_eq!(client.rest(), b"");
    let exit = server.wait();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert_none_cut(&exit);
}

#[test]
fn stopped_reaches_the_upstream_although_no_client_waits_for_it() {
    let (go_on, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    // The exchange that sends `stopped` is still under way when the server gets SIGTERM.
    let upstream = FakeTracker::start(script(move |visit| {
        visit.read();
        if visit.number == 1 {
            wait.lock().unwrap().recv().unwrap();
            visit.write(b"HTTP/1.1 302 Found\r\nLocation: /moved\r\nContent-Length: 0\r\n\r\n");
        } else {
            visit.write(ONE_PEER);
        }
    }));
    let server = patient(&upstream);
    server.announce(&announce("t", "a").event("started"));
    server.announce(&announce("t", "a").event("stopped"));
    assert!(upstream.request(2).contains("&event=stopped"));
    server.signal("TERM");
    server.logged("stopping");
    go_on.send(()).unwrap();
    assert!(upstream.request(3).starts_with("GET /moved?"));
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn requests_that_do_not_end_are_cut_off_after_five_seconds() {
    let upstream = FakeTracker::start(script(|visit| {
        visit.read();
        visit.wait_for_close();
    }));
    let server = patient(&upstream);
    let mut client = server.connect();
    client.send(request("GET", announce("t", "a").target(), &[]));
    upstream.request(1);
    let started = Instant::now();
    let exit = server.stop();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    // The server waits for the documented time. If it waits much longer, `stop` fails.
    assert!(started.elapsed().as_secs() >= 4, "{:?}", started.elapsed());
    assert!(exit.stderr.iter().any(|line| line.contains("shutdown: closed")), "{exit:?}");
    assert_eq!(client.rest(), b"");
}

// --- Log ------------------------------------------------------------------------------------------------------

#[test]
fn requests_are_logged_with_debug_only() {
    let unvisited = Server::start(&["-x"]).stop().stderr;
    let server = Server::start(&["-x"]);
    let mut connection = server.connect();
    for n in 0..20 {
        let from = [("X-Real-IP", "10.0.0.1")];
        connection.announce_with(&announce("t", &n.to_string()).at("203.0.113.5"), &from);
        for target in ["/announce", "/scrape?info_hash=t-------------------", "/scrape", "/", "/health", "/nowhere"] {
            connection.get_with(target, &from);
        }
        server.raw(b"garbage\r\n\r\n");
        server.raw(b"GET /announce HTTP/1.1\r\nHo");
    }
    let log = server.stop().stderr;
    assert_eq!(log.len(), unvisited.len(), "{log:#?}");
}

#[test]
fn debug_lines_have_the_torrent_and_the_address() {
    let server = Server::start(&["-d"]);
    let hash = *b"\x00\x01\x9f\xab\xff---------------";
    server.announce(&announce("t", "a").with("info_hash", escape(&hash)).at("10.0.0.1").port(51413));
    let line = server.logged("00019fabff2d2d2d2d2d2d2d2d2d2d2d2d2d2d2d");
    assert!(line.contains("DEBUG") && line.contains("10.0.0.1") && line.contains("51413"), "{line}");
    server.announce(&announce("t", "b").at("2001:db8::5").event("stopped"));
    let line = server.logged("2001:db8::5");
    assert!(line.contains("stopped"), "{line}");
    server.get(announce("t", "a").with("port", "x").target());
    server.logged("port is not a number");
    server.get("/scrape?info_hash=t-------------------&info_hash=u-------------------");
    server.logged("scrape from 127.0.0.1 of 2 torrents");
}

#[test]
fn a_full_store_is_logged() {
    let server = Server::start(&["--max-peers", "2"]);
    for n in 0..10 {
        server.announce(&announce(&format!("t{n}"), "a").at("10.0.0.1"));
    }
    let line = server.logged("the store is full");
    assert!(line.contains("WARN") && line.contains("MAX_PEERS"), "{line}");
}

#[test]
fn forwarders_with_similar_uris_are_warned_about() {
    let file = NamedTempFile::new().unwrap();
    let uri = "- uri: http://127.0.0.1:1";
    writeln!(&file, "{uri}/a\n{uri}/b\n{uri}/c\n  name: another").unwrap();
    let exit = retracker(&[]).env("FORWARDS_FILE", file.path()).start().stop();
    let lines: Vec<_> = exit.stderr.iter().filter(|line| line.contains("two forwarders are called")).collect();
    assert!(lines.len() == 1 && lines[0].contains(" 127.0.0.1:1:"), "{lines:?}");
}

#[test]
fn rust_log_overrides() {
    let server = retracker(&["-d"]).env("RUST_LOG", "info").start();
    server.announce(&announce("t", "a").at("10.0.0.1"));
    let log = server.stop().stderr;
    assert!(!log.iter().any(|line| line.contains("10.0.0.1")), "{log:?}");
}

#[test]
fn bytes_from_the_network_are_escaped_in_the_log() {
    let server = retracker(&["-x"]).env("RUST_LOG", "debug").start();
    let mut connection = server.connect();
    let evil = b"\x1b[2J\r\n\0\x07\xff\xc2\x9b31m evil-";
    let query = announce("t", "a").at("10.0.0.1").with("peer_id", escape(evil));
    let query = query.with("key", escape(evil)).event(&escape(evil)).with("ipv6", escape(evil));
    // HTTP allows all bytes of this value in a header, but a terminal would obey some of them.
    let header = "\u{fc}\u{9b}31m evil\t";
    connection.announce_with(&query, &[("X-Real-IP", header), ("User-Agent", header)]);
    connection.get(query.clone().with("port", escape(evil)).target());
    connection.get(format!("/{}?{}", escape(evil), escape(evil)));
    connection.get([b"/\xff\xc2\x9b31m?", &b"\"<\xff\xc2\x9b31m"[..]].concat());
    server.raw([b"GET /", &evil[..], b" HTTP/1.1\r\nHost: ", evil, b"\r\n\r\n"].concat());
    server.raw(evil);
    server.logged(r"\x1b[2J");
    for line in server.stop().stderr {
        let raw = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        assert!(!line.contains(raw), "{}", line.escape_debug());
        assert!(!line.starts_with("evil"), "{line}");
    }
}
