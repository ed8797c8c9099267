//! Announce and scrape over UDP (BEP 15, with the URL data of BEP 41).

mod connection_id;
mod listen;
mod request;
mod socket;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

pub use self::listen::{UdpListenAddr, UdpListener};
use self::request::{Answer, Responder};
use self::socket::{Datagram, Inbox, Outbox, Response, Socket};
use super::Context;
use super::serve::{DRAIN, Stop};

/// Announces of one worker that may wait for upstream trackers. One takes some kilobytes; one that finds no room gets no
/// response, and its client asks again after 15 seconds (BEP 15, "Time outs"), when the peers will be there.
const MAX_WAITING: usize = 1024;

/// How long a worker pauses when its socket cannot be read, so that an error that persists costs no more than this.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers what comes to one of a listen address's sockets until told to stop, and then what it still owes.
pub(super) async fn serve(listener: UdpListener, context: Arc<Context>, mut stop: Stop) {
    let mut server = match Server::new(listener, context) {
        Ok(server) => server,
        Err(error) => return log::error!("a listener could not be used: {error}"),
    };
    tokio::select! {
        () = server.run() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    if timeout(DRAIN, server.finish()).await.is_err() {
        log::warn!("{} announces over UDP were cut: they were not done after {DRAIN:?}", server.waiting.len());
    }
}

struct Server {
    socket: Socket,
    inbox: Inbox,
    outbox: Outbox,
    responder: Responder,
    /// To be sent with the next batch.
    responses: Vec<Response>,
    /// Announces for which upstream trackers are asked.
    waiting: JoinSet<Response>,
}

impl Server {
    fn new(listener: UdpListener, context: Arc<Context>) -> io::Result<Self> {
        let socket = Socket::new(listener.socket)?;
        let (inbox, outbox) = socket.boxes()?;
        let responder = Responder { context, ids: listener.ids };
        Ok(Self { socket, inbox, outbox, responder, responses: Vec::new(), waiting: JoinSet::new() })
    }

    async fn run(&mut self) {
        loop {
            tokio::select! {
                Some(waited) = self.waiting.join_next() => self.responses.extend(waited.ok()),
                ready = self.socket.readable() => {
                    if let Err(error) = ready.and_then(|()| self.receive()) {
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

    /// Sends what those have waited for who still wait.
    async fn finish(&mut self) {
        while let Some(waited) = self.waiting.join_next().await {
            self.responses.extend(waited.ok());
            self.send();
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let Self { socket, inbox, responder, responses, waiting, .. } = self;
        let now = Instant::now();
        socket.receive(inbox, |datagram| {
            // A bug costs one request, as over HTTP, and not the socket.
            let answered = catch_unwind(AssertUnwindSafe(|| answer(responder, waiting, &datagram, now)));
            responses.extend(answered.unwrap_or_default());
        })
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

/// The response to a datagram, if there is one and it is there.
fn answer(
    responder: &Responder,
    waiting: &mut JoinSet<Response>,
    &Datagram { bytes, source, destination }: &Datagram<'_>,
    now: Instant,
) -> Option<Response> {
    let response = move |bytes| Response { bytes, to: source, from: destination };
    match responder.answer(bytes, source.ip().to_canonical(), now) {
        Answer::Silence => None,
        Answer::Response(bytes) => Some(response(bytes)),
        Answer::Later(later) if waiting.len() < MAX_WAITING => {
            waiting.spawn_local(async move { response(later.await) });
            None
        }
        Answer::Later(_) => {
            responder.context.metrics.udp.busy.inc();
            None
        }
    }
}
