//! A client that one upstream or repository lets in gets nothing that only another upstream or repository has
//! delivered.

use torrent_cache::digest::Digest;

use crate::client::{Connection, get, request};
use crate::program::CacheProgram;
use crate::upstream::{Asked, Content, MANIFEST, RegistryAct, Scripted, blob_path, gate, head, noise};

const LOGIN: [(&str, &str); 1] = [("authorization", "Basic dXNlcjpwYXNz")];

/// Starts an upstream that gives its content to clients with a login.
fn private(content: Content) -> Scripted {
    Scripted::new(move |asked: &Asked| match asked.header("authorization") {
        Some(_) => content.act(asked),
        None => RegistryAct::Reply(401, Vec::new(), Vec::new()),
    })
}

/// Makes a script that says yes to each HEAD, but has no content.
fn yes_man(status: u16) -> impl FnMut(&Asked) -> RegistryAct {
    move |asked: &Asked| match asked.method.as_str() {
        "HEAD" => RegistryAct::Reply(status, vec![("location", "http://127.0.0.1:1/".to_owned())], Vec::new()),
        _ => RegistryAct::Reply(404, Vec::new(), Vec::new()),
    }
}

/// The path of a delta whose superblock is a fixture.
const DELTA: &str = "/repo/deltas/Wd/5wdpL2qFpjE0969vzqmmCphK92+hidSnnv8_9xoxA";

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/ostree/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn a_yes_of_another_upstream_gives_no_private_blob() {
    let (blob, manifest) = (noise(10_000, 1), b"{\"private\":1}");
    let here = private(Content::default().with_blob("p", &blob).with_manifest("p", "t", manifest));
    for status in [200, 307] {
        let there = Scripted::new(yes_man(status));
        let program = CacheProgram::with(&here, &[("UPSTREAMS", &there.origin())]);
        let (digest, host) = (Digest::of(manifest), there.address);
        assert_eq!(request(program.address, "GET", &blob_path("p", &blob), &LOGIN).status, 200);
        assert_eq!(request(program.address, "GET", "/v2/p/manifests/t", &LOGIN).status, 200);
        program.settle();
        for path in [format!("/v2/{host}/p/blobs/{}", Digest::of(&blob)), format!("/v2/{host}/p/manifests/{digest}")] {
            // The cache keeps the yes after the first request, and must not give the blob even then.
            for headers in [&[][..], &[("if-none-match", "*")], &[], &LOGIN] {
                let got = request(program.address, "GET", &path, headers);
                assert!(matches!(got.status, 304 | 404), "{path}: {}", got.status);
                assert_ne!(got.body.as_deref(), Ok(&manifest[..]));
            }
            let got = request(program.address, "HEAD", &path, &[]);
            assert_ne!(got.header("content-length"), Some("10000"), "{path}");
        }
        // Clients with the login still get the blob.
        assert!(request(program.address, "GET", &blob_path("p", &blob), &LOGIN).body.as_ref() == Ok(&blob));
    }
}

#[test]
fn a_yes_for_another_repository_gives_no_private_blob() {
    let blob = noise(10_000, 2);
    let content = Content::default().with_blob("private", &blob);
    let mut other = yes_man(307);
    let upstream = Scripted::new(move |asked| match asked.header("authorization") {
        Some(_) => content.act(asked),
        None => other(asked),
    });
    let program = CacheProgram::start(&upstream);
    assert_eq!(request(program.address, "GET", &blob_path("private", &blob), &LOGIN).status, 200);
    program.settle();
    assert_eq!(get(program.address, &blob_path("public", &blob)).status, 404);
}

#[test]
fn a_tag_that_names_a_private_manifest_does_not_give_it() {
    let manifest = b"{\"private\":1}";
    let digest = Digest::of(manifest);
    let here = private(Content::default().with_manifest("p", "t", manifest));
    let there = Content::default().with_manifest("a", "t", b"{}").serve();
    let program = CacheProgram::with(&here, &[("UPSTREAMS", &there.origin()), ("AUTH_STALE", "3600")]);
    assert_eq!(request(program.address, "GET", "/v2/p/manifests/t", &LOGIN).status, 200);
    let path = format!("/v2/{}/a/manifests/t", there.address);
    assert_eq!(get(program.address, &path).status, 200);
    there.now(move |asked| match asked.method.as_str() {
        "HEAD" => RegistryAct::Reply(200, vec![("docker-content-digest", digest.to_string())], Vec::new()),
        _ => RegistryAct::Reply(404, Vec::new(), Vec::new()),
    });
    for method in ["GET", "HEAD"] {
        let got = request(program.address, method, &path, &[]);
        assert_ne!(got.body.as_deref(), Ok(&manifest[..]), "{method}");
        assert_ne!(got.header("content-length"), Some("13"), "{method}");
    }
}

