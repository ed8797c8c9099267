//! BitTorrent clients, as far as trackers see them: who announces, and a connection that is kept.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::report::Latencies;

/// An announce that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who announces what: a client on the LAN that has an address of its own.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) torrent: usize,
    pub(crate) number: usize,
}

impl Peer {
    /// So many peers in so many swarms.
    pub(crate) fn some(peers: usize, swarms: usize) -> Vec<Self> {
        (0..peers).map(|number| Self { torrent: number % swarms, number }).collect()
    }

    /// Its id: text, so that it stands in queries as it is.
    pub(crate) fn id(self) -> String {
        format!("-BN0001-{:012}", self.number)
    }

    /// The request of a leecher's announce.
    pub(crate) fn announce(self) -> Vec<u8> {
        self.request("&left=1")
    }

    /// The same with an event. Who has completed is a seed.
    pub(crate) fn event(self, event: &str) -> Vec<u8> {
        let left = u8::from(event == "started");
        self.request(&format!("&left={left}&event={event}"))
    }

    fn request(self, rest: &str) -> Vec<u8> {
        let Self { torrent, number } = self;
        let [_, _, high, low] = (number as u32).to_be_bytes();
        // As hashes do, those of the torrents differ in the first byte.
        let info_hash = format!("%{:02x}{torrent:019}", torrent % 256);
        let id = self.id();
        let query = format!("info_hash={info_hash}&peer_id={id}&port=6881&compact=1&ip=10.0.{high}.{low}{rest}");
        format!("GET /announce?{query} HTTP/1.1\r\nHost: retracker.local\r\n\r\n").into_bytes()
    }
}

/// A connection that is opened when it is needed, and kept.
pub(crate) struct Client {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    /// Sends a request; gives the body of the reply, which must be a 200 and no refusal.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        let reply =
            timeout(PATIENCE, self.attempt(request)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if reply.is_err() {
            self.stream = None;
        }
        reply
    }

    async fn attempt(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                none.insert(stream)
            }
        };
        stream.write_all(request).await?;
        let mut reply = Vec::with_capacity(4096);
        loop {
            if let Some(body) = body(&reply)? {
                return Ok(body.to_vec());
            }
            if stream.read_buf(&mut reply).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The body of a reply that is complete.
fn body(reply: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some(end) = reply.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = (String::from_utf8_lossy(&reply[..end]).to_ascii_lowercase(), &reply[end + 4..]);
    let length = head.split("\r\ncontent-length:").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
    let length: usize = length.ok_or_else(|| io::Error::other("a reply without a length"))?;
    if body.len() < length {
        return Ok(None);
    }
    if !head.starts_with("http/1.1 200 ") || contains(body, b"14:failure reason") {
        return Err(io::Error::other(String::from_utf8_lossy(reply)));
    }
    Ok(Some(body))
}

pub(crate) fn contains(body: &[u8], what: &[u8]) -> bool {
    body.windows(what.len()).any(|window| window == what)
}

/// Has all of these announce once with an event, so many at a time.
pub(crate) async fn announce_all(address: SocketAddr, peers: &[Peer], event: &str, at_once: usize) {
    let some = async |first: usize| {
        let mut client = Client::new(address);
        for peer in peers.iter().skip(first).step_by(at_once) {
            client.exchange(&peer.event(event)).await.unwrap();
        }
    };
    futures::future::join_all((0..at_once).map(some)).await;
}

/// A client that announces one thing again and again.
pub(crate) struct Announcer {
    client: Client,
    request: Vec<u8>,
    latencies: Vec<Duration>,
    pub(crate) errors: usize,
}

impl Announcer {
    pub(crate) fn new(address: SocketAddr, peer: Peer) -> Self {
        Self { client: Client::new(address), request: peer.announce(), latencies: Vec::new(), errors: 0 }
    }

    /// Announces from `start` on, at this pace, for as long as it is to `go_on`.
    pub(crate) async fn run(&mut self, start: Instant, pace: Duration, go_on: impl Fn() -> bool) {
        let mut ticks = interval_at(start, pace);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !go_on() {
                return;
            }
            let sent = Instant::now();
            match self.client.exchange(&self.request).await {
                Ok(_) => self.latencies.push(sent.elapsed()),
                Err(_) => self.errors += 1,
            }
        }
    }

    /// How long its announces have taken since this was asked last.
    pub(crate) fn take(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.latencies)
    }
}

/// Has all of them announce at this pace, one after the other and not all at once.
pub(crate) async fn run_all(announcers: &mut [Announcer], start: Instant, pace: Duration, go_on: impl Fn() -> bool) {
    let count = announcers.len() as u32;
    let start = |n: usize| start + pace * (n as u32) / count;
    let runs = announcers.iter_mut().enumerate().map(|(n, announcer)| announcer.run(start(n), pace, &go_on));
    futures::future::join_all(runs).await;
}

/// What they have measured since this was asked last.
pub(crate) fn latencies(announcers: &mut [Announcer]) -> Latencies {
    Latencies::new(announcers.iter_mut().flat_map(Announcer::take))
}

pub(crate) fn errors(announcers: &[Announcer]) -> usize {
    announcers.iter().map(|announcer| announcer.errors).sum()
}
