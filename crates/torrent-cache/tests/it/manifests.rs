//! Manifests, and all other requests to a registry that are not for blobs.

use torrent_cache::digest::Digest;

use crate::client::{Connection, get, request};
use crate::program::CacheProgram;
use crate::upstream::{Content, MANIFEST, RegistryAct, Scripted, gate, head, noise};

#[test]
fn a_tag_that_moves_is_followed() {
    let (old, new) = (b"{\"old\":1}".as_slice(), b"{\"new\":1}".as_slice());
    let upstream = Content::default().with_manifest("a", "t", old).serve();
    let program = CacheProgram::start(&upstream);
    assert_eq!(get(program.address, "/v2/a/manifests/t").body.unwrap(), old);
    let content = Content::default().with_manifest("a", "t", new);
    upstream.now(move |asked| content.act(asked));
    assert_eq!(get(program.address, "/v2/a/manifests/t").body.unwrap(), new);
    let digest = Digest::of(new);
    upstream.take();
    let got = request(program.address, "HEAD", "/v2/a/manifests/t", &[]);
    assert_eq!(got.header("docker-content-digest"), Some(&*digest.to_string()));
    assert_eq!((got.header("content-length"), got.header("content-type")), (Some("9"), Some(MANIFEST)));
    assert_eq!(get(program.address, &format!("/v2/a/manifests/{digest}")).body.unwrap(), new);
    assert_eq!(upstream.take(), ["HEAD /v2/a/manifests/t"]);
    let got = request(program.address, "GET", "/v2/a/manifests/t", &[("if-none-match", &format!("\"{digest}\""))]);
    assert_eq!(got.status, 304);
}

#[test]
fn a_tag_that_upstream_limits_means_what_it_meant() {
    let manifest = b"{\"old\":1}";
    let upstream = Content::default().with_manifest("a", "t", manifest).serve();
    for (stale, status) in [("86400", 200), ("0", 429)] {
        let program = CacheProgram::with(&upstream, &[("TAG_STALE", stale)]);
        let content = Content::default().with_manifest("a", "t", manifest);
        upstream.now(move |asked| content.act(asked));
        assert_eq!(get(program.address, "/v2/a/manifests/t").status, 200);
        upstream.now(|asked| match asked.method.as_str() {
            // The tag names another manifest now, and the upstream refuses requests for that manifest.
            "HEAD" => {
                RegistryAct::Reply(200, vec![("docker-content-digest", Digest::of(b"new").to_string())], Vec::new())
            }
            _ => RegistryAct::Reply(429, Vec::new(), Vec::new()),
        });
        let got = get(program.address, "/v2/a/manifests/t");
        assert_eq!(got.status, status, "TAG_STALE={stale}");
        assert_eq!(got.header("retry-after").is_some(), status == 429);
    }
}

#[test]
fn clients_that_ask_for_the_same_manifest_at_once_are_one_fetch() {
    let manifest = b"{\"schemaVersion\":2}";
    let content = Content::default().with_manifest("a", "t", manifest);
    let (key, gate) = gate();
    let mut gate = Some(gate);
    let headers = vec![("docker-content-digest", Digest::of(manifest).to_string())];
    // The requests with the two logins may arrive in any order.
    let upstream =
        Scripted::new(move |asked| match gate.take_if(|_| asked.header("authorization") == Some("Bearer 1")) {
            Some(gate) => RegistryAct::Gated(head(200, &headers, manifest.len()), gate, manifest.to_vec()),
            None => content.act(asked),
        });
    let program = CacheProgram::start(&upstream);
    let mut clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = Connection::open(program.address);
            client.send("GET", "/v2/a/manifests/t", &[("authorization", "Bearer 1")]);
            client
        })
        .collect();
    for _ in 1..clients.len() {
        program.line("waits for the fetch of another client");
    }
    // A client with other credentials does not wait for this fetch.
    let got = request(program.address, "GET", "/v2/a/manifests/t", &[("authorization", "Bearer 2")]);
    assert_eq!(got.body.as_deref(), Ok(&manifest[..]));
    drop(key);
    for client in &mut clients {
        assert_eq!(client.reply(false).body.as_deref(), Ok(&manifest[..]));
    }
    let asked = upstream.take_all();
    let mut asked: Vec<_> = asked.iter().map(|asked| (asked.method.as_str(), asked.header("authorization"))).collect();
    asked.sort_unstable();
    assert_eq!(asked, [("GET", Some("Bearer 1")), ("GET", Some("Bearer 2"))]);
}

