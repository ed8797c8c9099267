//! `forwarders.yml`: a list of entries with a `uri` and options, or a mapping with that list and options for all
//! entries.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use ::settings::Origin;
use serde::{Deserialize, Deserializer, de};
use url::Url;

use super::error::ConfigError;
use super::settings::FORWARDS;
use super::yaml::{self, Fields, Mapping, Once, Optional, Problem, Text};
use crate::forward::{self, AnnouncedIp, ForwarderOptions, Torrents};
use tracker_protocol::InfoHash;
use trust::Authorities;

/// The longest name of a forwarder in bytes. All its log lines and metrics have the name.
const MAX_NAME: usize = 200;

/// Reads and checks `forwarders.yml`.
pub(super) fn read(origin: Origin, path: &Path) -> Result<Vec<ForwarderOptions>, ConfigError> {
    yaml::read(origin, path, FORWARDS.expected, parse)
}

fn parse(text: &str) -> Result<Vec<ForwarderOptions>, Problem> {
    // A file that is empty, or has only comments, is an empty list.
    let forwarders = yaml::parse::<File>(text)?.map(File::into_options).unwrap_or_default();
    let line = |entry| yaml::line_of(text, "forwarders", entry);
    match twice(&forwarders) {
        None => Ok(forwarders),
        Some((first, again)) => Err(Problem {
            line: line(again),
            problem: format!(
                "it repeats the forwarder of line {}, with the same uri, host and ip; expected one entry for it",
                line(first).map_or_else(|| "?".to_owned(), |line| line.to_string())
            ),
        }),
    }
}

/// Returns the indices of two entries for the same forwarder, which would get every announce twice.
fn twice(forwarders: &[ForwarderOptions]) -> Option<(usize, usize)> {
    let mut known = HashMap::<_, Vec<usize>>::new();
    for (again, forwarder) in forwarders.iter().enumerate() {
        let alike = known.entry(identity(forwarder)).or_default();
        let same = |first: &&usize| {
            let first = forwarders.get(**first);
            first.is_some_and(|first| first.ip == forwarder.ip && meet(&first.torrents, &forwarder.torrents))
        };
        if let Some(first) = alike.iter().find(same) {
            return Some((*first, again));
        }
        alike.push(again);
    }
    None
}

/// Returns whether there may be a torrent that is announced to both forwarders.
fn meet(first: &Torrents, second: &Torrents) -> bool {
    match (first, second) {
        (Torrents::Only(first), Torrents::Only(second)) => !first.is_disjoint(second),
        (Torrents::Only(only), Torrents::Except(except)) | (Torrents::Except(except), Torrents::Only(only)) => {
            !only.is_subset(except)
        }
        (Torrents::All | Torrents::Except(_), Torrents::All | Torrents::Except(_)) => true,
        (Torrents::Only(only), Torrents::All) | (Torrents::All, Torrents::Only(only)) => !only.is_empty(),
    }
}

/// Returns the normalised URL (RFC 3986, section 6.2) and the `Host` header. Both are the same for all spellings of a
/// forwarder.
fn identity(forwarder: &ForwarderOptions) -> (String, Option<String>) {
    let mut url = forwarder.uri.clone();
    url.set_fragment(None);
    if url.query() == Some("") {
        url.set_query(None);
    }
    let whole = url.as_str();
    let host = url.host_str().unwrap_or_default();
    let normal = match whole.split_once(host).filter(|_| !host.is_empty()) {
        Some((before, behind)) => {
            let host = host.to_ascii_lowercase();
            format!("{before}{}{}", host.strip_suffix('.').unwrap_or(&host), unescaped(behind))
        }
        None => unescaped(whole),
    };
    (normal, forwarder.host.as_ref().map(|host| host.to_ascii_lowercase()))
}

/// Decodes superfluous escapes, and writes the other escapes in capitals.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut normal = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or(("", part));
        match u8::from_str_radix(code, 16) {
            Ok(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => normal.push(char::from(byte)),
            _ => {
                normal.push('%');
                normal.push_str(&code.to_ascii_uppercase());
            }
        }
        normal.push_str(rest);
    }
    normal
}

/// The file: a list of entries, or a mapping with that list and options for all entries.
#[derive(Debug)]
enum File {
    Plain(Vec<Mapping<ForwarderEntry>>),
    WithCommon(Common),
}

