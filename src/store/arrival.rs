//! How a peer joins a swarm, or announces again: what it takes over there, and what gives way to it.

use super::Pace;
use super::client_id::ClientId;
use super::entry::{Entry, PeerKey, PeerState, Word};
use super::peers::Peers;
use super::shard::CountDelta;
use super::swarm::Present;
use tracker_protocol::{Ip, Role};

/// A long list is searched for endpoints that have fallen silent by one of so many announces.
const RARELY: u8 = 16;

/// A peer that announces.
#[derive(Clone, Copy)]
pub(super) struct Arriving<'a> {
    pub(super) present: Present<'a>,
    pub(super) id: ClientId,
    pub(super) role: Role,
    /// Who claims that it is there, unless it does so itself.
    pub(super) claim: Option<u8>,
}

/// What became of it.
#[derive(Clone, Copy, Default)]
pub(super) struct Arrival {
    /// False when a claim met a peer that speaks for itself.
    pub(super) is_recorded: bool,
    /// What was at its endpoint before.
    pub(super) before: Option<Role>,
    /// Whether the lists have changed, but for times.
    pub(super) changed: bool,
    pub(super) others_at_address: usize,
}

/// The first address of a client is gone: another one becomes the first.
pub(super) fn succeed<A: Ip, B: Ip>(
    own: &mut Peers<A>,
    other: Option<&mut Peers<B>>,
    id: ClientId,
    change: &mut CountDelta<'_>,
) {
    let has = own.succeed(id, true, |gone| change.gone(gone));
    if let Some(other) = other {
        other.succeed(id, !has, |gone| change.gone(gone));
    }
}

