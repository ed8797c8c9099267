//! The tracker, as the other modules see it: one function for each call.

use std::collections::HashSet;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use rustls::ClientConfig;
use serde_json::{Map, Value, json};
use thiserror::Error;
use tokio::sync::watch;
use tracker_protocol::metainfo::MAX_METAINFO;
use tracker_protocol::{InfoHash, PeerId};
use url::{Host, Url};

use super::announce::{SwarmAnnounce, SwarmPeers};
use super::exchange::{CallReply, TrackerCall, TrackerEndpoint};
use super::fault::{TrackerError, TrackerFault};
use super::key::ShareKey;
use super::replies::{
    GrantedBody, LeaseBody, LeaseClaim, LeaseRenewal, MetainfoPut, PortReach, SwarmBlob, boot, check, json, unexpected,
};
use super::secrets::TrackerToken;
use crate::upstream::{HostLookup, UpstreamOrigin};

/// The longest wait of [`SwarmTracker::state`].
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// The time for a reply, from the open connection to the end of the body.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// The time for an announce's reply. With the second for the connection an announce takes at most five seconds.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(4);

/// The most bytes of the reply to an announce, enough for 2,000 peers as dictionaries.
const MAX_ANNOUNCE_REPLY: usize = 256 << 10;

/// The most bytes of a reply in JSON, enough for a thousand keys.
const MAX_JSON_REPLY: usize = 128 << 10;

/// The most keys of one request to `/torrents/missing`.
const MAX_ASKED: usize = 1_000;

const JSON: &str = "application/json";

/// Where the tracker is, and who this host is.
#[derive(Clone)]
pub struct TrackerOptions {
    /// The announce URL, from `TRACKER`.
    pub announce: Url,
    /// The server of the torrents and leases, from `ETCD_HOST` and `ETCD_PORT`.
    pub torrents: (Host, u16),
    /// The token for the server of the torrents, from `TORRENTS_TOKEN`.
    pub token: Option<TrackerToken>,
    /// This host's peer id.
    pub peer_id: PeerId,
    /// The port at which this host takes BitTorrent connections.
    pub port: NonZeroU16,
    /// The authorities that the client trusts if the announce URL is an https URL.
    pub tls: Arc<ClientConfig>,
    /// How names are looked up.
    pub lookup: HostLookup,
}

/// Why the settings name no server that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnusableTracker {
    /// The announce URL is neither an http nor an https URL.
    #[error("TRACKER is a {0} URL, expected an http or https URL, such as http://192.168.1.1:6969/announce")]
    Announce(String),
    /// `ETCD_HOST` is neither a host name nor an IP address.
    #[error("ETCD_HOST is {0}, expected a host name or an IP address")]
    Torrents(Host),
}

/// The client of the tracker. Each function is a call to the tracker, except [`Self::new`] and [`Self::boot`].
///
/// Several threads can use one client, each with a runtime of its own.
#[derive(Debug)]
pub struct SwarmTracker {
    announce_url: Url,
    announces: TrackerEndpoint,
    torrents: TrackerEndpoint,
    authorization: Option<HeaderValue>,
    peer_id: PeerId,
    port: NonZeroU16,
    boot: watch::Sender<Option<Arc<str>>>,
}

impl SwarmTracker {
    /// Makes a client. The first call opens the first connection.
    ///
    /// # Errors
    /// The announce URL is neither an http nor an https URL, or the host of the torrents is neither a name nor an
    /// address.
    pub fn new(options: TrackerOptions) -> Result<Self, UnusableTracker> {
        let TrackerOptions { announce, torrents: (host, port_there), token, peer_id, port, tls, lookup } = options;
        let announces = UpstreamOrigin::of(&announce);
        let announces = announces.ok_or_else(|| UnusableTracker::Announce(announce.scheme().to_owned()))?;
        let torrents = format!("http://{host}:{port_there}").parse().map_err(|_| UnusableTracker::Torrents(host))?;
        Ok(Self {
            announce_url: announce,
            announces: TrackerEndpoint::new(announces, "TRACKER", Arc::clone(&tls), Arc::clone(&lookup)),
            torrents: TrackerEndpoint::new(torrents, "ETCD_HOST and ETCD_PORT", tls, lookup),
            authorization: token.map(|token| token.authorization()),
            peer_id,
            port,
            boot: watch::Sender::new(None),
        })
    }

