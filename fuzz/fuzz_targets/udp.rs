//! Any packet is read or refused as each of the four kinds. Writing an announce and reading it again gives the same
//! announce.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracker_protocol::NumWant;
use tracker_protocol::udp::{self, Announce, Request};
use tracker_protocol::via::Via;

fuzz_target!(|packet: &[u8]| {
    let _ = udp::transaction(packet);
    let _ = udp::parse_connected(packet);
    let _ = udp::parse_announced(packet, [127, 0, 0, 1].into());
    let _ = udp::parse_announced(packet, [0; 16].into());
    let read = Request::parse(packet);
    if let Some(Request::Scrape { info_hashes, .. }) = &read {
        assert!(info_hashes.len() <= udp::MAX_SCRAPED);
    }
    if let Some(Request::Announce { connection, transaction, announce, url_data, via }) = read {
        let numwant = match announce.numwant {
            NumWant::Default => return,
            NumWant::AtMost(numwant) => numwant,
        };
        let via = via.and("us");
        let written = Announce {
            request: &announce,
            numwant,
            ip: announce.claimed.ip.and_then(|ip| ip.to_string().parse().ok()),
            key: udp::key(announce.key.as_ref()),
            url_data: &url_data,
            via: via.as_bytes(),
        };
        let again = Request::parse(&udp::encode_announce(connection, transaction, &written));
        let via = Via::parse([via.as_bytes()]);
        assert_eq!(again, Some(Request::Announce { connection, transaction, announce, url_data, via }));
    }
});
