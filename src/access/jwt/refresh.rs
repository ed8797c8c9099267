//! Fetches the keys, and fetches them again from time to time.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::keys::{KeySet, KeySummary};
use super::{JwtOptions, JwtRule, KeySource};
use crate::forward::{self, UpstreamProxies};
use crate::metrics::AccessMetrics;

/// How long fetching may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The shortest time between two fetches if a token with an unknown key causes the second fetch. Because of this pause,
/// wrong tokens cannot cause a flood of fetches.
const SHORTEST: Duration = Duration::from_secs(10);

/// The pause after the first failed fetch. The pause doubles after each further failed fetch.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after failed fetches.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

impl fmt::Display for KeySource {
    /// Leaves out the path and the query of a URL, because they may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(f, "{}://{}", url.scheme(), forward::host_and_port(url)),
            Self::File(path) => path.display().fmt(f),
            Self::Placeholder(text) => f.write_str(text),
        }
    }
}

/// Fetches the keys once. The error is for the operator.
pub async fn probe_keys(options: &JwtOptions, proxies: &UpstreamProxies) -> Result<KeySummary, String> {
    fetch(options, proxies).await.map(|(_, summary)| summary)
}

async fn fetch(options: &JwtOptions, proxies: &UpstreamProxies) -> Result<(KeySet, KeySummary), String> {
    let json = match &options.keys {
        KeySource::Url(url) => {
            let fetched = forward::fetch(url, options.ca.as_ref(), proxies, TIMEOUT).await;
            fetched.map_err(|error| error.to_string())?
        }
        KeySource::File(path) => tokio::fs::read(path).await.map_err(|error| error.to_string())?,
        KeySource::Placeholder(_) => {
            return Err("it is a placeholder, expected a URL".to_owned());
        }
    };
    KeySet::parse(&json).map_err(|error| error.to_string())
}

impl JwtRule {
    /// Keeps the keys up to date, forever. If a fetch fails, the known keys stay.
    pub(in crate::access) async fn keep_keys(&self, proxies: &UpstreamProxies, metrics: &AccessMetrics) {
        let source = &self.options.keys;
        let mut failed = 0_u32;
        let mut known: Option<KeySummary> = None;
        loop {
            let begun = Instant::now();
            match fetch(&self.options, proxies).await {
                Ok((keys, summary)) => {
                    self.set_keys(keys);
                    if failed > 0 || known.as_ref() != Some(&summary) {
                        log_keys(source, &summary);
                    }
                    known = Some(summary);
                    failed = 0;
                }
                Err(error) => {
                    metrics.key_failures.inc();
                    // The first failure in a row is logged, then the 2nd, 3rd, 5th, 9th and so on.
                    if failed.is_power_of_two() || failed == 0 {
                        let error = error.as_bytes().escape_ascii();
                        let count = self.keys.read().len();
                        log::warn!("jwt keys of {source}: {error}; {count} known keys stay in force, will fetch again");
                    }
                    failed = failed.saturating_add(1);
                }
            }
            tokio::select! {
                () = sleep(self.pause(failed)) => {}
                () = async {
                    self.unknown_key.notified().await;
                    sleep_until(begun + SHORTEST).await;
                } => {}
            }
        }
    }

    /// Returns how long to wait after this many failures in a row.
    fn pause(&self, failed: u32) -> Duration {
        match failed.checked_sub(1) {
            None => self.options.refresh,
            Some(before) => {
                let pause = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX));
                pause.min(LONGEST_PAUSE).min(self.options.refresh)
            }
        }
    }
}

fn log_keys(source: &KeySource, summary: &KeySummary) {
    if summary.used.is_empty() || !summary.skipped.is_empty() {
        log::warn!("jwt keys of {source}: {summary}");
    } else {
        log::info!("jwt keys of {source}: {summary}");
    }
}
