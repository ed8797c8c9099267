//! 3. The scrape.

use insta::assert_snapshot;

use crate::dsl::{Server, announce, escape, id};

fn target(torrents: &[String]) -> String {
    let hashes: Vec<_> = torrents.iter().map(|torrent| format!("info_hash={}", escape(&id(torrent)))).collect();
    format!("/scrape?{}", hashes.join("&"))
}

#[test]
fn s3_1_every_hash_is_answered_unknown_ones_with_zeros() {
    let server = Server::start(&["-i", "77"]);
    server.announce(&announce("b", "seed").at("10.0.0.1").seed().event("completed"));
    server.announce(&announce("b", "leecher").at("10.0.0.2"));
    server.announce(&announce("b", "leecher").at("fd00::2"));
    let target = target(&["c", "b", "a"].map(str::to_owned));
    assert_snapshot!(server.get(&target).text(), @"d5:filesd20:a-------------------d8:completei0e10:downloadedi0e10:incompletei0ee20:b-------------------d8:completei1e10:downloadedi1e10:incompletei1ee20:c-------------------d8:completei0e10:downloadedi0e10:incompletei0eee5:flagsd20:min_request_intervali77eee");
    assert_eq!(server.get(format!("{target}&info_hash={}", escape(&id("b")))).text(), server.get(&target).text());
}

#[test]
fn s3_1_a_scrape_of_any_bytes() {
    let server = Server::start(&[]);
    let hash = *b"\x00\x01e:\xff\xfe\r\n \"<>&=;?%+#\x80";
    server.announce(&announce("t", "a").with("info_hash", escape(&hash)));
    let tree = server.get(format!("/scrape?info_hash={}", escape(&hash))).tree();
    assert_eq!(tree.get("files").unwrap().get(hash).unwrap().get("incomplete").unwrap().int(), 1);
}

#[test]
fn s3_1_as_many_hashes_as_transmission_sends_and_more() {
    let server = Server::start(&[]);
    let torrents: Vec<_> = (0..201).map(|n| format!("t{n}")).collect();
    let mut connection = server.connect();
    for many in [1, 60, 128, 200] {
        let tree = connection.get(target(&torrents[..many])).tree();
        let files = tree.get("files").unwrap();
        assert!(torrents[..many].iter().all(|torrent| files.get(id(torrent)).is_some()), "of {many}");
    }
    let refused = connection.get(target(&torrents)).string("failure reason");
    assert_eq!(refused.unwrap(), "info_hash is given more than 200 times in one scrape");
}

#[test]
fn s3_2_downloaded_counts_completed_events() {
    let server = Server::start(&[]);
    let downloaded = || {
        let tree = server.get(target(&["t".to_owned()])).tree();
        tree.get("files").unwrap().get(id("t")).unwrap().get("downloaded").unwrap().int()
    };
    server.announce(&announce("t", "already had it").at("10.0.0.1").seed().event("started"));
    assert_eq!(downloaded(), 0);
    for n in 1..=3 {
        server.announce(&announce("t", &n.to_string()).at("10.0.0.2").port(n).event("started"));
        server.announce(&announce("t", &n.to_string()).at("10.0.0.2").port(n).seed().event("completed"));
        assert_eq!(downloaded(), i64::from(n));
    }
    server.announce(&announce("t", "3").at("10.0.0.2").port(3).event("stopped"));
    assert_eq!(downloaded(), 3);
}

#[test]
fn s3_2_downloaders_when_there_are_partial_seeds() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a").at("10.0.0.1"));
    server.announce(&announce("t", "b").at("10.0.0.2").event("paused"));
    server.announce(&announce("t", "c").at("10.0.0.3").event("paused"));
    server.announce(&announce("t", "d").at("10.0.0.4").seed().event("paused"));
    assert_snapshot!(server.get(target(&["t".to_owned()])).text(), @"d5:filesd20:t-------------------d8:completei1e10:downloadedi0e11:downloadersi1e10:incompletei3eee5:flagsd20:min_request_intervali30eee");
}

#[test]
fn s3_3_the_url_is_the_announce_url_with_its_last_segment_replaced() {
    let server = Server::start(&[]);
    server.announce(&announce("t", "a"));
    let expected = server.get(target(&["t".to_owned()]));
    let hash = format!("info_hash={}", escape(&id("t")));
    for target in [
        format!("/scrape?passkey=secret&{hash}"),
        format!("/scrape?passkey=secret?{hash}"),
        format!("/scrape.php?{hash}"),
        format!("/scrape?;{hash}&"),
        format!("/scrape?{hash}&peer_id=short&port=x&uploaded=y"),
    ] {
        assert_eq!(server.get(&target).text(), expected.text(), "{target}");
    }
    let head = server.connect().head(format!("/scrape?{hash}"));
    assert_eq!((head.status, head.header("content-length")), (200, expected.header("content-length")));
}

#[test]
fn s3_4_a_scrape_of_everything_is_refused() {
    let server = Server::start(&[]);
    for target in ["/scrape", "/scrape?", "/scrape?&;", "/scrape?passkey=secret"] {
        let reason = server.get(target).string("failure reason");
        let expected = "info_hash is missing: this tracker does not serve a scrape of all its torrents";
        assert_eq!(reason.as_deref(), Some(expected), "{target}");
    }
}
