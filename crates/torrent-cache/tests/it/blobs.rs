//! Pulls of blobs: a second time, by many clients at once, and after a fetch broke off.

use std::thread;

use torrent_cache::digest::Digest;

use crate::client::{Connection, get, request};
use crate::program::CacheProgram;
use crate::upstream::{Asked, Content, MANIFEST, RegistryAct, Scripted, blob_path, gate, head, noise};

#[test]
fn a_second_pull_asks_upstream_by_head_only() {
    let (layer, config) = (noise(3 << 20, 1), noise(500, 2));
    let manifest = b"{\"schemaVersion\":2}";
    let content = Content::default().with_blob("library/a", &layer).with_blob("library/a", &config);
    let upstream = content.with_manifest("library/a", "latest", manifest).serve();
    let program = CacheProgram::start(&upstream);
    for round in 0..2 {
        let got = get(program.address, "/v2/library/a/manifests/latest");
        assert_eq!((got.status, got.header("content-type")), (200, Some(MANIFEST)));
        assert_eq!(got.header("docker-content-digest"), Some(&*Digest::of(manifest).to_string()));
        assert_eq!(got.body.unwrap(), manifest);
        for blob in [&layer, &config] {
            let got = get(program.address, &blob_path("library/a", blob));
            let digest = Digest::of(blob).to_string();
            assert_eq!(got.status, 200);
            assert_eq!(got.header("docker-content-digest"), Some(&*digest));
            assert_eq!(got.header("etag"), Some(&*format!("\"{digest}\"")));
            assert_eq!(got.header("content-type"), Some("application/octet-stream"));
            assert!(got.body.as_ref() == Ok(blob), "the blob");
        }
        program.settle();
        let asked = upstream.take();
        if round == 1 {
            assert!(asked.iter().all(|asked| asked.starts_with("HEAD ")), "{asked:?}");
            // The cache asks the upstream for the tag each time.
            assert!(asked.contains(&"HEAD /v2/library/a/manifests/latest".to_owned()), "{asked:?}");
        } else {
            assert_eq!(asked.iter().filter(|asked| asked.starts_with("GET ")).count(), 3, "{asked:?}");
        }
    }
    assert_eq!(program.metric("torrent_cache_fetches_total"), 2);
    assert_eq!(program.metric("torrent_cache_blobs"), 2);
    assert_eq!(program.metric("torrent_cache_requests_total{kind=\"blob\",outcome=\"hit\"}"), 2);
}

#[test]
fn the_cache_of_another_host_can_be_the_upstream() {
    let (layer, manifest) = (noise(3 << 20, 1), b"{\"schemaVersion\":2}");
    let content = Content::default().with_blob("library/a", &layer).with_manifest("library/a", "latest", manifest);
    let upstream = content.serve();
    let first = CacheProgram::start(&upstream);
    let second = CacheProgram::with(&upstream, &[("REGISTRY_LOCATION", &first.address.to_string())]);
    for (address, most_fetches) in [(first.address, 2), (second.address, 0)] {
        assert_eq!(get(address, "/v2/library/a/manifests/latest").body.unwrap(), manifest);
        assert!(get(address, &blob_path("library/a", &layer)).body == Ok(layer.clone()), "the blob");
        first.settle();
        let asked = upstream.take();
        let fetches = asked.iter().filter(|asked| asked.starts_with("GET ")).count();
        assert_eq!(fetches, most_fetches, "{asked:?}");
        // The cache asks the upstream for the tag each time.
        assert!(asked.iter().any(|asked| asked.ends_with(" /v2/library/a/manifests/latest")), "{asked:?}");
    }
}

#[test]
fn eight_clients_at_once_are_one_fetch_and_get_bytes_while_it_runs() {
    let blob = noise(2 << 20, 3);
    let half = blob.len() / 2;
    let (key, gate) = gate();
    let (mut gate, served) = (Some(gate), blob.clone());
    let upstream = Scripted::new(move |asked| match (asked.method.as_str(), gate.take()) {
        ("GET", Some(gate)) => {
            let first = [head(200, &[], served.len()), served[..half].to_vec()].concat();
            RegistryAct::Gated(first, gate, served[half..].to_vec())
        }
        (_, held) => {
            gate = held;
            RegistryAct::Reply(200, Vec::new(), served.clone())
        }
    });
    let program = CacheProgram::start(&upstream);
    let mut first = Connection::open(program.address);
    first.send("GET", &blob_path("a", &blob), &[]);
    assert_eq!(first.head().status, 200);
    let readers: Vec<_> = (0..7)
        .map(|_| {
            let (address, path) = (program.address, blob_path("a", &blob));
            thread::spawn(move || {
                let mut connection = Connection::open(address);
                connection.send("GET", &path, &[]);
                assert_eq!(connection.head().status, 200);
                let begun = connection.bytes(half - 1);
                (connection, begun)
            })
        })
        .collect();
    let mut readers: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    let begun = first.bytes(half - 1);
    readers.push((first, begun));
    // All clients have the first half before the upstream sends the second.
    drop(key);
    for (mut connection, begun) in readers {
        let rest = connection.rest(blob.len(), begun.len()).unwrap();
        assert!([begun, rest].concat() == blob);
    }
    let asked = upstream.take();
    assert_eq!(asked.iter().filter(|asked| asked.starts_with("GET ")).count(), 1, "{asked:?}");
}

