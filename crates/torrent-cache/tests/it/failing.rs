//! Upstreams that fail: no wrong byte may complete a reply or stay on disk.

use std::net::TcpListener;

use crate::client::{Connection, Got, get, request};
use crate::program::CacheProgram;
use crate::upstream::{Content, RegistryAct, Scripted, blob_path, head, noise};

/// The name of a case, what the upstream sends, and the status and the code that the client gets.
type Failing = (&'static str, Box<dyn Fn() -> RegistryAct + Send>, u16, &'static str);

/// Checks that the client gets no complete reply, and that nothing stays on disk, if the upstream acts this way.
/// Afterwards a right reply must reach the client.
fn never_complete(act: impl Fn(&[u8]) -> RegistryAct + Send + 'static) {
    let blob = noise(100_000, 1);
    let right = Content::default().with_blob("a", &blob);
    let sent = blob.clone();
    let mut is_first = true;
    let upstream = Scripted::new(move |_| {
        // The upstream refuses to continue the fetch, so that the fetch fails at once.
        if std::mem::take(&mut is_first) { act(&sent) } else { RegistryAct::Reply(404, Vec::new(), Vec::new()) }
    });
    let program = CacheProgram::start(&upstream);
    let mut connection = Connection::open(program.address);
    connection.send("GET", &blob_path("a", &blob), &[]);
    let Got { status, body, .. } = connection.reply(false);
    assert!(status != 200 || body.is_err(), "{status}");
    program.line("not fetched from");
    assert_eq!(program.files("blobs").len() + program.files("incoming").len(), 0);
    upstream.now(move |asked| right.act(asked));
    assert!(get(program.address, &blob_path("a", &blob)).body == Ok(blob));
}

#[test]
fn a_flipped_byte() {
    for at in [0, 50_000, 99_999] {
        never_complete(move |blob| {
            let mut wrong = blob.to_vec();
            wrong[at] ^= 1;
            RegistryAct::Reply(200, Vec::new(), wrong)
        });
    }
}

#[test]
fn too_few_bytes() {
    never_complete(|blob| RegistryAct::Reply(200, Vec::new(), blob[..99_999].to_vec()));
    never_complete(|blob| RegistryAct::Raw([head(200, &[], blob.len()), blob[..99_999].to_vec()].concat()));
    never_complete(|_| RegistryAct::Reply(200, Vec::new(), Vec::new()));
}

