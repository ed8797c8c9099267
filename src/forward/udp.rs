//! One announce to an upstream tracker over UDP (BEP 15): what is sent where, and how replies find who waits for them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::iter::successors;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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

use super::error::ForwardError;
use super::resolve::Resolver;
use super::upstream::{Answer, Ask};
use super::uri::{Secrets, host_and_port};
use crate::wire::udp::{self, Announce, ConnectionId, ResponseError, TransactionId};
use crate::wire::upstream::{Retry, UpstreamReply};

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
    sockets: Arc<UdpSockets>,
}

impl UdpUpstream {
    /// Prepares for a forwarder's `uri`. The error is for the operator, and continues a sentence that names the
    /// forwarder.
    pub(super) fn new(uri: &Url, sockets: Arc<UdpSockets>) -> Result<Self, String> {
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
        Ok(Self { host, place, url_data, secrets, resolver: Resolver::new(), sockets })
    }

    /// Sends one announce and reads the reply. `timeout` covers everything: the name, the connection id, and what is
    /// sent again.
    ///
    /// The future must be polled within a tokio `LocalSet`, always on the same thread: there the sockets are read.
    pub(super) async fn announce(&self, ask: &Ask<'_>, timeout: Duration) -> Result<Answer, ForwardError> {
        let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
        let exchange = async {
            let addresses = self.resolver.usual(&self.place).await.map_err(ForwardError::Dns)?;
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
    ) -> Result<Answer, ForwardError> {
        if matches!(ask.ip, Some(IpAddr::V4(_))) {
            // Only over IPv4 can it be told.
            addresses.sort_by_key(SocketAddr::is_ipv6);
        }
        let mut failure = ForwardError::Dns("it has no address".to_owned());
        for (tried, &address) in addresses.iter().enumerate() {
            let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            // An address that swallows packets must leave time for the others.
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            match timeout(share, self.ask(ask, address)).await {
                Ok(Ok(reply)) => {
                    self.resolver.answered(address);
                    return Ok(Answer { reply, from: address });
                }
                // That this host lacks one family says less than silence in the other.
                Ok(Err(ForwardError::Connect(_))) if failure == ForwardError::Timeout => {}
                Ok(Err(error @ ForwardError::Connect(_))) => failure = error,
                Ok(Err(error)) => return Err(error),
                Err(_elapsed) => failure = ForwardError::Timeout,
            }
        }
        Err(failure)
    }

    /// Asks one address for as long as it is let to.
    async fn ask(&self, ask: &Ask<'_>, address: SocketAddr) -> Result<UpstreamReply, ForwardError> {
        if let Some(kept) = self.sockets.kept(address) {
            let doubt = Doubt { sockets: &self.sockets, address, id: kept.id };
            // Once: silence may mean that the packet is lost, but also that the tracker does not know the id any more, and
            // so may an error: of one that was started anew, for instance.
            match self.announce_with(kept.id, ask, address, waits().take(1)).await {
                Err(ForwardError::Timeout | ForwardError::Refused { .. }) => {}
                result => {
                    std::mem::forget(doubt);
                    return result;
                }
            }
            drop(doubt);
            log::debug!("forwarder at {address}: its connection id is not taken any more, asking for another");
        }
        let id = self.connect(address).await?;
        self.announce_with(id, ask, address, waits()).await
    }

    async fn connect(&self, address: SocketAddr) -> Result<ConnectionId, ForwardError> {
        let response = self.sockets.ask(address, udp::encode_connect, waits()).await?;
        let id = udp::parse_connected(&response).map_err(|error| self.response_error(error))?;
        self.sockets.keep(address, id);
        Ok(id)
    }

    async fn announce_with(
        &self,
        id: ConnectionId,
        ask: &Ask<'_>,
        address: SocketAddr,
        waits: impl Iterator<Item = Duration>,
    ) -> Result<UpstreamReply, ForwardError> {
        let ip = match (address, ask.ip) {
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
        let response = self.sockets.ask(address, packet, waits).await?;
        udp::parse_announced(&response, address.ip()).map_err(|error| self.response_error(error))
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

/// The process's sockets, one for each address family, bound when the first packet goes to an address of that family.
/// What the trackers gave is kept here as well, as one tracker may be several forwarders'.
#[derive(Default)]
pub(super) struct UdpSockets {
    v4: Mutex<Option<Bound>>,
    v6: Mutex<Option<Bound>>,
    waiting: Arc<Waiting>,
    ids: Mutex<HashMap<SocketAddr, Kept>>,
}

/// A socket and the task that reads it, which ends with it.
struct Bound {
    socket: Arc<UdpSocket>,
    _reader: AbortOnDropHandle<()>,
}

/// A connection id.
#[derive(Clone, Copy)]
struct Kept {
    id: ConnectionId,
    received: Instant,
}

/// Who waits for which response.
#[derive(Default)]
struct Waiting(Mutex<HashMap<TransactionId, Asked>>);

struct Asked {
    /// Nobody else's answer counts.
    address: SocketAddr,
    /// Gone once it was used.
    response: Option<oneshot::Sender<Vec<u8>>>,
}

impl UdpSockets {
    /// Sends a packet, and again whenever the next of `waits` has passed, until it is answered. [`ForwardError::Timeout`]
    /// when it is not within the last.
    async fn ask(
        &self,
        address: SocketAddr,
        packet: impl Fn(TransactionId) -> Vec<u8>,
        waits: impl Iterator<Item = Duration>,
    ) -> Result<Vec<u8>, ForwardError> {
        let unsent = |error: io::Error| ForwardError::Connect(error.to_string());
        let socket = self.socket(address).map_err(unsent)?;
        let mut place = self.waiting.place(address);
        // The same packet each time: so the answer to any of them is an answer.
        let packet = packet(place.transaction);
        for wait in waits {
            socket.send_to(&packet, address).await.map_err(unsent)?;
            if let Ok(response) = timeout(wait, &mut place.response).await {
                return response.map_err(|_| ForwardError::Timeout);
            }
        }
        Err(ForwardError::Timeout)
    }

    /// The socket for the address's family. What keeps it from being bound may pass: it is tried every time.
    fn socket(&self, address: SocketAddr) -> io::Result<Arc<UdpSocket>> {
        let mut bound = if address.is_ipv4() { self.v4.lock() } else { self.v6.lock() };
        if let Some(bound) = &*bound {
            return Ok(Arc::clone(&bound.socket));
        }
        let socket = Arc::new(bind(address)?);
        let reader = spawn_local(read(Arc::clone(&socket), Arc::clone(&self.waiting)));
        *bound = Some(Bound { socket: Arc::clone(&socket), _reader: AbortOnDropHandle::new(reader) });
        Ok(socket)
    }

    fn kept(&self, address: SocketAddr) -> Option<Kept> {
        self.ids.lock().get(&address).filter(|kept| kept.is_good()).copied()
    }

    fn keep(&self, address: SocketAddr, id: ConnectionId) {
        let mut ids = self.ids.lock();
        // Of upstreams that move, the old addresses do not pile up.
        ids.retain(|_, kept| kept.is_good());
        ids.insert(address, Kept { id, received: Instant::now() });
    }

    /// Forgets this id, but not one that another exchange has got in the meantime.
    fn forget(&self, address: SocketAddr, id: ConnectionId) {
        if let Entry::Occupied(entry) = self.ids.lock().entry(address)
            && entry.get().id == id
        {
            entry.remove();
        }
    }
}

impl Kept {
    fn is_good(&self) -> bool {
        self.received.elapsed() < ID_LASTS
    }
}

/// Forgets a connection id when it goes, unless the tracker has shown that it knows the id; so also when the time is up
/// before the tracker was silent for long enough.
struct Doubt<'a> {
    sockets: &'a UdpSockets,
    address: SocketAddr,
    id: ConnectionId,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        self.sockets.forget(self.address, self.id);
    }
}

impl fmt::Debug for UdpSockets {
    /// A connection id is as good as the address that it was given to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSockets").finish_non_exhaustive()
    }
}

/// A socket of the address's family that can send to it, on a port that the system chooses.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    let any: IpAddr = if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        // IPv4 has its own; so an answer's address has one form only.
        socket.set_only_v6(true)?;
        Ipv6Addr::UNSPECIFIED.into()
    };
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(any, 0).into())?;
    UdpSocket::from_std(socket.into())
}

