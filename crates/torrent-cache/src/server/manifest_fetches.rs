//! The fetches of manifests that are under way. Clients that send the same request with the same credentials share one
//! fetch.

use std::collections::HashMap;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use tokio::task::spawn;

use super::upstream_fault::UpstreamFault;
use crate::authorization::Speaker;
use crate::digest::Digest;
use crate::store::CachedManifest;
use crate::upstream::UpstreamOrigin;

/// What decides the reply of an upstream to a request for a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ManifestAsk {
    pub(super) origin: UpstreamOrigin,
    /// The path contains the repository and the reference.
    pub(super) path: String,
    pub(super) accept: Vec<HeaderValue>,
    /// A reply is never shared between different credentials.
    pub(super) speaker: Speaker,
}

/// What an upstream has sent.
#[derive(Clone)]
pub(super) enum FetchedManifest {
    /// A manifest with this digest, which the store keeps.
    Verified(Digest, CachedManifest),
    /// A manifest that goes to the clients as the upstream sent it, and is not stored.
    Passed(HeaderMap, Bytes),
}

type ManifestResult = Result<FetchedManifest, UpstreamFault>;
type SharedFetch = Shared<BoxFuture<'static, ManifestResult>>;

/// The fetches that are under way. A fetch is a task of the worker whose client began it, and goes on when its clients
/// have left.
#[derive(Default)]
pub(super) struct ManifestFetches(Mutex<HashMap<ManifestAsk, WeakShared<BoxFuture<'static, ManifestResult>>>>);

impl ManifestFetches {
    /// Joins the fetch of clients that sent the same request, or begins a fetch. Waits until the fetch ends.
    pub(super) async fn join<F>(&self, ask: ManifestAsk, begin: impl FnOnce() -> F) -> ManifestResult
    where
        F: Future<Output = ManifestResult> + Send + 'static,
    {
        let fetch = self.find_or_begin(ask, begin);
        fetch.await
    }

    fn find_or_begin<F>(&self, ask: ManifestAsk, begin: impl FnOnce() -> F) -> SharedFetch
    where
        F: Future<Output = ManifestResult> + Send + 'static,
    {
        let mut under_way = self.0.lock();
        // A fetch that has ended does not answer a later request.
        let alive = |fetch: &WeakShared<_>| fetch.upgrade().filter(|fetch: &SharedFetch| fetch.peek().is_none());
        if let Some(fetch) = under_way.get(&ask).and_then(alive) {
            log::debug!("{}: waits for the fetch of another client", ask.path);
            return fetch;
        }
        under_way.retain(|_, fetch| alive(fetch).is_some());
        // The fetch is a task of its own: its connection and timers belong to this worker, but clients of other workers
        // may wait for it.
        let ended = spawn(begin()).map(|ended| ended.unwrap_or(Err(UpstreamFault::Abandoned)));
        let fetch = ended.boxed().shared();
        under_way.extend(fetch.downgrade().map(|weak| (ask, weak)));
        fetch
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::oneshot;
    use futures::future::join_all;

    use super::*;

    fn ask(path: &str, speaker: Speaker) -> ManifestAsk {
        let origin = "http://registry.example".parse().unwrap();
        ManifestAsk { origin, path: path.to_owned(), accept: vec![HeaderValue::from_static("a/b")], speaker }
    }

    fn client(credentials: &'static str) -> Speaker {
        Speaker::Client(HeaderValue::from_static(credentials))
    }

    fn passed(text: &'static str) -> FetchedManifest {
        FetchedManifest::Passed(HeaderMap::new(), Bytes::from_static(text.as_bytes()))
    }

    fn text(result: ManifestResult) -> Bytes {
        match result {
            Ok(FetchedManifest::Passed(_, bytes)) => bytes,
            _ => panic!("another result"),
        }
    }

    #[tokio::test]
    async fn only_the_same_request_with_the_same_credentials_is_shared() {
        let fetches = ManifestFetches::default();
        let (send, receive) = oneshot::channel();
        let first = fetches.find_or_begin(ask("/v2/a/manifests/t", client("Bearer 1")), || async {
            receive.await.unwrap();
            Ok(passed("first"))
        });
        let shared: Vec<_> = (0..7)
            .map(|_| {
                let same = ask("/v2/a/manifests/t", client("Bearer 1"));
                fetches.find_or_begin(same, || async { Ok(passed("second")) })
            })
            .collect();
        let mut other_accept = ask("/v2/a/manifests/t", client("Bearer 1"));
        other_accept.accept.clear();
        for other in [
            ask("/v2/a/manifests/t", client("Bearer 2")),
            ask("/v2/a/manifests/t", Speaker::Anonymous),
            ask("/v2/a/manifests/t", Speaker::Own),
            ask("/v2/b/manifests/t", client("Bearer 1")),
            ask("/v2/a/manifests/u", client("Bearer 1")),
            other_accept,
        ] {
            assert_eq!(text(fetches.join(other, || async { Ok(passed("own")) }).await), "own");
        }
        send.send(()).unwrap();
        assert_eq!(text(first.await), "first");
        assert!(join_all(shared).await.into_iter().all(|result| text(result) == "first"));
        // A fetch that has ended does not answer a later request.
        let later = fetches.join(ask("/v2/a/manifests/t", client("Bearer 1")), || async { Ok(passed("later")) });
        assert_eq!(text(later.await), "later");
    }

    #[tokio::test]
    async fn a_fetch_that_ends_without_a_result_is_an_error() {
        let fetches = ManifestFetches::default();
        let fetch = fetches.join(ask("/v2/a/manifests/t", Speaker::Anonymous), || async { panic!("on purpose") });
        assert!(matches!(fetch.await, Err(UpstreamFault::Abandoned)));
    }

    #[tokio::test]
    async fn what_no_client_waits_for_is_forgotten() {
        let fetches = ManifestFetches::default();
        for number in 0..10 {
            let path = format!("/v2/a/manifests/{number}");
            drop(fetches.find_or_begin(ask(&path, Speaker::Anonymous), futures::future::pending));
        }
        assert_eq!(fetches.0.lock().len(), 1);
    }
}
