//! `access.yml`: rules about who may announce. Each rule is an optional section.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::settings::{Origin, Sources};
use serde::{Deserialize, Deserializer, de};
use tracker_protocol::InfoHash;
use trust::Authorities;
use url::Url;

use super::error::ConfigError;
use super::networks;
use super::settings::ACCESS;
use super::yaml::{self, Fields, Mapping, Optional, Text};
use crate::access::{
    AccessOptions, ClientPrefix, Issuers, JwtOptions, KeySource, ListRule, NetworkSet, RefusalWording, TorrentSet,
};

/// How often the keys are fetched again unless the file says otherwise.
const DEFAULT_REFRESH: Duration = Duration::from_mins(5);

/// The path of `access.yml`.
#[derive(Clone, Debug)]
pub struct AccessFile {
    /// The flag or variable that named the file.
    origin: Origin,
    path: PathBuf,
}

impl AccessFile {
    pub(super) fn given(sources: &Sources<'_>) -> Result<Option<Self>, ConfigError> {
        Ok(ACCESS.given(sources)?.map(|file| Self { origin: file.origin, path: file.value }))
    }

    /// Reads and checks the file, and the files of info-hashes that it names.
    pub fn read(&self) -> Result<AccessOptions, ConfigError> {
        let entry = yaml::read(self.origin, &self.path, ACCESS.expected, |text| {
            let parsed = yaml::parse::<Mapping<AccessEntry>>(text)?;
            Ok(parsed.map(|Mapping(entry)| entry).unwrap_or_default())
        })?;
        entry.into_options(self.path.parent().unwrap_or(Path::new("")))
    }
}

impl fmt::Display for AccessFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessEntry {
    #[serde(default)]
    networks: Option<Mapping<RuleEntry<ListedNetwork>>>,
    #[serde(default)]
    clients: Option<Mapping<RuleEntry<ListedClient>>>,
    #[serde(default)]
    torrents: Option<Mapping<RuleEntry<ListedTorrents>>>,
    #[serde(default)]
    jwt: Option<Mapping<JwtEntry>>,
}

impl Fields for AccessEntry {
    type Checked = Self;
    const EXPECTED: &'static str = "access rules: a mapping with networks, clients, torrents or jwt";

    fn check(self) -> Result<Self, String> {
        Ok(self)
    }
}

impl AccessEntry {
    /// Makes the options. Paths in `access.yml` are relative to its `folder`.
    fn into_options(self, folder: &Path) -> Result<AccessOptions, ConfigError> {
        let torrents = self.torrents.map(|Mapping(rule)| match rule {
            ListRule::Allow(listed) => torrents(listed, folder).map(ListRule::Allow),
            ListRule::Deny(listed) => torrents(listed, folder).map(ListRule::Deny),
        });
        let networks = self.networks.map(|Mapping(rule)| match rule {
            ListRule::Allow(listed) => ListRule::Allow(network_set(listed)),
            ListRule::Deny(listed) => ListRule::Deny(network_set(listed)),
        });
        let prefixes = |listed: Vec<ListedClient>| listed.into_iter().map(|ListedClient(prefix)| prefix).collect();
        let clients = self.clients.map(|Mapping(rule)| match rule {
            ListRule::Allow(listed) => ListRule::Allow(prefixes(listed)),
            ListRule::Deny(listed) => ListRule::Deny(prefixes(listed)),
        });
        let jwt = self.jwt.map(|Mapping(options)| options.in_folder(folder));
        Ok(AccessOptions {
            networks,
            clients,
            torrents: torrents.transpose()?,
            jwt,
            registered: None,
            wording: RefusalWording::Own,
        })
    }
}

fn network_set(listed: Vec<ListedNetwork>) -> NetworkSet {
    listed.into_iter().map(|ListedNetwork(network)| network).collect()
}

/// A rule with a list, which is below either `allow` or `deny`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Listed"))]
struct RuleEntry<T: Listed> {
    #[serde(default)]
    allow: Option<Many<T>>,
    #[serde(default)]
    deny: Option<Many<T>>,
}

impl<T: Listed> Fields for RuleEntry<T> {
    type Checked = ListRule<Vec<T>>;
    const EXPECTED: &'static str = "a mapping with `allow` or `deny`";

    fn check(self) -> Result<ListRule<Vec<T>>, String> {
        match (self.allow, self.deny) {
            (Some(Many(listed)), None) => Ok(ListRule::Allow(listed)),
            (None, Some(Many(listed))) => Ok(ListRule::Deny(listed)),
            (Some(_), Some(_)) => Err("it has both `allow` and `deny`, expected one of them".to_owned()),
            (None, None) => Err("it has neither `allow` nor `deny`, expected one of them".to_owned()),
        }
    }
}

trait Listed: Sized {
    /// Parses an entry. The error says what was found and what is expected.
    fn read(text: &str) -> Result<Self, String>;
}

#[derive(Debug)]
struct ListedNetwork(ipnet::IpNet);

impl Listed for ListedNetwork {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("the network is \"{}\", expected one such as 192.168.1.0/24", text.escape_default());
        networks::network(text).map(Self).map_err(|_| wrong())
    }
}

#[derive(Debug)]
struct ListedClient(ClientPrefix);

impl Listed for ListedClient {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("the client is \"{}\", expected the beginning of a peer id such as -TR40", text.escape_default())
        };
        text.parse().map(Self).map_err(|_| wrong())
    }
}

/// An info-hash, or the path of a file of info-hashes.
#[derive(Debug)]
enum ListedTorrents {
    One(InfoHash),
    File(PathBuf),
}

