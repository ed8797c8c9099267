//! One blob while this host fetches and shares it.

use std::collections::HashSet;
use std::fmt;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracker_protocol::{Event, InfoHash};

use super::feeder::PieceFeeder;
use super::lease::OwnLease;
use super::patience::{Patience, Verdict};
use super::start::ShareStart;
use super::tasks::{SeedingTask, StoredShare, SwarmStay};
use super::{DISTRUST, Sharing};
use crate::digest::Digest;
use crate::swarm::{SharedContent, SwarmMembership};
use crate::swarm_tracker::{LeaseView, ShareKey, SharedMetainfo, SwarmAnnounce};

/// How often a host that waits for the swarm looks at the swarm.
const LOOK: Duration = Duration::from_millis(50);
/// The pause before a host that did not get the lease claims it again.
const CLAIM_PAUSE: Duration = Duration::from_millis(500);
/// How soon a host that has no source announces again. Also the shortest interval of announces.
const LONELY: Duration = Duration::from_secs(1);
/// The interval of announces if the tracker does not tell an interval.
const INTERVAL: Duration = Duration::from_mins(5);
/// How long one request to the tracker about the lease waits for a change.
const POLL: Duration = Duration::from_secs(10);
/// The most failures of the upstream without a new piece. After one more, the fetch fails.
const MAX_FAILURES: u32 = 3;
/// How many peers an announce asks for.
const NUMWANT: u32 = 60;

/// A blob that this host fetches and shares with other hosts.
#[derive(Debug)]
pub struct ShareSession {
    sharing: Arc<Sharing>,
    key: ShareKey,
    info_hash: InfoHash,
    content: Arc<SharedContent>,
    swarm: SwarmMembership,
    /// Whether there was a torrent file when the session began.
    has_file: bool,
    /// The hosts from which this host took hashes of pieces.
    leaders: Mutex<HashSet<SocketAddr>>,
    /// Whether the length comes from other hosts.
    is_length_told: bool,
    /// Held and renewed until the torrent file is registered, so that no other host begins to fetch before then.
    lease: Mutex<Option<Arc<OwnLease>>>,
}

/// How a host fetches a blob.
enum ShareRole {
    /// It holds the lease, and fetches for the network. The receiver becomes `true` when the lease is lost.
    Lead(watch::Receiver<bool>),
    /// It waits for pieces from the swarm.
    Follow(LeaseView),
    /// It fetches without the lease, because the swarm gives too little.
    Alone,
}

/// The failures of the upstream since the last piece came.
#[derive(Default)]
struct UpstreamFailures {
    pieces: u32,
    count: u32,
}

impl UpstreamFailures {
    /// Counts a failure. Returns whether there are too many, so that the fetch ends although there are peers.
    fn are_too_many(&mut self, pieces: u32) -> bool {
        if pieces > self.pieces {
            *self = Self { pieces, count: 0 };
        }
        self.count += 1;
        self.count > MAX_FAILURES
    }
}

impl fmt::Display for ShareRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lead(_) => f.write_str("fetches for the network"),
            Self::Follow(LeaseView { leader: Some(leader), .. }) => write!(f, "follows {leader}"),
            Self::Follow(_) => f.write_str("waits for peers"),
            Self::Alone => f.write_str("fetches beside the swarm"),
        }
    }
}

impl ShareSession {
    /// Joins the swarm of a blob. Returns `None` if the thread of the swarms has ended.
    pub async fn begin(
        sharing: &Arc<Sharing>,
        key: ShareKey,
        start: &ShareStart,
        content: &Arc<SharedContent>,
    ) -> Option<Self> {
        let (info_hash, has_file) = match start {
            ShareStart::Known(metainfo) => (metainfo.info_hash(), true),
            ShareStart::Lead(_) | ShareStart::Follow(_) => (sharing.rendezvous(&key), false),
        };
        let swarm = sharing.swarm.join(info_hash, Arc::clone(content), !has_file).await?;
        let (sharing, content) = (Arc::clone(sharing), Arc::clone(content));
        Some(Self {
            sharing,
            key,
            info_hash,
            content,
            swarm,
            has_file,
            leaders: Mutex::default(),
            is_length_told: start.length().is_some(),
            lease: Mutex::default(),
        })
    }

