//! Announces and scrapes as a real client sends them, and in which order they come.

use std::fmt::Write as _;
use std::net::SocketAddr;

use fastrand::Rng;

use super::reply::Expect;

/// Where requests come from; none when they are used up.
pub(crate) trait Requests {
    fn next(&mut self) -> Option<Request<'_>>;
}

pub(crate) struct Request<'a> {
    pub(crate) bytes: &'a [u8],
    /// What has to come back, if that is not the same for all of a load.
    pub(crate) expect: Option<Expect>,
}

impl<'a> Request<'a> {
    fn usual(bytes: &'a [u8]) -> Self {
        Self { bytes, expect: None }
    }
}

/// So many peers in each of so many swarms.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) swarms: u64,
    pub(crate) peers: u64,
    /// The number of its first swarm, so that crowds can be told apart.
    pub(crate) first: u64,
    /// Whether popular swarms are large, the more popular the larger; `peers` is then what a swarm has on average.
    pub(crate) grown: bool,
}

impl Crowd {
    /// What most figures are measured with.
    pub(crate) const USUAL: Self = Self::new(10_000, 5);

    pub(crate) const fn new(swarms: u64, peers: u64) -> Self {
        Self { swarms, peers, first: 0, grown: false }
    }

    pub(crate) fn size(self) -> u64 {
        self.swarms * self.peers
    }

    /// The peers are numbered so that neighbours are in different swarms, as they come in life.
    fn peer(self, number: u64) -> Peer {
        let swarm = if self.grown { self.favoured(&mut Rng::with_seed(number)) } else { number % self.swarms };
        Peer { swarm: self.first + swarm, number: self.first + number }
    }

    /// A swarm by popularity: the first are favoured, the more the nearer.
    fn favoured(self, random: &mut Rng) -> u64 {
        (random.f64().powi(4) * self.swarms as f64) as u64
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) swarm: u64,
    pub(crate) number: u64,
}

impl Peer {
    /// One in three has everything.
    pub(crate) fn is_seed(self) -> bool {
        self.number.is_multiple_of(3)
    }
}

/// How requests are written.
#[derive(Clone)]
pub(crate) struct Style {
    host: String,
    path: String,
    close: bool,
    numwant: u32,
}

impl Style {
    pub(crate) fn new(host: SocketAddr) -> Self {
        Self { host: host.to_string(), path: "/announce".to_owned(), close: false, numwant: 30 }
    }

    pub(crate) fn path(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// A connection for each request, or one that is kept.
    pub(crate) fn close(self, close: bool) -> Self {
        Self { close, ..self }
    }

    pub(crate) fn numwant(self, numwant: u32) -> Self {
        Self { numwant, ..self }
    }

    fn announce(&self, peer: Peer, request: &mut String) {
        let [_, high, middle, low] = (peer.number as u32).to_be_bytes();
        self.begin(peer, request);
        write!(request, "&compact=1&ip=10.{high}.{middle}.{low}").unwrap();
        self.head(request);
    }

    /// Writes an announce as far as it is the same for all clients; [`Self::head`] ends it.
    pub(crate) fn begin(&self, peer: Peer, request: &mut String) {
        let mut own = Rng::with_seed(!peer.number);
        let Self { path, numwant, .. } = self;
        let left = if peer.is_seed() { 0 } else { own.u64(1..1 << 32) };
        let (port, uploaded, downloaded) = (own.u16(1024..), own.u64(..1 << 34), own.u64(..1 << 34));
        request.clear();
        request.push_str("GET ");
        request.push_str(path);
        request.push_str("?info_hash=");
        escape(&info_hash(peer.swarm), request);
        request.push_str("&peer_id=-qB4630-");
        (0..12).for_each(|_| request.push(own.alphanumeric()));
        write!(request, "&port={port}&uploaded={uploaded}&downloaded={downloaded}&left={left}").unwrap();
        write!(request, "&key={:08X}&numwant={numwant}", own.u32(..)).unwrap();
    }

    pub(crate) fn scrape(&self, swarms: impl Iterator<Item = u64>, request: &mut String) {
        request.clear();
        request.push_str("GET /scrape");
        for (n, swarm) in swarms.enumerate() {
            request.push_str(if n == 0 { "?info_hash=" } else { "&info_hash=" });
            escape(&info_hash(swarm), request);
        }
        self.head(request);
    }

    pub(crate) fn head(&self, request: &mut String) {
        let connection = if self.close { "close" } else { "keep-alive" };
        let Self { host, .. } = self;
        write!(
            request,
            " HTTP/1.1\r\nHost: {host}\r\nUser-Agent: qBittorrent/4.6.3\r\nAccept-Encoding: gzip\r\nConnection: {connection}\r\n\r\n"
        )
        .unwrap();
    }
}

/// As arbitrary as hashes are, and the same in every run.
fn info_hash(swarm: u64) -> [u8; 20] {
    let mut hash = [0; 20];
    Rng::with_seed(swarm).fill(&mut hash);
    hash
}

fn escape(bytes: &[u8], text: &mut String) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(byte.into());
        } else {
            text.push('%');
            text.push(HEX[usize::from(byte >> 4)].into());
            text.push(HEX[usize::from(byte & 15)].into());
        }
    }
}

