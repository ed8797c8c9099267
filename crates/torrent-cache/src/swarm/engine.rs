//! The thread of the swarm: it accepts and opens connections, and keeps the torrents.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracker_protocol::InfoHash;

use super::candidates::PeerCandidates;
use super::connection::{self, ConnectionFault, OpenLink};
use super::content::SharedContent;
use super::counters::SwarmCounters;
use super::links::LinkCounts;
use super::torrent::{OwnHost, SwarmStatus, SwarmTorrent};
use super::{PeeringOptions, SeedCatalogue, SwarmEnded};

/// The time between two calls of `SwarmTorrent::tick`.
const TICK: Duration = Duration::from_millis(100);
/// The most addresses of one torrent that one tick dials.
const MAX_DIALS: usize = 16;
/// The most blobs that are opened at once. Opening a blob may read all of it, to verify it.
const MAX_OPENING: usize = 2;
/// The pause after a connection could not be accepted, usually because file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a host stays banned after it sent wrong bytes or wrong piece hashes.
const BAN: Duration = Duration::from_mins(10);
/// A torrent that was opened for a peer is closed after this time without a peer.
const IDLE_SEED: Duration = Duration::from_mins(1);

/// A command from the owner to the thread. Each command except `Ban` is about one membership.
pub(super) enum SwarmCommand {
    Add(MembershipKey, NewTorrent),
    Remove(MembershipKey),
    Peers(MembershipKey, Vec<SocketAddr>),
    Leader(MembershipKey, Option<SocketAddr>),
    /// `offset` receives the reply: an error if the membership has ended.
    Claim {
        key: MembershipKey,
        anything: bool,
        offset: oneshot::Sender<Result<Option<u64>, SwarmEnded>>,
    },
    Ban(IpAddr),
}

/// A torrent that its owner adds.
pub(super) struct NewTorrent {
    pub(super) content: Arc<SharedContent>,
    pub(super) is_forming: bool,
    pub(super) status: oneshot::Sender<watch::Receiver<SwarmStatus>>,
}

/// Identifies a membership. One torrent can have several memberships in turn, so the info-hash alone is not enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MembershipKey {
    pub(super) info_hash: InfoHash,
    pub(super) number: u64,
}

/// All torrents of the thread.
pub(super) struct SwarmEngine {
    host: Rc<OwnHost>,
    options: PeeringOptions,
    catalogue: Arc<dyn SeedCatalogue>,
    torrents: RefCell<HashMap<InfoHash, KeptTorrent>>,
    /// Torrents whose blobs are being opened, because peers asked for them.
    opening: RefCell<HashSet<InfoHash>>,
    /// Wakes the connections that wait until a blob has been opened.
    opened: Notify,
    links: Rc<LinkCounts>,
}

struct KeptTorrent {
    torrent: Rc<SwarmTorrent>,
    /// The owner's membership. `None` if the torrent was opened because a peer asked for it.
    membership: Option<MembershipKey>,
    candidates: PeerCandidates,
    /// Since when the torrent has had no peer. `None` if it has an owner, who removes it.
    unused: Option<Instant>,
}

impl SwarmEngine {
    pub(super) fn new(
        options: PeeringOptions,
        port: u16,
        catalogue: Arc<dyn SeedCatalogue>,
        counters: Arc<SwarmCounters>,
    ) -> Self {
        let host = OwnHost { id: options.peer_id, port, counters, under_way: Cell::new(0), banned: RefCell::default() };
        Self {
            host: Rc::new(host),
            options,
            catalogue,
            torrents: RefCell::default(),
            opening: RefCell::default(),
            opened: Notify::new(),
            links: Rc::default(),
        }
    }

    /// Runs the swarm until the owner is gone.
    pub(super) async fn run(self: Rc<Self>, listener: TcpListener, mut commands: UnboundedReceiver<SwarmCommand>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let may_accept = self.links.room() > 0;
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return self.close(),
                },
                accepted = listener.accept(), if may_accept => match accepted {
                    Ok((stream, address)) => self.accepted(stream, address),
                    Err(error) => {
                        log::warn!("cannot accept connections from other hosts, next attempt in {ACCEPT_PAUSE:?}: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                _ = ticks.tick() => self.tick(Instant::now()),
            }
        }
    }

