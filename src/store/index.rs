//! An index of a long list of peers: positions by key, and by client id.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::client_id::ClientId;
use super::entry::{Entry, PeerKey, PeerState, end_of};
use crate::hash::SEED;
use tracker_protocol::Ip;

/// The index of a long list.
#[derive(Debug)]
pub(super) struct Index {
    by_key: HashTable<u32>,
    /// The position of each client's first address.
    by_client: HashTable<u32>,
    /// Where the entries of each [`PeerState`] end. A binary search of a long list would wait for memory.
    ends: [usize; PeerState::ALL.len()],
    /// The position up to which the list has been swept for expired peers.
    pub(super) swept: usize,
}

fn key_hash<A: Ip>(entry: &Entry<A>) -> u64 {
    SEED.hash_one(entry.key())
}

fn client_hash<A: Ip>(entry: &Entry<A>) -> u64 {
    SEED.hash_one(entry.id())
}

fn hash_at<A: Ip>(entries: &[Entry<A>], at: u32, hash: fn(&Entry<A>) -> u64) -> u64 {
    entries.get(at as usize).map_or(0, hash)
}

/// Narrows a position. It always fits: the store's capacity is far below 2³².
fn narrow(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Index {
    pub(super) fn of<A: Ip>(entries: &[Entry<A>]) -> Self {
        let table = || HashTable::with_capacity(entries.len());
        let ends = PeerState::ALL.map(|state| end_of(entries, state));
        let mut index = Self { by_key: table(), by_client: table(), ends, swept: 0 };
        (0..entries.len()).for_each(|at| index.note(entries, at));
        index
    }

    pub(super) fn find<A: Ip>(&self, entries: &[Entry<A>], key: PeerKey<A>) -> Option<usize> {
        let is_it = |&at: &u32| entries.get(at as usize).is_some_and(|entry| entry.is_at(key));
        self.by_key.find(SEED.hash_one(key), is_it).map(|&at| at as usize)
    }

    /// Returns the position of a client's first address.
    pub(super) fn find_client<A: Ip>(&self, entries: &[Entry<A>], id: ClientId) -> Option<usize> {
        let is_it = |&at: &u32| entries.get(at as usize).is_some_and(|entry| entry.is_of(id));
        self.by_client.find(SEED.hash_one(id), is_it).map(|&at| at as usize)
    }

    /// Returns where the entries of this state end.
    pub(super) fn end_of(&self, state: PeerState) -> usize {
        self.ends.get(state.number()).copied().unwrap_or_default()
    }

    /// Notes that a state has one more entry.
    pub(super) fn grow(&mut self, state: PeerState) {
        self.ends.iter_mut().skip(state.number()).for_each(|end| *end += 1);
    }

    /// Notes that a state has one entry less.
    pub(super) fn lessen(&mut self, state: PeerState) {
        self.ends.iter_mut().skip(state.number()).for_each(|end| *end -= 1);
    }

    /// Adds the entry at `at`.
    pub(super) fn note<A: Ip>(&mut self, entries: &[Entry<A>], at: usize) {
        let place = narrow(at);
        let hash = |&at: &u32| hash_at(entries, at, key_hash);
        self.by_key.insert_unique(hash(&place), place, hash);
        self.note_client(entries, at);
    }

    fn note_client<A: Ip>(&mut self, entries: &[Entry<A>], at: usize) {
        let Some(first) = entries.get(at).filter(|entry| !entry.is_second()) else { return };
        let (id, at) = (first.id(), narrow(at));
        let is_it = |&other: &u32| entries.get(other as usize).is_some_and(|entry| entry.is_of(id));
        let hash = |&at: &u32| hash_at(entries, at, client_hash);
        match self.by_client.find_mut(hash(&at), is_it) {
            Some(known) => *known = at,
            None => drop(self.by_client.insert_unique(hash(&at), at, hash)),
        }
    }

    /// Removes the entry at `at`, which must still be in the list.
    pub(super) fn forget<A: Ip>(&mut self, entries: &[Entry<A>], at: usize) {
        let at = narrow(at);
        let forget = |table: &mut HashTable<u32>, hash| {
            if let Ok(found) = table.find_entry(hash_at(entries, at, hash), |&other| other == at) {
                found.remove();
            }
        };
        forget(&mut self.by_key, key_hash);
        forget(&mut self.by_client, client_hash);
    }

    /// Updates the index for two entries that are about to change places.
    pub(super) fn swap<A: Ip>(&mut self, entries: &[Entry<A>], a: usize, b: usize) {
        let (a, b) = (narrow(a), narrow(b));
        let swap = |table: &mut HashTable<u32>, hash| {
            let bucket = |at| table.find_bucket_index(hash_at(entries, at, hash), |&other| other == at);
            // Both buckets are found before either changes. After a change, the table no longer matches the entries.
            for (bucket, to) in [(bucket(a), b), (bucket(b), a)] {
                if let Some(place) = bucket.and_then(|bucket| table.get_bucket_mut(bucket)) {
                    *place = to;
                }
            }
        };
        swap(&mut self.by_key, key_hash);
        swap(&mut self.by_client, client_hash);
    }

    /// Frees unused memory. Shrinks at most one table per call, because shrinking takes time.
    pub(super) fn shrink<A: Ip>(&mut self, entries: &[Entry<A>]) {
        let room = entries.len() * 2;
        if self.by_key.capacity() > entries.len() * 5 {
            self.by_key.shrink_to(room, |&at| hash_at(entries, at, key_hash));
        } else if self.by_client.capacity() > entries.len() * 8 {
            self.by_client.shrink_to(room, |&at| hash_at(entries, at, client_hash));
        }
    }

    #[cfg(test)]
    pub(super) fn lengths(&self) -> [usize; 2] {
        [self.by_key.len(), self.by_client.len()]
    }
}
