//! Parses the values of Chihaya's files. An error says what is expected.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::durations::{self, GoDuration};
use super::model::KeySetUrl;
use super::tree::{ConfigNode, NodeValue};
use crate::frontend::client_address::RealIpHeader;
use crate::frontend::listen::{Listen, ListenAddr, Transport, UdpListenAddr};
use crate::frontend::routes::RoutePattern;
use tracker_protocol::InfoHash;

/// A parsed value, or what is expected instead.
pub(super) type Parsed<T> = Result<T, &'static str>;

/// The most characters of a value that a message shows.
const MAX_SHOWN: usize = 80;

/// Returns the value as messages show it.
pub(super) fn shown(node: &ConfigNode) -> String {
    match &node.value {
        NodeValue::Plain(text) | NodeValue::Quoted(text) if text.is_empty() => "\"\"".to_owned(),
        NodeValue::Plain(text) | NodeValue::Quoted(text) => shortened(text),
        NodeValue::List(items) => {
            let items: Vec<_> = items.iter().take(4).map(shown).collect();
            shortened(&format!("[{}]", items.join(", ")))
        }
        NodeValue::Section(_) => "a section".to_owned(),
    }
}

/// Shortens a value. Escapes line breaks and control characters, which would disturb a terminal.
fn shortened(text: &str) -> String {
    let escaped = text.trim_end_matches('\n').escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'");
    match escaped.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", escaped.get(..end).unwrap_or_default()),
        None => escaped,
    }
}

/// Reads a text. A number or another plain value counts as a text too, as in YAML where a text is expected.
pub(super) fn text(node: &ConfigNode) -> Parsed<String> {
    match &node.value {
        NodeValue::Plain(text) | NodeValue::Quoted(text) => Ok(text.clone()),
        NodeValue::List(_) | NodeValue::Section(_) => Err("a text"),
    }
}

/// Reads a text that is in quotes, as JSON requires.
pub(super) fn quoted(node: &ConfigNode) -> Parsed<String> {
    match &node.value {
        NodeValue::Quoted(text) => Ok(text.clone()),
        _ => Err("a text in quotes"),
    }
}

/// Reads the texts of a list.
pub(super) fn texts(node: &ConfigNode) -> Parsed<Vec<String>> {
    match &node.value {
        NodeValue::List(items) => items.iter().map(text).collect::<Parsed<_>>().map_err(|_| "a list of texts"),
        _ => Err("a list of texts"),
    }
}

/// Reads true or false in any of YAML 1.1's words, as Go's YAML reader does.
pub(super) fn switch(node: &ConfigNode) -> Parsed<bool> {
    let NodeValue::Plain(text) = &node.value else { return Err("true or false") };
    match text.as_str() {
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Ok(true),
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Ok(false),
        _ => Err("true or false"),
    }
}

/// Reads a whole number. Chihaya takes negative numbers for "not set".
pub(super) fn whole(node: &ConfigNode) -> Parsed<i64> {
    let expected = "a whole number such as 50";
    let NodeValue::Plain(text) = &node.value else { return Err(expected) };
    let text = text.replace('_', "");
    let (sign, digits) = text.strip_prefix('-').map_or((1, text.as_str()), |digits| (-1, digits));
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let number = match digits.get(..2) {
        Some("0x" | "0X") => digits.get(2..).and_then(|digits| i64::from_str_radix(digits, 16).ok()),
        Some("0o" | "0O") => digits.get(2..).and_then(|digits| i64::from_str_radix(digits, 8).ok()),
        _ => digits.parse().ok(),
    };
    number.filter(|number| *number >= 0).map(|number| sign * number).ok_or(expected)
}

/// Reads a number with or without a fraction.
pub(super) fn number(node: &ConfigNode) -> Parsed<f64> {
    let expected = "a number such as 1.25";
    let NodeValue::Plain(text) = &node.value else { return Err(expected) };
    text.parse().ok().filter(|number: &f64| number.is_finite()).ok_or(expected)
}

/// Reads a duration in Go's notation. `None` if it is zero or negative: Chihaya takes that for "not set".
pub(super) fn duration(node: &ConfigNode) -> Parsed<Option<Duration>> {
    let (NodeValue::Plain(text) | NodeValue::Quoted(text)) = &node.value else { return Err(A_DURATION) };
    match durations::parse(text) {
        Some(GoDuration::Positive(duration)) => Ok(Some(duration)),
        Some(GoDuration::ZeroOrLess) => Ok(None),
        None if text.parse::<i64>().is_ok() => {
            Err("a duration with a unit such as 15m, because Chihaya takes a bare number for nanoseconds")
        }
        None => Err(A_DURATION),
    }
}

