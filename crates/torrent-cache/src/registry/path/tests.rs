use proptest::prelude::*;

use super::*;

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Lists quay.io, Docker Hub and a registry with a port.
fn listed(host: &str) -> Option<String> {
    ["quay.io", "registry-1.docker.io", "10.0.0.5:5000"].contains(&host).then(|| host.to_owned())
}

fn parse(path: &str) -> Result<RegistryRequest<String>, PathRefusal> {
    RegistryRequest::parse(path, listed)
}

/// Reads a request. Returns its upstream, and the path that goes there.
fn asked(path: &str) -> (Option<String>, String) {
    let request = parse(path).unwrap_or_else(|refusal| panic!("{path}: {refusal}"));
    (request.upstream, request.path.to_string())
}

#[track_caller]
fn refused(path: &str) -> PathRefusal {
    match parse(path) {
        Err(refusal) => refusal,
        Ok(request) => panic!("{path}: {request:?}"),
    }
}

#[test]
fn reads_go_upstream_as_they_came() {
    for path in [
        "/v2/",
        &format!("/v2/library/alpine/blobs/sha256:{HEX}"),
        &format!("/v2/a/b/c/blobs/sha512:{HEX}{HEX}"),
        "/v2/library/alpine/manifests/latest",
        &format!("/v2/alpine/manifests/sha256:{HEX}"),
        "/v2/alpine/tags/list",
        "/v2/alpine/tags/list?n=10&last=3.1",
        &format!("/v2/alpine/referrers/sha256:{HEX}?artifactType=application%2Fspdx%2Bjson"),
    ] {
        assert_eq!(asked(path), (None, path.to_owned()));
    }
    assert_eq!(asked("/v2"), (None, "/v2/".to_owned()));
}

#[test]
fn words_of_the_specification_are_allowed_in_names() {
    let request = parse("/v2/a/manifests/b/blobs/manifests/uploads").unwrap();
    assert_eq!(request.path.repository().map(RepositoryName::as_str), Some("a/manifests/b/blobs"));
    for path in
        ["/v2/tags/manifests/list", "/v2/tags/tags/list", "/v2/a/tags/list/manifests/b", "/v2/uploads/manifests/x"]
    {
        assert_eq!(asked(path), (None, path.to_owned()));
    }
}

#[test]
fn only_tag_lists_and_referrers_pass_a_query_on() {
    assert_eq!(asked("/v2/a/manifests/b?n=1"), (None, "/v2/a/manifests/b".to_owned()));
    assert_eq!(asked("/v2/?x"), (None, "/v2/".to_owned()));
    assert_eq!(asked("/v2/a/tags/list?"), (None, "/v2/a/tags/list".to_owned()));
}

#[test]
fn the_namespace_names_the_upstream() {
    let quay = Some("quay.io".to_owned());
    assert_eq!(asked("/v2/a/manifests/b?ns=quay.io"), (quay.clone(), "/v2/a/manifests/b".to_owned()));
    assert_eq!(asked("/v2/a/tags/list?n=1&ns=quay.io"), (quay, "/v2/a/tags/list?n=1".to_owned()));
    let port = Some("10.0.0.5:5000".to_owned());
    assert_eq!(asked("/v2/a/manifests/b?ns=10.0.0.5%3A5000"), (port, "/v2/a/manifests/b".to_owned()));
    let hub = Some("registry-1.docker.io".to_owned());
    assert_eq!(asked("/v2/library/a/manifests/b?ns=docker.io"), (hub, "/v2/library/a/manifests/b".to_owned()));
    assert_eq!(refused("/v2/a/manifests/b?ns=evil.example"), PathRefusal::NotListed("evil.example".to_owned()));
    assert_eq!(refused("/v2/a/manifests/b?ns="), PathRefusal::NotListed(String::new()));
    assert_eq!(refused("/v2/a/manifests/b?ns=quay.io&ns=quay.io"), PathRefusal::Query(QueryFault::Namespace));
}

#[test]
fn a_listed_first_component_names_the_upstream() {
    let quay = Some("quay.io".to_owned());
    assert_eq!(asked("/v2/quay.io/a/manifests/b"), (quay.clone(), "/v2/a/manifests/b".to_owned()));
    assert_eq!(asked("/v2/quay.io/"), (quay.clone(), "/v2/".to_owned()));
    assert_eq!(asked("/v2/quay.io"), (quay.clone(), "/v2/".to_owned()));
    let port = Some("10.0.0.5:5000".to_owned());
    assert_eq!(asked("/v2/10.0.0.5:5000/a/manifests/b"), (port, "/v2/a/manifests/b".to_owned()));
    let hub = Some("registry-1.docker.io".to_owned());
    assert_eq!(asked("/v2/docker.io/library/a/manifests/b"), (hub, "/v2/library/a/manifests/b".to_owned()));
    // The name of a registry that is not listed is part of the repository's name.
    assert_eq!(asked("/v2/ghcr.io/a/manifests/b"), (None, "/v2/ghcr.io/a/manifests/b".to_owned()));
    // Only one component is split off.
    assert_eq!(asked("/v2/quay.io/quay.io/a/manifests/b"), (quay, "/v2/quay.io/a/manifests/b".to_owned()));
}

