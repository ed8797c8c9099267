//! How a peer joins a swarm or announces again, and which older entries it replaces.

use super::announcement::Announcement;
use super::client_id::ClientId;
use super::context::{Hearer, StoreContext};
use super::delta::CountDelta;
use super::entry::{Entry, PeerKey, PeerState, Provenance};
use super::peers::Peers;
use super::record::{Hearing, PeerChange};
use super::time::Pace;
use crate::topology::MOST_SHARING;
use tracker_protocol::{Ip, Role};

/// One in this many announces, on average, searches a long list for endpoints that have fallen silent.
const RARELY: u8 = 16;

/// The most clients at one address that are counted: one more than the detector of shared addresses remembers.
const MOST_OTHERS: usize = MOST_SHARING + 1;

/// A peer that announces.
#[derive(Clone, Copy)]
pub(super) struct Arriving<'a> {
    pub(super) context: StoreContext<'a>,
    pub(super) id: ClientId,
    pub(super) role: Role,
    /// The number of the claimant, if the address is claimed.
    pub(super) claim: Option<u8>,
    /// Whether the client says that it has just finished its download.
    pub(super) completed: bool,
}

/// The effect of an arrival.
#[derive(Clone, Copy, Default)]
pub(super) struct Arrival {
    /// False if the announce claims an address from which a peer announces itself.
    pub(super) is_recorded: bool,
    /// The role of the peer that was at the endpoint before.
    pub(super) before: Option<Role>,
    /// The role that the client had at its first address before. Found only for an announce of `completed`.
    pub(super) before_at_first: Option<Role>,
    /// Whether the lists have changed, apart from the times in them.
    pub(super) changed: bool,
    pub(super) others_at_address: usize,
    /// The ticks since the previous announce from the endpoint. `None` if the endpoint was not known.
    pub(super) gap: Option<u16>,
    /// Whether the previous entry at the endpoint belonged to another client, or only one of the previous and the new
    /// entry is claimed.
    pub(super) is_replaced: bool,
}

/// The effect of an announce on the swarm.
#[derive(Clone, Copy, Default)]
pub(super) struct Effect {
    pub(super) others_at_address: usize,
    /// The ticks since the previous announce from the endpoint. `None` if the endpoint was not known.
    pub(super) gap: Option<u16>,
    /// What other instances must hear at once.
    pub(super) change: Option<PeerChange>,
    /// Whether the peer was recorded or removed.
    pub(super) is_done: bool,
}

impl Effect {
    /// The effect of leaving. Other instances hear of it even if the client is unknown here: they may have heard the
    /// client join.
    pub(super) const LEFT: Self =
        Self { others_at_address: 0, gap: None, change: Some(PeerChange::Left), is_done: true };

    /// Returns what other instances may have to hear. `None` if no swarms are shared, or if nothing was recorded or
    /// removed.
    pub(super) fn hearing(self, StoreContext { hearer, life, .. }: StoreContext<'_>) -> Option<Hearing> {
        let Hearer::Sharing(now) = hearer else { return None };
        let silence = self.gap.map(|gap| life.duration(gap));
        self.is_done.then_some(Hearing { at: life.start_of_tick(now), silence, change: self.change })
    }
}

