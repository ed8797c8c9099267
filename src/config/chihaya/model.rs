//! What a configuration says, in one form for all generations of Chihaya.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use tracker_protocol::InfoHash;
use url::Url;

use crate::frontend::client_address::RealIpHeader;
use crate::frontend::listen::{Listen, UdpListenAddr};
use crate::frontend::routes::RoutePattern;
use crate::share_link::EngineTarget;
use crate::tracker::IntervalVariation;

/// Chihaya's forms of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChihayaGeneration {
    /// `config.json` of v1.0.
    V1,
    /// `chihaya.yaml` of v2.0.0-rc.1: `storage` has no `name`.
    V2Rc1,
    /// `chihaya.yaml` of v2.0.0-rc.2 and later versions.
    V2,
}

impl fmt::Display for ChihayaGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1.0",
            Self::V2Rc1 => "v2.0.0-rc.1",
            Self::V2 => "v2.0.0-rc.2 or newer",
        })
    }
}

/// Everything that a configuration of Chihaya says, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct ChihayaConfig {
    /// The form that the configuration is in.
    pub generation: ChihayaGeneration,
    /// Seconds until a client should announce again.
    pub interval: u32,
    /// Seconds before which a client should not announce again.
    pub min_interval: u32,
    /// How long a peer is kept after its latest announce.
    pub peer_age: Duration,
    /// Announces and scrapes over HTTP.
    pub http: Option<ChihayaHttp>,
    /// Announces and scrapes over UDP.
    pub udp: Option<ChihayaUdp>,
    /// Where metrics are served; in v2 only.
    pub metrics: Option<Listen>,
    /// Where the API is served; in v1 only.
    pub api: Option<ChihayaApi>,
    /// The rule that announces need tokens.
    pub tokens: Option<TokenRule>,
    /// Which clients may announce.
    pub clients: Option<Approval<[u8; 6]>>,
    /// Which torrents may be announced.
    pub torrents: Option<Approval<InfoHash>>,
    /// Whether the first announce of a torrent creates the torrent. If not, the API of v1 must add the torrent first.
    pub create_on_announce: bool,
    /// Whether a client gets only peers of its own address family (an option of v1).
    pub respect_address_family: bool,
    /// Which share of the replies gets a longer interval, and how much longer it is.
    pub interval_variation: Option<IntervalVariation>,
    /// The server through which instances share their swarms (v2 only).
    pub share: Option<EngineTarget>,
}

/// Announces and scrapes over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct ChihayaHttp {
    /// Where to listen without TLS.
    pub listen: Option<Listen>,
    /// Where to listen with TLS, and the certificate.
    pub tls: Option<ChihayaTls>,
    /// The time limits of connections.
    pub timeouts: HttpTimeouts,
    /// Whether a connection may carry several requests.
    pub keep_alive: bool,
    /// How many connections there may be.
    pub max_connections: Option<NonZeroUsize>,
    /// Where announces are served.
    pub announce_routes: Vec<RoutePattern>,
    /// Where scrapes are served.
    pub scrape_routes: Vec<RoutePattern>,
    /// The header with the client's address, which is trusted from any sender.
    pub real_ip_header: Option<RealIpHeader>,
    /// What clients may ask for.
    pub requests: RequestRules,
}

/// The listener for HTTPS.
#[derive(Clone, Debug, PartialEq)]
pub struct ChihayaTls {
    /// Where to listen.
    pub listen: Listen,
    /// The file of the certificate chain, in PEM.
    pub certificate: PathBuf,
    /// The file of the certificate's key, in PEM.
    pub key: PathBuf,
}

/// The time limits of HTTP. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// How long a request may take to arrive.
    pub read: Option<Duration>,
    /// How long a reply may take to be sent.
    pub write: Option<Duration>,
    /// How long a connection may be idle between two requests.
    pub idle: Option<Duration>,
    /// How long requests under way may take after a stop signal.
    pub drain: Option<Duration>,
}

/// Announces and scrapes over UDP.
#[derive(Clone, Debug, PartialEq)]
pub struct ChihayaUdp {
    /// Where to listen.
    pub listen: UdpListenAddr,
    /// The key of connection ids. Instances with the same key accept each other's ids.
    pub private_key: Option<PrivateKey>,
    /// How much the clocks of instances with the same key may differ.
    pub max_clock_skew: Duration,
    /// What clients may ask for.
    pub requests: RequestRules,
}

/// A key that must not appear in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(pub String);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// What clients may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestRules {
    /// Whether clients may announce another address with `ip`, `ipv4` and `ipv6`.
    pub ip_spoofing: bool,
    /// The most peers in a reply. `None` in v1, which knows no limit.
    pub max_numwant: Option<u32>,
    /// The number of peers for a client that does not say how many it wants.
    pub default_numwant: u32,
    /// The most torrents in a scrape. `None` in v1 and rc.1, which know no limit.
    pub max_scrape: Option<u32>,
}

/// v1's API.
#[derive(Clone, Debug, PartialEq)]
pub struct ChihayaApi {
    /// Where to listen.
    pub listen: Listen,
    /// The time limits of connections.
    pub timeouts: HttpTimeouts,
    /// How many connections there may be.
    pub max_connections: Option<NonZeroUsize>,
}

/// The rule that an announce must carry a token for its torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRule {
    /// Where the keys are.
    pub keys: KeySetUrl,
    /// Who must have issued the token. `None` in v1: the JWK set names the issuer.
    pub issuer: Option<String>,
    /// For whom the token must have been issued.
    pub audience: String,
    /// How often the keys are fetched.
    pub refresh: Duration,
}

/// Where the keys of tokens are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetUrl {
    /// The keys are at this URL.
    Url(Url),
    /// The file has a placeholder of the documentation, such as `{QE LOCATION}`. No token can be verified.
    Placeholder(String),
}

/// Which clients or torrents are approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval<T> {
    /// Only the listed clients or torrents are approved; none if the list is empty.
    Allow(BTreeSet<T>),
    /// All but the listed clients or torrents are approved.
    Deny(BTreeSet<T>),
}
