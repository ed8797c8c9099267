//! The host names under which the operator's pages are served.
//!
//! A web page can make its own name resolve to this tracker's address (DNS rebinding). The browser then lets it read
//! the tracker's pages as its own. But the Host header still has the page's name, so the operator's pages check the
//! header. Announces and scrapes ignore it.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A host name of this tracker (`--allowed-hosts`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    /// `*`: any name.
    Any,
    /// `retracker.example.com`, in lower case.
    Exactly(String),
    /// `*.example.com`: all names that end in `.example.com`. The text begins with the dot.
    Below(String),
}

/// The text is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAHostName;

impl FromStr for HostName {
    type Err = NotAHostName;

    fn from_str(text: &str) -> Result<Self, NotAHostName> {
        let text = text.trim_end_matches('.').to_ascii_lowercase();
        if text == "*" {
            return Ok(Self::Any);
        }
        let below = text.strip_prefix("*.");
        let name = below.unwrap_or(&text);
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(NotAHostName);
        }
        Ok(if below.is_some() { Self::Below(format!(".{name}")) } else { Self::Exactly(text) })
    }
}

/// Endings of names that do not exist on the internet. Only local name servers resolve them.
const LOCAL: [&str; 11] = [
    ".localhost",
    ".local",
    ".lan",
    ".home",
    ".home.arpa",
    ".internal",
    ".intranet",
    ".private",
    ".corp",
    ".localdomain",
    ".test",
];

/// The host names under which the operator's pages are served.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<HostName>);

impl Hosts {
    /// Allows the listed names, and names that a stranger cannot make resolve to this tracker: addresses, names without
    /// a dot, names of local networks, and the host's own name.
    pub fn new(listed: Vec<HostName>) -> Self {
        let own = rustix::system::uname();
        let own = own.nodename().to_str().ok().and_then(|name| name.parse().ok());
        // If the host's own name is `*`, it is left out, because it would allow all names.
        let own = own.filter(|name| matches!(name, HostName::Exactly(_)));
        Self(listed.into_iter().chain(own).collect())
    }

    /// Whether the value of a Host header is one of these names.
    pub fn has(&self, host: &[u8]) -> bool {
        let Ok(host) = std::str::from_utf8(host) else { return self.0.contains(&HostName::Any) };
        let host = host.trim();
        if let Some(rest) = host.strip_prefix('[') {
            return rest.split_once(']').is_some_and(|(ip, _)| ip.parse::<Ipv6Addr>().is_ok());
        }
        let name = host.split_once(':').map_or(host, |(name, _)| name);
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let is_listed = |listed: &HostName| match listed {
            HostName::Any => true,
            HostName::Exactly(exactly) => *exactly == name,
            HostName::Below(below) => name.ends_with(below.as_str()),
        };
        !name.contains('.')
            || name.parse::<IpAddr>().is_ok()
            || LOCAL.iter().any(|below| name.ends_with(below))
            || self.0.iter().any(is_listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_strangers_cannot_control_are_served() {
        let hosts = Hosts(vec!["Retracker.example.com".parse().unwrap(), "*.example.net.".parse().unwrap()]);
        for host in [
            "",
            "192.168.1.5",
            "192.168.1.5:8080",
            "[fd00::5]:8080",
            "[::1]",
            "localhost:80",
            "retracker",
            "retracker:8080",
            "retracker.local",
            "RETRACKER.LAN.:80",
            "a.b.home.arpa",
            "retracker.example.com:8080",
            "retracker.EXAMPLE.com.",
            "a.example.net",
            "a.b.example.net:1",
        ] {
            assert!(hosts.has(host.as_bytes()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "evil.example.",
            "192.168.1.5.evil.example",
            "retracker.local.evil.example",
            "evillan.example",
            "xretracker.example.com",
            "a.retracker.example.com",
            "example.net",
            "xexample.net",
            "[evil.example]",
            "[::1",
            "192.168.1.5@evil.example",
            "\u{e9}.example",
        ] {
            assert!(!hosts.has(host.as_bytes()), "{host}");
        }
        assert!(!hosts.has(b"\xff.example"));
        let any = Hosts(vec![HostName::Any]);
        assert!(any.has(b"evil.example") && any.has(b"\xff.example"));
    }

    #[test]
    fn listed_names_are_parsed() {
        for name in ["retracker.example.com", "*", "*.example.com", "a_b", "xn--80ak6aa92e.com", "192.168.1.5"] {
            assert!(name.parse::<HostName>().is_ok(), "{name}");
        }
        for name in ["", ".", "a b", "a.example:80", "http://a.example", "a..b", "a.*.example", "\u{e9}.example"] {
            assert_eq!(name.parse::<HostName>(), Err(NotAHostName), "{name}");
        }
    }
}