#[test]
fn a_manifest_that_breaks_off_is_asked_for_once_more() {
    let manifest = b"{\"schemaVersion\":2}";
    for (breaks, status) in [(1, 200), (2, 502)] {
        let content = Content::default().with_manifest("a", "t", manifest);
        let mut left = breaks;
        let upstream = Scripted::new(move |asked| {
            if left == 0 {
                return content.act(asked);
            }
            left -= 1;
            RegistryAct::Raw([head(200, &[], manifest.len()), manifest[..5].to_vec()].concat())
        });
        let program = CacheProgram::start(&upstream);
        let got = get(program.address, "/v2/a/manifests/t");
        assert_eq!(got.status, status);
        assert!(status != 200 || got.body.as_deref() == Ok(&manifest[..]));
        assert_eq!(upstream.take(), ["GET /v2/a/manifests/t"; 2]);
    }
}

#[test]
fn clients_with_many_accepts_make_one_file_of_a_tag() {
    let upstream = Content::default().with_manifest("a", "t", b"{}").serve();
    let program = CacheProgram::start(&upstream);
    for number in 0..40 {
        let accept = format!("application/{number}");
        assert_eq!(request(program.address, "GET", "/v2/a/manifests/t", &[("accept", &accept)]).status, 200);
    }
    assert_eq!(program.files("tags").len(), 1);
}

#[test]
fn a_registry_through_a_proxy_is_cached_too() {
    let blob = noise(1000, 2);
    let (here, there) = (Content::default().serve(), Content::default().with_blob("a", &blob).serve());
    let program = CacheProgram::with(&here, &[("UPSTREAMS", &there.origin())]);
    let url = format!("{}{}", there.origin(), crate::upstream::blob_path("a", &blob));
    for _ in 0..2 {
        assert!(get(program.address, &url).body.as_ref() == Ok(&blob));
        program.settle();
    }
    assert_eq!(there.take().len(), 1);
}

#[test]
fn each_accept_has_its_own_manifest() {
    let upstream = Scripted::new(|asked| {
        let body = asked.headers.iter().filter(|(name, _)| name == "accept").map(|(_, value)| value.as_str());
        let body = body.collect::<Vec<_>>().join("|").into_bytes();
        let digest = Digest::of(&body).to_string();
        RegistryAct::Reply(200, vec![("content-type", "x/y".to_owned()), ("docker-content-digest", digest)], body)
    });
    let program = CacheProgram::start(&upstream);
    for _ in 0..2 {
        let got = request(program.address, "GET", "/v2/a/manifests/t", &[("accept", "a/b"), ("accept", "c/d, e/f")]);
        assert_eq!(got.text(), "a/b|c/d, e/f");
        let got = request(program.address, "GET", "/v2/a/manifests/t", &[("accept", "c/d")]);
        assert_eq!(got.text(), "c/d");
    }
}

#[test]
fn a_wrong_manifest_is_neither_given_nor_kept() {
    let manifest = b"{\"right\":1}";
    let digest = Digest::of(manifest);
    let right = Content::default().with_manifest("a", "t", manifest);
    let upstream = Scripted::new(move |_| {
        RegistryAct::Reply(200, vec![("docker-content-digest", digest.to_string())], b"{\"wrong\":1}".to_vec())
    });
    let program = CacheProgram::start(&upstream);
    for path in [format!("/v2/a/manifests/{digest}"), "/v2/a/manifests/t".to_owned()] {
        let got = get(program.address, &path);
        assert_eq!(got.status, 502, "{path}");
        assert!(got.error().1.contains("instead of"), "{path}");
    }
    assert_eq!(program.files("manifests").len(), 0);
    upstream.now(move |asked| right.act(asked));
    assert_eq!(get(program.address, &format!("/v2/a/manifests/{digest}")).body.unwrap(), manifest);
}

#[test]
fn tags_referrers_and_other_digests_are_passed_through() {
    let upstream = Scripted::new(|asked| {
        let link = "</v2/a/tags/list?n=1&last=x>; rel=\"next\"".to_owned();
        RegistryAct::Reply(
            200,
            vec![("link", link), ("content-type", "a/b".to_owned())],
            asked.target.clone().into_bytes(),
        )
    });
    let program = CacheProgram::start(&upstream);
    let sha256 = Digest::of(b"");
    let sha512 = format!("sha512:{}", "ab".repeat(64));
    for path in [
        "/v2/a/tags/list?n=1".to_owned(),
        format!("/v2/a/referrers/{sha256}?artifactType=x/y"),
        format!("/v2/a/blobs/{sha512}"),
        format!("/v2/a/manifests/{sha512}"),
        "/v2/".to_owned(),
    ] {
        for _ in 0..2 {
            let got = get(program.address, &path);
            assert_eq!((got.status, got.text()), (200, path.clone()));
            assert!(got.header("link").is_some(), "{path}");
            assert_eq!(upstream.take(), [format!("GET {path}")]);
        }
    }
}

