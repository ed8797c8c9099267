//! `forwarders.yml`: a list of entries with a `uri` and what else is to be said of it; or a mapping with that list and with
//! settings for all entries.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use url::Url;

use super::ConfigError;
use super::yaml::{self, Optional, Problem, Text};
use crate::bittorrent::InfoHash;
use crate::forward::{self, AnnouncedIp, ForwarderOptions, Torrents};

/// Reads and checks the file. `setting` is what named it.
pub(super) fn read(setting: &'static str, path: &Path) -> Result<Vec<ForwarderOptions>, ConfigError> {
    yaml::read(setting, path, "a YAML file with a list of forwarders", parse)
}

fn parse(text: &str) -> Result<Vec<ForwarderOptions>, Problem> {
    // An empty file, or one with comments only, is an empty list.
    Ok(yaml::parse::<File>(text)?.map(File::into_options).unwrap_or_default())
}

/// The file: a list of entries, or a mapping with that list and settings for all.
#[derive(Debug)]
enum File {
    Plain(Vec<Checked>),
    WithCommon(Common),
}

/// What can be said of all entries. [`Entry`] has the same fields once more: serde's `flatten` would lose the lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Common {
    #[serde(default, deserialize_with = "timeout")]
    timeout: Option<Duration>,
    #[serde(default, deserialize_with = "numwant")]
    numwant: Option<u32>,
    #[serde(default, deserialize_with = "rate")]
    rate: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "info_hashes")]
    only: Option<BTreeSet<InfoHash>>,
    #[serde(default, deserialize_with = "info_hashes")]
    except: Option<BTreeSet<InfoHash>>,
    #[serde(default)]
    forwarders: Option<Vec<Checked>>,
}

