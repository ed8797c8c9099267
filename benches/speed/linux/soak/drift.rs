//! Requests for torrents that come and go.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fastrand::Rng;
use load::crowd::CrowdPeer;
use load::http::reply::Expect;
use load::http::requests::{LoadRequest, LoadSource, RequestStyle};

/// The number of swarms that are announced at any time.
const SWARMS: u64 = 2_000;

/// How long each swarm is announced.
const LIFE: Duration = Duration::from_mins(2);

/// The number of clients of each swarm. Every few seconds, one of them announces.
const PEERS: u64 = 6;

/// Swarms in one scrape.
const SCRAPED: u64 = 10;

/// Requests that every tracker must refuse, each for a different reason.
const MALFORMED: [&str; 4] = [
    "/announce",
    "/announce?info_hash=too-short&peer_id=-qB4630-abcdefghijkl&port=6881",
    "/announce?info_hash=%zz234567890123456789&peer_id=-qB4630-abcdefghijkl&port=6881",
    "/announce?info_hash=12345678901234567890&peer_id=-qB4630-abcdefghijkl&port=98765",
];

/// Returns the number of the oldest swarm that is announced now.
fn oldest(start: Instant) -> u64 {
    (start.elapsed().as_secs_f64() / LIFE.as_secs_f64() * SWARMS as f64) as u64
}

/// Returns a random client of a random swarm that is announced now.
pub(super) fn random_peer(start: Instant, random: &mut Rng) -> CrowdPeer {
    let swarm = oldest(start) + random.u64(..SWARMS);
    CrowdPeer::new(swarm, swarm * PEERS + random.u64(..PEERS))
}

/// Announces of the current swarms, some scrapes, and some malformed requests.
pub(super) struct DriftingSwarms {
    start: Instant,
    style: RequestStyle,
    random: Rng,
    request: String,
}

impl DriftingSwarms {
    /// Makes a source. Two sources with the same `start` announce the same swarms.
    pub(super) fn new(start: Instant, target: SocketAddr, close: bool) -> Self {
        let style = RequestStyle::new(target).close(close);
        Self { start, style, random: Rng::with_seed(close.into()), request: String::new() }
    }

    fn announce(&mut self) -> Expect {
        let Self { start, style, random, request } = self;
        let peer = random_peer(*start, random);
        style.begin(peer, request);
        let event = match random.u8(..100) {
            0..5 => "&event=started",
            5..10 if peer.is_seed() => "&event=completed",
            10 => "&event=stopped",
            _ => "",
        };
        // One client in six has an IPv6 address.
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
        Expect::Failure
    }
}

impl LoadSource for DriftingSwarms {
    fn next(&mut self) -> Option<LoadRequest<'_>> {
        let expect = match self.random.u8(..100) {
            0 => self.malformed(),
            1..4 => self.scrape(),
            _ => self.announce(),
        };
        Some(LoadRequest { bytes: self.request.as_bytes(), expect: Some(expect) })
    }
}
