//! Bad input: the reply is a bencoded failure that names the wrong parameter, and the client's next request is served.

use crate::dsl::{Reply, Server, announce, escape, observer, request};

const ANNOUNCES: &[(&str, &str)] = &[
    // No known parameter.
    ("", "info_hash is missing"),
    ("?", "info_hash is missing"),
    ("?&;?&==&", "info_hash is missing"),
    ("?%", "info_hash is missing"),
    ("?port=6881", "info_hash is missing"),
    // info_hash
    ("?PEER&port=1", "info_hash is missing"),
    ("?INFO_HASH=t-------------------&PEER", "info_hash is missing"),
    ("?info-hash=t-------------------&PEER", "info_hash is missing"),
    ("?info%zzhash=t-------------------&PEER", "info_hash is missing"),
    ("?infohash[]=t-------------------&PEER", "info_hash is missing"),
    ("?info_hash&PEER", "info_hash is 0 bytes long, expected 20"),
    ("?info_hash=&PEER", "info_hash is 0 bytes long, expected 20"),
    ("?info_hash=t&PEER", "info_hash is 1 bytes long, expected 20"),
    ("?info_hash=t------------------&PEER", "info_hash is 19 bytes long, expected 20"),
    ("?info_hash=t--------------------&PEER", "info_hash is 21 bytes long, expected 20"),
    ("?info_hash==t-------------------&PEER", "info_hash is 21 bytes long, expected 20"),
    ("?info_hash=0123456789abcdef0123456789abcdef01234567&PEER", "info_hash is 40 bytes long, expected 20"),
    ("?info_hash=AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH&PEER", "info_hash is 32 bytes long, expected 20"),
    ("?info_hash=%2574%252d%252d%252d%252d%252d%252d%252d&PEER", "info_hash is 24 bytes long, expected 20"),
    ("?info_hash=éééééééééééééééééééé&PEER", "info_hash is 40 bytes long, expected 20"),
    ("?info_hash=+++++++++++++++++++&PEER", "info_hash is 19 bytes long, expected 20"),
    ("?info_hash=%00&PEER", "info_hash is 1 bytes long, expected 20"),
    ("?info_hash=t--;------------------&PEER", "info_hash is 3 bytes long, expected 20"),
    ("?info_hash=%&PEER", "info_hash has a malformed percent escape"),
    ("?info_hash=%a&PEER", "info_hash has a malformed percent escape"),
    ("?info_hash=%zz------------------&PEER", "info_hash has a malformed percent escape"),
    ("?info_hash=%%%%%%%%%%%%%%%%%%%%&PEER", "info_hash has a malformed percent escape"),
    ("?info_hash=%u0041----------------&PEER", "info_hash has a malformed percent escape"),
    ("?info_hash=-------------------------%-1&PEER", "info_hash has a malformed percent escape"),
    ("?HASH&info_hash=u-------------------&PEER", "info_hash is given more than once"),
    ("?HASH;PEER;info_hash=u-------------------", "info_hash is given more than once"),
    ("?HASH&PEER&info_hash=", "info_hash is 0 bytes long, expected 20"),
    // peer_id
    ("?HASH", "peer_id is missing"),
    ("?HASH&port=1&uploaded=0&downloaded=0&left=0&event=started", "peer_id is missing"),
    ("?HASH&peerid=p-------------------", "peer_id is missing"),
    ("?HASH&peer_id", "peer_id is 0 bytes long, expected 20"),
    ("?HASH&peer_id=", "peer_id is 0 bytes long, expected 20"),
    ("?HASH&peer_id=-TR4050-", "peer_id is 8 bytes long, expected 20"),
    ("?HASH&peer_id=-TR4050-0123456789ab0", "peer_id is 21 bytes long, expected 20"),
    ("?HASH&peer_id=-TR4050-0123456789a\u{fe}", "peer_id is 21 bytes long, expected 20"),
    ("?HASH&peer_id=%zz", "peer_id has a malformed percent escape"),
    ("?HASH&peer_id=-TR4050-0123456789ab%", "peer_id has a malformed percent escape"),
    ("?HASH&PEER&peer_id=q-------------------", "peer_id is given more than once"),
    // port
    ("?HASH&PEER&port=65536", "port is not a number from 0 to 65535"),
    ("?HASH&PEER&port=-1", "port is not a number from 0 to 65535"),
    ("?HASH&PEER&port=x", "port is not a number from 0 to 65535"),
    ("?HASH&PEER&port=1.5", "port is not a number from 0 to 65535"),
    ("?HASH&PEER&port=+80", "port is not a number from 0 to 65535"),
    ("?HASH&PEER&port=80+", "port is not a number from 0 to 65535"),
    ("?HASH&PEER&port=0x1f90", "port is not a number from 0 to 65535"),
    ("?HASH&PEER&port=6881,6882", "port is not a number from 0 to 65535"),
    ("?HASH&PEER&port=6881%00", "port is not a number from 0 to 65535"),
    ("?HASH&PEER&port=%ef%bc%96%ef%bc%98", "port is not a number from 0 to 65535"),
    ("?HASH&PEER&port=99999999999999999999999", "port is not a number from 0 to 65535"),
    ("?HASH&PEER&port=%zz", "port is not a number from 0 to 65535"),
];

