//! Requests in absolute form, which OSTree sends to an HTTP proxy.

use std::fs;

use torrent_cache::digest::Digest;

use crate::client::{Connection, Got, request};
use crate::program::CacheProgram;
use crate::upstream::{Asked, Content, RegistryAct, Scripted, gate, head, noise};

const DELTA: &str = "/repo/deltas/Wd/5wdpL2qFpjE0969vzqmmCphK92+hidSnnv8_9xoxA";
const FILEZ: [&str; 3] = [
    "0a6a4207bde5bcd789bad78db51d463b269e31984fb06c7f8b77f829471110c7",
    "85dd35d60e2fdd749a1b6fd0bffcf1f7f0b103980fa5f6c1f5b130816b396014",
    "dea68b6e0ab0b90635da24425e4b2ec94106e732fe139520200798cc90c25c93",
];
const COMMIT: &str = "0c6092cefcb2e2e2bb45e245d9f7815eb651589610b63ccb9592a2d816792731";

fn fixture(name: &str) -> Vec<u8> {
    fs::read(format!("{}/tests/fixtures/ostree/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn object(checksum: &str, kind: &str) -> String {
    format!("/repo/objects/{}/{}.{kind}", &checksum[..2], &checksum[2..])
}

fn repository() -> Content {
    let mut content = Content::default()
        .with_file(&format!("{DELTA}/superblock"), &fixture("plain.superblock"))
        .with_file("/repo/summary", b"summary")
        .with_file(&object(COMMIT, "commit"), &fixture(&format!("{COMMIT}.commit")));
    for part in 0..3 {
        content = content.with_file(&format!("{DELTA}/{part}"), &fixture(&format!("part.{part}")));
    }
    for checksum in FILEZ {
        content = content.with_file(&object(checksum, "filez"), &fixture(&format!("{checksum}.filez")));
    }
    content
}

fn through(program: &CacheProgram, upstream: &Scripted, path: &str) -> Got {
    request(program.address, "GET", &format!("{}{path}", upstream.origin()), &[])
}

/// Starts a cache that has this upstream in `UPSTREAMS` and another server as the default upstream.
fn program(upstream: &Scripted) -> CacheProgram {
    let other = Content::default().serve();
    CacheProgram::with(&other, &[("UPSTREAMS", &upstream.origin())])
}

#[test]
fn a_second_pull_fetches_no_part_and_no_object() {
    let upstream = repository().serve();
    let program = program(&upstream);
    let cached: Vec<_> = (0..3)
        .map(|part| (format!("{DELTA}/{part}"), fixture(&format!("part.{part}"))))
        .chain(FILEZ.map(|checksum| (object(checksum, "filez"), fixture(&format!("{checksum}.filez")))))
        .chain([(object(COMMIT, "commit"), fixture(&format!("{COMMIT}.commit")))])
        .collect();
    for round in 0..2 {
        for path in [format!("{DELTA}/superblock"), "/repo/summary".to_owned()] {
            assert_eq!(through(&program, &upstream, &path).status, 200, "{path}");
            assert_eq!(upstream.take(), [format!("GET {path}")], "never cached");
        }
        for (path, expected) in &cached {
            assert!(through(&program, &upstream, path).body.as_ref() == Ok(expected), "{path}");
        }
        let asked = upstream.take();
        assert_eq!(asked.iter().any(|asked| asked.starts_with("GET ")), round == 0, "{asked:?}");
    }
}

#[test]
fn a_part_that_is_asked_for_first_makes_the_cache_fetch_the_superblock() {
    let upstream = repository().serve();
    let program = program(&upstream);
    let path = format!("{DELTA}/1");
    assert!(through(&program, &upstream, &path).body == Ok(fixture("part.1")));
    assert_eq!(upstream.take(), [format!("GET {DELTA}/superblock"), format!("GET {path}")]);
    // If the superblock does not name a part, the cache passes the request for the part on.
    assert_eq!(through(&program, &upstream, &format!("{DELTA}/9")).status, 404);
}

#[test]
fn a_flipped_byte_is_refused_and_fetched_again() {
    let paths = [format!("{DELTA}/0"), object(FILEZ[0], "filez"), object(COMMIT, "commit")];
    let files = ["part.0".to_owned(), format!("{}.filez", FILEZ[0]), format!("{COMMIT}.commit")];
    let upstream = Scripted::new(|asked| match repository().act(asked) {
        RegistryAct::Reply(status, headers, mut body) if !asked.target.ends_with("superblock") => {
            let at = body.len() - 1;
            body[at] ^= 1;
            RegistryAct::Reply(status, headers, body)
        }
        act => act,
    });
    let program = program(&upstream);
    for path in &paths {
        let got = through(&program, &upstream, path);
        // The client gets an error before the first byte, or a reply that is cut off.
        assert!(got.status == 502 || got.body.is_err(), "{path}: {got:?}");
    }
    assert_eq!(program.files("blobs").len() + program.files("deltas").len(), 0);
    upstream.now(|asked| repository().act(asked));
    for (path, file) in paths.iter().zip(&files) {
        assert!(through(&program, &upstream, path).body == Ok(fixture(file)), "{path}");
    }
}

#[test]
fn clients_of_one_file_object_at_once_are_one_fetch_that_is_continued() {
    let (path, file) = (object(FILEZ[0], "filez"), fixture(&format!("{}.filez", FILEZ[0])));
    let half = file.len() / 2;
    let (key, gate) = gate();
    let (mut gate, served) = (Some(gate), file.clone());
    let upstream = Scripted::new(move |asked| match (asked.method.as_str(), gate.take()) {
        ("GET", Some(gate)) => {
            // The upstream breaks off after half of the file.
            RegistryAct::Gated([head(200, &[], served.len()), served[..half].to_vec()].concat(), gate, Vec::new())
        }
        (_, held) => {
            gate = held;
            repository().act(asked)
        }
    });
    let program = program(&upstream);
    let url = format!("{}{path}", upstream.origin());
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = Connection::open(program.address);
            client.send("GET", &url, &[]);
            assert_eq!(client.head().status, 200);
            // The clients get bytes while the fetch runs.
            (client.bytes(half), client)
        })
        .collect();
    drop(key);
    for (begun, mut client) in clients {
        let rest = client.rest(file.len(), begun.len()).unwrap();
        assert!([begun, rest].concat() == file);
    }
    let asked = upstream.take_all();
    let offsets: Vec<_> = asked.iter().filter(|asked| asked.method == "GET").map(Asked::offset).collect();
    assert_eq!(offsets, [None, Some(half)]);
    // The upstream's yes for the second client counts for the others, because they all send no credentials.
    assert_eq!(asked.iter().filter(|asked| asked.method == "HEAD").count(), 1);
}

