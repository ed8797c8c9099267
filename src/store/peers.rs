//! The peers of one address family in one swarm. They are in a dense list, so that peers can be picked at random. A
//! long list has an index.

use thin_vec::ThinVec;

use super::client_id::ClientId;
use super::entry::{Entry, PeerKey, PeerState};
use super::index::Index;
use super::time::{Rhythm, Tick, TtlTicks};
use tracker_protocol::Ip;

/// A list of at most this many peers has no index, because a scan is as fast, and an index in every swarm costs memory.
const SCAN: usize = 64;

/// How many entries of the list are searched for second addresses and for clients at the same address. A longer search
/// would hold the lock too long.
const SEARCH: usize = 1_000;

/// How many random peers of a long list are checked to estimate how many peers of the list have expired.
const SAMPLE: usize = 256;

/// The peers of one family, ordered by [`PeerState`]. Because of this order, leechers alone can be picked for a seed,
/// the second addresses of clients come last, and a binary search counts each state. Lists of a few peers take most of the
/// process's memory. So a short list has no index, and this struct is only two pointers (16 bytes).
#[derive(Debug)]
pub(super) struct Peers<A> {
    entries: ThinVec<Entry<A>>,
    /// `None` while the list is short.
    index: Option<Box<Index>>,
}

/// How far a sweep came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// To the end of the list. The value is the age of the oldest remaining peer, in ticks since its last announce.
    Whole(u16),
    /// Not to the end of the list, because one call checks a limited number of peers.
    Partly,
}

impl<A> Default for Peers<A> {
    fn default() -> Self {
        Self { entries: ThinVec::new(), index: None }
    }
}

impl<A: Ip> Peers<A> {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the list is too long to be swept in one call.
    pub(super) fn is_long(&self) -> bool {
        self.index.is_some()
    }

