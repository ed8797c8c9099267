//! Parses the texts of settings that only this program has.

use std::time::Duration;

use ::settings::Wrong;
use ::settings::values::whole;
use url::{Host, Url};

/// The longest time that a setting takes, in seconds: a year.
const LONGEST: u64 = 31_536_000;

/// What [`seconds`] expects.
pub(super) const SECONDS: &str = "a whole number of seconds from 1 to 31536000";
/// What [`seconds_or_none`] expects.
pub(super) const SECONDS_OR_NONE: &str = "a whole number of seconds from 0 to 31536000";

/// Parses a time of at least one second.
pub(super) fn seconds(text: &str) -> Result<Duration, Wrong> {
    whole(text, &(1..=LONGEST)).map(Duration::from_secs)
}

/// Parses a time, which may be 0.
pub(super) fn seconds_or_none(text: &str) -> Result<Duration, Wrong> {
    whole(text, &(0..=LONGEST)).map(Duration::from_secs)
}

/// Parses a switch. Only `false`, `0`, `no` and `off` switch it off. Any other text switches it on, as it did in the
/// proof of concept.
#[expect(clippy::unnecessary_wraps, reason = "a setting is parsed by a function that can fail")]
pub(super) fn set(text: &str) -> Result<bool, Wrong> {
    Ok(!matches!(text.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off"))
}

/// Parses a host name or an IP address.
pub(super) fn host(text: &str) -> Result<Host, Wrong> {
    let bracketed = if text.contains(':') && !text.starts_with('[') { format!("[{text}]") } else { text.to_owned() };
    Host::parse(&bracketed).map_err(|_| Wrong::Value)
}

/// Parses the announce URL of a tracker.
pub(super) fn tracker(text: &str) -> Result<Url, Wrong> {
    let url = Url::parse(text).map_err(|_| Wrong::Value)?;
    let is_tracker = matches!(url.scheme(), "http" | "https" | "udp") && url.host().is_some();
    if is_tracker { Ok(url) } else { Err(Wrong::Value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read() {
        assert_eq!(seconds("61"), Ok(Duration::from_secs(61)));
        assert_eq!(seconds_or_none("0"), Ok(Duration::ZERO));
        assert_eq!((set("1"), set("FALSE"), set("anything")), (Ok(true), Ok(false), Ok(true)));
        for good in ["192.168.1.1", "::1", "[::1]", "tracker.example.com"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for good in ["http://192.168.1.1:6969/announce", "udp://t:1", "https://t/announce"] {
            assert!(tracker(good).is_ok(), "{good}");
        }
        for wrong in ["0", "-1", "1.5", "31536001", "x", ""] {
            assert_eq!(seconds(wrong), Err(Wrong::Value), "{wrong}");
        }
        for wrong in ["", "a b", "http://x", "a/b"] {
            assert_eq!(host(wrong), Err(Wrong::Value), "{wrong}");
        }
        for wrong in ["", "192.168.1.1:6969", "ftp://x/", "http://"] {
            assert_eq!(tracker(wrong), Err(Wrong::Value), "{wrong}");
        }
    }
}
