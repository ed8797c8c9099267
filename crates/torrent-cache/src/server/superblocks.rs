//! Which digests the parts of a delta have. Each superblock that passes through says it anew, as a repository can make a
//! delta of the same name again. Nothing of it is kept on disk.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use crate::digest::Digest;
use crate::ostree::superblock::DeltaSuperblock;
use crate::upstream::UpstreamOrigin;

/// How many bytes of digests are remembered.
const CAPACITY: u64 = 8 << 20;
/// What a superblock takes beside its digests.
const OVERHEAD: usize = 256;
/// How long, at most.
const LIFETIME: Duration = Duration::from_hours(1);

/// The parts of deltas, by the URL of the superblock.
pub(super) struct Superblocks(Cache<String, Arc<[Digest]>>);

impl Default for Superblocks {
    fn default() -> Self {
        let weigh = |key: &String, parts: &Arc<[Digest]>| {
            u32::try_from(OVERHEAD + key.len() + size_of_val::<[Digest]>(parts)).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(CAPACITY).weigher(weigh).time_to_live(LIFETIME).build())
    }
}

impl Superblocks {
    /// The digests of the parts in order, if the superblock is known.
    pub(super) fn parts(&self, origin: &UpstreamOrigin, path: &str) -> Option<Arc<[Digest]>> {
        self.0.get(&key(origin, path))
    }

    /// Reads what a server sent at this path.
    pub(super) fn learn(&self, origin: &UpstreamOrigin, path: &str, bytes: &[u8]) {
        match DeltaSuperblock::parse(bytes) {
            Ok(superblock) => {
                let digests = superblock.parts.iter().map(|part| part.digest).collect();
                self.0.insert(key(origin, path), digests);
            }
            Err(error) => log::info!("{path} of {origin}: its parts are not cached: {error}"),
        }
    }
}

fn key(origin: &UpstreamOrigin, path: &str) -> String {
    format!("{}://{}{path}", origin.scheme().as_str(), origin.authority())
}