    /// Returns the numbers of first addresses by role: leechers, partial seeds and seeds.
    pub(super) fn counts(&self) -> [usize; 3] {
        let firsts = self.firsts();
        let leechers = end_of(firsts, PeerState::LEECHERS);
        let others = end_of(firsts, PeerState::PARTIAL_SEEDS);
        [leechers, others - leechers, firsts.len() - others]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<A>> {
        self.entries.iter()
    }

    /// Returns the first addresses of clients.
    pub(super) fn firsts(&self) -> &[Entry<A>] {
        self.entries.get(..self.seconds_start()).unwrap_or_default()
    }

    /// Returns the second addresses of clients. Their first addresses are in this list or in the list of the other
    /// family.
    pub(super) fn seconds(&self) -> &[Entry<A>] {
        self.entries.get(self.seconds_start()..).unwrap_or_default()
    }

    pub(super) fn has_seconds(&self) -> bool {
        self.entries.last().is_some_and(Entry::is_second)
    }

    fn seconds_start(&self) -> usize {
        if self.has_seconds() { end_of(&self.entries, PeerState::SEEDS) } else { self.entries.len() }
    }

    /// Returns the peers that a client may get. If `all`, these are peers of all roles, otherwise only leechers. If
    /// `second`, these are second addresses, otherwise first addresses.
    pub(super) fn eligible(&self, all: bool, second: bool) -> &[Entry<A>] {
        let (entries, range) = match (second, all) {
            (false, true) => (self.firsts(), 0..usize::MAX),
            (false, false) => (self.firsts(), 0..end_of(self.firsts(), PeerState::LEECHERS)),
            (true, true) => (self.seconds(), 0..usize::MAX),
            (true, false) => (self.seconds(), end_of(self.seconds(), PeerState::SECOND_OTHERS)..usize::MAX),
        };
        entries.get(range.start..range.end.min(entries.len())).unwrap_or_default()
    }

    /// Returns the peer with this key, and its position.
    pub(super) fn at(&self, key: PeerKey<A>) -> Option<(usize, Entry<A>)> {
        let at = self.find(key)?;
        Some((at, *self.entries.get(at)?))
    }

    /// Returns the first address of the client with this id, and the position of that address. `None` if the address is
    /// not in this list.
    pub(super) fn first_of(&self, id: ClientId) -> Option<(usize, Entry<A>)> {
        let at = match &self.index {
            None => self.entries.iter().position(|entry| entry.is_of(id) && !entry.is_second()),
            Some(index) => index.find_client(&self.entries, id),
        }?;
        Some((at, *self.entries.get(at)?))
    }

    /// Replaces an entry. Returns whether its state or its id has changed. In that case, the entry is also moved.
    pub(super) fn replace(&mut self, at: usize, old: &Entry<A>, entry: Entry<A>) -> bool {
        if old.kind() != entry.kind() || old.id() != entry.id() {
            self.remove_at(at);
            self.push(entry);
            return true;
        }
        if let Some(place) = self.entries.get_mut(at) {
            *place = entry;
        }
        false
    }

    /// Makes the peer with this key a first or a second address.
    pub(super) fn rank(&mut self, key: PeerKey<A>, is_second: bool) {
        let Some((at, old)) = self.at(key) else { return };
        let kind = PeerState::new(old.kind().role(), is_second);
        self.replace(at, &old, Entry::new(key, old.id(), kind, old.provenance(), old.seen()));
    }

    /// Returns the positions of a client's second addresses, in descending order. So a caller can remove an entry
    /// without changing the positions that follow. Only the last [`SEARCH`] second addresses of the list are searched.
    fn seconds_of(&self, id: ClientId) -> impl Iterator<Item = usize> + use<A> {
        let start = self.seconds_start();
        let ends = start..self.entries.len();
        let found = self.entries.get(ends.clone()).unwrap_or_default().iter().rev().take(SEARCH);
        let places: Vec<usize> = ends.rev().zip(found).filter(|(_, entry)| entry.is_of(id)).map(|(at, _)| at).collect();
        places.into_iter()
    }

    /// Finds a successor for a client's first address, which is gone. If `wanted`, makes one of the client's second
    /// addresses its first address, and returns whether there was such an address. Also removes the client's claimed
    /// public addresses, because they were only for clients that could not reach the first address. Calls `dropped` for
    /// each address that is removed.
    pub(super) fn succeed(&mut self, id: ClientId, wanted: bool, mut dropped: impl FnMut(&Entry<A>)) -> bool {
        if !self.has_seconds() {
            return false;
        }
        let mut successor: Option<Entry<A>> = None;
        for at in self.seconds_of(id) {
            let Some(entry) = self.entries.get(at).copied() else { continue };
            if entry.is_outside() {
                dropped(&entry);
                self.remove_at(at);
            } else if successor.is_none_or(|successor| successor.is_claimed() && !entry.is_claimed()) {
                successor = Some(entry);
            }
        }
        let successor = successor.filter(|_| wanted);
        successor.into_iter().for_each(|successor| self.rank(successor.key(), false));
        successor.is_some()
    }

    /// Removes those second addresses of a client for which `is_gone` returns true. Checks only second addresses at the
    /// IP address of `key`, and claimed public second addresses.
    pub(super) fn drop_silent(
        &mut self,
        key: PeerKey<A>,
        id: ClientId,
        is_gone: impl Fn(&Entry<A>) -> bool,
        mut dropped: impl FnMut(&Entry<A>),
    ) {
        for at in self.seconds_of(id) {
            let entry =
                self.entries.get(at).filter(|entry| (entry.is_beside(key) || entry.is_outside()) && is_gone(entry));
            if let Some(entry) = entry.copied() {
                dropped(&entry);
                self.remove_at(at);
            }
        }
    }

    /// Removes those entries of a client for which `may` returns true, whatever their ports. Calls `dropped` for each
    /// removed entry. `port` is the key of the entry at the port that the client named.
    pub(super) fn remove(
        &mut self,
        port: Option<PeerKey<A>>,
        id: ClientId,
        may: impl Fn(&Entry<A>) -> bool,
        mut dropped: impl FnMut(&Entry<A>),
    ) {
        let may = |entry: &Entry<A>| entry.is_of(id) && may(entry);
        let before = self.len();
        let mut remove = |peers: &mut Self, at: usize| {
            if let Some(entry) = peers.entries.get(at).copied().filter(may) {
                dropped(&entry);
                peers.remove_at(at);
            }
        };
        self.seconds_of(id).for_each(|at| remove(self, at));
        // The search among the second addresses may have ended before the entry with the named port. So that entry is
        // looked up and removed here.
        if let Some(at) = port.and_then(|key| self.find(key)) {
            remove(self, at);
        }
        if let Some((at, _)) = self.first_of(id) {
            remove(self, at);
        }
        if self.len() < before {
            self.shrink();
        }
    }

    /// Removes the peer with this key.
    pub(super) fn remove_key(&mut self, key: PeerKey<A>) -> Option<Entry<A>> {
        let at = self.find(key)?;
        self.remove_at(at)
    }

    /// Yields up to `most` peers, beginning at a random place in the list.
    pub(super) fn some(&self, most: usize) -> impl Iterator<Item = &Entry<A>> {
        let start = fastrand::usize(..self.len().max(1));
        self.entries.iter().cycle().skip(start).take(most.min(self.len()))
    }

    /// Drops expired peers, and calls `dropped` for each. Checks `most` peers of a long list, beginning where the
    /// previous sweep ended. If nearly all peers of a long list have expired, checks the whole list, because a new index
    /// takes less time than many removals.
    pub(super) fn sweep(&mut self, now: Tick, age: TtlTicks, most: usize, mut dropped: impl FnMut(&Entry<A>)) -> Swept {
        let start = self.index.as_ref().map_or(0, |index| index.swept);
        let mut at = start;
        let mut oldest = 0;
        let slice = if self.index.is_some() { most } else { usize::MAX };
        if self.is_long() && self.is_mostly_stale(now, age) {
            return self.purge(now, age, dropped);
        }
        for _ in 0..slice {
            let Some(entry) = self.entries.get(at) else { break };
            let elapsed = now.since(entry.seen());
            if age.is_over(elapsed) {
                dropped(entry);
                // `at` stays the same, because an entry that has not been checked yet may have taken this position.
                self.remove_at(at);
            } else {
                oldest = oldest.max(elapsed);
                at += 1;
            }
        }
        let is_done = at >= self.len();
        if let Some(index) = &mut self.index {
            index.swept = if is_done { 0 } else { at };
        }
        self.shrink();
        // If this sweep began in the middle of the list, peers before that place may have expired since an earlier sweep
        // checked them. So this sweep counts as partial. If the list is still long, the sweep counts as whole all the
        // same, because the swarm sweeps long lists again soon.
        let is_whole = is_done && (start == 0 || self.is_long());
        if is_whole { Swept::Whole(oldest) } else { Swept::Partly }
    }

    /// Returns whether more than seven eighths of the peers have expired, by a random sample.
    pub(super) fn is_mostly_stale(&self, now: Tick, age: TtlTicks) -> bool {
        let random = std::iter::repeat_with(|| fastrand::usize(..self.len().max(1))).take(SAMPLE);
        let stale = random.filter_map(|at| self.entries.get(at)).filter(|entry| age.is_over(now.since(entry.seen())));
        stale.count() > SAMPLE / 8 * 7
    }

    /// Drops all expired peers, however many they are, and calls `dropped` for each.
    pub(super) fn purge(&mut self, now: Tick, age: TtlTicks, mut dropped: impl FnMut(&Entry<A>)) -> Swept {
        let mut oldest = 0;
        self.entries.retain(|entry| {
            let elapsed = now.since(entry.seen());
            let stays = !age.is_over(elapsed);
            if stays {
                oldest = oldest.max(elapsed);
            } else {
                dropped(entry);
            }
            stays
        });
        self.index = None;
        self.shrink();
        self.make_index();
        Swept::Whole(oldest)
    }

    /// Frees memory when most of the list's capacity is unused, so that a swarm's memory follows its number of peers.
    pub(super) fn shrink(&mut self) {
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to_fit();
            self.index.take_if(|_| self.entries.len() <= SCAN / 2);
        }
        if let Some(index) = &mut self.index {
            index.shrink(&self.entries);
        }
    }

