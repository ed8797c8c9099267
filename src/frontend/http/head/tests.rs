use super::*;
use proptest::prelude::*;

fn whole(request: &[u8]) -> (Head<'_>, usize) {
    match Head::read(request) {
        Read::Whole(head, length) => (head, length),
        other => panic!("{}: {other:?}", request.escape_ascii()),
    }
}

fn lines<'a>(head: &'a Head<'_>) -> Vec<(&'a [u8], &'a [u8])> {
    head.lines().collect()
}

#[test]
fn announces_and_scrapes_as_clients_send_them() {
    let announce = "GET /announce?a=1?b HTTP/1.1\r\nHost: x\r\nUser-Agent:  x y \r\nConnection: close\r\n\r\n";
    let more = format!("{announce}GET /");
    let (head, length) = whole(more.as_bytes());
    assert_eq!(
        (head.method, head.path, head.query, length),
        (Method::Get, &b"/announce"[..], &b"a=1?b"[..], announce.len())
    );
    assert_eq!(
        (head.persistent, head.http_1_0, head.body, head.first("user-agent")),
        (false, false, false, Some(&b"x y"[..]))
    );
    let scrape = b"HEAD /scrape.php HTTP/1.0\r\ncontent-length: 0\r\n\r\n";
    let (head, length) = whole(scrape);
    assert_eq!(
        (head.method, head.path, head.query, length),
        (Method::Head, &b"/scrape.php"[..], &b""[..], scrape.len())
    );
}

