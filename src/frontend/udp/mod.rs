//! Announce and scrape over UDP (BEP 15, with the URL data of BEP 41).

pub(super) mod connection_id;
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
use self::request::Responder;
use self::socket::{BatchSocket, Datagram, Inbox, Outbox, Response};
use super::Context;
use super::client_address::Remote;
use super::listen::UdpListener;
use super::shutdown::{DRAIN, StopReceiver};
use crate::answer::Answer;
use crate::clock;

/// Announces of one worker that may wait for upstream trackers. One takes some kilobytes; one that finds no room gets no
/// response, and its client asks again after 15 seconds (BEP 15, "Time outs"), when the peers will be there.
const MAX_WAITING: usize = 1024;

/// How long a worker pauses when its socket cannot be read, so that an error that persists costs no more than this.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers what comes to one of a listen address's sockets until told to stop, and then what has come by then. `proxied` is
/// whether proxies send there, as in [`UdpListenAddr`](super::listen::UdpListenAddr).
pub(super) async fn serve(listener: UdpListener, proxied: bool, context: Arc<Context>, mut stop: StopReceiver) {
    let mut server = match UdpServer::new(listener, proxied, context) {
        Ok(server) => server,
        Err(error) => return log::error!("a listener could not be used: {error}"),
    };
    tokio::select! {
        () = server.run() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    server.receive_the_last();
    if timeout(DRAIN, server.finish()).await.is_err() {
        log::warn!("{} announces over UDP were cut: they were not done after {DRAIN:?}", server.waiting.len());
    }
}

struct UdpServer {
    socket: BatchSocket,
    proxied: bool,
    /// Whether the system takes in no more.
    is_last: bool,
    inbox: Inbox,
    outbox: Outbox,
    responder: Responder,
    /// To be sent with the next batch.
    responses: Vec<Response>,
    /// Announces for which upstream trackers are asked.
    waiting: JoinSet<Response>,
}

impl UdpServer {
    fn new(listener: UdpListener, proxied: bool, context: Arc<Context>) -> io::Result<Self> {
        let socket = BatchSocket::new(listener.socket)?;
        let (inbox, outbox) = socket.boxes()?;
        let responder = Responder { context, ids: listener.ids };
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
                        log::warn!("no datagram can be read: {error}");
                        sleep(PAUSE).await;
                    }
                }
            }
            self.send();
            // Whoever floods this socket must not keep the connections of this thread from being served.
            yield_now().await;
        }
    }

    /// Answers what the system has taken in, and has it take in no more.
    fn receive_the_last(&mut self) {
        if let Err(error) = self.socket.take_in_no_more() {
            log::debug!("datagrams may still come while the socket is closed: {error}");
        }
        self.is_last = true;
        let end = Instant::now() + DRAIN;
        while let Ok(true) = self.receive() {
            self.send();
            if Instant::now() > end {
                break;
            }
        }
        self.send();
    }

    /// Sends what those have waited for who still wait.
    async fn finish(&mut self) {
        while let Some(waited) = self.waiting.join_next().await {
            self.responses.extend(waited.ok());
            self.send();
        }
    }

    /// Takes the first few datagrams. Tells whether there may be more.
    fn receive(&mut self) -> io::Result<bool> {
        // Asked once for all that are read together.
        if self.proxied { self.receive_by(from_proxy) } else { self.receive_by(from_client) }
    }

    /// Takes the first few datagrams, whose sender and request `open` finds.
    fn receive_by(&mut self, open: impl Unwrap) -> io::Result<bool> {
        let Self { socket, is_last, inbox, responder, responses, waiting, .. } = self;
        // Ids age while the host sleeps, too.
        let now = Instant::now() + clock::slept();
        let take = |datagram: Datagram<'_>| {
            // A bug costs one request, as over HTTP, and not the socket.
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
            log::debug!("{unsent} responses over UDP could not be sent");
            self.responder.context.metrics.udp.unsent.inc_by(unsent as u64);
        }
    }
}

/// Who sends a datagram, and the request in it; none when it is to be dropped.
trait Unwrap: for<'a> Fn(&Datagram<'a>, &Context) -> Option<(Sender, &'a [u8])> {}

impl<T: for<'a> Fn(&Datagram<'a>, &Context) -> Option<(Sender, &'a [u8])>> Unwrap for T {}

/// The client itself is at the other end.
#[allow(clippy::unnecessary_wraps, reason = "a proxy may send what is to be dropped")]
fn from_client<'a>(datagram: &Datagram<'a>, context: &Context) -> Option<(Sender, &'a [u8])> {
    let client = datagram.source.ip().to_canonical();
    let standing = context.client_address.of_datagram(Remote::Ip(client));
    Some((Sender { client, proxy: None, standing }, datagram.bytes))
}

/// A proxy is there, and says whose the datagram is.
fn from_proxy<'a>(datagram: &Datagram<'a>, context: &Context) -> Option<(Sender, &'a [u8])> {
    let opened = proxied::open(datagram, &context.client_address);
    let tell = |why: &_| {
        context.metrics.udp.unproxied.inc();
        context.client_address.warn_bad_datagram(datagram.source.ip().to_canonical(), why);
    };
    opened.inspect_err(tell).ok()
}

/// The response to a request, if there is one and it is there. It goes where the datagram came from: a proxy knows whose it
/// is.
fn answer(
    responder: &Responder,
    waiting: &mut JoinSet<Response>,
    (sender, request): (Sender, &[u8]),
    &Datagram { source, destination, .. }: &Datagram<'_>,
    now: Instant,
) -> Option<Response> {
    let response = move |bytes| Response { bytes, to: source, from: destination };
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
