//! The workers. Each worker is a thread with its own sockets, event loop and routes.
//!
//! actix-web's own server accepts connections on one thread and hands each to a worker. Most announces come on a new
//! connection, and handing it over takes a third of the time of such an announce. Here each worker accepts connections
//! itself, answers announces and scrapes, and calls actix-web's routes for everything else.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::task::{JoinSet, LocalSet, yield_now};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::TaskTracker;

use super::client_address::Remote;
use super::connections::{Holder, Idle};
use super::context::Context;
use super::http::fast_path::{self, GRACE, NewConnection, Worker, holder};
use super::http::pages::Pages;
use super::http::socket::{Listener, Socket};
use super::listen::{Bound, Listening, Purpose, SocketFile, Transport, UdpListener};
use super::proxied::{self, Opening};
use super::shutdown::StopReceiver;
use super::tls::handshake;
use super::udp;

/// How long a worker watches the accept queue after the system stopped opening connections: some TCP handshakes may
/// still be under way.
const QUIET: Duration = Duration::from_millis(100);
/// The pause between two looks at the accept queue during [`QUIET`].
const LOOK: Duration = Duration::from_millis(10);
/// The number of connections that are accepted before other tasks run.
const BATCH: usize = 32;
/// How long a worker pauses when it cannot accept connections, usually for lack of descriptors: [`SHORT_PAUSE`] if it
/// has closed an idle connection, [`ACCEPT_PAUSE`] if it has found none to close.
const SHORT_PAUSE: Duration = Duration::from_millis(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The shortest time between two log lines about connections that cannot be accepted.
const ACCEPT_REPORT: Duration = Duration::from_secs(10);
/// The most bytes that an unfinished TLS handshake takes. A thousand handshakes reach the limit of unfinished requests.
/// Beyond that limit, waiting connections are closed.
const HANDSHAKE: usize = 64 * 1024;

/// Starts the workers. After `stop`, each worker ends within the time that [`Context::drain`] gives.
pub fn start(
    listening: Vec<Listening>,
    workers: usize,
    context: &Arc<Context>,
    stop: &StopReceiver,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut sockets: Vec<Sockets> = (0..workers).map(|_| Sockets::default()).collect();
    for Listening { bound, purpose } in listening {
        match bound {
            Bound::Tcp(listeners) => {
                sockets.iter_mut().zip(listeners).for_each(|(own, listener)| own.tcp.push((listener, purpose)));
            }
            Bound::Unix(listeners) => {
                sockets.iter_mut().zip(listeners).for_each(|(own, listener)| own.unix.push((listener, purpose)));
            }
            Bound::Udp(listeners) => {
                sockets.iter_mut().zip(listeners).for_each(|(own, listener)| own.udp.push((listener, purpose)));
            }
        }
    }
    sockets
        .into_iter()
        .enumerate()
        .map(|(n, sockets)| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (context, stop) = (Arc::clone(context), stop.clone());
            thread::Builder::new()
                .name(format!("worker-{n}"))
                .spawn(move || LocalSet::new().block_on(&runtime, work(sockets, context, stop)))
        })
        .collect()
}

#[derive(Debug, Default)]
struct Sockets {
    tcp: Vec<(std::net::TcpListener, Purpose)>,
    unix: Vec<((std::os::unix::net::UnixListener, Arc<SocketFile>), Purpose)>,
    udp: Vec<(UdpListener, Purpose)>,
}

async fn work(sockets: Sockets, context: Arc<Context>, stop: StopReceiver) {
    let Some(pages) = Pages::new(&context).await else {
        return log::error!("cannot set up the routes of a worker");
    };
    let worker = Rc::new(Worker { context: Arc::clone(&context), pages, stop: stop.clone() });
    let mut listening = JoinSet::new();
    for (listener, purpose) in sockets.tcp {
        listening.spawn_local(serve(Listener::tcp(listener), None, purpose, Rc::clone(&worker)));
    }
    for ((listener, file), purpose) in sockets.unix {
        listening.spawn_local(serve(Listener::unix(listener), Some(file), purpose, Rc::clone(&worker)));
    }
    for (listener, purpose) in sockets.udp {
        let proxied = purpose.transport == Transport::Proxied;
        listening.spawn_local(udp::serve(listener, proxied, Arc::clone(&context), stop.clone()));
    }
    while listening.join_next().await.is_some() {}
}

