//! The batches of records that instances write into the logs. All numbers are in network order.
//!
//! A batch: `u8` version, `u8` flags, `u64` instance, `u32` sequence, `u32` age in milliseconds, `u64` fingerprint of the
//! zones, records. A record: `u8` kind, 20 bytes of info-hash, 4 or 16 bytes of address, `u16` port, `u8` zone, 20 bytes
//! of peer id, 3 bytes for the count of downloads. So a record has 51 bytes for IPv4 and 63 for IPv6. The bits of the
//! kind, the lowest first: 2 bits of role (0 leecher, 1 partial seed, 2 seed), whether the address is IPv6, whether the
//! peer has left, whether the peer has completed its download, whether the peer claims the address, 2 bits that must be
//! 0.
//!
//! A batch may come from another version, or from a stranger who can write to the engine. So reading a batch never
//! panics, and takes memory for at most [`MAX_RECORDS`] records.

use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16};
use std::time::Duration;

use thiserror::Error;

use crate::store::{PeerNews, PeerRecord};
use tracker_protocol::{InfoHash, PeerId, Role};

/// The most records in a batch. As many records of IPv4 peers take 64 KiB.
pub const MAX_RECORDS: usize = 1280;

const VERSION: u8 = 1;

/// The lowest two bits of the kind are the role.
const ROLE: u8 = 3;
const IPV6: u8 = 1 << 2;
const LEFT: u8 = 1 << 3;
const COMPLETED: u8 = 1 << 4;
const CLAIM: u8 = 1 << 5;

/// The largest count of downloads that fits into a record.
const MAX_DOWNLOADED: u32 = (1 << 24) - 1;

/// Records that one instance has written together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    /// Reserved; 0 in this version.
    pub flags: u8,
    /// The number of the instance that has written the batch. Each process takes a random number.
    pub instance: u64,
    /// The number of the batch among the batches of its instance.
    pub sequence: u32,
    /// How long the oldest record of the batch had waited when the batch was written. The encoded age is in
    /// milliseconds, and at most 49 days.
    pub age: Duration,
    /// Identifies the zones of the instance, see [`fingerprint`](super::fingerprint).
    pub zones_fingerprint: u64,
    /// The records, in the order in which the instance heard of the peers; at most [`MAX_RECORDS`].
    pub records: Vec<SharedRecord>,
}

/// What an instance has heard of a peer of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRecord {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The zone of the peer, as a number among the zones of the instance, counted from 1. `None` if the peer is in no
    /// zone.
    pub zone: Option<NonZeroU8>,
    /// What the instance has heard.
    pub peer: PeerRecord,
}

/// A batch that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedBatch {
    /// The batch with its well-formed records.
    pub batch: RecordBatch,
    /// How many records were dropped, and why.
    pub faults: Faults,
}

/// How many records of a batch were dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The kind has no meaning in this version.
    pub kind: usize,
    /// A peer that stays has port 0.
    pub port: usize,
    /// The batch ends within its last record.
    pub cut: usize,
    /// The batch has more than [`MAX_RECORDS`] records. The number of surplus records is a guess, as if all were for
    /// IPv4, because they are not read.
    pub surplus: usize,
}

/// Why a batch was not read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// A later version has written the batch.
    #[error("the batch has version {0}, this instance reads version 1")]
    Version(u8),
    /// The batch ends within its head.
    #[error("the batch is too short")]
    Short,
}

