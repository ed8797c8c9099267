//! What clients say whose torrents come and go.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::super::crowd::Peer;
use super::super::reply::Expect;
use super::super::requests::{Request, Requests, Style};

/// Swarms at any time.
const SWARMS: u64 = 2_000;

/// How long each lives.
const LIFE: Duration = Duration::from_mins(2);

/// Clients of each, one of whom announces every few seconds.
const PEERS: u64 = 6;

/// Swarms that one scrape asks about.
const SCRAPED: u64 = 10;

/// What no tracker can serve, each for another reason.
const MALFORMED: [&str; 4] = [
    "/announce",
    "/announce?info_hash=too-short&peer_id=-qB4630-abcdefghijkl&port=6881",
    "/announce?info_hash=%zz234567890123456789&peer_id=-qB4630-abcdefghijkl&port=6881",
    "/announce?info_hash=12345678901234567890&peer_id=-qB4630-abcdefghijkl&port=98765",
];

/// The oldest of the swarms that live.
fn oldest(start: Instant) -> u64 {
    (start.elapsed().as_secs_f64() / LIFE.as_secs_f64() * SWARMS as f64) as u64
}

/// A client of a swarm that lives.
pub(super) fn anyone(start: Instant, random: &mut Rng) -> Peer {
    let swarm = oldest(start) + random.u64(..SWARMS);
    Peer { swarm, number: swarm * PEERS + random.u64(..PEERS) }
}

/// Announces of the swarms that live, and some scrapes.
pub(super) struct Drifting {
    start: Instant,
    style: Style,
    random: Rng,
    request: String,
}

impl Drifting {
    /// Those who have the same start have the same swarms.
    pub(super) fn new(start: Instant, target: SocketAddr, close: bool) -> Self {
        let style = Style::new(target).close(close);
        Self { start, style, random: Rng::with_seed(close.into()), request: String::new() }
    }

    fn announce(&mut self) -> Expect {
        let Self { start, style, random, request } = self;
        let peer = anyone(*start, random);
        style.begin(peer, request);
        let event = match random.u8(..100) {
            0..5 => "&event=started",
            5..10 if peer.is_seed() => "&event=completed",
            10 => "&event=stopped",
            _ => "",
        };
        // One in six has an address of IPv6.
        if peer.number.is_multiple_of(PEERS) {
            write!(request, "{event}&ip=fd00::{:x}:{:x}", peer.number >> 16, peer.number & 0xffff).unwrap();
        } else {
            write!(request, "{event}&ip={}", peer.ip()).unwrap();
        }
        let (compact, expect) = match random.u8(..10) {
            0 => ("&compact=0", Expect::Dictionaries),
            1 => ("&compact=0&no_peer_id=1", Expect::Dictionaries),
            _ => ("&compact=1", Expect::List),
        };
        request.push_str(compact);
        style.head(request);
        expect
    }

    fn scrape(&mut self) -> Expect {
        let first = oldest(self.start) + self.random.u64(..SWARMS - SCRAPED);
        self.style.scrape(first..first + SCRAPED, &mut self.request);
        Expect::Counts(SCRAPED as usize)
    }

    fn malformed(&mut self) -> Expect {
        let path = MALFORMED[self.random.usize(..MALFORMED.len())];
        self.request.clear();
        write!(self.request, "GET {path}").unwrap();
        self.style.head(&mut self.request);
        Expect::Refusal
    }
}

impl Requests for Drifting {
    fn next(&mut self) -> Option<Request<'_>> {
        let expect = match self.random.u8(..100) {
            0 => self.malformed(),
            1..4 => self.scrape(),
            _ => self.announce(),
        };
        Some(Request { bytes: self.request.as_bytes(), expect: Some(expect) })
    }
}
