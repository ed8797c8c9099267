//! Upstream trackers: every announce goes to all of them at once, and their peers come back within the deadline.
//!
//! One forwarder's failure is its own: it is counted, logged, and changes nothing of what the others gave.

mod connect;
mod error;
mod http;
mod reply;
mod resolve;
mod uri;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;
use url::Url;

pub use error::ForwardError;
pub use uri::host_and_port;

use self::http::{Along, HttpUpstream};
use crate::bittorrent::AnnounceRequest;
use crate::metrics::{ForwarderMetrics, Metrics};
use crate::wire::upstream::{self, UpstreamReply};
use crate::wire::via::Via;

/// Exchanges that may be under way with one forwarder. Past it, exchanges are skipped, not queued: an upstream that does
/// not answer must not hold more and more descriptors.
const MAX_IN_FLIGHT: usize = 256;

/// What the forwarders are told once.
#[derive(Clone, Debug, Default)]
pub struct ForwardOptions {
    /// The upstream trackers. `-f`, `FORWARDS_FILE`; none.
    pub forwarders: Vec<ForwarderOptions>,
    /// How long one exchange may take, connection and body included. `-t`, `FORWARD_TIMEOUT`; 2 seconds.
    pub timeout: Duration,
}

/// One entry of `forwarders.yml`.
#[derive(Clone, PartialEq, Eq)]
pub struct ForwarderOptions {
    /// By what name it goes in logs and metrics; no secret.
    pub name: String,
    /// Its announce URL, `http` or `https`. It may hold a passkey and is never logged.
    pub uri: Url,
    /// The address that the upstream is told to record, in place of the one that it sees.
    pub ip: Option<IpAddr>,
    /// What the `Host` header says, in place of the URL's own host.
    pub host: Option<String>,
}

impl fmt::Debug for ForwarderOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwarderOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether an entry can be used at all. The error is a sentence for the operator, without what may be a secret.
pub fn check(uri: &Url, host: Option<&str>) -> Result<(), String> {
    HttpUpstream::new(uri, host).map(drop)
}

/// An announce that has been passed on by so many is not passed on further.
const MAX_HOPS: usize = 4;

/// The configured upstream trackers.
#[derive(Debug)]
pub struct Forwarders {
    /// Our name in `Via`. Random, so that it is nobody else's, and new with every start.
    name: String,
    all: Vec<Arc<Forwarder>>,
    timeout: Duration,
    telling: TaskTracker,
}

/// What is told to upstream trackers of one announce.
#[derive(Clone, Copy, Debug)]
pub struct Outbound<'a> {
    /// The client's announce.
    pub request: &'a AnnounceRequest,
    /// How many peers are asked for.
    pub numwant: u32,
    /// The client's `User-Agent`, which goes along.
    pub user_agent: Option<&'a [u8]>,
    /// By whom the announce has been passed on to us.
    pub via: &'a Via,
}

/// What one forwarder gave.
#[derive(Clone, Debug)]
pub struct FromUpstream {
    /// The address under which the forwarder knows the client, where its entry names one.
    pub announced_ip: Option<IpAddr>,
    /// Its reply.
    pub reply: UpstreamReply,
}

#[derive(Debug)]
struct Forwarder {
    name: String,
    ip: Option<IpAddr>,
    http: HttpUpstream,
    in_flight: AtomicUsize,
    health: Mutex<Health>,
    metrics: ForwarderMetrics,
}

/// What the log was told of a forwarder at the default level, where requests are not logged but faults are.
#[derive(Debug, Default)]
struct Health {
    failing: bool,
    told: Option<Instant>,
}

/// A forwarder that fails now and then is reported at most this often.
const REPORT_PAUSE: Duration = Duration::from_mins(1);

impl Forwarders {
    /// Prepares the forwarders; none when none are configured. The error is a sentence that names the entry.
    pub fn new(options: &ForwardOptions, metrics: &Metrics) -> Result<Option<Self>, String> {
        let all = options
            .forwarders
            .iter()
            .map(|entry| {
                let http = HttpUpstream::new(&entry.uri, entry.host.as_deref())
                    .map_err(|error| format!("forwarder {}: {error}", entry.name))?;
                Ok(Arc::new(Forwarder {
                    name: entry.name.clone(),
                    ip: entry.ip,
                    http,
                    in_flight: AtomicUsize::new(0),
                    health: Mutex::default(),
                    metrics: metrics.forwarder(&entry.name),
                }))
            })
            .collect::<Result<Vec<_>, String>>()?;
        for (n, forwarder) in all.iter().enumerate() {
            if all.iter().take(n).any(|other: &Arc<Forwarder>| other.name == forwarder.name) {
                log::warn!("two forwarders are called {}: give them a name each to tell them apart", forwarder.name);
            }
        }
        let timeout = options.timeout;
        Ok((!all.is_empty()).then_some(Self {
            name: format!("retracker-{:016x}", fastrand::u64(..)),
            all,
            timeout,
            telling: TaskTracker::new(),
        }))
    }