/// Hands out responses for as long as the socket lasts.
async fn read(socket: Arc<UdpSocket>, waiting: Arc<Waiting>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => waiting.deliver(from, buffer.get(..length).unwrap_or_default()),
            // Some systems tell here that an earlier packet found nobody. That is for its sender to notice.
            Err(error) => {
                log::debug!("forwarders over UDP: a socket cannot be read: {error}");
                sleep(REST).await;
            }
        }
    }
}

impl Waiting {
    /// A place to wait for what this address answers.
    fn place(&self, address: SocketAddr) -> Place<'_> {
        let (sender, response) = oneshot::channel();
        let mut all = self.0.lock();
        loop {
            let transaction = TransactionId(fastrand::u32(..));
            if let Entry::Vacant(entry) = all.entry(transaction) {
                entry.insert(Asked { address, response: Some(sender) });
                return Place { all: self, transaction, response };
            }
        }
    }

    /// What nobody waits for is dropped. So is what comes from elsewhere than it was asked for.
    fn deliver(&self, from: SocketAddr, response: &[u8]) {
        let Some(transaction) = udp::transaction(response) else { return };
        let mut all = self.0.lock();
        let asked = all.get_mut(&transaction).filter(|asked| asked.address == from);
        if let Some(sender) = asked.and_then(|asked| asked.response.take()) {
            // Who waited may have given up this moment.
            let _ = sender.send(response.to_vec());
        }
    }
}

/// A place among those who wait, given up when the wait ends, however it does.
struct Place<'a> {
    all: &'a Waiting,
    transaction: TransactionId,
    response: oneshot::Receiver<Vec<u8>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.transaction);
    }
}

#[cfg(test)]
mod tests;
