//! Applies the records of other instances to a swarm.

use std::net::IpAddr;

use super::announcement::{Action, Announcement};
use super::client_id::Prefixes;
use super::completions::Completions;
use super::context::{Hearer, StoreContext};
use super::delta::CountDelta;
use super::entry::PeerKey;
use super::leaving::Leaving;
use super::peers::Peers;
use super::recent_moves::HeardAt;
use super::record::{Applied, PeerNews, PeerRecord, RecordRefusal};
use super::swarm::{SWEEP, Swarm, key_of};
use crate::topology::reach::Reach;
use crate::topology::{ZoneId, ZonedIp};
use tracker_protocol::{Ip, Role};

/// A record of another instance, as the store uses it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// The record as an announce that wants no peers.
    pub(super) announcement: Announcement,
    /// How many ticks ago the other instance heard the announce.
    pub(super) ago: u16,
    /// The moment at which the other instance heard the announce.
    pub(super) heard: HeardAt,
    /// How many downloads of the torrent the other instance has counted.
    pub(super) downloaded: u32,
}

impl Told {
    /// Turns a record into an announce. Another instance heard the announce `ago` ticks ago, at the moment `heard`.
    pub(super) fn new(
        record: &PeerRecord,
        zone: Option<ZoneId>,
        ago: u16,
        heard: HeardAt,
    ) -> Result<Self, RecordRefusal> {
        let &PeerRecord { ip, is_claim, peer_id, news, downloaded } = record;
        if ip.to_canonical() != ip || Reach::of(ip) == Reach::Nowhere {
            return Err(RecordRefusal::Address);
        }
        let (port, role, action) = match news {
            PeerNews::Stays { port, role, completed } => (Some(port), role, Action::Stay { completed }),
            PeerNews::Left { port } => (port, Role::Leecher, Action::Leave),
        };
        let announcement = Announcement {
            place: ZonedIp { ip, zone },
            is_claim,
            outside: None,
            // A record does not name the source of a claim. All such claims count for one source, so that a flood of
            // them takes no room from other sources.
            source: if is_claim { ZonedIp::nowhere(false).ip } else { ip },
            port,
            peer_id,
            role,
            started: false,
            action,
            want: 0,
            ids: false,
        };
        Ok(Self { announcement, ago, heard, downloaded })
    }
}

impl Swarm {
    /// Applies a record as if its announce had come here when the other instance heard it. Newer entries stay.
    pub(super) fn apply(
        &mut self,
        context: StoreContext<'_>,
        told: &Told,
        prefixes: &mut Prefixes,
        completions: &mut Completions,
        change: &mut CountDelta<'_>,
    ) -> Result<Applied, RecordRefusal> {
        let StoreContext { now, life, .. } = context;
        let Told { announcement, ago, downloaded, .. } = told;
        self.last_use = self.last_use.again_at(now);
        self.sweep(now, life, SWEEP, change);
        let heard = now.minus(*ago);
        let is_kept = matches!(announcement.action, Action::Stay { .. });
        let id = prefixes.shorten(announcement.peer_id, heard, is_kept);
        let applied = match announcement.action {
            Action::Stay { .. } if self.silence_at(context, announcement).is_some_and(|silence| silence < *ago) => {
                Ok(Applied::Outdated)
            }
            Action::Stay { completed } => {
                // The announce takes effect at the moment at which it was heard. At the present moment, other entries
                // would seem silent for too long.
                let context = StoreContext { now: heard, hearer: Hearer::Another, ..context };
                let effect = self.stay(context, announcement, id, completed, completions, change);
                let expires = life.end(heard, 0);
                // The peer of an old record may expire before all others.
                if !self.next_sweep.has_come(now) && self.next_sweep.since(expires) > 0 {
                    self.next_sweep = expires;
                }
                if effect.is_done { Ok(Applied::Recorded) } else { Err(RecordRefusal::Claimed) }
            }
            Action::Leave | Action::Peek => {
                let &Announcement { place, port, is_claim, .. } = announcement;
                self.depart(&Leaving { place, port, id, is_claim, heard: Some((now, *ago)) }, change);
                Ok(Applied::Left)
            }
        };
        self.counts.downloaded = self.counts.downloaded.max(*downloaded);
        applied
    }

    /// Returns how many ticks ago the swarm last heard of the peer at the announced endpoint. `None` if there is no
    /// peer, or if the peer has expired.
    fn silence_at(&self, context: StoreContext<'_>, announcement: &Announcement) -> Option<u16> {
        fn silence<A: Ip>(
            StoreContext { now, life, .. }: StoreContext<'_>,
            peers: Option<&Peers<A>>,
            key: Option<PeerKey<A>>,
        ) -> Option<u16> {
            let (_, entry) = peers?.at(key?)?;
            Some(now.since(entry.seen())).filter(|&silence| !life.is_over(silence))
        }
        let &Announcement { place: ZonedIp { ip, zone }, port, .. } = announcement;
        match ip {
            IpAddr::V4(ip) => silence(context, Some(self.v4()), key_of(ip, port, zone)),
            IpAddr::V6(ip) => silence(context, self.v6(), key_of(ip, port, zone)),
        }
    }
}

#[cfg(test)]
mod tests;
