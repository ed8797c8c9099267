//! The swarm: BitTorrent among the hosts of a network (BEP 3, BEP 10), version 1, over TCP.
//!
//! [`PeerSwarm`] is a thread of its own with all connections to other hosts. Its owner adds a torrent with its
//! [`SharedContent`], tells it the addresses of peers, and sees in the content how it grows. What is complete is not
//! added: a [`SeedCatalogue`] opens it when a peer asks.
//!
//! There is no DHT, no peer exchange, no uTP and no encryption: the tracker tells the peers, and they are in one network.
//! All peers that want something are served. Bounds: see the constants of `engine.rs`, `torrent.rs`, `outbox.rs`.

mod candidates;
mod connection;
mod content;
mod counters;
mod engine;
mod exchange;
mod outbox;
mod peer;
mod picker;
mod torrent;
mod turns;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use ipnet::IpNet;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;
use tracker_protocol::{InfoHash, PeerId};

pub use content::{ContentProgress, ContentSources, PieceFault, PieceHash, PieceShape, SharedContent};
pub use counters::{SwarmCounters, SwarmSample};
pub use torrent::SwarmStatus;

use engine::{MembershipKey, NewTorrent, SwarmCommand, SwarmEngine};

/// Threads that wait for the disk.
const DISK_THREADS: usize = 8;

/// How a host takes part.
#[derive(Clone, Debug)]
pub struct PeeringOptions {
    /// The ports of which the first free one is taken.
    pub ports: RangeInclusive<u16>,
    /// Only hosts in these networks are peers.
    pub networks: Vec<IpNet>,
    /// The host's id, another one after each start.
    pub peer_id: PeerId,
}

/// Complete blobs that peers may ask for.
pub trait SeedCatalogue: Send + Sync + 'static {
    /// The content of this torrent, if it is there. Blocks.
    fn open(&self, info_hash: InfoHash) -> Option<Arc<SharedContent>>;
}

/// All torrents of this host. They end when this is dropped.
#[derive(Debug)]
pub struct PeerSwarm {
    commands: UnboundedSender<SwarmCommand>,
    port: u16,
    counters: Arc<SwarmCounters>,
    /// The number of the next membership.
    next: AtomicU64,
}

impl PeerSwarm {
    /// Binds a port and starts the thread.
    ///
    /// # Errors
    /// No port of the range is free, or no thread can be started.
    pub fn start(options: PeeringOptions, catalogue: Arc<dyn SeedCatalogue>) -> io::Result<Self> {
        let listener = bind(options.ports.clone())?;
        let port = listener.local_addr()?.port();
        let (commands, received) = unbounded_channel();
        let counters = Arc::<SwarmCounters>::default();
        let of_engine = Arc::clone(&counters);
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(DISK_THREADS).build()?;
        let run = move || {
            let engine = async {
                match TcpListener::from_std(listener) {
                    Ok(listener) => {
                        Rc::new(SwarmEngine::new(options, port, catalogue, of_engine)).run(listener, received).await;
                    }
                    Err(error) => log::error!("the swarm cannot start: {error}"),
                }
            };
            LocalSet::new().block_on(&runtime, engine);
            // A disk that hangs must not keep the process from ending.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("swarm".to_owned()).spawn(run)?;
        Ok(Self { commands, port, counters, next: AtomicU64::new(0) })
    }

    /// The port on which peers reach this host.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What was sent and received.
    pub fn sample(&self) -> SwarmSample {
        self.counters.sample()
    }

    /// Takes part in a torrent until the returned value is dropped. With `is_forming` there is no torrent file yet: hashes
    /// of pieces come from the leader and are passed on.
    pub async fn join(
        self: &Arc<Self>,
        info_hash: InfoHash,
        content: Arc<SharedContent>,
        is_forming: bool,
    ) -> Option<SwarmMembership> {
        let (status, told) = oneshot::channel();
        let key = MembershipKey { info_hash, number: self.next.fetch_add(1, Relaxed) };
        self.send(SwarmCommand::Add(key, NewTorrent { content, is_forming, status }));
        let status = told.await.ok()?;
        Some(SwarmMembership { swarm: Arc::clone(self), key, status })
    }

    /// Speaks no more to a host that has told wrong hashes.
    pub fn ban(&self, ip: IpAddr) {
        self.send(SwarmCommand::Ban(ip));
    }

    /// An error means that the thread has ended. Then there is nothing to do.
    fn send(&self, command: SwarmCommand) {
        let _ = self.commands.send(command);
    }
}

/// This host does not take part in the torrent any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this host does not take part in the swarm any more")]
pub struct SwarmEnded;

/// A torrent in which this host takes part, until this is dropped.
#[derive(Debug)]
pub struct SwarmMembership {
    swarm: Arc<PeerSwarm>,
    key: MembershipKey,
    status: watch::Receiver<SwarmStatus>,
}

impl SwarmMembership {
    /// Tells addresses of peers.
    pub fn add_peers(&self, peers: Vec<SocketAddr>) {
        self.swarm.send(SwarmCommand::Peers(self.key, peers));
    }

    /// Tells whose hashes of pieces are believed.
    pub fn set_leader(&self, leader: Option<SocketAddr>) {
        self.swarm.send(SwarmCommand::Leader(self.key, leader));
        self.add_peers(leader.into_iter().collect());
    }

    /// Claims the next piece for the upstream: one that no peer has and that is not under way, or with `anything` also one
    /// that a peer has. Returns the place of its first byte that is not there. `None`: there is no such piece now.
    ///
    /// # Errors
    /// Another membership has taken the place of this one, or the thread has ended.
    pub async fn claim(&self, anything: bool) -> Result<Option<u64>, SwarmEnded> {
        let (offset, claimed) = oneshot::channel();
        self.swarm.send(SwarmCommand::Claim { key: self.key, anything, offset });
        claimed.await.map_err(|_| SwarmEnded)?
    }

    /// The state of the swarm, and when it changes.
    pub fn status(&self) -> watch::Receiver<SwarmStatus> {
        self.status.clone()
    }
}

impl Drop for SwarmMembership {
    fn drop(&mut self) {
        self.swarm.send(SwarmCommand::Remove(self.key));
    }
}

/// The first free port of a range, for IPv6 and IPv4, or for IPv4 alone where there is no IPv6.
fn bind(ports: RangeInclusive<u16>) -> io::Result<std::net::TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in ports {
        for ip in [IpAddr::from(Ipv6Addr::UNSPECIFIED), Ipv4Addr::UNSPECIFIED.into()] {
            match std::net::TcpListener::bind(SocketAddr::new(ip, port)) {
                Ok(listener) => {
                    listener.set_nonblocking(true)?;
                    return Ok(listener);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    last = error;
                    break;
                }
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests;
