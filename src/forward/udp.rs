//! One announce to an upstream tracker over UDP (BEP 15).

mod link;

use std::collections::HashMap;
use std::fmt;
use std::iter::successors;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use self::link::{Link, UnconfirmedId};
use super::error::ForwardError;
use super::exchange::{ExchangeReply, ExchangeRequest};
use super::own::ReplyOrigin;
use super::resolve::Resolver;
use super::uri::{Secrets, host_and_port};
use tracker_protocol::udp::{self, Announce, ConnectionId, ResponseError};
use tracker_protocol::upstream::{Retry, UpstreamReply};

/// The longest timeout that is used. Longer ones are cut, so that sums of times do not overflow.
const MAX_TIMEOUT: Duration = Duration::from_hours(24);

/// The most bytes of path and query together. An announce also names the retrackers that passed it on, and must not
/// exceed 1280 bytes: every IPv6 network carries that unfragmented, and many networks lose fragments.
const MAX_URL_DATA: usize = 768;

/// How long to wait for a response to the first packet. The wait doubles with each packet. BEP 15 starts with 15
/// seconds, too long here: by default, a client's announce waits two seconds, in which a lost packet must be sent
/// again.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// How long a socket is used. The next one has another port, so an attacker who forges replies must guess again.
const SOCKET_LIFETIME: Duration = Duration::from_mins(2);

/// An upstream tracker that is reached over UDP.
pub(super) struct UdpUpstream {
    /// The host with its port, as in the uri. It is not secret.
    host: String,
    /// A URL of the host and the port, for the resolver.
    address: Url,
    /// Path and query of the uri (BEP 41).
    url_data: Vec<u8>,
    secrets: Secrets,
    resolver: Resolver,
    links: Mutex<HashMap<SocketAddr, Arc<Link>>>,
}

impl UdpUpstream {
    /// Checks a forwarder's `uri`. The error is for the operator, and continues a sentence that names the forwarder.
    pub(super) fn new(uri: &Url) -> Result<Self, String> {
        if uri.scheme() != "udp" {
            return Err(format!("its uri begins with {}://, but must begin with udp://", uri.scheme()));
        }
        let host = uri.host_str().filter(|host| !host.is_empty()).ok_or("its uri names no host")?;
        let port = match uri.port() {
            None => return Err("its uri names no port, and UDP trackers have no default port".to_owned()),
            Some(0) => return Err("its uri names port 0, where nothing can listen".to_owned()),
            Some(port) => port,
        };
        // `Url` checks names and addresses in web schemes only.
        let address = Url::parse(&format!("http://{host}:{port}"));
        let address = address.map_err(|_| "its uri names a host that is neither a name nor an address")?;
        let url_data = url_data(uri);
        if url_data.len() > MAX_URL_DATA {
            return Err(format!("its uri is too long: path and query may have at most {MAX_URL_DATA} bytes"));
        }
        let (host, secrets) = (host_and_port(uri), Secrets::of(uri));
        Ok(Self { host, address, url_data, secrets, resolver: Resolver::new(), links: Mutex::default() })
    }

    /// Sends one announce and reads the reply. `timeout` covers the look-up of the name, the connection id and repeated
    /// packets.
    ///
    /// The future must be polled within a tokio `LocalSet`, always on the same thread: a task on that thread reads the
    /// socket.
    pub(super) async fn announce(
        &self,
        request: &ExchangeRequest<'_>,
        timeout: Duration,
    ) -> Result<ExchangeReply, ForwardError> {
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let exchange = async {
            let addresses = self.resolver.addresses(&self.address).await?;
            self.try_in_turn(request, addresses, deadline).await
        };
        timeout_at(deadline, exchange).await.unwrap_or(Err(ForwardError::Timeout))
    }

    /// Tries the addresses in turn until one answers.
    async fn try_in_turn(
        &self,
        request: &ExchangeRequest<'_>,
        mut addresses: Vec<SocketAddr>,
        deadline: Instant,
    ) -> Result<ExchangeReply, ForwardError> {
        if matches!(request.ip, Some(IpAddr::V4(_))) {
            // IPv4 first: an announce over IPv6 cannot carry an IPv4 address to record.
            addresses.sort_by_key(SocketAddr::is_ipv6);
        }
        let mut failure: Option<ForwardError> = None;
        for (tried, &address) in addresses.iter().enumerate() {
            let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            // An address that does not answer must leave time for the others.
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            let error = match timeout(share, self.try_address(request, address)).await {
                Ok(Ok(reply)) => {
                    self.resolver.answered(address);
                    return Ok(ExchangeReply { reply, from: address, origin: ReplyOrigin::at(address.ip()) });
                }
                Ok(Err(error @ (ForwardError::Connect(_) | ForwardError::Local(_)))) => error,
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => ForwardError::Timeout,
            };
            failure = Some(error.after(failure));
        }
        Err(failure.unwrap_or_else(|| ForwardError::Dns("it has no address".to_owned())))
    }

