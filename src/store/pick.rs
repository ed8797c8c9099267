//! Which peers of a swarm a client gets.

use fastrand::Rng;
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracker_protocol::{Ip, Peer};

use super::announcement::Announcement;
use super::client_id::{ClientId, Prefixes};
use super::context::StoreContext;
use super::entry::Entry;
use super::explanation::HiddenPeer;
use super::peers::Peers;
use super::ranked::Ranked;
use super::time::Tick;
use crate::topology::{Nearness, ZonedIp};

/// The most peers of a long list that are tried. A longer search would hold the lock too long.
const SEARCH: usize = 1_000;

/// How many peers of a long list are searched for near ones. The search may miss some, but each announce searches
/// another part of the list.
const LOOKS: usize = 512;

/// An announce that asks for peers.
pub(super) struct PeerQuery<'a> {
    pub(super) announcement: &'a Announcement,
    pub(super) context: StoreContext<'a>,
    pub(super) id: ClientId,
    pub(super) prefixes: &'a Prefixes,
    /// Whether expired peers were found.
    pub(super) found_expired: Cell<bool>,
}

impl PeerQuery<'_> {
    /// Adds peers of one list. Returns how many peers were added.
    pub(super) fn pick<A: Ip>(&self, peers: &Peers<A>, is_second: bool, want: usize, out: &mut Vec<Peer<A>>) -> usize {
        let &Announcement { place, role, .. } = self.announcement;
        let (own, zone, now) = (A::of(place.ip), place.zone, self.context.now);
        let nearness = |entry: &Entry<A>| Nearness::of(own, zone, entry.ip, entry.zone);
        let nearest = Nearness::nearest(own, zone);
        let eligible = peers.eligible(role.downloads(), is_second);
        let visible = |entry: &Entry<A>| self.visible(entry, now);
        if is_second {
            let mut more = Vec::new();
            // Several peers behind one NAT may have the same external address and port.
            let is_new = |peer: &Peer<A>| !out.iter().any(|other| other.endpoint == peer.endpoint);
            let visible = |entry: &Entry<A>| self.visible(entry, now).filter(is_new);
            pick_from(eligible, nearest, nearness, visible, &mut Ranked::without_repeats(&mut more, want));
            let visible = more.len();
            out.append(&mut more);
            return visible;
        }
        out.reserve_exact(want.min(eligible.len()));
        pick_from(eligible, nearest, nearness, visible, &mut Ranked::new(out, want));
        out.len()
    }

    /// Returns the peer as the client gets it. `None` if the client does not get the peer.
    pub(super) fn visible<A: Ip>(&self, entry: &Entry<A>, now: Tick) -> Option<Peer<A>> {
        match self.judge(entry, now) {
            Ok(peer) => Some(peer),
            Err(HiddenPeer::Expired) => {
                self.found_expired.set(true);
                None
            }
            Err(_) => None,
        }
    }

    /// Returns the peer as the client gets it, or why the client does not get the peer.
    pub(super) fn judge<A: Ip>(&self, entry: &Entry<A>, now: Tick) -> Result<Peer<A>, HiddenPeer> {
        let &Announcement { place, port, ids, .. } = self.announcement;
        if self.context.life.is_over(now.since(entry.seen())) {
            return Err(HiddenPeer::Expired);
        }
        let mut endpoint = entry.endpoint();
        let peer = ZonedIp { ip: endpoint.ip.into(), zone: entry.zone };
        if entry.is_of(self.id) || (peer == place && Some(endpoint.port) == port) {
            return Err(HiddenPeer::Itself);
        }
        if entry.is_outside() && self.reaches_the_first_of(peer) {
            return Err(HiddenPeer::FirstAddressServes);
        }
        let visible = self.context.topology.visible_address(place, peer).and_then(A::of);
        endpoint.ip = visible.ok_or(HiddenPeer::Unreachable)?;
        Ok(Peer { endpoint, id: if ids { self.prefixes.restore(entry.id()) } else { None } })
    }

    /// Returns whether the client can reach the first address of a peer. If so, the client does not need `outside`, the
    /// peer's claimed public address.
    pub(super) fn reaches_the_first_of(&self, outside: ZonedIp) -> bool {
        let ip = match outside.ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        };
        let asks = self.announcement.place;
        self.context.topology.visible_address(asks, ZonedIp { ip, ..outside }).is_some()
    }
}

/// Fills `out` with the nearest of the eligible peers that it looks at, in random order. `nearest` is the best result
/// of `nearness`. `visible` returns the peer as the client gets it, or none.
pub(super) fn pick_from<A: Ip>(
    eligible: &[Entry<A>],
    nearest: Nearness,
    nearness: impl Fn(&Entry<A>) -> Nearness,
    visible: impl Fn(&Entry<A>) -> Option<Peer<A>>,
    out: &mut Ranked<'_, A>,
) {
    let offer = |entry, may_be_there: bool, out: &mut Ranked<'_, A>| {
        let nearness = nearness(entry);
        let peer = if out.wants(nearness) { visible(entry) } else { None };
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
    // Near peers are searched by a scan of consecutive entries: it takes a nanosecond per entry, and a random draw
    // takes many.
    let (beginning, end) = eligible.split_at_checked(fastrand::usize(..eligible.len())).unwrap_or_default();
    let is_near = |entry: &&Entry<A>| nearness(entry) < Nearness::Elsewhere;
    for entry in end.iter().chain(beginning).take(LOOKS).filter(is_near) {
        if !out.wants(nearest) {
            break;
        }
        offer(entry, true, out);
    }
}

/// Yields all entries in an order that is random enough, without a copy. The list is divided into `strata` equal
/// stretches. A round yields one entry of each stretch. The first stretch of a round and the first place in each
/// stretch are random. Later rounds take the next entries, which are already in the processor's cache.
pub(super) fn spread<T>(entries: &[T], strata: usize) -> impl Iterator<Item = &T> {
    // The first stretches have one more entry if the division has a remainder.
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
