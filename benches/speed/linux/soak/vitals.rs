//! A tracker's memory, descriptors and threads, and whether memory stays flat.

use std::time::Duration;

use load::client::MetricsPage;
use load::machine::{process, resident};

use super::super::program::TrackerProcess;

/// Memory may grow by this factor from the first third of the time to the last third, or by [`SLACK`] if that is more.
const GROWTH: f64 = 1.1;
/// In bytes.
const SLACK: u64 = 4 << 20;

/// The values of one reading.
#[derive(Clone, Copy)]
pub(super) struct Vitals {
    /// The time since the load began.
    pub(super) at: Duration,
    /// Resident memory in bytes.
    pub(super) resident: u64,
    pub(super) descriptors: usize,
    pub(super) threads: i64,
}

impl Vitals {
    pub(super) fn of(server: &TrackerProcess, at: Duration) -> Result<Self, String> {
        let pid = server.pid();
        let process = process(pid);
        let descriptors = process.fd_count().map_err(|error| format!("descriptors cannot be counted: {error}"))?;
        let threads = process.stat().map_err(|error| error.to_string())?.num_threads;
        Ok(Self { at, resident: resident(pid), descriptors, threads })
    }
}

/// Returns the numbers of swarms and of peers in the tracker's metrics.
pub(super) fn swarms_and_peers(server: &TrackerProcess) -> Result<(u64, u64), String> {
    let metrics = MetricsPage::of(server.address)?;
    Ok((metrics.sum("retracker_swarms", &[]), metrics.sum("retracker_peers", &[])))
}

/// Checks that memory is flat once the tracker is warm. Returns a sentence with the figures, which is the error if
/// memory has grown.
pub(super) fn is_flat(all: &[Vitals], warm: Duration) -> Result<String, String> {
    let counted: Vec<_> = all.iter().filter(|vitals| vitals.at >= warm).collect();
    let third = counted.len() / 3;
    let most = |vitals: &[&Vitals]| vitals.iter().map(|vitals| vitals.resident).max().unwrap_or_default();
    let (first, last) = (most(&counted[..third]), most(&counted[counted.len() - third..]));
    let [first_text, last_text] = [first, last].map(|bytes| format!("{:.1} MiB", mebibytes(bytes)));
    let text = format!("memory: at most {first_text} in the first third, {last_text} in the last");
    let is_flat = third > 0 && (last <= first + SLACK || last as f64 <= first as f64 * GROWTH);
    if is_flat { Ok(text) } else { Err(text) }
}

pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
