//! The workers: each a thread with its own sockets, its own event loop and its own copy of the routes.
//!
//! actix-web's own server accepts on one thread and hands each connection to a worker, which costs a third of
//! an announce that opens a connection for itself, as most do. Here each worker accepts on its own loop and drives
//! the same actix-web `App` directly.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use actix_http::{HttpService, KeepAlive};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, map_config};
use actix_web::App;
use actix_web::dev::AppConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use super::http::connection::Lenient;
use super::listen::{Bound, SocketFile};
use super::udp::UdpListener;
use super::{Context, routes, udp};

/// How long requests under way may take to finish once the process is told to stop.
pub const DRAIN: Duration = Duration::from_secs(5);
/// How long a client may take to send the head of its first request. Of later ones, [`Lenient`] sees to it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection without a request is kept. Clients announce in minutes; proxies reuse within seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a worker pauses when it cannot accept, as a rule because descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often that is reported at most.
const ACCEPT_REPORT: Duration = Duration::from_secs(10);

/// True once the process is told to stop.
pub type Stop = watch::Receiver<bool>;

/// Starts the workers. Each ends within [`DRAIN`] of `stop`.
pub fn start(
    bound: Vec<Bound>,
    workers: usize,
    context: &Arc<Context>,
    stop: &Stop,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut sockets: Vec<Sockets> = (0..workers).map(|_| Sockets::default()).collect();
    for bound in bound {
        match bound {
            Bound::Tcp(listeners) => {
                sockets.iter_mut().zip(listeners).for_each(|(own, listener)| own.tcp.push(listener));
            }
            Bound::Unix(listeners) => {
                sockets.iter_mut().zip(listeners).for_each(|(own, listener)| own.unix.push(listener));
            }
            Bound::Udp(listeners) => {
                sockets.iter_mut().zip(listeners).for_each(|(own, listener)| own.udp.push(listener));
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
    tcp: Vec<std::net::TcpListener>,
    unix: Vec<(std::os::unix::net::UnixListener, Arc<SocketFile>)>,
    udp: Vec<UdpListener>,
}

async fn work(sockets: Sockets, context: Arc<Context>, stop: Stop) {
    let mut listening = JoinSet::new();
    for listener in sockets.tcp {
        let (context, stop) = (Arc::clone(&context), stop.clone());
        listening.spawn_local(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => serve(TcpSource(listener), context, stop).await,
                Err(error) => log::error!("a listener could not be used: {error}"),
            }
        });
    }
    for (listener, file) in sockets.unix {
        let (context, stop) = (Arc::clone(&context), stop.clone());
        listening.spawn_local(async move {
            match UnixListener::from_std(listener) {
                Ok(listener) => serve(UnixSource(listener), context, stop).await,
                Err(error) => log::error!("a listener could not be used: {error}"),
            }
            drop(file);
        });
    }
    for listener in sockets.udp {
        listening.spawn_local(udp::serve(listener, Arc::clone(&context), stop.clone()));
    }
    while listening.join_next().await.is_some() {}
}

/// Where connections come from.
trait Source {
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>>;
}

struct TcpSource(TcpListener);

impl Source for TcpSource {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Stream, Option<SocketAddr>)> {
        let (stream, address) = self.0.accept().await?;
        // A reply is one write: there is nothing to wait for.
        stream.set_nodelay(true)?;
        Ok((stream, Some(address)))
    }
}

struct UnixSource(UnixListener);

impl Source for UnixSource {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<(Self::Stream, Option<SocketAddr>)> {
        Ok((self.0.accept().await?.0, None))
    }
}

/// Accepts until told to stop. From then on until the requests under way are finished, who connects is still answered, and
/// then disconnected: announces as ever, and `/health` by the news that this instance goes away.
async fn serve<S: Source>(source: S, context: Arc<Context>, mut stop: Stop) {
    let Some(service) = service::<Lenient<S::Stream>>(Arc::clone(&context), Some(stop.clone())).await else { return };
    let mut connections = JoinSet::new();
    tokio::select! {
        () = accept(&source, &service, &context, &mut connections, false) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    let Some(service) = self::service::<Lenient<S::Stream>>(Arc::clone(&context), None).await else { return };
    // From now on its `wait` ends; connections may still be opened.
    context.connections.close();
    let drained = tokio::time::timeout(DRAIN, accept(&source, &service, &context, &mut connections, true)).await;
    if drained.is_err() {
        log::warn!("{} connections were cut: they were not done after {DRAIN:?}", connections.len());
    }
}

/// Serves every connection that comes; for ever, or `until_idle` until no worker has any left. Not just until this one has
/// none: the kernel goes on to deal newcomers out to it.
async fn accept<S: Source>(
    source: &S,
    service: &impl Service<(Lenient<S::Stream>, Option<SocketAddr>), Future = impl Future + 'static>,
    context: &Arc<Context>,
    connections: &mut JoinSet<()>,
    until_idle: bool,
) {
    let mut told: Option<Instant> = None;
    loop {
        tokio::select! {
            // In this order: what is finished is let go of before more is taken on, and nobody who has connected is left.
            biased;
            Some(_) = connections.join_next() => {}
            accepted = source.accept() => match accepted {
                Ok((stream, address)) => {
                    let served = service.call((Lenient::new(stream), address));
                    let open = context.connections.token();
                    connections.spawn_local(async move {
                        // What goes wrong on a connection is its client's affair.
                        let _ = served.await;
                        drop(open);
                    });
                }
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    if told.is_none_or(|told| told.elapsed() > ACCEPT_REPORT) {
                        log::warn!("no connection can be accepted: {error}");
                        told = Some(Instant::now());
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = context.connections.wait(), if until_idle => return,
        }
    }
}

/// Whether a connection could not be accepted because the client has given up already.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::InvalidInput
    )
}

/// The routes as a service of whole connections. With `stop`, idle connections are closed when it comes; without, each
/// connection is closed after one request.
async fn service<T>(
    context: Arc<Context>,
    stop: Option<Stop>,
) -> Option<impl Service<(T, Option<SocketAddr>), Future = impl Future + 'static>>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let app = App::new().configure(|config| routes(&context, config));
    let keep_alive = if stop.is_some() { KeepAlive::Timeout(KEEP_ALIVE) } else { KeepAlive::Disabled };
    let http = HttpService::build().keep_alive(keep_alive).client_request_timeout(REQUEST_TIMEOUT);
    let http = match stop {
        Some(stop) => http.graceful_shutdown_signal(move || {
            let mut stop = stop.clone();
            async move {
                let _ = stop.wait_for(|stop| *stop).await;
            }
        }),
        None => http,
    };
    let http = http.h1(map_config(app.into_factory(), |()| AppConfig::default()));
    http.new_service(()).await.inspect_err(|()| log::error!("a worker could not set up its routes")).ok()
}
