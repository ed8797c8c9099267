//! Asks a running instance for a page, so that no curl is needed.

mod unverified;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::frontend::listen::{Listen, ListenAddr, Transport};

/// The time limit of each step. A healthy instance answers in microseconds.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// The time limit of all steps together, including the name look-up. It is below three seconds, because the Dockerfile
/// lets a health check take three.
const DEADLINE: Duration = Duration::from_millis(2500);

/// A request for a page.
#[derive(Clone, Debug)]
pub(super) struct PageRequest {
    /// The path and the query.
    pub(super) target: String,
    /// The longest reply that is read, in bytes.
    pub(super) longest: u64,
}

/// Returns one reply from each address of `listen`, with its head: at least one reply. The error is a sentence for the
/// operator.
pub(super) fn replies(listen: &Listen, request: &PageRequest) -> Result<Vec<String>, String> {
    let (tell, told) = mpsc::channel();
    let (asked, request) = (listen.clone(), request.clone());
    // A name look-up cannot be cancelled. So it runs on a thread that the process does not wait for.
    let asking = thread::Builder::new().spawn(move || {
        let _ = tell.send(ask_all(&asked, &request));
    });
    asking.map_err(|error| format!("cannot start a thread: {error}"))?;
    let late = |_| Err(format!("nothing answers on {listen} within {DEADLINE:?}"));
    told.recv_timeout(DEADLINE).unwrap_or_else(late)
}

fn ask_all(listen: &Listen, request: &PageRequest) -> Result<Vec<String>, String> {
    let nothing = |at: &str, error: &io::Error| format!("nothing answers on {listen}{at}: {error}");
    let transport = listen.purpose.transport;
    if let ListenAddr::Unix(path) = &listen.address {
        return Ok(vec![ask_unix(path, transport, request).map_err(|error| nothing("", &error))?]);
    }
    let addresses = listen.address.reachable().map_err(|error| nothing("", &error))?;
    let ask = |address: &SocketAddr| {
        ask_tcp(address, transport, request).map_err(|error| nothing(&format!(" at {address}"), &error))
    };
    addresses.iter().map(ask).collect()
}

/// The status code in a reply.
pub(super) fn status(reply: &str) -> Option<&str> {
    reply.split(' ').nth(1)
}

fn ask_unix(path: &Path, transport: Transport, request: &PageRequest) -> io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    exchange(stream, transport, request)
}

fn ask_tcp(address: &SocketAddr, transport: Transport, request: &PageRequest) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(address, STEP_TIMEOUT)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    exchange(stream, transport, request)
}

/// Asks for the page over one connection. If the listener expects a PROXY protocol header or TLS, the header or the
/// handshake comes before the request.
fn exchange(mut stream: impl Read + Write, transport: Transport, request: &PageRequest) -> io::Result<String> {
    match transport {
        Transport::Plain => ask(stream, request),
        Transport::Proxied => {
            // Proxies send this header with their own health checks. It contains no client address.
            stream.write_all(b"PROXY UNKNOWN\r\n")?;
            ask(stream, request)
        }
        Transport::Tls => ask(rustls::StreamOwned::new(unverified::session()?, stream), request),
    }
}

/// Sends the request and returns the reply, cut off after `longest` bytes.
fn ask(mut stream: impl Read + Write, request: &PageRequest) -> io::Result<String> {
    let PageRequest { target, longest } = request;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    stream.take(*longest).read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
