//! The place where announces leave records for the other instances.

use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroU16};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use super::batch::SharedRecord;
use super::gate::{ShareGate, ShareReason};
use super::pending::PendingRecords;
use super::time::{EngineClock, EngineTime};
use crate::clock::Timestamp;
use crate::store::{Action, Announcement, Hearing, PeerChange, PeerNews, PeerRecord, Selection};
use crate::topology::ZonedIp;
use tracker_protocol::InfoHash;

/// Connects announces with the loop that writes and follows the logs. Announces put records in, and the loop takes them
/// out.
#[derive(Debug)]
pub struct SharedSwarms {
    gate: ShareGate,
    clock: EngineClock,
    /// The latest moment at which records may have been lost, in tenths of a second. 0 means never.
    resync: AtomicU32,
    pending: PendingRecords,
}

impl SharedSwarms {
    /// Makes a value without records.
    pub fn new(peer_age: Duration) -> Self {
        Self {
            gate: ShareGate::new(peer_age),
            clock: EngineClock::default(),
            resync: AtomicU32::new(0),
            pending: PendingRecords::default(),
        }
    }

    /// Shares an announce, if the other instances must hear of it. Returns why the announce is shared. `selection` is what
    /// the announce got from the store.
    pub fn heard(
        &self,
        now: Timestamp,
        info_hash: InfoHash,
        announcement: &Announcement,
        selection: &Selection,
    ) -> Option<ShareReason> {
        let hearing = selection.hearing.as_ref()?;
        let reason = self.reason(announcement, hearing)?;
        let Announcement { place, is_claim, outside, .. } = *announcement;
        // The second address gets the zone of the first address, as in the store.
        let second = outside.filter(|_| !is_claim).map(|ZonedIp { ip, .. }| (ip, true));
        for (ip, is_claim) in [Some((place.ip, is_claim)), second].into_iter().flatten() {
            let Some(news) = news(announcement, hearing) else { continue };
            let downloaded = selection.counts.downloaded;
            let peer = PeerRecord { ip, is_claim, peer_id: announcement.peer_id, news, downloaded };
            let zone = place.zone.and_then(|zone| u8::try_from(zone.number() + 1).ok()).and_then(NonZeroU8::new);
            if self.pending.push(now, SharedRecord { info_hash, zone, peer }) {
                self.resync(now);
            }
        }
        Some(reason)
    }

    fn reason(&self, announcement: &Announcement, hearing: &Hearing) -> Option<ShareReason> {
        let port = announcement.port.map_or(0, NonZeroU16::get);
        let endpoint = SocketAddr::new(announcement.place.ip, port);
        let resync = Some(Timestamp::from_tenths(self.resync.load(Relaxed))).filter(|resync| resync.tenths() > 0);
        self.gate.reason(hearing, self.clock.steady_at(hearing.at), endpoint, resync)
    }

    /// Returns the records that wait to be written.
    pub fn pending(&self) -> &PendingRecords {
        &self.pending
    }

    /// Makes each peer be shared once more, at its next announce, because records may have been lost.
    pub fn resync(&self, now: Timestamp) {
        self.resync.fetch_max(now.tenths().max(1), Relaxed);
    }

    /// Records what the engine's clock shows now. If the clock has jumped, boundaries may have been skipped, so each peer
    /// is shared once more. Returns whether the clock has jumped.
    pub fn align(&self, now: Timestamp, engine: EngineTime) -> bool {
        let is_other = self.clock.align(now, engine);
        if is_other {
            self.resync(now);
        }
        is_other
    }

    /// Returns what the engine's clock shows at a moment of our clock, as far as this instance knows.
    pub fn engine_time(&self, moment: Timestamp) -> EngineTime {
        self.clock.at(moment)
    }
}

/// Returns what the other instances hear of an announce. `None` if they hear nothing.
fn news(announcement: &Announcement, hearing: &Hearing) -> Option<PeerNews> {
    let &Announcement { port, role, action, .. } = announcement;
    match action {
        Action::Stay { .. } => {
            let completed = hearing.change == Some(PeerChange::Completed);
            port.map(|port| PeerNews::Stays { port, role, completed })
        }
        Action::Leave => Some(PeerNews::Left { port }),
        Action::Peek => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::pending::Partition;
    use super::*;
    use crate::topology::ZoneId;
    use std::net::Ipv4Addr;
    use tracker_protocol::{PeerId, Role, SwarmCounts};

    const TORRENT: InfoHash = InfoHash([7; 20]);

    /// Makes an announce from the second zone. The peer has a second address, for clients outside.
    fn announcement() -> Announcement {
        let ip = Ipv4Addr::new(192, 168, 1, 5).into();
        Announcement {
            place: ZonedIp { ip, zone: ZoneId::nth(1) },
            is_claim: false,
            outside: Some(ZonedIp { ip: Ipv4Addr::new(203, 0, 113, 9).into(), zone: None }),
            source: ip,
            port: NonZeroU16::new(6881),
            peer_id: PeerId([1; 20]),
            role: Role::Leecher,
            started: false,
            action: Action::Stay { completed: false },
            want: 50,
            ids: true,
        }
    }

    fn records(shared: &SharedSwarms) -> Vec<SharedRecord> {
        shared.pending().take(Partition::of(TORRENT), 9).into_iter().flat_map(|batch| batch.records).collect()
    }

    #[test]
    fn both_addresses_of_a_peer_are_shared_in_the_zone_of_the_first() {
        let shared = SharedSwarms::new(Duration::from_hours(3));
        let now = Timestamp::from_tenths(50);
        let heard = |announcement: &Announcement, change| {
            let hearing = Some(Hearing { at: now, silence: Some(Duration::ZERO), change });
            let counts = SwarmCounts { downloaded: 4, ..SwarmCounts::default() };
            shared.heard(now, TORRENT, announcement, &Selection { counts, hearing, ..Selection::default() })
        };
        assert_eq!(heard(&announcement(), None), None);
        assert_eq!(records(&shared), []);
        let joined = heard(&announcement(), Some(PeerChange::Joined));
        assert_eq!(joined, Some(ShareReason::Change(PeerChange::Joined)));
        let port = NonZeroU16::new(6881).unwrap();
        let record = |ip: [u8; 4], is_claim, news| SharedRecord {
            info_hash: TORRENT,
            zone: NonZeroU8::new(2),
            peer: PeerRecord { ip: ip.into(), is_claim, peer_id: PeerId([1; 20]), news, downloaded: 4 },
        };
        let stays = PeerNews::Stays { port, role: Role::Leecher, completed: false };
        let both = |news| [record([192, 168, 1, 5], false, news), record([203, 0, 113, 9], true, news)];
        assert_eq!(records(&shared), both(stays));
        let leaves = Announcement { action: Action::Leave, ..announcement() };
        heard(&leaves, Some(PeerChange::Left));
        assert_eq!(records(&shared), both(PeerNews::Left { port: Some(port) }));
        // A peer at a claimed address has no second address.
        heard(&Announcement { is_claim: true, ..announcement() }, Some(PeerChange::Joined));
        assert_eq!(records(&shared), [record([192, 168, 1, 5], true, stays)]);
        // After a loss, the same announce is shared once more.
        shared.resync(now);
        assert_eq!(heard(&announcement(), None), Some(ShareReason::Resync));
        assert_eq!(records(&shared), both(stays));
    }
}