impl File {
    fn into_options(self) -> Vec<ForwarderOptions> {
        let Common { timeout, numwant, rate, only, except, forwarders } = match self {
            Self::Plain(entries) => return entries.into_iter().map(|Checked(options)| options).collect(),
            Self::WithCommon(common) => common,
        };
        let torrents = torrents(only, except);
        let entries = forwarders.unwrap_or_default().into_iter();
        entries
            .map(|Checked(options)| ForwarderOptions {
                timeout: options.timeout.or(timeout),
                numwant: options.numwant.or(numwant),
                rate: options.rate.or(rate),
                // An entry's own list stands in the place of the common one.
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

/// By hand, as an untagged enum would lose the lines.
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
        let common = Common::deserialize(de::value::MapAccessDeserializer::new(map))?;
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

#[derive(Debug, Deserialize)]
#[serde(try_from = "Entry")]
struct Checked(ForwarderOptions);

impl TryFrom<Entry> for Checked {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        if entry.only.is_some() && entry.except.is_some() {
            return Err(ONLY_AND_EXCEPT.to_owned());
        }
        let options = entry.into_options();
        forward::check(&options)?;
        Ok(Self(options))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a forwarder with a uri, such as `- uri: http://1.2.3.4:8080/announce`")]
struct Entry {
    #[serde(deserialize_with = "uri")]
    uri: Url,
    #[serde(default)]
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
    #[serde(default, deserialize_with = "info_hashes")]
    only: Option<BTreeSet<InfoHash>>,
    #[serde(default, deserialize_with = "info_hashes")]
    except: Option<BTreeSet<InfoHash>>,
}

impl Entry {
    fn into_options(self) -> ForwarderOptions {
        // As the Go retracker names it: by the host and port of its URL, never by what may hold a passkey.
        let name = self.name.unwrap_or_else(|| forward::host_and_port(&self.uri));
        ForwarderOptions {
            name,
            uri: self.uri,
            ip: self.ip.unwrap_or_default(),
            host: self.host,
            timeout: self.timeout,
            numwant: self.numwant,
            rate: self.rate,
            torrents: torrents(self.only, self.except),
        }
    }
}

fn uri<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    deserializer.deserialize_str(Text(|text: &str| {
        // Not the value itself: it may hold a passkey, and this goes to a log. The line says where it is.
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
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        let Problem { line, problem } = parse(text).unwrap_err();
        format!("{}: {problem}", line.map_or("-".to_owned(), |line| line.to_string()))
    }

    #[test]
    fn the_seed_s_file() {
        let text = "\
- uri: http://1.2.3.4:8080/announce
- uri: http://5.6.7.8:8080/announce
- uri: http://5.6.7.8:8080/announce
  ip: 192.168.1.15 # announce different torrent client IP to this forwarder
- uri: http://192.168.1.1:8080/announce
  host: retracker.local # external retracker.local (like on picture above)
- uri: https://tracker.example/announce?passkey=secret
  name: example
";
        let entries = parse(text).unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["1.2.3.4:8080", "5.6.7.8:8080", "5.6.7.8:8080", "192.168.1.1:8080", "example"]);
        assert_eq!(entries[2].ip, AnnouncedIp::Fixed("192.168.1.15".parse().unwrap()));
        assert_eq!(entries[3].host.as_deref(), Some("retracker.local"));
        assert!(!format!("{entries:?}").contains("secret"));
    }

    #[test]
    fn nothing_is_an_empty_list() {
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse("# - uri: http://x/announce\n"), Ok(vec![]));
        assert_eq!(parse("[]"), Ok(vec![]));
    }

    #[test]
    fn all_that_can_be_said_of_an_entry_and_of_all() {
        let hash = "0123456789012345678901234567890123456789";
        let text = format!(
            "\
timeout: 3
numwant: 80
except: [{hash}]
forwarders:
  - uri: udp://tracker.example:6969/announce?x=y
    ip: client
  - uri: http://tracker.example/announce
    timeout: 0.5
    numwant: 1
    only:
      - {hash}
      - 89abcdefABCDEF0123456789012345678901234567890123456789012345678a
"
        );
        let [first, second]: [_; 2] = parse(&text).unwrap().try_into().unwrap();
        let info_hash = InfoHash(std::array::from_fn(|n| [0x01, 0x23, 0x45, 0x67, 0x89][n % 5]));
        assert_eq!((first.timeout, first.numwant), (Some(Duration::from_secs(3)), Some(80)));
        assert_eq!((first.ip, first.torrents), (AnnouncedIp::Client, Torrents::Except(BTreeSet::from([info_hash]))));
        assert_eq!((second.timeout, second.numwant), (Some(Duration::from_millis(500)), Some(1)));
        let Torrents::Only(only) = second.torrents else { panic!("{:?}", second.torrents) };
        assert!(only.len() == 2 && only.contains(&info_hash), "{only:?}");
        assert_eq!(parse("timeout: 3\n"), Ok(vec![]));
        assert_eq!(parse("forwarders:\n"), Ok(vec![]));
    }

    #[test]
    fn problems_name_the_line_and_the_remedy() {
        let told: Vec<_> = [
            "- uri: http://a/announce\n- url: http://b/announce\n",
            "- uri: http://a/announce\n  ip: example.com\n",
            "- uri: http://a/announce\n\n- uri: tracker.example/announce?key=secret\n",
            "- uri: ftp://a/announce\n",
            "- uri: udp://a/announce\n",
            "- uri: udp://a:80/announce\n  host: b\n",
            "- uri: udp://a:80/announce\n  ip: 'fd00::1'\n",
            "- uri: http://a/announce\n  host: 'a b'\n",
            "- uri: http://b/announce\n- uri: http://a/announce\n  host: 'a:b:c'\n",
            "- uri: http://a:0/announce\n",
            "- name: x\n",
            "- http://a/announce\n",
            "- uri: [\n",
            "- uri: http://a/announce\n\tip: 1.2.3.4\n",
            "- uri: http://a/announce\n  uri: http://b/announce\n",
            "- uri:\n",
            "- uri: http://a/announce\n  timeout: soon\n",
            "- uri: http://a/announce\n  timeout: 0\n",
            "- uri: http://a/announce\n  numwant: -1\n",
            "- uri: http://a/announce\n  only:\n    - 0123456789012345678901234567890123456789\n    - 0123\n",
            "- uri: http://a/announce\n  only: 0123456789012345678901234567890123456789\n",
            "- uri: http://b/announce\n- uri: http://a/announce\n  only: []\n  except: []\n",
            "a text",
            "forwarders: 7\n",
            "# all\ntimeouts: 7\n",
            "timeout: 61\nforwarders: []\n",
            "only: []\nexcept: []\n",
            "numwant: 10\nforwarders:\n  - uri: http://a/announce\n    numwant: none\n",
            "numwant: 10\nforwarders:\n  - uri: http://a/announce\n  - uri: http://a:0/announce\n",
        ]
        .into_iter()
        .map(problem)
        .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        2: unknown field `url`, expected one of `uri`, `name`, `ip`, `host`, `timeout`, `numwant`, `rate`, `only`, `except`
        2: ip is "example.com", expected an address such as 192.168.1.15, or client
        3: uri is no URL (relative URL without a base), expected an announce URL such as http://tracker.example:8080/announce
        1: uri has the scheme "ftp", only http, https and udp are supported, expected an announce URL such as http://tracker.example:8080/announce
        1: its uri names no port, and UDP trackers have no usual one
        1: it has a host, which means nothing over UDP
        1: its ip is an IPv6 address, for which there is no room in UDP announces
        2: host is "a b", expected a host name such as retracker.local
        1: its host is "a:b:c", but must be a name or an address, which may end in a port
        1: its uri names port 0, where nothing can listen
        1: missing field `uri`
        1: found a text, expected a forwarder with a uri, such as `- uri: http://1.2.3.4:8080/announce`
        1: invalid type: sequence, expected text
        2: found a tab character that violates indentation
        1: duplicate field `uri`
        1: uri is no URL (relative URL without a base), expected an announce URL such as http://tracker.example:8080/announce
        2: timeout is "soon", expected seconds from 0.1 to 60, such as 10
        2: timeout is "0", expected seconds from 0.1 to 60, such as 10
        2: numwant is "-1", expected a whole number from 1 to 1000, such as 200
        4: the info-hash is "0123", expected 40 hexadecimal digits, or the 64 of a v2 torrent
        2: found a text, expected a list
        1: it has both `only` and `except`, expected one of them
        1: found a text, expected a list of entries such as `- uri: http://1.2.3.4/announce`
        1: invalid type: integer `7`, expected a list
        2: unknown field `timeouts`, expected one of `timeout`, `numwant`, `rate`, `only`, `except`, `forwarders`
        1: timeout is "61", expected seconds from 0.1 to 60, such as 10
        1: it has both `only` and `except`, expected one of them
        4: numwant is "none", expected a whole number from 1 to 1000, such as 200
        3: its uri names port 0, where nothing can listen
        "#);
    }
}
