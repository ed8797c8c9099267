//! What hosts that share blobs by BitTorrent need beside announces (`--torrents`): torrent files, and leases, which
//! decide which host of a site fetches a blob that no host has.
//!
//! Everything is in memory and bounded. A changed boot id tells hosts that the process is new, and they register their
//! blobs again. This module knows no sockets and no HTTP. Its parts get the time as an argument.

mod busy;
mod dials;
mod key;
mod lease;
mod metainfo;
mod missing;
mod poll;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tracker_protocol::InfoHash;
use tracker_protocol::metainfo::MetainfoError;

use crate::clock::Clock;
use crate::metrics::{TorrentsMetrics, TorrentsSample};
use crate::topology::ZoneId;

pub use self::busy::Busy;
pub use self::dials::PortDial;
pub use self::key::{BlobKey, NotABlobKey};
pub use self::lease::{Claimed, HeldLease, LEASE_TTL, LeaseHolder, StaleLease};
pub use self::metainfo::{PutMetainfo, StoredMetainfo};
pub use self::missing::MAX_ASKED;
pub use self::poll::MAX_WAIT;

use self::dials::PortDials;
use self::lease::Leases;
use self::metainfo::MetainfoCache;
use self::missing::MissingKeys;
use self::poll::LongPolls;

/// The limits of [`SharedBlobs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TorrentsLimits {
    /// The most bytes that torrent files take.
    pub memory: u64,
    /// The most long polls under way, of all hosts together.
    pub max_polls: usize,
}

/// The torrent files and the leases of shared blobs.
#[derive(Debug)]
pub struct SharedBlobs {
    boot: String,
    clock: Clock,
    metainfo: MetainfoCache,
    leases: Leases,
    missing: MissingKeys,
    polls: Arc<LongPolls>,
    dials: Arc<PortDials>,
    /// The metrics of shared blobs.
    pub metrics: TorrentsMetrics,
}

/// What is known of a blob, as the hosts of one zone see it.
#[derive(Clone, Debug)]
pub struct BlobState {
    /// The lease of the blob in the zone, if a host holds the lease.
    pub lease: Option<HeldLease>,
    /// Whether the blob has a torrent file.
    pub has_metainfo: bool,
}

