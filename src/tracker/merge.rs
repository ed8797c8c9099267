//! Local peers and upstream peers in one reply, each under the address by which the client reaches it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::bittorrent::{AnnounceReply, Endpoint, Ip, Peer, PeerLists, Place, Views};
use crate::forward::{Turns, UpstreamPeers};

/// Adds the counts that the forwarders gave.
pub(super) fn add_counts(reply: &mut AnnounceReply, upstream: &UpstreamPeers) {
    // A count is signed in UDP replies and in many clients.
    let sum = |local: u32, theirs: u32| local.saturating_add(theirs).min(i32::MAX.unsigned_abs());
    reply.complete = sum(reply.complete, upstream.complete);
    reply.incomplete = sum(reply.incomplete, upstream.incomplete);
}

/// Whose reply it is that peers go into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    /// Where the client is: the address that it is recorded under.
    pub(super) place: Place,
    /// Its address in the world outside, if that is another one.
    pub(super) outside: Option<IpAddr>,
    /// Where it listens there.
    pub(super) port: Option<NonZeroU16>,
    /// How many peers it gets at most.
    pub(super) want: usize,
    /// Whether it is told how many peers the upstream trackers know.
    pub(super) counts: bool,
}

impl Client {
    /// The address under which the client is told of a peer.
    fn address_of(self, ip: IpAddr, views: &Views) -> Option<IpAddr> {
        views.address_for(self.place, views.place(ip))
    }

    /// Whether a peer is the client itself.
    fn is<A: Ip>(self, peer: Endpoint<A>) -> bool {
        let ip = peer.ip.into();
        Some(peer.port) == self.port && (ip == self.place.ip || Some(ip) == self.outside)
    }

    /// Whether an address of an upstream's leads there from where the client is. What stands for an address of our own means
    /// nothing for one of theirs.
    fn can_use<A: Ip>(self, ip: A, views: &Views) -> bool {
        self.address_of(ip.into(), views) == Some(ip.into())
    }
}

/// Whether the local peers and those that the forwarders gave are as many as the client wants.
pub(super) fn enough(local: &PeerLists, client: Client, views: &Views, upstream: &[Arc<UpstreamPeers>]) -> bool {
    if local.len() >= client.want || upstream.is_empty() {
        return local.len() >= client.want;
    }
    let mut peers = local.clone();
    add_peers(&mut peers, client, views, &UpstreamPeers::combined(upstream));
    peers.len() >= client.want
}

/// Adds the peers that the forwarders gave behind the local ones, up to what the client wants of both families together,
/// its own family first.
pub(super) fn add_peers(peers: &mut PeerLists, client: Client, views: &Views, upstream: &UpstreamPeers) {
    let room = client.want.saturating_sub(peers.len());
    if client.place.ip.is_ipv4() {
        let added = add(&mut peers.v4, room, &upstream.v4, client, views);
        add(&mut peers.v6, room - added, &upstream.v6, client, views);
    } else {
        let added = add(&mut peers.v6, room, &upstream.v6, client, views);
        add(&mut peers.v4, room - added, &upstream.v4, client, views);
    }
}

/// Appends peers that are not there yet. Returns how many.
fn add<A: Ip>(peers: &mut Vec<Peer<A>>, room: usize, upstream: &Turns<A>, client: Client, views: &Views) -> usize {
    let room = room.min(upstream.iter().count());
    let local = Known::new(peers);
    let before = peers.len();
    let is_useful = |peer: Endpoint<A>| {
        (upstream.is_public() || client.can_use(peer.ip, views)) && !client.is(peer) && !local.has(peer)
    };
    peers.reserve_exact(room);
    let useful = upstream.part(room).filter(|&&peer| is_useful(peer)).take(room);
    peers.extend(useful.map(|&endpoint| Peer { endpoint, id: None }));
    peers.len() - before
}

/// Up to so many peers each of the others is compared with all: a table would take longer to fill.
const COMPARE: usize = 16;

/// The peers that are there already.
struct Known<A> {
    few: SmallVec<[Endpoint<A>; COMPARE]>,
    many: HashSet<Endpoint<A>>,
    /// A bit for some of the ports, so that nearly all strangers are known for that by a single look.
    ports: u64,
}

impl<A: Ip> Known<A> {
    fn new(peers: &[Peer<A>]) -> Self {
        let endpoints = peers.iter().map(|peer| peer.endpoint);
        let ports = peers.iter().fold(0, |bits, peer| bits | bit(peer.endpoint.port));
        if peers.len() > COMPARE {
            Self { few: SmallVec::new(), many: endpoints.collect(), ports }
        } else {
            Self { few: endpoints.collect(), many: HashSet::new(), ports }
        }
    }

    fn has(&self, endpoint: Endpoint<A>) -> bool {
        self.ports & bit(endpoint.port) != 0 && (self.few.contains(&endpoint) || self.many.contains(&endpoint))
    }
}

