//! `retracker check`: asks each forwarder once, so that mistakes show before clients depend on them.

use std::io;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::task::LocalSet;

use crate::forward::{ForwardError, ForwarderOptions, UpstreamProxies, probe};

/// Asks all at once, as the tracker itself would. `deadline` is how long an announce may wait for them. Returns the text to
/// print, and whether all are well.
pub(super) fn run(
    forwarders: &[ForwarderOptions],
    proxies: &UpstreamProxies,
    deadline: Duration,
    offline: bool,
) -> io::Result<(String, bool)> {
    if offline || forwarders.is_empty() {
        return Ok((format!("The file is valid. Forwarders: {}.\n", forwarders.len()), true));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rows =
        LocalSet::new().block_on(&runtime, join_all(forwarders.iter().map(|options| row(options, proxies, deadline))));
    // A name look-up may hang. The runtime does not wait for it.
    runtime.shutdown_background();
    let all_well = rows.iter().all(|(_, is_well)| *is_well);
    let heading = ["NAME", "PROTOCOL", "ADDRESS", "LATENCY", "INTERVAL", "VERDICT"].map(str::to_owned);
    let rows: Vec<_> = [heading].into_iter().chain(rows.into_iter().map(|(row, _)| row)).collect();
    Ok((table(&rows), all_well))
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
            // It answers. It may refuse a torrent that no client has.
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
