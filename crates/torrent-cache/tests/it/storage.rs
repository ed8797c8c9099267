//! The disk: restarts, no room, and the end of the process.

use crate::client::{Connection, get, request};
use crate::program::{CacheProgram, files};
use crate::upstream::{Content, RegistryAct, Scripted, blob_path, gate, head, noise};

#[test]
fn a_restart_keeps_blobs() {
    let folder = tempfile::tempdir().unwrap();
    let (blob, manifest) = (noise(100_000, 1), b"{}");
    let upstream = Content::default().with_blob("a", &blob).with_manifest("a", "t", manifest).serve();
    for round in 0..2 {
        let program = CacheProgram::at(folder.path(), &upstream, &[]);
        assert!(get(program.address, &blob_path("a", &blob)).body.as_ref() == Ok(&blob));
        assert_eq!(get(program.address, "/v2/a/manifests/t").body.unwrap(), manifest);
        let asked = upstream.take();
        assert_eq!(asked.iter().any(|asked| asked.starts_with("GET ")), round == 0, "{asked:?}");
        program.terminate();
        assert_eq!(program.end().0.code(), Some(0));
    }
}

#[test]
fn no_part_of_a_blob_that_the_disk_damaged_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let blob = noise(3 << 20, 1);
    let upstream = Content::default().with_blob("a", &blob).serve();
    let path = blob_path("a", &blob);
    let program = CacheProgram::at(folder.path(), &upstream, &[]);
    assert!(get(program.address, &path).body.as_ref() == Ok(&blob));
    program.settle();
    drop(program);
    let file = files(&folder.path().join("blobs")).remove(0);
    let mut wrong = blob.clone();
    wrong[2 << 20] ^= 1;
    std::fs::write(&file, &wrong).unwrap();
    // After a restart, a client asks for a range of the blob. The disk damaged the blob outside of this range.
    let program = CacheProgram::at(folder.path(), &upstream, &[]);
    let range = |range| request(program.address, "GET", &path, &[("range", range)]);
    let got = range("bytes=10-1000009");
    assert_eq!(got.status, 206);
    assert!(got.body.is_err_and(|begun| begun == blob[10..10 + begun.len()]));
    program.settle();
    assert!(!file.exists());
    let got = range("bytes=2097000-2098000");
    assert!(got.status == 206 && got.body.as_deref() == Ok(&blob[2_097_000..=2_098_000]));
}

#[test]
fn without_room_pulls_go_on() {
    let blob = noise(1 << 20, 2);
    let content = Content::default().with_blob("a", &blob).with_manifest("a", "t", b"{}");
    for quota in ["0", "64K"] {
        for chunked in [false, true] {
            let (served, content) = (blob.clone(), content.clone());
            let upstream = Scripted::new(move |asked| {
                if asked.method == "GET" && asked.offset().is_none() && chunked && asked.target.contains("blobs") {
                    let head = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
                    let size = format!("{:x}\r\n", served.len()).into_bytes();
                    return RegistryAct::Raw([head, size, served.clone(), b"\r\n0\r\n\r\n".to_vec()].concat());
                }
                content.act(asked)
            });
            let program = CacheProgram::with(&upstream, &[("STORAGE_QUOTA", quota)]);
            let what = format!("quota {quota}, chunked {chunked}");
            for _ in 0..2 {
                assert!(get(program.address, &blob_path("a", &blob)).body.as_ref() == Ok(&blob), "{what}");
                assert_eq!(get(program.address, "/v2/a/manifests/t").body.unwrap(), b"{}", "{what}");
            }
            // The cache may answer a range with the whole blob, because the blob is not on disk.
            let got = request(program.address, "GET", &blob_path("a", &blob), &[("range", "bytes=5-9")]);
            assert!(got.status == 200 && got.body.as_ref() == Ok(&blob) || got.status == 206, "{what}");
            assert_eq!(program.files("blobs").len(), 0, "{what}");
        }
    }
}

#[test]
fn without_room_a_wrong_blob_is_not_complete() {
    let blob = noise(100_000, 3);
    let mut wrong = blob.clone();
    wrong[99_999] ^= 1;
    let upstream = Scripted::new(move |_| RegistryAct::Reply(200, Vec::new(), wrong.clone()));
    let program = CacheProgram::with(&upstream, &[("STORAGE_QUOTA", "0")]);
    let got = get(program.address, &blob_path("a", &blob));
    assert!(got.body.is_err());
}

