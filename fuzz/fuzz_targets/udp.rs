//! Any packet is read or refused as each of the four kinds; an announce that was read is written so that it reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retracker::bittorrent::NumWant;
use retracker::wire::udp::{self, Announce, Request};

fuzz_target!(|packet: &[u8]| {
    let _ = udp::transaction(packet);
    let _ = udp::parse_connected(packet);
    let _ = udp::parse_announced(packet, [127, 0, 0, 1].into());
    let _ = udp::parse_announced(packet, [0; 16].into());
    if let Some(read @ Request::Announce { connection, transaction, announce, url_data }) = &Request::parse(packet) {
        let numwant = match announce.numwant {
            NumWant::Default => return,
            NumWant::AtMost(numwant) => numwant,
        };
        let written = Announce {
            request: announce,
            numwant,
            ip: announce.claimed.ip.and_then(|ip| ip.to_string().parse().ok()),
            key: udp::key(announce.key.as_ref()),
            url_data,
        };
        let again = Request::parse(&udp::encode_announce(*connection, *transaction, &written));
        assert_eq!(again.as_ref(), Some(read));
    }
});