/// Serves a listener until the stop signal, and then stops in three steps that lose no request.
///
/// 1. Requests under way finish. New connections are accepted, answered and closed; `/health` answers 503.
/// 2. The system opens no more connections here, and the worker accepts those that are open.
/// 3. The open connections finish.
async fn serve(listener: io::Result<Listener>, file: Option<Arc<SocketFile>>, purpose: Purpose, worker: Rc<Worker>) {
    let own = match listener {
        Ok(listener) => WorkerListener { listener, purpose, worker: Rc::clone(&worker) },
        Err(error) => return log::error!("cannot use a listener: {error}"),
    };
    let connections = worker.context.connections_of(purpose.audience);
    let clients = &worker.context.connections;
    let mut stopping = worker.stop.clone();
    tokio::select! {
        () = own.accept(&connections.early) => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    let drain = worker.context.drain;
    let end = Instant::now() + drain;
    // `wait` ends only for a closed `TaskTracker`.
    connections.early.close();
    clients.early.close();
    tokio::select! {
        () = own.accept(&connections.late) => {}
        // Operators are served until clients have their replies.
        () = async { tokio::join!(connections.early.wait(), clients.early.wait()); } => {}
        () = sleep_until(end) => {}
    }
    if let Some(file) = file {
        file.remove();
    }
    own.accept_remaining(&connections.late).await;
    // The next process may bind the port. Until it does, the system refuses clients.
    drop(own);
    connections.late.close();
    tokio::select! {
        () = async { tokio::join!(connections.early.wait(), connections.late.wait()); } => {}
        () = sleep_until(end) => {
            log::warn!("shutdown: closed {} connections after {drain:?}", connections.count());
        }
    }
}

struct WorkerListener {
    listener: Listener,
    purpose: Purpose,
    worker: Rc<Worker>,
}

impl WorkerListener {
    async fn accept(&self, tasks: &TaskTracker) {
        let mut reported: Option<Instant> = None;
        let mut accepted = 0;
        loop {
            match self.listener.accept().await {
                Ok((socket, address)) => {
                    self.begin(socket, address, tasks);
                    accepted += 1;
                    if accepted % BATCH == 0 {
                        yield_now().await;
                    }
                }
                Err(error) if is_client_gone(&error) => {}
                Err(error) => {
                    if reported.is_none_or(|reported| reported.elapsed() > ACCEPT_REPORT) {
                        log::warn!("no connection can be accepted: {error}; closing idle connections");
                        reported = Some(Instant::now());
                    }
                    let closed = self.worker.context.connections.shed_for_descriptors();
                    sleep(if closed > 0 { SHORT_PAUSE } else { ACCEPT_PAUSE }).await;
                }
            }
        }
    }

    /// Stops the system from opening connections, and serves those that are open.
    async fn accept_remaining(&self, tasks: &TaskTracker) {
        self.listener.stop_opening();
        let end = Instant::now() + QUIET;
        loop {
            loop {
                match self.listener.accept_now() {
                    Ok((socket, address)) => self.begin(socket, address, tasks),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(_) => break,
                }
            }
            if Instant::now() >= end {
                return;
            }
            sleep(LOOK).await;
        }
    }

    fn begin(&self, socket: Socket, source: Option<SocketAddr>, tasks: &TaskTracker) {
        let Purpose { transport, audience } = self.purpose;
        if !self.worker.context.connections_of(audience).admit() {
            return;
        }
        let worker = Rc::clone(&self.worker);
        tasks.spawn_local(async move {
            let open = worker.context.connections_of(audience).opened();
            let fresh = NewConnection { socket, source: Remote::new(source), unread: Vec::new(), open, audience };
            // An error concerns only the client of this connection.
            let _ = match transport {
                Transport::Plain => fast_path::serve(fresh, &worker).await,
                Transport::Proxied => Box::pin(serve_proxied(fresh, source, &worker)).await,
                Transport::Tls => Box::pin(serve_tls(fresh, &worker)).await,
            };
        });
    }
}

/// Reads the PROXY protocol's header, then serves the connection for the client that it names.
async fn serve_proxied(mut fresh: NewConnection<'_>, address: Option<SocketAddr>, worker: &Worker) -> io::Result<()> {
    let rule = &worker.context.client_address;
    let proxy = fresh.source;
    let holder = if rule.is_trusted(proxy) { Holder::Proxy } else { holder(rule, proxy) };
    let opening = fresh.open.while_idle(holder, Idle::Waiting, proxied::open(&mut fresh.socket)).await?;
    fresh.open.leave();
    let Opening { source: named, rest } = opening.inspect_err(|error| rule.warn_missing_header(proxy, error))?;
    fast_path::serve(NewConnection { source: rule.behind(address, named), unread: rest, ..fresh }, worker).await
}

/// Completes the TLS handshake first, then serves the connection.
async fn serve_tls(fresh: NewConnection<'_>, worker: &Worker) -> io::Result<()> {
    let NewConnection { socket, source, mut open, .. } = fresh;
    let Context { tls, client_address, metrics, .. } = &*worker.context;
    let tls = tls.as_ref().ok_or(io::ErrorKind::Unsupported)?;
    let (mut stop, limit) = (worker.stop.clone(), open.limits().timeouts.rest);
    let opened = async {
        tokio::select! {
            done = handshake(tls, socket, limit) => done,
            // After the stop signal, a handshake has as long as a connection without a first request.
            () = async { let _ = stop.wait_for(|stop| *stop).await; sleep(GRACE).await } => Err(io::ErrorKind::TimedOut.into()),
        }
    };
    open.buffers(HANDSHAKE);
    let done = open.while_idle(holder(client_address, source), Idle::Waiting, opened).await?;
    open.buffers(0);
    let socket = done.inspect_err(|error| {
        metrics.connections.tls_failed.inc();
        log::debug!("the TLS handshake of {} failed: {error}", source.ip());
    })?;
    fast_path::serve(NewConnection { socket, open, ..fresh }, worker).await
}

/// Whether the client gave up before its connection was accepted.
fn is_client_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
