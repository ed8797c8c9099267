//! Leases: in each zone, one host at a time fetches a blob from its origin. The others get the bytes from that host.
//!
//! A lease ends if its holder does not renew it (sends no heartbeat) for [`LEASE_TTL`]. But a holder may send
//! heartbeats and fetch nothing, or die soon after a heartbeat. The waiting hosts should not wait long, so the next
//! host that asks gets the lease (see [`Takeover`]). If no host asks, the holder keeps the lease: its end would help
//! no host.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use parking_lot::Mutex;
use tracker_protocol::InfoHash;

use super::busy::Busy;
use super::key::BlobKey;
use crate::clock::{Timestamp, Ttl};
use crate::topology::{ZoneId, ZonedIp};

/// A lease ends this long after its holder last renewed it.
pub const LEASE_TTL: Duration = Duration::from_secs(15);

/// Another host that asks gets the lease if the holder's bytes have not grown for this long.
const LONGEST_WITHOUT_PROGRESS: Duration = Duration::from_secs(10);

/// If the holder has had all bytes for this long, another host that asks gets the lease. The holder must hash the bytes
/// before it ends the lease, and meanwhile they cannot grow.
const LONGEST_FINISH: Duration = LEASE_TTL;

/// If the holder's heartbeats have stopped for this long, another host that asks gets the lease. torrent-cache sends a
/// heartbeat every second. A holder that never sent any, such as a person with curl, keeps the lease for [`LEASE_TTL`].
const LONGEST_SILENCE: Duration = Duration::from_secs(3);

/// The most leases, of all hosts together.
const MAX_LEASES: usize = 10_000;

/// The most leases of one address.
const MAX_LEASES_PER_ADDRESS: usize = 256;

/// The host that holds a lease, as its request for the lease describes the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseHolder {
    /// The address from which the host asked, with the zone of the address.
    pub address: ZonedIp,
    /// The port at which the host takes BitTorrent connections.
    pub port: NonZeroU16,
    /// The swarm in which the host shares the blob until its piece hashes are known.
    pub swarm: Option<InfoHash>,
    /// The size of the blob in bytes, if the host knows it.
    pub size: Option<u64>,
}

/// A lease that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLease {
    /// The holder.
    pub holder: LeaseHolder,
    /// How many bytes of the blob the holder has.
    pub have: u64,
    /// The number of the lease, higher than those of all earlier leases, even of an earlier process.
    pub generation: u64,
    /// When the lease was granted or last renewed.
    renewed: Timestamp,
    /// When the lease was granted, or when the holder's bytes last grew.
    grown: Timestamp,
    /// Whether the holder has renewed the lease at least once.
    has_heartbeat: bool,
}

/// Why another host gets a lease that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// The holder sent heartbeats and has stopped.
    Silent,
    /// The holder's bytes do not grow.
    Stuck,
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => write!(f, "sent no heartbeat for {LONGEST_SILENCE:?}"),
            Self::Stuck => f.write_str("made no progress"),
        }
    }
}

/// The outcome of asking for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The host holds the lease now.
    Granted {
        /// The number that the host needs to renew and to end the lease.
        generation: u64,
        /// The host that held the lease until now, and why this host lost the lease.
        taken_from: Option<(IpAddr, Takeover)>,
    },
    /// Another host holds the lease.
    Held(HeldLease),
}

/// Why a lease cannot be renewed or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleLease {
    /// Another lease of the blob is held.
    Superseded,
    /// No lease of the blob is held.
    Ended,
}

/// The leases that are held.
#[derive(Debug)]
pub(super) struct Leases(Mutex<LeaseTable>);

#[derive(Debug, Default)]
struct LeaseTable {
    /// The leases of each blob, at most one for each zone.
    by_key: HashMap<BlobKey, Vec<HeldLease>>,
    by_address: HashMap<IpAddr, usize>,
    count: usize,
    /// The generation of the newest lease.
    newest: u64,
}

impl Leases {
    /// Makes an empty table. `unix_time` is the present time in seconds since 1970. Generations begin above a multiple
    /// of this time, so that they are higher than the generations of an earlier process.
    pub(super) fn new(unix_time: u64) -> Self {
        // JSON's numbers have 53 bits, and the time takes 31 of them now. With 20 bits below the time, an earlier
        // process could have granted a million leases a second.
        Self(Mutex::new(LeaseTable { newest: unix_time.saturating_mul(1 << 20), ..LeaseTable::default() }))
    }

    pub(super) fn claim(&self, now: Timestamp, key: &BlobKey, holder: LeaseHolder) -> Result<Claimed, Busy> {
        let mut table = self.0.lock();
        table.drop_expired(now, key);
        let zone = holder.address.zone;
        let held = table.of(key).iter().find(|lease| lease.holder.address.zone == zone).cloned();
        let takeover = match held {
            None => None,
            Some(held) => match held.takeover(now, &holder) {
                None => return Ok(Claimed::Held(held)),
                Some(why) => Some((held, why)),
            },
        };
        let of_address = table.by_address.get(&holder.address.ip).copied().unwrap_or_default();
        let is_full = table.count >= MAX_LEASES && takeover.is_none();
        if is_full || of_address >= MAX_LEASES_PER_ADDRESS {
            return Err(Busy);
        }
        let taken_from = takeover.map(|(held, why)| {
            table.end(key, |lease| lease.generation == held.generation);
            (held.holder.address.ip, why)
        });
        Ok(Claimed::Granted { generation: table.grant(now, key, holder), taken_from })
    }

