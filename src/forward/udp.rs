//! One announce to an upstream tracker over UDP (BEP 15): what is sent where, and how replies find who waits for them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::iter::successors;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::error::{ForwardError, is_shortage};
use super::own::Teller;
use super::resolve::Resolver;
use super::upstream::{Ask, UpstreamAnswer};
use super::uri::{Secrets, host_and_port};
use tracker_protocol::udp::{self, Announce, ConnectionId, ResponseError, TransactionId};
use tracker_protocol::upstream::{Retry, UpstreamReply};

/// No exchange takes as long. It keeps sums with the time from overflowing.
const MAX_TIMEOUT: Duration = Duration::from_hours(24);

/// The longest path and query that are sent. With more an announce that others have passed on would not fit into the 1280
/// bytes that every IPv6 network carries in one piece, and many a network loses what goes in several.
const MAX_URL_DATA: usize = 768;

/// How long the first packet waits for its answer; the second waits twice as long, and so on. BEP 15 begins with 15
/// seconds, which suits a client that has all day: our clients wait for us, two seconds unless configured, and a packet
/// that is lost must be sent again within them.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// How long a connection id is used after it came. BEP 15 has trackers accept it for two minutes; clients it lets use one
/// for one minute, but a strict tracker costs us no more than a second attempt.
const ID_LASTS: Duration = Duration::from_mins(2);

/// No datagram is longer; of one that is longer than its buffer the rest is lost without a word. 200 IPv6 peers take
/// 3,620 bytes, but nothing keeps a tracker from sending more, and there is one buffer for each socket only.
const BUFFER: usize = 64 * 1024;

/// How long a socket rests after an error, so that one that persists costs no more than this.
const REST: Duration = Duration::from_millis(50);

/// How long a socket is used. Who would answer in the tracker's place has to guess its port anew each time.
const SOCKET_LASTS: Duration = ID_LASTS;

/// An upstream tracker that is asked over UDP.
pub(super) struct UdpUpstream {
    /// With the port, as in the uri. It holds no secret.
    host: String,
    /// The host and the port, for the resolver.
    place: Url,
    /// Path and query of the uri (BEP 41).
    url_data: Vec<u8>,
    secrets: Secrets,
    resolver: Resolver,
    links: Mutex<HashMap<SocketAddr, Arc<Link>>>,
}

impl UdpUpstream {
    /// Prepares for a forwarder's `uri`. The error is for the operator, and continues a sentence that names the
    /// forwarder.
    pub(super) fn new(uri: &Url) -> Result<Self, String> {
        if uri.scheme() != "udp" {
            return Err(format!("its uri begins with {}://, but must begin with udp://", uri.scheme()));
        }
        let host = uri.host_str().filter(|host| !host.is_empty()).ok_or("its uri names no host")?;
        let port = match uri.port() {
            None => return Err("its uri names no port, and UDP trackers have no usual one".to_owned()),
            Some(0) => return Err("its uri names port 0, where nothing can listen".to_owned()),
            Some(port) => port,
        };
        // `Url` knows what names and addresses look like in the schemes of the web only.
        let place = Url::parse(&format!("http://{host}:{port}"));
        let place = place.map_err(|_| "its uri names a host that is neither a name nor an address")?;
        let url_data = url_data(uri);
        if url_data.len() > MAX_URL_DATA {
            return Err(format!("its uri is too long: path and query may have {MAX_URL_DATA} bytes"));
        }
        let (host, secrets) = (host_and_port(uri), Secrets::of(uri));
        Ok(Self { host, place, url_data, secrets, resolver: Resolver::new(), links: Mutex::default() })
    }

    /// Sends one announce and reads the reply. `timeout` covers everything: the name, the connection id, and what is
    /// sent again.
    ///
    /// The future must be polled within a tokio `LocalSet`, always on the same thread: there the sockets are read.
    pub(super) async fn announce(&self, ask: &Ask<'_>, timeout: Duration) -> Result<UpstreamAnswer, ForwardError> {
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let exchange = async {
            let addresses = self.resolver.addresses(&self.place).await?;
            self.ask_in_turn(ask, addresses, deadline).await
        };
        timeout_at(deadline, exchange).await.unwrap_or(Err(ForwardError::Timeout))
    }

