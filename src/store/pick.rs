//! Which peers of a swarm a client gets.

use fastrand::Rng;
use smallvec::SmallVec;
use std::cell::Cell;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use tracker_protocol::{Endpoint, Ip, Peer, PeerId};

use super::announcement::Announcement;
use super::client_id::{ClientId, Prefixes};
use super::context::StoreContext;
use super::entry::Entry;
use super::explanation::HiddenPeer;
use super::peers::Peers;
use super::ranked::Ranked;
use super::time::Tick;
use crate::topology::reach::Reach;
use crate::topology::{Nearness, ZonedIp};

/// The most peers of a long list that are tried. A longer search would hold the lock too long.
const SEARCH: usize = 1_000;

/// How many neighbours in a long list are picked together. A pick from elsewhere in the list waits for memory.
pub(super) const RUN: usize = 4;

/// How many runs are read at once.
const RUNS: usize = 8;

/// How many peers of a long list are searched for near ones. The search may miss some, but each announce searches
/// another part of the list.
const LOOKS: usize = 512;

/// An announce that asks for peers.
pub(super) struct PeerQuery<'a> {
    pub(super) announcement: &'a Announcement,
    pub(super) context: StoreContext<'a>,
    pub(super) id: ClientId,
    pub(super) prefixes: &'a Prefixes,
    /// Whether the client reaches all first addresses in its own subnet, so that the topology need not be asked for each.
    reaches_subnet: bool,
    /// Whether expired peers were found.
    pub(super) found_expired: Cell<bool>,
}

impl<'a> PeerQuery<'a> {
    pub(super) fn new(
        announcement: &'a Announcement,
        context: StoreContext<'a>,
        id: ClientId,
        prefixes: &'a Prefixes,
    ) -> Self {
        // Hosts whose addresses are of one kind reach each other within a subnet.
        let reaches_subnet = Reach::of_subnet(announcement.place.ip).is_some_and(|reach| reach != Reach::Nowhere);
        Self { announcement, context, id, prefixes, reaches_subnet, found_expired: Cell::new(false) }
    }

    /// Adds peers of one list. Returns how many peers were added.
    pub(super) fn pick<A: Ip>(&self, peers: &Peers<A>, is_second: bool, want: usize, out: &mut Vec<Peer<A>>) -> usize {
        let &Announcement { place, role, ids, .. } = self.announcement;
        let (own, zone, now) = (A::of(place.ip), place.zone, self.context.now);
        let nearness = |entry: &Entry<A>| Nearness::of(own, zone, entry.ip, entry.zone);
        let nearest = Nearness::nearest(own, zone);
        let eligible = peers.eligible(role.downloads(), is_second);
        let visible = |entry: &Entry<A>| self.visible(entry, now);
        let id = |entry: &Entry<A>| if ids { self.prefixes.restore(entry.id()) } else { None };
        if is_second {
            let mut more = Vec::new();
            // Several peers behind one NAT may have the same external address and port.
            let is_new = |endpoint: &Endpoint<A>| !out.iter().any(|other| other.endpoint == *endpoint);
            let visible = |entry: &Entry<A>| self.visible(entry, now).filter(is_new);
            pick_from(eligible, nearest, nearness, visible, id, &mut Ranked::without_repeats(&mut more, want));
            let visible = more.len();
            out.append(&mut more);
            return visible;
        }
        out.reserve_exact(want.min(eligible.len()));
        pick_from(eligible, nearest, nearness, visible, id, &mut Ranked::new(out, want));
        out.len()
    }

    /// Returns the endpoint at which the client gets the peer. `None` if the client does not get the peer.
    pub(super) fn visible<A: Ip>(&self, entry: &Entry<A>, now: Tick) -> Option<Endpoint<A>> {
        match self.judge(entry, now) {
            Ok(endpoint) => Some(endpoint),
            Err(HiddenPeer::Expired) => {
                self.found_expired.set(true);
                None
            }
            Err(_) => None,
        }
    }

