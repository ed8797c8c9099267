//! The notes about themselves that instances leave in the engine.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::share::EngineTime;

/// An instance that has not written its note for this long is gone.
const GONE: Duration = Duration::from_mins(1);

/// The note of an instance that has written none for this long is removed. The note is kept for so long, because an
/// instance that comes back after a network partition looks for its own note.
const REMOVED: Duration = Duration::from_hours(1);

/// The addresses under which upstream trackers know an instance, by the fingerprint of the tracker's URL. The URL itself
/// may contain a passkey.
pub(super) type UpstreamAddresses = BTreeMap<String, Vec<IpAddr>>;

/// The note of an instance about itself. Unknown fields are ignored, because later versions may add fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InstanceNote {
    /// The addresses on which the instance listens. Only people read them.
    pub(super) addresses: Vec<String>,
    /// The version of the instance. Only people read it.
    pub(super) version: String,
    /// When the instance began to share, in milliseconds of the engine's clock.
    pub(super) started: u64,
    /// When the instance wrote this note, in milliseconds of the engine's clock.
    pub(super) beat: u64,
    /// The addresses under which its upstream trackers know the instance.
    #[serde(default)]
    pub(super) upstream: UpstreamAddresses,
    /// The name of the instance in `Via`. Empty if the instance has no forwarders.
    #[serde(default)]
    pub(super) via: String,
}

impl InstanceNote {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn from_json(note: &[u8]) -> Option<Self> {
        serde_json::from_slice(note).ok()
    }
}

/// Returns how many instances there are, and the names of those whose notes are to be removed.
pub(super) fn count<'a>(notes: &[(&'a [u8], &[u8])], now: EngineTime) -> (i64, Vec<&'a [u8]>) {
    let there = notes.iter().filter(|(_, note)| silence(note, now) <= GONE).count();
    let old = notes.iter().copied().filter(|(_, note)| silence(note, now) > REMOVED).map(|(name, _)| name).collect();
    (i64::try_from(there).unwrap_or(i64::MAX), old)
}

/// Returns the notes of the instances that are there, but for that of the instance `own`.
pub(super) fn others(notes: &[(&[u8], &[u8])], own: &str, now: EngineTime) -> Vec<InstanceNote> {
    let others = notes.iter().filter(|(name, note)| *name != own.as_bytes() && silence(note, now) <= GONE);
    others.filter_map(|(_, note)| InstanceNote::from_json(note)).collect()
}

fn silence(note: &[u8], now: EngineTime) -> Duration {
    beat(note).map_or(Duration::MAX, |beat| Duration::from_millis(now.0.saturating_sub(beat.0)))
}

/// Returns when the instance of this name wrote its note. `None` if it has no note.
pub(super) fn beat_of(notes: &[(&[u8], &[u8])], wanted: &str) -> Option<EngineTime> {
    notes.iter().find(|(name, _)| *name == wanted.as_bytes()).and_then(|(_, note)| beat(note))
}

fn beat(note: &[u8]) -> Option<EngineTime> {
    InstanceNote::from_json(note).map(|note| EngineTime(note.beat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_is_silent_for_a_minute_is_gone_and_is_forgotten_after_an_hour() {
        let note = |beat| {
            let addresses = vec!["[::]:80".to_owned()];
            let upstream = UpstreamAddresses::new();
            let (version, via) = ("1".to_owned(), "a".to_owned());
            InstanceNote { addresses, version, started: 0, beat, upstream, via }.to_json()
        };
        let notes =
            [("old", note(39_999)), ("new", note(40_000)), ("ahead", note(9_000_000)), ("odd", "{}".to_owned())];
        let notes: Vec<_> = notes.iter().map(|(name, note)| (name.as_bytes(), note.as_bytes())).collect();
        assert_eq!(count(&notes, EngineTime(100_000)), (2, vec![&b"odd"[..]]));
        assert_eq!(others(&notes, "new", EngineTime(100_000)).len(), 1, "the one whose clock is ahead");
        assert_eq!(count(&notes, EngineTime(3_640_000)), (1, vec![&b"old"[..], b"odd"]));
        let beats = ["old", "ahead", "odd", "none"].map(|name| beat_of(&notes, name));
        assert_eq!(beats, [Some(EngineTime(39_999)), Some(EngineTime(9_000_000)), None, None]);
        let later = format!("{{\"more\":1,{}", note(1).trim_start_matches('{'));
        assert_eq!(count(&[(b"a", later.as_bytes())], EngineTime(1)), (1, Vec::new()));
    }
}