impl Arrival {
    /// Returns the effect of the announce. `is_counted` is whether the announce added to `downloaded`. A peer that
    /// announces `started` counts as joined even if it is known here: another instance may have just heard it leave.
    pub(super) fn effect(self, &Announcement { role, started, .. }: &Announcement, is_counted: bool) -> Effect {
        let Self { is_recorded, before, others_at_address, gap, is_replaced, .. } = self;
        let change = if is_counted {
            Some(PeerChange::Completed)
        } else if started || before.is_none() {
            Some(PeerChange::Joined)
        } else {
            (is_replaced || before != Some(role)).then_some(PeerChange::Changed)
        };
        Effect { others_at_address, gap, change: change.filter(|_| is_recorded), is_done: is_recorded }
    }
}

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
    /// Records the peer in `own`, the list of its family. `other`, the list of the other family, may have the same
    /// client.
    pub(super) fn join<A: Ip, B: Ip>(
        &self,
        key: PeerKey<A>,
        own: &mut Peers<A>,
        mut other: Option<&mut Peers<B>>,
        change: &mut CountDelta<'_>,
    ) -> Arrival {
        let &Self { context, id, claim, .. } = self;
        let mut arrival = Arrival { is_recorded: true, ..Arrival::default() };
        let known = own.at(key);
        if self.completed {
            arrival.before_at_first = self.role_at_first(known, own, other.as_deref());
        }
        if let Some((at, old)) = known {
            if claim.is_some() && !old.is_claimed() && !context.life.is_over(context.now.since(old.seen())) {
                return Arrival::default();
            }
            arrival.before = Some(old.kind().role());
            let gap = context.now.since(old.seen());
            arrival.gap = Some(gap);
            arrival.is_replaced = !old.is_of(id) || old.is_claimed() != claim.is_some();
            if old.is_of(id) {
                self.refresh(at, &old, own, change, &mut arrival);
                self.settle(key, Some(gap), own, other, change, &mut arrival);
                return arrival;
            }
            // The endpoint belonged to another client.
            own.remove_at(at);
            change.gone(&old);
            if !old.is_second() {
                succeed(own, other.as_deref_mut(), old.id(), change);
            }
        }
        let is_second = own.first_of(id).is_some() || other.as_ref().is_some_and(|other| other.first_of(id).is_some());
        let entry = self.entry(key, is_second, Pace::UNKNOWN);
        own.push(entry);
        change.joined(&entry);
        arrival.changed = true;
        self.settle(key, None, own, other, change, &mut arrival);
        if known.is_none() && claim.is_none() && !self.is_told() {
            arrival.others_at_address = own.others_at(key, id, context.now, context.rhythm, MOST_OTHERS);
        }
        arrival
    }

    /// Returns the client's role at its first address. `known` is the entry at the announced endpoint: usually this is the
    /// client's first address.
    fn role_at_first<A: Ip, B: Ip>(
        &self,
        known: Option<(usize, Entry<A>)>,
        own: &Peers<A>,
        other: Option<&Peers<B>>,
    ) -> Option<Role> {
        let is_first = |(_, entry): &(usize, Entry<A>)| entry.is_of(self.id) && !entry.is_second();
        let here = known.filter(is_first).or_else(|| own.first_of(self.id)).map(|(_, first)| first.kind().role());
        here.or_else(|| other?.first_of(self.id).map(|(_, first)| first.kind().role()))
    }

    fn is_told(&self) -> bool {
        matches!(self.context.hearer, Hearer::Another)
    }

    fn entry<A: Ip>(&self, key: PeerKey<A>, is_second: bool, pace: Pace) -> Entry<A> {
        let provenance = self.claim.map_or(Provenance::Own(pace), Provenance::Claim);
        Entry::new(key, self.id, PeerState::new(self.role, is_second), provenance, self.context.now)
    }

    /// Updates the entry of a client that announces again from the same endpoint.
    fn refresh<A: Ip>(
        &self,
        at: usize,
        old: &Entry<A>,
        own: &mut Peers<A>,
        change: &mut CountDelta<'_>,
        arrival: &mut Arrival,
    ) {
        let StoreContext { now, rhythm, .. } = self.context;
        let pace = rhythm.pace(old.pace(), now.since(old.seen()));
        let entry = self.entry(old.key(), old.is_second(), pace);
        let has_moved = own.replace(at, old, entry);
        let is_other_claim = entry.is_claimed() && old.provenance() != entry.provenance();
        if has_moved || old.is_claimed() != entry.is_claimed() || is_other_claim {
            change.replaced(old, &entry);
            arrival.changed = true;
        }
        if pace > old.pace() && self.claim.is_none() && !self.is_told() {
            arrival.others_at_address = own.others_at(old.key(), self.id, now, rhythm, MOST_OTHERS);
        }
    }

    /// Keeps exactly one first address for a client, and removes addresses that the client has left. `gap` is the time
    /// since the previous announce from this endpoint. Costs nothing where no client has several addresses.
    fn settle<A: Ip, B: Ip>(
        &self,
        key: PeerKey<A>,
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
        let Some((_, me)) = own.at(key) else { return };
        let mut is_first = !me.is_second();
        if !is_first {
            if let Some((at, first)) = own.first_of(self.id) {
                if first.is_beside(key) && self.has_left(&first, gap, &me) {
                    own.remove_at(at);
                    change.gone(&first);
                    is_first = true;
                } else if self.precedes(&first, gap, &me) {
                    own.rank(first.key(), true);
                    is_first = true;
                }
            } else if let Some((_, first)) = other.as_ref().and_then(|other| other.first_of(self.id)) {
                if self.precedes(&first, gap, &me) {
                    other.iter_mut().for_each(|other| other.rank(first.key(), true));
                    is_first = true;
                }
            } else {
                is_first = true;
            }
            if is_first {
                own.rank(key, false);
                arrival.changed = true;
            }
        }
        if !own.is_long() || (is_first && me.is_second()) || fastrand::u8(..RARELY) == 0 {
            let dropped = |gone: &Entry<A>| {
                change.gone(gone);
                arrival.changed = true;
            };
            own.drop_silent(key, self.id, |entry| self.has_left(entry, gap, &me), dropped);
        }
    }

    /// Returns whether the client has left `endpoint`. A claim never removes a peer that announces from its own address.
    fn has_left<A: Ip>(&self, endpoint: &Entry<A>, gap: Option<u16>, me: &Entry<A>) -> bool {
        let StoreContext { life, rhythm, .. } = self.context;
        let silence = self.silence_of(endpoint);
        let may = endpoint.is_claimed() || !me.is_claimed();
        may && (life.is_over(silence) || silence > rhythm.silence(endpoint.pace(), me.pace(), gap))
    }

    /// Returns for how many ticks at least a peer has been silent. The time of a claimed peer is stored rounded down.
    fn silence_of<A: Ip>(&self, peer: &Entry<A>) -> u16 {
        self.context.now.since(peer.seen()).saturating_sub(peer.rounding())
    }

    /// Returns whether the announcing address replaces the client's first address. A client that takes another client's
    /// id stays at a second address while the other client announces.
    fn precedes<A: Ip, B: Ip>(&self, first: &Entry<B>, gap: Option<u16>, me: &Entry<A>) -> bool {
        let StoreContext { life, rhythm, .. } = self.context;
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
