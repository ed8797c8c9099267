//! The workers: each a thread with its own sockets, its own event loop and its own copy of the routes.
//!
//! actix-web's own server accepts on one thread and hands each connection to a worker, which costs a third of
//! an announce that opens a connection for itself, as most do. Here each worker accepts on its own loop, answers announces
//! and scrapes there and then, and drives the same actix-web `App` directly for everything else.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use actix_http::{HttpService, KeepAlive};
use actix_service::{IntoServiceFactory, Service, ServiceFactory, map_config};
use actix_web::App;
use actix_web::dev::AppConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use super::client_address::Source as Origin;
use super::http::connection::Lenient;
use super::http::front::{self, KEEP_ALIVE};
use super::http::socket::{Listener, Socket};
use super::listen::{Bound, Listening, SocketFile};
use super::proxied::{self, Opening};
use super::udp::UdpListener;
use super::{Context, routes, udp};

/// How long requests under way may take to finish once the process is told to stop.
pub const DRAIN: Duration = Duration::from_secs(5);
/// How long a client may take to send the head of its first request. Of later ones, [`Lenient`] sees to it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a worker pauses when it cannot accept, as a rule because descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often that is reported at most.
const ACCEPT_REPORT: Duration = Duration::from_secs(10);

/// True once the process is told to stop.
pub type Stop = watch::Receiver<bool>;

/// Starts the workers. Each ends within [`DRAIN`] of `stop`.
pub fn start(
    listening: Vec<Listening>,
    workers: usize,
    context: &Arc<Context>,
    stop: &Stop,
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

async fn work(sockets: Sockets, context: Arc<Context>, stop: Stop) {
    let mut listening = JoinSet::new();
    for (listener, proxied) in sockets.tcp {
        let (context, stop) = (Arc::clone(&context), stop.clone());
        listening.spawn_local(async move {
            match Listener::new(listener) {
                Ok(listener) => serve(Rc::new(Tcp { listener, proxied }), context, stop).await,
                Err(error) => log::error!("a listener could not be used: {error}"),
            }
        });
    }
    for ((listener, file), proxied) in sockets.unix {
        let (context, stop) = (Arc::clone(&context), stop.clone());
        listening.spawn_local(async move {
            match UnixListener::from_std(listener) {
                Ok(listener) => serve(Rc::new(Unix { listener, proxied }), context, stop).await,
                Err(error) => log::error!("a listener could not be used: {error}"),
            }
            drop(file);
        });
    }
    for (listener, proxied) in sockets.udp {
        listening.spawn_local(udp::serve(listener, proxied, Arc::clone(&context), stop.clone()));
    }
    while listening.join_next().await.is_some() {}
}

/// Where connections come from, and what becomes of one.
trait Source: 'static {
    /// As it is accepted.
    type Connection: 'static;
    /// As actix-web takes it.
    type Stream: AsyncRead + AsyncWrite + Unpin + 'static;

    async fn accept(&self) -> io::Result<Self::Connection>;

    /// Serves a connection up to where it is for actix-web, if it ever is.
    async fn serve(
        connection: Self::Connection,
        context: &Context,
        stop: &Stop,
    ) -> io::Result<Option<ForActix<Self::Stream>>>;
}

/// A connection, and who is at its other end, if that has an address.
type ForActix<T> = (Lenient<T>, Option<SocketAddr>);

struct Tcp {
    listener: Listener,
    proxied: bool,
}

impl Source for Tcp {
    type Connection = (Socket, SocketAddr, bool);
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<Self::Connection> {
        let (socket, address) = self.listener.accept().await?;
        Ok((socket, address, self.proxied))
    }

    async fn serve(
        (mut socket, mut address, proxied): Self::Connection,
        context: &Context,
        stop: &Stop,
    ) -> io::Result<Option<ForActix<Self::Stream>>> {
        let mut unread = Vec::new();
        if proxied {
            let (source, rest) = open(socket.registered()?, Some(address), context).await?;
            (address, unread) = (source.unwrap_or(address), rest);
        }
        let handover = front::serve(socket, address, unread, context, stop).await?;
        Ok(handover.map(|(stream, unread)| (Lenient::resume(stream, unread), Some(address))))
    }
}

struct Unix {
    listener: UnixListener,
    proxied: bool,
}

impl Source for Unix {
    type Connection = (tokio::net::UnixStream, bool);
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<Self::Connection> {
        Ok((self.listener.accept().await?.0, self.proxied))
    }

    async fn serve(
        (mut stream, proxied): Self::Connection,
        context: &Context,
        _: &Stop,
    ) -> io::Result<Option<ForActix<Self::Stream>>> {
        if !proxied {
            return Ok(Some((Lenient::new(stream), None)));
        }
        let (source, rest) = open(&mut stream, None, context).await?;
        Ok(Some((Lenient::resume(stream, rest), source)))
    }
}

/// Has the proxy say whose a connection is that comes from this address. Gives that, and what has been read behind it.
async fn open(
    stream: &mut (impl AsyncRead + Unpin),
    address: Option<SocketAddr>,
    context: &Context,
) -> io::Result<(Option<SocketAddr>, Vec<u8>)> {
    let rule = &context.client_address;
    let opening = proxied::open(stream).await;
    let Opening { source, rest } =
        opening.inspect_err(|error| rule.tell_without_header(Origin::new(address), error))?;
    Ok((rule.behind(address, source), rest))
}

/// Accepts until told to stop. From then on until the requests under way are finished, who connects is still answered, and
/// then disconnected: announces as ever, and `/health` by the news that this instance goes away.
async fn serve<S: Source>(source: Rc<S>, context: Arc<Context>, stop: Stop) {
    let mut stopping = stop.clone();
    let Some(service) = service::<Lenient<S::Stream>>(Arc::clone(&context), Some(stop.clone())).await else { return };
    tokio::select! {
        () = accept(&*source, service, &context, &stop) => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    let Some(service) = self::service::<Lenient<S::Stream>>(Arc::clone(&context), None).await else { return };
    // From now on its `wait` ends; connections may still be opened. Not just until this worker has none: the kernel goes on
    // to deal newcomers out to it.
    context.connections.close();
    tokio::select! {
        () = accept(&*source, service, &context, &stop) => {}
        () = context.connections.wait() => {}
        () = tokio::time::sleep(DRAIN) => {
            log::warn!("connections were cut, of all workers {}: they were not done after {DRAIN:?}", context.connections.len());
        }
    }
}

/// Serves every connection that comes, each in a task of its own.
async fn accept<S: Source>(
    source: &S,
    service: impl Service<ForActix<S::Stream>, Future = impl Future + 'static> + 'static,
    context: &Arc<Context>,
    stop: &Stop,
) {
    let service = Rc::new(service);
    let mut told: Option<Instant> = None;
    loop {
        match source.accept().await {
            Ok(connection) => {
                let (service, context, stop) = (Rc::clone(&service), Arc::clone(context), stop.clone());
                let connections = context.connections.clone();
                connections.spawn_local(async move {
                    // What goes wrong on a connection is its client's affair.
                    if let Ok(Some(connection)) = S::serve(connection, &context, &stop).await {
                        // In a box: few connections come here, and it is large.
                        let _ = Box::pin(service.call(connection)).await;
                    }
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
