//! The options of forwarding, and of each entry of `forwarders.yml`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tracker_protocol::InfoHash;
use trust::Authorities;
use url::Url;

use super::proxy::UpstreamProxies;

/// How long an exchange may take if the entry names no timeout. A longer `--forward-timeout` replaces this value.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// How many peers an upstream is asked for by default: as many as one client can get. All local clients share them.
pub(super) const DEFAULT_NUMWANT: u32 = 200;

/// How many exchanges with one forwarder may begin in a second unless the entry says otherwise.
pub(super) const DEFAULT_RATE: NonZeroU32 = NonZeroU32::new(200).unwrap();

/// The options of forwarding.
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// The upstream trackers. `--forwards`.
    pub forwarders: Vec<ForwarderOptions>,
    /// How long a client's announce may wait for the lists of upstream trackers. `--forward-timeout`.
    pub deadline: Duration,
    /// How long a client counts as present after its last announce. `--peer-age`.
    pub peer_age: Duration,
    /// The most exchanges under way with all upstream trackers together: `--max-exchanges`, or what the limit of open
    /// files allows. `None` means 1024.
    pub max_exchanges: Option<usize>,
    /// The proxies between this host and upstream trackers: `http_proxy` and so on.
    pub proxies: UpstreamProxies,
}

/// One entry of `forwarders.yml`.
#[derive(Clone, PartialEq, Eq)]
pub struct ForwarderOptions {
    /// Its name in logs and metrics. It is not secret.
    pub name: String,
    /// Its announce URL, `http`, `https` or `udp`. It may contain a passkey and is never logged.
    pub uri: Url,
    /// The address that the upstream is asked to record for our clients.
    pub ip: AnnouncedIp,
    /// The value of the `Host` header, in place of the URL's own host.
    pub host: Option<String>,
    /// How long an exchange may take. Default: 10 seconds, or `--forward-timeout` if that is longer.
    pub timeout: Option<Duration>,
    /// How many peers the upstream is asked for. Default: 200.
    pub numwant: Option<u32>,
    /// How many exchanges with the upstream may begin in a second; the rest wait. Default: 200.
    pub rate: Option<NonZeroU32>,
    /// The authorities whose certificates are trusted, in place of the usual ones.
    pub ca: Option<Authorities>,
    /// The torrents that are announced to this upstream.
    pub torrents: Torrents,
}

/// The address that an upstream is asked to record for our clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnnouncedIp {
    /// The address that the upstream sees.
    #[default]
    AsSeen,
    /// This address.
    Fixed(IpAddr),
    /// The client's own address, unless that address belongs to a private network.
    Client,
}

/// The torrents that are announced to a forwarder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Torrents {
    /// All torrents.
    #[default]
    All,
    /// Only these torrents.
    Only(BTreeSet<InfoHash>),
    /// All torrents but these.
    Except(BTreeSet<InfoHash>),
}

impl fmt::Debug for ForwarderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwarderOptions").field("name", &self.name).finish_non_exhaustive()
    }
}