    fn obey(self: &Rc<Self>, command: SwarmCommand) {
        match command {
            SwarmCommand::Add(key, NewTorrent { content, is_forming, status }) => {
                let torrent = SwarmTorrent::new(key.info_hash, content, is_forming, Rc::clone(&self.host));
                let _ = status.send(torrent.status());
                self.keep(torrent, Some(key));
            }
            SwarmCommand::Remove(key) => {
                let removed = self.torrents.borrow_mut().extract_if(|_, kept| kept.membership == Some(key)).next();
                removed.inspect(|(_, kept)| kept.torrent.close());
            }
            SwarmCommand::Peers(key, peers) => {
                let now = Instant::now();
                let mut torrents = self.torrents.borrow_mut();
                if let Some(kept) = torrents.get_mut(&key.info_hash).filter(|kept| kept.membership == Some(key)) {
                    for address in peers.into_iter().filter(|address| self.admits(address.ip())) {
                        kept.candidates.add(address, now);
                    }
                }
                drop(torrents);
                self.dial_due(now);
            }
            SwarmCommand::Leader(key, leader) => {
                if let Some(torrent) = self.member(key) {
                    torrent.set_leader(leader);
                }
            }
            SwarmCommand::Claim { key, anything, offset } => {
                let torrent = self.member(key);
                let claimed = torrent.as_ref().map(|torrent| torrent.claim(anything)).ok_or(SwarmEnded);
                // If the owner has stopped waiting, its claim must not keep peers from delivering the piece.
                if let (Err(_), Some(torrent)) = (offset.send(claimed), torrent) {
                    torrent.content.give_up_claim();
                }
            }
            SwarmCommand::Ban(ip) => {
                self.host.banned.borrow_mut().insert(ip, Instant::now());
            }
        }
    }

    /// Keeps a torrent, and closes the torrent that had the same info-hash before.
    fn keep(&self, torrent: Rc<SwarmTorrent>, membership: Option<MembershipKey>) {
        let unused = membership.is_none().then(Instant::now);
        let kept = KeptTorrent { candidates: PeerCandidates::default(), membership, unused, torrent };
        let before = self.torrents.borrow_mut().insert(kept.torrent.info_hash, kept);
        before.inspect(|before| before.torrent.close());
    }

    /// Returns the torrent of a membership, or `None` if the membership has ended or another membership has replaced
    /// it.
    fn member(&self, key: MembershipKey) -> Option<Rc<SwarmTorrent>> {
        let torrents = self.torrents.borrow();
        let kept = torrents.get(&key.info_hash).filter(|kept| kept.membership == Some(key));
        kept.map(|kept| Rc::clone(&kept.torrent))
    }

    fn torrent(&self, info_hash: InfoHash) -> Option<Rc<SwarmTorrent>> {
        self.torrents.borrow().get(&info_hash).map(|kept| Rc::clone(&kept.torrent))
    }

