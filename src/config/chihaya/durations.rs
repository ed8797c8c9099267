//! Durations as Go's `time.ParseDuration` reads them: `1h30m`, `4s`, `250ms`, `1.5h`, `-1m`, `0`.

use std::time::Duration;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000 * MICROSECOND;
const SECOND: u64 = 1_000 * MILLISECOND;

/// The units, each in nanoseconds. `ms` comes before `m`, because the first unit that matches counts. Go accepts both
/// of Unicode's mu letters.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", MICROSECOND),
    ("\u{b5}s", MICROSECOND),
    ("\u{3bc}s", MICROSECOND),
    ("ms", MILLISECOND),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3_600 * SECOND),
];

/// A parsed duration. Go's durations may be negative. For Chihaya, zero and negative mean "not set".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GoDuration {
    Positive(Duration),
    ZeroOrLess,
}

/// Reads a duration. `None` if Go would reject the text.
pub(super) fn parse(text: &str) -> Option<GoDuration> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let nanoseconds = if unsigned == "0" { 0 } else { sum(unsigned)? };
    // Go counts nanoseconds in 64 bits with a sign.
    let most = if is_negative { 1 << 63 } else { (1 << 63) - 1 };
    match u64::try_from(nanoseconds).ok().filter(|nanoseconds| *nanoseconds <= most)? {
        nanoseconds if is_negative || nanoseconds == 0 => Some(GoDuration::ZeroOrLess),
        nanoseconds => Some(GoDuration::Positive(Duration::from_nanos(nanoseconds))),
    }
}

/// Returns the sum of the parts in nanoseconds: one part or more, each a number with a unit.
fn sum(mut rest: &str) -> Option<u128> {
    let mut total = 0_u128;
    loop {
        let (part, behind) = part(rest)?;
        total = total.checked_add(part)?;
        if behind.is_empty() {
            return Some(total);
        }
        rest = behind;
    }
}

/// Returns the nanoseconds of the first part, and the text after this part.
fn part(text: &str) -> Option<(u128, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (unit, rest) = UNITS.iter().find_map(|(name, unit)| Some((u128::from(*unit), rest.strip_prefix(name)?)))?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits after the 18th are worth less than a nanosecond, even for hours.
    let fraction = fraction.get(..fraction.len().min(18))?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some((u128::from(whole) * unit + u128::from(fraction) * unit / scale, rest))
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanoseconds(text: &str) -> Option<u128> {
        match parse(text)? {
            GoDuration::Positive(duration) => Some(duration.as_nanos()),
            GoDuration::ZeroOrLess => Some(0),
        }
    }

    #[test]
    fn the_forms_of_go() {
        for (text, expected) in [
            ("15m", 900 * u128::from(SECOND)),
            ("1h30m", 5_400 * u128::from(SECOND)),
            ("4s", 4 * u128::from(SECOND)),
            ("250ms", 250_000_000),
            ("1.5h", 5_400 * u128::from(SECOND)),
            (".5s", 500_000_000),
            ("5.s", 5 * u128::from(SECOND)),
            ("+5s", 5 * u128::from(SECOND)),
            ("1us", 1_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("7ns", 7),
            ("1m1m", 120 * u128::from(SECOND)),
            ("1h2m3.004005006s", 3_723_004_005_006),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", 9_223_372_036_854_775_807),
        ] {
            assert_eq!(nanoseconds(text), Some(expected), "{text}");
        }
        for text in ["0", "-0", "+0", "0s", "-5m", "-9223372036854775808ns"] {
            assert_eq!(parse(text), Some(GoDuration::ZeroOrLess), "{text}");
        }
        for text in [
            "",
            "-",
            "+",
            "3",
            "3.",
            ".s",
            ".",
            "s",
            "m5",
            "5 m",
            "5m ",
            " 5m",
            "5M",
            "5min",
            "1d",
            "--5m",
            "1e3s",
            "00",
            "9223372036854775808ns",
            "3000000h",
            "99999999999999999999s",
            "5m3",
            "1,5h",
            "\u{661}s",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    /// Returns a duration as Go's `Duration.String` writes it.
    fn written(nanoseconds: u64) -> String {
        let fraction = |value: u64, unit: u64, name: &str| {
            let digits = unit.ilog10() as usize;
            let text = format!("{}.{:0digits$}", value / unit, value % unit);
            let text = if digits == 0 { value.to_string() } else { text };
            let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
            format!("{text}{name}")
        };
        match nanoseconds {
            0..MICROSECOND => format!("{nanoseconds}ns"),
            MICROSECOND..MILLISECOND => fraction(nanoseconds, MICROSECOND, "\u{b5}s"),
            MILLISECOND..SECOND => fraction(nanoseconds, MILLISECOND, "ms"),
            _ => {
                let (hours, rest) = (nanoseconds / (3_600 * SECOND), nanoseconds % (3_600 * SECOND));
                let (minutes, rest) = (rest / (60 * SECOND), rest % (60 * SECOND));
                let seconds = fraction(rest, SECOND, "s");
                match (hours, minutes) {
                    (0, 0) => seconds,
                    (0, _) => format!("{minutes}m{seconds}"),
                    (_, _) => format!("{hours}h{minutes}m{seconds}"),
                }
            }
        }
    }

    #[test]
    fn what_go_writes() {
        let minutes = |minutes: u64| written(minutes * 60 * SECOND);
        assert_eq!([minutes(15), minutes(90), written(1_500_000)], ["15m0s", "1h30m0s", "1.5ms"]);
    }

    proptest! {
        #[test]
        fn what_go_writes_is_read_back(nanoseconds in prop_oneof![0..=u64::MAX >> 1, 0..SECOND * 10, 0..MILLISECOND * 10]) {
            prop_assert_eq!(self::nanoseconds(&written(nanoseconds)), Some(u128::from(nanoseconds)));
            prop_assert_eq!(parse(&format!("-{}", written(nanoseconds))), Some(GoDuration::ZeroOrLess));
        }

        #[test]
        fn parts_add_up(parts in prop::collection::vec((0_u64..1_000_000, 0_usize..UNITS.len()), 1..8)) {
            let text: Vec<_> = parts.iter().map(|(number, unit)| format!("{number}{}", UNITS[*unit].0)).collect();
            let total: u128 = parts.iter().map(|(number, unit)| u128::from(*number) * u128::from(UNITS[*unit].1)).sum();
            let fits = total < 1 << 63;
            prop_assert_eq!(nanoseconds(&text.concat()), fits.then_some(total));
        }

        #[test]
        fn any_text_is_a_duration_or_not(text in "[-+.0-9nuµmsh ]{0,24}|.{0,16}") {
            let _ = parse(&text);
        }
    }
}