    /// Returns how many other clients announce from this address at present. Checks only the first [`SEARCH`] peers of
    /// the list, because they suffice to notice many other clients. Claimed entries do not count. Silent entries do not
    /// count either: a client that comes back after a crash has another id and another port, and its old entry is still
    /// in the list.
    pub(super) fn others_at(&self, key: PeerKey<A>, id: ClientId, now: Tick, rhythm: Rhythm) -> usize {
        let is_other = |entry: &&Entry<A>| entry.is_beside(key) && !entry.is_of(id) && !entry.is_claimed();
        let is_there = |entry: &&Entry<A>| rhythm.is_there(entry.pace(), now.since(entry.seen()));
        self.entries.iter().take(SEARCH).filter(is_other).filter(is_there).count()
    }

    fn find(&self, key: PeerKey<A>) -> Option<usize> {
        match &self.index {
            None => self.entries.iter().position(|entry| entry.is_at(key)),
            Some(index) => index.find(&self.entries, key),
        }
    }

    pub(super) fn push(&mut self, entry: Entry<A>) {
        if self.entries.len() == self.entries.capacity() {
            // The list grows one by one at first, and then by an eighth instead of doubling, to save memory.
            self.entries.reserve_exact((self.entries.len() / 8).max(1));
        }
        let mut at = self.entries.len();
        self.entries.push(entry);
        if let Some(index) = &mut self.index {
            index.note(&self.entries, at);
        }
        // Moves the entry from the end of the list to the place of its state: one swap for each state that it passes.
        for kind in PeerState::ALL.into_iter().rev().skip(1).filter(|&kind| entry.kind() <= kind) {
            let last = at.checked_sub(1).and_then(|last| self.entries.get(last));
            if last.is_none_or(|last| last.kind() <= entry.kind()) {
                break;
            }
            // All entries before `at` are in order.
            let others = self.entries.get(..at).unwrap_or_default();
            let start = others.partition_point(|other| other.kind() <= kind);
            self.swap(start, at);
            at = start;
        }
        self.make_index();
    }