/// The options for all entries. [`ForwarderEntry`] repeats them: serde's `flatten` would lose the line numbers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Common {
    #[serde(default, deserialize_with = "timeout")]
    timeout: Option<Duration>,
    #[serde(default, deserialize_with = "numwant")]
    numwant: Option<u32>,
    #[serde(default, deserialize_with = "rate")]
    rate: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "ca")]
    ca: Option<Authorities>,
    #[serde(default, deserialize_with = "info_hashes")]
    only: Option<BTreeSet<InfoHash>>,
    #[serde(default, deserialize_with = "info_hashes")]
    except: Option<BTreeSet<InfoHash>>,
    #[serde(default)]
    forwarders: Option<Vec<Mapping<ForwarderEntry>>>,
}

impl File {
    fn into_options(self) -> Vec<ForwarderOptions> {
        let Common { timeout, numwant, rate, ca, only, except, forwarders } = match self {
            Self::Plain(entries) => return entries.into_iter().map(|Mapping(options)| options).collect(),
            Self::WithCommon(common) => common,
        };
        let torrents = torrents(only, except);
        let entries = forwarders.unwrap_or_default().into_iter();
        entries
            .map(|Mapping(options)| ForwarderOptions {
                timeout: options.timeout.or(timeout),
                numwant: options.numwant.or(numwant),
                rate: options.rate.or(rate),
                // Only an https forwarder uses a certificate authority.
                ca: options.ca.or_else(|| ca.clone().filter(|_| options.uri.scheme() == "https")),
                // An entry's own list replaces the list for all entries.
                torrents: if options.torrents == Torrents::All { torrents.clone() } else { options.torrents },
                ..options
            })
            .collect()
    }
}

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FileVisitor)
    }
}

/// Reads [`File`]. Written by hand: an untagged enum would lose the line numbers.
struct FileVisitor;

impl<'de> de::Visitor<'de> for FileVisitor {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries such as `- uri: http://1.2.3.4/announce`")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, entries: A) -> Result<File, A::Error> {
        Deserialize::deserialize(de::value::SeqAccessDeserializer::new(entries)).map(File::Plain)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<File, A::Error> {
        let common = Common::deserialize(de::value::MapAccessDeserializer::new(Once::new(map)))?;
        if common.only.is_some() && common.except.is_some() {
            return Err(de::Error::custom(ONLY_AND_EXCEPT));
        }
        Ok(File::WithCommon(common))
    }
}

const ONLY_AND_EXCEPT: &str = "it has both `only` and `except`, expected one of them";

fn torrents(only: Option<BTreeSet<InfoHash>>, except: Option<BTreeSet<InfoHash>>) -> Torrents {
    match (only, except) {
        (Some(only), _) => Torrents::Only(only),
        (None, Some(except)) => Torrents::Except(except),
        (None, None) => Torrents::All,
    }
}

impl Fields for ForwarderEntry {
    type Checked = ForwarderOptions;
    const EXPECTED: &'static str = "a forwarder with a uri, such as `- uri: http://1.2.3.4:8080/announce`";

    fn check(self) -> Result<ForwarderOptions, String> {
        if self.only.is_some() && self.except.is_some() {
            return Err(ONLY_AND_EXCEPT.to_owned());
        }
        let options = self.into_options();
        forward::check(&options)?;
        Ok(options)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForwarderEntry {
    #[serde(deserialize_with = "uri")]
    uri: Url,
    #[serde(default, deserialize_with = "name")]
    name: Option<String>,
    #[serde(default, deserialize_with = "ip")]
    ip: Option<AnnouncedIp>,
    #[serde(default, deserialize_with = "host")]
    host: Option<String>,
    #[serde(default, deserialize_with = "timeout")]
    timeout: Option<Duration>,
    #[serde(default, deserialize_with = "numwant")]
    numwant: Option<u32>,
    #[serde(default, deserialize_with = "rate")]
    rate: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "ca")]
    ca: Option<Authorities>,
    #[serde(default, deserialize_with = "info_hashes")]
    only: Option<BTreeSet<InfoHash>>,
    #[serde(default, deserialize_with = "info_hashes")]
    except: Option<BTreeSet<InfoHash>>,
}

