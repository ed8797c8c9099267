//! A socket for one address of an upstream, and the requests that wait for a response there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::forward::error::{ForwardError, is_shortage};
use tracker_protocol::udp::{self, ConnectionId, TransactionId};

/// How long a connection id is used. By BEP 15, clients use an id for one minute, and trackers accept it for two
/// minutes. If a tracker accepts an id for only one minute, one attempt fails, and we request a new id.
const ID_LIFETIME: Duration = Duration::from_mins(2);

/// The buffer holds the longest possible datagram, because the system silently drops what exceeds it. 200 IPv6 peers
/// take 3,620 bytes, but a tracker may send more. Each socket has only one buffer.
const BUFFER: usize = 64 * 1024;

/// The pause after an error. Without the pause, a persistent error would use all CPU.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// A connected socket. The system drops datagrams from other addresses, and reports an error if no program listens at
/// the upstream. Closed when its last user drops it.
pub(super) struct Link {
    address: SocketAddr,
    socket: Arc<UdpSocket>,
    pending: Arc<PendingRequests>,
    id: Mutex<Option<ReceivedId>>,
    opened: Instant,
    _reader: AbortOnDropHandle<()>,
}

/// A connection id, and when it was received.
#[derive(Clone, Copy)]
struct ReceivedId {
    id: ConnectionId,
    received: Instant,
}

/// A response, or the reason why no response will come.
type ResponseResult = Result<Vec<u8>, ForwardError>;

impl Link {
    pub(super) fn new(address: SocketAddr) -> io::Result<Self> {
        let socket = Arc::new(bind(address)?);
        let pending = Arc::<PendingRequests>::default();
        let reader = spawn_local(read(Arc::clone(&socket), Arc::clone(&pending)));
        let (id, opened) = (Mutex::default(), Instant::now());
        Ok(Self { address, socket, pending, id, opened, _reader: AbortOnDropHandle::new(reader) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Sends a packet, and again after each of `waits`, until a response comes. If none comes within the last wait,
    /// fails with [`ForwardError::Timeout`].
    pub(super) async fn request(
        &self,
        packet: impl Fn(TransactionId) -> Vec<u8>,
        waits: impl Iterator<Item = Duration>,
    ) -> ResponseResult {
        let mut pending = self.pending.add()?;
        // All attempts send the same packet, so that a response to any of them counts.
        let packet = packet(pending.transaction);
        for wait in waits {
            self.socket.send(&packet).await.map_err(|error| socket_error(&error))?;
            if let Ok(response) = timeout(wait, &mut pending.response).await {
                return response.unwrap_or(Err(ForwardError::Timeout));
            }
        }
        Err(ForwardError::Timeout)
    }

    /// Returns the connection id, unless it is too old.
    pub(super) fn id(&self) -> Option<ConnectionId> {
        self.id.lock().filter(|id| id.received.elapsed() < ID_LIFETIME).map(|id| id.id)
    }

    pub(super) fn set_id(&self, id: ConnectionId) {
        *self.id.lock() = Some(ReceivedId { id, received: Instant::now() });
    }

    /// Forgets this id, but not a newer one that another exchange has received.
    pub(super) fn forget_id(&self, id: ConnectionId) {
        self.id.lock().take_if(|received| received.id == id);
    }

    /// Returns how many requests wait for a response.
    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.pending.0.lock().len()
    }
}

/// Forgets a connection id when this value is dropped, unless [`Self::confirm`] was called. An exchange that runs out
/// of time drops this value.
pub(super) struct UnconfirmedId<'a> {
    link: &'a Link,
    id: Option<ConnectionId>,
}

impl<'a> UnconfirmedId<'a> {
    pub(super) fn new(link: &'a Link, id: ConnectionId) -> Self {
        Self { link, id: Some(id) }
    }

    pub(super) fn confirm(mut self) {
        self.id = None;
    }
}

impl Drop for UnconfirmedId<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.link.forget_id(id);
        }
    }
}

/// Requests that wait for a response. `None`: the response has come, and the request is about to be removed.
#[derive(Default)]
struct PendingRequests(Mutex<HashMap<TransactionId, Option<oneshot::Sender<ResponseResult>>>>);

impl PendingRequests {
    /// Adds a request. Its transaction id is a random number from the system, so it cannot be guessed from earlier ids.
    fn add(&self) -> Result<PendingRequest<'_>, ForwardError> {
        let (sender, response) = oneshot::channel();
        loop {
            let transaction = TransactionId(getrandom::u32().map_err(|error| ForwardError::Local(error.to_string()))?);
            if let Entry::Vacant(entry) = self.0.lock().entry(transaction) {
                entry.insert(Some(sender));
                return Ok(PendingRequest { all: self, transaction, response });
            }
        }
    }

    /// Hands a response to the request that waits for it, or drops it if none does.
    fn deliver(&self, response: &[u8]) {
        let Some(transaction) = udp::transaction(response) else { return };
        if let Some(sender) = self.0.lock().get_mut(&transaction).and_then(Option::take) {
            // Sending fails if the exchange has just ended.
            let _ = sender.send(Ok(response.to_vec()));
        }
    }

    /// Ends all requests with an error.
    fn fail(&self, error: &ForwardError) {
        for sender in self.0.lock().values_mut().filter_map(Option::take) {
            let _ = sender.send(Err(error.clone()));
        }
    }
}

/// A request that waits for a response. It is removed from `all` when dropped.
struct PendingRequest<'a> {
    all: &'a PendingRequests,
    transaction: TransactionId,
    response: oneshot::Receiver<ResponseResult>,
}

impl Drop for PendingRequest<'_> {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.transaction);
    }
}

/// Returns a connected socket on a random port that the system chooses.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.connect(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Reads responses until the link is dropped, which aborts this task.
async fn read(socket: Arc<UdpSocket>, pending: Arc<PendingRequests>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => pending.deliver(buffer.get(..length).unwrap_or_default()),
            Err(error) => {
                pending.fail(&socket_error(&error));
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// Converts a socket's error. A refused connection is a fault of the upstream, every other error a fault of this host.
fn socket_error(error: &io::Error) -> ForwardError {
    match error.kind() {
        _ if is_shortage(error) => ForwardError::Local(error.to_string()),
        io::ErrorKind::ConnectionRefused => ForwardError::Connect(error.to_string()),
        _ => ForwardError::Local(error.to_string()),
    }
}
