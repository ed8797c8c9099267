//! Who may announce: rules about networks, clients, torrents and tokens (`--access`).
//!
//! The rules are checked in this order, the cheap ones first. An announce must pass all. A refusal names the rule, but
//! discloses no entry of a list and nothing about the keys.
//!
//! A torrent that is announced with a token is confidential. The tracker announces it only to forwarders whose `only`
//! list names it.

mod clients;
mod jwt;
mod list;
mod networks;
mod registered;
mod torrents;
mod wording;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter;
use tracker_protocol::{AnnounceRequest, InfoHash, Refusal};

pub use self::clients::{ClientPrefix, NotAClientPrefix};
pub use self::jwt::{FAILURES_PER_SOURCE, Issuers, JwtOptions, KeySource, KeySummary, probe_keys};
pub use self::list::ListRule;
pub use self::networks::NetworkSet;
pub use self::registered::{ClientProgram, Full, Registered};
pub use self::torrents::TorrentSet;
pub use self::wording::RefusalWording;

use self::clients::ClientPrefixes;
use self::jwt::{JwtFault, JwtRule, TOO_MANY};
use crate::clock;
use crate::forward::UpstreamProxies;
use crate::metrics::AccessMetrics;

/// The rules, as they are configured. If there are no rules, every announce is admitted.
#[derive(Debug, Default)]
pub struct AccessOptions {
    /// The networks of clients.
    pub networks: Option<ListRule<NetworkSet>>,
    /// The prefixes of peer ids.
    pub clients: Option<ListRule<Vec<ClientPrefix>>>,
    /// The torrents.
    pub torrents: Option<ListRule<TorrentSet>>,
    /// The tokens that an announce must carry.
    pub jwt: Option<JwtOptions>,
    /// The torrents and clients that the API of Chihaya v1.0 adds and removes. `None` without the API.
    pub registered: Option<Arc<Registered>>,
    /// Whether refusals use the tracker's own sentences or Chihaya's.
    pub wording: RefusalWording,
}

/// An announce that is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clearance {
    /// Whether the announce carried a token. The token makes the torrent confidential.
    pub is_confidential: bool,
}

impl Clearance {
    /// The clearance of every announce if there are no rules.
    pub const OPEN: Self = Self { is_confidential: false };
}

/// What the rules say about announces of one torrent from one address. The answer depends on what is known of the
/// client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessVerdict {
    /// The rules admit all these announces.
    Admitted,
    /// The rules refuse the address.
    NetworkRefused,
    /// The rules refuse the client program.
    ClientRefused,
    /// The rules refuse the torrent.
    TorrentRefused,
    /// The rules admit announces only with a token for the torrent, and the token is not known.
    NeedsToken,
    /// The rules refuse the token, for this reason: a sentence about `jwt`.
    TokenRefused(&'static str),
    /// The rules admit announces of some client programs only, and the client program is not known.
    DependsOnClient,
}

/// An announce as the operator describes it.
#[derive(Clone, Copy, Debug)]
pub struct DescribedAnnounce<'a> {
    /// The address of the client.
    pub ip: IpAddr,
    /// The torrent.
    pub info_hash: InfoHash,
    /// The beginning of the client's peer id. `None` if the peer id is not known.
    pub client: Option<&'a ClientPrefix>,
    /// The client's token. `None` if the token is not known.
    pub token: Option<&'a [u8]>,
}

/// What the lists say about an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListVerdict {
    Admitted,
    NetworkRefused,
    ClientRefused,
    TorrentRefused,
    /// The rest of the peer id decides.
    DependsOnClient,
}

/// The rules in force. They may be replaced while they are in use.
#[derive(Debug)]
pub struct Access {
    rules: RwLock<Arc<Rules>>,
    proxies: UpstreamProxies,
    metrics: AccessMetrics,
    /// Counts refused tokens, by the fault's name in metrics.
    token_faults: BTreeMap<&'static str, Counter>,
    /// Wakes [`Access::keep_keys`] when the rules change, because the keys for the new rules must be fetched then.
    changed: tokio::sync::Notify,
}

