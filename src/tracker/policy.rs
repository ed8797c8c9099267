//! The limits for clients: how many peers they get, and how often they may announce.

use std::hash::BuildHasher as _;
use std::num::NonZeroU32;

use tracker_protocol::{AnnounceReply, InfoHash, NumWant, PeerId, Protocol};

use crate::hash::SEED;
use crate::topology::IpParam;

/// The interval, in seconds, while an upstream tracker's peers are still to come.
const SOON: u32 = 5;

/// How many upstream peers a client gets although there are enough local seeds: those may be off or busy.
const FEW: usize = 5;

/// The tracker's rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Seconds until a client should announce again. `--announce-interval`.
    pub interval: u32,
    /// A client should wait at least this many seconds before its next announce. Without a Chihaya file, this equals
    /// `interval`, because aria2 ignores `interval` and waits only for `min interval`.
    pub min_interval: u32,
    /// Which clients get a longer interval. `None`: all clients get the same interval.
    pub variation: Option<IntervalVariation>,
    /// The limits of requests over HTTP.
    pub http: RequestLimits,
    /// The limits over UDP. They differ from those of HTTP only if a Chihaya file says so.
    pub udp: RequestLimits,
    /// With at least this many local seeds, a torrent's clients get few upstream peers. `--local-only-after`.
    pub local_only_after: Option<NonZeroU32>,
}

/// What a client may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestLimits {
    /// How many peers a client gets.
    pub want: WantLimits,
    /// The most torrents of a scrape that are answered; the rest are ignored. `None`: no limit.
    pub max_scrape: Option<usize>,
    /// Which clients may register another address. `--ip-param`.
    pub ip_param: IpParam,
}

impl RequestLimits {
    /// Returns how many peers a client with this `numwant` gets at most.
    pub fn want(&self, numwant: NumWant) -> usize {
        let WantLimits { usual, most } = self.want;
        match numwant {
            NumWant::Default => usual.min(most),
            NumWant::AtMost(n) => usize::try_from(n).unwrap_or(most).min(most),
        }
    }

    /// Returns the torrents of a scrape that are answered: the first, up to the limit.
    pub fn scraped<'a>(&self, info_hashes: &'a [InfoHash]) -> &'a [InfoHash] {
        self.max_scrape.and_then(|most| info_hashes.get(..most)).unwrap_or(info_hashes)
    }
}

/// How many peers a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantLimits {
    /// How many peers a client gets if it does not say how many it wants.
    pub usual: usize,
    /// How many peers a client gets at most, whatever it asks for.
    pub most: usize,
}

impl Default for WantLimits {
    fn default() -> Self {
        Self { usual: 50, most: 200 }
    }
}

/// Gives some clients a longer interval. Otherwise clients that started together would announce together for ever. A
/// client gets the same interval each time, from the torrent and its peer id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IntervalVariation {
    /// The fraction of the clients that get a longer interval, above 0 and up to 1.
    pub probability: f32,
    /// The most seconds that are added to an interval. At least one is added.
    pub max_increase: u32,
    /// Whether the same number of seconds is added to the minimal interval.
    pub min_interval_too: bool,
}

impl IntervalVariation {
    /// Returns how many seconds are added to this client's interval.
    fn increase(&self, info_hash: InfoHash, peer_id: PeerId) -> u32 {
        let hash = SEED.hash_one((info_hash, peer_id));
        let [a, b, c, d, rest @ ..] = hash.to_le_bytes();
        let chance = f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX);
        if chance < f64::from(self.probability) { 1 + u32::from_le_bytes(rest) % self.max_increase.max(1) } else { 0 }
    }
}

impl Policy {
    /// Returns the default rules with this interval.
    pub fn every(interval: u32) -> Self {
        Self {
            interval,
            min_interval: interval,
            variation: None,
            http: RequestLimits::default(),
            udp: RequestLimits::default(),
            local_only_after: None,
        }
    }

    /// Returns the limits of requests over this protocol.
    pub fn limits(&self, protocol: Protocol) -> &RequestLimits {
        match protocol {
            Protocol::Http => &self.http,
            Protocol::Udp => &self.udp,
        }
    }