#[test]
fn requests_name_their_registry() {
    let blob = noise(1000, 1);
    let here = Content::default().serve();
    let there = Content::default().with_blob("x/y", &blob).serve();
    let program = CacheProgram::with(&here, &[("UPSTREAMS", &there.origin())]);
    let host = there.address.to_string();
    let digest = Digest::of(&blob);
    for path in [format!("/v2/x/y/blobs/{digest}?ns={host}"), format!("/v2/{host}/x/y/blobs/{digest}")] {
        assert!(get(program.address, &path).body.as_ref() == Ok(&blob), "{path}");
    }
    let got = get(program.address, &format!("/v2/x/y/blobs/{digest}?ns=quay.io"));
    assert_eq!((got.status, got.error().0.as_str()), (403, "DENIED"));
    assert!(got.error().1.contains("UPSTREAMS"));
    assert_eq!(here.take(), [""; 0]);
}

#[test]
fn a_registry_without_head_is_asked_with_get() {
    let (blob, manifest) = (noise(1000, 3), b"{\"x\":1}");
    let content = Content::default().with_blob("a", &blob).with_manifest("a", "t", manifest);
    let upstream = Scripted::new(move |asked| match asked.method.as_str() {
        "HEAD" => RegistryAct::Reply(405, Vec::new(), Vec::new()),
        _ => content.act(asked),
    });
    let program = CacheProgram::start(&upstream);
    let digest = Digest::of(manifest);
    for round in 0..2 {
        assert!(get(program.address, &crate::upstream::blob_path("a", &blob)).body.as_ref() == Ok(&blob));
        program.settle();
        for path in ["/v2/a/manifests/t".to_owned(), format!("/v2/a/manifests/{digest}")] {
            let got = request(program.address, "GET", &path, &[("authorization", &format!("Bearer {round}"))]);
            assert_eq!(got.body.as_deref(), Ok(&manifest[..]), "{path}");
        }
    }
    let got = request(program.address, "HEAD", "/v2/a/manifests/t", &[]);
    assert_eq!((got.status, got.header("docker-content-digest")), (200, Some(&*digest.to_string())));
}

#[test]
fn the_next_page_is_asked_of_the_same_registry() {
    let here = Content::default().serve();
    let link = "</v2/a/tags/list?n=1&last=x>; rel=\"next\"";
    let there = Scripted::new(move |_| RegistryAct::Reply(200, vec![("link", link.to_owned())], b"{}".to_vec()));
    let program = CacheProgram::with(&here, &[("UPSTREAMS", &there.origin())]);
    let host = there.address;
    let encoded = host.to_string().replace(':', "%3A");
    for (path, expected) in [
        (format!("/v2/{host}/a/tags/list?n=1"), format!("</v2/{host}/a/tags/list?n=1&last=x>; rel=\"next\"")),
        (format!("/v2/a/tags/list?ns={host}&n=1"), format!("</v2/a/tags/list?n=1&last=x&ns={encoded}>; rel=\"next\"")),
    ] {
        let got = get(program.address, &path);
        assert_eq!(got.header("link"), Some(&*expected));
        let next = expected.split(['<', '>']).nth(1).unwrap();
        there.take();
        assert_eq!(get(program.address, next).status, 200);
        assert_eq!(there.take(), ["GET /v2/a/tags/list?n=1&last=x"]);
    }
    let url = format!("{}/v2/a/tags/list", there.origin());
    assert_eq!(get(program.address, &url).header("link"), Some(link));
}

#[test]
fn a_manifest_of_schema_1_passes_uncached() {
    let digest = Digest::of(b"the text without its signatures");
    let body = b"{\"schemaVersion\":1,\"signatures\":[]}";
    let upstream = Scripted::new(move |_| {
        let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws".to_owned();
        let headers = vec![("content-type", media_type), ("docker-content-digest", digest.to_string())];
        RegistryAct::Reply(200, headers, body.to_vec())
    });
    let program = CacheProgram::start(&upstream);
    for path in ["/v2/a/manifests/t".to_owned(), format!("/v2/a/manifests/{digest}")] {
        for _ in 0..2 {
            let got = get(program.address, &path);
            assert_eq!((got.status, got.body.as_deref()), (200, Ok(&body[..])), "{path}");
            assert_eq!(got.header("docker-content-digest"), Some(&*digest.to_string()));
            assert_eq!(upstream.take(), [format!("GET {path}")]);
        }
    }
    assert_eq!(program.files("manifests").len(), 0);
}
