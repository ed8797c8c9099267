//! Upstream trackers (5) behind the proxies that the usual environment variables name, such as `http_proxy`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::NamedTempFile;

use super::replies::{http, ok, with_peers};
use crate::dsl::{ServerSetup, announce, retracker};
use crate::fake_tracker::{FakeTracker, Refusing, sends};

/// A public address, because upstream trackers behind a proxy can give only public peers.
const PEER: &str = "45.45.45.45:4545";
/// A name that no resolver knows.
const NAME: &str = "tracker.invalid";

/// Prepares a run with these forwarders. The timeout is long enough for a busy machine.
fn forwarding(entries: &str) -> (ServerSetup, NamedTempFile) {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(entries.as_bytes()).unwrap();
    (retracker(&["-t", "20", "-d", "-f", file.path().to_str().unwrap()]), file)
}

/// A proxy whose tunnels all lead to one address. It keeps the requests for tunnels.
pub(crate) struct Tunnels {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tunnels {
    /// Starts a proxy. `greet` reads the request for a tunnel, answers it, and returns the bytes that it read.
    pub(crate) fn start(to: SocketAddr, greet: fn(&mut TcpStream) -> Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Vec<u8>>>>::default());
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut client, seen) = (stream.unwrap(), Arc::clone(&seen));
                thread::spawn(move || {
                    let request = greet(&mut client);
                    seen.lock().unwrap().push(request);
                    let Ok(mut server) = TcpStream::connect(to) else { return };
                    let (mut back, mut there) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut back, &mut there);
                        let _ = there.shutdown(std::net::Shutdown::Both);
                    });
                    let _ = std::io::copy(&mut client, &mut server);
                });
            }
        });
        Self { address, asked }
    }

    pub(crate) fn asked(&self) -> Vec<u8> {
        self.asked.lock().unwrap()[0].clone()
    }
}

fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

pub(crate) fn by_connect(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read(stream, 1));
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").unwrap();
    head
}

fn by_socks(stream: &mut TcpStream) -> Vec<u8> {
    assert_eq!(read(stream, 4), [5, 2, 0, 2]);
    stream.write_all(&[5, 2]).unwrap();
    assert_eq!(read(stream, 10), b"\x01\x02me\x05s3cr!");
    stream.write_all(&[1, 0]).unwrap();
    let head = read(stream, 5);
    let rest = read(stream, usize::from(head[4]) + 2);
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
    [head, rest].concat()
}

#[test]
fn an_http_proxy_gets_plain_requests_with_the_whole_url() {
    let proxy = FakeTracker::start(sends(ok(with_peers(&[PEER]))));
    for (variable, value) in [
        ("http_proxy", format!("http://me:s3cr!@{}/", proxy.address())),
        ("HTTP_PROXY", format!("me:s3cr!@{}", proxy.address())),
        ("ALL_PROXY", format!("HTTP://me:s3cr!@{}", proxy.address())),
    ] {
        let (setup, _file) = forwarding(&format!("- uri: http://{NAME}:81/announce?a=b\n"));
        let server = setup.env(variable, &value).start();
        assert_eq!(server.announce(&announce("t", "client").at("10.0.0.9")).peers(), [PEER]);
        let request = proxy.requests().pop().unwrap();
        assert!(request.starts_with(&format!("GET http://{NAME}:81/announce?a=b&info_hash=")), "{request}");
        assert!(request.contains(&format!("\r\nHost: {NAME}:81\r\n")), "{request}");
        assert!(request.contains("\r\nProxy-Authorization: Basic bWU6czNjciE=\r\n"), "{request}");
        let line = server.logged("requests go through the proxy http://127.0.0.1:");
        assert!(line.contains(variable), "{line}");
        assert!(!server.log().join("\n").contains("s3cr"), "{:?}", server.log());
    }
}

#[test]
fn upstreams_in_no_proxy_are_asked_directly() {
    let tracker = FakeTracker::start(sends(ok(with_peers(&[PEER]))));
    for list in ["*", "127.0.0.1", "10.0.0.1, 127.0.0.0/8", ".example,127.0.0.1"] {
        let (setup, _file) = forwarding(&format!("- uri: http://{}/announce\n", tracker.address()));
        let dead = Refusing::new();
        let server = setup.env("http_proxy", dead.address().to_string()).env("NO_PROXY", list).start();
        assert_eq!(server.announce(&announce("t", "client").at("10.0.0.9")).peers(), [PEER], "{list}");
    }
}