    /// Announces to one address. The caller limits the time.
    async fn try_address(
        &self,
        request: &ExchangeRequest<'_>,
        address: SocketAddr,
    ) -> Result<UpstreamReply, ForwardError> {
        let link = self.link(address)?;
        if let Some(id) = link.id() {
            let unconfirmed = UnconfirmedId::new(&link, id);
            // Only one attempt: silence or an error may mean that the tracker no longer accepts the connection id, for
            // instance after a restart.
            match self.announce_with(id, request, &link, waits().take(1)).await {
                Err(ForwardError::Timeout | ForwardError::Refused { .. }) => {}
                result => {
                    unconfirmed.confirm();
                    return result;
                }
            }
            drop(unconfirmed);
            log::debug!(
                "forwarder at {address}: did not answer, or refused, an announce with the cached connection id; a new id is \
                 requested"
            );
        }
        let id = self.connect(&link).await?;
        self.announce_with(id, request, &link, waits()).await
    }

    /// Returns the link to an address. Makes a new link if there is none, or if the last link is too old.
    fn link(&self, address: SocketAddr) -> Result<Arc<Link>, ForwardError> {
        let mut links = self.links.lock();
        // Links to an upstream's old addresses must not accumulate. An exchange under way keeps its link.
        links.retain(|_, link| link.age() < SOCKET_LIFETIME);
        if let Some(link) = links.get(&address) {
            return Ok(Arc::clone(link));
        }
        let link = Link::new(address).map_err(|error| ForwardError::Local(error.to_string()))?;
        Ok(Arc::clone(links.entry(address).or_insert(Arc::new(link))))
    }

    async fn connect(&self, link: &Link) -> Result<ConnectionId, ForwardError> {
        let response = link.request(udp::encode_connect, waits()).await?;
        let id = udp::parse_connected(&response).map_err(|error| self.response_error(error))?;
        link.set_id(id);
        Ok(id)
    }

    async fn announce_with(
        &self,
        id: ConnectionId,
        request: &ExchangeRequest<'_>,
        link: &Link,
        waits: impl Iterator<Item = Duration>,
    ) -> Result<UpstreamReply, ForwardError> {
        let ip = match (link.address(), request.ip) {
            (SocketAddr::V4(_), Some(IpAddr::V4(ip))) => Some(ip),
            _ => None,
        };
        let announce = Announce {
            request: request.request,
            numwant: request.numwant,
            ip,
            key: udp::key(request.request.key.as_ref()),
            url_data: &self.url_data,
            via: request.headers.via(),
        };
        let packet = |transaction| udp::encode_announce(id, transaction, &announce);
        let response = link.request(packet, waits).await?;
        udp::parse_announced(&response, link.address().ip()).map_err(|error| self.response_error(error))
    }

    fn response_error(&self, error: ResponseError) -> ForwardError {
        match error {
            ResponseError::Refused { reason } => ForwardError::Refused {
                reason: self.secrets.redact(&reason),
                retry: Retry::Unsaid,
                status: None,
                retry_after: None,
            },
            junk => ForwardError::Junk { what: junk.to_string(), status: None },
        }
    }
}

impl fmt::Debug for UdpUpstream {
    /// Leaves out path and query, which may contain a passkey.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpUpstream").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Returns path and query, unless both are empty.
fn url_data(uri: &Url) -> Vec<u8> {
    match (uri.path(), uri.query()) {
        ("" | "/", None) => Vec::new(),
        (path, None) => path.into(),
        (path, Some(query)) => format!("{path}?{query}").into(),
    }
}

/// Returns how long to wait for a response each time that a packet is sent.
fn waits() -> impl Iterator<Item = Duration> {
    successors(Some(FIRST_WAIT), |wait| Some(wait.saturating_mul(2)))
}

#[cfg(test)]
mod tests;