const FULL_SCRAPE: &str = "info_hash is missing: this tracker does not serve a scrape of all its torrents";

const SCRAPES: &[(&str, &str)] = &[
    ("", FULL_SCRAPE),
    ("?", FULL_SCRAPE),
    ("?&&", FULL_SCRAPE),
    ("?PEER&port=1", FULL_SCRAPE),
    ("?info_hashes=t-------------------", FULL_SCRAPE),
    ("?info_hash", "info_hash is 0 bytes long, expected 20"),
    ("?info_hash=", "info_hash is 0 bytes long, expected 20"),
    ("?info_hash=short", "info_hash is 5 bytes long, expected 20"),
    ("?info_hash=t--------------------", "info_hash is 21 bytes long, expected 20"),
    ("?info_hash=0123456789abcdef0123456789abcdef01234567", "info_hash is 40 bytes long, expected 20"),
    ("?HASH&info_hash=", "info_hash is 0 bytes long, expected 20"),
    ("?HASH&HASH&HASH&info_hash=%zz", "info_hash has a malformed percent escape"),
    ("?info_hash=%", "info_hash has a malformed percent escape"),
    ("?info_hash=%f", "info_hash has a malformed percent escape"),
];

#[test]
fn every_malformed_query_is_refused_by_name_and_the_connection_goes_on() {
    const { assert!(ANNOUNCES.len() + SCRAPES.len() >= 50) };
    let server = Server::start(&[]);
    server.announce(&announce("good", "a").at("10.0.0.1"));
    let mut connection = server.connect();
    let announces = ANNOUNCES.iter().map(|case| ("/announce", case));
    let scrapes = SCRAPES.iter().map(|case| ("/scrape", case));
    for (path, (query, reason)) in announces.chain(scrapes) {
        let query = query.replace("HASH", "info_hash=t-------------------");
        let query = query.replace("PEER", "peer_id=p-------------------");
        for path in [path.to_owned(), format!("{path}.php")] {
            let target = format!("{path}{query}");
            assert_refused(&connection.get(&target), reason, &target);
            assert_eq!(connection.announce(&observer("good")).peers(), ["10.0.0.1:6881"], "after {target}");
        }
    }
    // None of the announces was registered.
    assert_eq!(connection.announce(&observer("t")).counts(), [0, 0, 0]);
}

fn assert_refused(reply: &Reply, reason: &str, target: &str) {
    let expected = format!("d14:failure reason{}:{reason}8:intervali30e8:retry in5:nevere", reason.len());
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/plain")), "{target}");
    assert_eq!(reply.text(), expected, "{target}");
}

#[test]
fn parameters_that_are_too_long_are_refused_by_name() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let long = "x".repeat(30_000);
    let rest = announce("t", "a").without("info_hash").query();
    let target = format!("/announce?info_hash={long}&{rest}");
    assert_refused(&connection.get(&target), "info_hash is 30000 bytes long, expected 20", "a long info_hash");
    let escaped = escape(&[0xff; 10_000]);
    let target = format!("/announce?peer_id={escaped}&{rest}");
    assert_refused(&connection.get(&target), "peer_id is 10000 bytes long, expected 20", "a long peer_id");
    let hash = "&info_hash=t-------------------";
    let target = format!("/scrape?{}", hash.repeat(201));
    assert_refused(&connection.get(&target), "info_hash is given more than 200 times in one scrape", "a long scrape");
    let target = format!("/announce?{}", hash.repeat(1000));
    assert_refused(&connection.get(&target), "peer_id is missing", "a long announce");
    // Each of these requests is longer than the server allows. The server refuses the request with a bencoded failure and
    // closes the connection.
    let longer = "x".repeat(1 << 16);
    let reason = "the request is too long: 65536 bytes and 256 header lines at most";
    for request in [
        format!("GET /announce?{rest}&x={longer} HTTP/1.1\r\n\r\n"),
        format!("GET /scrape?x={longer}"),
        format!("GET /?info_hash=x HTTP/1.1\r\nX: {longer}\r\n\r\n"),
        format!("GET /announce?{rest} HTTP/1.1\r\n{}", "X: y\r\n".repeat(300)),
    ] {
        let mut connection = server.connect();
        connection.send(&request);
        assert_refused(&connection.reply(), reason, &request[..40]);
        assert_eq!(connection.rest(), b"");
    }
    let mut connection = server.connect();
    connection.send(format!("GET /health?{longer}"));
    assert_eq!(connection.reply().status, 431);
}

