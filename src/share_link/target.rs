//! The engine through which the instances share swarms, as the operator's URL names it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use thiserror::Error;

use super::address::EngineAddress;

/// The port of Redis and Valkey.
const PORT: u16 = 6379;
/// The port of Sentinel.
const SENTINEL_PORT: u16 = 26379;

/// How the instances share their swarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareOptions {
    /// The engine.
    pub target: EngineTarget,
    /// The beginning of the names of all keys.
    pub name: String,
    /// A new instance counts as ready after this time, even if it has not caught up with the other instances yet.
    pub warm_up: Duration,
}

/// The place of an engine and the login for it, from a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineTarget {
    pub(super) place: EnginePlace,
    pub(super) user: Option<String>,
    pub(super) password: Option<EnginePassword>,
    /// The password of the Sentinels. If there is none, a Sentinel that wants a password gets the password of the
    /// server.
    pub(super) sentinel_password: Option<EnginePassword>,
    pub(super) database: u16,
}

/// Where the engine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EnginePlace {
    Tcp(EngineAddress),
    Tls(EngineAddress),
    Unix(PathBuf),
    /// The primary of this name. The Sentinels tell which server is the primary now.
    Sentinel {
        sentinels: Vec<EngineAddress>,
        primary: String,
    },
}

/// A password that must not appear in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct EnginePassword(pub String);

impl fmt::Debug for EnginePassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnginePassword(..)")
    }
}

/// The text is not the URL of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the URL of an engine")]
pub struct NotAnEngine;

impl EngineTarget {
    /// Returns the same engine with this password instead of the password in the URL.
    #[must_use]
    pub fn with_password(self, password: EnginePassword) -> Self {
        Self { password: Some(password), ..self }
    }

    /// Returns the same engine, whose Sentinels have a password of their own.
    #[must_use]
    pub fn with_sentinel_password(self, password: EnginePassword) -> Self {
        Self { sentinel_password: Some(password), ..self }
    }

    /// Returns the engine as Chihaya reads the URL: to Chihaya, a user without a password is the password.
    #[must_use]
    pub fn as_chihaya_means(self) -> Self {
        match self.user {
            Some(password) if self.password.is_none() => {
                Self { user: None, password: Some(EnginePassword(password)), ..self }
            }
            _ => self,
        }
    }

    /// Returns whether the URL names a user without a password. The engine would refuse such a user.
    pub fn lacks_password(&self) -> bool {
        self.user.is_some() && self.password.is_none()
    }
}

impl FromStr for EngineTarget {
    type Err = NotAnEngine;

    fn from_str(text: &str) -> Result<Self, NotAnEngine> {
        let (scheme, rest) = text.split_once("://").ok_or(NotAnEngine)?;
        let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let (user, password) = login.map_or(Ok((None, None)), read_login)?;
        if rest.contains(['?', '#']) {
            return Err(NotAnEngine);
        }
        if scheme == "redis+unix" {
            let path = PathBuf::from(decoded(rest)?);
            let place = if path.is_absolute() { EnginePlace::Unix(path) } else { return Err(NotAnEngine) };
            return Ok(Self { place, user, password, sentinel_password: None, database: 0 });
        }
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (place, database) = match scheme {
            "redis" => (EnginePlace::Tcp(EngineAddress::read(hosts, PORT).ok_or(NotAnEngine)?), path),
            "rediss" => (EnginePlace::Tls(EngineAddress::read(hosts, PORT).ok_or(NotAnEngine)?), path),
            "redis+sentinel" => {
                let sentinels = hosts.split(',').map(|host| EngineAddress::read(host, SENTINEL_PORT));
                let sentinels = sentinels.collect::<Option<Vec<_>>>().ok_or(NotAnEngine)?;
                let (primary, database) = path.split_once('/').unwrap_or((path, ""));
                let primary = Some(decoded(primary)?).filter(|primary| !primary.is_empty()).ok_or(NotAnEngine)?;
                (EnginePlace::Sentinel { sentinels, primary }, database)
            }
            _ => return Err(NotAnEngine),
        };
        let database = if database.is_empty() { 0 } else { database.parse().map_err(|_| NotAnEngine)? };
        Ok(Self { place, user, password, sentinel_password: None, database })
    }
}

/// Reads the user and the password, which stand before the `@`.
fn read_login(login: &str) -> Result<(Option<String>, Option<EnginePassword>), NotAnEngine> {
    let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
    let user = Some(decoded(user)?).filter(|user| !user.is_empty());
    let password = password.filter(|password| !password.is_empty()).map(decoded).transpose()?;
    Ok((user, password.map(EnginePassword)))
}

fn decoded(text: &str) -> Result<String, NotAnEngine> {
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| NotAnEngine)
}

/// The engine without its user and password, for logs and pages.
impl fmt::Display for EngineTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            EnginePlace::Tcp(address) => write!(f, "redis://{address}")?,
            EnginePlace::Tls(address) => write!(f, "rediss://{address}")?,
            EnginePlace::Unix(path) => write!(f, "redis+unix://{}", path.display())?,
            EnginePlace::Sentinel { sentinels, primary } => {
                let sentinels: Vec<_> = sentinels.iter().map(ToString::to_string).collect();
                write!(f, "redis+sentinel://{}/{primary}", sentinels.join(","))?;
            }
        }
        if self.database > 0 { write!(f, "/{}", self.database) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_engines() {
        for (text, shown, user, password) in [
            ("redis://redis.lan", "redis://redis.lan:6379", None, None),
            ("redis://redis.lan/", "redis://redis.lan:6379", None, None),
            ("redis://10.0.0.1:7000/3", "redis://10.0.0.1:7000/3", None, None),
            ("redis://:p%40ss@[fd00::1]", "redis://[fd00::1]:6379", None, Some("p@ss")),
            ("redis://tracker@host", "redis://host:6379", Some("tracker"), None),
            ("rediss://tracker:a:b@host:1", "rediss://host:1", Some("tracker"), Some("a:b")),
            ("redis+unix:///run/redis%20a.sock", "redis+unix:///run/redis a.sock", None, None),
            ("redis+sentinel://a,b:7,[::1]/mymaster", "redis+sentinel://a:26379,b:7,[::1]:26379/mymaster", None, None),
            ("redis+sentinel://:pw@a/main/2", "redis+sentinel://a:26379/main/2", None, Some("pw")),
        ] {
            let target: EngineTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), shown, "{text}");
            assert_eq!(target.user.as_deref(), user, "{text}");
            assert_eq!(target.password, password.map(|text| EnginePassword(text.to_owned())), "{text}");
            assert!(!format!("{target:?}").contains("pw"), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_of_an_engine() {
        for text in [
            "",
            "redis",
            "redis:",
            "redis://",
            "http://host",
            "redis:host",
            "redis://host:0",
            "redis://host:99999",
            "redis://host/a",
            "redis://host/99999",
            "redis://host?db=1",
            "redis://a,b",
            "redis://ho st",
            "redis://[::1",
            "redis://[host]",
            "redis+unix://relative.sock",
            "redis+sentinel://a",
            "redis+sentinel://a/",
            "redis+sentinel:///mymaster",
            "redis+sentinel://a,,b/mymaster",
            "redis://%ff@host",
        ] {
            assert_eq!(text.parse::<EngineTarget>(), Err(NotAnEngine), "{text}");
        }
    }
}