impl RecordBatch {
    /// Appends the batch to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(HEAD + self.records.len() * RECORD_V6);
        out.extend([VERSION, self.flags]);
        out.extend(self.instance.to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        out.extend(u32::try_from(self.age.as_millis()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(self.zones_fingerprint.to_be_bytes());
        self.records.iter().for_each(|record| record.encode(out));
    }

    /// Reads a batch. Malformed records are dropped and counted.
    pub fn decode(bytes: &[u8]) -> Result<DecodedBatch, BatchError> {
        let mut rest = bytes;
        // The version decides what the other bytes are.
        match take::<1>(&mut rest) {
            Some([VERSION]) => {}
            Some([version]) => return Err(BatchError::Version(version)),
            None => return Err(BatchError::Short),
        }
        let mut batch = Self::decode_head(&mut rest).ok_or(BatchError::Short)?;
        batch.records.reserve(MAX_RECORDS.min(rest.len() / RECORD_V4));
        let mut faults = Faults::default();
        for _ in 0..MAX_RECORDS {
            if rest.is_empty() {
                break;
            }
            match SharedRecord::decode(&mut rest) {
                Ok(record) => batch.records.push(record),
                Err(RecordFault::Kind) => faults.kind += 1,
                Err(RecordFault::Port) => faults.port += 1,
                Err(RecordFault::Cut) => {
                    faults.cut += 1;
                    rest = &[];
                }
            }
        }
        faults.surplus = rest.len().div_ceil(RECORD_V4);
        Ok(DecodedBatch { batch, faults })
    }

    /// Returns the instance that has written a batch. `None` if the batch cannot be read. Reads no record, so an instance
    /// passes over its own batches at little cost.
    pub fn writer(bytes: &[u8]) -> Option<u64> {
        let mut rest = bytes;
        let [version] = take(&mut rest)?;
        Self::decode_head(&mut rest).filter(|_| version == VERSION).map(|head| head.instance)
    }

    fn decode_head(rest: &mut &[u8]) -> Option<Self> {
        let [flags] = take(rest)?;
        Some(Self {
            flags,
            instance: u64::from_be_bytes(take(rest)?),
            sequence: u32::from_be_bytes(take(rest)?),
            age: Duration::from_millis(u32::from_be_bytes(take(rest)?).into()),
            zones_fingerprint: u64::from_be_bytes(take(rest)?),
            records: Vec::new(),
        })
    }
}

/// Bytes of a batch before its records.
const HEAD: usize = 26;
/// Bytes of a record of an IPv4 peer.
const RECORD_V4: usize = 51;
/// Bytes of a record of an IPv6 peer.
const RECORD_V6: usize = 63;

/// Why a record is dropped.
enum RecordFault {
    Kind,
    Port,
    Cut,
}

impl SharedRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        let PeerRecord { ip, is_claim, peer_id, news, downloaded } = self.peer;
        let (kind, port) = match news {
            PeerNews::Stays { port, role, completed } => (role_bits(role) | flag(completed, COMPLETED), port.get()),
            PeerNews::Left { port } => (LEFT, port.map_or(0, NonZeroU16::get)),
        };
        out.push(kind | flag(ip.is_ipv6(), IPV6) | flag(is_claim, CLAIM));
        out.extend(self.info_hash.0);
        match ip {
            IpAddr::V4(ip) => out.extend(ip.octets()),
            IpAddr::V6(ip) => out.extend(ip.octets()),
        }
        out.extend(port.to_be_bytes());
        out.push(self.zone.map_or(0, NonZeroU8::get));
        out.extend(peer_id.0);
        out.extend(downloaded.min(MAX_DOWNLOADED).to_be_bytes().iter().skip(1));
    }

    /// Reads a record, and moves `rest` behind the record.
    fn decode(rest: &mut &[u8]) -> Result<Self, RecordFault> {
        let (kind, raw) = RawRecord::take(rest).ok_or(RecordFault::Cut)?;
        let RawRecord { info_hash, ip, port, zone, peer_id, downloaded } = raw;
        let port = NonZeroU16::new(port);
        let news = match kind & !(IPV6 | CLAIM) {
            LEFT => PeerNews::Left { port },
            stays if stays & !(ROLE | COMPLETED) == 0 => PeerNews::Stays {
                role: role_of(stays).ok_or(RecordFault::Kind)?,
                port: port.ok_or(RecordFault::Port)?,
                completed: stays & COMPLETED != 0,
            },
            _ => return Err(RecordFault::Kind),
        };
        let peer = PeerRecord { ip, is_claim: kind & CLAIM != 0, peer_id, news, downloaded };
        Ok(Self { info_hash, zone, peer })
    }
}

/// The fields of a record besides the kind, not checked yet.
struct RawRecord {
    info_hash: InfoHash,
    ip: IpAddr,
    port: u16,
    zone: Option<NonZeroU8>,
    peer_id: PeerId,
    downloaded: u32,
}

impl RawRecord {
    /// Reads the kind of the record, and its other fields. `None` if the bytes end within the record.
    fn take(rest: &mut &[u8]) -> Option<(u8, Self)> {
        let [kind] = take(rest)?;
        let info_hash = InfoHash(take(rest)?);
        let ip = if kind & IPV6 == 0 { IpAddr::from(take::<4>(rest)?) } else { IpAddr::from(take::<16>(rest)?) };
        let port = u16::from_be_bytes(take(rest)?);
        let zone = NonZeroU8::new(u8::from_be_bytes(take(rest)?));
        let peer_id = PeerId(take(rest)?);
        let [high, middle, low] = take(rest)?;
        let downloaded = u32::from_be_bytes([0, high, middle, low]);
        Some((kind, Self { info_hash, ip, port, zone, peer_id, downloaded }))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, others) = rest.split_first_chunk()?;
    *rest = others;
    Some(*taken)
}

fn flag(is_set: bool, flag: u8) -> u8 {
    if is_set { flag } else { 0 }
}

fn role_bits(role: Role) -> u8 {
    match role {
        Role::Leecher => 0,
        Role::PartialSeed => 1,
        Role::Seed => 2,
    }
}

fn role_of(kind: u8) -> Option<Role> {
    match kind & ROLE {
        0 => Some(Role::Leecher),
        1 => Some(Role::PartialSeed),
        2 => Some(Role::Seed),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
