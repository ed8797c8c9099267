//! What forwarding is told once: the settings, and the entries of `forwarders.yml`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tracker_protocol::InfoHash;
use url::Url;

use super::proxy::Proxies;
use super::trust::Authorities;
use super::upstream::Upstream;

/// What the forwarders are told once.
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// The upstream trackers. `--forwards`.
    pub forwarders: Vec<ForwarderOptions>,
    /// How long a client's announce may wait for them. `--forward-timeout`.
    pub deadline: Duration,
    /// How long a peer that does not announce counts as here. `--peer-age`.
    pub peer_age: Duration,
    /// How many exchanges may be under way with all of them together. `--max-exchanges`; None: what the
    /// limit of open files allows.
    pub max_exchanges: Option<usize>,
    /// The proxies through which they are asked: `http_proxy` and so on.
    pub proxies: Proxies,
}

/// One entry of `forwarders.yml`.
#[derive(Clone, PartialEq, Eq)]
pub struct ForwarderOptions {
    /// By what name it goes in logs and metrics; no secret.
    pub name: String,
    /// Its announce URL, `http`, `https` or `udp`. It may hold a passkey and is never logged.
    pub uri: Url,
    /// The address that the upstream is told to record, in place of the one that it sees.
    pub ip: AnnouncedIp,
    /// What the `Host` header says, in place of the URL's own host.
    pub host: Option<String>,
    /// How long an exchange may take; 10 seconds, or the deadline if that is longer.
    pub timeout: Option<Duration>,
    /// How many peers it is asked for; 200.
    pub numwant: Option<u32>,
    /// How many exchanges with it may begin in a second; 200. More wait for their turn.
    pub rate: Option<NonZeroU32>,
    /// Whose certificates are trusted, in place of the usual authorities.
    pub ca: Option<Authorities>,
    /// Which torrents it is told of.
    pub torrents: Torrents,
}

/// Under which address an upstream is told to record our clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnouncedIp {
    /// The one that it sees.
    #[default]
    AsSeen,
    /// This one.
    Fixed(IpAddr),
    /// The client's own, unless that is one of a private network.
    Client,
}

/// Which torrents a forwarder is told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Torrents {
    /// All.
    #[default]
    All,
    /// These.
    Only(BTreeSet<InfoHash>),
    /// All but these.
    Except(BTreeSet<InfoHash>),
}

impl fmt::Debug for ForwarderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwarderOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether an entry can be used at all. The error is a sentence for the operator, without what may be a secret.
pub fn check(options: &ForwarderOptions) -> Result<(), String> {
    Upstream::new(options, &Arc::default()).map(drop)
}
