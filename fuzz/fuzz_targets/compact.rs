//! Any compact list is read. Writing the peers gives the same bytes, without port 0 and incomplete entries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracker_protocol::PeerLists;
use tracker_protocol::compact;

fuzz_target!(|list: &[u8]| {
    let mut peers = PeerLists::default();
    compact::decode_v4(list).for_each(|(ip, port)| peers.push(ip, port, None));
    let mut written = Vec::new();
    compact::encode(&peers.v4, &mut written);
    let kept = list.as_chunks::<6>().0.iter().filter(|entry| entry[4..] != [0, 0]);
    assert_eq!(written, kept.flatten().copied().collect::<Vec<u8>>());

    let mut peers = PeerLists::default();
    compact::decode_v6(list).for_each(|(ip, port)| peers.push(ip, port, None));
    let mut written = Vec::new();
    compact::encode(&peers.v6, &mut written);
    let mapped = |entry: &[u8; 18]| entry[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    let kept = list.as_chunks::<18>().0.iter().filter(|entry| entry[16..] != [0, 0] && !mapped(entry));
    assert_eq!(written, kept.flatten().copied().collect::<Vec<u8>>());
});
