//! The peers that a forwarder gave for a torrent.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::interleave::Interleaved;
use super::own_peers::OwnPeers;
use tracker_protocol::upstream::{DroppedPeers, UpstreamReply};
use tracker_protocol::{Endpoint, Ip, Peer};

/// The most peers of each family that are kept from one reply: as many as one client can get.
const MAX_KEPT: usize = 200;

/// The most peers of each family in a combined list. Each client gets a different part of them.
const MAX_COMBINED: usize = 2 * MAX_KEPT;

/// The least time that a list is used. A client that announces every ten minutes always finds one.
const MIN_LIST_AGE: Duration = Duration::from_mins(20);

/// One forwarder's peers of one torrent, 6 or 18 bytes each, because there may be many lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamPeers {
    /// IPv4 peers.
    pub v4: Interleaved<Ipv4Addr>,
    /// IPv6 peers.
    pub v6: Interleaved<Ipv6Addr>,
    /// The forwarder's count of seeds.
    pub complete: u32,
    /// The forwarder's count of peers that are not seeds.
    pub incomplete: u32,
    /// How many peers of the reply are not kept, by reason.
    pub dropped: DroppedPeers,
    good_until: Instant,
}

impl UpstreamPeers {
    /// Returns a reply's peers without our own clients. `interval` is the time until the next announce.
    pub(super) fn new(reply: &UpstreamReply, interval: Duration, own: &OwnPeers, now: Instant) -> Self {
        let mut dropped = reply.dropped;
        let v4 = Interleaved::of_distinct(kept(&reply.peers.v4, own, &mut dropped));
        let v6 = Interleaved::of_distinct(kept(&reply.peers.v6, own, &mut dropped));
        Self {
            v4,
            v6,
            dropped,
            complete: reply.complete,
            incomplete: reply.incomplete,
            // Twice the interval, because one refresh may fail.
            good_until: now + (interval * 2).max(MIN_LIST_AGE),
        }
    }

    /// Combines several lists. Peers are interleaved without repeats, so that no list displaces the others. Each count
    /// is the largest, not the sum: several trackers count the same seeds.
    pub fn combined(lists: &[Arc<Self>]) -> Arc<Self> {
        if let [only] = lists {
            return Arc::clone(only);
        }
        let most = |count: fn(&Self) -> u32| lists.iter().map(|list| count(list)).max().unwrap_or(0);
        Arc::new(Self {
            v4: Interleaved::of_all(&lists.iter().map(|list| &list.v4).collect::<SmallVec<[_; 8]>>(), MAX_COMBINED),
            v6: Interleaved::of_all(&lists.iter().map(|list| &list.v6).collect::<SmallVec<[_; 8]>>(), MAX_COMBINED),
            complete: most(|list| list.complete),
            incomplete: most(|list| list.incomplete),
            dropped: DroppedPeers::default(),
            good_until: lists.iter().map(|list| list.good_until).min().unwrap_or_else(Instant::now),
        })
    }

    /// Returns whether the list is still recent enough to be used.
    pub(super) fn is_good(&self, now: Instant) -> bool {
        now < self.good_until
    }

    /// Returns a list of these peers, as if an upstream had sent them.
    #[cfg(test)]
    pub(crate) fn simulated(peers: &tracker_protocol::PeerLists, complete: u32, incomplete: u32) -> Self {
        let reply = UpstreamReply { peers: peers.clone(), complete, incomplete, ..UpstreamReply::default() };
        Self::new(&reply, Duration::ZERO, &OwnPeers::default(), Instant::now())
    }

    /// Returns for how long the list may still be used.
    pub(super) fn good_for(&self, now: Instant) -> Duration {
        self.good_until.saturating_duration_since(now)
    }

    /// Returns how many bytes the peers take.
    pub(super) fn size(&self) -> usize {
        self.v4.size() + self.v6.size()
    }
}

/// Returns the peers of one family to keep: the first [`MAX_KEPT`], without our own clients and without repeats.
fn kept<A: Ip>(peers: &[Peer<A>], own: &OwnPeers, dropped: &mut DroppedPeers) -> Vec<Endpoint<A>> {
    let mut known = HashSet::new();
    let mut kept = Vec::new();
    for peer in peers {
        if own.contains(peer) {
            dropped.own += 1;
        } else if !known.insert(peer.endpoint) {
            dropped.repeats += 1;
        } else if kept.len() == MAX_KEPT {
            dropped.excess += 1;
        } else {
            kept.push(peer.endpoint);
        }
    }
    kept
}

/// The latest lists of one forwarder for one torrent. A seed's list is incomplete for a leecher: upstream trackers give
/// a seed only leechers.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// From the latest announce of a client that downloads.
    all: Option<Arc<UpstreamPeers>>,
    /// From the latest announce of a client that does not download.
    leechers: Option<Arc<UpstreamPeers>>,
}

impl Lists {
    pub(super) fn put(&mut self, downloads: bool, list: Arc<UpstreamPeers>) {
        *(if downloads { &mut self.all } else { &mut self.leechers }) = Some(list);
    }

    /// Returns the list for clients that download, or the list for those that do not. `None` if that list is too old.
    pub(super) fn exact(&self, downloads: bool, now: Instant) -> Option<&Arc<UpstreamPeers>> {
        let list = if downloads { &self.all } else { &self.leechers };
        list.as_ref().filter(|list| list.is_good(now))
    }

    /// Returns the list of [`Self::exact`], or else the other list.
    pub(super) fn best(&self, downloads: bool, now: Instant) -> Option<&Arc<UpstreamPeers>> {
        self.exact(downloads, now).or_else(|| self.exact(!downloads, now))
    }