    /// Returns the interval and the minimal interval for a client.
    pub(super) fn intervals(&self, info_hash: InfoHash, peer_id: PeerId) -> (u32, u32) {
        let Self { interval, min_interval, .. } = *self;
        match &self.variation {
            None => (interval, min_interval),
            Some(variation) => {
                let increase = variation.increase(info_hash, peer_id);
                let min_increase = if variation.min_interval_too { increase } else { 0 };
                (interval.saturating_add(increase), min_interval.saturating_add(min_increase))
            }
        }
    }

    /// Returns how many local and upstream peers together a client gets at most. The client wants `want` peers and gets
    /// `local` local ones. With enough local seeds, few upstream peers are added, so that the transfer stays inside the
    /// network.
    pub(super) fn with_upstream(self, want: usize, local: usize, local_seeds: u32) -> usize {
        let has_enough = self.local_only_after.is_some_and(|enough| local_seeds >= enough.get());
        if has_enough { want.min(local + FEW) } else { want }
    }

    /// Shortens the interval, so that the client soon asks again for upstream peers that are still to come. But
    /// libtorrent never asks again within five minutes, and rTorrent never within ten. For the sake of these clients, a
    /// first announce waits for upstream peers.
    pub(super) fn shorten_interval(self, reply: &mut AnnounceReply) {
        reply.interval = self.interval.min(SOON);
        reply.min_interval = reply.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numwant_is_clamped() {
        let want = |numwant| RequestLimits::default().want(numwant);
        assert_eq!(want(NumWant::Default), 50);
        assert_eq!(want(NumWant::AtMost(0)), 0);
        assert_eq!(want(NumWant::AtMost(80)), 80);
        assert_eq!(want(NumWant::AtMost(u32::MAX)), 200);
        let few = RequestLimits { want: WantLimits { usual: 9, most: 3 }, ..RequestLimits::default() };
        assert_eq!([NumWant::Default, NumWant::AtMost(2), NumWant::AtMost(8)].map(|n| few.want(n)), [3, 2, 3]);
    }

    #[test]
    fn a_part_of_the_clients_gets_a_longer_interval_and_keeps_it() {
        let variation = IntervalVariation { probability: 0.25, max_increase: 60, min_interval_too: false };
        let policy = Policy { min_interval: 10, variation: Some(variation), ..Policy::every(100) };
        let too = Policy { variation: Some(IntervalVariation { min_interval_too: true, ..variation }), ..policy };
        let mut longer = Vec::new();
        for n in 0..4000_u32 {
            let mut client = PeerId([0; 20]);
            client.0[..4].copy_from_slice(&n.to_be_bytes());
            let torrent = InfoHash([7; 20]);
            let (interval, min) = policy.intervals(torrent, client);
            assert_eq!((policy.intervals(torrent, client), min), ((interval, 10), 10));
            assert_eq!(too.intervals(torrent, client), (interval, interval - 90));
            longer.extend(Some(interval).filter(|interval| *interval > 100));
        }
        assert!((700..1300).contains(&longer.len()), "{} of 4000", longer.len());
        assert_eq!((longer.iter().min(), longer.iter().max()), (Some(&101), Some(&160)));
    }

    #[test]
    fn a_scrape_may_have_a_limit() {
        let all = [InfoHash([1; 20]), InfoHash([2; 20])];
        for (max_scrape, expected) in [(None, 2), (Some(1), 1), (Some(2), 2), (Some(3), 2)] {
            assert_eq!(RequestLimits { max_scrape, ..RequestLimits::default() }.scraped(&all).len(), expected);
        }
    }

    #[test]
    fn clients_get_few_upstream_peers_if_there_are_enough_local_seeds() {
        let policy =
            |local_only_after| Policy { local_only_after: NonZeroU32::new(local_only_after), ..Policy::every(30) };
        assert_eq!(Policy::every(30).with_upstream(50, 10, 1000), 50, "without the setting, there is no limit");
        assert_eq!(policy(3).with_upstream(50, 10, 2), 50);
        assert_eq!(policy(3).with_upstream(50, 10, 3), 10 + FEW);
        assert_eq!(policy(3).with_upstream(50, 0, 3), FEW, "a client always gets a few upstream peers");
        assert_eq!(policy(3).with_upstream(50, 48, 3), 50);
        assert_eq!(policy(3).with_upstream(0, 0, 3), 0);
    }
}
