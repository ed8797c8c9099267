//! The progress of a flight, for the log and the status page.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::state::{Flight, FlightKey, FlightPhase};
use crate::content::ContentName;

/// The progress of a flight at one moment.
#[derive(Clone, Debug)]
pub struct FlightSummary {
    /// The upstream, as in the flight's key.
    pub upstream: Arc<str>,
    /// What is fetched.
    pub name: ContentName,
    /// The blob's length in bytes, if it is known.
    pub length: Option<u64>,
    /// Bytes that were in the store when the flight began.
    pub from_disk: u64,
    /// Bytes that came from other hosts.
    pub from_peers: u64,
    /// Bytes that came from the upstream.
    pub from_upstream: u64,
    /// The clients that read the blob.
    pub readers: usize,
    /// The time since the flight began.
    pub elapsed: Duration,
}

impl FlightSummary {
    pub(super) fn of<E>(key: &FlightKey, flight: &Flight<E>) -> Self {
        let readers = flight.state.receiver_count();
        let state = flight.state.borrow();
        let there = match &state.phase {
            FlightPhase::Spooling { available, .. } => *available,
            FlightPhase::Verified { length, .. } => *length,
            FlightPhase::Uncached(blob) => blob.from,
            FlightPhase::Opening | FlightPhase::Failed(_) => 0,
        };
        let (from_disk, from_peers, from_upstream) = match flight.shared.get().map(|content| content.sources()) {
            Some(sources) => (0, sources.from_peers, sources.from_upstream),
            // The blob was in the store before. A fetched blob gets there only in the flight's last moments.
            None if flight.stored.get().is_some() => (there, 0, 0),
            None => (0, 0, there),
        };
        Self {
            upstream: Arc::clone(&key.upstream),
            name: key.name,
            length: state.length,
            from_disk,
            from_peers,
            from_upstream,
            readers,
            elapsed: flight.begun.elapsed(),
        }
    }

    /// Returns how many bytes of the blob this host has.
    pub fn have(&self) -> u64 {
        self.from_disk.saturating_add(self.from_peers).saturating_add(self.from_upstream)
    }

    /// Returns how much of the blob this host has, in per cent, rounded down; `None` if the length is not known.
    pub fn percent(&self) -> Option<u8> {
        let length = u128::from(self.length?);
        let percent = (u128::from(self.have()) * 100).checked_div(length).unwrap_or(100);
        u8::try_from(percent.min(100)).ok()
    }
}

/// Writes the line for the log.
impl fmt::Display for FlightSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}: ", self.name, self.upstream)?;
        match (self.percent(), self.length) {
            (Some(percent), Some(length)) => write!(f, "{percent} % of {length} bytes")?,
            _ => write!(f, "{} bytes", self.have())?,
        }
        write!(f, " after {} s", self.elapsed.as_secs())?;
        if self.from_disk > 0 {
            return f.write_str(", read from disk");
        }
        match self.from_peers {
            0 => f.write_str(", all from upstream"),
            from_peers => write!(f, ": {from_peers} from other hosts, {} from upstream", self.from_upstream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn the_line_tells_how_far_and_from_where() {
        let digest = Digest::of(b"");
        let summary = FlightSummary {
            upstream: "quay.io a/b".into(),
            name: digest.into(),
            length: Some(200),
            from_disk: 0,
            from_peers: 60,
            from_upstream: 11,
            readers: 1,
            elapsed: Duration::from_secs(10),
        };
        let at = format!("{digest} of quay.io a/b: ");
        assert_eq!(
            summary.to_string(),
            format!("{at}35 % of 200 bytes after 10 s: 60 from other hosts, 11 from upstream")
        );
        let alone = FlightSummary { from_peers: 0, length: None, ..summary.clone() };
        assert_eq!((alone.to_string(), alone.percent()), (format!("{at}11 bytes after 10 s, all from upstream"), None));
        let empty = FlightSummary { length: Some(0), ..alone.clone() };
        assert_eq!(empty.percent(), Some(100));
        // An upstream can send more than it announced.
        assert_eq!(FlightSummary { length: Some(7), ..alone }.percent(), Some(100));
        let disk = FlightSummary { from_disk: 200, from_peers: 0, from_upstream: 0, ..summary };
        assert_eq!(disk.to_string(), format!("{at}100 % of 200 bytes after 10 s, read from disk"));
    }
}