impl Arriving<'_> {
    /// Records the peer in the list of its family, of which the other may have addresses of the same client, too.
    pub(super) fn join<A: Ip, B: Ip>(
        &self,
        spot: PeerKey<A>,
        own: &mut Peers<A>,
        mut other: Option<&mut Peers<B>>,
        change: &mut CountDelta<'_>,
    ) -> Arrival {
        let &Self { present, id, claim, .. } = self;
        let mut arrival = Arrival { is_recorded: true, ..Arrival::default() };
        let known = own.at(spot);
        if let Some((at, old)) = known {
            if claim.is_some() && !old.is_claimed() && !present.life.is_over(present.now.since(old.seen())) {
                return Arrival::default();
            }
            arrival.before = Some(old.kind().role());
            if old.is_of(id) {
                self.refresh(at, &old, own, change, &mut arrival);
                let gap = present.now.since(old.seen());
                self.settle(spot, Some(gap), own, other, change, &mut arrival);
                return arrival;
            }
            // Another client has the endpoint now.
            own.remove_at(at);
            change.gone(&old);
            if !old.is_second() {
                succeed(own, other.as_deref_mut(), old.id(), change);
            }
        }
        let is_second = own.first_of(id).is_some() || other.as_ref().is_some_and(|other| other.first_of(id).is_some());
        let entry = self.entry(spot, is_second, Pace::UNKNOWN);
        own.push(entry);
        change.joined(&entry);
        arrival.changed = true;
        self.settle(spot, None, own, other, change, &mut arrival);
        if known.is_none() && claim.is_none() {
            arrival.others_at_address = own.others_at(spot, id, present.now, present.rhythm);
        }
        arrival
    }

    fn entry<A: Ip>(&self, spot: PeerKey<A>, is_second: bool, pace: Pace) -> Entry<A> {
        let word = self.claim.map_or(Word::Own(pace), Word::Claim);
        Entry::new(spot, self.id, PeerState::new(self.role, is_second), word, self.present.now)
    }

    /// The same client has announced from the same endpoint before.
    fn refresh<A: Ip>(
        &self,
        at: usize,
        old: &Entry<A>,
        own: &mut Peers<A>,
        change: &mut CountDelta<'_>,
        arrival: &mut Arrival,
    ) {
        let Present { now, rhythm, .. } = self.present;
        let pace = rhythm.pace(old.pace(), now.since(old.seen()));
        let entry = self.entry(old.spot(), old.is_second(), pace);
        let has_moved = own.replace(at, old, entry);
        let is_other_claim = entry.is_claimed() && old.word() != entry.word();
        if has_moved || old.is_claimed() != entry.is_claimed() || is_other_claim {
            change.gone(old);
            change.joined(&entry);
            arrival.changed = true;
        }
        if pace > old.pace() && self.claim.is_none() {
            arrival.others_at_address = own.others_at(old.spot(), self.id, now, rhythm);
        }
    }

    /// Sees to it that a client that has several addresses has one first one, and that those go which it has left. `gap` is
    /// how long before the announce the endpoint announced last. Costs nothing where nobody has several.
    fn settle<A: Ip, B: Ip>(
        &self,
        spot: PeerKey<A>,
        gap: Option<u16>,
        own: &mut Peers<A>,
        mut other: Option<&mut Peers<B>>,
        change: &mut CountDelta<'_>,
        arrival: &mut Arrival,
    ) {
        let other_has = other.as_ref().is_some_and(|other| other.has_seconds());
        if !own.has_seconds() && !other_has {
            return;
        }
        let Some((_, me)) = own.at(spot) else { return };
        let mut is_first = !me.is_second();
        if !is_first {
            if let Some((at, first)) = own.first_of(self.id) {
                if first.is_beside(spot) && self.has_left(&first, gap, &me) {
                    own.remove_at(at);
                    change.gone(&first);
                    is_first = true;
                } else if self.precedes(&first, gap, &me) {
                    own.rank(first.spot(), true);
                    is_first = true;
                }
            } else if let Some((_, first)) = other.as_ref().and_then(|other| other.first_of(self.id)) {
                if self.precedes(&first, gap, &me) {
                    other.iter_mut().for_each(|other| other.rank(first.spot(), true));
                    is_first = true;
                }
            } else {
                is_first = true;
            }
            if is_first {
                own.rank(spot, false);
                arrival.changed = true;
            }
        }
        if !own.is_long() || (is_first && me.is_second()) || fastrand::u8(..RARELY) == 0 {
            let dropped = |gone: &Entry<A>| {
                change.gone(gone);
                arrival.changed = true;
            };
            own.drop_silent(spot, self.id, |entry| self.has_left(entry, gap, &me), dropped);
        }
    }

    /// Whether the client is no longer at that endpoint, of the address from which it announces now or claimed. A claim ends nobody who
    /// speaks for himself.
    fn has_left<A: Ip>(&self, endpoint: &Entry<A>, gap: Option<u16>, me: &Entry<A>) -> bool {
        let Present { life, rhythm, .. } = self.present;
        let silence = self.silence_of(endpoint);
        let may = endpoint.is_claimed() || !me.is_claimed();
        may && (life.is_over(silence) || silence > rhythm.silence(endpoint.pace(), me.pace(), gap))
    }

    /// How long a peer has been silent at least: the time of one that is claimed is rounded.
    fn silence_of<A: Ip>(&self, peer: &Entry<A>) -> u16 {
        self.present.now.since(peer.seen()).saturating_sub(peer.rounding())
    }

    /// Whether this address of a client is to count, and to be told first, in place of the one that was there before. One
    /// that takes the id of another client gets no further than second place while that one announces.
    fn precedes<A: Ip, B: Ip>(&self, first: &Entry<B>, gap: Option<u16>, me: &Entry<A>) -> bool {
        let Present { life, rhythm, .. } = self.present;
        let silence = self.silence_of(first);
        if me.is_claimed() && !first.is_claimed() {
            return life.is_over(silence);
        }
        let pace = if first.pace() == Pace::UNKNOWN { Pace::SLOW } else { first.pace() };
        first.is_claimed() && !me.is_claimed()
            || life.is_over(silence)
            || silence > rhythm.silence(pace, me.pace(), gap)
    }
}
