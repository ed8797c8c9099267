//! HTTP as BitTorrent clients and proxies speak it.

use crate::dsl::{Server, TestConnection, announce, id, observer, request};

/// Starts a server with one peer at 10.0.0.1. Returns also the target of an announce that gets this peer.
fn with_one_peer() -> (Server, String) {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a").at("10.0.0.1"));
    (server, observer("t").target())
}

fn assert_peer(connection: &mut TestConnection) {
    assert_eq!(connection.reply().peers(), ["10.0.0.1:6881"]);
}

#[test]
fn many_requests_on_one_connection() {
    let (server, target) = with_one_peer();
    let mut connection = server.connect();
    for _ in 0..100 {
        assert_eq!(connection.get(&target).peers(), ["10.0.0.1:6881"]);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let requests: Vec<u8> = (1..=50)
        .flat_map(|n| request("GET", announce("t", &n.to_string()).at("10.0.0.1").port(n).numwant(0).target(), &[]))
        .collect();
    connection.send(requests);
    for n in 1..=50 {
        assert_eq!(connection.reply().int("incomplete"), n);
    }
}

#[test]
fn http_1_0_ends_with_its_reply() {
    let (server, target) = with_one_peer();
    let mut connection = server.connect();
    connection.send(format!("GET {target} HTTP/1.0\r\n\r\n"));
    assert_peer(&mut connection);
    assert_eq!(connection.rest(), b"");

    let mut connection = server.connect();
    for _ in 0..3 {
        connection.send(format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        assert_peer(&mut connection);
    }
}

#[test]
fn connection_close_is_obeyed() {
    let (server, target) = with_one_peer();
    for close in ["close", "Close"] {
        let mut connection = server.connect();
        assert_eq!(connection.get_with(&target, &[("Connection", close)]).peers(), ["10.0.0.1:6881"]);
        assert_eq!(connection.rest(), b"");
    }
}

#[test]
fn a_client_that_shuts_down_its_sending_side_is_answered() {
    let (server, target) = with_one_peer();
    let mut connection = server.connect();
    connection.send(request("GET", &target, &[]));
    connection.half_close();
    assert_peer(&mut connection);
    assert_eq!(connection.rest(), b"");
}

#[test]
fn heads_of_every_style() {
    let (server, target) = with_one_peer();
    let mut connection = server.connect();
    for head in [
        format!("GET {target} HTTP/1.1\r\nhost: x\r\naccept-encoding: gzip\r\nuser-agent: x\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\nHOST:x\r\nACCEPT: */*\r\nCONNECTION: KEEP-ALIVE\r\n\r\n"),
        format!("\r\nGET {target} HTTP/1.1\r\nHost:   x   \r\n\r\n"),
        format!("GET http://retracker.local{target} HTTP/1.1\r\nHost: retracker.local\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nUser-Agent: \u{fc}\r\nX-Empty:\r\nRange: bytes=0-1\r\n\r\n"),
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\nIf-Modified-Since: x\r\n\r\n"),
    ] {
        connection.send(head);
        assert_peer(&mut connection);
    }
}

#[test]
fn requests_in_pieces() {
    let (server, target) = with_one_peer();
    let mut connection = server.connect();
    for _ in 0..2 {
        request("GET", &target, &[("User-Agent", "x")]).chunks(1).for_each(|byte| connection.send(byte));
        assert_peer(&mut connection);
    }
    // The client sends three requests in two pieces. The first piece ends in the middle of the second request.
    let all = request("GET", &target, &[]).repeat(3);
    let (first, rest) = all.split_at(all.len() / 2);
    connection.send(first);
    assert_peer(&mut connection);
    connection.send(rest);
    assert_peer(&mut connection);
    assert_peer(&mut connection);
}

#[test]
fn a_request_gets_the_same_answer_whole_split_and_between_others() {
    let (server, target) = with_one_peer();
    let health = &request("GET", "/health", &[])[..];
    let plain = request("GET", &target, &[]);
    for (lines, persistent) in [
        ("Host: x\r\n", true),
        ("Host: x\r\nHost: y\r\n", true),
        ("", true),
        ("Host:\r\n", true),
        ("Content-Length: 0\r\n", true),
        ("Content-Length: 0\r\ncontent-length: 0\r\n", true),
        ("HOST: x\r\nuSER-aGENT: y\r\n", true),
        ("X: a\r\n b\r\n\tc\r\n", true),
        (
            "Connection: keep-alive, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAA\r\n",
            true,
        ),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n", true),
        ("Upgrade: TLS/1.0\r\n", true),
        ("Expect: 100-continue\r\n", true),
        ("Connection: close, TE\r\nTE: trailers\r\n", false),
        ("Connection: TE, close\r\n", false),
        ("Connection: keep-alive\r\nConnection: close\r\n", false),
    ] {
        for line_end in ["\r\n", "\n"] {
            let head = format!("GET {target} HTTP/1.1\r\n{lines}\r\n").replace("\r\n", line_end).into_bytes();
            let check = |connection: &mut TestConnection, how: &str| {
                let reply = connection.reply();
                assert_eq!(reply.peers(), ["10.0.0.1:6881"], "{how}: {lines}");
                assert_eq!(reply.header("connection") != Some("close"), persistent, "{how}: {lines}");
                if !persistent {
                    assert_eq!(connection.rest(), b"", "{how}: {lines}");
                }
            };
            for cut in [0, 1, head.len() / 2, head.len() - 2, head.len() - 1] {
                let mut connection = server.connect();
                connection.send(&head[..cut]);
                connection.send(&head[cut..]);
                check(&mut connection, "in two");
            }
            let mut connection = server.connect();
            head.chunks(1).for_each(|byte| connection.send(byte));
            check(&mut connection, "byte by byte");
            // The request is sent between other requests on one connection.
            for other in [health, &plain] {
                let mut connection = server.connect();
                connection.send([other, &head, other, b"\r\n\r\n", other].concat());
                assert_eq!(connection.reply().status, 200);
                check(&mut connection, "between others");
                for _ in 0..if persistent { 2 } else { 0 } {
                    assert_eq!(connection.reply().status, 200);
                }
            }
        }
    }
}

#[test]
fn versions_of_every_kind_are_answered() {
    let (server, target) = with_one_peer();
    for (version, persistent) in [
        (" HTTP/1.1", true),
        (" HTTP/1.1 ", true),
        (" http/1.1", true),
        (" HTTP/1.0", false),
        (" HTTP/1.2", false),
        (" HTTP/2.0", false),
        (" HTTP/9.9", false),
        (" HTTP/", false),
        ("", false),
    ] {
        let mut connection = server.connect();
        connection.send(format!("GET {target}{version}\r\nHost: x\r\n\r\n"));
        let reply = connection.reply();
        assert_eq!(
            (reply.peers(), reply.header("connection")),
            (vec!["10.0.0.1:6881".to_owned()], (!persistent).then_some("close")),
            "{version:?}"
        );
    }
}

#[test]
fn raw_bytes_in_any_request_of_a_connection() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let request = |peer: &[u8; 1]| {
        let info_hash = b"\x80\x81\xfe\xff<>\"<>\"".repeat(2);
        let target =
            [b"/announce?info_hash=", &info_hash[..], b"&peer_id=", &[peer[0]; 20], b"&port=1&ip=10.0.0.", peer];
        request("GET", target.concat(), &[("X-Bytes", "\u{fc}")])
    };
    connection.send(request(b"1"));
    assert_eq!(connection.reply().peers(), [""; 0]);
    connection.send(request(b"2"));
    assert_eq!(connection.reply().peers(), ["10.0.0.1:1"]);
    connection.send([request(b"3"), request(b"4")].concat());
    assert_eq!(connection.reply().counts(), [0, 3, 0]);
    assert_eq!(connection.reply().counts(), [0, 4, 0]);
    request(b"5").chunks(1).for_each(|byte| connection.send(byte));
    assert_eq!(connection.reply().peers(), ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1"]);
}

#[test]
fn long_uris() {
    let (server, target) = with_one_peer();
    let mut connection = server.connect();
    for kibibytes in [8, 16, 32] {
        let long = format!("{target}&jwt={}", "x".repeat(kibibytes * 1024));
        assert_eq!(connection.get(&long).peers(), ["10.0.0.1:6881"], "{kibibytes} KiB");
        // The server must escape every byte of this token before it reads the query.
        let long = [target.as_bytes(), b"&jwt=", &vec![0xff; kibibytes * 512]].concat();
        assert_eq!(connection.get(long).peers(), ["10.0.0.1:6881"], "{kibibytes} KiB, raw");
    }
}

#[test]
fn requests_with_a_body_are_answered_and_the_body_is_not_taken_for_a_request() {
    let (server, target) = with_one_peer();
    // The body looks like a request. The server must not answer it.
    let smuggled = request("GET", announce("t", "smuggled").at("10.6.6.6").target(), &[]);
    let length = smuggled.len().to_string();
    let chunked = [format!("{:x}\r\n", smuggled.len()).as_bytes(), &smuggled, b"\r\n0\r\n\r\n"].concat();
    for (header, body) in [
        (("Content-Length", "0"), &b""[..]),
        (("Content-Length", "5"), b"\x80body"),
        (("Content-Length", &length), &smuggled),
        (("Transfer-Encoding", "chunked"), b"5\r\n\x80body\r\n0\r\n\r\n"),
        (("Transfer-Encoding", "chunked"), &chunked),
    ] {
        let mut connection = server.connect();
        connection.send([&request("GET", &target, &[header])[..], body].concat());
        let reply = connection.reply();
        assert_eq!((reply.peers(), reply.counts()), (vec!["10.0.0.1:6881".to_owned()], [0, 1, 0]), "{header:?}");
        // A server that does not read the whole body may close the connection, but its reply must say so.
        if reply.header("connection") != Some("close") {
            assert_eq!(connection.get(&target).peers(), ["10.0.0.1:6881"], "{header:?}");
        }
    }
    assert_eq!(server.get(&target).counts(), [0, 1, 0]);
}

#[test]
fn replies_have_a_length() {
    let (server, target) = with_one_peer();
    let reply = server.get(&target);
    assert_eq!(reply.header("content-length").unwrap(), reply.body.len().to_string());
    assert_eq!((reply.header("transfer-encoding"), reply.header("content-encoding")), (None, None));
    assert_eq!(reply.version, "HTTP/1.1");
}

#[test]
fn methods_other_than_get_and_head_are_405() {
    let (server, target) = with_one_peer();
    let scrape = format!("/scrape?info_hash={}", String::from_utf8_lossy(&id("t")));
    let mut connection = server.connect();
    for target in [target.as_str(), &scrape, "/announce.php", "/scrape.php"] {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"] {
            connection.send(request(method, target, &[("Content-Length", "0")]));
            let reply = connection.reply();
            assert_eq!((reply.status, reply.header("allow")), (405, Some("GET, HEAD")), "{method} {target}");
            assert!(reply.text().starts_with("d14:failure reason"), "{}", reply.text());
        }
    }
    assert_eq!(connection.get(&target).peers(), ["10.0.0.1:6881"]);
}

#[test]
fn unknown_paths_are_404_with_an_explanation() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    for path in ["/nowhere", "/announcement", "/announce.php5", "/x/y/z", "/..%2f..%2fetc%2fpasswd", "/%ff", "/\u{fc}"]
    {
        let reply = connection.get(path);
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.header("content-type").unwrap().starts_with("text/plain"), "{path}");
        assert!(!reply.body.is_empty() && reply.body.is_ascii(), "{path}");
    }
}

#[test]
fn idle_connections_do_not_block_others() {
    let (server, target) = with_one_peer();
    let mut idle: Vec<_> = (0..100).map(|_| server.connect()).collect();
    assert_eq!(server.get(&target).peers(), ["10.0.0.1:6881"]);
    for connection in &mut idle {
        assert_eq!(connection.get(&target).peers(), ["10.0.0.1:6881"]);
    }
}