#[test]
fn a_fetch_goes_on_although_its_client_has_gone() {
    let blob = noise(1 << 20, 4);
    let (key, gate) = gate();
    let (mut gate, served) = (Some(gate), blob.clone());
    let upstream = Scripted::new(move |asked| match (asked.method.as_str(), gate.take()) {
        ("GET", Some(gate)) => RegistryAct::Gated(head(200, &[], served.len()), gate, served.clone()),
        _ => RegistryAct::Reply(200, Vec::new(), served.clone()),
    });
    let program = CacheProgram::start(&upstream);
    let mut client = Connection::open(program.address);
    client.send("GET", &blob_path("a", &blob), &[]);
    client.head();
    drop(client);
    // The client's connection is freed while the upstream still sends, so only the connection that asks for the metrics
    // is left.
    while program.metric("torrent_cache_connections") != 1 {}
    assert_eq!(program.metric("torrent_cache_flights"), 1);
    drop(key);
    program.line("1048576 bytes from");
    assert!(get(program.address, &blob_path("a", &blob)).body == Ok(blob.clone()));
    assert_eq!(upstream.take().iter().filter(|asked| asked.starts_with("GET ")).count(), 1);
}

#[test]
fn a_broken_fetch_is_continued_by_range() {
    let blob = noise(1 << 20, 5);
    let half = blob.len() / 2;
    let content = Content::default().with_blob("a", &blob);
    let served = blob.clone();
    let upstream = Scripted::new(move |asked| match asked.header("range") {
        None if asked.method == "GET" => {
            RegistryAct::Raw([head(200, &[], served.len()), served[..half].to_vec()].concat())
        }
        _ => content.act(asked),
    });
    let program = CacheProgram::start(&upstream);
    assert!(get(program.address, &blob_path("a", &blob)).body == Ok(blob.clone()));
    let offsets: Vec<_> = upstream.take_all().iter().map(Asked::offset).collect();
    assert_eq!(offsets, [None, Some(half)]);
}

#[test]
fn head_and_conditions() {
    let blob = noise(5000, 6);
    let upstream = Content::default().with_blob("a", &blob).serve();
    let program = CacheProgram::start(&upstream);
    let path = blob_path("a", &blob);
    let etag = format!("\"{}\"", Digest::of(&blob));
    // While the blob is not on disk, the cache asks the upstream by HEAD and fetches nothing.
    let got = request(program.address, "HEAD", &path, &[]);
    assert_eq!((got.status, got.header("content-length")), (200, Some("5000")));
    let got = request(program.address, "GET", &path, &[("if-none-match", &etag)]);
    assert_eq!((got.status, got.header("etag")), (304, Some(&*etag)));
    assert!(upstream.take().iter().all(|asked| asked.starts_with("HEAD ")));
    assert_eq!(get(program.address, &path).status, 200);
    program.settle();
    let mut connection = Connection::open(program.address);
    // The following requests share one connection.
    let got = connection.request("HEAD", &path, &[]);
    assert_eq!((got.status, got.header("content-length")), (200, Some("5000")));
    assert_eq!(got.header("docker-content-digest"), Some(etag.trim_matches('"')));
    let got = connection.request("GET", &path, &[("if-none-match", &format!("\"x\", W/{etag}"))]);
    assert_eq!((got.status, got.header("etag")), (304, Some(&*etag)));
    let got = connection.request("GET", &path, &[("if-none-match", "\"sha256:other\"")]);
    assert!(got.body == Ok(blob));
}

#[test]
fn an_empty_blob_and_one_without_a_length() {
    let blob = noise(100_000, 7);
    let content = Content::default().with_blob("a", b"");
    let served = blob.clone();
    let upstream = Scripted::new(move |asked| {
        if asked.target != blob_path("a", &served) {
            return content.act(asked);
        }
        let head = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        let size = format!("{:x}\r\n", served.len()).into_bytes();
        RegistryAct::Raw([head, size, served.clone(), b"\r\n0\r\n\r\n".to_vec()].concat())
    });
    let program = CacheProgram::start(&upstream);
    for _ in 0..2 {
        assert_eq!(get(program.address, &blob_path("a", b"")).body.unwrap(), b"");
        assert!(get(program.address, &blob_path("a", &blob)).body.as_ref() == Ok(&blob));
    }
}