    /// Drops lists that are no longer good.
    pub(super) fn expire(&mut self, now: Instant) {
        for list in [&mut self.all, &mut self.leechers] {
            list.take_if(|list| !list.is_good(now));
        }
    }

    pub(super) fn count(&self) -> i64 {
        i64::from(self.all.is_some()) + i64::from(self.leechers.is_some())
    }

    pub(super) fn size(&self) -> usize {
        self.all.iter().chain(&self.leechers).map(|list| list.size()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::num::NonZeroU16;
    use tracker_protocol::PeerId;

    #[test]
    fn our_own_clients_are_dropped_however_they_come_back() {
        let mut reply = UpstreamReply::default();
        let mut push = |address: &str, id: Option<u8>| {
            let address: SocketAddr = address.parse().unwrap();
            let port = NonZeroU16::new(address.port()).unwrap();
            reply.peers.push(address.ip(), port, id.map(|id| PeerId([id; 20])));
        };
        push("203.0.113.1:6881", None); // our address, a client's port
        push("203.0.113.1:9999", None); // another host behind the same NAT
        push("10.0.0.1:6881", None); // the client under its own address
        push("10.0.0.2:6881", None); // another host with the same port
        push("198.51.100.1:1", Some(1)); // the client's id
        push("198.51.100.2:1", Some(2));
        push("[2001:db8::1]:6881", None);
        push("[2001:db8::2]:6881", None);
        let port = NonZeroU16::new(6881).unwrap();
        let our_addresses = ["203.0.113.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let mut own = OwnPeers::in_reply(&reply, our_addresses.into());
        own.add(Some(PeerId([1; 20])), port, ["10.0.0.1".parse().unwrap()]);
        let list = UpstreamPeers::new(&reply, Duration::ZERO, &own, Instant::now());
        let kept: Vec<_> = list.v4.iter().map(|&endpoint| SocketAddr::from(endpoint).to_string()).collect();
        assert_eq!(kept, ["203.0.113.1:9999", "10.0.0.2:6881", "198.51.100.2:1"]);
        assert_eq!(
            list.v6.iter().map(|&endpoint| SocketAddr::from(endpoint)).collect::<Vec<_>>(),
            ["[2001:db8::2]:6881".parse().unwrap()]
        );
        assert_eq!(list.dropped, DroppedPeers { own: 4, ..DroppedPeers::default() });
    }

    #[test]
    fn a_peer_that_a_reply_repeats_occurs_and_counts_once() {
        let mut reply = UpstreamReply::default();
        let ports = [1, 1, 1, 2, 1].into_iter().chain(3..).filter_map(NonZeroU16::new);
        ports.take(2 * MAX_KEPT).for_each(|port| reply.peers.push([8, 8, 8, 8].into(), port, None));
        let list = UpstreamPeers::new(&reply, Duration::ZERO, &OwnPeers::default(), Instant::now());
        let kept: Vec<_> = list.v4.iter().map(|endpoint| usize::from(endpoint.port.get())).collect();
        assert_eq!(kept, (1..=MAX_KEPT).collect::<Vec<_>>());
        assert_eq!(list.v4.part(1).count(), MAX_KEPT);
    }

    #[test]
    fn dropped_peers_are_counted_by_reason() {
        let dropped = DroppedPeers { unusable: 3, excess: 4, ..DroppedPeers::default() };
        let mut reply = UpstreamReply { dropped, ..UpstreamReply::default() };
        let ports = (1..=u16::try_from(MAX_KEPT).unwrap() + 5).chain([1, 2]);
        for port in ports.filter_map(NonZeroU16::new) {
            reply.peers.push([8, 8, 8, 8].into(), port, None);
            reply.peers.push("2a00::1".parse().unwrap(), port, None);
        }
        let mut own = OwnPeers::in_reply(&reply, Vec::new());
        own.add(None, NonZeroU16::MIN, [[8, 8, 8, 8].into()]);
        let list = UpstreamPeers::new(&reply, Duration::ZERO, &own, Instant::now());
        assert_eq!((list.v4.iter().count(), list.v6.iter().count()), (MAX_KEPT, MAX_KEPT));
        assert_eq!(list.dropped, DroppedPeers { own: 2, repeats: 3, unusable: 3, excess: 4 + 4 + 5 });
        assert_eq!(list.dropped.total(), 21);
    }

    #[test]
    fn a_leecher_gets_a_seed_s_list_only_if_there_is_no_other() {
        let now = Instant::now();
        let list = |complete| {
            Arc::new(UpstreamPeers::new(
                &UpstreamReply { complete, ..UpstreamReply::default() },
                Duration::ZERO,
                &OwnPeers::default(),
                now,
            ))
        };
        let mut lists = Lists::default();
        let complete = |list: Option<&Arc<UpstreamPeers>>| list.map(|list| list.complete);
        assert_eq!(complete(lists.best(true, now)), None);
        lists.put(false, list(1));
        assert_eq!((complete(lists.exact(true, now)), complete(lists.best(true, now))), (None, Some(1)));
        lists.put(true, list(2));
        assert_eq!((complete(lists.exact(true, now)), complete(lists.exact(false, now))), (Some(2), Some(1)));
        assert_eq!(lists.count(), 2);
        let later = now + MIN_LIST_AGE;
        assert_eq!(complete(lists.best(true, later)), None);
        lists.expire(later);
        assert_eq!(lists.count(), 0);
    }
}