    pub(super) fn renew(
        &self,
        now: Timestamp,
        key: &BlobKey,
        generation: u64,
        have: u64,
        size: Option<u64>,
    ) -> Result<(), StaleLease> {
        let mut table = self.0.lock();
        table.drop_expired(now, key);
        let leases = table.by_key.get_mut(key).ok_or(StaleLease::Ended)?;
        let lease = leases.iter_mut().find(|lease| lease.generation == generation).ok_or(StaleLease::Superseded)?;
        lease.renewed = now;
        lease.has_heartbeat = true;
        if have > lease.have {
            lease.grown = now;
        }
        lease.have = have;
        lease.holder.size = size.or(lease.holder.size);
        Ok(())
    }

    pub(super) fn release(&self, now: Timestamp, key: &BlobKey, generation: u64) -> Result<(), StaleLease> {
        let mut table = self.0.lock();
        table.drop_expired(now, key);
        if table.of(key).is_empty() {
            return Err(StaleLease::Ended);
        }
        let ended = table.end(key, |lease| lease.generation == generation);
        if ended == 0 { Err(StaleLease::Superseded) } else { Ok(()) }
    }

    /// Returns the lease of a blob in a zone.
    pub(super) fn find(&self, now: Timestamp, key: &BlobKey, zone: Option<ZoneId>) -> Option<HeldLease> {
        let table = self.0.lock();
        table.of(key).iter().find(|lease| lease.holder.address.zone == zone && lease.is_held(now)).cloned()
    }

    /// Ends the leases that were not renewed in time. Returns their blobs.
    pub(super) fn expire(&self, now: Timestamp) -> Vec<BlobKey> {
        let mut table = self.0.lock();
        let has_expired = |leases: &[HeldLease]| leases.iter().any(|lease| !lease.is_held(now));
        let keys = table.by_key.iter().filter(|(_, leases)| has_expired(leases)).map(|(key, _)| key.clone());
        let keys: Vec<_> = keys.collect();
        for key in &keys {
            table.drop_expired(now, key);
        }
        keys
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().count
    }
}

impl HeldLease {
    fn is_held(&self, now: Timestamp) -> bool {
        now < self.renewed.plus(Ttl::new(LEASE_TTL))
    }

    /// Returns why `asker` gets this held lease; `None` if `asker` does not get it.
    fn takeover(&self, now: Timestamp, asker: &LeaseHolder) -> Option<Takeover> {
        let is_holder = (asker.address.ip, asker.port) == (self.holder.address.ip, self.holder.port);
        // A holder that asks again gets no new lease, which would restart its time limits.
        if is_holder || !self.has_heartbeat {
            return None;
        }
        let is_over = |since: Timestamp, longest: Duration| now >= since.plus(Ttl::new(longest));
        let has_all = self.holder.size.is_some_and(|size| self.have >= size);
        let without_progress = if has_all { LONGEST_FINISH } else { LONGEST_WITHOUT_PROGRESS };
        if is_over(self.renewed, LONGEST_SILENCE) {
            Some(Takeover::Silent)
        } else if is_over(self.grown, without_progress) {
            Some(Takeover::Stuck)
        } else {
            None
        }
    }
}

impl LeaseTable {
    fn of(&self, key: &BlobKey) -> &[HeldLease] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    fn grant(&mut self, now: Timestamp, key: &BlobKey, holder: LeaseHolder) -> u64 {
        self.newest += 1;
        let lease =
            HeldLease { holder, have: 0, generation: self.newest, renewed: now, grown: now, has_heartbeat: false };
        self.by_key.entry(key.clone()).or_default().push(lease);
        *self.by_address.entry(holder.address.ip).or_default() += 1;
        self.count += 1;
        self.newest
    }

    fn drop_expired(&mut self, now: Timestamp, key: &BlobKey) {
        self.end(key, |lease| !lease.is_held(now));
    }

    /// Ends a blob's leases for which `ends` returns true. Returns the number of ended leases.
    fn end(&mut self, key: &BlobKey, ends: impl Fn(&HeldLease) -> bool) -> usize {
        let Some(leases) = self.by_key.get_mut(key) else { return 0 };
        let ended: Vec<_> = leases.extract_if(.., |lease| ends(lease)).collect();
        if leases.is_empty() {
            self.by_key.remove(key);
        }
        for lease in &ended {
            let ip = lease.holder.address.ip;
            let left = self.by_address.get(&ip).map_or(0, |count| count.saturating_sub(1));
            if left == 0 {
                self.by_address.remove(&ip);
            } else {
                self.by_address.insert(ip, left);
            }
        }
        self.count = self.count.saturating_sub(ended.len());
        ended.len()
    }
}

#[cfg(test)]
mod tests;
