//! Shows the operator the peers of a swarm, and why a client gets some of them. Nothing changes, except that expired
//! peers may be dropped.

use std::collections::HashSet;

use super::announcement::{Action, Announcement};
use super::client_id::Prefixes;
use super::context::StoreContext;
use super::delta::CountDelta;
use super::entry::Entry;
use super::explanation::{
    HiddenPeer, ListedPeer, PeerAtAddress, PeerExplanation, PeerVerdict, SwarmExplanation, SwarmListing,
};
use super::peers::Peers;
use super::pick::PeerQuery;
use super::swarm::{SWEEP, Swarm};
use crate::topology::ZonedIp;
use tracker_protocol::{Ip, Role};

/// The most peers of each family that are listed or explained while the lock is held. An announce to a large swarm
/// looks at about as many peers.
const MOST: usize = 500;

impl Swarm {
    /// Explains what the client of this announcement gets. Without a port, the client is assumed to be the latest peer
    /// at its address.
    ///
    /// As before an announce, some expired peers are dropped first. If a client's first address is dropped, a second
    /// address of the client may become its first address. The explanation still shows the dropped peers.
    pub(super) fn explain(
        &mut self,
        context: StoreContext<'_>,
        announcement: &Announcement,
        prefixes: &mut Prefixes,
        change: &mut CountDelta<'_>,
    ) -> SwarmExplanation {
        let mut expired = Vec::new();
        note_expired(self.v4(), context, prefixes, &mut expired);
        self.v6().into_iter().for_each(|v6| note_expired(v6, context, prefixes, &mut expired));
        self.sweep(context.now, context.life, SWEEP, change);
        let found = match announcement.place.ip {
            _ if announcement.port.is_some() => None,
            ip if ip.is_ipv4() => latest_at(self.v4(), announcement.place, context, prefixes),
            _ => self.v6().and_then(|v6| latest_at(v6, announcement.place, context, prefixes)),
        };
        let mut announcement = Announcement { action: Action::Peek, ..*announcement };
        if let Some(PeerAtAddress { port, role, id }) = found {
            (announcement.port, announcement.role) = (Some(port), role);
            announcement.peer_id = id.unwrap_or(announcement.peer_id);
        }
        let id = prefixes.shorten(announcement.peer_id, context.now, false);
        let query = PeerQuery::new(&announcement, context, id, prefixes);
        let mut peers = Vec::new();
        let is_v4 = announcement.place.ip.is_ipv4();
        if !is_v4 {
            self.v6().into_iter().for_each(|v6| query.explain(v6, true, &mut peers));
        }
        query.explain(self.v4(), is_v4, &mut peers);
        if is_v4 {
            self.v6().into_iter().for_each(|v6| query.explain(v6, false, &mut peers));
        }
        hide_repeats(&mut peers);
        let more = self.len() - peers.len();
        // The sweep may have left expired peers in a long list. These peers are explained already.
        let shown: HashSet<_> = peers.iter().map(|explained| explained.peer.address).collect();
        expired.retain(|gone| !shown.contains(&gone.peer.address));
        peers.append(&mut expired);
        SwarmExplanation { client: found, counts: self.counts(), peers, more }
    }

    pub(super) fn list(&self, context: StoreContext<'_>, prefixes: &Prefixes) -> SwarmListing {
        let mut peers = Vec::new();
        list_family(self.v4(), context, prefixes, &mut peers);
        self.v6().into_iter().for_each(|v6| list_family(v6, context, prefixes, &mut peers));
        SwarmListing { counts: self.counts(), more: self.len() - peers.len(), peers }
    }
}

fn list_family<A: Ip>(peers: &Peers<A>, context: StoreContext<'_>, prefixes: &Prefixes, out: &mut Vec<ListedPeer>) {
    out.extend(peers.iter().take(MOST).map(|entry| listed(entry, context, prefixes)));
}

/// Adds the expired peers of one family.
fn note_expired<A: Ip>(
    peers: &Peers<A>,
    context: StoreContext<'_>,
    prefixes: &Prefixes,
    out: &mut Vec<PeerExplanation>,
) {
    let expired = peers.iter().take(MOST).map(|entry| listed(entry, context, prefixes)).filter(|peer| peer.is_expired);
    out.extend(expired.map(|peer| PeerExplanation { peer, verdict: PeerVerdict::Hidden(HiddenPeer::Expired) }));
}

fn listed<A: Ip>(
    entry: &Entry<A>,
    StoreContext { now, life, .. }: StoreContext<'_>,
    prefixes: &Prefixes,
) -> ListedPeer {
    let silence = now.since(entry.seen());
    ListedPeer {
        address: entry.endpoint().into(),
        zone: entry.zone,
        role: entry.kind().role(),
        is_second: entry.is_second(),
        is_claimed: entry.is_claimed(),
        silent_for: life.duration(silence),
        is_expired: life.is_over(silence),
        id: prefixes.restore(entry.id()),
    }
}

fn latest_at<A: Ip>(
    peers: &Peers<A>,
    place: ZonedIp,
    StoreContext { now, life, .. }: StoreContext<'_>,
    prefixes: &Prefixes,
) -> Option<PeerAtAddress> {
    let ip = A::of(place.ip)?;
    let here = peers.iter().take(MOST).filter(|entry| entry.ip == ip && entry.zone == place.zone);
    let silence = |entry: &&Entry<A>| now.since(entry.seen());
    let latest = here.filter(|entry| !life.is_over(silence(entry))).min_by_key(silence)?;
    let id = prefixes.restore(latest.id());
    Some(PeerAtAddress { port: latest.endpoint().port, role: latest.kind().role(), id })
}

impl PeerQuery<'_> {
    fn explain<A: Ip>(&self, peers: &Peers<A>, is_own_family: bool, out: &mut Vec<PeerExplanation>) {
        let StoreContext { now, topology, .. } = self.context;
        for entry in peers.iter().take(MOST) {
            let role = entry.kind().role();
            let verdict = match self.judge(entry, now) {
                Ok(_) if !self.announcement.role.downloads() && role != Role::Leecher => Err(HiddenPeer::BothSeeds),
                Ok(_) if !is_own_family && !topology.mixes_families() => Err(HiddenPeer::OtherFamily),
                Ok(endpoint) => Ok(endpoint.into()),
                Err(hidden) => Err(hidden),
            };
            let verdict = verdict.map_or_else(PeerVerdict::Hidden, PeerVerdict::Given);
            out.push(PeerExplanation { peer: listed(entry, self.context, self.prefixes), verdict });
        }
    }
}

/// If the client would get several peers at the same address and port, hides all of these peers but one.
fn hide_repeats(peers: &mut [PeerExplanation]) {
    let mut given = HashSet::new();
    // Replies have first addresses before second addresses.
    for is_second in [false, true] {
        for explained in peers.iter_mut().filter(|explained| explained.peer.is_second == is_second) {
            if matches!(explained.verdict, PeerVerdict::Given(address) if !given.insert(address)) {
                explained.verdict = PeerVerdict::Hidden(HiddenPeer::SameAddress);
            }
        }
    }
}

#[cfg(test)]
mod tests;
