//! One peer as it is kept.

use std::num::NonZeroU16;

use super::Tick;
use super::client_id::ClientId;
use crate::bittorrent::{Endpoint, Ip, Role, ZoneId};

/// By what a peer is the same peer again. The zone is part of it because two sites may use the same private network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spot<A> {
    pub(super) endpoint: Endpoint<A>,
    pub(super) zone: Option<ZoneId>,
}

/// What a peer is to its swarm, in the order in which a list has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind(u8);

impl Kind {
    /// Leechers first, partial seeds next, seeds last; of each, those that count before those that do not.
    pub(super) const ALL: [Self; 6] = [Self(0), Self(1), Self(2), Self(3), Self(4), Self(5)];

    /// The last kinds of their roles.
    pub(super) const LAST_LEECHER: Self = Self(1);
    pub(super) const LAST_PARTIAL_SEED: Self = Self(3);

    /// `is_second` is whether the peer is the second address of a client that counts under its first one.
    pub(super) fn new(role: Role, is_second: bool) -> Self {
        let role = match role {
            Role::Leecher => 0,
            Role::PartialSeed => 2,
            Role::Seed => 4,
        };
        Self(role + u8::from(is_second))
    }

    pub(super) fn role(self) -> Role {
        match self.0 / 2 {
            0 => Role::Leecher,
            1 => Role::PartialSeed,
            _ => Role::Seed,
        }
    }

    pub(super) fn is_second(self) -> bool {
        self.0 % 2 == 1
    }
}

/// 23 bytes for an IPv4 peer, 35 for an IPv6 peer: four or 16 of address, two of port, one of zone, two of time and kind. 14
/// are the peer id, without which dictionary replies would not be whole, a client could not be kept from its own second
/// address, and anybody could sign off anybody. Nothing is aligned, so that nothing is padding.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<A> {
    pub(super) ip: A,
    port: [u8; 2],
    pub(super) zone: Option<ZoneId>,
    /// The kind above the bits of the time.
    state: [u8; 2],
    pub(super) id: ClientId,
}

impl<A: Ip> Entry<A> {
    pub(super) fn new(spot: Spot<A>, id: ClientId, kind: Kind, seen: Tick) -> Self {
        let Spot { endpoint: Endpoint { ip, port }, zone } = spot;
        let state = u16::from(kind.0) << Tick::BITS | seen.0;
        Self { ip, port: port.get().to_ne_bytes(), zone, state: state.to_ne_bytes(), id }
    }

    pub(super) fn endpoint(&self) -> Endpoint<A> {
        // Ports come from endpoints, which have none that is 0.
        let port = NonZeroU16::new(u16::from_ne_bytes(self.port)).unwrap_or(NonZeroU16::MIN);
        Endpoint { ip: self.ip, port }
    }

    pub(super) fn spot(&self) -> Spot<A> {
        Spot { endpoint: self.endpoint(), zone: self.zone }
    }

    pub(super) fn is_at(&self, spot: Spot<A>) -> bool {
        self.ip == spot.endpoint.ip && self.port == spot.endpoint.port.get().to_ne_bytes() && self.zone == spot.zone
    }

    /// When it was last heard of.
    pub(super) fn seen(&self) -> Tick {
        Tick(u16::from_ne_bytes(self.state) & Tick::MASK)
    }

    pub(super) fn kind(&self) -> Kind {
        Kind((u16::from_ne_bytes(self.state) >> Tick::BITS) as u8)
    }

    pub(super) fn role(&self) -> Role {
        self.kind().role()
    }
}

#[cfg(test)]
mod tests {
    use super::super::client_id::Prefixes;
    use super::*;
    use crate::bittorrent::PeerId;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    proptest! {
        #[test]
        fn an_entry_keeps_what_it_is_given(
            (ip, port) in (any::<Ipv4Addr>(), any::<NonZeroU16>()), zone in any::<Option<u8>>(),
            seen in 0..=Tick::MASK, kind in 0..6_usize, id in any::<[u8; 20]>(),
        ) {
            let zone = zone.and_then(|zone| ZoneId::nth(usize::from(zone)));
            let spot = Spot { endpoint: Endpoint { ip, port }, zone };
            let (kind, id) = (Kind::ALL[kind], Prefixes::default().shorten(PeerId(id)));
            let entry = Entry::new(spot, id, kind, Tick(seen));
            prop_assert_eq!((entry.spot(), entry.id, entry.kind(), entry.seen()), (spot, id, kind, Tick(seen)));
            prop_assert_eq!(Kind::new(kind.role(), kind.is_second()), kind);
        }
    }

    #[test]
    fn an_entry_is_as_small_as_said() {
        assert_eq!((size_of::<Entry<Ipv4Addr>>(), size_of::<Entry<Ipv6Addr>>()), (23, 35));
    }
}