#[test]
fn without_room_a_file_object_is_verified_as_well() {
    let (path, file) = (object(FILEZ[0], "filez"), fixture(&format!("{}.filez", FILEZ[0])));
    let upstream = repository().serve();
    let other = Content::default().serve();
    let program = CacheProgram::with(&other, &[("UPSTREAMS", &upstream.origin()), ("STORAGE_QUOTA", "0")]);
    for _ in 0..2 {
        assert!(through(&program, &upstream, &path).body.as_ref() == Ok(&file));
        assert_eq!(upstream.take(), [format!("GET {path}")]);
    }
    let mut wrong = file;
    let at = wrong.len() - 1;
    wrong[at] ^= 1;
    upstream.now(move |_| RegistryAct::Reply(200, Vec::new(), wrong.clone()));
    assert!(through(&program, &upstream, &path).body.is_err());
}

#[test]
fn a_delta_that_is_made_anew_is_noticed() {
    let upstream = repository().serve();
    let part = format!("{DELTA}/0");
    // The first new part has another length than the old one, and the second has the same length.
    for new in [noise(100, 1), noise(fixture("part.0").len(), 1)] {
        let program = program(&upstream);
        upstream.now(|asked| repository().act(asked));
        assert!(through(&program, &upstream, &part).body == Ok(fixture("part.0")));
        program.settle();
        assert!(through(&program, &upstream, &format!("{DELTA}/1")).body == Ok(fixture("part.1")));
        let mut superblock = fixture("plain.superblock");
        for (number, content) in [(0, &new), (2, &new)] {
            let (old, now) = (Digest::of(&fixture(&format!("part.{number}"))), Digest::of(content));
            let at = superblock.windows(32).position(|bytes| bytes == old.0).unwrap();
            superblock[at..at + 32].copy_from_slice(&now.0);
        }
        let content = repository().with_file(&format!("{DELTA}/superblock"), &superblock);
        let content = content.with_file(&part, &new).with_file(&format!("{DELTA}/2"), &new);
        let path = format!("{DELTA}/2");
        let (key, gate) = gate();
        let (mut gate, gated, sent) = (Some(gate), path.clone(), new.clone());
        upstream.now(move |asked| match gate.take_if(|_| asked.target == gated) {
            Some(gate) => {
                let begin = [head(200, &[], sent.len()), sent[..sent.len() / 2].to_vec()].concat();
                RegistryAct::Gated(begin, gate, sent[sent.len() / 2..].to_vec())
            }
            None => content.act(asked),
        });
        upstream.take();
        // The cache cuts off the reply that has begun, and asks for the superblock at the next request.
        let mut client = Connection::open(program.address);
        client.send("GET", &format!("{}{path}", upstream.origin()), &[]);
        assert_eq!(client.head().status, 200);
        drop(key);
        assert!(client.rest(new.len(), 0).is_err());
        assert_eq!(upstream.take(), [format!("GET {path}")]);
        assert!(through(&program, &upstream, &path).body.as_ref() == Ok(&new));
        assert_eq!(upstream.take()[0], format!("GET {DELTA}/superblock"));
        assert!(through(&program, &upstream, &part).body.as_ref() == Ok(&new));
    }
}

