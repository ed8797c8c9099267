//! Fake upstream trackers. One thread serves all of them. It can answer thousands of requests a second.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Peers in each reply.
const PEERS: u8 = 50;

/// How an upstream responds to a request.
#[derive(Clone)]
pub enum UpstreamBehaviour {
    /// The upstream sends these bytes after a pause.
    Answers(Vec<u8>, Duration),
    /// The upstream never answers.
    Silent,
}

impl UpstreamBehaviour {
    /// Makes a correct tracker with this announce interval in seconds.
    pub fn good(interval: u32) -> Self {
        Self::slow(interval, Duration::ZERO)
    }

    /// Makes a correct tracker that pauses before each reply.
    pub fn slow(interval: u32, pause: Duration) -> Self {
        let head = format!("d8:completei7e10:incompletei9e8:intervali{interval}e5:peers{}:", u32::from(PEERS) * 6);
        let mut body = head.into_bytes();
        for n in 0..PEERS {
            body.extend([198, 51, 100, 1 + n, 0x1a, 0xe1]);
        }
        body.push(b'e');
        Self::answers(&body, pause)
    }

    /// Makes a tracker that replies with status 200 and this body, after a pause.
    pub fn answers(body: &[u8], pause: Duration) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        Self::Answers([head.as_bytes(), body].concat(), pause)
    }
}

/// The thread that the fakes run on.
pub struct FakeUpstreams(Handle);

impl FakeUpstreams {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        Self(handle)
    }

    /// Starts a tracker on a port of its own.
    pub fn tracker(&self, behaviour: UpstreamBehaviour) -> FakeUpstream {
        let (listener, address) = listener();
        let mut upstream =
            FakeUpstream { address, behaviour, received: Arc::default(), handle: self.0.clone(), serving: None };
        upstream.serve(listener);
        upstream
    }
}

fn listener() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// The peer id and the event of each announce.
type Received = Vec<(String, String)>;

/// A fake tracker. Dropping it closes its port.
pub struct FakeUpstream {
    pub address: SocketAddr,
    behaviour: UpstreamBehaviour,
    received: Arc<Mutex<Received>>,
    handle: Handle,
    serving: Option<JoinHandle<()>>,
}

impl FakeUpstream {
    fn serve(&mut self, listener: std::net::TcpListener) {
        let (behaviour, received) = (Arc::new(self.behaviour.clone()), Arc::clone(&self.received));
        self.serving = Some(self.handle.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                // An error is ignored, because `accept` fails while there are too many open files, and succeeds later.
                match listener.accept().await {
                    Ok((stream, _)) => {
                        drop(tokio::spawn(serve_connection(stream, Arc::clone(&behaviour), Arc::clone(&received))));
                    }
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            }
        }));
    }

    /// Stops listening, so that connections are refused.
    pub async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Listens again, on the same port.
    pub fn resume(&mut self) {
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.serve(listener);
    }

    /// Changes the behaviour of the tracker.
    pub async fn change_to(&mut self, behaviour: UpstreamBehaviour) {
        self.stop().await;
        self.behaviour = behaviour;
        self.resume();
    }

    /// Returns the number of requests since the last call.
    pub fn take_request_count(&self) -> usize {
        std::mem::take(&mut *self.received.lock().unwrap()).len()
    }

    /// Returns how many peers were announced with this event.
    pub fn peers_with_event(&self, event: &str) -> usize {
        let received = self.received.lock().unwrap();
        received.iter().filter(|(_, other)| other == event).map(|(peer, _)| peer).collect::<HashSet<_>>().len()
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

/// Writes a forwarders file. Dropping the return value removes the file. `rate` limits the exchanges per second with
/// each forwarder. `None` keeps the default.
pub fn forwarders_file(entries: impl IntoIterator<Item = (String, SocketAddr)>, rate: Option<u32>) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    let rate = rate.map(|rate| format!("\n  rate: {rate}")).unwrap_or_default();
    for (name, address) in entries {
        writeln!(file, "- uri: http://{address}/announce\n  name: {name}{rate}").unwrap();
    }
    file
}

/// Serves one request.
async fn serve_connection(mut stream: TcpStream, behaviour: Arc<UpstreamBehaviour>, received: Arc<Mutex<Received>>) {
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
    let line = String::from_utf8_lossy(request.split(|&byte| byte == b'\r').next().unwrap_or_default());
    let value = |name: &str| {
        let rest = line.split(name).nth(1).unwrap_or_default();
        rest.split(['&', ' ']).next().unwrap_or_default().to_owned()
    };
    received.lock().unwrap().push((value("peer_id="), value("event=")));
    match &*behaviour {
        UpstreamBehaviour::Answers(reply, pause) => {
            if !pause.is_zero() {
                sleep(*pause).await;
            }
            // The client may have given up.
            let _ = stream.write_all(reply).await;
        }
        UpstreamBehaviour::Silent => while matches!(stream.read_buf(&mut request).await, Ok(1..)) {},
    }
}
