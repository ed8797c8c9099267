//! One peer as it is stored.

use std::num::NonZeroU16;

use super::client_id::ClientId;
use super::time::{Pace, Tick};
use crate::eviction::Source;
use crate::topology::ZoneId;
use crate::topology::reach::Reach;
use tracker_protocol::{Endpoint, Ip, Role};

/// What identifies a peer. The zone is included, because two sites may use the same private network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PeerKey<A> {
    pub(super) endpoint: Endpoint<A>,
    pub(super) zone: Option<ZoneId>,
}

/// A peer's role, and whether this is the client's first address. Lists of peers are sorted by this value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerState(u8);

impl PeerState {
    /// First addresses of leechers, partial seeds, seeds; then second addresses in the reverse order. In each half, the
    /// addresses that a client gets are contiguous: those of all roles for a leecher, and those of leechers for any
    /// other client.
    pub(super) const ALL: [Self; 6] = [Self(0), Self(1), Self(2), Self(3), Self(4), Self(5)];

    pub(super) const LEECHERS: Self = Self(0);
    pub(super) const PARTIAL_SEEDS: Self = Self(1);
    pub(super) const SEEDS: Self = Self(2);
    /// The last state before second addresses of leechers.
    pub(super) const SECOND_OTHERS: Self = Self(4);

    /// Makes a state. `is_second` is whether this is a second address. A client counts only at its first address.
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

    /// Returns the position of the state in [`Self::ALL`].
    pub(super) fn number(self) -> usize {
        self.0.into()
    }
}

/// How a peer's address is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provenance {
    /// The peer announces from the address, at this pace.
    Own(Pace),
    /// The claimant with this number claims the address.
    Claim(u8),
}

/// A peer in 23 bytes for IPv4 and 35 for IPv6: 4 or 16 of address, 2 of port, 1 of zone, 2 of time and pace, 14 of
/// state and peer id. Dictionary replies contain the id. The id also keeps a client from getting its own second
/// address, and from removing another client. Byte-aligned fields need no padding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<A> {
    pub(super) ip: A,
    port: [u8; 2],
    pub(super) zone: Option<ZoneId>,
    /// The high 2 bits are the pace, the other 14 the time. A claimed peer stores its claimant's number in the pace and
    /// in the lowest 4 bits of the time.
    state: [u8; 2],
    /// From the highest bit: 1 bit for whether the peer is claimed, 3 for its [`PeerState`], 12 for the id's prefix.
    tag: [u8; 2],
    rest: [u8; 12],
}

const CLAIMED: u16 = 1 << 15;
const KIND: u16 = 7;
const PREFIX: u16 = (1 << ClientId::PREFIX_BITS) - 1;
/// The bits of the time that a claimed peer does not store.
const CLAIMANT: u16 = 15;

impl<A: Ip> Entry<A> {
    pub(super) fn new(key: PeerKey<A>, id: ClientId, kind: PeerState, provenance: Provenance, seen: Tick) -> Self {
        let PeerKey { endpoint: Endpoint { ip, port }, zone } = key;
        let kind = u16::from(kind.0) << ClientId::PREFIX_BITS;
        let (state, tag) = match provenance {
            Provenance::Own(Pace(pace)) => (u16::from(pace) << Tick::BITS | seen.0, kind | id.prefix()),
            Provenance::Claim(by) => {
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

    /// Returns some byte of the entry.
    pub(super) fn any_byte(&self) -> u8 {
        let [.., last] = self.rest;
        last
    }

    pub(super) fn is_of(&self, id: ClientId) -> bool {
        self.rest == id.rest() && self.tag() & PREFIX == id.prefix()
    }

    fn tag(&self) -> u16 {
        u16::from_ne_bytes(self.tag)
    }

    pub(super) fn endpoint(&self) -> Endpoint<A> {
        // The port came from an endpoint. It is never 0.
        let port = NonZeroU16::new(u16::from_ne_bytes(self.port)).unwrap_or(NonZeroU16::MIN);
        Endpoint { ip: self.ip, port }
    }

    pub(super) fn key(&self) -> PeerKey<A> {
        PeerKey { endpoint: self.endpoint(), zone: self.zone }
    }

    pub(super) fn is_at(&self, key: PeerKey<A>) -> bool {
        self.ip == key.endpoint.ip && self.port == key.endpoint.port.get().to_ne_bytes() && self.zone == key.zone
    }

    /// Returns whether the peer has the address of this key, at any port.
    pub(super) fn is_beside(&self, key: PeerKey<A>) -> bool {
        self.ip == key.endpoint.ip && self.zone == key.zone
    }

    /// Returns when the peer announced last.
    pub(super) fn seen(&self) -> Tick {
        Tick(u16::from_ne_bytes(self.state) & Tick::MASK & !self.rounding())
    }

    /// Returns by how many ticks [`Self::seen`] may be too early.
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

    /// Returns whether this is a claimed public second address, for clients that cannot use the first one.
    pub(super) fn is_outside(&self) -> bool {
        self.is_claimed() && self.is_second() && Reach::of(self.ip.into()) == Reach::Everywhere
    }

    pub(super) fn provenance(&self) -> Provenance {
        let state = u16::from_ne_bytes(self.state);
        let high = (state >> Tick::BITS) as u8;
        if self.is_claimed() {
            Provenance::Claim(high << 4 | (state & CLAIMANT) as u8)
        } else {
            Provenance::Own(Pace(high))
        }
    }

    pub(super) fn pace(&self) -> Pace {
        if let Provenance::Own(pace) = self.provenance() { pace } else { Pace::UNKNOWN }
    }

    /// Returns the source that the peer counts for.
    pub(super) fn source(&self) -> Source {
        match self.provenance() {
            Provenance::Own(_) => Source::own(self.ip.into()),
            Provenance::Claim(by) => Source::Claim(by),
        }
    }
}

/// Returns where the entries of this state end, in a list that is sorted by state.
pub(super) fn end_of<A: Ip>(entries: &[Entry<A>], state: PeerState) -> usize {
    entries.partition_point(|entry| entry.kind() <= state)
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
        fn an_entry_keeps_its_values(
            (ip, port) in (any::<Ipv4Addr>(), any::<NonZeroU16>()), zone in any::<Option<u8>>(),
            seen in 0..=Tick::MASK, kind in 0..6_usize, id in any::<[u8; 20]>(), pace in 0..4_u8, by in 0..CLAIMANTS,
        ) {
            let zone = zone.and_then(|zone| ZoneId::nth(usize::from(zone)));
            let key = PeerKey { endpoint: Endpoint { ip, port }, zone };
            let (kind, id) = (PeerState::ALL[kind], Prefixes::default().shorten(PeerId(id), Tick(0), true));
            for (provenance, seen_again) in [(Provenance::Own(Pace(pace)), seen), (Provenance::Claim(by), seen & !15)] {
                let entry = Entry::new(key, id, kind, provenance, Tick(seen));
                prop_assert_eq!((entry.key(), entry.id(), entry.kind()), (key, id, kind));
                prop_assert_eq!((entry.provenance(), entry.seen()), (provenance, Tick(seen_again)));
                prop_assert!(entry.is_of(id) && entry.is_claimed() == matches!(provenance, Provenance::Claim(_)));
            }
            prop_assert_eq!(PeerState::new(kind.role(), kind.is_second()), kind);
        }
    }

    #[test]
    fn an_entry_has_the_documented_size() {
        assert_eq!((size_of::<Entry<Ipv4Addr>>(), size_of::<Entry<Ipv6Addr>>()), (23, 35));
    }
}