/// Sends bytes that are not HTTP, or bad HTTP. The server may answer with an error or close the connection, but other
/// connections must still be served.
#[test]
fn garbage_costs_its_connection_only() {
    let announce = announce("t", "a").query();
    let head = |lines: &str| format!("GET /announce?{announce} HTTP/1.1\r\n{lines}\r\n\r\n").into_bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("empty lines", b"\r\n\r\n\r\n\r\n".to_vec()),
        ("line feeds", b"\n".repeat(100_000)),
        ("zeros", vec![0; 1000]),
        ("ones", vec![0xff; 1000]),
        ("every byte", (0..=255).cycle().take(10_000).collect()),
        ("a TLS client hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20)),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        (
            "a peer's handshake",
            b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0t-------------------a-------------------".to_vec(),
        ),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
        ("HTTP/0.9", format!("GET /announce?{announce}\r\n\r\n").into()),
        ("HTTP/9.9", format!("GET /announce?{announce} HTTP/9.9\r\n\r\n").into()),
        ("no target", b"GET\r\n\r\n".to_vec()),
        ("no method", format!(" /announce?{announce} HTTP/1.1\r\n\r\n").into()),
        ("a space in the target", b"GET /announce?info_hash=a b HTTP/1.1\r\n\r\n".to_vec()),
        ("control bytes in the target", b"GET /announce?\x01\x1b[31m\x7f HTTP/1.1\r\n\r\n".to_vec()),
        ("a zero in the target", b"GET /announce?info_hash=\0 HTTP/1.1\r\n\r\n".to_vec()),
        ("raw bytes in the path", b"GET /\x80\xff\" HTTP/1.1\r\n\r\n".to_vec()),
        ("a relative target", b"GET announce HTTP/1.1\r\n\r\n".to_vec()),
        ("an empty authority", b"GET http:// HTTP/1.1\r\n\r\n".to_vec()),
        ("an asterisk", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("CONNECT", b"CONNECT 10.0.0.1:80 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a header without a colon", head("Host retracker.local")),
        ("a header without a name", head(": x")),
        ("a space in a header's name", head("Ho st: x")),
        ("a zero in a header", head("Host: \0")),
        ("a folded header", head("Host: x\r\n y")),
        ("two hosts", head("Host: x\r\nHost: y")),
        ("a negative length", head("Content-Length: -1")),
        ("two lengths", head("Content-Length: 1\r\nContent-Length: 2")),
        ("a length beyond 64 bits", head("Content-Length: 99999999999999999999999")),
        ("length and chunks", head("Content-Length: 4\r\nTransfer-Encoding: chunked")),
        ("an unknown coding", head("Transfer-Encoding: nonsense")),
        ("a bad chunk", [head("Transfer-Encoding: chunked"), b"zz\r\n".to_vec()].concat()),
        ("a huge chunk", [head("Transfer-Encoding: chunked"), b"ffffffffffffffffff\r\n".to_vec()].concat()),
        ("an upgrade", head("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x")),
        ("a huge header name", head(&format!("{}: x", "x".repeat(70_000)))),
        ("a huge header name behind a length", head(&format!("Content-Length: 0\r\n{}: x", "x".repeat(70_000)))),
        ("a huge header name behind a body", {
            [head("Content-Length: 3"), b"abc".to_vec(), head(&format!("{}: x", "x".repeat(70_000)))].concat()
        }),
        ("half a request line", b"GET /announce?info_hash=".to_vec()),
        ("half a head", b"GET /announce HTTP/1.1\r\nHost: retra".to_vec()),
        ("half a body", [head("Content-Length: 100"), b"abc".to_vec()].concat()),
        ("a request line without end", [b"GET /announce?".to_vec(), vec![b'x'; 1 << 20]].concat()),
        ("raw bytes without end", vec![b'"'; 1 << 20]),
        ("a header without end", [b"GET /announce HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat()),
        ("headers without end", [b"GET / HTTP/1.1\r\n".to_vec(), b"X: y\r\n".repeat(1 << 17)].concat()),
        ("a good request, then garbage", [request("GET", "/health", &[]), vec![0xff; 1000]].concat()),
    ];
    let server = Server::start(&[]);
    for (what, bytes) in cases {
        let answer = server.raw(&bytes);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{what}: {}", answer.escape_ascii());
        assert_eq!(server.get("/health").status, 200, "after {what}");
    }
    let exit = server.stop();
    assert_eq!(exit.code, Some(0));
    let panics: Vec<_> = exit.stderr.iter().filter(|line| line.contains("panicked")).collect();
    assert_eq!(panics, [""; 0]);
}
