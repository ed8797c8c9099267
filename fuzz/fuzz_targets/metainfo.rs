//! Any bytes are a torrent file or are refused. A file that is read is written again with the same `info`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracker_protocol::metainfo::{self, MAX_METAINFO, Metainfo};

fuzz_target!(|bytes: &[u8]| {
    let Ok(read) = Metainfo::decode(bytes) else { return };
    assert!(bytes.len() <= MAX_METAINFO);
    let written = read.encode();
    let info = |file| metainfo::info(file).expect("bencode").expect("an info dictionary").bytes;
    assert_eq!(info(bytes), info(&written));
    assert_eq!(Metainfo::decode(&written).as_ref(), Ok(&read));
    assert_eq!(Metainfo::new(read.parts().clone()), Ok(read));
});
