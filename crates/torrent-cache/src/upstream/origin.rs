//! The origins of servers, and the list of the servers that this program fetches from.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::{Host, Url};

/// Names of Docker Hub that are not the host of its registry.
const DOCKER_HUB: [&str; 2] = ["docker.io", "index.docker.io"];

/// The host of Docker Hub's registry.
const DOCKER_HUB_REGISTRY: &str = "registry-1.docker.io";

/// The protocol that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UpstreamScheme {
    /// HTTP without encryption.
    Http,
    /// HTTP over TLS.
    Https,
}

impl UpstreamScheme {
    /// Returns `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Returns the port that URLs of this scheme leave out.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A server: scheme, host and port. `registry-1.docker.io`, `quay.io:443` and `https://quay.io` mean https,
/// `http://10.0.0.5:5000` means http.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpstreamOrigin {
    scheme: UpstreamScheme,
    /// In lower case; an IPv6 address without brackets.
    host: Host,
    port: u16,
}

/// Why a text is not an origin. The error continues a sentence that begins with the name of the setting.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotAnOrigin {
    /// The text is empty.
    #[error("is empty, expected a host such as registry-1.docker.io")]
    Empty,
    /// The text has another scheme.
    #[error("begins with {0}://, expected http:// or https://")]
    Scheme(String),
    /// The text has a user name or a password.
    #[error("holds a user name or password, expected a host and a port only; credentials belong in REGISTRY_AUTH_FILE")]
    Login,
    /// The text has a path, a query or a fragment.
    #[error("goes on after the host, expected a host and a port only, such as quay.io or http://10.0.0.5:5000")]
    Path,
    /// The host or the port is not valid.
    #[error("is not a host with an optional port ({0})")]
    Host(String),
}

impl UpstreamOrigin {
    /// Returns the scheme.
    pub fn scheme(&self) -> UpstreamScheme {
        self.scheme
    }

    /// Returns the host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the host, followed by the port if it is not the scheme's default: `quay.io`, `10.0.0.5:5000`,
    /// `[::1]:5000`.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Returns the origin of a URL. Returns `None` if the scheme is neither http nor https, or if the host has an empty
    /// label.
    pub fn of(url: &Url) -> Option<Self> {
        let scheme = match url.scheme() {
            "http" => UpstreamScheme::Http,
            "https" => UpstreamScheme::Https,
            _ => return None,
        };
        // The dot of an absolute name is dropped, so that each name has only one form.
        let host = match url.host()?.to_owned() {
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(&name);
                if name.split('.').any(str::is_empty) {
                    return None;
                }
                Host::Domain(name.to_owned())
            }
            ip => ip,
        };
        Some(Self { scheme, host, port: url.port().unwrap_or(scheme.default_port()) })
    }
}

impl FromStr for UpstreamOrigin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => UpstreamScheme::Http,
            "https" => UpstreamScheme::Https,
            other => return Err(NotAnOrigin::Scheme(other.to_owned())),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Err(NotAnOrigin::Empty);
        }
        if rest.contains('@') {
            return Err(NotAnOrigin::Login);
        }
        if rest.contains(['/', '?', '#', '\\']) {
            return Err(NotAnOrigin::Path);
        }
        let url = Url::parse(&format!("{}://{rest}", scheme.as_str()));
        let url = url.map_err(|error| NotAnOrigin::Host(error.to_string()))?;
        let mut origin = Self::of(&url).ok_or_else(|| NotAnOrigin::Host("a part of the host is empty".to_owned()))?;
        if matches!(&origin.host, Host::Domain(name) if DOCKER_HUB.contains(&name.as_str())) {
            origin.host = Host::Domain(DOCKER_HUB_REGISTRY.to_owned());
        }
        Ok(origin)
    }
}

/// Writes the origin as `FromStr` reads it. `https://` is left out.
impl fmt::Display for UpstreamOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            UpstreamScheme::Http => write!(f, "http://{}", self.authority()),
            UpstreamScheme::Https => f.write_str(&self.authority()),
        }
    }
}

/// The servers that this program fetches from. It asks another server only if one of these redirects to that server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstreams {
    default: UpstreamOrigin,
    listed: Vec<UpstreamOrigin>,
}

impl Upstreams {
    /// Makes the list. `default` serves requests that name no server. Requests can name the default server and those in
    /// `listed`.
    pub fn new(default: UpstreamOrigin, listed: Vec<UpstreamOrigin>) -> Self {
        Self { default, listed }
    }

    /// Returns the server for requests that name no server.
    pub fn default_origin(&self) -> &UpstreamOrigin {
        &self.default
    }

    /// Returns all servers. The default server is the first.
    pub fn all(&self) -> impl Iterator<Item = &UpstreamOrigin> {
        std::iter::once(&self.default).chain(&self.listed)
    }

