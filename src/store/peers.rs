//! The peers of one address family in one swarm: a dense list for random picks, with an index if it is long.

mod order;

use thin_vec::ThinVec;

use super::client_id::ClientId;
use super::entry::{Entry, PeerKey, PeerState, end_of};
use super::index::Index;
use super::time::{Rhythm, Tick, TtlTicks};
use tracker_protocol::Ip;

/// A shorter list has no index: a scan is as fast, and an index in every swarm costs memory.
const SCAN: usize = 64;

/// How many entries are searched for second addresses. A longer search would hold the lock too long.
const SEARCH: usize = 1_000;

/// How many entries are searched for clients at the same address. If most clients have one address, a few entries show
/// it.
const NEIGHBOURS: usize = 128;

/// How many random peers of a long list are checked to estimate how many have expired.
const SAMPLE: usize = 256;

/// The peers of one family, ordered by [`PeerState`]. So leechers alone can be picked for a seed, second addresses come
/// last, and a binary search counts each state. Short lists take most of the process's memory. So they have no index,
/// and this struct is two pointers (16 bytes).
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
    /// Not to the end, because the call was limited.
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
        let states = [PeerState::LEECHERS, PeerState::PARTIAL_SEEDS, PeerState::SEEDS];
        let [leechers, others, all] = states.map(|state| self.end_of(state));
        [leechers, others - leechers, all - others]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<A>> {
        self.entries.iter()
    }

    pub(super) fn has_seconds(&self) -> bool {
        match &self.index {
            None => self.entries.last().is_some_and(Entry::is_second),
            Some(index) => index.end_of(PeerState::SEEDS) < self.entries.len(),
        }
    }

    fn seconds_start(&self) -> usize {
        self.end_of(PeerState::SEEDS)
    }

    /// Returns the position after the last peer of this state.
    fn end_of(&self, state: PeerState) -> usize {
        match &self.index {
            None => end_of(&self.entries, state),
            Some(index) => index.end_of(state),
        }
    }

    /// Returns the peers that a client may get: of all roles if `all`, otherwise leechers; second addresses if
    /// `second`, otherwise first ones.
    pub(super) fn eligible(&self, all: bool, second: bool) -> &[Entry<A>] {
        let range = match (second, all) {
            (false, true) => 0..self.seconds_start(),
            (false, false) => 0..self.end_of(PeerState::LEECHERS),
            (true, true) => self.seconds_start()..self.len(),
            (true, false) => self.end_of(PeerState::SECOND_OTHERS)..self.len(),
        };
        self.entries.get(range).unwrap_or_default()
    }

    pub(super) fn at(&self, key: PeerKey<A>) -> Option<(usize, Entry<A>)> {
        let at = self.find(key)?;
        Some((at, *self.entries.get(at)?))
    }

    /// Returns a client's first address and its position. `None` if the first address is not in this list.
    pub(super) fn first_of(&self, id: ClientId) -> Option<(usize, Entry<A>)> {
        let at = match &self.index {
            None => self.entries.iter().position(|entry| entry.is_of(id) && !entry.is_second()),
            Some(index) => index.find_client(&self.entries, id),
        }?;
        Some((at, *self.entries.get(at)?))
    }

    /// Replaces an entry by one with the same key and id. If the state has changed, moves the entry and returns true.
    pub(super) fn replace(&mut self, mut at: usize, old: &Entry<A>, entry: Entry<A>) -> bool {
        if old.is_second() != entry.is_second() {
            // The index knows a client by its first address.
            self.remove_at(at);
            self.push(entry);
            return true;
        }
        if old.kind() != entry.kind() {
            at = self.move_to(at, old.kind(), entry.kind());
        }
        if let Some(place) = self.entries.get_mut(at) {
            *place = entry;
        }
        old.kind() != entry.kind()
    }

    /// Makes the peer with this key a first or a second address.
    pub(super) fn rank(&mut self, key: PeerKey<A>, is_second: bool) {
        let Some((at, old)) = self.at(key) else { return };
        let kind = PeerState::new(old.kind().role(), is_second);
        self.replace(at, &old, Entry::new(key, old.id(), kind, old.provenance(), old.seen()));
    }

    /// Returns the positions of a client's second addresses, the last position first, so that the removal of an entry
    /// changes none of the positions that are still to come. Searches only the last [`SEARCH`] second addresses.
    fn seconds_of(&self, id: ClientId) -> impl Iterator<Item = usize> + use<A> {
        let start = self.seconds_start();
        let ends = start..self.entries.len();
        let found = self.entries.get(ends.clone()).unwrap_or_default().iter().rev().take(SEARCH);
        let places: Vec<usize> = ends.rev().zip(found).filter(|(_, entry)| entry.is_of(id)).map(|(at, _)| at).collect();
        places.into_iter()
    }

    /// Finds a successor for a client's lost first address. If `wanted`, makes one of the second addresses the first
    /// address, and returns whether there was a second address. Removes the client's claimed public addresses, which
    /// served only beside the first address. Calls `dropped` for each removed address.
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

    /// Removes a client's second addresses for which `is_gone` returns true. Checks only second addresses at the IP
    /// address of `key`, and claimed public addresses.
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

    /// Removes a client's entries for which `may` returns true, at all ports. Calls `dropped` for each. `port` is the
    /// key of the entry at the port that the client named.
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
        // The limited search among second addresses may have missed the named port.
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

    pub(super) fn remove_key(&mut self, key: PeerKey<A>) -> Option<Entry<A>> {
        let at = self.find(key)?;
        self.remove_at(at)
    }

    /// Yields up to `most` peers, beginning at a random place in the list.
    pub(super) fn some(&self, most: usize) -> impl Iterator<Item = &Entry<A>> {
        let start = fastrand::usize(..self.len().max(1));
        self.entries.iter().cycle().skip(start).take(most.min(self.len()))
    }

    /// Drops expired peers, and calls `dropped` for each. Of a long list, checks `most` peers from where the previous
    /// sweep ended. If nearly all have expired, checks the whole list: a new index takes less time than many removals.
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
                // `at` stays: an unchecked entry may have moved here.
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
        // If the sweep began in the middle of the list, peers before that place may have expired meanwhile, so the
        // sweep is partial. If the list is still long, the sweep counts as whole all the same, because the swarm sweeps
        // the list again soon.
        let is_whole = is_done && (start == 0 || self.is_long());
        if is_whole { Swept::Whole(oldest) } else { Swept::Partly }
    }

    /// Returns whether more than seven eighths of the peers have expired, by a random sample.
    pub(super) fn is_mostly_stale(&self, now: Tick, age: TtlTicks) -> bool {
        let random = std::iter::repeat_with(|| fastrand::usize(..self.len().max(1))).take(SAMPLE);
        let stale = random.filter_map(|at| self.entries.get(at)).filter(|entry| age.is_over(now.since(entry.seen())));
        stale.count() > SAMPLE / 8 * 7
    }

    /// Drops all expired peers, and calls `dropped` for each.
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

    /// Frees memory when most of the list's capacity is unused.
    pub(super) fn shrink(&mut self) {
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to_fit();
            self.index.take_if(|_| self.entries.len() <= SCAN / 2);
        }
        if let Some(index) = &mut self.index {
            index.shrink(&self.entries);
        }
    }

    /// Returns how many of the first [`NEIGHBOURS`] peers are other clients that announce from this address: at most
    /// `most`. Claimed and silent entries do not count: a client that restarts after a crash has a new id and port, and its old
    /// entry is still there.
    pub(super) fn others_at(&self, key: PeerKey<A>, id: ClientId, now: Tick, rhythm: Rhythm, most: usize) -> usize {
        let is_other = |entry: &&Entry<A>| entry.is_beside(key) && !entry.is_of(id) && !entry.is_claimed();
        let is_there = |entry: &&Entry<A>| rhythm.is_there(entry.pace(), now.since(entry.seen()));
        self.entries.iter().take(NEIGHBOURS).filter(is_other).filter(is_there).take(most).count()
    }

    fn find(&self, key: PeerKey<A>) -> Option<usize> {
        match &self.index {
            None => self.entries.iter().position(|entry| entry.is_at(key)),
            Some(index) => index.find(&self.entries, key),
        }
    }

    fn make_index(&mut self) {
        if self.index.is_none() && self.entries.len() > SCAN {
            self.index = Some(Box::new(Index::of(&self.entries)));
        }
    }
}

#[cfg(test)]
mod tests;