fn bit(port: NonZeroU16) -> u64 {
    1 << (port.get() % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bittorrent::{ExternalAddress, PeerLists};
    use std::net::SocketAddr;
    use std::num::NonZeroU16;

    fn lists(addresses: &[&str]) -> PeerLists {
        let mut peers = PeerLists::default();
        for address in addresses {
            let address: SocketAddr = address.parse().unwrap();
            peers.push(address.ip(), NonZeroU16::new(address.port()).unwrap(), None);
        }
        peers
    }

    fn told(peers: &PeerLists) -> Vec<String> {
        let v4 = peers.v4.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string());
        v4.chain(peers.v6.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string())).collect()
    }

    /// A client at this address that listens on port 1.
    fn client(views: &Views, ip: &str, want: usize) -> Client {
        let place = views.place(ip.parse().unwrap());
        Client { place, outside: None, port: NonZeroU16::new(1), want, counts: true }
    }

    /// What a client at 10.0.0.1:1 is told when it wants `want`.
    fn merged(local: &[&str], upstream: &[&[&str]], want: usize) -> Vec<String> {
        let views = Views::default();
        let client = client(&views, "10.0.0.1", want);
        let mut reply = AnnounceReply {
            interval: 1,
            min_interval: 1,
            complete: 1,
            incomplete: 1,
            downloaded: 0,
            external_ip: Some(client.place.ip),
            warning: None,
            peers: lists(local),
        };
        let upstream: Vec<_> = upstream
            .iter()
            .enumerate()
            .map(|(n, addresses)| Arc::new(UpstreamPeers::simulated(&lists(addresses), u32::try_from(n).unwrap(), 0)))
            .collect();
        assert_eq!(enough(&reply.peers, client, &views, &upstream), {
            let upstream = UpstreamPeers::combined(&upstream);
            add_counts(&mut reply, &upstream);
            add_peers(&mut reply.peers, client, &views, &upstream);
            reply.peers.len() >= want
        });
        assert_eq!(usize::try_from(reply.complete).unwrap(), 1 + upstream.len().saturating_sub(1));
        told(&reply.peers)
    }

    #[test]
    fn local_first_then_each_in_turn_without_repeats() {
        let local = &["10.0.0.2:2"];
        let a = &["1.1.1.1:1", "1.1.1.1:2", "10.0.0.2:2", "1.1.1.1:3"][..];
        let b = &["2.2.2.2:1", "1.1.1.1:1", "[2001:db8::1]:1"][..];
        assert_eq!(
            merged(local, &[a, b], 50),
            ["10.0.0.2:2", "1.1.1.1:1", "2.2.2.2:1", "1.1.1.1:2", "1.1.1.1:3", "[2001:db8::1]:1"]
        );
        let three = merged(local, &[&a[..2], &b[..1]], 3);
        assert!(three.len() == 3 && three[0] == local[0] && three[2] == b[0], "one of each: {three:?}");
        assert_eq!(merged(local, &[a, b], 1), ["10.0.0.2:2"]);
        assert_eq!(merged(local, &[], 50), ["10.0.0.2:2"]);
    }

    #[test]
    fn each_client_gets_another_part_of_a_long_list() {
        let list: Vec<_> = (1..=100).map(|n| format!("1.1.1.{n}:1")).collect();
        let list: Vec<_> = list.iter().map(String::as_str).collect();
        fastrand::seed(7);
        let parts: HashSet<_> = (0..20).map(|_| merged(&[], &[&list], 10)).collect();
        assert!(parts.len() > 10 && parts.iter().all(|part| part.len() == 10), "{parts:?}");
    }

    #[test]
    fn neither_the_announcer_nor_addresses_that_mean_nothing() {
        let upstream = &[
            "10.0.0.1:1",
            "10.0.0.1:2",
            "0.0.0.0:5",
            "127.0.0.1:5",
            "224.0.0.1:5",
            "169.254.1.1:5",
            "[fe80::1]:5",
            "[::1]:5",
            "9.9.9.9:1",
        ][..];
        assert_eq!(merged(&[], &[upstream], 50), ["10.0.0.1:2", "9.9.9.9:1"]);
        assert!(merged(&[], &[&["127.0.0.1:5"]], 50).is_empty());
        // Nor the announcer under the address that it has outside.
        let views = Views::default();
        let client = Client { outside: "9.9.9.9".parse().ok(), ..client(&views, "10.0.0.1", 50) };
        let mut peers = PeerLists::default();
        add_peers(&mut peers, client, &views, &UpstreamPeers::simulated(&lists(upstream), 0, 0));
        assert_eq!(told(&peers), ["10.0.0.1:2"]);
    }

    #[test]
    fn a_routable_client_is_told_what_it_can_reach() {
        let external = ExternalAddress { v4: Some([203, 0, 113, 1].into()), v6: None };
        // What stands for an address of our own means nothing for one of an upstream's.
        for views in [Views::default(), Views::new(&[], external)] {
            let mut peers = lists(&["203.0.113.5:5", "[2001:db8::5]:5"]);
            let upstream = UpstreamPeers::simulated(&lists(&["10.0.0.9:9", "9.9.9.9:9"]), 0, 0);
            add_peers(&mut peers, client(&views, "8.8.8.8", 50), &views, &upstream);
            assert_eq!(told(&peers), ["203.0.113.5:5", "9.9.9.9:9", "[2001:db8::5]:5"]);
        }
    }
}
