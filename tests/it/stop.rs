//! A shutdown loses no announce that the kernel has accepted.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::dsl::{DEADLINE, Server, announce, eventually, request};
use crate::udp_client::{UdpClient, udp_announce};

/// Late clients must send their requests within this time after SIGTERM. It is half of the time that a stopping server waits
/// for a request on a new connection.
const PROMPT: Duration = Duration::from_secs(1);

/// Connections wait in the backlog of a suspended server when the server gets SIGTERM.
#[test]
fn connections_that_wait_to_be_accepted_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", folder.path().join("socket").display());
    for listen in ["127.0.0.1:0", &unix] {
        for late in [false, true] {
            eventually("the requests are in time", || all_are_answered(listen, late).then_some(()));
        }
    }
}

/// Clients connect to a suspended server, which then gets SIGTERM. The clients send their requests before or after the
/// signal. Returns false if a busy machine sent the requests too late.
fn all_are_answered(listen: &str, late: bool) -> bool {
    let server = Server::start(&["-l", listen]);
    // A server that answers has installed its signal handlers.
    assert_eq!(server.get("/health").status, 200);
    server.signal("STOP");
    let mut waiting: Vec<_> = (0..200).map(|_| server.connect()).collect();
    let mut ask = || {
        for (n, connection) in waiting.iter_mut().enumerate() {
            // Sending fails if the server has closed its listener.
            let _ = connection.try_send(request("GET", announce("t", &format!("p{n}")).target(), &[]));
        }
    };
    if !late {
        ask();
    }
    server.signal("TERM");
    let awake = Instant::now();
    server.signal("CONT");
    if late {
        server.logged("stopping");
        ask();
        if awake.elapsed() > PROMPT {
            return false;
        }
    }
    for connection in &mut waiting {
        assert_eq!(connection.reply().status, 200, "{listen} late: {late}");
        assert_eq!(connection.rest(), b"");
    }
    assert_eq!(server.wait().code, Some(0));
    true
}

#[test]
fn datagrams_that_wait_to_be_read_are_answered() {
    let server = Server::start(&["-u", "127.0.0.1:0"]);
    let clients: Vec<_> = (0..20).map(|_| UdpClient::of(&server)).collect();
    server.signal("STOP");
    for client in &clients {
        for n in 0..5 {
            client.send(&udp_announce("t", &format!("p{n}")).packet(client.id));
        }
    }
    server.signal("TERM");
    server.signal("CONT");
    for client in &clients {
        for _ in 0..5 {
            assert_eq!(client.receive()[..4], [0, 0, 0, 1]);
        }
    }
    assert_eq!(server.wait().code, Some(0));
}

/// Clients open connections one after the other, for one announce each, until no more can be opened. Every connection
/// that was opened gets a reply.
#[test]
fn no_connection_that_was_opened_is_left_without_a_reply() {
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", folder.path().join("socket").display());
    for listen in ["127.0.0.1:0", &unix] {
        // On systems other than Linux, closing a TCP listener resets the connections in its backlog.
        if cfg!(not(target_os = "linux")) && !listen.starts_with("unix:") {
            continue;
        }
        let server = Server::start(&["-l", listen]);
        let address = server.addresses()[0].clone();
        let (answered, lost) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for client in 0..8 {
                let (address, answered, lost) = (&address, &answered, &lost);
                scope.spawn(move || {
                    for n in 0.. {
                        let announce = announce(&format!("t{client}"), &format!("p{}", n % 100));
                        match ask(address, &request("GET", announce.target(), &[("Connection", "close")])) {
                            Some(true) => answered.fetch_add(1, SeqCst),
                            Some(false) => lost.fetch_add(1, SeqCst),
                            None => return,
                        };
                    }
                });
            }
            eventually("the clients announce", || (answered.load(SeqCst) > 500).then_some(()));
            server.signal("TERM");
            assert_eq!(server.wait().code, Some(0));
        });
        assert_eq!(lost.load(SeqCst), 0, "{listen}: of {}", answered.load(SeqCst));
    }
}

/// Sends a request on a connection of its own. Returns whether a complete reply arrives. `None` if no connection can be
/// opened.
fn ask(address: &str, request: &[u8]) -> Option<bool> {
    let mut reply = Vec::new();
    if let Some(path) = address.strip_prefix("unix:") {
        let mut stream = UnixStream::connect(path).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let _ = stream.write_all(request).and_then(|()| stream.read_to_end(&mut reply));
    } else {
        let address: SocketAddr = address.parse().unwrap();
        let mut stream = match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(stream) => stream,
            Err(error) => {
                assert!([ErrorKind::ConnectionRefused, ErrorKind::TimedOut].contains(&error.kind()), "{error}");
                return None;
            }
        };
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let _ = stream.write_all(request).and_then(|()| stream.read_to_end(&mut reply));
    }
    Some(reply.ends_with(b"e") && reply.starts_with(b"HTTP/1.1 200 OK"))
}