#[test]
fn a_superblock_that_names_a_private_blob_does_not_give_it() {
    let part = fixture("part.0");
    let here = private(Content::default().with_blob("p", &part));
    let mut yes_man = yes_man(200);
    let there = Scripted::new(move |asked| {
        if asked.target.ends_with("/superblock") {
            RegistryAct::Reply(200, Vec::new(), fixture("plain.superblock"))
        } else {
            yes_man(asked)
        }
    });
    let program = CacheProgram::with(&here, &[("UPSTREAMS", &there.origin())]);
    assert_eq!(request(program.address, "GET", &blob_path("p", &part), &LOGIN).status, 200);
    program.settle();
    assert_eq!(get(program.address, &format!("{}{DELTA}/0", there.origin())).status, 404);
}

#[test]
fn a_blob_that_two_upstreams_have_is_fetched_from_each_once_and_kept_once() {
    let blob = noise(10_000, 3);
    let upstreams = [1, 2].map(|_| Content::default().with_blob("a", &blob).serve());
    let program = CacheProgram::with(&upstreams[0], &[("UPSTREAMS", &upstreams[1].origin())]);
    for round in 0..2 {
        for upstream in &upstreams {
            let path = format!("/v2/a/blobs/{}?ns={}", Digest::of(&blob), upstream.address);
            assert!(get(program.address, &path).body.as_ref() == Ok(&blob));
            program.settle();
            let fetches = upstream.take().iter().filter(|asked| asked.starts_with("GET ")).count();
            assert_eq!(fetches, usize::from(round == 0));
        }
    }
    assert_eq!(program.metric("torrent_cache_blobs"), 1);
}

#[test]
fn a_fetch_that_turns_out_wrong_authorises_nobody() {
    let blob = noise(10_000, 4);
    let content = Content::default().with_blob("a", &blob);
    let (key, gate) = gate();
    let mut gate = Some(gate);
    let upstream = Scripted::new(move |asked| match (asked.header("authorization"), asked.method.as_str()) {
        (Some(_), _) => content.act(asked),
        // A client without a login gets other bytes than those of the blob.
        (None, "GET") => match gate.take() {
            Some(gate) => RegistryAct::Gated([head(200, &[], 10_000), vec![0; 5_000]].concat(), gate, vec![0; 5_000]),
            None => RegistryAct::Reply(200, Vec::new(), vec![0; 10_000]),
        },
        (None, _) => RegistryAct::Reply(403, Vec::new(), Vec::new()),
    });
    let program = CacheProgram::with(&upstream, &[("AUTH_STALE", "3600")]);
    let path = blob_path("a", &blob);
    let mut client = Connection::open(program.address);
    client.send("GET", &path, &[]);
    assert_eq!(client.head().status, 200);
    drop(key);
    assert!(client.rest(10_000, 0).is_err());
    program.settle();
    assert!(request(program.address, "GET", &path, &LOGIN).body.as_ref() == Ok(&blob));
    program.settle();
    assert_eq!(get(program.address, &path).status, 403);
    upstream.now(|_| RegistryAct::Reply(503, Vec::new(), Vec::new()));
    assert_eq!(get(program.address, &path).status, 502);
}

#[test]
fn a_manifest_has_the_media_type_of_its_upstream() {
    let manifest = b"{\"schemaVersion\":2}";
    let here = Content::default().with_manifest("a", "t", manifest).serve();
    let there =
        Scripted::new(|_| RegistryAct::Reply(200, vec![("content-type", "text/html".to_owned())], manifest.to_vec()));
    let program = CacheProgram::with(&here, &[("UPSTREAMS", &there.origin())]);
    let digest = Digest::of(manifest);
    for _ in 0..2 {
        let got = get(program.address, &format!("/v2/a/manifests/{digest}"));
        assert_eq!((got.status, got.header("content-type")), (200, Some(MANIFEST)));
        let got = get(program.address, &format!("/v2/{}/a/manifests/{digest}", there.address));
        assert_eq!((got.status, got.header("content-type")), (200, Some("text/html")));
    }
}