    /// Creates the index when the list has become long.
    fn make_index(&mut self) {
        if self.index.is_none() && self.entries.len() > SCAN {
            self.index = Some(Box::new(Index::of(&self.entries)));
        }
    }

    pub(super) fn remove_at(&mut self, mut at: usize) -> Option<Entry<A>> {
        let removed = *self.entries.get(at)?;
        // Moves the entry to the end of its state, then to the end of each later state. So the list stays in order.
        for kind in PeerState::ALL.into_iter().filter(|&kind| kind >= removed.kind()) {
            if at + 1 == self.entries.len() {
                break;
            }
            let end = self.end_behind(at, kind);
            self.swap(at, end - 1);
            at = end - 1;
        }
        if let Some(index) = &mut self.index {
            index.forget(&self.entries, at);
        }
        self.entries.pop();
        Some(removed)
    }

    /// Returns the position after the last peer of a state, among the peers behind `at`. The entry at `at` does not
    /// count, because it is being moved to the end of the list.
    fn end_behind(&self, at: usize, kind: PeerState) -> usize {
        let behind = self.entries.get(at + 1..).unwrap_or_default();
        at + 1 + behind.partition_point(|entry| entry.kind() <= kind)
    }

    /// Exchanges two entries, and updates the index.
    fn swap(&mut self, a: usize, b: usize) {
        if a == b {
            return;
        }
        if let Some(index) = &mut self.index {
            index.swap(&self.entries, a, b);
        }
        self.entries.swap(a, b);
    }
}

/// Returns the position after the last peer of this state.
fn end_of<A: Ip>(entries: &[Entry<A>], kind: PeerState) -> usize {
    entries.partition_point(|entry| entry.kind() <= kind)
}

#[cfg(test)]
mod tests;