impl Listed for ListedTorrents {
    fn read(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Self::File(path.trim().into()));
        }
        text.parse().map(Self::One).map_err(|_| {
            let found = text.escape_default();
            format!(
                "the torrent is \"{found}\", expected the 40 or 64 hexadecimal digits of an info-hash, or file:PATH"
            )
        })
    }
}

#[derive(Debug)]
struct ListedText(String);

impl Listed for ListedText {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("the text is empty, expected a name".to_owned()) } else { Ok(Self(text.to_owned())) }
    }
}

/// One value or a list of values.
#[derive(Debug)]
struct Many<T>(Vec<T>);

impl<'de, T: Listed> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One<T>(T);
        impl<'de, T: Listed> Deserialize<'de> for One<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(|text: &str| T::read(text))).map(Self)
            }
        }
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Listed> de::Visitor<'de> for Visitor<T> {
            type Value = Many<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Many<T>, E> {
                T::read(text).map(|one| Many(vec![one])).map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut entries: A) -> Result<Many<T>, A::Error> {
                let mut many = Vec::new();
                while let Some(One(one)) = entries.next_element()? {
                    many.push(one);
                }
                Ok(Many(many))
            }
        }
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

fn torrents(listed: Vec<ListedTorrents>, folder: &Path) -> Result<TorrentSet, ConfigError> {
    let mut hashes = Vec::new();
    for listed in listed {
        match listed {
            ListedTorrents::One(hash) => hashes.push(hash),
            ListedTorrents::File(path) => read_hashes(&folder.join(path), &mut hashes)?,
        }
    }
    Ok(hashes.into_iter().collect())
}

/// Reads one info-hash from each line. Skips empty lines, and text after a `#`.
fn read_hashes(path: &Path, hashes: &mut Vec<InfoHash>) -> Result<(), ConfigError> {
    let wrong = |line, problem: String| ConfigError::File { path: path.to_owned(), line, problem };
    let unreadable =
        |line, error: std::io::Error| wrong(line, format!("it cannot be read ({error}), expected info-hashes"));
    let file = File::open(path).map_err(|error| unreadable(None, error))?;
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.map_err(|error| unreadable(Some(number), error))?;
        let text = line.split('#').next().unwrap_or_default().trim();
        if !text.is_empty() {
            let hash = text.parse().map_err(|_| {
                let found = text.escape_default();
                wrong(
                    Some(number),
                    format!("found \"{found}\", expected the 40 or 64 hexadecimal digits of an info-hash"),
                )
            });
            hashes.push(hash?);
        }
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct JwtEntry {
    #[serde(deserialize_with = "keys")]
    keys: KeySource,
    #[serde(default, deserialize_with = "ca")]
    ca: Option<Authorities>,
    issuer: Many<ListedText>,
    audience: Many<ListedText>,
    #[serde(default, deserialize_with = "refresh")]
    refresh: Option<Duration>,
    #[serde(default)]
    protect_scrape: bool,
    #[serde(default)]
    require_expiry: bool,
}

impl Fields for JwtEntry {
    type Checked = JwtOptions;
    const EXPECTED: &'static str = "a mapping with keys, issuer and audience";

    fn check(self) -> Result<JwtOptions, String> {
        let texts = |Many(texts): Many<ListedText>| texts.into_iter().map(|ListedText(text)| text).collect::<Vec<_>>();
        let (issuers, audiences) = (texts(self.issuer), texts(self.audience));
        if issuers.is_empty() || audiences.is_empty() {
            return Err("its issuer or its audience is an empty list, expected a name in each".to_owned());
        }
        let is_https = matches!(&self.keys, KeySource::Url(url) if url.scheme() == "https");
        if self.ca.is_some() && !is_https {
            return Err("it has a ca, which only keys at https:// can use".to_owned());
        }
        Ok(JwtOptions {
            keys: self.keys,
            ca: self.ca,
            issuers: Issuers::Listed(issuers),
            audiences,
            refresh: self.refresh.unwrap_or(DEFAULT_REFRESH),
            protect_scrape: self.protect_scrape,
            require_expiry: self.require_expiry,
        })
    }
}

fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeySource, D::Error> {
    deserializer.deserialize_str(Text(|text: &str| {
        if !text.contains("://") {
            let wrong = || "keys is empty, expected the URL or the path of a JWK set".to_owned();
            return if text.is_empty() { Err(wrong()) } else { Ok(KeySource::File(text.into())) };
        }
        // The error does not show the value, which may hold a secret.
        let wrong = || "keys is no URL of http or https, expected one such as https://registry.example/keys".to_owned();
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.map(KeySource::Url).ok_or_else(wrong)
    }))
}

fn ca<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Authorities>, D::Error> {
    deserializer.deserialize_option(Optional(|text: &str| Authorities::read(Path::new(text))))
}

fn refresh<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    deserializer.deserialize_option(Optional(|text: &str| {
        let wrong = || format!("refresh is \"{}\", expected 10s to 24h, such as 5m", text.escape_default());
        let unit = match text.chars().last() {
            Some('s') => Duration::from_secs(1),
            Some('m') => Duration::from_mins(1),
            Some('h') => Duration::from_hours(1),
            _ => return Err(wrong()),
        };
        let count = text.get(..text.len() - 1).and_then(|count| count.parse::<u32>().ok()).ok_or_else(wrong)?;
        let limits = Duration::from_secs(10)..=Duration::from_hours(24);
        unit.checked_mul(count).filter(|refresh| limits.contains(refresh)).ok_or_else(wrong)
    }))
}

#[cfg(test)]
mod tests;
