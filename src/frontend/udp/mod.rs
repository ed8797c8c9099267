//! Announce and scrape over UDP (BEP 15, with the URL data of BEP 41).

pub mod connection_id;
pub mod connection_ids;
mod proxied;
mod request;
pub(super) mod socket;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use self::connection_id::Sender;
use self::connection_ids::IdTime;
use self::request::Responder;
use self::socket::{BatchSocket, Datagram, Inbox, Outbox, UdpResponse};
use super::client_address::Remote;
use super::context::Context;
use super::listen::UdpListener;
use super::shutdown::StopReceiver;
use crate::answer::Answer;

/// The most announces of one worker that wait for upstream trackers at once. Each takes some kilobytes. An announce
/// beyond this number gets no response. The client repeats it after 15 seconds (BEP 15, "Time outs"). By then the
/// upstream trackers have answered.
pub(super) const MAX_WAITING: usize = 1024;

/// How long a worker pauses when its socket cannot be read. Limits the cost of a lasting error.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers the datagrams at one socket of a listen address until the stop signal. Then answers only those that have
/// already arrived. `proxied`: the address is for proxies, as in [`UdpListenAddr`](super::listen::UdpListenAddr).
pub(super) async fn serve(listener: UdpListener, proxied: bool, context: Arc<Context>, mut stop: StopReceiver) {
    let mut server = match UdpServer::new(listener, proxied, context) {
        Ok(server) => server,
        Err(error) => return log::error!("cannot use a listener: {error}"),
    };
    tokio::select! {
        () = server.run() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    server.receive_remaining();
    let drain = server.responder.context.drain;
    if timeout(drain, server.finish()).await.is_err() {
        log::warn!("shutdown: dropped {} announces over UDP after {drain:?}", server.waiting.len());
    }
}

struct UdpServer {
    socket: BatchSocket,
    proxied: bool,
    /// Whether the system accepts no more datagrams.
    is_last: bool,
    inbox: Inbox,
    outbox: Outbox,
    responder: Responder,
    responses: Vec<UdpResponse>,
    /// Announces that wait for upstream trackers.
    waiting: JoinSet<UdpResponse>,
}

impl UdpServer {
    fn new(listener: UdpListener, proxied: bool, context: Arc<Context>) -> io::Result<Self> {
        let socket = BatchSocket::new(listener.socket)?;
        let (inbox, outbox) = socket.buffers()?;
        let responder = Responder { context };
        Ok(Self {
            socket,
            proxied,
            is_last: false,
            inbox,
            outbox,
            responder,
            responses: Vec::new(),
            waiting: JoinSet::new(),
        })
    }

    async fn run(&mut self) {
        loop {
            tokio::select! {
                Some(waited) = self.waiting.join_next() => self.responses.extend(waited.ok()),
                ready = self.socket.readable() => {
                    if let Err(error) = ready.and_then(|()| self.receive().map(|_more| ())) {
                        log::warn!("cannot read datagrams: {error}");
                        sleep(PAUSE).await;
                    }
                }
            }
            self.send();
            // A flood on this socket must not starve this thread's connections.
            yield_now().await;
        }
    }

    /// Makes the system drop new datagrams, and answers those that have already arrived.
    fn receive_remaining(&mut self) {
        if let Err(error) = self.socket.stop_receiving() {
            log::debug!("datagrams may still arrive while the socket closes: {error}");
        }
        self.is_last = true;
        let end = Instant::now() + self.responder.context.drain;
        while let Ok(true) = self.receive() {
            self.send();
            if Instant::now() > end {
                break;
            }
        }
        self.send();
    }

    /// Sends the response to each waiting announce as soon as it is ready.
    async fn finish(&mut self) {
        while let Some(waited) = self.waiting.join_next().await {
            self.responses.extend(waited.ok());
            self.send();
        }
    }

    /// Answers a batch of datagrams. Returns whether there may be more datagrams.
    fn receive(&mut self) -> io::Result<bool> {
        // Checked once per batch, and not for each datagram.
        if self.proxied { self.receive_by(from_proxy) } else { self.receive_by(from_client) }
    }

    /// Does what [`Self::receive`] does. `open` finds the sender and the request in each datagram.
    fn receive_by(&mut self, open: impl OpenDatagram) -> io::Result<bool> {
        let Self { socket, is_last, inbox, responder, responses, waiting, .. } = self;
        let now = responder.context.connection_ids.now();
        let take = |datagram: Datagram<'_>| {
            // A panic loses only one request, as over HTTP, and the socket stays open.
            let answered = catch_unwind(AssertUnwindSafe(|| {
                let (sender, request) = open(&datagram, &responder.context)?;
                answer(responder, waiting, (sender, request), &datagram, now)
            }));
            responses.extend(answered.unwrap_or_default());
        };
        if *is_last { socket.receive_now(inbox, take) } else { socket.receive(inbox, take) }
    }

    fn send(&mut self) {
        let unsent = self.socket.send(&mut self.outbox, &mut self.responses);
        self.responses.clear();
        if unsent > 0 {
            log::debug!("cannot send {unsent} responses over UDP");
            self.responder.context.metrics.udp.unsent.inc_by(unsent as u64);
        }
    }
}

/// Finds the sender of a datagram and the request in it. `None` if the datagram is dropped.
trait OpenDatagram: for<'a> Fn(&Datagram<'a>, &Context) -> Option<(Sender, &'a [u8])> {}

impl<T: for<'a> Fn(&Datagram<'a>, &Context) -> Option<(Sender, &'a [u8])>> OpenDatagram for T {}

/// Opens a datagram that comes from the client itself.
#[allow(clippy::unnecessary_wraps, reason = "`from_proxy` returns none for datagrams that it drops")]
fn from_client<'a>(datagram: &Datagram<'a>, context: &Context) -> Option<(Sender, &'a [u8])> {
    let client = datagram.source.ip().to_canonical();
    let standing = context.client_address.datagram_standing(Remote::Ip(client));
    Some((Sender { client, proxy: None, standing }, datagram.bytes))
}

/// Opens a datagram that comes from a proxy, which names the client.
fn from_proxy<'a>(datagram: &Datagram<'a>, context: &Context) -> Option<(Sender, &'a [u8])> {
    let opened = proxied::open(datagram, &context.client_address);
    let tell = |why: &_| {
        context.metrics.udp.unproxied.inc();
        context.client_address.warn_bad_datagram(datagram.source.ip().to_canonical(), why);
    };
    opened.inspect_err(tell).ok()
}

/// The response to a request, or `None` if there is none yet. It goes to the source of the datagram. If that is a
/// proxy, the proxy passes it on to the client.
fn answer(
    responder: &Responder,
    waiting: &mut JoinSet<UdpResponse>,
    (sender, request): (Sender, &[u8]),
    &Datagram { source, destination, .. }: &Datagram<'_>,
    now: IdTime,
) -> Option<UdpResponse> {
    let response = move |bytes| UdpResponse { bytes, to: source, from: destination };
    match responder.answer(request, sender, now)? {
        Answer::Ready(bytes) => Some(response(bytes)),
        Answer::Pending(pending) if waiting.len() < MAX_WAITING => {
            waiting.spawn_local(async move { response(pending.await) });
            None
        }
        Answer::Pending(_) => {
            responder.context.metrics.udp.busy.inc();
            None
        }
    }
}