/// All peers of a crowd, each once: what fills a tracker.
pub(crate) struct EachOnce {
    crowd: Crowd,
    style: Style,
    next: u64,
    request: String,
}

impl EachOnce {
    pub(crate) fn new(crowd: Crowd, style: Style) -> Self {
        Self { crowd, style, next: 0, request: String::new() }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.next == self.crowd.size()
    }
}

impl Requests for EachOnce {
    fn next(&mut self) -> Option<Request<'_>> {
        if self.is_over() {
            return None;
        }
        self.style.announce(self.crowd.peer(self.next), &mut self.request);
        self.next += 1;
        Some(Request::usual(self.request.as_bytes()))
    }
}

/// Peers of a crowd, any of them as likely as any other; written one by one, for crowds too large to be prepared.
pub(crate) struct Uniform {
    crowd: Crowd,
    style: Style,
    random: Rng,
    request: String,
}

impl Uniform {
    pub(crate) fn new(crowd: Crowd, style: Style) -> Self {
        Self { crowd, style, random: Rng::with_seed(7), request: String::new() }
    }
}

impl Requests for Uniform {
    fn next(&mut self) -> Option<Request<'_>> {
        let peer = self.crowd.peer(self.random.u64(..self.crowd.size()));
        self.style.announce(peer, &mut self.request);
        Some(Request::usual(self.request.as_bytes()))
    }
}

/// Requests that are written beforehand, so that sending costs as little as can be.
pub(crate) struct Prepared {
    requests: Vec<Vec<u8>>,
    /// Of whom some swarms are favoured; none when requests go round.
    favour: Option<Crowd>,
    random: Rng,
    turn: usize,
}

impl Prepared {
    /// Announces of a crowd of which some swarms are more popular than others, by their size or for no such reason.
    pub(crate) fn announces(crowd: Crowd, style: &Style) -> Self {
        let mut request = String::new();
        let write = |number| {
            style.announce(crowd.peer(number), &mut request);
            request.clone().into_bytes()
        };
        Self::new((0..crowd.size()).map(write).collect(), (!crowd.grown).then_some(crowd))
    }

    /// Scrapes of so many swarms each.
    pub(crate) fn scrapes(crowd: Crowd, at_once: u64, style: &Style) -> Self {
        let some = |n: u64| (0..at_once).map(move |m| crowd.first + (n * at_once + m) % crowd.swarms);
        let mut request = String::new();
        let write = |n| {
            style.scrape(some(n), &mut request);
            request.clone().into_bytes()
        };
        Self::new((0..crowd.swarms / at_once).map(write).collect(), None)
    }

    fn new(requests: Vec<Vec<u8>>, favour: Option<Crowd>) -> Self {
        Self { requests, favour, random: Rng::with_seed(7), turn: 0 }
    }
}

impl Requests for Prepared {
    fn next(&mut self) -> Option<Request<'_>> {
        self.turn += 1;
        let at = match self.favour {
            // Every other request goes round all of them, those between do not.
            Some(crowd) if self.turn % 2 == 1 => {
                let (swarm, peer) = (crowd.favoured(&mut self.random), self.random.u64(..crowd.peers));
                (peer * crowd.swarms + swarm) as usize
            }
            Some(_) => self.turn / 2 % self.requests.len(),
            None => self.turn % self.requests.len(),
        };
        Some(Request::usual(&self.requests[at]))
    }
}