#[test]
fn failures_of_a_proxy_are_logged_as_the_proxy_s() {
    let dead = Refusing::new();
    let (setup, _file) = forwarding(&format!("- uri: http://{NAME}/announce\n"));
    let server = setup.env("http_proxy", dead.address().to_string()).start();
    server.announce(&announce("t", "client").at("10.0.0.9"));
    let line = server.logged("it was not reached: the proxy http://127.0.0.1:");
    assert!(line.contains("cannot be reached"), "{line}");

    for (status, words) in [("407 Proxy Authentication Required", "it wants a login"), ("403 No", "status 403")] {
        let proxy = FakeTracker::start(sends(http(status, "")));
        let (setup, _file) = forwarding(&format!("- uri: https://{NAME}/announce\n"));
        let server = setup.env("https_proxy", proxy.address().to_string()).start();
        server.announce(&announce("t", "client").at("10.0.0.9"));
        let line = server.logged("it was not reached: the proxy http://127.0.0.1:");
        assert!(line.contains(words), "{line}");
        let request = proxy.request(1);
        assert!(request.starts_with(&format!("CONNECT {NAME}:443 HTTP/1.1\r\nHost: {NAME}:443\r\n")), "{request}");
    }
}

#[test]
fn an_unknown_kind_of_proxy_stops_the_start_only_if_it_is_needed() {
    let (setup, _file) = forwarding(&format!("- {{name: x, uri: 'http://{NAME}/announce'}}\n"));
    let exit = setup.env("http_proxy", "socks4://me:s3cr!@127.0.0.1:1").run();
    let text = exit.stderr.join("\n");
    assert!(text.contains("forwarder x: ") && text.contains("http_proxy") && !text.contains("s3cr"), "{text}");
    let (setup, _file) = forwarding("- uri: udp://127.0.0.1:1/announce\n");
    let server = setup.env("http_proxy", "socks4://127.0.0.1:1").start();
    server.logged("requests go directly to the upstream, because proxies do not carry UDP");
}

#[test]
fn an_entry_with_a_host_uses_a_tunnel() {
    let tracker = FakeTracker::start(sends(ok(with_peers(&[PEER]))));
    let proxy = Tunnels::start(tracker.address(), by_connect);
    let (setup, _file) = forwarding(&format!("- {{uri: 'http://{NAME}/announce', host: retracker.local}}\n"));
    let server = setup.env("http_proxy", proxy.address.to_string()).start();
    assert_eq!(server.announce(&announce("t", "client").at("10.0.0.9")).peers(), [PEER]);
    assert!(proxy.asked().starts_with(format!("CONNECT {NAME}:80 HTTP/1.1\r\n").as_bytes()));
    let request = tracker.request(1);
    assert!(request.starts_with("GET /announce?") && request.contains("\r\nHost: retracker.local\r\n"), "{request}");
}

#[test]
fn a_socks_proxy_gets_the_name() {
    let tracker = FakeTracker::start(sends(ok(with_peers(&[PEER]))));
    let proxy = Tunnels::start(tracker.address(), by_socks);
    let (setup, _file) = forwarding(&format!("- uri: http://{NAME}:81/announce\n"));
    let server = setup.env("all_proxy", format!("socks5h://me:s3cr!@{}", proxy.address)).start();
    assert_eq!(server.announce(&announce("t", "client").at("10.0.0.9")).peers(), [PEER]);
    assert_eq!(proxy.asked(), [&[5, 1, 0, 3, NAME.len() as u8], NAME.as_bytes(), &[0, 81]].concat());
    let request = tracker.request(1);
    assert!(request.starts_with("GET /announce?") && !request.contains("Proxy-"), "{request}");
}

#[test]
fn check_uses_the_proxy_too() {
    let proxy = FakeTracker::start(sends(ok(with_peers(&[PEER]))));
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "- uri: http://{NAME}/announce").unwrap();
    let setup = retracker(&["check", "-f", file.path().to_str().unwrap()]);
    let exit = setup.env("http_proxy", proxy.address().to_string()).run();
    assert!(exit.code == Some(0), "{:?} {:?}", exit.stdout, exit.stderr);
    assert!(proxy.request(1).starts_with(&format!("GET http://{NAME}/announce?info_hash=")));
}
