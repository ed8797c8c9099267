//! One peer as it is kept.

use std::num::NonZeroU16;

use super::client_id::ClientId;
use super::{Pace, Tick};
use crate::eviction::Source;
use crate::topology::ZoneId;
use crate::topology::reach::Reach;
use tracker_protocol::{Endpoint, Ip, Role};

/// By what a peer is the same peer again. The zone is part of it because two sites may use the same private network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PeerKey<A> {
    pub(super) endpoint: Endpoint<A>,
    pub(super) zone: Option<ZoneId>,
}

/// What a peer is to its swarm, in the order in which a list has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerState(u8);

impl PeerState {
    /// First addresses before second ones. Of the first: leechers, partial seeds, seeds. Of the second: seeds, partial seeds,
    /// leechers. So those that a client is told of, be it all or the leechers, stand together.
    pub(super) const ALL: [Self; 6] = [Self(0), Self(1), Self(2), Self(3), Self(4), Self(5)];

    pub(super) const LEECHERS: Self = Self(0);
    pub(super) const PARTIAL_SEEDS: Self = Self(1);
    pub(super) const SEEDS: Self = Self(2);
    /// The last but second addresses of leechers.
    pub(super) const SECOND_OTHERS: Self = Self(4);

    /// `is_second` is whether the peer is the second address of a client that counts under its first one.
    pub(super) fn new(role: Role, is_second: bool) -> Self {
        let role = match role {
            Role::Leecher => 0,
            Role::PartialSeed => 1,
            Role::Seed => 2,
        };
        Self(if is_second { 5 - role } else { role })
    }

    pub(super) fn role(self) -> Role {
        match self.0 {
            0 | 5 => Role::Leecher,
            1 | 4 => Role::PartialSeed,
            _ => Role::Seed,
        }
    }

    pub(super) fn is_second(self) -> bool {
        self > Self::SEEDS
    }
}

/// Who says that a peer is where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The peer: the announces came from its address, at this pace.
    Own(Pace),
    /// A claim, of this claimant.
    Claim(u8),
}

/// 23 bytes for an IPv4 peer, 35 for an IPv6 peer: four or 16 of address, two of port, one of zone, two of time and pace. 14
/// are kind and peer id, without which dictionary replies would not be whole, a client could not be kept from its own second
/// address, and anybody could sign off anybody. Nothing is aligned, so that nothing is padding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<A> {
    pub(super) ip: A,
    port: [u8; 2],
    pub(super) zone: Option<ZoneId>,
    /// The pace above the bits of the time. When the peer is claimed: two bits of the claimant in place of the pace, and four
    /// in place of the lowest bits of the time.
    state: [u8; 2],
    /// Whether it is claimed, and the kind, above the number of the id's prefix.
    tag: [u8; 2],
    rest: [u8; 12],
}

const CLAIMED: u16 = 1 << 15;
const KIND: u16 = 7;
const PREFIX: u16 = (1 << ClientId::PREFIX_BITS) - 1;
/// The bits of the time that a claimed peer does without.
const CLAIMANT: u16 = 15;

impl<A: Ip> Entry<A> {
    pub(super) fn new(spot: PeerKey<A>, id: ClientId, kind: PeerState, word: Word, seen: Tick) -> Self {
        let PeerKey { endpoint: Endpoint { ip, port }, zone } = spot;
        let kind = u16::from(kind.0) << ClientId::PREFIX_BITS;
        let (state, tag) = match word {
            Word::Own(Pace(pace)) => (u16::from(pace) << Tick::BITS | seen.0, kind | id.prefix()),
            Word::Claim(by) => {
                let by = u16::from(by);
                let state = by >> 4 << Tick::BITS | seen.0 & !CLAIMANT | by & CLAIMANT;
                (state, CLAIMED | kind | id.prefix())
            }
        };
        let (state, tag) = (state.to_ne_bytes(), tag.to_ne_bytes());
        Self { ip, port: port.get().to_ne_bytes(), zone, state, tag, rest: id.rest() }
    }

    pub(super) fn id(&self) -> ClientId {
        ClientId::new(self.tag() & PREFIX, self.rest)
    }

    pub(super) fn is_of(&self, id: ClientId) -> bool {
        self.rest == id.rest() && self.tag() & PREFIX == id.prefix()
    }