    /// Fetches until all pieces are there, or the content cannot be written. `start` is the same value that
    /// [`Self::begin`] got.
    ///
    /// # Errors
    /// The upstream fails while no peer has any piece, or it has failed too often since the last piece came.
    pub async fn fetch<F: PieceFeeder>(&self, start: ShareStart, feeder: &mut F) -> Result<(), F::Fault> {
        let mut progress = self.content.progress();
        let count = self.content.shape().count;
        let complete = progress.wait_for(|progress| progress.pieces == count || progress.has_failed);
        let role = match start {
            ShareStart::Known(_) => ShareRole::Follow(LeaseView::default()),
            ShareStart::Lead(lease) => self.lead(lease),
            ShareStart::Follow(lease) => ShareRole::Follow(lease),
        };
        tokio::select! {
            biased;
            _ = complete => Ok(()),
            fault = self.play(role, feeder) => Err(fault),
            () = self.announce() => Ok(()),
        }
    }

    /// Plays one role after the other. Returns the upstream's failure when peers cannot help, or after too many
    /// failures.
    async fn play<F: PieceFeeder>(&self, mut role: ShareRole, feeder: &mut F) -> F::Fault {
        let mut is_stuck = false;
        let mut failures = UpstreamFailures::default();
        loop {
            let progress = self.content.progress_now();
            log::debug!("{}: {role}, with {progress:?} and {:?}", self.key, *self.swarm.status().borrow());
            let pieces = progress.pieces;
            let fed = match &role {
                ShareRole::Follow(lease) => {
                    role = self.follow(*lease).await;
                    continue;
                }
                ShareRole::Lead(is_lost) => {
                    self.believe(None);
                    let mut is_lost = is_lost.clone();
                    tokio::select! {
                        fed = feeder.feed(&self.swarm, is_stuck) => fed,
                        _ = is_lost.wait_for(|is_lost| *is_lost) => {
                            self.end_lease();
                            self.content.give_up_claim();
                            role = ShareRole::Follow(LeaseView::default());
                            continue;
                        }
                    }
                }
                ShareRole::Alone => feeder.feed(&self.swarm, true).await,
            };
            match fed {
                // The missing pieces are under way from peers, or peers have them.
                Ok(()) => is_stuck = self.stands_still(pieces).await,
                Err(fault) if failures.are_too_many(pieces) || self.swarm.status().borrow().sources == 0 => {
                    return fault;
                }
                Err(_) => {
                    self.end_lease();
                    role = ShareRole::Follow(LeaseView::default());
                }
            }
        }
    }

    fn lead(&self, lease: OwnLease) -> ShareRole {
        let lease = Arc::new(lease);
        let is_lost = lease.keep(&self.content);
        *self.lease.lock() = Some(lease);
        ShareRole::Lead(is_lost)
    }

    /// Waits for a piece from peers. Returns `true` if no piece has come for a second.
    async fn stands_still(&self, pieces: u32) -> bool {
        let mut progress = self.content.progress();
        timeout(LONELY, progress.wait_for(|progress| progress.pieces > pieces)).await.is_err()
    }

    /// Waits for the swarm while that is better than asking the upstream. Returns the next role.
    async fn follow(&self, lease: LeaseView) -> ShareRole {
        if lease.leader.is_some() {
            self.believe(lease.leader);
        }
        tokio::select! {
            role = self.wait_for_swarm() => role,
            role = self.watch_lease() => role,
        }
    }

