//! Finds the largest torrents little by little: the store may have millions.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Timestamp, Ttl};
use crate::store::{Store, SwarmCursor};
use tracker_protocol::{InfoHash, SwarmCounts};

/// How many torrents of the store one look visits. Such a look takes a few milliseconds.
const VISITED: usize = 20_000;

/// How many torrents are remembered for each order.
const REMEMBERED: usize = 100;

/// The least time between two looks. Meanwhile, requests get the remembered torrents.
const PAUSE: Duration = Duration::from_secs(5);

/// The order of torrents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorrentOrder {
    /// Torrents with the most peers first.
    Peers,
    /// Torrents with the most seeds first.
    Seeds,
    /// Torrents with the most leechers first.
    Active,
}

impl TorrentOrder {
    /// All orders.
    pub const ALL: [Self; 3] = [Self::Peers, Self::Seeds, Self::Active];

    fn rank(self, counts: &SwarmCounts) -> u32 {
        match self {
            Self::Peers => counts.complete + counts.incomplete,
            Self::Seeds => counts.complete,
            Self::Active => counts.incomplete,
        }
    }
}

/// Remembers the largest torrents. Each look visits some torrents of the store, and continues where the last one ended.
/// So in a large store, a new torrent may be missing for a few looks.
#[derive(Debug, Default)]
pub(super) struct LargestTorrents(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    place: SwarmCursor,
    torrents: HashMap<InfoHash, SwarmCounts>,
    looked: Option<Timestamp>,
}

impl LargestTorrents {
    /// Looks at some torrents, unless the last look was less than `PAUSE` ago. Returns at most `most` of the largest,
    /// in `order`.
    pub(super) fn look(
        &self,
        now: Timestamp,
        store: &Store,
        order: TorrentOrder,
        most: usize,
    ) -> Vec<(InfoHash, SwarmCounts)> {
        let mut found = self.0.lock();
        if found.looked.is_none_or(|looked| now >= looked.plus(Ttl::new(PAUSE))) {
            found.looked = Some(now);
            found.look(store);
        }
        let torrents = &found.torrents;
        let largest = largest(torrents, order, most.min(REMEMBERED));
        largest
            .into_iter()
            .filter_map(|hash| torrents.get_key_value(&hash))
            .map(|(hash, counts)| (*hash, *counts))
            .collect()
    }
}

impl Found {
    fn look(&mut self, store: &Store) {
        let Self { place, torrents, .. } = self;
        // Since the last look, counts have changed, and some torrents have expired.
        torrents.iter_mut().for_each(|(info_hash, counts)| *counts = store.counts(*info_hash));
        torrents.retain(|_, counts| counts.complete + counts.incomplete > 0);
        *place = store.visit(*place, VISITED, |info_hash, counts| {
            torrents.insert(info_hash, counts);
        });
        let kept: Vec<InfoHash> =
            TorrentOrder::ALL.into_iter().flat_map(|order| largest(torrents, order, REMEMBERED)).collect();
        let mut kept: HashMap<_, _> = kept.into_iter().filter_map(|hash| torrents.remove_entry(&hash)).collect();
        std::mem::swap(torrents, &mut kept);
    }
}

/// Returns the info-hashes of the largest torrents, the largest first.
fn largest(torrents: &HashMap<InfoHash, SwarmCounts>, order: TorrentOrder, most: usize) -> Vec<InfoHash> {
    let mut ranked: Vec<_> =
        torrents.iter().map(|(hash, counts)| (std::cmp::Reverse(order.rank(counts)), *hash)).collect();
    if ranked.len() > most && most > 0 {
        ranked.select_nth_unstable(most - 1);
    }
    ranked.truncate(most);
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, hash)| hash).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::store::{Action, Announcement, StoreOptions};
    use crate::topology::{Topology, ZonedIp};
    use tracker_protocol::{PeerId, Role};

    fn hash(n: u32) -> InfoHash {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        InfoHash(hash)
    }

    #[test]
    fn in_a_large_store_the_largest_are_found_after_a_few_looks() {
        let interval = Duration::from_secs(30);
        let store = Store::new(StoreOptions {
            peer_age: Duration::from_mins(10),
            announce_interval: interval,
            max_peers: 1_000_000,
        });
        let join = |torrent: u32, n: u32| {
            let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into();
            let mut id = [0; 20];
            id[..4].copy_from_slice(&n.to_be_bytes());
            let announcement = Announcement {
                place: ZonedIp { ip, zone: None },
                is_claim: false,
                outside: None,
                source: ip,
                port: NonZeroU16::new(1),
                peer_id: PeerId(id),
                role: Role::Leecher,
                started: false,
                action: Action::Stay { completed: false },
                want: 0,
                ids: false,
            };
            store.announce(Timestamp::from_tenths(1), &Topology::default(), hash(torrent), &announcement);
        };
        let torrents = 3 * u32::try_from(VISITED).unwrap();
        (0..torrents).for_each(|n| join(n, n));
        (1..=5).for_each(|n| (0..n).for_each(|peer| join(n * 1000, torrents + peer)));
        let largest = LargestTorrents::default();
        let at = |seconds: u32| Timestamp::from_tenths(10 * seconds);
        let looks = (0..4).map(|n| largest.look(at(5 * n), &store, TorrentOrder::Peers, 5));
        let found = looks.last().unwrap().into_iter().map(|(hash, counts)| (hash, counts.incomplete));
        assert_eq!(found.collect::<Vec<_>>(), [5, 4, 3, 2, 1].map(|n| (hash(n * 1000), n + 1)));
        assert!(largest.0.lock().torrents.len() <= 3 * REMEMBERED);
        (0..9).for_each(|peer| join(7, 2 * torrents + peer));
        let first = |seconds| largest.look(at(seconds), &store, TorrentOrder::Peers, 1)[0].0;
        assert_eq!(first(16), hash(5000), "the last look was a second ago, so there is no new look yet");
        assert_eq!([20, 25, 30, 35].map(first)[3], hash(7));
    }
}
