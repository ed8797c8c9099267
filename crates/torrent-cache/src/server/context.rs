//! What all handlers share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::manifest_fetches::ManifestFetches;
use super::superblocks::Superblocks;
use super::upstream_fault::UpstreamFault;
use crate::authorization::Authorization;
use crate::flight::Flights;
use crate::metrics::CacheMetrics;
use crate::sharing::Sharing;
use crate::store::BlobStore;
use crate::upstream::Upstreams;

/// What all handlers share.
pub(super) struct CacheContext {
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) authorization: Authorization,
    pub(super) store: BlobStore,
    pub(super) flights: Flights<UpstreamFault>,
    /// The other hosts of the network, if blobs are shared with them.
    pub(super) sharing: Option<Arc<Sharing>>,
    pub(super) manifest_fetches: ManifestFetches,
    pub(super) superblocks: Superblocks,
    pub(super) metrics: CacheMetrics,
    pub(super) tag_stale: Duration,
    /// The longest time for which a fetch's own timeouts let the upstream be silent. A fetch that is silent for longer
    /// is ended.
    pub(super) longest_silence: Duration,
    /// True once the process is stopping.
    pub(super) stop: watch::Receiver<bool>,
}

impl CacheContext {
    /// Calls the store on a thread that may block. Returns `None` after an error, which is logged.
    pub(super) async fn with_store<T: Send + 'static>(
        &self,
        call: impl FnOnce(&BlobStore) -> std::io::Result<T> + Send + 'static,
    ) -> Option<T> {
        let store = self.store.clone();
        match spawn_blocking(move || call(&store)).await {
            Ok(Ok(value)) => Some(value),
            // A full disk is not a warning, because the cache then works without keeping anything.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::StorageFull => {
                log::info!("the disk has no room for a manifest or a tag: {error}");
                None
            }
            Ok(Err(error)) => {
                log::warn!("the storage failed, so it is not used for this request: {error}");
                None
            }
            Err(_) => None,
        }
    }
}