#[derive(Debug)]
struct Rules {
    networks: Option<ListRule<NetworkSet>>,
    clients: Option<ListRule<ClientPrefixes>>,
    torrents: Option<ListRule<TorrentSet>>,
    jwt: Option<Arc<JwtRule>>,
    registered: Option<Arc<Registered>>,
    wording: RefusalWording,
}

impl Rules {
    fn new(options: AccessOptions, old_jwt: Option<&Arc<JwtRule>>, metrics: &AccessMetrics) -> Self {
        let AccessOptions { networks, clients, torrents, jwt, registered, wording } = options;
        let jwt = jwt.map(|options| match old_jwt {
            // Nothing about tokens has changed, so the old rule stays, with its keys and its verified tokens.
            Some(old) if *old.options() == options => Arc::clone(old),
            _ => Arc::new(JwtRule::new(options, metrics.keys.clone())),
        });
        Self {
            networks,
            clients: clients.map(|rule| rule.map(ClientPrefixes::new)),
            torrents,
            jwt,
            registered,
            wording,
        }
    }

    /// Applies the lists. `client` is the beginning of the client's peer id, or the whole id.
    fn judge(&self, ip: IpAddr, client: &[u8], info_hash: InfoHash) -> ListVerdict {
        if self.networks.as_ref().is_some_and(|rule| !rule.admits(|networks| networks.contains(ip))) {
            return ListVerdict::NetworkRefused;
        }
        let listed = |rule: &ListRule<ClientPrefixes>| rule.admits_if_known(|clients| clients.has(client));
        let mut is_admitted = self.clients.as_ref().map_or(Some(true), listed);
        if is_admitted == Some(false) {
            return ListVerdict::ClientRefused;
        }
        if self.torrents.as_ref().is_some_and(|rule| !rule.admits(|torrents| torrents.contains(info_hash))) {
            return ListVerdict::TorrentRefused;
        }
        if let Some(registered) = &self.registered {
            match registered.admits_client(client) {
                Some(false) => return ListVerdict::ClientRefused,
                Some(true) => {}
                None => is_admitted = None,
            }
            if !registered.admits_torrent(info_hash) {
                return ListVerdict::TorrentRefused;
            }
        }
        if is_admitted.is_some() { ListVerdict::Admitted } else { ListVerdict::DependsOnClient }
    }
}

impl Access {
    /// Sets up the rules. [`Self::keep_keys`] fetches the keys for tokens through these proxies.
    pub fn new(options: AccessOptions, proxies: UpstreamProxies, metrics: AccessMetrics) -> Self {
        let rules = RwLock::new(Arc::new(Rules::new(options, None, &metrics)));
        let labels = JwtFault::ALL.map(JwtFault::label);
        let token_faults = labels.into_iter().map(|label| (label, metrics.token_fault(label))).collect();
        Self { rules, proxies, metrics, token_faults, changed: tokio::sync::Notify::new() }
    }

    /// Replaces the rules. Keys and verified tokens are kept if nothing about tokens changes.
    pub fn replace(&self, options: AccessOptions) {
        let mut rules = self.rules.write();
        let new = Rules::new(options, rules.jwt.as_ref(), &self.metrics);
        *rules = Arc::new(new);
        drop(rules);
        self.changed.notify_one();
    }

    /// Decides whether an announce from this address is admitted. `query` is the query of the announce URL, and may
    /// hold a token.
    pub fn admit(&self, ip: IpAddr, request: &AnnounceRequest, query: &[u8]) -> Result<Clearance, Refusal> {
        let rules = self.rules.read();
        let metrics = &self.metrics;
        match rules.judge(ip, &request.peer_id.0, request.info_hash) {
            ListVerdict::Admitted => {}
            ListVerdict::NetworkRefused => {
                metrics.networks.inc();
                return Err(Refusal::Denied("the tracker's access rules refuse announces from your network"));
            }
            // `DependsOnClient` cannot occur here, because the rules get the whole peer id.
            ListVerdict::ClientRefused | ListVerdict::DependsOnClient => {
                metrics.clients.inc();
                return Err(rules.wording.client());
            }
            ListVerdict::TorrentRefused => {
                metrics.torrents.inc();
                return Err(rules.wording.torrent());
            }
        }
        let wording = rules.wording;
        let Some(jwt) = rules.jwt.clone() else { return Ok(Clearance::OPEN) };
        // The lock is released first, because verifying a signature takes long.
        drop(rules);
        jwt.admit(ip, request.info_hash, query, clock::unix_time()).map_err(|fault| {
            self.count(fault);
            wording.token(fault)
        })?;
        Ok(Clearance { is_confidential: true })
    }

