//! Local peers and upstream peers in one reply.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::bittorrent::{AnnounceReply, AnnounceRequest, Ip, Peer};
use crate::forward::FromUpstream;

use crate::bittorrent::address::tellable;

/// Adds what the forwarders gave: their peers behind the local ones, up to `want` of both families together, the
/// client's own family first; and the largest of their counts, not the sum, because they know the same seeds.
pub(super) fn merge(
    reply: &mut AnnounceReply,
    ip: IpAddr,
    request: &AnnounceRequest,
    want: usize,
    upstream: &[FromUpstream],
) {
    let most = |count: fn(&FromUpstream) -> u32| upstream.iter().map(count).max().unwrap_or(0);
    reply.complete = reply.complete.saturating_add(most(|from| from.reply.complete));
    reply.incomplete = reply.incomplete.saturating_add(most(|from| from.reply.incomplete));

    // The client is known to an upstream under its own address, or under the one that the forwarder's entry names.
    let own_address = |other: IpAddr| other == ip || upstream.iter().any(|from| from.announced_ip == Some(other));
    let client = Client { ip, request };
    let v4: Vec<_> = upstream.iter().map(|from| from.reply.peers.v4.as_slice()).collect();
    let v6: Vec<_> = upstream.iter().map(|from| from.reply.peers.v6.as_slice()).collect();
    let room = want.saturating_sub(reply.peers.len());
    if ip.is_ipv4() {
        let added = add(&mut reply.peers.v4, room, &v4, |peer| client.can_use(peer, own_address));
        add(&mut reply.peers.v6, room - added, &v6, |peer| client.can_use(peer, own_address));
    } else {
        let added = add(&mut reply.peers.v6, room, &v6, |peer| client.can_use(peer, own_address));
        add(&mut reply.peers.v4, room - added, &v4, |peer| client.can_use(peer, own_address));
    }
}

struct Client<'a> {
    ip: IpAddr,
    request: &'a AnnounceRequest,
}

impl Client<'_> {
    /// Whether the peer is another one, and at an address that means something to the client.
    fn can_use<A: Ip>(&self, peer: &Peer<A>, own_address: impl Fn(IpAddr) -> bool) -> bool {
        let ip = peer.endpoint.ip.into();
        let itself =
            peer.id == Some(self.request.peer_id) || (Some(peer.endpoint.port) == self.request.port && own_address(ip));
        !itself && tellable(ip) && (!ip.is_loopback() || self.ip.is_loopback())
    }
}

/// Appends peers of each list in turn, so that none crowds the others out, without repeats. Returns how many.
fn add<A: Ip>(peers: &mut Vec<Peer<A>>, room: usize, lists: &[&[Peer<A>]], keep: impl Fn(&Peer<A>) -> bool) -> usize {
    let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
    let before = peers.len();
    let mut known: HashSet<_> = peers.iter().map(|peer| peer.endpoint).collect();
    for turn in 0..longest {
        for peer in lists.iter().filter_map(|list| list.get(turn)) {
            if peers.len() - before == room {
                return room;
            }
            if keep(peer) && known.insert(peer.endpoint) {
                peers.push(*peer);
            }
        }
    }
    peers.len() - before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bittorrent::{ClaimedIps, InfoHash, NumWant, PeerId, PeerLists};
    use crate::wire::upstream::UpstreamReply;
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

    /// What a client at 10.0.0.1:1 is told when it wants `want`.
    fn merged(local: &[&str], upstream: &[&[&str]], want: usize, announced_ip: Option<&str>) -> Vec<String> {
        let ip = "10.0.0.1".parse().unwrap();
        let request = AnnounceRequest {
            info_hash: InfoHash([0; 20]),
            peer_id: PeerId([1; 20]),
            port: NonZeroU16::new(1),
            uploaded: 0,
            downloaded: 0,
            left: None,
            event: None,
            numwant: NumWant::Default,
            key: None,
            claimed: ClaimedIps::default(),
        };
        let mut reply = AnnounceReply {
            interval: 1,
            min_interval: 1,
            complete: 1,
            incomplete: 1,
            downloaded: 0,
            external_ip: ip,
            warning: None,
            peers: lists(local),
        };
        let upstream: Vec<_> = upstream
            .iter()
            .enumerate()
            .map(|(n, addresses)| FromUpstream {
                announced_ip: announced_ip.map(|ip| ip.parse().unwrap()),
                reply: UpstreamReply {
                    complete: u32::try_from(n).unwrap(),
                    peers: lists(addresses),
                    ..UpstreamReply::default()
                },
            })
            .collect();
        merge(&mut reply, ip, &request, want, &upstream);
        assert_eq!(usize::try_from(reply.complete).unwrap(), 1 + upstream.len().saturating_sub(1));
        told(&reply.peers)
    }

    #[test]
    fn local_first_then_each_in_turn_without_repeats() {
        let local = &["10.0.0.2:2"];
        let a = &["1.1.1.1:1", "1.1.1.1:2", "10.0.0.2:2", "1.1.1.1:3"][..];
        let b = &["2.2.2.2:1", "1.1.1.1:1", "[2001:db8::1]:1"][..];
        assert_eq!(
            merged(local, &[a, b], 50, None),
            ["10.0.0.2:2", "1.1.1.1:1", "2.2.2.2:1", "1.1.1.1:2", "1.1.1.1:3", "[2001:db8::1]:1"]
        );
        assert_eq!(merged(local, &[a, b], 3, None), ["10.0.0.2:2", "1.1.1.1:1", "2.2.2.2:1"]);
        assert_eq!(merged(local, &[a, b], 1, None), ["10.0.0.2:2"]);
        assert_eq!(merged(local, &[], 50, None), ["10.0.0.2:2"]);
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
        assert_eq!(merged(&[], &[upstream], 50, None), ["10.0.0.1:2", "9.9.9.9:1"]);
        assert_eq!(merged(&[], &[upstream], 50, Some("9.9.9.9")), ["10.0.0.1:2"]);
    }
}
