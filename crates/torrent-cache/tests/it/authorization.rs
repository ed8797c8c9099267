//! Which clients may have what is on disk.

use std::time::{Duration, Instant};

use crate::client::{get, request};
use crate::program::CacheProgram;
use crate::upstream::{Asked, Content, RegistryAct, Scripted, blob_path, noise};

const GOOD: &str = "Basic dXNlcjpwYXNz";

/// Starts an upstream that gives a private repository to one user only.
fn private(content: Content) -> Scripted {
    Scripted::new(move |asked: &Asked| match asked.header("authorization") {
        Some(GOOD) => content.act(asked),
        Some(_) => RegistryAct::Reply(403, Vec::new(), Vec::new()),
        None => RegistryAct::Reply(401, vec![("www-authenticate", "Basic realm=\"here\"".to_owned())], b"{}".to_vec()),
    })
}

#[test]
fn a_hit_needs_the_right_of_each_client() {
    let (blob, manifest) = (noise(10_000, 1), b"{}");
    let content = Content::default().with_blob("p", &blob).with_manifest("p", "t", manifest);
    let upstream = private(content);
    let program = CacheProgram::start(&upstream);
    let good = [("authorization", GOOD)];
    let paths = [blob_path("p", &blob), "/v2/p/manifests/t".to_owned(), "/v2/".to_owned()];
    for path in &paths {
        assert_eq!(request(program.address, "GET", path, &good).status, 200, "{path}");
    }
    for path in &paths {
        let got = get(program.address, path);
        assert_eq!((got.status, got.header("www-authenticate")), (401, Some("Basic realm=\"here\"")), "{path}");
        if path != "/v2/" {
            assert_eq!(got.error().0, "UNAUTHORIZED", "{path}");
        }
        let got = request(program.address, "GET", path, &[("authorization", "Basic d3Jvbmc6eA==")]);
        assert_eq!(got.status, 403, "{path}");
        // skopeo and podman send this when they have no login.
        let got = request(program.address, "GET", path, &[("authorization", "Basic Og==")]);
        assert_eq!(got.status, 401, "{path}");
        assert_eq!(request(program.address, "GET", path, &[("if-none-match", "*")]).status, 401, "{path}");
        assert_eq!(request(program.address, "HEAD", path, &[]).status, 401, "{path}");
    }
    upstream.take();
    // The cache keeps the upstream's yes for a while, so it does not ask again.
    assert_eq!(request(program.address, "GET", &paths[0], &good).status, 200);
    assert_eq!(upstream.take(), [""; 0]);
    assert_ne!(program.metric("torrent_cache_kept_authorizations"), 0);
}

#[test]
fn one_repository_is_not_another() {
    let blob = noise(10_000, 2);
    let upstream = Content::default().with_blob("public", &blob).serve();
    let program = CacheProgram::start(&upstream);
    assert_eq!(get(program.address, &blob_path("public", &blob)).status, 200);
    let got = get(program.address, &blob_path("other", &blob));
    assert_eq!((got.status, got.error().0.as_str()), (404, "BLOB_UNKNOWN"));
}

#[test]
fn own_logins_speak_for_clients_without_credentials() {
    let blob = noise(10_000, 3);
    let upstream = private(Content::default().with_blob("p", &blob));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let login = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"dXNlcjpwYXNz\"}}}}}}", upstream.address);
    std::fs::write(&file, login).unwrap();
    let program = CacheProgram::with(&upstream, &[("REGISTRY_AUTH_FILE", file.to_str().unwrap())]);
    for path in ["/v2/", &blob_path("p", &blob), &blob_path("p", &blob)] {
        assert_eq!(get(program.address, path).status, 200, "{path}");
        // The cache does not replace the credentials of clients that send some.
        let got = request(program.address, "GET", path, &[("authorization", "Basic d3Jvbmc6eA==")]);
        assert_eq!(got.status, 403, "{path}");
    }
    // The cache does not lend its logins to web pages, whatever name the browser used for the cache.
    let (path, own) = (blob_path("p", &blob), program.address.to_string());
    for (headers, status) in [
        (&[("host", &*own)][..], 200),
        (&[("host", "rebound.example:8888")], 401),
        (&[("host", &own), ("origin", "http://rebound.example")], 401),
        (&[("host", &own), ("sec-fetch-site", "same-origin")], 401),
    ] {
        assert_eq!(request(program.address, "GET", &path, headers).status, status, "{headers:?}");
    }
    // In absolute form `Host` names the upstream and not the cache, so any name is allowed.
    let url = format!("{}{path}", upstream.origin());
    assert_eq!(request(program.address, "GET", &url, &[("host", "registry.example")]).status, 200);
    // The logins are for repositories, and not for other pages of the server.
    let page = format!("{}/api/users", upstream.origin());
    assert_eq!(get(program.address, &page).status, 401);
    program.terminate();
    let (status, log) = program.end();
    assert!(status.success());
    assert!(!log.iter().any(|line| line.contains("dXNlcjpwYXNz") || line.contains("user:pass")), "{log:#?}");
}

