//! Fetches a document over HTTP or HTTPS, with the bounds, proxies and certificates of requests to upstream trackers.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use trust::Authorities;
use url::Url;

use super::context::ExchangeContext;
use super::error::ForwardError;
use super::http::HttpUpstream;
use super::proxy::UpstreamProxies;

/// Fetches a document of at most one MiB. `ca` replaces the usual authorities. Errors call the document's host "it", so
/// the caller must name the host first.
///
/// The future must be polled within a tokio `LocalSet`.
pub async fn fetch(
    url: &Url,
    ca: Option<&Authorities>,
    proxies: &UpstreamProxies,
    timeout: Duration,
) -> Result<Vec<u8>, ForwardError> {
    let context = Arc::new(ExchangeContext::new(None, proxies.clone(), Counter::default()));
    let upstream = HttpUpstream::new(url, None, ca, context).map_err(ForwardError::Local)?;
    upstream.fetch(timeout).await
}