impl ForwarderEntry {
    fn into_options(self) -> ForwarderOptions {
        // The default name is the URL's host and port, as with the Go retracker. The rest of the URL may hold a
        // passkey.
        let name = self.name.unwrap_or_else(|| forward::host_and_port(&self.uri));
        ForwarderOptions {
            name,
            uri: self.uri,
            ip: self.ip.unwrap_or_default(),
            host: self.host,
            timeout: self.timeout,
            numwant: self.numwant,
            rate: self.rate,
            ca: self.ca,
            torrents: torrents(self.only, self.except),
        }
    }
}

fn uri<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    deserializer.deserialize_str(Text(|text: &str| {
        // Errors go to the log, and the value may hold a passkey. So the error gives only the line number.
        let wrong =
            |why: &str| format!("uri {why}, expected an announce URL such as http://tracker.example:8080/announce");
        let url = Url::parse(text).map_err(|error| wrong(&format!("is no URL ({error})")))?;
        match url.scheme() {
            "http" | "https" | "udp" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(url),
            "http" | "https" | "udp" => Err(wrong("has no host")),
            scheme => Err(wrong(&format!("has the scheme \"{scheme}\", only http, https and udp are supported"))),
        }
    }))
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    deserializer.deserialize_option(Optional(|text: &str| {
        // A line break in the name would begin a new log line.
        let wrong = |what| format!("name is \"{}\", {what}", text.escape_debug());
        let is_odd = |c: char| {
            c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        match text.trim() {
            "" => Err(wrong("expected a name such as example")),
            name if name.chars().any(is_odd) => {
                Err(wrong("expected a name without line breaks and control characters"))
            }
            name if name.len() > MAX_NAME => Err(wrong("expected a name of at most 200 bytes")),
            name => Ok(name.to_owned()),
        }
    }))
}

fn ca<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Authorities>, D::Error> {
    deserializer.deserialize_option(Optional(|text: &str| Authorities::read(Path::new(text))))
}

fn ip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<AnnouncedIp>, D::Error> {
    deserializer.deserialize_option(Optional(|text: &str| {
        if text == "client" {
            return Ok(AnnouncedIp::Client);
        }
        let wrong =
            || format!("ip is \"{}\", expected an address such as 192.168.1.15, or client", text.escape_default());
        text.parse::<IpAddr>().map(|ip| AnnouncedIp::Fixed(ip.to_canonical())).map_err(|_| wrong())
    }))
}

fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    deserializer.deserialize_option(Optional(|text: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let wrong = || format!("host is \"{}\", expected a host name such as retracker.local", text.escape_default());
        (!text.is_empty() && text.bytes().all(allowed)).then(|| text.to_owned()).ok_or_else(wrong)
    }))
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    deserializer.deserialize_option(Optional(|text: &str| {
        let seconds = text.parse().ok().filter(|seconds| (0.1..=60.0).contains(seconds));
        let wrong = || format!("timeout is \"{}\", expected seconds from 0.1 to 60, such as 10", text.escape_default());
        seconds.map(Duration::from_secs_f64).ok_or_else(wrong)
    }))
}

fn numwant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    deserializer.deserialize_option(Optional(|text: &str| {
        let wrong =
            || format!("numwant is \"{}\", expected a whole number from 1 to 1000, such as 200", text.escape_default());
        text.parse().ok().filter(|numwant| (1..=1000).contains(numwant)).ok_or_else(wrong)
    }))
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    deserializer.deserialize_option(Optional(|text: &str| {
        let wrong =
            || format!("rate is \"{}\", expected a whole number from 1 to 100000, such as 200", text.escape_default());
        text.parse().ok().filter(|rate: &NonZeroU32| rate.get() <= 100_000).ok_or_else(wrong)
    }))
}

fn info_hashes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeSet<InfoHash>>, D::Error> {
    #[derive(Deserialize)]
    struct Hex(#[serde(deserialize_with = "info_hash")] InfoHash);
    let hashes: Option<Vec<Hex>> = Option::deserialize(deserializer)?;
    Ok(hashes.map(|hashes| hashes.into_iter().map(|Hex(info_hash)| info_hash).collect()))
}

fn info_hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<InfoHash, D::Error> {
    deserializer.deserialize_str(Text(|text: &str| {
        let wrong = || {
            let found = text.escape_default();
            format!("the info-hash is \"{found}\", expected 40 hexadecimal digits, or the 64 of a v2 torrent")
        };
        text.parse().map_err(|_| wrong())
    }))
}

#[cfg(test)]
mod tests;