    /// Returns whether a host at this address may be a peer.
    fn admits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let is_listed = self.options.networks.iter().any(|network| network.contains(&ip));
        is_listed && self.host.banned.borrow().get(&ip).is_none_or(|since| since.elapsed() >= BAN)
    }

    fn accepted(self: &Rc<Self>, stream: TcpStream, address: SocketAddr) {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if !self.admits(address.ip()) {
            log::debug!(
                "{address}: closed an incoming connection, because the address is in no network of PEER_NETWORKS or the \
                 host is banned"
            );
            return;
        }
        let Some(count) = self.links.take(address.ip()) else {
            log::debug!(
                "{address}: closed an incoming connection, because its host or all hosts together have too many"
            );
            return;
        };
        let engine = Rc::clone(self);
        spawn_local(async move {
            let _count = count;
            if let Err(fault) = engine.serve(stream, address).await {
                log::debug!("{address}: {fault}");
            }
        });
    }

    async fn serve(self: &Rc<Self>, stream: TcpStream, address: SocketAddr) -> Result<(), ConnectionFault> {
        let mut link = connection::accept(stream, address).await?;
        let info_hash = link.theirs.info_hash;
        let torrent = match self.torrent(info_hash) {
            Some(torrent) => torrent,
            None => self.open_seed(info_hash).await.ok_or(ConnectionFault::OtherTorrent)?,
        };
        connection::greet(&mut link.stream, info_hash, self.host.id).await?;
        connection::run(&torrent, link).await
    }

    /// Opens a blob that is on disk, because a peer asks for its torrent.
    async fn open_seed(&self, info_hash: InfoHash) -> Option<Rc<SwarmTorrent>> {
        // A first opening may read the whole blob, so other peers that ask for the blob wait here. Few blobs are opened
        // at once, so that the disk threads can serve other torrents too.
        while self.opening.borrow().contains(&info_hash) || self.opening.borrow().len() >= MAX_OPENING {
            self.opened.notified().await;
        }
        if let Some(torrent) = self.torrent(info_hash) {
            return Some(torrent);
        }
        self.opening.borrow_mut().insert(info_hash);
        let catalogue = Arc::clone(&self.catalogue);
        let opened = spawn_blocking(move || catalogue.open(info_hash)).await;
        self.opening.borrow_mut().remove(&info_hash);
        self.opened.notify_waiters();
        let content = opened.ok()??;
        // The owner may have added the torrent meanwhile.
        if let Some(torrent) = self.torrent(info_hash) {
            return Some(torrent);
        }
        let torrent = SwarmTorrent::new(info_hash, content, false, Rc::clone(&self.host));
        self.keep(Rc::clone(&torrent), None);
        Some(torrent)
    }

    fn tick(self: &Rc<Self>, now: Instant) {
        let torrents: Vec<_> = self.torrents.borrow().values().map(|kept| Rc::clone(&kept.torrent)).collect();
        torrents.iter().filter(|torrent| torrent.count() > 0).for_each(|torrent| torrent.tick(now));
        self.torrents.borrow_mut().retain(|_, kept| {
            if kept.torrent.count() > 0 {
                kept.unused = kept.unused.map(|_| now);
            }
            kept.unused.is_none_or(|since| now.duration_since(since) < IDLE_SEED)
        });
        self.host.banned.borrow_mut().retain(|_, since| now.duration_since(*since) < BAN);
        self.dial_due(now);
    }

    fn dial_due(self: &Rc<Self>, now: Instant) {
        let mut torrents = self.torrents.borrow_mut();
        for kept in torrents.values_mut().filter(|kept| !kept.candidates.is_empty()) {
            if kept.torrent.content.is_complete() {
                continue;
            }
            for address in kept.candidates.take_due(self.links.room().min(MAX_DIALS), now) {
                if kept.torrent.is_connected(address) || !self.admits(address.ip()) {
                    kept.candidates.ended(address, now);
                    continue;
                }
                let Some(count) = self.links.take(address.ip()) else {
                    kept.candidates.ended(address, now);
                    continue;
                };
                let (engine, torrent) = (Rc::clone(self), Rc::clone(&kept.torrent));
                spawn_local(async move {
                    let _count = count;
                    if let Err(fault) = engine.dial(&torrent, address).await {
                        log::debug!("{address}: {fault}");
                    }
                    if let Some(kept) = engine.torrents.borrow_mut().get_mut(&torrent.info_hash) {
                        kept.candidates.ended(address, Instant::now());
                    }
                });
            }
        }
    }

    async fn dial(&self, torrent: &Rc<SwarmTorrent>, address: SocketAddr) -> Result<(), ConnectionFault> {
        let link: OpenLink = connection::dial(address, torrent.info_hash, self.host.id).await?;
        connection::run(torrent, link).await
    }

    fn close(&self) {
        self.torrents.borrow().values().for_each(|kept| kept.torrent.close());
    }
}
