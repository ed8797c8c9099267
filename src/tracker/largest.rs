//! The largest torrents, found little by little, because there may be millions of them.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::store::{Store, SwarmCursor};
use tracker_protocol::{InfoHash, SwarmCounts};

/// How many torrents one look visits. A look at so many takes a few milliseconds.
const VISITED: usize = 20_000;

/// How many torrents are remembered for each order.
const REMEMBERED: usize = 100;

/// The order of torrents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TorrentOrder {
    /// Those with the most peers first.
    Peers,
    /// Those with the most seeds first.
    Seeds,
    /// Those with the most clients that download first.
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

/// Remembers the largest torrents that it has found. Each look visits some of the torrents, and the next look goes on
/// with the others. So in a large store a new torrent may be missing for a few looks.
#[derive(Debug, Default)]
pub(super) struct LargestTorrents(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    place: SwarmCursor,
    torrents: HashMap<InfoHash, SwarmCounts>,
}

impl LargestTorrents {
    /// Looks at some of the torrents. Returns the largest that are known, in this order.
    pub(super) fn look(&self, store: &Store, order: TorrentOrder, most: usize) -> Vec<(InfoHash, SwarmCounts)> {
        let Found { place, torrents } = &mut *self.0.lock();
        // The counts of those that are known have changed, and some of them are gone.
        torrents.iter_mut().for_each(|(info_hash, counts)| *counts = store.counts(*info_hash));
        torrents.retain(|_, counts| counts.complete + counts.incomplete > 0);
        *place = store.visit(*place, VISITED, |info_hash, counts| {
            torrents.insert(info_hash, counts);
        });
        let kept: Vec<InfoHash> =
            TorrentOrder::ALL.into_iter().flat_map(|order| largest(torrents, order, REMEMBERED)).collect();
        let mut kept: HashMap<_, _> = kept.into_iter().filter_map(|hash| torrents.remove_entry(&hash)).collect();
        std::mem::swap(torrents, &mut kept);
        let largest = largest(torrents, order, most.min(REMEMBERED));
        largest
            .into_iter()
            .filter_map(|hash| torrents.get_key_value(&hash))
            .map(|(hash, counts)| (*hash, *counts))
            .collect()
    }
}

/// The info-hashes of the largest torrents, the largest first.
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