    /// Returns the listed server with this host and optional port, as a request names it. The scheme comes from the
    /// list: a request for `http://host/` reaches a server that is listed as `host` over TLS. `docker.io` means Docker
    /// Hub's registry.
    pub fn find(&self, host_and_port: &str) -> Option<&UpstreamOrigin> {
        if host_and_port.contains("://") {
            return None;
        }
        // The text has no scheme, and each scheme has its own default port. So the text is read with both schemes.
        let https: UpstreamOrigin = host_and_port.parse().ok()?;
        let http: UpstreamOrigin = format!("http://{host_and_port}").parse().ok()?;
        self.all().find(|origin| **origin == https || **origin == http)
    }

    /// Whether any port of this host is listed.
    pub(super) fn lists_host(&self, host: &Host) -> bool {
        self.all().any(|origin| origin.host == *host)
    }

    /// Whether exactly this server is listed.
    pub(super) fn lists(&self, origin: &UpstreamOrigin) -> bool {
        self.all().any(|listed| listed == origin)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin(text: &str) -> UpstreamOrigin {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn an_origin_is_read_as_people_write_it() {
        for (text, scheme, authority, port, shown) in [
            ("registry-1.docker.io", UpstreamScheme::Https, "registry-1.docker.io", 443, "registry-1.docker.io"),
            ("docker.io", UpstreamScheme::Https, "registry-1.docker.io", 443, "registry-1.docker.io"),
            ("Index.Docker.io", UpstreamScheme::Https, "registry-1.docker.io", 443, "registry-1.docker.io"),
            ("quay.io:443", UpstreamScheme::Https, "quay.io", 443, "quay.io"),
            ("https://quay.io/", UpstreamScheme::Https, "quay.io", 443, "quay.io"),
            ("QUAY.io.", UpstreamScheme::Https, "quay.io", 443, "quay.io"),
            ("http://10.0.0.5:5000", UpstreamScheme::Http, "10.0.0.5:5000", 5000, "http://10.0.0.5:5000"),
            ("http://a", UpstreamScheme::Http, "a", 80, "http://a"),
            ("http://a:443", UpstreamScheme::Http, "a:443", 443, "http://a:443"),
            ("localhost:5000", UpstreamScheme::Https, "localhost:5000", 5000, "localhost:5000"),
            (" [::1]:5000 ", UpstreamScheme::Https, "[::1]:5000", 5000, "[::1]:5000"),
        ] {
            let origin = origin(text);
            assert_eq!(
                (origin.scheme(), origin.authority().as_str(), origin.port()),
                (scheme, authority, port),
                "{text}"
            );
            assert_eq!(origin.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_with_the_reason() {
        let refused = |text: &str| text.parse::<UpstreamOrigin>().unwrap_err();
        assert_eq!(refused(""), NotAnOrigin::Empty);
        assert_eq!(refused("https://"), NotAnOrigin::Empty);
        assert_eq!(refused("ftp://a"), NotAnOrigin::Scheme("ftp".to_owned()));
        assert_eq!(refused("user:secret@a"), NotAnOrigin::Login);
        for text in ["a/v2", "a//", "a?x", "a#x", "http://a/b", "a\\b"] {
            assert_eq!(refused(text), NotAnOrigin::Path, "{text}");
        }
        for text in ["a:65536", "a:x", "a b", ":5000", "[::1", "a:5:6", ".", "a..", "a..b", ".a"] {
            assert!(matches!(refused(text), NotAnOrigin::Host(_)), "{text}");
        }
        assert!(!refused("user:secret@a").to_string().contains("secret"));
    }

    #[test]
    fn a_listed_server_is_found_by_what_requests_say() {
        let list = ["quay.io", "http://10.0.0.5:5000", "http://plain", "localhost:5000"];
        let upstreams = Upstreams::new(origin("docker.io"), list.map(origin).to_vec());
        for (name, found) in [
            ("docker.io", Some("registry-1.docker.io")),
            ("registry-1.docker.io", Some("registry-1.docker.io")),
            ("quay.io", Some("quay.io")),
            ("quay.io:443", Some("quay.io")),
            ("Quay.IO", Some("quay.io")),
            ("10.0.0.5:5000", Some("http://10.0.0.5:5000")),
            ("plain", Some("http://plain")),
            ("plain:80", Some("http://plain")),
            ("localhost:5000", Some("localhost:5000")),
            ("quay.io:80", None),
            ("quay.io:5000", None),
            ("localhost", None),
            ("10.0.0.5", None),
            ("evil.example", None),
            ("quay.io.evil.example", None),
            ("user@quay.io", None),
            ("quay.io/x", None),
            ("http://quay.io", None),
            ("", None),
        ] {
            assert_eq!(upstreams.find(name).map(ToString::to_string).as_deref(), found, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_origin_or_not(text: String) {
            if let Ok(origin) = text.parse::<UpstreamOrigin>() {
                prop_assert_eq!(origin.to_string().parse(), Ok(origin));
            }
        }
    }
}