#[test]
fn a_part_on_disk_with_another_length_than_upstreams_makes_the_cache_ask_for_the_superblock() {
    let upstream = repository().serve();
    let program = program(&upstream);
    let (part, new) = (format!("{DELTA}/0"), noise(100, 1));
    // The yes for the old part is kept for this client, so the new part is requested by another client.
    assert!(through(&program, &upstream, &part).body == Ok(fixture("part.0")));
    program.settle();
    let mut superblock = fixture("plain.superblock");
    let at = superblock.windows(32).position(|bytes| bytes == Digest::of(&fixture("part.0")).0).unwrap();
    superblock[at..at + 32].copy_from_slice(&Digest::of(&new).0);
    let content = repository().with_file(&format!("{DELTA}/superblock"), &superblock).with_file(&part, &new);
    upstream.now(move |asked| content.act(asked));
    upstream.take();
    let url = format!("{}{part}", upstream.origin());
    let got = request(program.address, "GET", &url, &[("authorization", "Basic eDp5")]);
    assert!(got.body == Ok(new));
    let expected = [format!("HEAD {part}"), format!("GET {DELTA}/superblock"), format!("GET {part}")];
    assert_eq!(upstream.take(), expected);
}

#[test]
fn everything_else_of_a_listed_server_passes_uncached() {
    let upstream = Scripted::new(|asked| match asked.header("if-none-match") {
        Some("\"e\"") => RegistryAct::Reply(304, vec![("etag", "\"e\"".to_owned())], Vec::new()),
        _ => RegistryAct::Reply(203, vec![("etag", "\"e\"".to_owned())], asked.target.clone().into_bytes()),
    });
    let program = program(&upstream);
    let path = "/any/page?with=query";
    for _ in 0..2 {
        let got = through(&program, &upstream, path);
        assert_eq!((got.status, got.header("etag"), got.text().as_str()), (203, Some("\"e\""), path));
        assert_eq!(upstream.take(), [format!("GET {path}")]);
    }
    let url = format!("{}{path}", upstream.origin());
    assert_eq!(request(program.address, "GET", &url, &[("if-none-match", "\"e\"")]).status, 304);
    let got = request(program.address, "HEAD", &url, &[]);
    assert_eq!((got.status, got.header("content-length")), (203, Some(&*path.len().to_string())));
}

#[test]
fn a_large_file_passes_whole() {
    let file = noise(5 << 20, 1);
    let upstream = Content::default().with_file("/large", &file).serve();
    let program = program(&upstream);
    assert!(through(&program, &upstream, "/large").body == Ok(file));
    assert_eq!(program.files("blobs").len(), 0);
}

#[test]
fn a_server_that_is_not_listed_is_refused() {
    let upstream = repository().serve();
    let program = program(&upstream);
    for url in
        ["http://example.com/repo/summary", "http://user:secret@example.com/", "https://example.com/", "http://[::1]/"]
    {
        let got = request(program.address, "GET", url, &[]);
        assert_eq!(got.status, 403, "{url}");
        let (code, sentence) = got.error();
        assert_eq!(code, "DENIED");
        assert!(sentence.contains("UPSTREAMS") && !sentence.contains("secret"), "{sentence}");
    }
    assert_eq!(upstream.take(), [""; 0]);
}