    /// Returns a receiver of the tracker's boot id, which is `None` before the first reply. When one id replaces
    /// another, the tracker has restarted and has lost everything. Then this host must register its blobs and ask for
    /// its leases again.
    pub fn boot(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.boot.subscribe()
    }

    /// Announces a torrent (BEP 3), and returns the peers. Takes five seconds at most.
    pub async fn announce(&self, announce: &SwarmAnnounce) -> Result<SwarmPeers, TrackerError> {
        let call = TrackerCall {
            method: Method::GET,
            target: announce.target(&self.announce_url, self.peer_id, self.port),
            authorization: None,
            body: None,
            max_reply: MAX_ANNOUNCE_REPLY,
            within: ANNOUNCE_TIMEOUT,
        };
        let reply = self.announces.exchange(call).await?;
        SwarmPeers::read(&reply).map_err(|fault| self.announces.error(fault))
    }

    /// Fetches the torrent file of a blob, and does not check it. Returns `None` if the tracker has none.
    pub async fn metainfo(&self, key: &ShareKey) -> Result<Option<Bytes>, TrackerError> {
        let call = TrackerCall { max_reply: MAX_METAINFO, ..self.call(Method::GET, torrent_path(key)) };
        self.ask(call, |reply| match reply.status.as_u16() {
            200 => Ok(Some(reply.body)),
            404 => Ok(None),
            _ => Err(unexpected(&reply)),
        })
        .await
    }

    /// Stores the torrent file of a blob.
    pub async fn put_metainfo(&self, key: &ShareKey, file: Bytes) -> Result<MetainfoPut, TrackerError> {
        let body = Some(("application/x-bittorrent", file));
        let call = TrackerCall { body, ..self.call(Method::PUT, torrent_path(key)) };
        self.ask(call, |reply| match reply.status.as_u16() {
            201 => Ok(MetainfoPut::New),
            200 => Ok(MetainfoPut::Same),
            409 => Ok(MetainfoPut::Conflict),
            _ => Err(unexpected(&reply)),
        })
        .await
    }

    /// Tells the tracker that the blob's swarm gave wrong content.
    pub async fn complain(&self, key: &ShareKey) -> Result<(), TrackerError> {
        let call = self.call(Method::POST, format!("{}/complaint", torrent_path(key)));
        self.ask(call, |reply| if reply.status == 204 { Ok(()) } else { Err(unexpected(&reply)) }).await
    }

    /// Returns which of these keys this host is to register: the tracker has no torrent file of them, and has not told
    /// another host to register them in the last 30 seconds. One request asks for at most a thousand keys.
    pub async fn missing(&self, keys: &[ShareKey]) -> Result<Vec<ShareKey>, TrackerError> {
        let mut missing = Vec::new();
        for keys in keys.chunks(MAX_ASKED) {
            let told = self.ask_missing(keys).await?;
            missing.extend(keys.iter().filter(|key| told.contains(key)));
        }
        Ok(missing)
    }

    async fn ask_missing(&self, keys: &[ShareKey]) -> Result<HashSet<ShareKey>, TrackerError> {
        let list: Value = keys.iter().map(ToString::to_string).collect();
        let call = TrackerCall {
            body: Some((JSON, list.to_string().into())),
            ..self.call(Method::POST, "/torrents/missing".to_owned())
        };
        let told = self.ask(call, |reply| match reply.status.as_u16() {
            200 => json::<Vec<String>>(&reply),
            _ => Err(unexpected(&reply)),
        });
        Ok(told.await?.iter().filter_map(|key| key.parse().ok()).collect())
    }

    /// Asks the tracker to connect to this host's port. Returns whether that worked.
    pub async fn reach(&self) -> Result<PortReach, TrackerError> {
        let body = json!({ "port": self.port });
        let call = TrackerCall {
            body: Some((JSON, body.to_string().into())),
            ..self.call(Method::POST, "/torrents/reach".to_owned())
        };
        self.ask(call, |reply| match reply.status.as_u16() {
            200 => json(&reply),
            _ => Err(unexpected(&reply)),
        })
        .await
    }

    /// Makes a call without effect, to learn whether the tracker answers, and which boot id it has.
    pub async fn check(&self) -> Result<(), TrackerError> {
        self.ask_missing(&[]).await.map(drop)
    }

