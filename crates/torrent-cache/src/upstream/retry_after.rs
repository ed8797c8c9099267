//! Reads `Retry-After` of a reply (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, RETRY_AFTER};

/// The longest wait that is passed on, in seconds. A wrong clock can turn a date into a very long wait.
const LONGEST: u64 = 3600;

/// How long an upstream wants clients to wait: from 1 s to an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(u64);

impl RetryAfter {
    /// Reads the header, which is a number of seconds or a date. Returns `None` if the header is missing or has another
    /// form.
    pub(super) fn of(headers: &HeaderMap, now: SystemTime) -> Option<Self> {
        let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = if is_number {
            // A text of digits fails to parse only if the number is too large.
            value.parse().unwrap_or(LONGEST)
        } else {
            let wait = httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default();
            // Rounded up, so that the wait does not end before the date.
            wait.saturating_add(Duration::from_nanos(999_999_999)).as_secs()
        };
        Some(Self(seconds.clamp(1, LONGEST)))
    }

    /// Returns the seconds.
    pub fn seconds(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str, now: SystemTime) -> Option<u64> {
        let value = HeaderValue::from_str(value).unwrap();
        RetryAfter::of(&HeaderMap::from_iter([(RETRY_AFTER, value)]), now).map(RetryAfter::seconds)
    }

    #[test]
    fn seconds_and_dates_are_read_and_bounded() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_500);
        for (value, expected) in [
            ("7", Some(7)),
            (" 7 ", Some(7)),
            ("0", Some(1)),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun Nov  6 08:49:47 1994", Some(10)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(1)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(3600)),
            ("-1", None),
            ("+1", None),
            ("7.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(read(value, now), expected, "{value:?}");
        }
        assert_eq!(RetryAfter::of(&HeaderMap::new(), now), None);
    }

    proptest! {
        #[test]
        fn any_date_is_a_bounded_wait(now in 0_u64..1 << 33, then in 0_u64..1 << 33) {
            let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            let expected = then.saturating_sub(now).clamp(1, 3600);
            prop_assert_eq!(read(&httpdate::fmt_http_date(at(then)), at(now)), Some(expected));
        }
    }
}