    /// Asks the addresses in turn until one answers.
    async fn ask_in_turn(
        &self,
        ask: &Ask<'_>,
        mut addresses: Vec<SocketAddr>,
        deadline: Instant,
    ) -> Result<UpstreamAnswer, ForwardError> {
        if matches!(ask.ip, Some(IpAddr::V4(_))) {
            // Only over IPv4 can it be told.
            addresses.sort_by_key(SocketAddr::is_ipv6);
        }
        let mut failure: Option<ForwardError> = None;
        for (tried, &address) in addresses.iter().enumerate() {
            let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            // An address that swallows packets must leave time for the others.
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            let error = match timeout(share, self.ask(ask, address)).await {
                Ok(Ok(reply)) => {
                    self.resolver.answered(address);
                    return Ok(UpstreamAnswer { reply, from: address, teller: Teller::at(address.ip()) });
                }
                Ok(Err(error @ (ForwardError::Connect(_) | ForwardError::Local(_)))) => error,
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => ForwardError::Timeout,
            };
            failure = Some(error.after(failure));
        }
        Err(failure.unwrap_or_else(|| ForwardError::Dns("it has no address".to_owned())))
    }

    /// Asks one address for as long as it is let to.
    async fn ask(&self, ask: &Ask<'_>, address: SocketAddr) -> Result<UpstreamReply, ForwardError> {
        let link = self.link(address)?;
        if let Some(id) = link.kept() {
            let doubt = Doubt { link: &link, id };
            // Once: silence may mean that the packet is lost, but also that the tracker does not know the id any more, and
            // so may an error: of one that was started anew, for instance.
            match self.announce_with(id, ask, &link, waits().take(1)).await {
                Err(ForwardError::Timeout | ForwardError::Refused { .. }) => {}
                result => {
                    std::mem::forget(doubt);
                    return result;
                }
            }
            drop(doubt);
            log::debug!("forwarder at {address}: its connection id is not taken any more, asking for another");
        }
        let id = self.connect(&link).await?;
        self.announce_with(id, ask, &link, waits()).await
    }

    /// The link to an address, a new one if the last is too old. What keeps it from being made may pass: it is tried every
    /// time.
    fn link(&self, address: SocketAddr) -> Result<Arc<Link>, ForwardError> {
        let mut links = self.links.lock();
        // Of upstreams that move, the old addresses do not pile up. Exchanges under way keep theirs.
        links.retain(|_, link| link.opened.elapsed() < SOCKET_LASTS);
        if let Some(link) = links.get(&address) {
            return Ok(Arc::clone(link));
        }
        let link = Link::new(address).map_err(|error| ForwardError::Local(error.to_string()))?;
        Ok(Arc::clone(links.entry(address).or_insert(Arc::new(link))))
    }

    async fn connect(&self, link: &Link) -> Result<ConnectionId, ForwardError> {
        let response = link.ask(udp::encode_connect, waits()).await?;
        let id = udp::parse_connected(&response).map_err(|error| self.response_error(error))?;
        link.keep(id);
        Ok(id)
    }

