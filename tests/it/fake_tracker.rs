//! An upstream tracker that runs a script for each connection. The tracker knows nothing of HTTP: it sends the script's
//! bytes and keeps the requests.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::dsl::{DEADLINE, eventually};

/// What the tracker does with a connection.
pub(crate) type Script = Arc<dyn Fn(&mut Visit) + Send + Sync>;

pub(crate) fn script(script: impl Fn(&mut Visit) + Send + Sync + 'static) -> Script {
    Arc::new(script)
}

/// Reads the request, sends these bytes and closes.
pub(crate) fn sends(bytes: impl Into<Vec<u8>>) -> Script {
    let bytes = bytes.into();
    script(move |visit| {
        visit.read();
        visit.write(&bytes);
    })
}

/// Reads the request, and waits until the test sends a message on the channel or drops the sender. Then sends these
/// bytes.
pub(crate) fn sends_when_told(bytes: impl Into<Vec<u8>>) -> (Script, mpsc::Sender<()>) {
    let bytes = bytes.into();
    let (answer, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let script = script(move |visit| {
        visit.read();
        let _ = wait.lock().unwrap().recv();
        visit.write(&bytes);
    });
    (script, answer)
}

/// Reads the request, sends these bytes and leaves the connection open.
pub(crate) fn sends_and_stays(bytes: impl Into<Vec<u8>>) -> Script {
    let bytes = bytes.into();
    script(move |visit| {
        visit.read();
        visit.write(&bytes);
        visit.wait_for_close();
    })
}

/// Reads the request and sends these bytes one by one, at this pace.
pub(crate) fn drips(bytes: impl Into<Vec<u8>>, pace: Duration) -> Script {
    let bytes = bytes.into();
    script(move |visit| {
        visit.read();
        // The script ends at the first write that fails, because the client has closed.
        for byte in &bytes {
            if !visit.write(&[*byte]) {
                return;
            }
            thread::sleep(pace);
        }
        visit.wait_for_close();
    })
}

/// Reads the request, sends the first bytes, and repeats the others until the client closes.
pub(crate) fn floods(first: impl Into<Vec<u8>>, unit: impl Into<Vec<u8>>) -> Script {
    let (first, unit) = (first.into(), unit.into());
    script(move |visit| {
        visit.read();
        if visit.write(&first) {
            while visit.write(&unit) {}
        }
    })
}

/// One connection.
pub(crate) struct Visit {
    stream: TcpStream,
    seen: Arc<Seen>,
    reset: bool,
    /// How many connections the tracker got before this one.
    pub(crate) number: usize,
    /// Where the tracker listens.
    pub(crate) address: SocketAddr,
    /// The request. Empty before [`Self::read`].
    pub(crate) request: String,
}

impl Visit {
    /// Reads the request's head, and any bytes that arrive with the end of the head.
    pub(crate) fn read(&mut self) {
        let mut request = Vec::new();
        let mut space = [0; 4096];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            match self.stream.read(&mut space) {
                Ok(0) | Err(_) => break,
                Ok(length) => request.extend_from_slice(&space[..length]),
            }
        }
        self.request = String::from_utf8_lossy(&request).into_owned();
        self.seen.requests.lock().unwrap().push(self.request.clone());
    }

    /// Sends bytes. False if the client has closed the connection.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        let written = self.stream.write_all(bytes).is_ok();
        if written {
            self.seen.written.fetch_add(bytes.len(), SeqCst);
        }
        written
    }

    /// Waits until the other side closes.
    pub(crate) fn wait_for_close(&mut self) {
        let mut space = [0; 4096];
        while matches!(self.stream.read(&mut space), Ok(1..)) {}
    }

    /// Reads nothing until the test calls [`FakeTracker::wait_until_idle`]. Until then, the tracker does not notice
    /// that the client closes the connection.
    pub(crate) fn hold_unread(&mut self) {
        eventually("the test waits for the end", || self.seen.is_awaited.load(SeqCst).then_some(()));
    }

    /// Makes the connection end with a reset, so that the client sees an error.
    pub(crate) fn reset(&mut self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
        self.reset = true;
    }

    fn end(mut self) {
        if !self.reset {
            // If a connection is closed with unread bytes, it is reset, and a reset can destroy bytes that were sent.
            // So the tracker closes only its sending side, and then waits until the other side closes.
            let _ = self.stream.shutdown(std::net::Shutdown::Write);
            self.wait_for_close();
        }
    }
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    visits: AtomicUsize,
    over: AtomicUsize,
    is_awaited: AtomicBool,
    written: AtomicUsize,
}

/// A tracker that runs until it is dropped.
pub(crate) struct FakeTracker {
    address: SocketAddr,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
}

impl FakeTracker {
    /// Starts a tracker on a port of 127.0.0.1.
    pub(crate) fn start(script: Script) -> Self {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), script).unwrap()
    }

    /// Starts a tracker on a port of this address. Returns `None` if the host does not have the address.
    pub(crate) fn start_on(ip: IpAddr, script: Script) -> Option<Self> {
        let listener = TcpListener::bind((ip, 0)).ok()?;
        let address = listener.local_addr().unwrap();
        let seen = Arc::<Seen>::default();
        let stop = Arc::<AtomicBool>::default();
        let tracker = Self { address, seen: Arc::clone(&seen), stop: Arc::clone(&stop) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.set_write_timeout(Some(DEADLINE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                let number = seen.visits.fetch_add(1, SeqCst);
                thread::spawn(move || {
                    let request = String::new();
                    let mut visit = Visit { stream, seen: Arc::clone(&seen), reset: false, number, address, request };
                    script(&mut visit);
                    visit.end();
                    seen.over.fetch_add(1, SeqCst);
                });
            }
        });
        Some(tracker)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the requests that the tracker has read, with the bytes that arrived with their heads.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Waits until there are this many requests, and returns the last of them.
    pub(crate) fn request(&self, number: usize) -> String {
        eventually("the tracker gets the request", || self.requests().get(number - 1).cloned())
    }

    /// Returns the number of connections to the tracker so far.
    pub(crate) fn visits(&self) -> usize {
        self.seen.visits.load(SeqCst)
    }

    /// Returns the number of bytes that the tracker has sent.
    pub(crate) fn written(&self) -> usize {
        self.seen.written.load(SeqCst)
    }

    /// Waits until the other side has closed all connections to the tracker.
    pub(crate) fn wait_until_idle(&self) {
        self.seen.is_awaited.store(true, SeqCst);
        eventually("the connections to the tracker are closed", || {
            (self.seen.over.load(SeqCst) == self.visits()).then_some(())
        });
    }
}

impl Drop for FakeTracker {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// A port that refuses connections as long as this value lives.
pub(crate) struct Refusing(Socket);

impl Refusing {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }
}

/// A port that accepts no connection and whose backlog is full. On Linux, further attempts to connect get no
/// answer.
pub(crate) struct Deaf {
    listener: Socket,
    _waiting: Vec<TcpStream>,
}

impl Deaf {
    pub(crate) fn new() -> Self {
        let listener = Refusing::new().0;
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(50)).ok();
        let waiting = std::iter::from_fn(connect).take(8).collect();
        Self { listener, _waiting: waiting }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }
}