#[test]
fn too_many_bytes() {
    never_complete(|blob| RegistryAct::Reply(200, Vec::new(), [blob, b"x"].concat()));
    never_complete(|blob| {
        let chunk = [format!("{:x}\r\n", blob.len() + 1).as_bytes(), blob, b"x\r\n0\r\n\r\n"].concat();
        RegistryAct::Raw([b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n".as_slice(), &chunk].concat())
    });
}

#[test]
fn a_chunked_reply_that_breaks_off() {
    never_complete(|blob| {
        let chunk = [format!("{:x}\r\n", blob.len()).as_bytes(), blob, b"\r\n"].concat();
        RegistryAct::Raw([b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n".as_slice(), &chunk].concat())
    });
}

#[test]
fn a_status_or_nothing_is_an_error_in_the_form_of_registries() {
    let upstream = Scripted::new(|_| RegistryAct::Raw(Vec::new()));
    let program = CacheProgram::start(&upstream);
    let (blob, manifest) = (blob_path("a", b"x"), "/v2/a/manifests/t".to_owned());
    let reply = |status| move || RegistryAct::Reply(status, vec![("retry-after", "7".to_owned())], b"<html>".to_vec());
    let to_private =
        || RegistryAct::Reply(307, vec![("location", "http://169.254.169.254/latest".to_owned())], Vec::new());
    let to_nothing = || RegistryAct::Reply(302, Vec::new(), Vec::new());
    let cases: [Failing; 8] = [
        ("429", Box::new(reply(429)), 429, "TOOMANYREQUESTS"),
        ("500", Box::new(reply(500)), 502, "UNAVAILABLE"),
        ("503", Box::new(reply(503)), 502, "UNAVAILABLE"),
        ("418", Box::new(reply(418)), 502, "UNAVAILABLE"),
        ("a redirect into a private network", Box::new(to_private), 502, "UNAVAILABLE"),
        ("a redirect without a target", Box::new(to_nothing), 502, "UNAVAILABLE"),
        ("nothing", Box::new(|| RegistryAct::Raw(Vec::new())), 502, "UNAVAILABLE"),
        ("no HTTP", Box::new(|| RegistryAct::Raw(b"SSH-2.0-x\r\n\r\n".to_vec())), 502, "UNAVAILABLE"),
    ];
    for (what, act, status, code) in cases {
        upstream.now(move |_| act());
        for path in [&blob, &manifest] {
            let got = get(program.address, path);
            let wait = ["429", "503"].contains(&what).then_some("7");
            assert_eq!(got.header("retry-after"), wait, "{what}, {path}");
            assert_eq!((got.status, got.error().0.as_str()), (status, code), "{what}, {path}");
            assert_eq!(got.header("content-type"), Some("application/json"), "{what}, {path}");
            assert!(got.error().1.contains(&upstream.address.to_string()) || what.contains("private"), "{what}");
        }
    }
    assert_eq!(program.files("blobs").len() + program.files("incoming").len(), 0);
}

#[test]
fn a_client_waits_as_long_as_the_upstream_says() {
    let (blob, manifest) = (noise(1000, 1), b"{}");
    let upstream = Content::default().with_blob("a", &blob).with_manifest("a", "t", manifest).serve();
    let program = CacheProgram::with(&upstream, &[("TAG_STALE", "0")]);
    // The cache asks the upstream by HEAD about these two, because they are on disk.
    let stored = [blob_path("a", &blob), "/v2/a/manifests/t".to_owned()];
    stored.iter().for_each(|path| assert_eq!(get(program.address, path).status, 200));
    program.settle();
    for (status, told, expected) in [
        (429, Some("7"), Some("7")),
        (429, Some("1000000"), Some("3600")),
        (429, Some("Fri, 31 Dec 9999 23:59:59 GMT"), Some("3600")),
        (429, None, Some("60")),
        (429, Some("soon"), Some("60")),
        (503, Some("8"), Some("8")),
        (503, None, None),
        (500, Some("9"), None),
    ] {
        upstream.now(move |_| {
            let headers = told.map(|told| ("retry-after", told.to_owned()));
            RegistryAct::Reply(status, headers.into_iter().collect(), Vec::new())
        });
        for path in [&stored[0], &stored[1], &blob_path("a", b"x"), &"/v2/a/manifests/x".to_owned()] {
            let got = request(program.address, "GET", path, &[("authorization", "Bearer x")]);
            assert_eq!(got.status, if status == 429 { 429 } else { 502 }, "{path}");
            assert_eq!(got.header("retry-after"), expected, "{status}, {told:?}, {path}");
        }
    }
}

#[test]
fn a_ping_that_upstream_cannot_answer_is_an_error_in_the_form_of_registries() {
    for status in [500, 502, 503] {
        let headers = vec![("retry-after", "7".to_owned()), ("content-type", "text/html".to_owned())];
        let upstream = Scripted::new(move |_| RegistryAct::Reply(status, headers.clone(), b"<html>down".to_vec()));
        let program = CacheProgram::start(&upstream);
        let got = get(program.address, "/v2/");
        assert_eq!((got.status, got.error().0.as_str()), (502, "UNAVAILABLE"), "{status}");
        assert!(got.error().1.contains(&format!("status {status}")), "{:?}", got.error());
        assert_eq!(got.header("content-type"), Some("application/json"));
        assert_eq!(got.header("retry-after"), (status == 503).then_some("7"));
        assert_eq!(request(program.address, "HEAD", "/v2/", &[]).status, 502);
    }
}

#[test]
fn an_upstream_that_is_not_there() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let upstream = Scripted::new(|_| RegistryAct::Raw(Vec::new()));
    let program = CacheProgram::with(&upstream, &[("REGISTRY_LOCATION", &gone.to_string())]);
    let got = get(program.address, &blob_path("a", b"x"));
    assert_eq!(got.status, 502);
    assert!(got.error().1.contains("cannot connect"), "{:?}", got.error());
    // The reply to the ping must be that of a registry, so that clients go on and ask for what is on disk.
    let got = get(program.address, "/v2/");
    assert_eq!((got.status, got.header("docker-distribution-api-version")), (200, Some("registry/2.0")));
}

#[test]
fn an_upstream_that_is_silent() {
    let (key, gate) = crate::upstream::gate();
    let mut gate = Some(gate);
    let upstream = Scripted::new(move |_| match gate.take() {
        Some(gate) => RegistryAct::Gated(Vec::new(), gate, Vec::new()),
        None => RegistryAct::Raw(Vec::new()),
    });
    let program = CacheProgram::with(&upstream, &[("UPSTREAM_TIMEOUT", "1"), ("CONNECT_TIMEOUT", "1")]);
    let got = get(program.address, &blob_path("a", b"x"));
    assert_eq!((got.status, got.error().0.as_str()), (504, "UNAVAILABLE"));
    drop(key);
}

#[test]
fn a_redirect_to_a_listed_server_is_followed_without_credentials() {
    let blob = noise(10_000, 2);
    let elsewhere = Content::default().with_file("/signed?key=1", &blob).serve();
    let target = format!("{}/signed?key=1", elsewhere.origin());
    let upstream = Scripted::new(move |_| RegistryAct::Reply(307, vec![("location", target.clone())], Vec::new()));
    let program = CacheProgram::with(&upstream, &[("UPSTREAMS", &elsewhere.origin())]);
    let headers = [("authorization", "Bearer secret")];
    let got = request(program.address, "GET", &blob_path("a", &blob), &headers);
    assert!(got.body == Ok(blob));
    assert_eq!(upstream.take_all()[0].header("authorization"), Some("Bearer secret"));
    assert_eq!(elsewhere.take_all()[0].header("authorization"), None);
}

#[test]
fn a_switch_of_protocols_is_an_error() {
    let switch = b"HTTP/1.1 101 X\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
    let upstream = Scripted::new(|_| RegistryAct::Raw(switch.to_vec()));
    let program = CacheProgram::start(&upstream);
    for path in [blob_path("a", b"x"), "/v2/a/tags/list".to_owned()] {
        let got = get(program.address, &path);
        assert_eq!((got.status, got.error().0.as_str()), (502, "UNAVAILABLE"), "{path}");
    }
}

#[test]
fn what_is_compressed_is_passed_on_as_such_and_is_no_blob() {
    let upstream = Scripted::new(|_| {
        let headers = vec![("content-encoding", "gzip".to_owned())];
        RegistryAct::Reply(200, headers, b"compressed".to_vec())
    });
    let program = CacheProgram::start(&upstream);
    let got = get(program.address, "/v2/a/tags/list");
    assert_eq!((got.status, got.header("content-encoding"), got.text().as_str()), (200, Some("gzip"), "compressed"));
    let got = get(program.address, &blob_path("a", b"x"));
    assert_eq!((got.status, got.error().0.as_str()), (502, "UNAVAILABLE"));
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let chunked = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n4\r\ntags\r\n0\r\n\r\n";
    let upstream = Scripted::new(|_| RegistryAct::Raw(chunked.to_vec()));
    let program = CacheProgram::start(&upstream);
    let mut connection = Connection::open(program.address);
    connection.raw(b"GET /v2/a/tags/list HTTP/1.0\r\n\r\n");
    let head = connection.head();
    assert_eq!(head.status, 200);
    assert!(!head.headers.iter().any(|(name, _)| name == "transfer-encoding"), "{:?}", head.headers);
    assert_eq!(connection.bytes(4), b"tags");
    assert!(connection.is_closed());
}
