//! Which peers of a swarm a client is told.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracker_protocol::{Ip, Peer};

use super::announcement::Announcement;
use super::client_id::{ClientId, Prefixes};
use super::entry::Entry;
use super::peers::Peers;
use super::ranked::Ranked;
use super::swarm::Present;
use super::time::Tick;
use crate::topology::{Nearness, ZonedIp};

/// Who is to be told of whom.
pub(super) struct Asking<'a> {
    pub(super) announcement: &'a Announcement,
    pub(super) present: Present<'a>,
    pub(super) id: ClientId,
    pub(super) prefixes: &'a Prefixes,
    /// Whether some were met that have expired.
    pub(super) met_stale: Cell<bool>,
}

impl Asking<'_> {
    /// Adds peers of one list. Tells how many.
    pub(super) fn pick<A: Ip>(&self, peers: &Peers<A>, is_second: bool, want: usize, out: &mut Vec<Peer<A>>) -> usize {
        let &Announcement { place, role, .. } = self.announcement;
        let (own, zone, now) = (A::of(place.ip), place.zone, self.present.now);
        let nearness = |entry: &Entry<A>| Nearness::of(own, zone, entry.ip, entry.zone);
        let nearest = Nearness::nearest(own, zone);
        let eligible = peers.eligible(role.downloads(), is_second);
        let told = |entry: &Entry<A>| self.told(entry, now);
        if is_second {
            let mut more = Vec::new();
            Peers::pick(eligible, nearest, nearness, told, &mut Ranked::new(&mut more, want));
            // Behind one NAT, others may have been told under the same address and port.
            more.retain(|peer| !out.iter().any(|other| other.endpoint == peer.endpoint));
            let told = more.len();
            out.append(&mut more);
            return told;
        }
        out.reserve_exact(want.min(eligible.len()));
        Peers::pick(eligible, nearest, nearness, told, &mut Ranked::new(out, want));
        out.len()
    }

    /// As what the announcer is told of a peer, unless it has expired, is the announcer itself or cannot be reached.
    pub(super) fn told<A: Ip>(&self, entry: &Entry<A>, now: Tick) -> Option<Peer<A>> {
        let &Announcement { place, port, ids, .. } = self.announcement;
        if self.present.life.is_over(now.since(entry.seen())) {
            self.met_stale.set(true);
            return None;
        }
        let mut endpoint = entry.endpoint();
        let peer = ZonedIp { ip: endpoint.ip.into(), zone: entry.zone };
        if entry.is_of(self.id) || (peer == place && Some(endpoint.port) == port) {
            return None;
        }
        if entry.is_outside() && self.reaches_the_first_of(peer) {
            return None;
        }
        endpoint.ip = self.present.topology.visible_address(place, peer).and_then(A::of)?;
        Some(Peer { endpoint, id: if ids { self.prefixes.restore(entry.id()) } else { None } })
    }

    /// Whether the announcer can use the first address of a client whose public address this is, claimed for those who cannot.
    pub(super) fn reaches_the_first_of(&self, outside: ZonedIp) -> bool {
        let ip = match outside.ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
        };
        let asks = self.announcement.place;
        self.present.topology.visible_address(asks, ZonedIp { ip, ..outside }).is_some()
    }
}
