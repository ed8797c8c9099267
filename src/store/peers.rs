//! The peers of one family in one swarm: a dense list, for picking at random, and an index once it is long.

use fastrand::Rng;
use thin_vec::ThinVec;

use super::client_id::ClientId;
use super::entry::{Entry, PeerKey, PeerState};
use super::index::Index;
use super::ranked::Ranked;
use super::{Rhythm, Tick, TtlTicks};
use crate::topology::{Nearness, ZoneId};
use tracker_protocol::{Ip, Peer};

/// Up to this many peers a scan of the list is as fast as a look-up in an index, which would cost memory in every swarm.
const SCAN: usize = 64;

/// How far the list is searched for what the index does not know, and for peers that can be told. What takes longer would
/// hold the lock too long.
const SEARCH: usize = 1_000;

/// Peers of a long list among which the nearest are looked for. In a larger swarm there may be nearer ones, of which each
/// announce meets others.
const LOOKS: usize = 512;

/// Peers by which a long list is judged.
const SAMPLE: usize = 256;

/// The peers of one family in the order of their kinds: a seed is told of leechers only, second addresses come last, and how
/// many there are of each kind is found by halving. 16 bytes and the list while that is short, as most of the memory of the process is in lists of a few
/// peers.
#[derive(Debug)]
pub(super) struct Peers<A> {
    entries: ThinVec<Entry<A>>,
    /// None while the list is short.
    index: Option<Box<Index>>,
}

