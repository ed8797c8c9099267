//! What forwarding learns from the logs, and from what the instances say about themselves.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::instances::{InstanceNote, UpstreamAddresses};
use crate::forward::{ClientElsewhere, ClientNews, OtherInstances};
use crate::share::{SharedRecord, fingerprint};
use crate::store::{PeerNews, PeerRecord};

/// The most addresses of other instances that are kept for one upstream tracker.
const MOST_ADDRESSES: usize = 256;

/// The most addresses that are read for one upstream tracker. Instances behind one NAT repeat the same addresses.
const MOST_READ: usize = 64 * MOST_ADDRESSES;

/// A record as forwarding needs it.
pub(super) fn client_elsewhere(record: &SharedRecord) -> ClientElsewhere {
    let PeerRecord { ip, is_claim, peer_id, news, .. } = record.peer;
    let news = match news {
        PeerNews::Stays { port, .. } => ClientNews::Announced(port),
        PeerNews::Left { port } => ClientNews::Left(port),
    };
    ClientElsewhere { info_hash: record.info_hash, ip, is_claim, peer_id, news }
}

/// The addresses under which the upstream trackers know this instance. Two forwarders may have the same URL.
pub(super) fn own_addresses(forwarding: Option<&OtherInstances>) -> UpstreamAddresses {
    let mut all = UpstreamAddresses::new();
    for (url, addresses) in forwarding.map(OtherInstances::addresses).unwrap_or_default() {
        all.entry(name(&url)).or_default().extend(addresses);
    }
    all
}

/// Tells forwarding how to recognize the other instances: by their names in `Via`, and by the addresses under which the
/// upstream trackers know them.
pub(super) fn note_others(forwarding: Option<&OtherInstances>, others: &[InstanceNote]) {
    let Some(forwarding) = forwarding else { return };
    forwarding.set_names(others.iter().map(|note| note.via.clone()).filter(|via| !via.is_empty()).collect());
    forwarding.set_addresses(|url| {
        let name = name(url);
        let addresses = others.iter().filter_map(|note| note.upstream.get(&name)).flatten().copied();
        let addresses: BTreeSet<IpAddr> = addresses.take(MOST_READ).collect();
        addresses.into_iter().take(MOST_ADDRESSES).collect()
    });
}

fn name(url: &str) -> String {
    format!("{:016x}", fingerprint([url]))
}
