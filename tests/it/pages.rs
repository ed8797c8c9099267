//! The operator's pages, and their protection from other web pages.

use crate::dsl::{Reply, Server, TestConnection, announce, observer, retracker};
use crate::issuer::hex;

/// Sends GET with this host name in `Host`.
fn under(server: &Server, host: &str, path: &str) -> Reply {
    let mut connection = server.connect();
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    connection.reply()
}

fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.clone()).unwrap()
}

/// Announces many clients at one address, so that the front page warns about them.
fn make_notice(server: &Server) {
    let mut connection = server.connect();
    for n in (0..3).flat_map(|_| 1..=5) {
        let client = announce("t", &n.to_string()).port(n);
        connection.announce_with(&client, &[("X-Real-IP", "192.168.1.1")]);
    }
}

#[test]
fn the_operator_s_pages_are_served_under_known_host_names_only() {
    let listed = ["--allowed-hosts", "Retracker.example.com, *.example.net"];
    let server = retracker(&[&["-p", "-x"], &listed[..]].concat()).env("ALLOWED_HOSTS", "evil.example").start();
    make_notice(&server);
    for (host, is_known) in [
        ("127.0.0.1:8080", true),
        ("[::1]:8080", true),
        ("localhost", true),
        ("retracker:80", true),
        ("retracker.lan", true),
        ("retracker.local.", true),
        ("retracker.example.com:80", true),
        ("a.example.net", true),
        ("evil.example", false),
        ("evil.example:80", false),
        ("127.0.0.1.evil.example", false),
        ("retracker.local.evil.example", false),
    ] {
        for page in ["/metrics", "/forwarders"] {
            let reply = under(&server, host, page);
            assert_eq!(reply.status, if is_known { 200 } else { 403 }, "{host} {page}");
            assert!(is_known || text(&reply).contains("ALLOWED_HOSTS"), "{}", reply.text());
        }
        // The front page shows the announce URL, whatever host name the request has.
        let page = under(&server, host, "/");
        assert_eq!((page.status, text(&page).contains("Many clients")), (200, is_known), "{host}");
        assert_eq!(under(&server, host, "/health").status, 200, "{host}");
        // Announces ignore the host name.
        let observer = format!("{}&want", observer("t").target());
        assert_eq!(under(&server, host, &observer).peers().len(), 5, "{host}");
    }
    let by_variable = retracker(&["-p"]).env("ALLOWED_HOSTS", "*").start();
    assert_eq!(under(&by_variable, "evil.example", "/metrics").status, 200);
}

#[test]
fn several_host_lines_must_all_be_known() {
    let server = Server::start(&["-p"]);
    let status = |lines: &str| {
        let mut connection = server.connect();
        connection.send(format!("GET /metrics HTTP/1.1\r\n{lines}\r\n"));
        connection.reply().status
    };
    assert_eq!(status("Host: localhost\r\nHost: evil.example\r\n"), 403);
    assert_eq!(status("Host: evil.example\r\nHost: localhost\r\n"), 403);
    assert_eq!(status("Host: localhost\r\nHost: localhost\r\n"), 200);
    assert_eq!(status(""), 200, "without Host, which every browser sends");
}

#[test]
fn pages_have_headers_that_prevent_sniffing_and_framing() {
    let server = Server::start(&["-p"]);
    let origin = [("Origin", "http://evil.example")];
    let get = |path: &str| server.connect().get_with(path, &origin);
    for path in ["/", "/health", "/metrics", "/forwarders", "/favicon.ico", "/nothing"] {
        let reply = get(path);
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        let policy = reply.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(reply.header("access-control-allow-origin"), None, "{path}");
    }
    for path in [announce("t", "a").target(), "/announce".to_owned(), "/scrape".to_owned()] {
        let reply = get(&path);
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("access-control-allow-origin"), None, "{path}");
    }
    let mut connection: TestConnection = server.connect();
    connection.send(
        "OPTIONS /announce HTTP/1.1\r\nOrigin: http://evil.example\r\nAccess-Control-Request-Method: GET\r\n\r\n",
    );
    let reply = connection.reply();
    assert_eq!((reply.status, reply.header("x-content-type-options")), (405, Some("nosniff")));
    assert_eq!(reply.header("access-control-allow-methods"), None);
}

#[test]
fn pages_of_other_sites_read_nothing() {
    let server = Server::start(&["-p"]);
    server.get(announce("t", "a").target());
    let hash = hex("t");
    for path in [
        "/api/v1/status",
        "/api/v1/history",
        "/api/v1/torrents",
        &format!("/api/v1/torrents/{hash}"),
        &format!("/explain?torrent={hash}&as=10.0.0.1"),
        "/forwarders",
        "/dashboard",
    ] {
        // A stranger can let a name of a web site resolve to this tracker. Then a page of that site has the tracker's origin.
        let rebound = under(&server, "evil.example", path);
        let is_static = path == "/dashboard";
        assert_eq!(rebound.status, if is_static { 200 } else { 403 }, "{path}");
        assert!(is_static || !text(&rebound).contains(&hash), "{path}: {}", rebound.text());
        // A browser shows a reply to a page of another origin only if one of these headers allows it.
        for origin in ["http://evil.example", "null"] {
            let headers = [("Origin", origin), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors")];
            let reply = server.connect().get_with(path, &headers);
            let allowed = ["access-control-allow-origin", "access-control-allow-credentials", "timing-allow-origin"];
            assert_eq!(allowed.map(|name| reply.header(name)), [None; 3], "{path}");
            assert_eq!(reply.header("cross-origin-resource-policy"), Some("same-origin"), "{path}");
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        }
        let mut connection = server.connect();
        connection.send(format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\
             Access-Control-Request-Method: GET\r\nAccess-Control-Request-Private-Network: true\r\n\r\n"
        ));
        let reply = connection.reply();
        let preflight = ["access-control-allow-origin", "access-control-allow-private-network"];
        assert_eq!(preflight.map(|name| reply.header(name)), [None; 2], "{path}");
    }
}

#[test]
fn the_front_page_loads_only_its_own_script() {
    let server = retracker(&["-u", "127.0.0.1:0"]).listens(1, 1, 0).start();
    let page = server.get("/");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'self';") && policy.contains("default-src 'none'"), "{policy}");
    let body = text(&page);
    assert_eq!(body.matches("<script").count(), 1, "{body}");
    assert!(body.contains("<script src=\"copy.js\" defer></script>"), "{body}");
    // If the script does not run, the buttons stay hidden, and both URLs can still be read.
    assert_eq!((body.matches("<button").count(), body.matches("<button type=\"button\" hidden>").count()), (2, 2));
    assert_eq!((body.matches("http://").count(), body.matches("udp://").count()), (1, 1), "{body}");
    let script = server.get("/copy.js");
    assert_eq!((script.status, script.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    let policy = server.get("/health").header("content-security-policy").unwrap().to_owned();
    assert!(!policy.contains("script-src"), "{policy}");
}

#[test]
fn an_invalid_host_name_stops_the_start() {
    for wrong in ["a.example:80", "http://a.example", "a b", "a;b"] {
        let exit = retracker(&["-l", "127.0.0.1:0", "--allowed-hosts", wrong]).run();
        assert_eq!(exit.code, Some(2), "{exit:?}");
        assert!(
            exit.stderr[0].contains("--allowed-hosts") && exit.stderr[0].contains("expected host names"),
            "{exit:?}"
        );
    }
}
