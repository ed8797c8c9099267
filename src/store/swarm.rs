//! One torrent's peers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use super::peers::{Peers, Upsert};
use super::{Age, Moment};
use crate::bittorrent::{Endpoint, Ip, PeerId, PeerLists, Role, SwarmCounts};

/// From this size on a swarm is swept at most once a second: a sweep looks at every peer.
const LARGE: usize = 1_000;

/// What an announce means for a swarm.
#[derive(Clone, Copy, Debug)]
pub struct Announcement {
    /// The address that the peer is recorded under.
    pub ip: IpAddr,
    /// Where it listens there.
    pub port: Option<NonZeroU16>,
    /// Its id.
    pub peer_id: PeerId,
    /// What it does in the swarm.
    pub role: Role,
    /// What becomes of it.
    pub action: Action,
    /// How many others it wants to be told of.
    pub want: usize,
}

/// What becomes of a peer that announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is recorded, if it names a port. Others cannot connect to one that does not.
    Stay {
        /// Whether it has just finished its download.
        completed: bool,
    },
    /// It is removed.
    Leave,
    /// Nothing: it wants to be told of others only.
    Look,
}

/// What a swarm answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picked {
    /// The swarm after the announce.
    pub counts: SwarmCounts,
    /// Other peers, those of the announcer's own family before those of the other.
    pub peers: PeerLists,
    /// When the peer is new in the swarm: how many other clients are at its address.
    pub others_at_address: usize,
}

/// One torrent's peers, of both families.
#[derive(Debug, Default)]
pub(super) struct Swarm {
    v4: Peers<Ipv4Addr>,
    v6: Peers<Ipv6Addr>,
    downloaded: u32,
    /// No peer expires before; none while there is no peer.
    next_expiry: Option<Moment>,
    swept: Option<Moment>,
}

impl Swarm {
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    pub(super) fn announce(&mut self, now: Moment, age: Age, announcement: &Announcement) -> Picked {
        self.sweep(now, age);
        let others_at_address = match announcement.action {
            Action::Stay { completed } => self.stay(now, age, announcement, completed),
            Action::Leave => {
                self.leave(announcement);
                0
            }
            Action::Look => 0,
        };
        let mut peers = PeerLists::default();
        if announcement.want > 0 {
            self.pick(now, age, announcement, &mut peers);
        }
        Picked { counts: self.counts(), peers, others_at_address }
    }

    pub(super) fn counts(&self) -> SwarmCounts {
        let complete = self.v4.seeds() + self.v6.seeds();
        SwarmCounts {
            complete: count(complete),
            incomplete: count(self.len() - complete),
            partial_seeds: count(self.v4.partial_seeds() + self.v6.partial_seeds()),
            downloaded: self.downloaded,
        }
    }

    /// Peers by family and role, for the totals of the store.
    pub(super) fn census(&self) -> [[usize; 2]; 2] {
        [[self.v4.seeds(), self.v4.len() - self.v4.seeds()], [self.v6.seeds(), self.v6.len() - self.v6.seeds()]]
    }

    /// Drops the peers that have expired. Costs nothing until the first of them can have.
    pub(super) fn sweep(&mut self, now: Moment, age: Age) {
        if self.next_expiry.is_none_or(|expiry| now < expiry) {
            return;
        }
        let pause = Age::new(Duration::from_secs(1));
        if self.len() > LARGE && self.swept.is_some_and(|swept| now < swept.plus(pause)) {
            return;
        }
        self.swept = Some(now);
        let next = [self.v4.sweep(now, age), self.v6.sweep(now, age)];
        self.next_expiry = next.into_iter().flatten().min();
    }

    fn stay(&mut self, now: Moment, age: Age, announcement: &Announcement, completed: bool) -> usize {
        let &Announcement { ip, port, peer_id, role, .. } = announcement;
        let Some(port) = port else { return 0 };
        let (upsert, others) = match ip {
            IpAddr::V4(ip) => record(&mut self.v4, Endpoint { ip, port }, peer_id, role, now),
            IpAddr::V6(ip) => record(&mut self.v6, Endpoint { ip, port }, peer_id, role, now),
        };
        // A client that says twice that it has finished has finished once.
        if completed && upsert != Upsert::Refreshed(Role::Seed) {
            self.downloaded = self.downloaded.saturating_add(1);
        }
        self.next_expiry.get_or_insert(now.plus(age));
        others
    }

    fn leave(&mut self, announcement: &Announcement) {
        let &Announcement { ip, port, peer_id, .. } = announcement;
        match ip {
            IpAddr::V4(ip) => self.v4.remove(ip, port, peer_id),
            IpAddr::V6(ip) => self.v6.remove(ip, port, peer_id),
        };
    }

    /// The announcer's own family first: it is sure to reach that one.
    fn pick(&self, now: Moment, age: Age, announcement: &Announcement, out: &mut PeerLists) {
        let &Announcement { ip, want, .. } = announcement;
        match ip {
            IpAddr::V4(_) => {
                pick(&self.v4, now, age, announcement, want, &mut out.v4);
                pick(&self.v6, now, age, announcement, want - out.v4.len(), &mut out.v6);
            }
            IpAddr::V6(_) => {
                pick(&self.v6, now, age, announcement, want, &mut out.v6);
                pick(&self.v4, now, age, announcement, want - out.v6.len(), &mut out.v4);
            }
        }
    }
}

/// Records the peer. When it is new, tells how many others are at its address.
fn record<A: Ip>(peers: &mut Peers<A>, endpoint: Endpoint<A>, id: PeerId, role: Role, now: Moment) -> (Upsert, usize) {
    let upsert = peers.upsert(endpoint, id, role, now);
    let others = if upsert == Upsert::Joined { peers.others_at(endpoint.ip, id) } else { 0 };
    (upsert, others)
}

fn pick<A: Ip>(
    peers: &Peers<A>,
    now: Moment,
    age: Age,
    announcement: &Announcement,
    want: usize,
    out: &mut Vec<crate::bittorrent::Peer<A>>,
) {
    let &Announcement { ip, port, peer_id, role, .. } = announcement;
    out.reserve_exact(want.min(peers.len()));
    peers.pick(
        want,
        role.downloads(),
        |seen| now < seen.plus(age),
        |endpoint, id| {
            let itself = id == peer_id || (endpoint.ip.into() == ip && Some(endpoint.port) == port);
            itself || (endpoint.ip.is_loopback() && !ip.is_loopback())
        },
        out,
    );
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
