//! The tracker and two hosts with torrent-cache, which get blobs from each other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use tempfile::TempDir;
use torrent_cache::config::{self, CacheTask};
use torrent_cache::digest::Digest;
use torrent_cache::server::CacheServer;

use crate::dsl::{Server, eventually};

/// The length of a blob. A blob has several pieces, and the last piece is shorter.
const LENGTH: usize = 3_000_000;

fn blob(seed: u8) -> Vec<u8> {
    (0..LENGTH).map(|at| (at / 251 + at % 251 * usize::from(seed)) as u8).collect()
}

/// A registry with one blob. It sends only as many bytes of the blob as the test allows.
struct TestRegistry {
    address: SocketAddr,
    blob: Arc<GatedBlob>,
}

struct GatedBlob {
    bytes: Vec<u8>,
    /// How many bytes of the blob may be sent.
    open: Mutex<usize>,
    opened: Condvar,
    /// How many requests for bytes of the blob the registry has got.
    fetches: AtomicUsize,
}

impl TestRegistry {
    fn start(bytes: Vec<u8>, open: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let blob = GatedBlob { bytes, open: Mutex::new(open), opened: Condvar::new(), fetches: AtomicUsize::new(0) };
        let blob = Arc::new(blob);
        let served = Arc::clone(&blob);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let blob = Arc::clone(&served);
                thread::spawn(move || blob.serve(&stream));
            }
        });
        Self { address, blob }
    }

    fn open(&self, bytes: usize) {
        *self.blob.open.lock().unwrap() = bytes;
        self.blob.opened.notify_all();
    }

    fn fetches(&self) -> usize {
        self.blob.fetches.load(Relaxed)
    }

    fn path(&self) -> String {
        format!("/v2/library/x/blobs/{}", Digest::of(&self.blob.bytes))
    }
}

impl GatedBlob {
    /// Answers one request with the whole blob, or with the rest of the blob from a byte on. Stops if the client
    /// disconnects.
    fn serve(&self, mut stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let request = lines.next().unwrap_or_default();
        let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
        let range = headers.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
        let first: usize = range.map_or(0, |first| first.parse().unwrap());
        let (status, length) = if first > 0 { ("206 Partial Content", LENGTH - first) } else { ("200 OK", LENGTH) };
        let range = format!("Content-Range: bytes {first}-{}/{LENGTH}\r\n", LENGTH - 1);
        let range = if first > 0 { range.as_str() } else { "" };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{range}Connection: close\r\n\r\n");
        if stream.write_all(head.as_bytes()).is_err() || request.starts_with("HEAD") {
            return;
        }
        self.fetches.fetch_add(1, Relaxed);
        let mut sent = first;
        while sent < LENGTH {
            let open = self.opened.wait_while(self.open.lock().unwrap(), |open| *open <= sent).unwrap();
            let end = (*open).min(LENGTH);
            drop(open);
            if stream.write_all(&self.bytes[sent..end]).is_err() {
                return;
            }
            sent = end;
        }
    }
}

/// A cache in this process. Dropping this value stops the cache.
struct CachingHost {
    address: SocketAddr,
    _storage: TempDir,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl CachingHost {
    fn start(registry: &TestRegistry, tracker: &Server) -> Self {
        let storage = tempfile::tempdir().unwrap();
        let torrents: SocketAddr = tracker.torrents_addresses()[0].parse().unwrap();
        let env = |name: &str| {
            Some(match name {
                "INTERFACE" => "127.0.0.1".into(),
                "REGISTRY_LOCATION" => registry.address.to_string().into(),
                "REGISTRY_NO_SSL" => "1".into(),
                "STORAGE" => storage.path().into(),
                "STORAGE_QUOTA" => "1G".into(),
                "PORT" | "STORAGE_MIN_FREE" => "0".into(),
                "TRACKER" => format!("http://{}/announce", tracker.addresses()[0]).into(),
                "ETCD_HOST" => torrents.ip().to_string().into(),
                "ETCD_PORT" => torrents.port().to_string().into(),
                _ => return None,
            })
        };
        let CacheTask::Serve { mut config, .. } = config::read(["torrent-cache".into()], env).unwrap() else {
            panic!("the variables do not start a server")
        };
        // The peer port is any free port, because tests have no fixed ports.
        config.swarm.ports = 0..=0;
        let server = CacheServer::bind(*config).unwrap();
        let address = server.address();
        let (stop, stopped): (Sender<()>, Receiver<()>) = channel();
        let run = move || {
            let wait = || {
                let _stopped_or_dropped = stopped.recv();
            };
            server.run(wait).unwrap();
        };
        let host = Self { address, _storage: storage, stop, thread: Some(thread::spawn(run)) };
        eventually("the host knows the tracker", || (host.metric("torrent_cache_tracker_up") == 1).then_some(()));
        host
    }

    fn get(&self, path: &str) -> impl Read + use<> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        reader
    }

    fn pull(&self, registry: &TestRegistry) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.get(&registry.path()).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        self.get("/metrics").read_to_string(&mut text).unwrap();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for CachingHost {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tracker() -> Server {
    Server::start(&["--torrents", "--torrents-listen=127.0.0.1:0", "--listen=127.0.0.1:0"])
}

/// Repeats the attempt with other blobs until one attempt causes a single fetch. One attempt proves nothing, because on a
/// busy machine a host may not wait for the other host and may ask the registry itself.
fn until_one_fetch_is_enough(mut attempt: impl FnMut(&TestRegistry, u8)) {
    let enough = (1..=8).find(|seed| {
        let registry = TestRegistry::start(blob(2 * seed + 1), LENGTH / 2);
        attempt(&registry, 2 * seed + 1);
        registry.fetches() == 1
    });
    assert!(enough.is_some(), "no attempt caused a single fetch");
}

#[test]
fn a_host_gets_from_another_what_that_one_has() {
    let tracker = tracker();
    until_one_fetch_is_enough(|registry, seed| {
        registry.open(LENGTH);
        let first = CachingHost::start(registry, &tracker);
        assert!(first.pull(registry) == blob(seed));
        eventually("the first host offers the blob", || {
            (first.metric("torrent_cache_offered_blobs") == 1).then_some(())
        });
        let second = CachingHost::start(registry, &tracker);
        assert!(second.pull(registry) == blob(seed));
        assert!(second.pull(registry) == blob(seed) && first.pull(registry) == blob(seed));
    });
}

#[test]
fn hosts_that_pull_at_once_are_one_fetch_and_get_its_bytes_as_they_come() {
    let tracker = tracker();
    until_one_fetch_is_enough(|registry, seed| {
        let hosts = [CachingHost::start(registry, &tracker), CachingHost::start(registry, &tracker)];
        let mut replies = hosts.each_ref().map(|host| host.get(&registry.path()));
        // The registry sends half of the blob, which contains two whole pieces. Both hosts get these pieces while the
        // registry holds back the rest.
        let (begun, rest) = (&blob(seed)[..(1 << 20) - 1], &blob(seed)[(1 << 20) - 1..]);
        for reply in &mut replies {
            let mut bytes = vec![0; begun.len()];
            reply.read_exact(&mut bytes).unwrap();
            assert!(bytes == begun);
        }
        registry.open(LENGTH);
        for reply in &mut replies {
            let mut bytes = Vec::new();
            reply.read_to_end(&mut bytes).unwrap();
            assert!(bytes == rest);
        }
    });
}
