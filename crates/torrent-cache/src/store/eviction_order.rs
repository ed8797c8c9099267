//! In which order files go when room is needed.
//!
//! A blob that another host of the network has as well can come back from there, so it goes first. A file that was not used
//! for 30 days goes first, too: no blob stays for ever because no other host wanted it. Everything else comes after them.
//! That includes blobs that are not shared, and small records, which only this host has.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::layout::{FileKind, FileName, FoundFile};
use crate::digest::Digest;

/// A file that was not used for so long goes first, even if no other host has it.
const LONG_UNUSED: Duration = Duration::from_hours(30 * 24);

/// Is called with a blob that was removed.
pub(super) type RemovalHook = Box<dyn Fn(Digest) + Send + Sync>;

/// Which files go before which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EvictionGroup {
    /// Blobs that another host has as well, and what was not used for [`LONG_UNUSED`].
    First,
    /// What is lost if it goes.
    Last,
}

impl EvictionGroup {
    pub(super) fn of(name: FileName, used_at: SystemTime, now: SystemTime, elsewhere: &HashSet<Digest>) -> Self {
        let is_elsewhere = name.kind == FileKind::Blob && elsewhere.contains(&name.digest);
        let is_unused = now.duration_since(used_at).is_ok_and(|age| age >= LONG_UNUSED);
        if is_elsewhere || is_unused { Self::First } else { Self::Last }
    }
}

/// A file that a walk has found.
pub(super) struct EvictionCandidate {
    pub(super) group: EvictionGroup,
    pub(super) file: FoundFile,
}
