//! A connection with both ends in this process, for tests and fuzz targets.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::task::yield_now;

use super::fast_path::{self, NewConnection, Worker};
use super::pages::Pages;
use super::socket::Socket;
use crate::clock;
use crate::frontend::client_address::{ClientAddress, ClientAddressOptions, Remote};
use crate::frontend::connections::{ConnectionLimits, Connections};
use crate::frontend::context::Context;
use crate::frontend::history::History;
use crate::frontend::hosts::Hosts;
use crate::frontend::listen::Audience;
use crate::frontend::shutdown::DRAIN;
use crate::frontend::udp::connection_id::SharedKey;
use crate::frontend::udp::connection_ids::ConnectionIds;
use crate::metrics::{LogSample, Metrics};
use crate::store::{Store, StoreOptions};
use crate::topology::Topology;
use crate::tracker::{Policy, Tracker};

/// Reads bytes as the head of a request, for a fuzz target.
pub fn read_head(bytes: &[u8]) {
    let bytes = bytes.get(super::head::skip_empty_lines(bytes)..).unwrap_or_default();
    if let super::head::Read::Folded(length) = super::head::Head::read(bytes) {
        let unfolded = super::head::unfold(bytes.get(..length).unwrap_or_default());
        assert!(matches!(super::head::Head::read(&unfolded), super::head::Read::Whole(_, same) if same == length));
    }
}

/// A tracker without upstream trackers, for up to ten connections.
pub fn context() -> Arc<Context> {
    let metrics = Metrics::unexposed();
    let (peer_age, announce_interval) = (Duration::from_hours(3), Duration::from_secs(30));
    let store = Store::new(StoreOptions { peer_age, announce_interval, max_peers: 1_000 });
    let policy = Policy::every(30);
    Arc::new(Context {
        share: None,
        access: None,
        tracker: Tracker::new(policy, Topology::default(), Arc::new(store), None, &metrics),
        connections: Connections::new(ConnectionLimits::up_to(10), metrics.connections.clone()),
        metrics,
        registry: None,
        hosts: Hosts::default(),
        routes: None,
        listening: Vec::new(),
        settings: Vec::new(),
        history: History::default(),
        log: LogSample::default,
        start: clock::now(),
        chihaya: None,
        client_address: ClientAddress::new(ClientAddressOptions::default()),
        draining: AtomicBool::new(false),
        drain: DRAIN,
        torrents: None,
        connection_ids: ConnectionIds::shared(&SharedKey::new("rehearsal", Duration::ZERO)),
        operator_connections: None,
        tls: None,
    })
}

/// Returns what a client receives if it sends these pieces one by one, and then closes its side.
///
/// # Errors
/// The system cannot make sockets, or the routes cannot be set up.
pub async fn replies(context: &Arc<Context>, pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
    let (client, server) = UnixStream::pair()?;
    client.set_nonblocking(true)?;
    server.set_nonblocking(true)?;
    let (mut from_server, mut to_server) = tokio::net::UnixStream::from_std(client)?.into_split();
    let (_never, stop) = watch::channel(false);
    let pages = Pages::new(context).await.ok_or(io::ErrorKind::Other)?;
    let worker = Worker { context: Arc::clone(context), pages, stop };
    context.connections.admit();
    let open = context.connections.opened();
    let (socket, source, audience) = (Socket::from(server), Remote::Unix, Audience::Clients);
    let fresh = NewConnection { socket, source, unread: Vec::new(), open, audience };
    let send = async move {
        for piece in pieces {
            // The server may have closed the connection.
            if to_server.write_all(piece).await.is_err() {
                return;
            }
            yield_now().await;
            yield_now().await;
        }
        let _ = to_server.shutdown().await;
    };
    let receive = async move {
        let mut received = Vec::new();
        let _ = from_server.read_to_end(&mut received).await;
        received
    };
    let (_, (), received) = tokio::join!(fast_path::serve(fresh, &worker), send, receive);
    Ok(received)
}
