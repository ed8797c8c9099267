//! Parses the texts of settings.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::setting::Wrong;

/// Parses a value of a type that implements [`FromStr`].
pub fn value<T: FromStr>(text: &str) -> Result<T, Wrong> {
    text.parse().map_err(|_| Wrong::Value)
}

/// The words that [`switch`] accepts.
pub const SWITCH: &str = "true or false (also 1/0, yes/no, on/off)";

/// Parses `true`, `false` and their synonyms.
pub fn switch(text: &str) -> Result<bool, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(Wrong::Value),
    }
}

/// Parses a whole number within a range.
pub fn whole<T: FromStr + PartialOrd>(text: &str, range: &RangeInclusive<T>) -> Result<T, Wrong> {
    value(text).and_then(|number| if range.contains(&number) { Ok(number) } else { Err(Wrong::Value) })
}

/// Parses a duration as a number of units, such as minutes or seconds. The number may have a fraction. `most` is the
/// largest number.
pub fn duration(text: &str, unit: Duration, most: f64) -> Result<Duration, Wrong> {
    // A number below a ten-thousandth of the unit is probably a mistake.
    let units = value(text).ok().filter(|units| (0.000_1..=most).contains(units)).ok_or(Wrong::Value)?;
    Ok(Duration::from_secs_f64(units * unit.as_secs_f64()))
}

/// Parses values separated by commas. There must be at least one value.
pub fn list<T: FromStr>(text: &str) -> Result<Vec<T>, Wrong> {
    items(text)?.map(value).collect()
}

/// Splits a text at its commas. Empty items, such as after a comma at the end, are left out. There must be at least one
/// item.
pub fn items(text: &str) -> Result<impl Iterator<Item = &str>, Wrong> {
    let mut items = text.split(',').map(str::trim).filter(|item| !item.is_empty()).peekable();
    if items.peek().is_some() { Ok(items) } else { Err(Wrong::Value) }
}
