//! The status page.

use serde_json::{Value, json};

use crate::client::{Connection, get};
use crate::program::CacheProgram;
use crate::upstream::{Content, RegistryAct, Scripted, blob_path, gate, head, noise};

#[test]
fn the_status_page_is_for_browsers_and_loads_nothing() {
    let program = CacheProgram::start(&Scripted::new(|_| RegistryAct::Raw(Vec::new())));
    for path in ["/", "/status"] {
        let page = get(program.address, path);
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
        assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert_eq!(page.header("cache-control"), Some("no-store"));
        let text = page.text();
        assert!(text.contains("http-equiv=\"refresh\"") && text.contains("None at the moment"), "{text}");
        for loads in ["<script", "src=", "href=\"http", "url(", "@import"] {
            assert!(!text.contains(loads), "{loads} in {text}");
        }
    }
    let head = Connection::open(program.address).request("HEAD", "/status", &[]);
    assert_eq!(head.status, 200);
    assert_eq!(Connection::open(program.address).request("POST", "/status", &[]).status, 405);
}

#[test]
fn a_transfer_is_seen_while_it_lasts() {
    let blob = noise(100_000, 1);
    let path = blob_path("team/app", &blob);
    let (open, gate) = gate();
    let (first, then) = blob.split_at(60_000);
    let mut act = Some(RegistryAct::Gated([head(200, &[], blob.len()), first.to_vec()].concat(), gate, then.to_vec()));
    let content = Content::default().with_blob("team/app", &blob);
    let upstream = Scripted::new(move |asked| match act.take_if(|_| asked.target.contains("/blobs/")) {
        Some(act) => act,
        None => content.act(asked),
    });
    let program = CacheProgram::start(&upstream);
    let mut client = Connection::open(program.address);
    client.send("GET", &path, &[]);
    let beginning = client.head();
    assert_eq!(beginning.status, 200);
    client.bytes(50_000);
    let status = || serde_json::from_str::<Value>(&get(program.address, "/api/v1/status").text()).unwrap();
    let seen = status();
    let transfer = &seen["transfers"][0];
    assert_eq!(transfer["name"], json!(path.rsplit('/').next().unwrap()));
    assert_eq!(transfer["upstream"], json!(format!("{} team/app", upstream.origin())));
    assert_eq!((&transfer["length"], &transfer["readers"]), (&json!(100_000), &json!(1)));
    assert_eq!(transfer["have"], transfer["from_upstream"]);
    assert_eq!(transfer["from_peers"], json!(0));
    assert!(get(program.address, "/").text().contains("1 client; "));
    open.send(()).unwrap();
    client.rest(100_000, 50_000).unwrap();
    // A second client gets the blob from disk.
    assert_eq!(get(program.address, &path).status, 200);
    program.settle();
    let seen = status();
    assert_eq!(seen["transfers"], json!([]));
    let bytes = json!({"sent": 200_000, "from_upstream": 100_000, "from_peers": 0, "to_peers": 0, "saved": 100_000});
    assert_eq!(seen["bytes"], bytes);
    assert_eq!(seen["disk"]["blobs"], json!(1));
    assert_eq!(program.metric("torrent_cache_saved_bytes"), 100_000);
    assert_eq!(program.metric("torrent_cache_received_bytes_total{source=\"upstream\"}"), 100_000);
}

#[test]
fn web_pages_of_other_sites_read_nothing() {
    let program = CacheProgram::start(&Scripted::new(|_| RegistryAct::Raw(Vec::new())));
    let status = |headers: &[(&str, &str)]| {
        let of = |path| Connection::open(program.address).request("GET", path, headers).status;
        assert_eq!(of("/"), of("/api/v1/status"));
        of("/status")
    };
    for allowed in [
        &[("host", "127.0.0.1:8888")][..],
        &[("host", "localhost"), ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")],
        &[("host", "localhost"), ("sec-fetch-site", "same-origin")],
        &[("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
    ] {
        assert_eq!(status(allowed), 200, "{allowed:?}");
    }
    for refused in [
        &[("host", "evil.example")][..],
        &[("host", "evil.example"), ("sec-fetch-site", "same-origin")],
        &[("host", "localhost"), ("origin", "http://evil.example")],
        &[("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
        &[("host", "localhost"), ("sec-fetch-site", "same-site")],
    ] {
        assert_eq!(status(refused), 403, "{refused:?}");
    }
}
