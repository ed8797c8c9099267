//! Remembers in memory which digests the parts of a delta have. Each superblock that passes through replaces the
//! remembered one, because a repository can make a delta of the same name again. A superblock is forgotten when a part
//! does not have its digest.

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::digest::Digest;
use crate::ostree::path::OstreePath;
use crate::ostree::superblock::{DeltaSuperblock, MAX_SUPERBLOCK};
use crate::upstream::UpstreamOrigin;

/// How many bytes of digests are remembered: enough for the digests of the largest superblock that is read.
const CAPACITY: u64 = 2 * MAX_SUPERBLOCK as u64;
/// The bytes of memory that a superblock takes beside its digests.
const OVERHEAD: usize = 256;
/// How long a superblock is remembered, at most.
const LIFETIME: Duration = Duration::from_hours(1);

/// The parts of deltas, by the URL of the superblock.
pub(super) struct Superblocks(Cache<String, Arc<[Digest]>>);

impl Default for Superblocks {
    fn default() -> Self {
        let weigh = |key: &String, parts: &Arc<[Digest]>| {
            u32::try_from(OVERHEAD + key.len() + size_of_val::<[Digest]>(parts)).unwrap_or(u32::MAX)
        };
        // The default policy could refuse a large superblock in favour of many small ones that are used more often.
        let builder = Cache::builder().eviction_policy(EvictionPolicy::lru()).max_capacity(CAPACITY);
        Self(builder.weigher(weigh).time_to_live(LIFETIME).build())
    }
}

impl Superblocks {
    /// Returns the digests of the parts in order, if the superblock is known.
    pub(super) fn parts(&self, origin: &UpstreamOrigin, path: &str) -> Option<Arc<[Digest]>> {
        self.0.get(&key(origin, path))
    }

    /// Forgets the superblock of the part at this path, because the part does not have its digest. Does nothing if the
    /// path is not a part's.
    pub(super) fn doubt(&self, origin: &UpstreamOrigin, path: &str) {
        if let OstreePath::DeltaPart(folder, _) = OstreePath::parse(path) {
            self.0.invalidate(&key(origin, &folder.superblock_path()));
        }
    }

    /// Reads the superblock that a server sent for this path, and remembers its digests.
    pub(super) fn learn(&self, origin: &UpstreamOrigin, path: &str, bytes: &[u8]) {
        match DeltaSuperblock::parse(bytes) {
            Ok(superblock) => {
                let digests = superblock.parts.iter().map(|part| part.digest).collect();
                self.0.insert(key(origin, path), digests);
            }
            Err(error) => log::info!("the parts beside {path} of {origin} are not cached: {error}"),
        }
    }
}

fn key(origin: &UpstreamOrigin, path: &str) -> String {
    format!("{}://{}{path}", origin.scheme().as_str(), origin.authority())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digests_of_the_largest_superblock_are_remembered() {
        let superblocks = Superblocks::default();
        for number in 0..1000 {
            superblocks.0.insert(number.to_string(), Arc::from([Digest::of(b"")]));
            superblocks.0.get(&number.to_string()).unwrap();
        }
        let digests = vec![Digest::of(b""); MAX_SUPERBLOCK / size_of::<Digest>()];
        superblocks.0.insert("large".to_owned(), digests.into());
        superblocks.0.run_pending_tasks();
        assert!(superblocks.0.contains_key("large"));
    }
}
