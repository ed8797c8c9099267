//! Registers the torrent files of this host's blobs with the tracker.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use tokio::task::spawn_blocking;
use tracker_protocol::Event;

use super::seeding::{CALLS, Seeding};
use crate::swarm_tracker::{MetainfoPut, ShareKey};

/// How many blobs one request asks the tracker about. The blobs that the tracker lacks are registered before the next
/// request, because other hosts may register some of the rest meanwhile.
const REGISTERED_AT_ONCE: usize = 500;

impl Seeding {
    /// Announces all blobs to a restarted tracker, and registers those whose torrent files the tracker lacks. A blob is
    /// announced first, because a host that finds the torrent file must find a peer as well.
    pub(super) async fn register(&self) {
        for blobs in self.seeds.all().chunks(REGISTERED_AT_ONCE) {
            let keys: Vec<_> = blobs.iter().map(|(_, blob)| blob.key).collect();
            let missing: HashSet<_> = match self.tracker.missing(&keys).await {
                Ok(missing) => missing.into_iter().collect(),
                Err(error) => {
                    log::debug!("blobs of this host could not be registered: {error}");
                    self.unregistered.borrow_mut().extend(&keys);
                    HashSet::new()
                }
            };
            stream::iter(blobs)
                .for_each_concurrent(CALLS, |(info_hash, blob)| async {
                    let is_announced = self.announce(*info_hash, Some(Event::Started)).await;
                    match (missing.contains(&blob.key), is_announced) {
                        (true, true) => self.register_one(blob.key).await,
                        (true, false) => self.unregistered.borrow_mut().extend([blob.key]),
                        (false, _) => {}
                    }
                })
                .await;
        }
    }

    /// Announces and registers the blobs whose announce or registration has failed before.
    pub(super) async fn register_again(&self) {
        let again = self.unregistered.take();
        if again.is_empty() {
            return;
        }
        let blobs = self.seeds.all().into_iter().filter(|(_, blob)| again.contains(&blob.key));
        stream::iter(blobs)
            .for_each_concurrent(CALLS, |(info_hash, blob)| async move {
                if self.announce(info_hash, Some(Event::Started)).await {
                    self.register_one(blob.key).await;
                } else {
                    self.unregistered.borrow_mut().insert(blob.key);
                }
            })
            .await;
    }

    /// Registers a blob, with the torrent file that the store has.
    async fn register_one(&self, key: ShareKey) {
        let seeds = Arc::clone(&self.seeds);
        match spawn_blocking(move || seeds.file(&key)).await.map_err(io::Error::other).flatten() {
            Ok(Some(file)) => self.put(&key, file).await,
            Ok(None) => {}
            Err(error) => log::warn!("{key}: not registered: {error}"),
        }
    }

    pub(super) async fn put(&self, key: &ShareKey, file: Vec<u8>) {
        let _call = self.calls.acquire().await;
        match self.tracker.put_metainfo(key, file.into()).await {
            Ok(MetainfoPut::New | MetainfoPut::Same) => {}
            Ok(MetainfoPut::Conflict) => log::warn!("the tracker has another torrent file of {key}"),
            Err(error) => {
                log::debug!("{key}: not registered: {error}");
                self.unregistered.borrow_mut().insert(*key);
            }
        }
    }
}