#[test]
fn the_oldest_goes_for_the_newest() {
    let blobs: Vec<_> = (0..4).map(|seed| noise(40_000, 10 + seed)).collect();
    let content = blobs.iter().fold(Content::default(), |content, blob| content.with_blob("a", blob));
    let upstream = content.serve();
    let program = CacheProgram::with(&upstream, &[("STORAGE_QUOTA", "100000")]);
    for blob in &blobs {
        assert!(get(program.address, &blob_path("a", blob)).body.as_ref() == Ok(blob));
        program.settle();
    }
    assert!(program.files("blobs").len() <= 2);
    assert_ne!(program.metric("torrent_cache_evictions_total"), 0);
}

#[test]
fn a_lease_ends_with_the_process() {
    let blob = noise(1 << 20, 4);
    let (_key, gate) = gate();
    let (mut gate, served) = (Some(gate), blob.clone());
    let upstream = Scripted::new(move |_| match gate.take() {
        Some(gate) => RegistryAct::Gated(head(200, &[], served.len()), gate, Vec::new()),
        None => RegistryAct::Raw(Vec::new()),
    });
    let tracker = Scripted::new(|asked| {
        let (status, body) = match (asked.method.as_str(), asked.target.as_str()) {
            ("POST", "/torrents/missing") => (200, "[]"),
            ("POST", target) if target.starts_with("/leases/") => (201, r#"{"generation": 7, "ttl": 15}"#),
            ("GET", _) => (404, "{}"),
            _ => (204, ""),
        };
        RegistryAct::Reply(status, vec![("X-Boot", "a".to_owned())], body.into())
    });
    let program = CacheProgram::with(
        &upstream,
        &[
            ("TRACKER", &format!("http://{}/announce", tracker.address)),
            ("ETCD_HOST", "127.0.0.1"),
            ("ETCD_PORT", &tracker.address.port().to_string()),
            // The cache takes the first free port of this range.
            ("TORRENT_FIRST_PORT", "10000"),
            ("TORRENT_LAST_PORT", "60000"),
        ],
    );
    program.line("the tracker answers");
    let mut client = Connection::open(program.address);
    client.send("GET", &blob_path("a", &blob), &[]);
    assert_eq!(client.head().status, 200);
    program.terminate();
    assert_eq!(program.end().0.code(), Some(0));
    let asked = tracker.take();
    assert!(asked.iter().any(|asked| asked.starts_with("POST /leases/")), "{asked:?}");
    assert!(asked.iter().any(|asked| asked.starts_with("DELETE /leases/") && asked.ends_with("/7")), "{asked:?}");
}

#[test]
fn a_stop_signal_lets_transfers_finish() {
    let folder = tempfile::tempdir().unwrap();
    let blob = noise(1 << 20, 4);
    let (key, gate) = gate();
    let (mut gate, served) = (Some(gate), blob.clone());
    let upstream = Scripted::new(move |_| match gate.take() {
        Some(gate) => {
            let first = [head(200, &[], served.len()), served[..1000].to_vec()].concat();
            RegistryAct::Gated(first, gate, served[1000..].to_vec())
        }
        None => RegistryAct::Raw(Vec::new()),
    });
    let program = CacheProgram::at(folder.path(), &upstream, &[]);
    let mut idle = Connection::open(program.address);
    assert_eq!(idle.request("GET", "/health", &[]).status, 200);
    let mut client = Connection::open(program.address);
    client.send("GET", &blob_path("a", &blob), &[]);
    assert_eq!(client.head().status, 200);
    let begun = client.bytes(999);
    program.terminate();
    program.line("stopping");
    drop(key);
    let rest = client.rest(blob.len(), begun.len()).unwrap();
    assert!([begun, rest].concat() == blob);
    let (status, _) = program.end();
    assert_eq!(status.code(), Some(0));
    assert_eq!(files(&folder.path().join("incoming")).len(), 0);
}

#[test]
fn two_programs_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Content::default().serve();
    let _program = CacheProgram::at(folder.path(), &upstream, &[]);
    let output = crate::program::command().env("PORT", "0").env("STORAGE", folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("another torrent-cache uses this folder"), "{text}");
}