impl SharedBlobs {
    /// Makes a value without any blobs. `unix_time` is the present time in seconds since 1970.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(limits: TorrentsLimits, unix_time: u64, metrics: TorrentsMetrics) -> io::Result<Self> {
        let boot = getrandom::u64().map_err(io::Error::other)?;
        Ok(Self {
            boot: format!("{boot:016x}"),
            clock: Clock::start(),
            metainfo: MetainfoCache::new(limits.memory),
            leases: Leases::new(unix_time),
            missing: MissingKeys::default(),
            polls: Arc::new(LongPolls::new(limits.max_polls)),
            dials: Arc::default(),
            metrics,
        })
    }

    /// Returns the boot id: a random text that differs after each start of the process.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// Returns the torrent file of a blob. `has_peers` says whether a swarm has peers.
    pub fn metainfo(&self, key: &BlobKey, has_peers: impl Fn(InfoHash) -> bool) -> Option<Arc<StoredMetainfo>> {
        self.metainfo.get(self.clock.now(), key, &has_peers)
    }

    /// Stores the torrent file of a blob.
    ///
    /// # Errors
    /// `file` is not a valid torrent file, or it describes more than one file.
    pub fn put_metainfo(
        &self,
        key: &BlobKey,
        file: Vec<u8>,
        has_peers: impl Fn(InfoHash) -> bool,
    ) -> Result<PutMetainfo, MetainfoError> {
        let put = self.metainfo.put(self.clock.now(), key, file, &has_peers)?;
        if let PutMetainfo::New(stored) = &put {
            log::debug!("the torrent file of {key} is stored: {}", stored.info_hash);
            self.polls.wake(key);
        }
        Ok(put)
    }

    /// Removes the torrent file of a blob.
    pub fn remove_metainfo(&self, key: &BlobKey) {
        self.metainfo.remove(key);
    }

    /// Records that a host got wrong content for a blob. A second host's complaint removes the torrent file.
    pub fn complain(&self, key: &BlobKey, host: IpAddr) {
        if let Some(first) = self.metainfo.complain(key, host) {
            log::warn!("the torrent file of {key} is removed: {first} and {host} got wrong content for it");
        }
    }

    /// Returns those keys that have no torrent file. Other hosts do not get these keys for 30 seconds, so that only one
    /// host registers each blob.
    ///
    /// # Errors
    /// Too many keys, over all hosts, were returned in the last 30 seconds.
    pub fn missing(
        &self,
        keys: Vec<BlobKey>,
        host: IpAddr,
        has_peers: impl Fn(InfoHash) -> bool,
    ) -> Result<Vec<BlobKey>, Busy> {
        let now = self.clock.now();
        let lacks = |key: &BlobKey| self.metainfo.get(now, key, &has_peers).is_none();
        self.missing.tell(now, keys.into_iter().filter(lacks), host)
    }

    /// Asks for the lease of a blob.
    ///
    /// # Errors
    /// There are too many leases, or the host holds too many.
    pub fn claim(&self, key: &BlobKey, holder: LeaseHolder) -> Result<Claimed, Busy> {
        let address = holder.address.ip;
        let claimed = self.leases.claim(self.clock.now(), key, holder)?;
        if let Claimed::Granted { generation, taken_from } = claimed {
            log::debug!("{address} holds the lease of {key}, generation {generation}");
            if let Some((before, why)) = taken_from {
                log::info!("{before} lost the lease of {key} to {address}, because {before} {why}");
            }
            self.metrics.granted.inc();
            self.polls.wake(key);
        }
        Ok(claimed)
    }

    /// Prolongs a lease.
    ///
    /// # Errors
    /// The lease has ended.
    pub fn renew(&self, key: &BlobKey, generation: u64, have: u64, size: Option<u64>) -> Result<(), StaleLease> {
        self.leases.renew(self.clock.now(), key, generation, have, size)
    }

    /// Ends a lease.
    ///
    /// # Errors
    /// The lease has ended before.
    pub fn release(&self, key: &BlobKey, generation: u64) -> Result<(), StaleLease> {
        self.leases.release(self.clock.now(), key, generation)?;
        log::debug!("the lease of {key}, generation {generation}, has ended");
        self.polls.wake(key);
        Ok(())
    }

    /// Returns what is known of a blob now, for a host in this zone.
    pub fn state(&self, key: &BlobKey, zone: Option<ZoneId>, has_peers: impl Fn(InfoHash) -> bool) -> BlobState {
        let now = self.clock.now();
        BlobState {
            lease: self.leases.find(now, key, zone),
            has_metainfo: self.metainfo.get(now, key, &has_peers).is_some(),
        }
    }

    /// Waits, at most for `wait`, until the lease of a blob changes hands or ends, or its torrent file is stored. Then
    /// returns what is known of the blob. Does not wait if no host holds the lease, or if there is a torrent file.
    ///
    /// # Errors
    /// There are too many long polls, in total or from this host.
    pub async fn wait(
        &self,
        key: &BlobKey,
        zone: Option<ZoneId>,
        host: IpAddr,
        wait: Duration,
        has_peers: impl Fn(InfoHash) -> bool,
    ) -> Result<BlobState, Busy> {
        let state = self.state(key, zone, &has_peers);
        let Some(before) = state.lease.as_ref().filter(|_| !state.has_metainfo && !wait.is_zero()) else {
            return Ok(state);
        };
        let mut poll = LongPolls::begin(&self.polls, key, host)?;
        let changes = async {
            loop {
                // The state is read after the poll has begun, so that no change is missed.
                let state = self.state(key, zone, &has_peers);
                let is_same = state.lease.as_ref().is_some_and(|lease| lease.generation == before.generation);
                if !is_same || state.has_metainfo || poll.changed().await.is_err() {
                    return;
                }
            }
        };
        // After the wait has passed, the host gets the state as it is then.
        let _over = tokio::time::timeout(wait.min(MAX_WAIT), changes).await;
        Ok(self.state(key, zone, &has_peers))
    }

    /// Begins an attempt to connect to a host. The attempt ends when the returned value is dropped.
    ///
    /// # Errors
    /// An attempt to this host is under way already, or too many attempts are under way.
    pub fn dial(&self, host: IpAddr) -> Result<PortDial, Busy> {
        PortDials::begin(&self.dials, host)
    }

    /// Drops what has expired. Must be called once a second.
    pub fn housekeep(&self, has_peers: impl Fn(InfoHash) -> bool) {
        let now = self.clock.now();
        self.metainfo.housekeep(now, &has_peers);
        self.missing.housekeep(now);
        for key in self.leases.expire(now) {
            log::debug!("the lease of {key} has expired: its holder did not renew it within {LEASE_TTL:?}");
            self.metrics.expired.inc();
            self.polls.wake(&key);
        }
    }

    /// Answers all long polls at once, because the process is stopping.
    pub fn close(&self) {
        self.polls.close();
    }

    /// Returns the state for `/metrics`.
    pub fn sample(&self) -> TorrentsSample {
        let (entries, bytes) = self.metainfo.size();
        let [leases, polls] =
            [self.leases.count(), self.polls.count()].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        TorrentsSample { entries, bytes, leases, polls }
    }
}

#[cfg(test)]
mod tests;
