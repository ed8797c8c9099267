//! `retracker check`: asks each forwarder once, fetches the keys for tokens and tries the server that instances share, so
//! that operators see mistakes before clients do.

use std::io;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::task::LocalSet;

use crate::access::{AccessOptions, probe_keys};
use crate::forward::{ForwardError, ForwarderOptions, UpstreamProxies, probe};
use crate::share_link::{self, ShareOptions, ShareVerdict};

/// What to check, and how.
pub(super) struct Checks {
    pub(super) forwarders: Option<Vec<ForwarderOptions>>,
    pub(super) access: Option<Box<AccessOptions>>,
    pub(super) share: Option<Box<ShareOptions>>,
    pub(super) proxies: UpstreamProxies,
    /// How long an announce may wait for forwarders.
    pub(super) deadline: Duration,
    /// Whether only the files are checked.
    pub(super) offline: bool,
}

impl Checks {
    /// Asks all forwarders, fetches the keys and tries the shared server, at the same time and as the tracker does. Returns
    /// the text to print, and whether everything works.
    pub(super) fn run(&self) -> io::Result<(String, bool)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let all = async { tokio::join!(self.forwarders(), self.keys(), self.share()) };
        let ((forwarders, are_well), (keys, has_keys), (share, is_usable)) = LocalSet::new().block_on(&runtime, all);
        // A name look-up may hang, so the runtime does not wait for it.
        runtime.shutdown_background();
        Ok((forwarders + &keys + &share, are_well && has_keys && is_usable))
    }

    async fn forwarders(&self) -> (String, bool) {
        let Some(forwarders) = &self.forwarders else { return (String::new(), true) };
        if self.offline || forwarders.is_empty() {
            return (format!("The file is valid. Forwarders: {}.\n", forwarders.len()), true);
        }
        let rows = join_all(forwarders.iter().map(|options| row(options, &self.proxies, self.deadline))).await;
        let all_well = rows.iter().all(|(_, is_well)| *is_well);
        let heading = ["NAME", "PROTOCOL", "ADDRESS", "LATENCY", "INTERVAL", "VERDICT"].map(str::to_owned);
        let rows: Vec<_> = [heading].into_iter().chain(rows.into_iter().map(|(row, _)| row)).collect();
        (table(&rows), all_well)
    }

    /// Tries the server that instances share.
    async fn share(&self) -> (String, bool) {
        let Some(options) = self.share.as_ref().filter(|_| !self.offline) else { return (String::new(), true) };
        let ShareVerdict { target, found, faults } = share_link::probe(options).await;
        let found = if found.is_empty() { String::new() } else { format!(" ({found})") };
        if faults.is_empty() {
            return (format!("The shared server {target}{found} is usable.\n"), true);
        }
        (format!("The shared server {target}{found} is not usable. {}\n", faults.join(" ")), false)
    }

    /// Fetches the keys for tokens.
    async fn keys(&self) -> (String, bool) {
        let Some(access) = &self.access else { return (String::new(), true) };
        let jwt = match &access.jwt {
            Some(jwt) if !self.offline => jwt,
            _ => return ("The access rules are valid.\n".to_owned(), true),
        };
        let source = &jwt.keys;
        match probe_keys(jwt, &self.proxies).await {
            Ok(summary) => {
                let has_keys = !summary.used.is_empty();
                (format!("The access rules are valid. The keys of {source}: {summary}.\n"), has_keys)
            }
            Err(error) => {
                let error = error.as_bytes().escape_ascii();
                (format!("The access rules are valid, but the keys of {source} cannot be fetched: {error}.\n"), false)
            }
        }
    }
}

async fn row(options: &ForwarderOptions, proxies: &UpstreamProxies, deadline: Duration) -> ([String; 6], bool) {
    let protocol = options.uri.scheme().to_owned();
    let name = options.name.escape_debug().to_string();
    let start = Instant::now();
    let result = probe(options, proxies, deadline).await;
    let latency = |latency: Duration| format!("{:.0} ms", latency.as_secs_f64() * 1000.0);
    match result {
        Ok(probed) => {
            let latency = latency(probed.latency);
            let interval = format!("{} s", probed.interval.as_secs());
            ([name, protocol, probed.from.to_string(), latency, interval, "ok".to_owned()], true)
        }
        Err(error) => {
            let none = || "-".to_owned();
            // A forwarder that refuses the announce works. Perhaps it refuses only this torrent, which no client has.
            let is_well = matches!(error, ForwardError::Refused { .. });
            let verdict = if is_well { format!("answers, but {error}") } else { format!("fails: {error}") };
            ([name, protocol, none(), latency(start.elapsed()), none(), verdict], is_well)
        }
    }
}

fn table(rows: &[[String; 6]]) -> String {
    let widths: [usize; 6] = std::array::from_fn(|column| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