    /// Asks for the lease of a blob of `size` bytes. `swarm` is the torrent in which this host would share the blob.
    pub async fn claim(
        &self,
        key: &ShareKey,
        swarm: Option<InfoHash>,
        size: Option<u64>,
    ) -> Result<LeaseClaim, TrackerError> {
        let mut body = Map::new();
        body.insert("port".to_owned(), self.port.get().into());
        if let Some(swarm) = swarm {
            body.insert("swarm".to_owned(), swarm.to_string().into());
        }
        if let Some(size) = size {
            body.insert("size".to_owned(), size.into());
        }
        let call = TrackerCall {
            body: Some((JSON, Value::Object(body).to_string().into())),
            ..self.call(Method::POST, lease_path(key))
        };
        self.ask(call, |reply| match reply.status.as_u16() {
            201 => {
                let granted: GrantedBody = json(&reply)?;
                Ok(LeaseClaim::Granted { generation: granted.generation, ttl: granted.ttl() })
            }
            409 => json::<LeaseBody>(&reply)?.view().map(LeaseClaim::Held),
            _ => Err(unexpected(&reply)),
        })
        .await
    }

    /// Renews the lease of a blob of `size` bytes. This host has `have` bytes of it.
    pub async fn renew(
        &self,
        key: &ShareKey,
        generation: u64,
        have: u64,
        size: Option<u64>,
    ) -> Result<LeaseRenewal, TrackerError> {
        let body = match size {
            Some(size) => json!({ "have": have, "size": size }),
            None => json!({ "have": have }),
        };
        let path = format!("{}/{generation}", lease_path(key));
        let call = TrackerCall { body: Some((JSON, body.to_string().into())), ..self.call(Method::PUT, path) };
        self.ask(call, |reply| lease_renewal(&reply)).await
    }

    /// Ends a lease. A lease that has ended already is no error.
    pub async fn release(&self, key: &ShareKey, generation: u64) -> Result<(), TrackerError> {
        let call = self.call(Method::DELETE, format!("{}/{generation}", lease_path(key)));
        self.ask(call, |reply| lease_renewal(&reply).map(|_| ())).await
    }

    /// Returns what the tracker knows of a blob, or `None` if there is neither a lease nor a torrent file. With a
    /// `wait` the tracker replies when the lease ends or changes hands, when the torrent file is stored, or when `wait`
    /// has passed. `wait` is rounded down to whole seconds, and is at most [`MAX_WAIT`].
    pub async fn state(&self, key: &ShareKey, wait: Duration) -> Result<Option<SwarmBlob>, TrackerError> {
        let wait = Duration::from_secs(wait.min(MAX_WAIT).as_secs());
        let query = if wait.is_zero() { String::new() } else { format!("?wait={}", wait.as_secs()) };
        let call = TrackerCall {
            within: wait + REPLY_TIMEOUT,
            ..self.call(Method::GET, format!("{}{query}", lease_path(key)))
        };
        self.ask(call, |reply| match reply.status.as_u16() {
            200 => json::<LeaseBody>(&reply)?.blob().map(Some),
            404 => Ok(None),
            _ => Err(unexpected(&reply)),
        })
        .await
    }

    /// Returns a call without a body to the server of the torrents. Does not send the call.
    fn call(&self, method: Method, target: String) -> TrackerCall {
        let authorization = self.authorization.clone();
        TrackerCall { method, target, authorization, body: None, max_reply: MAX_JSON_REPLY, within: REPLY_TIMEOUT }
    }

    /// Sends a call, records the boot id of the reply, and reads the reply.
    async fn ask<T>(
        &self,
        call: TrackerCall,
        read: impl FnOnce(CallReply) -> Result<T, TrackerFault>,
    ) -> Result<T, TrackerError> {
        let reply = self.torrents.exchange(call).await?;
        if let Some(boot) = boot(&reply) {
            self.boot.send_if_modified(|last| {
                let is_other = last.as_deref() != Some(boot);
                if is_other {
                    *last = Some(boot.into());
                }
                is_other
            });
        }
        check(reply).and_then(read).map_err(|fault| self.torrents.error(fault))
    }
}

fn torrent_path(key: &ShareKey) -> String {
    format!("/torrents/{key}")
}

fn lease_path(key: &ShareKey) -> String {
    format!("/leases/{key}")
}

fn lease_renewal(reply: &CallReply) -> Result<LeaseRenewal, TrackerFault> {
    match reply.status.as_u16() {
        204 => Ok(LeaseRenewal::Renewed),
        404 => Ok(LeaseRenewal::Ended),
        409 => Ok(LeaseRenewal::Superseded),
        _ => Err(unexpected(reply)),
    }
}
