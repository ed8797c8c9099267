//! The replies of the server of the torrents.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::RETRY_AFTER;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracker_protocol::InfoHash;

use super::exchange::CallReply;
use super::fault::{TrackerFault, shown};

/// How long to wait for a busy tracker that sends no `Retry-After`.
const DEFAULT_RETRY: Duration = Duration::from_secs(5);

/// The longest wait for a busy tracker.
const MAX_RETRY: Duration = Duration::from_mins(5);

/// What became of a torrent file that this host sent to the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetainfoPut {
    /// The tracker had no torrent file of the blob, and keeps this one.
    New,
    /// The tracker has a torrent file with the same info-hash already.
    Same,
    /// The tracker has a torrent file with another info-hash, and does not replace it.
    Conflict,
}

/// The outcome of asking for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseClaim {
    /// This host holds the lease now, and fetches the blob from upstream.
    Granted {
        /// The number for renewing and ending the lease.
        generation: u64,
        /// The lease ends when it has not been renewed for this time.
        ttl: Duration,
    },
    /// A host holds the lease already. It can be this host.
    Held(LeaseView),
}

/// A lease as this host sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseView {
    /// The address at which the holder takes BitTorrent connections; `None` if this host cannot reach the holder.
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
    /// This host still holds the lease.
    Renewed,
    /// The lease has ended, and no host holds a lease of the blob.
    Ended,
    /// The lease has ended, and another host holds a newer lease of the blob.
    Superseded,
}

/// What the tracker knows of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwarmBlob {
    /// The lease. Its fields are empty if no host holds one.
    pub lease: LeaseView,
    /// Whether the tracker has a torrent file of the blob.
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
        let swarm = swarm.map_err(|_| TrackerFault::WrongReply("its swarm is not an info-hash".to_owned()))?;
        Ok(LeaseView { leader: self.leader, swarm, have: self.have, size: self.size })
    }

    pub(super) fn blob(&self) -> Result<SwarmBlob, TrackerFault> {
        Ok(SwarmBlob { lease: self.view()?, has_torrent: self.torrent })
    }
}

/// The body of a reply that refuses a call.
#[derive(Debug, Deserialize)]
struct ProblemBody {
    error: String,
}

/// Reads the body of a reply as JSON of this form.
pub(super) fn json<T: DeserializeOwned>(reply: &CallReply) -> Result<T, TrackerFault> {
    let wrong = |error| TrackerFault::WrongReply(format!("its JSON has an unexpected form: {error}"));
    serde_json::from_slice(&reply.body).map_err(wrong)
}

/// Returns the boot id of a reply, if it has 1 to 64 bytes.
pub(super) fn boot(reply: &CallReply) -> Option<&str> {
    let text = reply.headers.get("x-boot")?.to_str().ok()?;
    (1..=64).contains(&text.len()).then_some(text)
}

/// Turns a reply whose status means the same for every call into a fault. Returns all other replies.
pub(super) fn check(reply: CallReply) -> Result<CallReply, TrackerFault> {
    match reply.status.as_u16() {
        401 => Err(TrackerFault::Token(sentence(&reply))),
        403 => Err(TrackerFault::Forbidden(sentence(&reply))),
        429 | 503 => Err(TrackerFault::Busy { retry_after: retry_after(&reply), sentence: sentence(&reply) }),
        // A proxy may have written such a reply, so a missing boot id proves nothing.
        500.. => Err(unexpected(&reply)),
        status if boot(&reply).is_none() => Err(TrackerFault::NoTorrents(status)),
        _ => Ok(reply),
    }
}

/// Returns the fault for a reply with a status that its call cannot have.
pub(super) fn unexpected(reply: &CallReply) -> TrackerFault {
    TrackerFault::WrongReply(format!("status {}: {}", reply.status.as_u16(), sentence(reply)))
}

fn sentence(reply: &CallReply) -> String {
    let body = serde_json::from_slice::<ProblemBody>(&reply.body);
    body.map_or_else(|_| shown(&reply.body), |body| shown(body.error.as_bytes()))
}

fn retry_after(reply: &CallReply) -> Duration {
    let seconds = reply.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seconds.map_or(DEFAULT_RETRY, Duration::from_secs).min(MAX_RETRY)
}
