//! The swarm: BitTorrent among the hosts of a network (BEP 3, BEP 10), version 1, over TCP.
//!
//! [`PeerSwarm`] runs a thread that holds all connections to other hosts. The owner of the swarm joins a torrent with a
//! [`SharedContent`], names the addresses of peers, and watches how the content grows. The owner does not join torrents
//! of complete blobs. The thread opens such a blob through the [`SeedCatalogue`] when a peer asks for its torrent.
//!
//! There is no DHT and no peer exchange, because the tracker names the peers. There is no uTP and no encryption,
//! because all peers are in one network. The swarm chokes no peer. The limits are constants in `engine.rs`,
//! `torrent.rs` and `outbox.rs`.

mod candidates;
mod connection;
mod content;
mod counters;
mod engine;
mod exchange;
mod links;
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

/// The most threads for work that waits for the disk.
const DISK_THREADS: usize = 8;

/// How this host takes part in swarms.
#[derive(Clone, Debug)]
pub struct PeeringOptions {
    /// The swarm listens on the first free port of this range.
    pub ports: RangeInclusive<u16>,
    /// Only hosts in these networks are peers.
    pub networks: Vec<IpNet>,
    /// The peer id of this host. Each start chooses a new one.
    pub peer_id: PeerId,
}

/// Complete blobs that peers may ask for.
pub trait SeedCatalogue: Send + Sync + 'static {
    /// Opens the content of this torrent. Returns `None` if this host does not have the blob. Blocks on the disk.
    fn open(&self, info_hash: InfoHash) -> Option<Arc<SharedContent>>;
}

/// The torrents of this host. Dropping this value ends them.
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
            // A disk that hangs must not keep the process alive.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("swarm".to_owned()).spawn(run)?;
        Ok(Self { commands, port, counters, next: AtomicU64::new(0) })
    }

    /// Returns the port on which peers reach this host.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the counters of what was sent and received.
    pub fn sample(&self) -> SwarmSample {
        self.counters.sample()
    }

    /// Joins a torrent until the returned value is dropped. `is_forming`: the blob has no torrent file yet, and this
    /// host learns piece hashes from the leader and passes them on. Returns `None` if the thread has ended.
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

    /// Refuses connections to and from a host for ten minutes, because the host sent wrong piece hashes.
    pub fn ban(&self, ip: IpAddr) {
        self.send(SwarmCommand::Ban(ip));
    }

    /// Sends a command to the thread. If the thread has ended, the command has nothing to act on.
    fn send(&self, command: SwarmCommand) {
        let _ = self.commands.send(command);
    }
}

/// This host does not take part in the torrent any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this host does not take part in the swarm any more")]
pub struct SwarmEnded;

/// This host's part in one torrent. Dropping this value leaves the torrent.
#[derive(Debug)]
pub struct SwarmMembership {
    swarm: Arc<PeerSwarm>,
    key: MembershipKey,
    status: watch::Receiver<SwarmStatus>,
}

impl SwarmMembership {
    /// Names addresses of peers, which the thread then dials.
    pub fn add_peers(&self, peers: Vec<SocketAddr>) {
        self.swarm.send(SwarmCommand::Peers(self.key, peers));
    }

    /// Names the leader, the only host whose piece hashes are believed.
    pub fn set_leader(&self, leader: Option<SocketAddr>) {
        self.swarm.send(SwarmCommand::Leader(self.key, leader));
        self.add_peers(leader.into_iter().collect());
    }

    /// Claims a piece for the upstream, so that no peer is asked for the piece. Chooses the first piece that is not
    /// under way and that no peer can deliver. Without such a piece, `anything` allows a piece that peers can deliver.
    /// Returns the offset in the blob of the piece's first missing byte, or `None` if no piece can be claimed now.
    ///
    /// # Errors
    /// Another membership has taken the place of this one, or the thread has ended.
    pub async fn claim(&self, anything: bool) -> Result<Option<u64>, SwarmEnded> {
        let (offset, claimed) = oneshot::channel();
        self.swarm.send(SwarmCommand::Claim { key: self.key, anything, offset });
        claimed.await.map_err(|_| SwarmEnded)?
    }

    /// Returns a receiver of the swarm's state, which notices each change.
    pub fn status(&self) -> watch::Receiver<SwarmStatus> {
        self.status.clone()
    }
}

impl Drop for SwarmMembership {
    fn drop(&mut self) {
        self.swarm.send(SwarmCommand::Remove(self.key));
    }
}

/// Binds the first free port of a range, for IPv6 and IPv4, or for IPv4 alone where the system has no IPv6.
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