/// How far a sweep came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// To the end. So old is the oldest peer that is left.
    Whole(u16),
    /// Not to the end: there is more to look at than one call may.
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

    /// Whether the list is so long that it is not swept at once.
    pub(super) fn is_long(&self) -> bool {
        self.index.is_some()
    }

    /// How many clients have their first address here, by role: leechers, partial seeds and seeds.
    pub(super) fn counts(&self) -> [usize; 3] {
        let firsts = self.firsts();
        let leechers = end_of(firsts, PeerState::LEECHERS);
        let others = end_of(firsts, PeerState::PARTIAL_SEEDS);
        [leechers, others - leechers, firsts.len() - others]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry<A>> {
        self.entries.iter()
    }

    /// First addresses.
    pub(super) fn firsts(&self) -> &[Entry<A>] {
        self.entries.get(..self.seconds_start()).unwrap_or_default()
    }

    /// Second addresses of clients that have their first one here or in the other family.
    pub(super) fn seconds(&self) -> &[Entry<A>] {
        self.entries.get(self.seconds_start()..).unwrap_or_default()
    }

    pub(super) fn has_seconds(&self) -> bool {
        self.entries.last().is_some_and(Entry::is_second)
    }

    fn seconds_start(&self) -> usize {
        if self.has_seconds() { end_of(&self.entries, PeerState::SEEDS) } else { self.entries.len() }
    }

    /// The peers that a client is told of: all, or those that download. First addresses, or second ones.
    pub(super) fn eligible(&self, all: bool, second: bool) -> &[Entry<A>] {
        let (entries, range) = match (second, all) {
            (false, true) => (self.firsts(), 0..usize::MAX),
            (false, false) => (self.firsts(), 0..end_of(self.firsts(), PeerState::LEECHERS)),
            (true, true) => (self.seconds(), 0..usize::MAX),
            (true, false) => (self.seconds(), end_of(self.seconds(), PeerState::SECOND_OTHERS)..usize::MAX),
        };
        entries.get(range.start..range.end.min(entries.len())).unwrap_or_default()
    }

    /// The peer at this spot, and where it stands.
    pub(super) fn at(&self, spot: PeerKey<A>) -> Option<(usize, Entry<A>)> {
        let at = self.find(spot)?;
        Some((at, *self.entries.get(at)?))
    }

    /// The first address of the client of this id, if it is here, and where it stands.
    pub(super) fn first_of(&self, id: ClientId) -> Option<(usize, Entry<A>)> {
        let at = match &self.index {
            None => self.entries.iter().position(|entry| entry.is_of(id) && !entry.is_second()),
            Some(index) => index.find_client(&self.entries, id),
        }?;
        Some((at, *self.entries.get(at)?))
    }

    /// Puts an entry in the place of an old one, or where its kind has its place. Tells whether more than the time has changed.
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

    /// Makes the peer at this spot a first or a second address.
    pub(super) fn rank(&mut self, spot: PeerKey<A>, is_second: bool) {
        let Some((at, old)) = self.at(spot) else { return };
        let kind = PeerState::new(old.kind().role(), is_second);
        self.replace(at, &old, Entry::new(spot, old.id(), kind, old.word(), old.seen()));
    }

    /// Where the second addresses of a client stand, the last first, so that one can be removed without moving those that are
    /// still to come. Not all, where there are very many.
    fn seconds_of(&self, id: ClientId) -> impl Iterator<Item = usize> + use<A> {
        let start = self.seconds_start();
        let ends = start..self.entries.len();
        let found = self.entries.get(ends.clone()).unwrap_or_default().iter().rev().take(SEARCH);
        let places: Vec<usize> = ends.rev().zip(found).filter(|(_, entry)| entry.is_of(id)).map(|(at, _)| at).collect();
        places.into_iter()
    }

    /// The first address of a client is gone: its claimed public addresses, which only clients were told that could not reach
    /// that one, go with it. Of the others one becomes the first, if it is `wanted`; tells whether one has. Each that goes,
    /// `dropped` is told of.
    pub(super) fn succeed(&mut self, id: ClientId, wanted: bool, mut dropped: impl FnMut(&Entry<A>)) -> bool {
        if !self.has_seconds() {
            return false;
        }
        let mut heir: Option<Entry<A>> = None;
        for at in self.seconds_of(id) {
            let Some(entry) = self.entries.get(at).copied() else { continue };
            if entry.is_outside() {
                dropped(&entry);
                self.remove_at(at);
            } else if heir.is_none_or(|heir| heir.is_claimed() && !entry.is_claimed()) {
                heir = Some(entry);
            }
        }
        let heir = heir.filter(|_| wanted);
        heir.into_iter().for_each(|heir| self.rank(heir.spot(), false));
        heir.is_some()
    }

    /// Removes the second addresses of a client that have been silent for so long that `is_gone`: those at this address, and
    /// claimed public ones.
    pub(super) fn drop_silent(
        &mut self,
        spot: PeerKey<A>,
        id: ClientId,
        is_gone: impl Fn(&Entry<A>) -> bool,
        mut dropped: impl FnMut(&Entry<A>),
    ) {
        for at in self.seconds_of(id) {
            let entry =
                self.entries.get(at).filter(|entry| (entry.is_beside(spot) || entry.is_outside()) && is_gone(entry));
            if let Some(entry) = entry.copied() {
                dropped(&entry);
                self.remove_at(at);
            }
        }
    }

    /// Removes a client from an address, with all its ports there. A claim removes only what was claimed. Each that goes,
    /// `dropped` is told of.
    pub(super) fn remove(
        &mut self,
        (ip, zone): (A, Option<ZoneId>),
        port: Option<PeerKey<A>>,
        id: ClientId,
        is_claim: bool,
        mut dropped: impl FnMut(&Entry<A>),
    ) {
        let may = |entry: &Entry<A>| {
            entry.ip == ip && entry.zone == zone && entry.is_of(id) && (!is_claim || entry.is_claimed())
        };
        let before = self.len();
        let mut remove = |peers: &mut Self, at: usize| {
            if let Some(entry) = peers.entries.get(at).copied().filter(may) {
                dropped(&entry);
                peers.remove_at(at);
            }
        };
        self.seconds_of(id).for_each(|at| remove(self, at));
        // Behind the first stretch of very many second addresses, the one that is named is found all the same.
        if let Some(at) = port.and_then(|spot| self.find(spot)) {
            remove(self, at);
        }
        if let Some((at, _)) = self.first_of(id) {
            remove(self, at);
        }
        if self.len() < before {
            self.shrink();
        }
    }

    /// Removes the peer at this spot.
    pub(super) fn remove_spot(&mut self, spot: PeerKey<A>) -> Option<Entry<A>> {
        let at = self.find(spot)?;
        self.remove_at(at)
    }

    /// Some peers from anywhere in the list, all of a short one.
    pub(super) fn some(&self, most: usize) -> impl Iterator<Item = &Entry<A>> {
        let start = fastrand::usize(..self.len().max(1));
        self.entries.iter().cycle().skip(start).take(most.min(self.len()))
    }

    /// Drops peers that have expired, each of which `dropped` is told of. Looks at `most` peers of a long list, from where
    /// the latest sweep ended; at all of them when nearly all have expired, because it takes less to begin the index anew
    /// than to take one after the other out of it.
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
                // Another entry may stand here now, but one that was moved from behind: not yet looked at.
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
        // What was looked at before is not known to be young any more; of a list that is still long it need not be.
        let is_whole = is_done && (start == 0 || self.is_long());
        if is_whole { Swept::Whole(oldest) } else { Swept::Partly }
    }

    /// Whether more than seven of eight have expired, as far as a few at random tell.
    pub(super) fn is_mostly_stale(&self, now: Tick, age: TtlTicks) -> bool {
        let random = std::iter::repeat_with(|| fastrand::usize(..self.len().max(1))).take(SAMPLE);
        let stale = random.filter_map(|at| self.entries.get(at)).filter(|entry| age.is_over(now.since(entry.seen())));
        stale.count() > SAMPLE / 8 * 7
    }

    /// Drops all peers that have expired, however many that are, each of which `dropped` is told of.
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

    /// Gives memory back once most of the list is empty, so that what a swarm occupies follows how many are in it.
    pub(super) fn shrink(&mut self) {
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to_fit();
            self.index.take_if(|_| self.entries.len() <= SCAN / 2);
        }
        if let Some(index) = &mut self.index {
            index.shrink(&self.entries);
        }
    }

    /// Fills `out` with peers picked at random of those that are eligible, the nearest of those that are met. `nearness` says
    /// how near one is, at most `nearest`; `told` is as what a peer is told, unless it cannot be.
    pub(super) fn pick(
        eligible: &[Entry<A>],
        nearest: Nearness,
        nearness: impl Fn(&Entry<A>) -> Nearness,
        told: impl Fn(&Entry<A>) -> Option<Peer<A>>,
        out: &mut Ranked<'_, A>,
    ) {
        let offer = |entry, may_be_there: bool, out: &mut Ranked<'_, A>| {
            let nearness = nearness(entry);
            let peer = if out.wants(nearness) { told(entry) } else { None };
            if let Some(peer) = peer.filter(|peer| !may_be_there || !out.has(peer.endpoint)) {
                out.put(peer, nearness, peer.endpoint != entry.endpoint());
            }
        };
        if eligible.len() <= out.want() {
            eligible.iter().for_each(|entry| offer(entry, false, out));
            return;
        }
        for entry in spread(eligible, out.want() + 1).take(SEARCH) {
            if out.is_full() {
                break;
            }
            offer(entry, false, out);
        }
        // A scan takes a nanosecond an entry, where a draw takes many.
        let (beginning, end) = eligible.split_at_checked(fastrand::usize(..eligible.len())).unwrap_or_default();
        let is_near = |entry: &&Entry<A>| nearness(entry) < Nearness::Elsewhere;
        for entry in end.iter().chain(beginning).take(LOOKS).filter(is_near) {
            if !out.wants(nearest) {
                break;
            }
            offer(entry, true, out);
        }
    }

    /// How many other clients are at this address at present, among the first of the list: enough to notice that there are
    /// many. Those that others claim for them are not counted, nor those that have fallen silent: a client that crashes and
    /// comes back is another one at another port.
    pub(super) fn others_at(&self, spot: PeerKey<A>, id: ClientId, now: Tick, rhythm: Rhythm) -> usize {
        let is_other = |entry: &&Entry<A>| entry.is_beside(spot) && !entry.is_of(id) && !entry.is_claimed();
        let is_there = |entry: &&Entry<A>| rhythm.is_there(entry.pace(), now.since(entry.seen()));
        self.entries.iter().take(SEARCH).filter(is_other).filter(is_there).count()
    }

    fn find(&self, spot: PeerKey<A>) -> Option<usize> {
        match &self.index {
            None => self.entries.iter().position(|entry| entry.is_at(spot)),
            Some(index) => index.find(&self.entries, spot),
        }
    }

    pub(super) fn push(&mut self, entry: Entry<A>) {
        if self.entries.len() == self.entries.capacity() {
            // One by one at first and then by an eighth rather than by doubling, for memory's sake.
            self.entries.reserve_exact((self.entries.len() / 8).max(1));
        }
        let mut at = self.entries.len();
        self.entries.push(entry);
        if let Some(index) = &mut self.index {
            index.note(&self.entries, at);
        }
        // From among the last to where its kind stands: past the others, one swap for each kind.
        for kind in PeerState::ALL.into_iter().rev().skip(1).filter(|&kind| entry.kind() <= kind) {
            let last = at.checked_sub(1).and_then(|last| self.entries.get(last));
            if last.is_none_or(|last| last.kind() <= entry.kind()) {
                break;
            }
            // All but the newcomer are in order.
            let others = self.entries.get(..at).unwrap_or_default();
            let start = others.partition_point(|other| other.kind() <= kind);
            self.swap(start, at);
            at = start;
        }
        self.make_index();
    }

    /// Makes the index, if there is none and there has to be one.
    fn make_index(&mut self) {
        if self.index.is_none() && self.entries.len() > SCAN {
            self.index = Some(Box::new(Index::of(&self.entries)));
        }
    }

    pub(super) fn remove_at(&mut self, mut at: usize) -> Option<Entry<A>> {
        let removed = *self.entries.get(at)?;
        // To the end of its kind, and on to the end of each kind behind: the list stays in order.
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

    /// Where the peers of a kind end, when the one at `at` is on its way to the end of the list.
    fn end_behind(&self, at: usize, kind: PeerState) -> usize {
        let behind = self.entries.get(at + 1..).unwrap_or_default();
        at + 1 + behind.partition_point(|entry| entry.kind() <= kind)
    }

    /// Exchanges two entries, and their places in the index.
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

/// Where those of a kind, and of the kinds before it, end.
fn end_of<A: Ip>(entries: &[Entry<A>], kind: PeerState) -> usize {
    entries.partition_point(|entry| entry.kind() <= kind)
}

/// All entries, one of each of `strata` stretches of equal length before another one of any: as random as a pick of as many,
/// none met twice, and no copy of the list. Each stretch, and the order of stretches, begins anywhere; within a stretch it
/// goes on with the neighbour, which is already in the processor's cache.
fn spread<T>(entries: &[T], strata: usize) -> impl Iterator<Item = &T> {
    // The first of them are longer by one.
    let (length, longer) = (entries.len() / strata, entries.len() % strata);
    let first = fastrand::usize(..strata);
    let seed = fastrand::u64(..);
    (0..=length).flat_map(move |round| {
        (first..strata).chain(0..first).filter_map(move |stratum| {
            let start = stratum * length + stratum.min(longer);
            let length = length + usize::from(stratum < longer);
            if round >= length {
                return None;
            }
            let offset = round + Rng::with_seed(seed.wrapping_add(stratum as u64)).usize(..length);
            entries.get(start + if offset < length { offset } else { offset - length })
        })
    })
}

#[cfg(test)]
mod tests;