    /// Returns what the rules say about an announce. The call counts and remembers nothing, and fetches no key.
    pub fn verdict(&self, announce: DescribedAnnounce<'_>) -> AccessVerdict {
        let DescribedAnnounce { ip, info_hash, client, token } = announce;
        let rules = Arc::clone(&self.rules.read());
        let open = match rules.judge(ip, client.map_or(&[], ClientPrefix::as_bytes), info_hash) {
            ListVerdict::NetworkRefused => return AccessVerdict::NetworkRefused,
            ListVerdict::ClientRefused => return AccessVerdict::ClientRefused,
            ListVerdict::TorrentRefused => return AccessVerdict::TorrentRefused,
            ListVerdict::DependsOnClient => AccessVerdict::DependsOnClient,
            ListVerdict::Admitted => AccessVerdict::Admitted,
        };
        match (&rules.jwt, token) {
            (None, _) => open,
            (Some(_), None) => AccessVerdict::NeedsToken,
            (Some(jwt), Some(token)) => match jwt.examine(info_hash, token, clock::unix_time()) {
                Ok(()) => open,
                Err(fault) => AccessVerdict::TokenRefused(wording::sentence(fault)),
            },
        }
    }

    /// Decides whether a scrape from this address is admitted. If the rules protect scrapes, the query must hold a
    /// token. A token is for one torrent, so a scrape of several torrents is then refused.
    pub fn admit_scrape(&self, ip: IpAddr, info_hashes: &[InfoHash], query: &[u8]) -> Result<(), Refusal> {
        let rules = self.rules.read();
        let (jwt, wording) = (rules.jwt.clone().filter(|jwt| jwt.options().protect_scrape), rules.wording);
        drop(rules);
        let Some(jwt) = jwt else { return Ok(()) };
        let admitted = info_hashes.iter().try_for_each(|hash| jwt.admit(ip, *hash, query, clock::unix_time()));
        admitted.map_err(|fault| {
            self.count(fault);
            wording.token(fault)
        })
    }

    fn count(&self, fault: JwtFault) {
        self.metrics.jwt.inc();
        self.token_faults.get(fault.label()).into_iter().for_each(|counter| {
            counter.inc();
        });
    }

    /// Returns how many announces each rule has refused since the start.
    pub fn refusals(&self) -> [(&'static str, u64); 4] {
        let AccessMetrics { networks, clients, torrents, jwt, .. } = &self.metrics;
        [("networks", networks.get()), ("clients", clients.get()), ("torrents", torrents.get()), ("jwt", jwt.get())]
    }

    /// Returns how many announces and scrapes were refused because of their token since the start, by reason.
    pub fn token_refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.token_faults.iter().map(|(reason, counter)| (*reason, counter.get()))
    }

    /// Returns how many tokens were not checked, because too many had failed in the same second. `None` if the rules
    /// ask for no token.
    pub fn unchecked_tokens(&self) -> Option<u64> {
        let has_rule = self.rules.read().jwt.is_some();
        self.token_faults.get(TOO_MANY).map(Counter::get).filter(|_| has_rule)
    }

    /// Returns the current fault and its remedy, for the operator: sentences of plain text.
    pub fn notice(&self) -> Option<String> {
        self.rules.read().jwt.as_ref().and_then(|jwt| jwt.notice())
    }

    /// Fetches the keys for tokens, and fetches them again from time to time, forever.
    ///
    /// The future must be polled within a tokio `LocalSet`.
    pub async fn keep_keys(&self) {
        loop {
            let jwt = self.rules.read().jwt.clone();
            let fetch = async {
                match &jwt {
                    Some(jwt) => jwt.keep_keys(&self.proxies, &self.metrics).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = fetch => {}
                () = self.changed.notified() => {}
            }
        }
    }
}
