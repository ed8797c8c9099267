//! A worker is a thread with its own event loop. It accepts connections on the port that all workers share, and serves
//! them.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::time::Duration;

use actix_http::{HttpService, KeepAlive, Request};
use actix_service::{Service, ServiceFactory as _, fn_service};
use certificate::TlsServer;
use futures::future::LocalBoxFuture;
use rustix::net::sockopt::{
    set_socket_keepalive, set_tcp_congestion, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::either::Either;
use tokio_util::task::TaskTracker;

use super::active_body::ActiveBody;
use super::answer::answer;
use super::context::CacheContext;
use super::counted_connection::{AddressShares, CountedConnection};
use super::stream::{ClientStream, ConnectionActivity};

/// The first byte of a TLS connection: the type of a handshake record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// The pause when no connection can be accepted, usually because descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// After this time without a byte, the system probes whether the client is still there (TCP keepalive).
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
/// The time between two keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// The connection ends after this many keepalive probes without an answer.
const KEEPALIVE_COUNT: u32 = 4;

/// The congestion control of connections from this host. Every Linux has reno, and every process may choose it. The
/// default can be BBR, whose timers cost half a CPU second for a GiB, more than the rest of the transfer. Loopback
/// cannot be congested.
const LOCAL_CONGESTION_CONTROL: &str = "reno";

/// Makes the log say only once that a client tried https in vain.
static TOLD: Once = Once::new();

/// What a worker needs to serve.
pub(super) struct WorkerOptions {
    pub(super) context: Arc<CacheContext>,
    pub(super) tls: Option<Arc<TlsServer>>,
    /// The connections that all workers together may still accept.
    pub(super) permits: Arc<Semaphore>,
    pub(super) shares: Arc<AddressShares>,
    pub(super) client_timeout: Duration,
    /// How long transfers may go on after the stop signal.
    pub(super) drain: Duration,
    /// The connections of all workers. The workers end together, because a worker's fetch can have readers in other
    /// workers.
    pub(super) tasks: TaskTracker,
    pub(super) stop: watch::Receiver<bool>,
}

type ServeConnection = Rc<dyn Fn(ClientStream, SocketAddr) -> LocalBoxFuture<'static, ()>>;

/// Accepts and serves connections until the stop signal. Then waits up to `drain` for the last transfer.
pub(super) async fn work(listener: std::net::TcpListener, options: WorkerOptions) {
    let (listener, serve) = match (TcpListener::from_std(listener), service(&options).await) {
        (Ok(listener), Some(serve)) => (listener, serve),
        (Err(error), _) => return log::error!("cannot use the listener: {error}"),
        (_, None) => return log::error!("cannot set up the handlers of a worker"),
    };
    let options = Rc::new(options);
    let mut stop = options.stop.clone();
    tokio::select! {
        () = accept(&listener, &options, &serve) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    drop(listener);
    options.tasks.close();
    if timeout(options.drain, options.tasks.wait()).await.is_err() {
        log::warn!("shutdown: closed {} connections after {:?}", options.tasks.len(), options.drain);
    }
}

async fn accept(listener: &TcpListener, options: &Rc<WorkerOptions>, serve: &ServeConnection) {
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&options.permits).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, address)) => {
                let (options, serve) = (Rc::clone(options), Rc::clone(serve));
                let Some(open) = CountedConnection::of(address.ip(), &options.context, &options.shares, permit) else {
                    log::debug!("closed a new connection of {}, because this address has too many", address.ip());
                    continue;
                };
                options.tasks.clone().spawn_local(async move {
                    connection(socket, address, &options, &serve).await;
                    drop(open);
                });
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
            }
            Err(error) => {
                log::warn!("cannot accept connections at the moment: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection: https if the first byte is that of a TLS handshake, else http.
async fn connection(socket: TcpStream, address: SocketAddr, options: &WorkerOptions, serve: &ServeConnection) {
    let limit = options.client_timeout;
    let mut stop = options.stop.clone();
    let opened = async {
        let opened = timeout(limit, open(socket, address, options.tls.as_deref())).await;
        opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    };
    let opened = tokio::select! {
        opened = opened => opened,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    match opened {
        Ok(socket) => serve(ClientStream::new(socket, limit), address).await,
        Err(error) => log::debug!("the connection of {} ended before a request: {error}", address.ip()),
    }
}

async fn open(
    socket: TcpStream,
    address: SocketAddr,
    tls: Option<&TlsServer>,
) -> io::Result<Either<TcpStream, Box<tokio_rustls::server::TlsStream<TcpStream>>>> {
    socket.set_nodelay(true)?;
    keep_alive(&socket)?;
    if address.ip().to_canonical().is_loopback() {
        // If this fails, the connection only costs more CPU time.
        let _ = set_tcp_congestion(&socket, LOCAL_CONGESTION_CONTROL);
    }
    let mut first = [0];
    if socket.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match (first, tls) {
        ([TLS_HANDSHAKE], Some(tls)) => {
            let stream = tls.acceptor().accept(socket).await?;
            Ok(Either::Right(Box::new(stream)))
        }
        ([TLS_HANDSHAKE], None) => {
            TOLD.call_once(|| log::info!("a client tried https, but CERTFILE and PRIVATEKEY name no files"));
            Err(io::Error::other("the client speaks https"))
        }
        _ => Ok(Either::Left(socket)),
    }
}

/// Sets up TCP keepalive, so that a client that vanished is noticed even while its reply waits for an upstream.
fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
    Ok(set_socket_keepalive(socket, true)?)
}

async fn service(options: &WorkerOptions) -> Option<ServeConnection> {
    let (context, stop) = (Arc::clone(&options.context), options.stop.clone());
    let handler = fn_service(move |request: Request| {
        let context = Arc::clone(&context);
        let under_way = request.conn_data().map(ConnectionActivity::reply);
        async move {
            // The future is on the heap because it is large, and most connections are idle most of the time.
            let reply = Box::pin(answer(&context, request)).await;
            Ok::<_, actix_http::Error>(reply.map_body(|_, body| ActiveBody { body, _under_way: under_way }))
        }
    });
    let service = HttpService::build()
        .keep_alive(KeepAlive::Timeout(options.client_timeout))
        .client_request_timeout(options.client_timeout)
        .client_disconnect_timeout(options.client_timeout)
        .on_connect_ext(|stream: &ClientStream, data| {
            data.insert(stream.activity());
            if let Some(files) = stream.files() {
                data.insert(files);
            }
        })
        // Without this setting, a client that has closed its side would keep its reader of a flight.
        .h1_allow_half_closed(false)
        .graceful_shutdown_signal(move || {
            let mut stop = stop.clone();
            async move {
                let _ = stop.wait_for(|stop| *stop).await;
            }
        })
        .h1(handler);
    let service = Rc::new(service.new_service(()).await.ok()?);
    Some(Rc::new(move |stream: ClientStream, address: SocketAddr| {
        let service = Rc::clone(&service);
        Box::pin(async move {
            // An error of a connection concerns only its client.
            if let Err(error) = service.call((stream, Some(address))).await {
                log::debug!("the connection of {} ended: {error}", address.ip());
            }
        })
    }))
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::{socket_keepalive, tcp_congestion};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn the_system_looks_after_silent_clients() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        keep_alive(&client).unwrap();
        assert!(socket_keepalive(&client).unwrap());
    }

    #[tokio::test]
    async fn packets_to_this_host_are_not_spread_over_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.write_all(b"G").await.unwrap();
        let (socket, address) = listener.accept().await.unwrap();
        let Either::Left(socket) = open(socket, address, None).await.unwrap() else { panic!("it is not TLS") };
        assert_eq!(tcp_congestion(&socket).unwrap(), LOCAL_CONGESTION_CONTROL);
    }
}
