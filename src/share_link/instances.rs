//! What instances tell each other about themselves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::share::EngineTime;

/// An instance that has not said anything for this long is gone.
const GONE: Duration = Duration::from_mins(1);

/// What an instance has said about itself is removed when it has not said anything for this long. An instance that comes
/// back from the other side of a partition looks for it.
const REMOVED: Duration = Duration::from_hours(1);

/// What an instance says about itself. Unknown fields, of later versions, are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InstanceNote {
    /// Where it listens, for people who look.
    pub(super) addresses: Vec<String>,
    /// Its version, for people who look.
    pub(super) version: String,
    /// When it began to share, in milliseconds of the engine's clock.
    pub(super) started: u64,
    /// When it wrote this, in milliseconds of the engine's clock.
    pub(super) beat: u64,
}

impl InstanceNote {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// How many instances there are, and the names of those whose notes are to be removed.
pub(super) fn count<'a>(notes: &[(&'a [u8], &[u8])], now: EngineTime) -> (i64, Vec<&'a [u8]>) {
    let silence =
        |note: &[u8]| beat(note).map_or(Duration::MAX, |beat| Duration::from_millis(now.0.saturating_sub(beat.0)));
    let there = notes.iter().filter(|(_, note)| silence(note) <= GONE).count();
    let old = notes.iter().copied().filter(|(_, note)| silence(note) > REMOVED).map(|(name, _)| name).collect();
    (i64::try_from(there).unwrap_or(i64::MAX), old)
}

/// When the instance of this name has written its note. `None` if there is no note of it.
pub(super) fn beat_of(notes: &[(&[u8], &[u8])], wanted: &str) -> Option<EngineTime> {
    notes.iter().find(|(name, _)| *name == wanted.as_bytes()).and_then(|(_, note)| beat(note))
}

fn beat(note: &[u8]) -> Option<EngineTime> {
    serde_json::from_slice(note).map(|InstanceNote { beat, .. }| EngineTime(beat)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_is_silent_for_a_minute_is_gone_and_is_forgotten_after_an_hour() {
        let note = |beat| {
            InstanceNote { addresses: vec!["[::]:80".to_owned()], version: "1".to_owned(), started: 0, beat }.to_json()
        };
        let notes =
            [("old", note(39_999)), ("new", note(40_000)), ("ahead", note(9_000_000)), ("odd", "{}".to_owned())];
        let notes: Vec<_> = notes.iter().map(|(name, note)| (name.as_bytes(), note.as_bytes())).collect();
        assert_eq!(count(&notes, EngineTime(100_000)), (2, vec![&b"odd"[..]]));
        assert_eq!(count(&notes, EngineTime(3_640_000)), (1, vec![&b"old"[..], b"odd"]));
        let beats = ["old", "ahead", "odd", "none"].map(|name| beat_of(&notes, name));
        assert_eq!(beats, [Some(EngineTime(39_999)), Some(EngineTime(9_000_000)), None, None]);
        let later = format!("{{\"more\":1,{}", note(1).trim_start_matches('{'));
        assert_eq!(count(&[(b"a", later.as_bytes())], EngineTime(1)), (1, Vec::new()));
    }
}