    async fn wait_for_swarm(&self) -> ShareRole {
        let mut patience = Patience::new(self.has_file, self.content.progress_now(), Instant::now());
        let status = self.swarm.status();
        let piece_length = self.content.shape().piece_length;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let swarm = *status.borrow();
            match patience.look(self.content.progress_now(), swarm, piece_length, Instant::now()) {
                Verdict::Wait => {}
                Verdict::Help => return ShareRole::Alone,
                Verdict::Claim if self.learn_from_file().await => sleep(CLAIM_PAUSE).await,
                verdict => match self.sharing.claim(&self.key, Some(self.content.shape().length)).await {
                    Ok(ShareStart::Lead(lease)) => return self.lead(lease),
                    Ok(ShareStart::Follow(lease)) if verdict == Verdict::Claim => {
                        self.believe(lease.leader);
                        sleep(CLAIM_PAUSE).await;
                    }
                    _ => return ShareRole::Alone,
                },
            }
        }
    }

    /// Waits until no host holds the lease, and claims it. While another host holds the lease, this host follows that
    /// host.
    async fn watch_lease(&self) -> ShareRole {
        if self.has_file {
            // With a torrent file any peer can help. Only a host without a peer needs the lease.
            return pending().await;
        }
        loop {
            let state = self.sharing.tracker.state(&self.key, POLL).await;
            match state {
                Ok(Some(blob)) if blob.has_torrent => drop(self.learn_from_file().await),
                Ok(Some(blob)) => self.believe(blob.lease.leader),
                Ok(None) => {
                    if let Ok(ShareStart::Lead(lease)) =
                        self.sharing.claim(&self.key, Some(self.content.shape().length)).await
                    {
                        return self.lead(lease);
                    }
                }
                Err(_) => {}
            }
            let pause = match state {
                Ok(Some(blob)) if blob.has_torrent => POLL,
                Ok(_) => LOOK,
                Err(_) => LONELY,
            };
            sleep(pause).await;
        }
    }

    /// Learns all piece hashes, if another host has registered the torrent file meanwhile. Returns whether the file has
    /// brought new hashes.
    async fn learn_from_file(&self) -> bool {
        if self.content.hashes().is_some() {
            return false;
        }
        let Ok(Some(file)) = self.sharing.tracker.metainfo(&self.key).await else { return false };
        let metainfo = SharedMetainfo::read(&file, &self.key, self.sharing.secret.as_ref());
        let Some(metainfo) = metainfo.ok().filter(|metainfo| metainfo.length() == self.content.shape().length) else {
            return false;
        };
        self.content.learn((0..).zip(metainfo.piece_hashes().iter().copied()));
        true
    }

    fn believe(&self, leader: Option<SocketAddr>) {
        self.swarm.set_leader(leader);
        self.leaders.lock().extend(leader);
    }

    /// Announces again and again, until the future is dropped.
    async fn announce(&self) {
        let mut event = Some(Event::Started);
        let mut status = self.swarm.status();
        loop {
            let shape = self.content.shape();
            let got = u64::from(self.content.progress_now().pieces) * u64::from(shape.piece_length);
            let announce = SwarmAnnounce {
                info_hash: self.info_hash,
                event,
                uploaded: 0,
                downloaded: got.min(shape.length),
                left: shape.length.saturating_sub(got),
                numwant: NUMWANT,
            };
            let interval = match self.sharing.tracker.announce(&announce).await {
                Ok(found) => {
                    event = None;
                    self.swarm.add_peers(found.peers);
                    found.interval.unwrap_or(INTERVAL).max(LONELY)
                }
                Err(error) => {
                    log::debug!("{}: the announce failed: {error}", self.key);
                    LONELY
                }
            };
            let lonely = async {
                sleep(LONELY).await;
                // The sender lives as long as the swarm.
                let _ended = status.wait_for(|status| status.sources == 0).await;
            };
            let _first = timeout(interval, lonely).await;
        }
    }

    /// Offers the content to other hosts, now that it is complete, verified and stored.
    pub fn stored(self, digest: Digest) {
        let Some(hashes) = self.content.hashes() else { return };
        let length = self.content.shape().length;
        match SharedMetainfo::new(&self.key, self.sharing.secret.as_ref(), length, hashes) {
            Ok(metainfo) => {
                let sharing = Arc::clone(&self.sharing);
                let share = StoredShare { key: self.key, digest, metainfo, swarm: Some(Box::new(self)) };
                sharing.tell(SeedingTask::Stored(Box::new(share)));
            }
            Err(error) => log::warn!("{}: not shared: {error}", self.key),
        }
    }

    /// Notes that the digest or the length of the content is wrong. If bytes or the length came from other hosts,
    /// complains to the tracker, and avoids the swarm for this blob for ten minutes.
    pub fn was_wrong(&self) {
        if self.content.sources().from_peers == 0 && !self.is_length_told {
            return;
        }
        let leaders = self.leaders.lock().clone();
        let mut named: Vec<_> = leaders.iter().map(ToString::to_string).collect();
        if self.has_file || named.is_empty() {
            named.push("its torrent file".to_owned());
        }
        let who = named.join(" and ");
        log::warn!("{}: wrong content from the swarm, hashes from {who}; not shared for {DISTRUST:?}", self.key);
        // With hashes of several leaders, this host cannot tell whose were wrong, so it bans none of them.
        if let ([leader], false) = (&leaders.into_iter().collect::<Vec<_>>()[..], self.has_file) {
            self.sharing.swarm.ban(leader.ip());
        }
        self.sharing.distrusted.lock().insert(self.key, Instant::now());
        self.sharing.tell(SeedingTask::Complain(self.key));
    }
}

impl SwarmStay for ShareSession {
    fn had_file(&self) -> bool {
        self.has_file
    }

    fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    fn peers(&self) -> usize {
        self.swarm.status().borrow().peers
    }

    fn end_lease(&self) {
        *self.lease.lock() = None;
    }
}

impl Drop for ShareSession {
    fn drop(&mut self) {
        self.sharing.tell(SeedingTask::Left(self.info_hash));
    }
}