#[test]
fn what_was_public_is_served_while_upstream_fails_if_the_operator_says_so() {
    let (blob, manifest) = (noise(10_000, 4), b"{\"x\":1}");
    for (stale, expected) in [("0", 502), ("3600", 200)] {
        let content = Content::default().with_blob("a", &blob).with_manifest("a", "t", manifest);
        let upstream = content.serve();
        let program = CacheProgram::with(&upstream, &[("AUTH_STALE", stale)]);
        let paths = [blob_path("a", &blob), "/v2/a/manifests/t".to_owned()];
        for path in &paths {
            assert_eq!(get(program.address, path).status, 200, "{path}");
        }
        upstream.now(|_| RegistryAct::Reply(503, Vec::new(), Vec::new()));
        // The kept yes counts for this client for a minute. No yes is kept for another client.
        for path in &paths {
            assert_eq!(get(program.address, path).status, 200, "{path}");
            let got = request(program.address, "GET", path, &[("authorization", "Bearer other")]);
            assert_eq!(got.status, expected, "{path}, AUTH_STALE={stale}");
        }
        assert_eq!(get(program.address, "/v2/").status, 502);
    }
}

#[test]
fn what_was_public_is_no_longer_served_when_its_time_has_passed() {
    const STALE: Duration = Duration::from_secs(3);
    let blob = noise(10_000, 5);
    let upstream = Content::default().with_blob("a", &blob).serve();
    let program = CacheProgram::with(&upstream, &[("AUTH_STALE", "3")]);
    let path = blob_path("a", &blob);
    let ask = |token: u32| request(program.address, "GET", &path, &[("authorization", &format!("Bearer {token}"))]);
    assert_eq!(ask(0).status, 200);
    upstream.now(|_| RegistryAct::Raw(Vec::new()));
    // No client without credentials has got the blob yet, so the cache does not know that the blob is public.
    assert_eq!(ask(1).status, 502);
    let content = Content::default().with_blob("a", &blob);
    upstream.now(move |asked| content.act(asked));
    let begun = Instant::now();
    assert_eq!(get(program.address, &path).status, 200);
    upstream.now(|_| RegistryAct::Raw(Vec::new()));
    // Each request has another token, so no kept yes counts for it.
    let refused = (2..1_000_000).map(ask).find(|got| got.status != 200).unwrap();
    assert_eq!((refused.status, refused.error().0.as_str()), (502, "UNAVAILABLE"));
    assert!(begun.elapsed() >= STALE, "{:?}", begun.elapsed());
    program.line("is served, because it was public");
}

#[test]
fn sighup_makes_the_next_request_read_the_logins_again() {
    let blob = noise(10_000, 6);
    let upstream = private(Content::default().with_blob("p", &blob).with_blob("p", b"other"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let login = |auth: &str| format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{auth}\"}}}}}}", upstream.address);
    // This is the login of another user, whom the registry refuses.
    std::fs::write(&file, login("d3Jvbmc6eA==")).unwrap();
    let program = CacheProgram::with(&upstream, &[("REGISTRY_AUTH_FILE", file.to_str().unwrap())]);
    let path = blob_path("p", &blob);
    assert_eq!(get(program.address, &path).status, 403);
    std::fs::write(&file, login("dXNlcjpwYXNz")).unwrap();
    assert_eq!(get(program.address, &path).status, 403, "the login that was read is used for a minute");
    program.reload();
    program.line("the next requests log in with it");
    assert_eq!(get(program.address, &path).status, 200);
    std::fs::write(&file, "{").unwrap();
    program.reload();
    let line = program.line("the logins that were read before stay in use");
    assert!(line.contains("config.json: it is no JSON object (line 1)"), "{line}");
    assert_eq!(get(program.address, &blob_path("p", b"other")).status, 200);
}
