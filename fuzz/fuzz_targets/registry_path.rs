//! Any path is refused or goes upstream as the same request, inside `/v2/`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent_cache::registry::path::RegistryRequest;

fuzz_target!(|path: &str| {
    let listed = |host: &str| ["quay.io", "registry-1.docker.io"].contains(&host).then_some(());
    let Ok(request) = RegistryRequest::parse(path, listed) else { return };
    let upstream = request.path.to_string();
    assert!(upstream.starts_with("/v2/"));
    let (path, _) = upstream.split_once('?').unwrap_or((&upstream, ""));
    assert!(!path.contains("//") && path.split('/').all(|segment| !matches!(segment, "." | "..")));
    let again = RegistryRequest::<()>::parse(&upstream, |_| None).expect("our own path");
    assert_eq!(again.path, request.path);
});
