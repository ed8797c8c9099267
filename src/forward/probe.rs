//! One announce to a forwarder to see whether it answers: for the operator, before clients depend on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::context::ExchangeContext;
use super::error::ForwardError;
use super::forwarder::NUMWANT;
use super::http::PassedHeaders;
use super::session::ExchangeOutcome;
use super::upstream::{Ask, Upstream};
use super::{AnnouncedIp, DEFAULT_TIMEOUT, ForwarderOptions, Proxies};
use tracker_protocol::via::Via;
use tracker_protocol::{AnnounceRequest, ClaimedIps, Event, InfoHash, NumWant, PeerId};

/// Where the peer of a probe says that it listens: nothing does, and it is signed off at once.
const PORT: u16 = 6881;

/// What a forwarder answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The address that answered.
    pub from: SocketAddr,
    /// How long that took, from the look-up of its name to the last byte.
    pub latency: Duration,
    /// When it would want to hear of a peer again.
    pub interval: Duration,
}

/// Announces a torrent that nobody has, as an announce of a client goes upstream, and signs off again. `timeout` is for an
/// entry that names none, if it is longer than the usual one.
///
/// The future must be polled within a tokio `LocalSet`.
///
/// # Errors
/// Why it gave no sensible answer. [`ForwardError::Refused`] is one that is there: it may well take other torrents.
pub async fn probe(options: &ForwarderOptions, proxies: &Proxies, timeout: Duration) -> Result<Probed, ForwardError> {
    let junk = |what| ForwardError::Junk { what, status: None };
    let context = ExchangeContext::new(None, proxies.clone(), Counter::default());
    let upstream = Upstream::new(options, &Arc::new(context)).map_err(junk)?;
    let timeout = options.timeout.unwrap_or(DEFAULT_TIMEOUT.max(timeout));
    let request = stranger();
    // What an announce of ours says that comes from a client which does not say what it is.
    let along = PassedHeaders::new(None, &Via::default().and(&format!("retracker-{:016x}", fastrand::u64(..))));
    let ip = match options.ip {
        AnnouncedIp::Fixed(ip) => Some(ip),
        AnnouncedIp::AsSeen | AnnouncedIp::Client => None,
    };
    let start = Instant::now();
    let ask =
        Ask { request: &request, numwant: options.numwant.unwrap_or(NUMWANT), ip, tracker_id: None, along: &along };
    let answer = upstream.announce(&ask, timeout).await?;
    let latency = start.elapsed();
    let (interval, tracker_id) = match ExchangeOutcome::taken(&answer.reply) {
        ExchangeOutcome::Taken { interval, tracker_id } => (interval, tracker_id),
        ExchangeOutcome::Refused(_) | ExchangeOutcome::Lost | ExchangeOutcome::Unsure => (Duration::ZERO, None),
    };
    let stopped = AnnounceRequest { event: Some(Event::Stopped), ..request.clone() };
    let farewell = Ask { request: &stopped, numwant: 0, tracker_id: tracker_id.as_deref(), ..ask };
    // What it says to that is of no interest: it has answered.
    let _ = upstream.announce(&farewell, timeout).await;
    Ok(Probed { from: answer.from, latency, interval })
}

fn stranger() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(std::array::from_fn(|_| fastrand::u8(..))),
        peer_id: PeerId(std::array::from_fn(|at| {
            b"-RE0100-".get(at).copied().unwrap_or_else(|| fastrand::u8(b'0'..=b'9'))
        })),
        port: std::num::NonZeroU16::new(PORT),
        uploaded: 0,
        downloaded: 0,
        left: None,
        event: Some(Event::Started),
        numwant: NumWant::AtMost(0),
        key: Some(format!("{:08X}", fastrand::u32(..)).as_bytes().into()),
        ids: false,
        claimed: ClaimedIps::default(),
    }
}
