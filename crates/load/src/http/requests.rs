//! Writes announces and scrapes as a real client sends them, and decides their order.

use std::fmt::Write as _;
use std::net::SocketAddr;

use fastrand::Rng;

use super::reply::Expect;
use crate::crowd::{Crowd, CrowdPeer, PeerParams, SendOrder, info_hash};

/// Yields the requests of a load one by one, and then `None`.
pub trait LoadSource {
    fn next(&mut self) -> Option<LoadRequest<'_>>;
}

pub struct LoadRequest<'a> {
    pub bytes: &'a [u8],
    /// What the reply to this request must contain; `None` if the load says it.
    pub expect: Option<Expect>,
}

impl<'a> LoadRequest<'a> {
    fn plain(bytes: &'a [u8]) -> Self {
        Self { bytes, expect: None }
    }
}

/// How requests are written.
#[derive(Clone)]
pub struct RequestStyle {
    host: String,
    path: String,
    close: bool,
    numwant: u32,
}

impl RequestStyle {
    pub fn new(host: SocketAddr) -> Self {
        Self { host: host.to_string(), path: "/announce".to_owned(), close: false, numwant: 30 }
    }

    pub fn path(self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// Sets whether each request has a connection of its own.
    pub fn close(self, close: bool) -> Self {
        Self { close, ..self }
    }

    pub fn numwant(self, numwant: u32) -> Self {
        Self { numwant, ..self }
    }

    fn announce(&self, peer: CrowdPeer, request: &mut String) {
        self.begin(peer, request);
        write!(request, "&compact=1&ip={}", peer.ip()).unwrap();
        self.head(request);
    }

    /// Writes the beginning of an announce, up to its `numwant`. The caller may add parameters. Then [`Self::head`]
    /// ends the announce.
    pub fn begin(&self, peer: CrowdPeer, request: &mut String) {
        let Self { path, numwant, .. } = self;
        let PeerParams { id, port, uploaded, downloaded, left, key, .. } = peer.params();
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

    pub fn scrape(&self, swarms: impl Iterator<Item = u64>, request: &mut String) {
        request.clear();
        request.push_str("GET /scrape");
        for (n, swarm) in swarms.enumerate() {
            request.push_str(if n == 0 { "?info_hash=" } else { "&info_hash=" });
            escape(&info_hash(swarm), request);
        }
        self.head(request);
    }

    pub fn head(&self, request: &mut String) {
        let connection = if self.close { "close" } else { "keep-alive" };
        let Self { host, .. } = self;
        write!(
            request,
            " HTTP/1.1\r\nHost: {host}\r\nUser-Agent: qBittorrent/4.6.3\r\nAccept-Encoding: gzip\r\nConnection: {connection}\r\n\r\n"
        )
        .unwrap();
    }
}

/// Percent-encodes all bytes except letters, digits and `-._~`, which need no escape in a URL.
pub fn escape(bytes: &[u8], text: &mut String) {
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

/// Announces each peer of a crowd once, to fill a tracker.
pub struct EachOnce {
    crowd: Crowd,
    style: RequestStyle,
    next: u64,
    request: String,
}

impl EachOnce {
    pub fn new(crowd: Crowd, style: RequestStyle) -> Self {
        Self { crowd, style, next: 0, request: String::new() }
    }

    pub fn is_over(&self) -> bool {
        self.next == self.crowd.size()
    }
}

impl LoadSource for EachOnce {
    fn next(&mut self) -> Option<LoadRequest<'_>> {
        if self.is_over() {
            return None;
        }
        self.style.announce(self.crowd.peer(self.next), &mut self.request);
        self.next += 1;
        Some(LoadRequest::plain(self.request.as_bytes()))
    }
}

/// Announces of random peers, all equally likely. Each announce is written just before it is sent, because a crowd has
/// too many peers to prepare them all.
pub struct UniformAnnounces {
    crowd: Crowd,
    style: RequestStyle,
    random: Rng,
    request: String,
}

impl UniformAnnounces {
    pub fn new(crowd: Crowd, style: RequestStyle) -> Self {
        Self { crowd, style, random: Rng::with_seed(7), request: String::new() }
    }
}

impl LoadSource for UniformAnnounces {
    fn next(&mut self) -> Option<LoadRequest<'_>> {
        let peer = self.crowd.peer(self.random.u64(..self.crowd.size()));
        self.style.announce(peer, &mut self.request);
        Some(LoadRequest::plain(self.request.as_bytes()))
    }
}

/// Requests that are written beforehand, so that sending them costs little.
pub struct PreparedRequests {
    requests: Vec<Vec<u8>>,
    turns: SendOrder,
}

impl PreparedRequests {
    /// Writes the announces of a crowd in which some swarms are more popular than others.
    pub fn announces(crowd: Crowd, style: &RequestStyle) -> Self {
        let mut request = String::new();
        let write = |number| {
            style.announce(crowd.peer(number), &mut request);
            request.clone().into_bytes()
        };
        Self { requests: (0..crowd.size()).map(write).collect(), turns: SendOrder::of(crowd) }
    }

    /// Writes scrapes. Each scrape asks for `at_once` swarms.
    pub fn scrapes(crowd: Crowd, at_once: u64, style: &RequestStyle) -> Self {
        let some = |n: u64| (0..at_once).map(move |m| crowd.first + (n * at_once + m) % crowd.swarms);
        let mut request = String::new();
        let write = |n| {
            style.scrape(some(n), &mut request);
            request.clone().into_bytes()
        };
        let count = crowd.swarms / at_once;
        Self { requests: (0..count).map(write).collect(), turns: SendOrder::round(count) }
    }
}

impl LoadSource for PreparedRequests {
    fn next(&mut self) -> Option<LoadRequest<'_>> {
        Some(LoadRequest::plain(&self.requests[self.turns.next_index()]))
    }
}
