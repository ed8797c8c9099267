//! What the server of the torrents replies.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::RETRY_AFTER;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracker_protocol::InfoHash;

use super::exchange::CallReply;
use super::fault::{TrackerFault, shown};

/// How long a busy tracker is left alone if it does not say.
const DEFAULT_RETRY: Duration = Duration::from_secs(5);

/// The longest time for which a busy tracker is left alone.
const MAX_RETRY: Duration = Duration::from_mins(5);

/// What storing a torrent file did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetainfoPut {
    /// The file is new there.
    New,
    /// One with the same info-hash was there.
    Same,
    /// One with another info-hash is there, and stays.
    Conflict,
}

/// The outcome of asking for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseClaim {
    /// This host holds the lease now, and fetches the blob from upstream.
    Granted {
        /// The number for renewing and ending the lease.
        generation: u64,
        /// The lease ends so long after it was last renewed.
        ttl: Duration,
    },
    /// A host holds the lease. It can be this one.
    Held(LeaseView),
}

/// A lease as this host sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseView {
    /// Where the holder takes BitTorrent connections; `None` if this host cannot reach it.
    pub leader: Option<SocketAddr>,
    /// The swarm in which the holder shares the blob.
    pub swarm: Option<InfoHash>,
    /// How many bytes of the blob the holder has.
    pub have: u64,
    /// The size of the blob in bytes, if the holder knows it.
    pub size: Option<u64>,
}

/// What became of a lease that was to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseRenewal {
    /// This host still holds it.
    Renewed,
    /// It has ended, and no host holds one of the blob.
    Ended,
    /// It has ended, and another host holds a newer one.
    Superseded,
}

/// What the tracker knows of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwarmBlob {
    /// The lease. All is empty if no host holds one.
    pub lease: LeaseView,
    /// Whether there is a torrent file.
    pub has_torrent: bool,
}

/// Whether the tracker could connect to this host's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct PortReach {
    /// This host's address as the tracker sees it, with the port.
    pub address: SocketAddr,
    /// Whether there was a connection.
    pub reached: bool,
}

/// The reply to a claim that is granted.
#[derive(Debug, Deserialize)]
pub(super) struct GrantedBody {
    pub(super) generation: u64,
    ttl: u64,
}

impl GrantedBody {
    pub(super) fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl)
    }
}

/// A lease in a reply.
#[derive(Debug, Deserialize)]
pub(super) struct LeaseBody {
    leader: Option<SocketAddr>,
    swarm: Option<String>,
    have: u64,
    size: Option<u64>,
    #[serde(default)]
    torrent: bool,
}

impl LeaseBody {
    pub(super) fn view(&self) -> Result<LeaseView, TrackerFault> {
        let swarm = self.swarm.as_deref().map(str::parse).transpose();
        let swarm = swarm.map_err(|_| TrackerFault::WrongReply("its swarm is no info-hash".to_owned()))?;
        Ok(LeaseView { leader: self.leader, swarm, have: self.have, size: self.size })
    }

    pub(super) fn blob(&self) -> Result<SwarmBlob, TrackerFault> {
        Ok(SwarmBlob { lease: self.view()?, has_torrent: self.torrent })
    }
}

/// The sentence of a reply that refuses a call.
#[derive(Debug, Deserialize)]
struct ProblemBody {
    error: String,
}

/// The body of a reply as JSON of this form.
pub(super) fn json<T: DeserializeOwned>(reply: &CallReply) -> Result<T, TrackerFault> {
    let wrong = |error| TrackerFault::WrongReply(format!("its JSON is not the expected one: {error}"));
    serde_json::from_slice(&reply.body).map_err(wrong)
}

/// The boot id in a reply: a short text.
pub(super) fn boot(reply: &CallReply) -> Option<&str> {
    let text = reply.headers.get("x-boot")?.to_str().ok()?;
    (1..=64).contains(&text.len()).then_some(text)
}

/// Picks out the replies that do not belong to one call only.
pub(super) fn check(reply: CallReply) -> Result<CallReply, TrackerFault> {
    match reply.status.as_u16() {
        401 => Err(TrackerFault::Token(sentence(&reply))),
        403 => Err(TrackerFault::Forbidden(sentence(&reply))),
        429 | 503 => Err(TrackerFault::Busy { retry_after: retry_after(&reply), sentence: sentence(&reply) }),
        // A proxy writes these itself.
        500.. => Err(unexpected(&reply)),
        status if boot(&reply).is_none() => Err(TrackerFault::NoTorrents(status)),
        _ => Ok(reply),
    }
}

/// The fault if a reply has a status that its call cannot have.
pub(super) fn unexpected(reply: &CallReply) -> TrackerFault {
    TrackerFault::WrongReply(format!("status {}: {}", reply.status.as_u16(), sentence(reply)))
}

/// What a reply says about a problem.
fn sentence(reply: &CallReply) -> String {
    let body = serde_json::from_slice::<ProblemBody>(&reply.body);
    body.map_or_else(|_| shown(&reply.body), |body| shown(body.error.as_bytes()))
}

fn retry_after(reply: &CallReply) -> Duration {
    let seconds = reply.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seconds.map_or(DEFAULT_RETRY, Duration::from_secs).min(MAX_RETRY)
}