    async fn announce_with(
        &self,
        id: ConnectionId,
        ask: &Ask<'_>,
        link: &Link,
        waits: impl Iterator<Item = Duration>,
    ) -> Result<UpstreamReply, ForwardError> {
        let ip = match (link.address, ask.ip) {
            (SocketAddr::V4(_), Some(IpAddr::V4(ip))) => Some(ip),
            _ => None,
        };
        let announce = Announce {
            request: ask.request,
            numwant: ask.numwant,
            ip,
            key: udp::key(ask.request.key.as_ref()),
            url_data: &self.url_data,
            via: ask.along.via(),
        };
        let packet = |transaction| udp::encode_announce(id, transaction, &announce);
        let response = link.ask(packet, waits).await?;
        udp::parse_announced(&response, link.address.ip()).map_err(|error| self.response_error(error))
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
    /// Path and query may hold a passkey.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpUpstream").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Path and query, if there is anything in them.
fn url_data(uri: &Url) -> Vec<u8> {
    match (uri.path(), uri.query()) {
        ("" | "/", None) => Vec::new(),
        (path, None) => path.into(),
        (path, Some(query)) => format!("{path}?{query}").into(),
    }
}

/// How long to wait for an answer each time that a packet is sent.
fn waits() -> impl Iterator<Item = Duration> {
    successors(Some(FIRST_WAIT), |wait| Some(wait.saturating_mul(2)))
}

/// A socket that speaks with one address of one upstream, and with nobody else: the system drops what comes from elsewhere,
/// and tells when nothing listens there. It ends with its last user.
struct Link {
    address: SocketAddr,
    socket: Arc<UdpSocket>,
    waiting: Arc<PendingRequests>,
    id: Mutex<Option<Kept>>,
    opened: Instant,
    _reader: AbortOnDropHandle<()>,
}

/// A connection id.
#[derive(Clone, Copy)]
struct Kept {
    id: ConnectionId,
    received: Instant,
}

/// What comes back: a response, or why there will be none.
type Response = Result<Vec<u8>, ForwardError>;

/// Who waits for which response. Gone once it was used.
#[derive(Default)]
struct PendingRequests(Mutex<HashMap<TransactionId, Option<oneshot::Sender<Response>>>>);

impl Link {
    fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = Arc::new(bind(address)?);
        let waiting = Arc::<PendingRequests>::default();
        let reader = spawn_local(read(Arc::clone(&socket), Arc::clone(&waiting)));
        let (id, opened) = (Mutex::default(), Instant::now());
        Ok(Self { address, socket, waiting, id, opened, _reader: AbortOnDropHandle::new(reader) })
    }

    /// Sends a packet, and again whenever the next of `waits` has passed, until it is answered. [`ForwardError::Timeout`]
    /// when it is not within the last.
    async fn ask(&self, packet: impl Fn(TransactionId) -> Vec<u8>, waits: impl Iterator<Item = Duration>) -> Response {
        let mut place = self.waiting.place()?;
        // The same packet each time: so the answer to any of them is an answer.
        let packet = packet(place.transaction);
        for wait in waits {
            self.socket.send(&packet).await.map_err(|error| socket_error(&error))?;
            if let Ok(response) = timeout(wait, &mut place.response).await {
                return response.unwrap_or(Err(ForwardError::Timeout));
            }
        }
        Err(ForwardError::Timeout)
    }

    fn kept(&self) -> Option<ConnectionId> {
        self.id.lock().filter(|kept| kept.received.elapsed() < ID_LASTS).map(|kept| kept.id)
    }

    fn keep(&self, id: ConnectionId) {
        *self.id.lock() = Some(Kept { id, received: Instant::now() });
    }

    /// Forgets this id, but not one that another exchange has got in the meantime.
    fn forget(&self, id: ConnectionId) {
        self.id.lock().take_if(|kept| kept.id == id);
    }
}

/// What a socket that is there reports. That nothing listens there comes from the other side; all else is this host's.
fn socket_error(error: &io::Error) -> ForwardError {
    match error.kind() {
        _ if is_shortage(error) => ForwardError::Local(error.to_string()),
        io::ErrorKind::ConnectionRefused => ForwardError::Connect(error.to_string()),
        _ => ForwardError::Local(error.to_string()),
    }
}

/// Forgets a connection id when it goes, unless the tracker has shown that it knows the id; so also when the time is up
/// before the tracker was silent for long enough.
struct Doubt<'a> {
    link: &'a Link,
    id: ConnectionId,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.link.forget(self.id);
    }
}

/// A socket on a random port that the system chooses, connected.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.connect(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Hands out responses for as long as the socket lasts.
async fn read(socket: Arc<UdpSocket>, waiting: Arc<PendingRequests>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => waiting.deliver(buffer.get(..length).unwrap_or_default()),
            Err(error) => {
                waiting.fail(&socket_error(&error));
                sleep(REST).await;
            }
        }
    }
}

impl PendingRequests {
    /// A place to wait for an answer. Its transaction id is the system's, so that it cannot be guessed from earlier ones.
    fn place(&self) -> Result<PendingRequest<'_>, ForwardError> {
        let (sender, response) = oneshot::channel();
        loop {
            let transaction = TransactionId(getrandom::u32().map_err(|error| ForwardError::Local(error.to_string()))?);
            if let Entry::Vacant(entry) = self.0.lock().entry(transaction) {
                entry.insert(Some(sender));
                return Ok(PendingRequest { all: self, transaction, response });
            }
        }
    }

    /// What nobody waits for is dropped.
    fn deliver(&self, response: &[u8]) {
        let Some(transaction) = udp::transaction(response) else { return };
        if let Some(sender) = self.0.lock().get_mut(&transaction).and_then(Option::take) {
            // Who waited may have given up this moment.
            let _ = sender.send(Ok(response.to_vec()));
        }
    }

    /// Nobody will be answered.
    fn fail(&self, error: &ForwardError) {
        for sender in self.0.lock().values_mut().filter_map(Option::take) {
            let _ = sender.send(Err(error.clone()));
        }
    }
}

/// A place among those who wait, given up when the wait ends, however it does.
struct PendingRequest<'a> {
    all: &'a PendingRequests,
    transaction: TransactionId,
    response: oneshot::Receiver<Response>,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.transaction);
    }
}

#[cfg(test)]
mod tests;