    /// Asks all forwarders at once and waits for the last of them, or the timeout. In the order of configuration, without
    /// those that failed.
    pub async fn announce(&self, outbound: Outbound<'_>) -> Vec<FromUpstream> {
        let Some(along) = self.along(outbound) else { return Vec::new() };
        let Outbound { request, numwant, .. } = outbound;
        let exchanges = self.all.iter().map(|forwarder| forwarder.announce(request, numwant, &along, self.timeout));
        join_all(exchanges).await.into_iter().flatten().collect()
    }

    /// Tells all forwarders without anybody waiting for their answers.
    pub fn tell(&self, outbound: Outbound<'_>) {
        for forwarder in &self.all {
            let Some(along) = self.along(outbound) else { return };
            let (forwarder, timeout) = (Arc::clone(forwarder), self.timeout);
            let (request, numwant) = (outbound.request.clone(), outbound.numwant);
            self.telling.spawn_local(async move {
                forwarder.announce(&request, numwant, &along, timeout).await;
            });
        }
    }

    /// Whether an announce is one that we have passed on, come back to us.
    pub fn have_passed_on(&self, via: &Via) -> bool {
        via.names(&self.name)
    }

    /// The headers of an announce that is passed on; none when it has come far enough.
    fn along(&self, outbound: Outbound<'_>) -> Option<Along> {
        let goes_on = outbound.via.hops() < MAX_HOPS;
        goes_on.then(|| Along::new(outbound.user_agent, &outbound.via.and(&self.name)))
    }

    /// Done when nothing that [`Self::tell`] began is under way, on any thread. What is begun later is not waited for.
    pub async fn all_told(&self) {
        self.telling.close();
        self.telling.wait().await;
    }
}

impl Forwarder {
    async fn announce(
        &self,
        request: &AnnounceRequest,
        numwant: u32,
        along: &Along,
        timeout: Duration,
    ) -> Option<FromUpstream> {
        let info_hash = request.info_hash;
        let Some(_place) = Place::take(self) else {
            let busy = ForwardError::Busy;
            log::debug!("forwarder {}: {info_hash}: {busy}", self.name);
            self.metrics.exchange_skipped(busy.label());
            return None;
        };
        let mut query = String::with_capacity(512);
        upstream::put_query(&mut query, request, numwant, self.ip);
        let start = Instant::now();
        let result = self.http.announce(&query, along, timeout).await;
        let elapsed = start.elapsed();
        self.report(result.as_ref().err());
        match result {
            Ok(reply) => {
                log::debug!("forwarder {}: {info_hash} gave {} peers in {elapsed:.1?}", self.name, reply.peers.len());
                self.metrics.exchange_ended("ok", Some(200), elapsed, reply.peers.len());
                Some(FromUpstream { announced_ip: self.ip, reply })
            }
            Err(error) => {
                log::debug!("forwarder {}: {info_hash} failed after {elapsed:.1?}: {error}", self.name);
                self.metrics.exchange_ended(error.label(), error.status(), elapsed, 0);
                None
            }
        }
    }
}

impl Forwarder {
    /// Tells the operator when a forwarder begins to fail, and when it answers again.
    fn report(&self, error: Option<&ForwardError>) {
        let fault = error.filter(|error| error.is_the_forwarders());
        let mut health = self.health.lock();
        if health.failing == fault.is_some() || health.told.is_some_and(|told| told.elapsed() < REPORT_PAUSE) {
            return;
        }
        *health = Health { failing: fault.is_some(), told: Some(Instant::now()) };
        drop(health);
        match fault {
            Some(error) => log::warn!("forwarder {}: {error}; further failures are logged with -d", self.name),
            None => log::info!("forwarder {}: answers again", self.name),
        }
    }
}

/// A place among the exchanges under way, given back when the exchange ends, however it does.
struct Place<'a>(&'a Forwarder);

impl<'a> Place<'a> {
    fn take(forwarder: &'a Forwarder) -> Option<Self> {
        let taken = forwarder.in_flight.fetch_update(Relaxed, Relaxed, |n| (n < MAX_IN_FLIGHT).then_some(n + 1));
        taken.ok().map(|_| {
            forwarder.metrics.in_flight.inc();
            Self(forwarder)
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
        self.0.metrics.in_flight.dec();
    }
}
