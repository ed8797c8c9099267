//! Fake upstream trackers, all on one thread of their own: thousands of requests a second are to be no matter.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Peers in each reply.
const PEERS: u8 = 50;

/// The first of these, as it stands in compact lists.
pub(crate) const FIRST_PEER: [u8; 6] = [198, 51, 100, 1, 0x1a, 0xe1];

/// What an upstream does with a request.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// It answers after a while.
    Answers(Vec<u8>, Duration),
    /// It never answers.
    Silent,
}

impl Behaviour {
    /// A tracker as it should be, which wants to hear of a peer again after so many seconds.
    pub(crate) fn good(interval: u32) -> Self {
        Self::slow(interval, Duration::ZERO)
    }

    /// The same, but it takes its time.
    pub(crate) fn slow(interval: u32, pause: Duration) -> Self {
        let mut body = format!("d8:completei7e10:incompletei9e8:intervali{interval}e5:peers{}:", u32::from(PEERS) * 6);
        let mut body = std::mem::take(&mut body).into_bytes();
        for n in 0..PEERS {
            let [a, b, c, d, high, low] = FIRST_PEER;
            body.extend([a, b, c, d + n, high, low]);
        }
        body.push(b'e');
        Self::answers(&body, pause)
    }

    /// A 200 with this body.
    pub(crate) fn answers(body: &[u8], pause: Duration) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        Self::Answers([head.as_bytes(), body].concat(), pause)
    }
}

/// The thread of the fakes.
pub(crate) struct Upstreams(Handle);

impl Upstreams {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        Self(handle)
    }

    /// A tracker on a port of its own.
    pub(crate) fn tracker(&self, behaviour: Behaviour) -> Upstream {
        let (listener, address) = listener();
        let mut upstream = Upstream { address, behaviour, told: Arc::default(), handle: self.0.clone(), serving: None };
        upstream.serve(listener);
        upstream
    }

    /// Something that connects whoever comes to somebody else, and counts.
    pub(crate) fn relay(&self) -> Relay {
        let (listener, address) = listener();
        let (target, passed) = (Arc::<OnceLock<SocketAddr>>::default(), Arc::<AtomicUsize>::default());
        let relay = Relay { address, target: Arc::clone(&target), passed: Arc::clone(&passed) };
        self.0.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                passed.fetch_add(1, Relaxed);
                let target = *target.get().unwrap();
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(target).await.unwrap();
                    // Either side may give up.
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        relay
    }
}

fn listener() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// What an upstream has been told: of whom, and with which event.
type Told = Vec<(String, String)>;

/// A fake tracker. It closes its port when this goes.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    behaviour: Behaviour,
    told: Arc<Mutex<Told>>,
    handle: Handle,
    serving: Option<JoinHandle<()>>,
}

impl Upstream {
    fn serve(&mut self, listener: std::net::TcpListener) {
        let (behaviour, told) = (Arc::new(self.behaviour.clone()), Arc::clone(&self.told));
        self.serving = Some(self.handle.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                // What cannot be accepted for want of descriptors can be later.
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(visit(stream, Arc::clone(&behaviour), Arc::clone(&told)))),
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            }
        }));
    }

    /// Stops listening: whoever connects is refused.
    pub(crate) async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Listens again, on the same port.
    pub(crate) fn resume(&mut self) {
        let listener = std::net::TcpListener::bind(self.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.serve(listener);
    }

    /// Behaves in another way from now on.
    pub(crate) async fn becomes(&mut self, behaviour: Behaviour) {
        self.stop().await;
        self.behaviour = behaviour;
        self.resume();
    }

    /// Forgets what it has been told, and says how many requests that were.
    pub(crate) fn forget(&self) -> usize {
        std::mem::take(&mut *self.told.lock().unwrap()).len()
    }

    /// How many peers it has been told of with this event.
    pub(crate) fn told(&self, event: &str) -> usize {
        let told = self.told.lock().unwrap();
        told.iter().filter(|(_, other)| other == event).map(|(peer, _)| peer).collect::<HashSet<_>>().len()
    }

    /// Whether it has been told of this peer with this event.
    pub(crate) fn knows(&self, peer: &str, event: &str) -> bool {
        self.told.lock().unwrap().iter().any(|(other, with)| other == peer && with == event)
    }

    /// How many requests were about each peer.
    pub(crate) fn requests(&self) -> HashMap<String, usize> {
        let mut requests = HashMap::new();
        self.told.lock().unwrap().iter().for_each(|(peer, _)| *requests.entry(peer.clone()).or_default() += 1);
        requests
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.iter().for_each(JoinHandle::abort);
    }
}

/// One connection: one request.
async fn visit(mut stream: TcpStream, behaviour: Arc<Behaviour>, told: Arc<Mutex<Told>>) {
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
    told.lock().unwrap().push((value("peer_id="), value("event=")));
    match &*behaviour {
        Behaviour::Answers(reply, pause) => {
            if !pause.is_zero() {
                sleep(*pause).await;
            }
            // Who asked may have given up.
            let _ = stream.write_all(reply).await;
        }
        Behaviour::Silent => while matches!(stream.read_buf(&mut request).await, Ok(1..)) {},
    }
}

/// Counts the connections between two that are started after it.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    target: Arc<OnceLock<SocketAddr>>,
    passed: Arc<AtomicUsize>,
}

impl Relay {
    pub(crate) fn leads_to(&self, target: SocketAddr) {
        self.target.set(target).unwrap();
    }

    pub(crate) fn passed(&self) -> usize {
        self.passed.load(Relaxed)
    }
}
