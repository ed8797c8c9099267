//! Remembers which host was told that a blob has no torrent file. After a start of the tracker, all hosts of a blob
//! would register the blob. So the tracker tells only one of these hosts at a time, and the next only after [`TOLD`].

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;

use super::busy::Busy;
use super::key::BlobKey;
use crate::clock::{Timestamp, Ttl};

/// The most keys of one request.
pub const MAX_ASKED: usize = 1_000;

/// For this long after one host was told a key, no other host is told the key.
const TOLD: Duration = Duration::from_secs(30);

/// The most keys that are remembered.
const MAX_TOLD: usize = 50_000;

/// The keys that hosts were told.
#[derive(Debug, Default)]
pub(super) struct MissingKeys(Mutex<ToldKeys>);

#[derive(Debug, Default)]
struct ToldKeys {
    hosts: HashMap<BlobKey, IpAddr>,
    /// The keys in the order in which they are forgotten.
    ends: VecDeque<(Timestamp, BlobKey)>,
}

impl MissingKeys {
    /// Returns those of the keys that no other host was told recently.
    pub(super) fn tell(
        &self,
        now: Timestamp,
        keys: impl Iterator<Item = BlobKey>,
        host: IpAddr,
    ) -> Result<Vec<BlobKey>, Busy> {
        let mut told = self.0.lock();
        told.forget(now);
        if told.hosts.len() > MAX_TOLD - MAX_ASKED {
            return Err(Busy);
        }
        let mut given = Vec::new();
        for key in keys {
            match told.hosts.entry(key.clone()) {
                // The reply to this host's last request may have been lost, so it gets the key again.
                Entry::Occupied(known) if *known.get() == host => given.push(key),
                Entry::Occupied(_) => {}
                Entry::Vacant(unknown) => {
                    unknown.insert(host);
                    told.ends.push_back((now.plus(Ttl::new(TOLD)), key.clone()));
                    given.push(key);
                }
            }
        }
        Ok(given)
    }

    /// Forgets the keys that were told more than [`TOLD`] ago.
    pub(super) fn housekeep(&self, now: Timestamp) {
        self.0.lock().forget(now);
    }
}

impl ToldKeys {
    fn forget(&mut self, now: Timestamp) {
        while let Some((_, key)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            self.hosts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: [IpAddr; 2] =
        [IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2))];

    fn at(seconds: u32) -> Timestamp {
        Timestamp::from_tenths(seconds * 10)
    }

    fn keys(numbers: std::ops::Range<usize>) -> impl Iterator<Item = BlobKey> {
        numbers.map(|n| BlobKey::parse(n.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn a_key_is_told_to_one_host_for_half_a_minute() {
        let missing = MissingKeys::default();
        assert_eq!(missing.tell(at(0), keys(0..2), HOSTS[0]), Ok(keys(0..2).collect()));
        assert_eq!(missing.tell(at(1), keys(0..3), HOSTS[1]), Ok(keys(2..3).collect()));
        assert_eq!(missing.tell(at(29), keys(0..3), HOSTS[0]), Ok(keys(0..2).collect()));
        assert_eq!(missing.tell(at(29), keys(0..3), HOSTS[1]), Ok(keys(2..3).collect()));
        assert_eq!(missing.tell(at(30), keys(0..3), HOSTS[1]), Ok(keys(0..3).collect()));
        assert_eq!(missing.tell(at(31), keys(0..3), HOSTS[0]), Ok(keys(2..3).collect()));
    }

    #[test]
    fn the_memory_of_told_keys_is_bounded() {
        let missing = MissingKeys::default();
        let mut asked = 0;
        while missing.tell(at(0), keys(asked..asked + MAX_ASKED), HOSTS[0]).is_ok() {
            asked += MAX_ASKED;
            assert!(asked <= MAX_TOLD);
        }
        assert!(asked > MAX_TOLD / 2);
        missing.housekeep(at(30));
        assert!(missing.0.lock().hosts.is_empty() && missing.0.lock().ends.is_empty());
        assert!(missing.tell(at(30), keys(0..1), HOSTS[1]).is_ok());
    }
}
