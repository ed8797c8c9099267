//! Any bytes in the log of records are a batch that can be written and read again, or an error. The store gets no more
//! peers than there were records.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use retracker::clock::Timestamp;
use retracker::share::{DecodedBatch, MAX_RECORDS, RecordBatch, ZoneMap, receive};
use retracker::store::{Store, StoreOptions};
use retracker::topology::Topology;

fuzz_target!(|bytes: &[u8]| {
    let Ok(DecodedBatch { batch, faults }) = RecordBatch::decode(bytes) else { return };
    assert!(batch.records.len() <= MAX_RECORDS);
    let mut written = Vec::new();
    batch.encode(&mut written);
    let again = RecordBatch::decode(&written).expect("what we write is well-formed");
    assert_eq!(again.batch, batch);
    assert!(written.len() <= bytes.len());
    if faults == again.faults {
        assert_eq!(written, bytes, "nothing was dropped, so nothing has changed");
    }

    let options =
        StoreOptions { peer_age: Duration::from_hours(1), announce_interval: Duration::from_secs(30), max_peers: 100 };
    let store = Store::new(options).shared();
    let topology = Topology::default();
    // The store applies the batch twice, as after a lost connection.
    for now in [1, 2] {
        let now = Timestamp::from_tenths(now);
        receive(&store, now, batch.age, &topology, &ZoneMap::default(), &batch);
        let peers: i64 = store.totals().peers.iter().flatten().sum();
        assert!(usize::try_from(peers).is_ok_and(|peers| peers <= batch.records.len().min(100)));
        assert!(store.totals().swarms <= 100);
    }
});
