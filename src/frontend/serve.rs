//! The workers: each a thread with its own sockets, its own event loop and its own copy of the routes.
//!
//! actix-web's own server accepts on one thread and hands each connection to a worker, which costs a third of
//! an announce that opens a connection for itself, as most do. Here each worker accepts on its own loop, answers announces
//! and scrapes there and then, and asks actix-web's routes for everything else.

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
use super::connections::{Holder, Idle, Open};
use super::http::fast_path::{self, Fresh, Worker, holder};
use super::http::pages::Pages;
use super::http::socket::{Listener, Socket};
use super::listen::{Bound, Listening, SocketFile, UdpListener};
use super::proxied::{self, Opening};
use super::shutdown::{DRAIN, StopReceiver};
use super::{Context, udp};

/// How long the accept queue is watched for connections whose handshake was under way when the system stopped opening them.
const QUIET: Duration = Duration::from_millis(100);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(10);
/// Connections that are accepted before other tasks run.
const BATCH: usize = 32;
/// How long a worker pauses when it cannot accept, usually because descriptors have run out: after it has closed idle
/// connections, and when there was none to close.
const SHORT_PAUSE: Duration = Duration::from_millis(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often that is reported at most.
const ACCEPT_REPORT: Duration = Duration::from_secs(10);

/// Starts the workers. Each ends within [`DRAIN`] of `stop`.
pub fn start(
    listening: Vec<Listening>,
    workers: usize,
    context: &Arc<Context>,
    stop: &StopReceiver,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut sockets: Vec<Sockets> = (0..workers).map(|_| Sockets::default()).collect();
    for Listening { bound, proxied } in listening {
        match bound {
            Bound::Tcp(listeners) => {
                sockets.iter_mut().zip(listeners).for_each(|(own, listener)| own.tcp.push((listener, proxied)));
            }
            Bound::Unix(listeners) => {
                sockets.iter_mut().zip(listeners).for_each(|(own, listener)| own.unix.push((listener, proxied)));
            }
            Bound::Udp(listeners) => {
                sockets.iter_mut().zip(listeners).for_each(|(own, listener)| own.udp.push((listener, proxied)));
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
    /// Each with whether it is for proxies.
    tcp: Vec<(std::net::TcpListener, bool)>,
    unix: Vec<((std::os::unix::net::UnixListener, Arc<SocketFile>), bool)>,
    udp: Vec<(UdpListener, bool)>,
}

async fn work(sockets: Sockets, context: Arc<Context>, stop: StopReceiver) {
    let Some(pages) = Pages::new(&context).await else {
        return log::error!("a worker could not set up its routes");
    };
    let worker = Rc::new(Worker { context: Arc::clone(&context), pages, stop: stop.clone() });
    let mut listening = JoinSet::new();
    for (listener, proxied) in sockets.tcp {
        listening.spawn_local(serve(Listener::tcp(listener), None, proxied, Rc::clone(&worker)));
    }
    for ((listener, file), proxied) in sockets.unix {
        listening.spawn_local(serve(Listener::unix(listener), Some(file), proxied, Rc::clone(&worker)));
    }
    for (listener, proxied) in sockets.udp {
        listening.spawn_local(udp::serve(listener, proxied, Arc::clone(&context), stop.clone()));
    }
    while listening.join_next().await.is_some() {}
}

/// Serves a listener until the process is told to stop, and then stops in three steps that lose no request.
///
/// While requests under way are finished, new connections are still answered and then closed: announces as ever, and
/// `/health` with 503. Then the system stops opening connections here, and those that wait are accepted. Then the open
/// connections finish.
async fn serve(listener: io::Result<Listener>, file: Option<Arc<SocketFile>>, proxied: bool, worker: Rc<Worker>) {
    let front = match listener {
        Ok(listener) => Front { listener, proxied, worker: Rc::clone(&worker) },
        Err(error) => return log::error!("a listener could not be used: {error}"),
    };
    let connections = &worker.context.connections;
    let mut stopping = worker.stop.clone();
    tokio::select! {
        () = front.accept(&connections.early) => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    let end = Instant::now() + DRAIN;
    // From now on its `wait` ends.
    connections.early.close();
    tokio::select! {
        () = front.accept(&connections.late) => {}
        () = connections.early.wait() => {}
        () = sleep_until(end) => {}
    }
    if let Some(file) = file {
        file.remove();
    }
    front.accept_the_last(&connections.late).await;
    // The next process may have the port now, and clients that come are refused until it does.
    drop(front);
    connections.late.close();
    tokio::select! {
        () = async { tokio::join!(connections.early.wait(), connections.late.wait()); } => {}
        () = sleep_until(end) => {
            log::warn!("connections were cut, of all workers {}: they were not done after {DRAIN:?}", connections.count());
        }
    }
}

/// One worker's listener.
struct Front {
    listener: Listener,
    proxied: bool,
    worker: Rc<Worker>,
}

impl Front {
    /// Serves every connection that comes, each in a task of its own.
    async fn accept(&self, tasks: &TaskTracker) {
        let mut told: Option<Instant> = None;
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
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    if told.is_none_or(|told| told.elapsed() > ACCEPT_REPORT) {
                        log::warn!("no connection can be accepted: {error}; idle ones give way");
                        told = Some(Instant::now());
                    }
                    let gave_way = self.worker.context.connections.shed_for_descriptors();
                    sleep(if gave_way > 0 { SHORT_PAUSE } else { ACCEPT_PAUSE }).await;
                }
            }
        }
    }

    /// Stops the system from opening connections, and serves those that are open already.
    async fn accept_the_last(&self, tasks: &TaskTracker) {
        self.listener.open_no_more();
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
        if !self.worker.context.connections.admit() {
            return;
        }
        let (worker, proxied) = (Rc::clone(&self.worker), self.proxied);
        tasks.spawn_local(async move {
            let open = worker.context.connections.opened();
            // What goes wrong on a connection is its client's affair.
            let _ = if proxied {
                Box::pin(serve_proxied(socket, source, open, &worker)).await
            } else {
                fast_path::serve(Fresh { socket, source: Remote::new(source), unread: Vec::new(), open }, &worker).await
            };
        });
    }
}

/// Reads the PROXY protocol's header first, then serves the connection for the client that it names.
async fn serve_proxied(
    mut socket: Socket,
    address: Option<SocketAddr>,
    mut open: Open<'_>,
    worker: &Worker,
) -> io::Result<()> {
    let rule = &worker.context.client_address;
    let proxy = Remote::new(address);
    let holder = if rule.is_believed(proxy) { Holder::Proxy } else { holder(rule, proxy) };
    let opening = open.unless_it_gives_way(holder, Idle::Asked, proxied::open(&mut socket)).await?;
    open.leave();
    let Opening { source: named, rest } = opening.inspect_err(|error| rule.tell_without_header(proxy, error))?;
    fast_path::serve(Fresh { socket, source: rule.behind(address, named), unread: rest, open }, worker).await
}

/// Whether a connection could not be accepted because the client has given up already.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