#[test]
fn whether_a_connection_persists() {
    for (version, lines, persistent) in [
        ("HTTP/1.1", "", true),
        ("http/1.1", "", true),
        ("HTTP/1.1 ", "", true),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "connection: Keep-Alive\r\n", true),
        ("HTTP/1.0", "connection: keep-alive, TE\r\n", true),
        ("HTTP/1.0", "proxy-connection: keep-alive\r\n", false),
        ("HTTP/9.9", "", false),
        ("", "", false),
        ("HTTP/1.1", "CONNECTION: CLOSE\r\n", false),
        ("HTTP/1.1", "Connection: close, TE\r\n", false),
        ("HTTP/1.1", "Connection: TE ,close\r\n", false),
        ("HTTP/1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
        ("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("HTTP/1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", true),
        ("HTTP/1.1", "Expect: 100-continue\r\n", true),
        ("HTTP/1.1", "Host: x\r\nHost: y\r\n", true),
        ("HTTP/1.1", "Content-Length: 0\r\nContent-Length: 0\r\n", true),
        ("HTTP/1.1", "Content-Length: 00\r\n", true),
        ("HTTP/1.1", "Content-Length: 0, 0\r\n", true),
        ("HTTP/1.1", "Content-Length: 5\r\n", false),
        ("HTTP/1.1", "Content-Length: 0\r\nContent-Length: 5\r\n", false),
        ("HTTP/1.1", "Content-Length:\r\n", false),
        ("HTTP/1.1", "Content-Length: +0\r\n", false),
        ("HTTP/1.1", "Transfer-Encoding: identity\r\n", false),
        // Malformed lines that a proxy may have read as valid ones.
        ("HTTP/1.1", "Content-Length : 5\r\n", false),
        ("HTTP/1.1", "Transfer-Encoding\0: chunked\r\n", false),
        ("HTTP/1.1", "no header\r\n", false),
        ("HTTP/1.1", ": x\r\n", false),
        ("HTTP/1.1", "Name: a\0b\r\n", false),
        ("HTTP/1.1", "Name: a\rTransfer-Encoding: chunked\r\n", false),
        ("HTTP/1.1", " behind the request line\r\n", false),
    ] {
        let request = format!("GET /announce?a {version}\r\n{lines}\r\n");
        let (head, length) = whole(request.as_bytes());
        assert_eq!((head.persistent, length), (persistent, request.len()), "{request:?}");
        assert_eq!((head.path, head.query), (&b"/announce"[..], &b"a"[..]), "{request:?}");
    }
}

#[test]
fn request_lines_of_every_style() {
    for (line, method, path, query) in [
        ("get /announce?a HTTP/1.1", Method::Get, "/announce", "a"),
        ("  GET   /announce?a HTTP/1.1  ", Method::Get, "/announce", "a"),
        ("GET\t/announce?a HTTP/1.1", Method::Get, "/announce", "a"),
        // Unescaped spaces at the end may belong to an info-hash or a peer id.
        ("GET /announce?a  HTTP/1.1", Method::Get, "/announce", "a "),
        ("GET /announce?a  HTTP/1.0", Method::Get, "/announce", "a "),
        ("GET /announce?a b  c HTTP/1.1", Method::Get, "/announce", "a b  c"),
        ("GET /announce?a\tb\u{1}c HTTP/1.1", Method::Get, "/announce", "a\tb\u{1}c"),
        ("GET /announce?a b", Method::Get, "/announce", "a b"),
        ("GET http://x/announce?a HTTP/1.1", Method::Get, "/announce", "a"),
        ("GET /announce?a#b HTTP/1.1", Method::Get, "/announce", "a"),
        ("POST /announce?a HTTP/1.1", Method::Other(b"POST"), "/announce", "a"),
        ("OPTIONS * HTTP/1.1", Method::Other(b"OPTIONS"), "*", ""),
    ] {
        let request = format!("{line}\r\n\r\n");
        let (head, _) = whole(request.as_bytes());
        assert_eq!((head.method, head.path, head.query), (method, path.as_bytes(), query.as_bytes()), "{line}");
    }
    for junk in ["GET", "GET ", "GET HTTP/1.1", " /announce HTTP/1.1", "\u{16}\u{3}\u{1} x", "SSH-2.0-OpenSSH_9.2", "x"]
    {
        assert!(matches!(Head::read(format!("{junk}\r\n").as_bytes()), Read::Junk), "{junk}");
    }
}

#[test]
fn line_feeds_alone_and_headers_by_name() {
    let request = b"GET /announce HTTP/1.1\nVIA: 1.1 a\nVia:1.1 b\r\nVi: c\n\nGET";
    let (head, length) = whole(request);
    assert_eq!((head.all("via").collect::<Vec<_>>(), length), (vec![&b"1.1 a"[..], b"1.1 b"], request.len() - 3));
    assert_eq!(head.first("user-agent"), None);
}

#[test]
fn folds_become_spaces() {
    let request = b"GET /announce HTTP/1.1\r\nX: a\r\n b\n\tc\r\nY: d\r\n\r\nGET / HTTP/1.1\r\n e\r\n\r\n";
    let Read::Folded(length) = Head::read(request) else { panic!() };
    let unfolded = unfold(&request[..length]);
    let (head, again) = whole(&unfolded);
    assert_eq!(
        (lines(&head), head.persistent, again),
        (vec![(&b"X"[..], &b"a   b \tc"[..]), (b"Y", b"d")], true, length)
    );
}

#[test]
fn the_beginning_of_a_head_that_is_too_long_is_read() {
    let announce = b"GET /announce?info_hash=x";
    for (rest, fits) in [
        ([b" HTTP/1.1\r\nX: ", &vec![b'x'; MAX_HEAD - 43][..], b"\r\n\r\n"].concat(), true),
        ([b" HTTP/1.1\r\nX: ", &vec![b'x'; MAX_HEAD - 42][..], b"\r\n\r\n"].concat(), false),
        (vec![b'x'; 2 * MAX_HEAD], false),
        ([b" HTTP/1.1\r\n", &b"X: y\r\n".repeat(MAX_LINES)[..], b"\r\n"].concat(), true),
        ([b" HTTP/1.1\r\n", &b"X: y\r\n".repeat(MAX_LINES + 1)[..], b"\r\n"].concat(), false),
        ([b" HTTP/1.1\r\n", &b"\0\r\n".repeat(MAX_LINES + 1)[..], b"\r\n"].concat(), false),
    ] {
        let request = [announce, &rest[..]].concat();
        match Head::read(&request) {
            Read::Whole(_, length) => assert!(fits && length == request.len()),
            Read::TooLong(head) => {
                assert!(!fits && head.path == b"/announce" && head.query.starts_with(b"info_hash"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(Head::read("x".repeat(MAX_HEAD).as_bytes()), Read::Junk));
    assert!(matches!(Head::read(b"\x16\x03\x01"), Read::Junk));
}

/// Bytes of a head, some of which may be illegal.
fn any_head() -> impl Strategy<Value = Vec<u8>> {
    let line = "(GET|HEAD|POST) /(announce|scrape)(\\.php)?\\?[!-~]{0,20} HTTP/1\\.[01]";
    let header = "(Connection|content-length|Via|X-[a-z]{1,5}):[ \t]?(0|close|keep-alive|[ -~]{0,12})";
    let blemish = proptest::option::weighted(0.3, (any::<prop::sample::Index>(), 0..0x80_u8));
    (line, proptest::collection::vec(header, 0..6), blemish).prop_map(|(line, headers, blemish)| {
        let mut head = [&[line][..], &headers, &[String::new(), String::new()]].concat().join("\r\n").into_bytes();
        if let Some((at, byte)) = blemish {
            let at = at.index(head.len());
            head[at] = byte;
        }
        head
    })
}

proptest! {
    /// If the strict parser of `httparse` accepts a request, we read the same request.
    #[test]
    fn a_strict_parser_reads_the_same(head in any_head()) {
        let mut lines = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut lines);
        let Ok(httparse::Status::Complete(length)) = request.parse(&head) else { return Ok(()) };
        prop_assume!(skip_empty_lines(&head) == 0);
        let (read, our_length) = whole(&head);
        prop_assert_eq!(our_length, length);
        let method = match read.method { Method::Get => "GET", Method::Head => "HEAD", Method::Other(name) => std::str::from_utf8(name).unwrap() };
        // The case of the method does not matter.
        prop_assert!(request.method.unwrap().eq_ignore_ascii_case(method));
        prop_assert_eq!(request.version == Some(0), read.http_1_0);
        prop_assert_eq!(route::split(request.path.unwrap().as_bytes()), (read.path, read.query));
        let lines: Vec<_> = request.headers.iter().map(|line| (line.name.as_bytes(), line.value.trim_ascii())).collect();
        prop_assert_eq!(lines, self::lines(&read));
    }

    #[test]
    fn a_head_is_complete_at_its_last_byte_and_not_before(head in any_head(), behind in any::<Vec<u8>>()) {
        let all = [&head[..], &behind].concat();
        if let Read::Whole(_, length) | Read::Folded(length) = Head::read(&all) {
            for end in 0..length {
                prop_assert!(matches!(Head::read(&all[..end]), Read::Part), "{} of {}", end, length);
            }
            prop_assert!(matches!(Head::read(&all[..length]), Read::Whole(..) | Read::Folded(_)));
        }
    }

    #[test]
    fn any_bytes_are_read(bytes in any::<Vec<u8>>()) {
        if let Read::Folded(length) = Head::read(&bytes) {
            let unfolded = unfold(&bytes[..length]);
            prop_assert!(matches!(Head::read(&unfolded), Read::Whole(_, same) if same == length));
        }
    }
}
