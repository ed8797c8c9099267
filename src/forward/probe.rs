//! One announce, with which the operator checks a forwarder before clients depend on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use super::context::ExchangeContext;
use super::error::ForwardError;
use super::exchange::ExchangeRequest;
use super::headers::PassedHeaders;
use super::options::{AnnouncedIp, DEFAULT_NUMWANT, DEFAULT_TIMEOUT, ForwarderOptions};
use super::proxy::UpstreamProxies;
use super::session::ExchangeOutcome;
use super::upstream::UpstreamClient;
use tracker_protocol::via::Via;
use tracker_protocol::{AnnounceRequest, ClaimedIps, Event, InfoHash, NumWant, PeerId};

/// The port that a probe announces. Nothing listens there, and `stopped` follows at once.
const PORT: u16 = 6881;

/// What a forwarder answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The address that answered.
    pub from: SocketAddr,
    /// How long the answer took, from the look-up of the name to the last byte.
    pub latency: Duration,
    /// The time until the next announce of a client would be due.
    pub interval: Duration,
}

/// Announces a random torrent as if for a client, then sends `stopped`. If the entry names no timeout, the longer of
/// `timeout` and the default applies.
///
/// The future must be polled within a tokio `LocalSet`.
///
/// # Errors
/// Why there is no usable reply. A forwarder that answers [`ForwardError::Refused`] works, and may accept other
/// torrents.
pub async fn probe(
    options: &ForwarderOptions,
    proxies: &UpstreamProxies,
    timeout: Duration,
) -> Result<Probed, ForwardError> {
    let junk = |what| ForwardError::Junk { what, status: None };
    let context = ExchangeContext::new(None, proxies.clone(), Counter::default());
    let upstream = UpstreamClient::new(options, &Arc::new(context)).map_err(junk)?;
    let timeout = options.timeout.unwrap_or(DEFAULT_TIMEOUT.max(timeout));
    let request = random_announce();
    // The headers that a client without a `User-Agent` would have.
    let headers = PassedHeaders::new(None, &Via::default().and(&format!("retracker-{:016x}", fastrand::u64(..))));
    let ip = match options.ip {
        AnnouncedIp::Fixed(ip) => Some(ip),
        AnnouncedIp::AsSeen | AnnouncedIp::Client => None,
    };
    let start = Instant::now();
    let numwant = options.numwant.unwrap_or(DEFAULT_NUMWANT);
    let started = ExchangeRequest { request: &request, numwant, ip, tracker_id: None, headers: &headers };
    let answer = upstream.announce(&started, timeout).await?;
    let latency = start.elapsed();
    let (interval, tracker_id) = match ExchangeOutcome::accepted(&answer.reply) {
        ExchangeOutcome::Accepted { interval, tracker_id } => (interval, tracker_id),
        ExchangeOutcome::Refused(_) | ExchangeOutcome::Lost | ExchangeOutcome::Unsure => (Duration::ZERO, None),
    };
    let request = AnnounceRequest { event: Some(Event::Stopped), ..request.clone() };
    let stopped = ExchangeRequest { request: &request, numwant: 0, tracker_id: tracker_id.as_deref(), ..started };
    // The forwarder works, whatever it answers to `stopped`.
    let _ = upstream.announce(&stopped, timeout).await;
    Ok(Probed { from: answer.from, latency, interval })
}

fn random_announce() -> AnnounceRequest {
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
