//! Announce and scrape over UDP (BEP 15, with the URL data of BEP 41).

mod connection_id;
mod listen;
mod request;
mod socket;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

pub use self::listen::{UdpListenAddr, UdpListener};
use self::request::{Answer, Responder};
use self::socket::{Datagram, Inbox, Response, Socket};
use super::Context;
use super::serve::{DRAIN, Stop};

/// Announces of one worker that may wait for upstream trackers. One takes some kilobytes; one that finds no room gets no
/// response, and its client asks again after 15 seconds (BEP 15, "Time outs"), when the peers will be there.
const MAX_WAITING: usize = 1024;

/// How long a worker pauses when its socket cannot be read, so that an error that persists costs no more than this.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers what comes to one of a listen address's sockets until told to stop, and then what it still owes.
pub(super) async fn serve(listener: UdpListener, context: Arc<Context>, mut stop: Stop) {
    let socket = match Socket::new(listener.socket) {
        Ok(socket) => Rc::new(socket),
        Err(error) => return log::error!("a listener could not be used: {error}"),
    };
    let responder = Responder { context, ids: listener.ids };
    let mut server = Server { socket, responder, responses: Vec::new(), waiting: JoinSet::new() };
    tokio::select! {
        () = server.receive() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    if timeout(DRAIN, async { while server.waiting.join_next().await.is_some() {} }).await.is_err() {
        log::warn!("{} announces over UDP were cut: they were not done after {DRAIN:?}", server.waiting.len());
    }
}

struct Server {
    socket: Rc<Socket>,
    responder: Responder,
    /// To the batch that is being read.
    responses: Vec<Response>,
    /// Announces for which upstream trackers are asked.
    waiting: JoinSet<()>,
}

impl Server {
    async fn receive(&mut self) {
        let socket = Rc::clone(&self.socket);
        let mut inbox = Inbox::new();
        loop {
            if let Err(error) = socket.receive(&mut inbox, |datagram| self.take(&datagram)).await {
                log::warn!("no datagram can be read: {error}");
                sleep(PAUSE).await;
            }
            self.responses.drain(..).for_each(|response| send(&socket, &response, &self.responder.context));
            while self.waiting.try_join_next().is_some() {}
            // Whoever floods this socket must not keep the connections of this thread from being served.
            yield_now().await;
        }
    }

    fn take(&mut self, datagram: &Datagram<'_>) {
        let &Datagram { bytes, source, destination } = datagram;
        let response = move |bytes| Response { bytes, to: source, from: destination };
        match self.responder.answer(bytes, source.ip().to_canonical(), Instant::now()) {
            Answer::Silence => {}
            Answer::Response(bytes) => self.responses.push(response(bytes)),
            Answer::Announced(mut announced) => match (&mut announced).now_or_never() {
                Some(bytes) => self.responses.push(response(bytes)),
                None if self.waiting.len() < MAX_WAITING => {
                    let (socket, context) = (Rc::clone(&self.socket), Arc::clone(&self.responder.context));
                    self.waiting.spawn_local(async move { send(&socket, &response(announced.await), &context) });
                }
                None => {
                    self.responder.context.metrics.udp.busy.inc();
                }
            },
        }
    }
}

fn send(socket: &Socket, response: &Response, context: &Context) {
    if let Err(error) = socket.send(response) {
        log::debug!("no response can be sent to {}: {error}", response.to);
        context.metrics.udp.unsent.inc();
    }
}