const A_DURATION: &str = "a duration such as 15m, 1h30m or 250ms";

/// Reads a duration of v1, which is always in quotes.
pub(super) fn quoted_duration(node: &ConfigNode) -> Parsed<Option<Duration>> {
    match node.value {
        NodeValue::Quoted(_) => duration(node),
        _ => Err("a duration in quotes such as \"15m\""),
    }
}

/// Converts the interval of announces to whole seconds, as clients get it.
pub(super) fn interval(duration: Option<Duration>) -> Parsed<Option<u32>> {
    let Some(duration) = duration else { return Ok(None) };
    // For an interval of less than a second, Chihaya v2 sends 0, with which clients would announce without a pause.
    // This tracker sends one second instead.
    let seconds = u32::try_from(duration.as_secs().max(1)).ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.map(Some).ok_or("a duration from 1s to 24h")
}

/// Checks the age of peers.
pub(super) fn peer_age(duration: Option<Duration>) -> Parsed<Option<Duration>> {
    const RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(8_760);
    if duration.is_none_or(|duration| RANGE.contains(&duration)) {
        Ok(duration)
    } else {
        Err("a duration from 1ms to 8760h")
    }
}

/// Parses an address to listen on. An empty text means no address.
pub(super) fn listen(text: &str) -> Parsed<Option<Listen>> {
    address(text, |listen: &Listen| {
        listen.purpose.transport == Transport::Plain && !matches!(listen.address, ListenAddr::Unix(_))
    })
}

/// Parses an address to listen on for UDP. Returns `None` for an empty text.
pub(super) fn udp_listen(text: &str) -> Parsed<Option<UdpListenAddr>> {
    address(text, |listen: &UdpListenAddr| !listen.proxied)
}

/// Parses an address in our notation, which includes Go's. `is_go` says whether Go would accept the address too.
fn address<T: FromStr>(text: &str, is_go: impl Fn(&T) -> bool) -> Parsed<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .ok()
        .filter(is_go)
        .map(Some)
        .ok_or("an address such as 0.0.0.0:6881, localhost:6881, [::]:6881 or :6881")
}

/// Parses the name of the header with the client's address. `None` for an empty text.
pub(super) fn header(text: &str) -> Parsed<Option<RealIpHeader>> {
    if text.is_empty() {
        return Ok(None);
    }
    RealIpHeader::new(text).map(Some).ok_or("the name of a header such as X-Forwarded-For")
}

/// Finds a placeholder of the documentation, a name in braces: `{QE LOCATION}`.
pub(super) fn placeholder(text: &str) -> Option<&str> {
    let start = text.find('{')?;
    let end = start + text.get(start..)?.find('}')?;
    text.get(start..=end)
}

/// Parses the URL of the keys for tokens.
pub(super) fn key_set_url(text: &str) -> Parsed<KeySetUrl> {
    if placeholder(text).is_some() {
        return Ok(KeySetUrl::Placeholder(text.to_owned()));
    }
    let expected = "the URL of a JWK set such as https://registry.example/keys/services/quay/keys";
    let url = Url::parse(text).map_err(|_| expected)?;
    let is_fetched = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    if is_fetched { Ok(KeySetUrl::Url(url)) } else { Err(expected) }
}

/// Parses client ids: six bytes each, which are the first six of a peer id, or those after its leading hyphen.
pub(super) fn client_ids(texts: &[String]) -> Parsed<BTreeSet<[u8; 6]>> {
    let ids = texts
        .iter()
        .map(|text| text.as_bytes().try_into().map_err(|_| "a list of clients of six bytes each such as OP1011"));
    ids.collect()
}

/// Parses the info-hashes of torrents. Chihaya knows only those of BitTorrent v1.
pub(super) fn info_hashes(texts: &[String]) -> Parsed<BTreeSet<InfoHash>> {
    let expected = "a list of info-hashes of 40 hexadecimal digits each";
    texts.iter().map(|text| text.parse().ok().filter(|_| text.len() == 40).ok_or(expected)).collect()
}

/// Parses the paths of announces or scrapes, in the notation of Go's httprouter.
pub(super) fn routes(texts: &[String]) -> Parsed<Vec<RoutePattern>> {
    let expected = "a list of paths such as /announce, /:passkey/announce or /t/*rest";
    texts.iter().map(|text| RoutePattern::new(text).ok_or(expected)).collect()
}

/// Returns the text of a duration, in seconds.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
