//! Announces and scrapes as a real client sends them, and in which order they come.

use std::fmt::Write as _;
use std::net::SocketAddr;

use fastrand::Rng;

use super::crowd::{Client, Crowd, Peer, Turns, info_hash};
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
        self.begin(peer, request);
        write!(request, "&compact=1&ip={}", peer.ip()).unwrap();
        self.head(request);
    }

    /// Writes an announce as far as it is the same for all clients; [`Self::head`] ends it.
    pub(crate) fn begin(&self, peer: Peer, request: &mut String) {
        let Self { path, numwant, .. } = self;
        let Client { id, port, uploaded, downloaded, left, key, .. } = peer.client();
        request.clear();
        request.push_str("GET ");
        request.push_str(path);
        request.push_str("?info_hash=");
        escape(&info_hash(peer.swarm), request);
        request.push_str("&peer_id=");
        escape(&id, request);
        write!(request, "&port={port}&uploaded={uploaded}&downloaded={downloaded}&left={left}").unwrap();
        write!(request, "&key={key:08X}&numwant={numwant}").unwrap();
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

/// Percent-encodes all but what need not be.
pub(crate) fn escape(bytes: &[u8], text: &mut String) {
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
    turns: Turns,
}

impl Prepared {
    /// Announces of a crowd of which some swarms are more popular than others, by their size or for no such reason.
    pub(crate) fn announces(crowd: Crowd, style: &Style) -> Self {
        let mut request = String::new();
        let write = |number| {
            style.announce(crowd.peer(number), &mut request);
            request.clone().into_bytes()
        };
        Self { requests: (0..crowd.size()).map(write).collect(), turns: Turns::of(crowd) }
    }

    /// Scrapes of so many swarms each.
    pub(crate) fn scrapes(crowd: Crowd, at_once: u64, style: &Style) -> Self {
        let some = |n: u64| (0..at_once).map(move |m| crowd.first + (n * at_once + m) % crowd.swarms);
        let mut request = String::new();
        let write = |n| {
            style.scrape(some(n), &mut request);
            request.clone().into_bytes()
        };
        let count = crowd.swarms / at_once;
        Self { requests: (0..count).map(write).collect(), turns: Turns::round(count) }
    }
}

impl Requests for Prepared {
    fn next(&mut self) -> Option<Request<'_>> {
        Some(Request::usual(&self.requests[self.turns.next()]))
    }
}
