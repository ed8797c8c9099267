//! Any query is parsed or refused. A parsed announce can be sent upstream and has the same meaning there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracker_protocol::NumWant;
use tracker_protocol::{announce, scrape, upstream};

fuzz_target!(|query: &[u8]| {
    let _ = scrape::parse(query);
    let (request, _) = match announce::parse(query) {
        Ok(parsed) => parsed,
        Err(refusal) => {
            announce::encode_refusal(&refusal, 30);
            return;
        }
    };
    let mut again = String::new();
    upstream::put_query(&mut again, &request, 50, request.claimed.ip, None);
    let (sent, _) = announce::parse(again.as_bytes()).expect("what we send is well-formed");
    assert_eq!(sent.info_hash, request.info_hash);
    assert_eq!(sent.peer_id, request.peer_id);
    assert_eq!(sent.port, request.port);
    assert_eq!((sent.uploaded, sent.downloaded), (request.uploaded, request.downloaded));
    assert_eq!(sent.event, request.event);
    assert_eq!(sent.key, request.key);
    assert_eq!(sent.claimed.ip, request.claimed.ip);
    assert_eq!(sent.numwant, NumWant::AtMost(50));
});
