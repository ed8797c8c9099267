//! What forwarding learns from the logs, and from what the instances say about themselves.

use super::instances::{InstanceNote, UpstreamAddresses};
use crate::forward::{ClientElsewhere, ClientNews, OtherInstances};
use crate::share::{SharedRecord, fingerprint};
use crate::store::{PeerNews, PeerRecord};

/// The most addresses of other instances that are kept for one upstream tracker.
const MOST_ADDRESSES: usize = 256;

/// A record as forwarding needs it.
pub(super) fn client_elsewhere(record: &SharedRecord) -> ClientElsewhere {
    let PeerRecord { ip, is_claim, peer_id, news, .. } = record.peer;
    let news = match news {
        PeerNews::Stays { port, .. } => ClientNews::Announced(port),
        PeerNews::Left { port } => ClientNews::Left(port),
    };
    ClientElsewhere { info_hash: record.info_hash, ip, is_claim, peer_id, news }
}

/// The addresses under which the upstream trackers know this instance.
pub(super) fn own_addresses(forwarding: Option<&OtherInstances>) -> UpstreamAddresses {
    let addresses = forwarding.map(OtherInstances::addresses).unwrap_or_default();
    addresses.into_iter().map(|(url, addresses)| (name(&url), addresses)).collect()
}

/// Tells forwarding under which addresses the upstream trackers know the other instances. `notes` are what all
/// instances say about themselves, and `own` is the name of this instance among them.
pub(super) fn note_addresses(forwarding: Option<&OtherInstances>, notes: &[(&[u8], &[u8])], own: &str) {
    let Some(forwarding) = forwarding else { return };
    let others = notes.iter().filter(|(instance, _)| *instance != own.as_bytes());
    let others: Vec<_> = others.filter_map(|(_, note)| InstanceNote::from_json(note)).collect();
    forwarding.set_addresses(|url| {
        let name = name(url);
        let addresses = others.iter().filter_map(|note| note.upstream.get(&name)).flatten();
        let mut addresses: Vec<_> = addresses.copied().take(MOST_ADDRESSES).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    });
}

fn name(url: &str) -> String {
    format!("{:016x}", fingerprint([url]))
}