    /// Returns the endpoint at which the client gets the peer, or why the client does not get the peer.
    pub(super) fn judge<A: Ip>(&self, entry: &Entry<A>, now: Tick) -> Result<Endpoint<A>, HiddenPeer> {
        let &Announcement { place, port, .. } = self.announcement;
        if self.context.life.is_over(now.since(entry.seen())) {
            return Err(HiddenPeer::Expired);
        }
        let mut endpoint = entry.endpoint();
        let peer = ZonedIp { ip: endpoint.ip.into(), zone: entry.zone };
        if entry.is_of(self.id) || (peer == place && Some(endpoint.port) == port) {
            return Err(HiddenPeer::Itself);
        }
        let is_near = Nearness::of(A::of(place.ip), place.zone, entry.ip, entry.zone) == Nearness::Prefix;
        if is_near && self.reaches_subnet && !entry.is_second() {
            return Ok(endpoint);
        }
        if entry.is_outside() && self.reaches_the_first_of(peer) {
            return Err(HiddenPeer::FirstAddressServes);
        }
        let visible = self.context.topology.visible_address(place, peer).and_then(A::of);
        endpoint.ip = visible.ok_or(HiddenPeer::Unreachable)?;
        Ok(endpoint)
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
/// of `nearness`. `visible` returns the endpoint at which the client gets a peer, or none, and `id` the peer's id for the
/// reply.
pub(super) fn pick_from<A: Ip>(
    eligible: &[Entry<A>],
    nearest: Nearness,
    nearness: impl Fn(&Entry<A>) -> Nearness,
    visible: impl Fn(&Entry<A>) -> Option<Endpoint<A>>,
    id: impl Fn(&Entry<A>) -> Option<PeerId>,
    out: &mut Ranked<'_, A>,
) {
    let offer = |entry, may_be_there: bool, out: &mut Ranked<'_, A>| {
        let nearness = nearness(entry);
        let endpoint = if out.wants(nearness) { visible(entry) } else { None };
        if let Some(endpoint) = endpoint.filter(|&endpoint| !may_be_there || !out.has(endpoint)) {
            out.put(endpoint, || id(entry), nearness, endpoint != entry.endpoint());
        }
    };
    if eligible.len() <= out.want() {
        eligible.iter().for_each(|entry| offer(entry, false, out));
        return;
    }
    let mut looked = 0;
    let mut runs = spread(eligible, out.want() / RUN + 1);
    while !out.is_full() && looked < SEARCH && looked < eligible.len() {
        let some: SmallVec<[[&[Entry<A>]; 2]; RUNS]> = runs.by_ref().take(RUNS).collect();
        // If some bytes of all these runs are read first, the processor fetches their memory at once.
        let ends = some.iter().flatten().flat_map(|run| run.first().into_iter().chain(run.last()));
        black_box(ends.fold(0, |bytes, entry| bytes ^ entry.any_byte()));
        for run in some.iter().flatten() {
            looked += run.len();
            run.iter().for_each(|entry| offer(entry, false, out));
        }
    }
    if !out.wants(nearest) {
        return;
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

/// Yields all entries, a few neighbours at a time, in an order that is random enough. The list is divided into `strata`
/// equal stretches. A round yields the next [`RUN`] entries of each. The first stretch of a round and the first place in
/// each stretch are random. A run that goes over the end of its stretch continues at the beginning, in a second part.
pub(super) fn spread<T>(entries: &[T], strata: usize) -> impl Iterator<Item = [&[T]; 2]> {
    // The first stretches have one more entry if the division has a remainder.
    let (length, longer) = (entries.len() / strata, entries.len() % strata);
    let first = fastrand::usize(..strata);
    let seed = fastrand::u64(..);
    (0..=length / RUN).flat_map(move |round| {
        (first..strata).chain(0..first).map(move |stratum| {
            let start = stratum * length + stratum.min(longer);
            let length = length + usize::from(stratum < longer);
            let place = Rng::with_seed(seed.wrapping_add(stratum as u64)).usize(..length.max(1));
            let stretch = entries.get(start..start + length).unwrap_or_default();
            let (beginning, end) = stretch.split_at_checked(place).unwrap_or_default();
            let run = |part: usize| (round * RUN).saturating_sub(part)..((round + 1) * RUN).saturating_sub(part);
            [within(end, run(0)), within(beginning, run(end.len()))]
        })
    })
}

fn within<T>(entries: &[T], places: Range<usize>) -> &[T] {
    entries.get(places.start.min(entries.len())..places.end.min(entries.len())).unwrap_or_default()
}