    fn tag(&self) -> u16 {
        u16::from_ne_bytes(self.tag)
    }

    pub(super) fn endpoint(&self) -> Endpoint<A> {
        // Ports come from endpoints, which have none that is 0.
        let port = NonZeroU16::new(u16::from_ne_bytes(self.port)).unwrap_or(NonZeroU16::MIN);
        Endpoint { ip: self.ip, port }
    }

    pub(super) fn spot(&self) -> PeerKey<A> {
        PeerKey { endpoint: self.endpoint(), zone: self.zone }
    }

    pub(super) fn is_at(&self, spot: PeerKey<A>) -> bool {
        self.ip == spot.endpoint.ip && self.port == spot.endpoint.port.get().to_ne_bytes() && self.zone == spot.zone
    }

    /// Whether it is at that address, at any port.
    pub(super) fn is_beside(&self, spot: PeerKey<A>) -> bool {
        self.ip == spot.endpoint.ip && self.zone == spot.zone
    }

    /// When it was last heard of.
    pub(super) fn seen(&self) -> Tick {
        Tick(u16::from_ne_bytes(self.state) & Tick::MASK & !self.rounding())
    }

    /// By how many ticks it may have been heard of later than that.
    pub(super) fn rounding(&self) -> u16 {
        if self.is_claimed() { CLAIMANT } else { 0 }
    }

    pub(super) fn kind(&self) -> PeerState {
        PeerState((self.tag() >> ClientId::PREFIX_BITS & KIND) as u8)
    }

    pub(super) fn is_second(&self) -> bool {
        self.kind().is_second()
    }

    pub(super) fn is_claimed(&self) -> bool {
        self.tag() & CLAIMED != 0
    }

    /// Whether it is a second address that is claimed, and public: for those who cannot use the first.
    pub(super) fn is_outside(&self) -> bool {
        self.is_claimed() && self.is_second() && Reach::of(self.ip.into()) == Reach::Everywhere
    }

    pub(super) fn word(&self) -> Word {
        let state = u16::from_ne_bytes(self.state);
        let high = (state >> Tick::BITS) as u8;
        if self.is_claimed() { Word::Claim(high << 4 | (state & CLAIMANT) as u8) } else { Word::Own(Pace(high)) }
    }

    pub(super) fn pace(&self) -> Pace {
        if let Word::Own(pace) = self.word() { pace } else { Pace::UNKNOWN }
    }

    /// Who has recorded it.
    pub(super) fn source(&self) -> Source {
        match self.word() {
            Word::Own(_) => Source::own(self.ip.into()),
            Word::Claim(by) => Source::Claim(by),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::client_id::Prefixes;
    use super::*;
    use crate::eviction::CLAIMANTS;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use tracker_protocol::PeerId;

    proptest! {
        #[test]
        fn an_entry_keeps_what_it_is_given(
            (ip, port) in (any::<Ipv4Addr>(), any::<NonZeroU16>()), zone in any::<Option<u8>>(),
            seen in 0..=Tick::MASK, kind in 0..6_usize, id in any::<[u8; 20]>(), pace in 0..4_u8, by in 0..CLAIMANTS,
        ) {
            let zone = zone.and_then(|zone| ZoneId::nth(usize::from(zone)));
            let spot = PeerKey { endpoint: Endpoint { ip, port }, zone };
            let (kind, id) = (PeerState::ALL[kind], Prefixes::default().shorten(PeerId(id), Tick(0), true));
            for (word, seen_again) in [(Word::Own(Pace(pace)), seen), (Word::Claim(by), seen & !15)] {
                let entry = Entry::new(spot, id, kind, word, Tick(seen));
                prop_assert_eq!((entry.spot(), entry.id(), entry.kind()), (spot, id, kind));
                prop_assert_eq!((entry.word(), entry.seen()), (word, Tick(seen_again)));
                prop_assert!(entry.is_of(id) && entry.is_claimed() == matches!(word, Word::Claim(_)));
            }
            prop_assert_eq!(PeerState::new(kind.role(), kind.is_second()), kind);
        }
    }

    #[test]
    fn an_entry_is_as_small_as_said() {
        assert_eq!((size_of::<Entry<Ipv4Addr>>(), size_of::<Entry<Ipv6Addr>>()), (23, 35));
    }
}
