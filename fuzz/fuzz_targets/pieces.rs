//! Whatever comes on a connection is answered alike, however the network cuts it. The first eight bytes are where.
#![no_main]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use retracker::bittorrent::Views;
use retracker::frontend::Context;
use retracker::frontend::client_address::{ClientAddress, ClientAddressOptions};
use retracker::frontend::connections::{ConnectionLimits, Connections};
use retracker::frontend::hosts::Hosts;
use retracker::frontend::http::rehearsal;
use retracker::metrics::Metrics;
use retracker::store::{Store, StoreOptions};
use retracker::tracker::{Policy, Tracker};

fn context() -> Arc<Context> {
    let metrics = Metrics::unexposed();
    let (peer_age, announce_interval) = (Duration::from_secs(10_000), Duration::from_secs(30));
    let store = Store::new(StoreOptions { peer_age, announce_interval, max_peers: 1_000 });
    let limits = ConnectionLimits { total: 10, per_address: 10 };
    Arc::new(Context {
        tracker: Tracker::new(Policy::default(), Views::default(), Arc::new(store), None, &metrics),
        connections: Connections::new(limits, metrics.connections.clone()),
        metrics,
        registry: None,
        hosts: Hosts::default(),
        client_address: ClientAddress::new(ClientAddressOptions::default()),
        draining: AtomicBool::new(false),
    })
}

/// What is answered, but for dates.
fn answered(pieces: &[&[u8]]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let replies = runtime.block_on(rehearsal::replies(&context(), pieces)).expect("sockets");
    let lines = replies.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !line.starts_with(b"date: ")).flatten().copied().collect()
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, bytes)) = input.split_first_chunk::<8>() else { return };
    let mut ends: Vec<usize> = cuts.iter().map(|&cut| usize::from(cut) % (bytes.len() + 1)).collect();
    ends.extend([0, bytes.len()]);
    ends.sort_unstable();
    let pieces: Vec<&[u8]> = ends.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
    assert_eq!(answered(&pieces), answered(&[bytes]));
});
