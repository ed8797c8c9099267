//! The announce over HTTP (BEP 3, BEP 7, BEP 23).

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use tracker_protocol::upstream::{Retry, UpstreamReplyError, parse_reply, put_query};
use tracker_protocol::{AnnounceRequest, ClaimedIps, Event, InfoHash, NumWant, PeerId};
use url::Url;

use super::exchange::CallReply;
use super::fault::{TrackerFault, shown};

/// The longest time until a refused announce is tried again, even after a "never".
const MAX_RETRY: Duration = Duration::from_hours(24);

/// What an announce tells the tracker about one torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwarmAnnounce {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Why the host announces; `None` for a regular announce.
    pub event: Option<Event>,
    /// Bytes uploaded since `started`.
    pub uploaded: u64,
    /// Bytes downloaded since `started`.
    pub downloaded: u64,
    /// Bytes still to download; 0 for a seed.
    pub left: u64,
    /// How many peers are wanted, at most.
    pub numwant: u32,
}

/// What the tracker replies to an announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwarmPeers {
    /// Peers of the torrent, at most 2,000, unchecked. This host can be among them.
    pub peers: Vec<SocketAddr>,
    /// The time until the next announce; `None` if the tracker gave no number.
    pub interval: Option<Duration>,
    /// The time before which this host must not announce again, except to report an event.
    pub min_interval: Option<Duration>,
    /// How many peers have the whole torrent.
    pub seeds: u32,
    /// How many peers have only a part of the torrent.
    pub leechers: u32,
}

impl SwarmAnnounce {
    /// Returns the path and the query of the request: those of the announce URL, and the parameters of this announce.
    pub(super) fn target(&self, url: &Url, peer_id: PeerId, port: NonZeroU16) -> String {
        let request = AnnounceRequest {
            info_hash: self.info_hash,
            peer_id,
            port: Some(port),
            uploaded: self.uploaded,
            downloaded: self.downloaded,
            left: Some(self.left),
            event: self.event,
            numwant: NumWant::AtMost(self.numwant),
            ids: false,
            key: None,
            claimed: ClaimedIps::default(),
        };
        let mut target = format!("{}?", url.path());
        if let Some(query) = url.query().filter(|query| !query.is_empty()) {
            target.push_str(query);
            target.push('&');
        }
        put_query(&mut target, &request, self.numwant, None, None);
        target
    }
}

impl SwarmPeers {
    pub(super) fn read(reply: &CallReply) -> Result<Self, TrackerFault> {
        let status = reply.status.as_u16();
        let seconds = |seconds: Option<u32>| seconds.map(|seconds| Duration::from_secs(seconds.into()));
        match parse_reply(&reply.body) {
            Ok(found) if status == 200 => {
                let v4 = found.peers.v4.into_iter().map(|peer| SocketAddr::from(peer.endpoint));
                let v6 = found.peers.v6.into_iter().map(|peer| SocketAddr::from(peer.endpoint));
                Ok(Self {
                    peers: v4.chain(v6).collect(),
                    interval: seconds(found.interval),
                    min_interval: seconds(found.min_interval),
                    seeds: found.complete,
                    leechers: found.incomplete,
                })
            }
            // Some trackers send a failure with a status other than 200.
            Err(UpstreamReplyError::Refused { reason, retry }) => {
                let retry_after = match retry {
                    Retry::Unsaid => None,
                    Retry::Minutes(minutes) => Some(Duration::from_secs(60 * u64::from(minutes))),
                    Retry::Seconds(seconds) => Some(Duration::from_secs(seconds.into())),
                    Retry::Never => Some(MAX_RETRY),
                };
                let retry_after = retry_after.map(|time| time.min(MAX_RETRY));
                Err(TrackerFault::Announce { reason: shown(&reason), retry_after })
            }
            Err(error) if status == 200 => Err(TrackerFault::WrongReply(error.to_string())),
            _ => Err(TrackerFault::WrongReply(format!("status {status}"))),
        }
    }
}
