//! Ranges of complete blobs, and of blobs that are still coming.

use torrent_cache::digest::Digest;

use crate::client::{Connection, get, request};
use crate::program::CacheProgram;
use crate::upstream::{Content, RegistryAct, Scripted, blob_path, gate, head, noise};

#[test]
fn of_a_complete_blob() {
    let blob = noise(1000, 1);
    let upstream = Content::default().with_blob("a", &blob).serve();
    let program = CacheProgram::start(&upstream);
    let path = blob_path("a", &blob);
    assert_eq!(get(program.address, &path).status, 200);
    for (range, status, content_range, body) in [
        ("bytes=0-", 206, Some("bytes 0-999/1000"), &blob[..]),
        ("bytes=10-19", 206, Some("bytes 10-19/1000"), &blob[10..20]),
        ("bytes=990-2000", 206, Some("bytes 990-999/1000"), &blob[990..]),
        ("bytes=-5", 206, Some("bytes 995-999/1000"), &blob[995..]),
        ("bytes=999-999", 206, Some("bytes 999-999/1000"), &blob[999..]),
        ("bytes=0-1,5-6", 200, None, &blob[..]),
        ("bytes=5-1", 200, None, &blob[..]),
        ("items=0-1", 200, None, &blob[..]),
        ("", 200, None, &blob[..]),
    ] {
        let got = request(program.address, "GET", &path, &[("range", range)]);
        assert_eq!((got.status, got.header("content-range")), (status, content_range), "{range}");
        assert_eq!(got.header("accept-ranges"), Some("bytes"), "{range}");
        assert_eq!(got.body.as_deref(), Ok(body), "{range}");
    }
    for range in ["bytes=1000-", "bytes=-0", "bytes=99999999999999999999-"] {
        let got = request(program.address, "GET", &path, &[("range", range)]);
        assert_eq!((got.status, got.header("content-range")), (416, Some("bytes */1000")), "{range}");
        assert_eq!(got.error().0, "RANGE_INVALID");
    }
    let etag = format!("\"{}\"", Digest::of(&blob));
    let headers = |etag| [("range", "bytes=0-9"), ("if-range", etag)];
    assert_eq!(request(program.address, "GET", &path, &headers(&etag)).status, 206);
    assert_eq!(request(program.address, "GET", &path, &headers("\"other\"")).status, 200);
    // The first request caused the only fetch.
    assert_eq!(upstream.take().iter().filter(|asked| asked.starts_with("GET ")).count(), 1);
}

#[test]
fn of_a_blob_that_is_still_coming() {
    let blob = noise(100_000, 2);
    let (key, gate) = gate();
    let (mut gate, served) = (Some(gate), blob.clone());
    let upstream = Scripted::new(move |asked| match (asked.method.as_str(), gate.take()) {
        ("GET", Some(gate)) => {
            let first = [head(200, &[], served.len()), served[..50_000].to_vec()].concat();
            RegistryAct::Gated(first, gate, served[50_000..].to_vec())
        }
        (_, held) => {
            gate = held;
            RegistryAct::Reply(200, Vec::new(), served.clone())
        }
    });
    let program = CacheProgram::start(&upstream);
    let path = blob_path("a", &blob);
    let mut whole = Connection::open(program.address);
    whole.send("GET", &path, &[]);
    assert_eq!(whole.head().status, 200);
    let mut part = Connection::open(program.address);
    part.send("GET", &path, &[("range", "bytes=10000-19999")]);
    let head = part.head();
    assert_eq!(head.status, 206);
    assert!(head.headers.contains(&("content-range".to_owned(), "bytes 10000-19999/100000".to_owned())));
    // The cache holds the last byte back until the blob is verified, so only the bytes before it are read now.
    let begun = part.bytes(9_999);
    let mut later = Connection::open(program.address);
    later.send("GET", &path, &[("range", "bytes=-100")]);
    assert_eq!(later.head().status, 206);
    let outside = request(program.address, "GET", &path, &[("range", "bytes=100000-")]);
    assert_eq!((outside.status, outside.header("content-range")), (416, Some("bytes */100000")));
    drop(key);
    let rest = part.rest(10_000, begun.len()).unwrap();
    assert!([begun, rest].concat() == blob[10_000..20_000]);
    assert!(later.rest(100, 0).as_deref() == Ok(&blob[99_900..]));
    assert!(whole.rest(100_000, 0) == Ok(blob));
    assert_eq!(upstream.take().iter().filter(|asked| asked.starts_with("GET ")).count(), 1);
}
