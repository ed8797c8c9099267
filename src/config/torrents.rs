//! Reads the settings of shared blobs together.

use ::settings::Sources;

use super::error::ConfigError;
use super::settings::{TORRENTS, TORRENTS_FROM, TORRENTS_LISTEN, TORRENTS_MEMORY, TORRENTS_TOKEN};
use crate::frontend::listen::Listen;
use crate::frontend::torrents::GateOptions;

/// Torrent files and leases of shared blobs, as configured.
#[derive(Clone, Debug)]
pub struct TorrentsOptions {
    /// The most bytes that torrent files take.
    pub memory: u64,
    /// Who may read and write torrent files and leases.
    pub gate: GateOptions,
}

/// Reads the settings. Without `--torrents`, returns neither options nor addresses, but a wrong value is still an
/// error.
pub(super) fn given(sources: &Sources<'_>) -> Result<(Option<TorrentsOptions>, Vec<Listen>), ConfigError> {
    let options = TorrentsOptions {
        memory: TORRENTS_MEMORY.read(sources)?.saturating_mul(1024 * 1024),
        gate: GateOptions { token: TORRENTS_TOKEN.read(sources)?, writers: TORRENTS_FROM.read(sources)? },
    };
    let listen = TORRENTS_LISTEN.read(sources)?.into_iter().map(Listen::for_torrents).collect();
    Ok(if TORRENTS.read(sources)? { (Some(options), listen) } else { (None, Vec::new()) })
}