#[test]
fn the_namespace_decides_and_its_repetition_in_the_path_is_no_name() {
    let quay = Some("quay.io".to_owned());
    assert_eq!(asked("/v2/quay.io/a/manifests/b?ns=quay.io"), (quay.clone(), "/v2/a/manifests/b".to_owned()));
    // The registry may itself mirror other registries.
    assert_eq!(asked("/v2/docker.io/a/manifests/b?ns=quay.io"), (quay, "/v2/docker.io/a/manifests/b".to_owned()));
    let hub = Some("registry-1.docker.io".to_owned());
    assert_eq!(asked("/v2/docker.io/a/manifests/b?ns=docker.io"), (hub, "/v2/a/manifests/b".to_owned()));
}

#[test]
fn pushes_and_the_catalogue_are_named_as_what_they_are() {
    for path in [
        "/v2/a/blobs/uploads/",
        "/v2/a/blobs/uploads",
        "/v2/a/blobs/uploads/uuid-1",
        "/v2/a/b/blobs/uploads/x?digest=y",
    ] {
        assert_eq!(refused(path), PathRefusal::Upload, "{path}");
    }
    assert_eq!(refused("/v2/_catalog"), PathRefusal::Catalog);
    assert_eq!(refused("/v2/_catalog?n=10"), PathRefusal::Catalog);
}

#[test]
fn hostile_paths_are_refused() {
    let digest = format!("sha256:{HEX}");
    for path in [
        "",
        "/",
        "v2/",
        "/v1/",
        "/v2x",
        "/V2/",
        "//v2/",
        "/v2//",
        "/v2/../",
        "/v2/a",
        "/v2/a/",
        "/v2/a/blobs",
        "/v2/a/blobs/x/y",
        "/v2/a/tags",
        "/v2/a/tags/",
        "/v2/a/tags/list/",
        "/v2/a/tags/list2",
        "/v2/token",
        "/%76%32/",
        "/v2/a/BLOBS/x",
        "http://other.example/v2/",
        "/v2/a/blobs/./x",
    ] {
        assert_eq!(refused(path), PathRefusal::Unknown, "{path}");
    }
    for name in [
        "", ".", "..", "a/..", "../b", "a//b", "/a", "a/", "A", "a%2Fb", "a%00", "a\0", "a\\b", "a b", "a@b", "a:80",
        "..%2f",
    ] {
        assert_eq!(refused(&format!("/v2/{name}/blobs/{digest}")), PathRefusal::Name(NotARepositoryName), "{name:?}");
    }
    for bad in [
        &HEX[1..],
        "sha256:",
        &digest.to_uppercase(),
        &format!("{digest}0"),
        "..",
        "",
        "sha256%3Aab",
        &format!("{digest}%00"),
    ] {
        assert_eq!(refused(&format!("/v2/a/blobs/{bad}")), PathRefusal::Digest(NotAContentDigest), "{bad}");
    }
    for bad in ["", "..", "a%2e", "a\0", "-a", &"a".repeat(129)] {
        assert_eq!(refused(&format!("/v2/a/manifests/{bad}")), PathRefusal::Tag(NotATag), "{bad}");
    }
    assert_eq!(refused("/v2/a/manifests/sha256:00"), PathRefusal::Digest(NotAContentDigest));
    assert_eq!(refused(&format!("/v2/{}/manifests/b", "a".repeat(256))), PathRefusal::Name(NotARepositoryName));
    assert_eq!(refused(&format!("/v2/{}/manifests/b", "a/".repeat(1000))), PathRefusal::TooLong);
    assert_eq!(refused("/v2/a/tags/list?n=1#x"), PathRefusal::Query(QueryFault::NotAQuery));
}

proptest! {
    #[test]
    fn what_goes_upstream_is_read_the_same_again(path in "/v2/([a-z.:%?=&_/0-9-]|blobs/|manifests/|tags/list|referrers/|sha256:|ns=quay.io|quay.io/|\\.\\./){0,12}") {
        if let Ok(request) = parse(&path) {
            let upstream = request.path.to_string();
            let again = RegistryRequest::<()>::parse(&upstream, |_| None).unwrap();
            prop_assert_eq!(&again.path, &request.path);
            // The query is passed on unchanged, because only the path chooses the resource.
            let path = upstream.split('?').next().unwrap_or_default();
            prop_assert!(path.starts_with("/v2/") && !path.contains("//") && !path.split('/').any(|part| part == ".."));
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(path: String) {
        let _ = parse(&path);
        let _ = parse(&format!("/v2/{path}"));
    }
}
