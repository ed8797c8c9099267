//! The order in which files are evicted.
//!
//! First go blobs that another host of the network has as well, because this host can get them back from there. Files
//! that were not used for 30 days go with them, so that no blob stays for ever only because no other host has it. All
//! other files go later. Inside both groups the longest unused file goes first.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::layout::{FileKind, FileName, FoundFile};
use crate::digest::Digest;

/// A file that was not used for this time goes first, even if no other host has it.
const LONG_UNUSED: Duration = Duration::from_hours(30 * 24);

/// The function that is called with a blob that was removed.
pub(super) type RemovalHook = Box<dyn Fn(Digest) + Send + Sync>;

/// The groups of files. All files of `First` go before those of `Last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EvictionGroup {
    /// Blobs that another host has as well, and files that were not used for [`LONG_UNUSED`].
    First,
    /// All other files.
    Last,
}

impl EvictionGroup {
    pub(super) fn of(name: FileName, used_at: SystemTime, now: SystemTime, elsewhere: &HashSet<Digest>) -> Self {
        let is_elsewhere = name.kind == FileKind::Blob && elsewhere.contains(&name.digest);
        let is_unused = now.duration_since(used_at).is_ok_and(|age| age >= LONG_UNUSED);
        if is_elsewhere || is_unused { Self::First } else { Self::Last }
    }
}

/// A file that a walk has found, and that may be evicted.
pub(super) struct EvictionCandidate {
    pub(super) group: EvictionGroup,
    pub(super) file: FoundFile,
}
