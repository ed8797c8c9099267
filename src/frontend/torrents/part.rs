//! The part of the process that serves calls about shared blobs.

use std::sync::Arc;

use super::gate::Gate;
use crate::torrents::SharedBlobs;

/// What the calls about shared blobs need. This value exists only with `--torrents`.
#[derive(Debug)]
pub struct TorrentsPart {
    /// The torrent files and the leases.
    pub blobs: Arc<SharedBlobs>,
    /// Who may use the calls.
    pub gate: Gate,
}
