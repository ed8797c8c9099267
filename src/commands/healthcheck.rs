//! `retracker healthcheck`: asks a running instance whether it is healthy. A container's HEALTHCHECK runs this command,
//! so the image needs no curl.

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

/// The time limit of a whole check with its name look-up, below the three seconds after which Docker gives up.
const DEADLINE: Duration = Duration::from_millis(2500);

/// Succeeds if an instance serves at each address of `listen`. The error is a sentence for the operator.
pub(super) fn check(listen: &Listen) -> Result<(), String> {
    let (tell, told) = mpsc::channel();
    let asked = listen.clone();
    // A name look-up cannot be cancelled. So it runs on a thread that the process does not wait for.
    let asking = thread::Builder::new().spawn(move || {
        let _ = tell.send(check_all(&asked));
    });
    asking.map_err(|error| format!("cannot start a thread: {error}"))?;
    let late = |_| Err(format!("nothing answers on {listen} within {DEADLINE:?}"));
    told.recv_timeout(DEADLINE).unwrap_or_else(late)
}

fn check_all(listen: &Listen) -> Result<(), String> {
    let nothing = |at: &str, error: &io::Error| format!("nothing answers on {listen}{at}: {error}");
    let transport = listen.purpose.transport;
    if let ListenAddr::Unix(path) = &listen.address {
        let reply = ask_unix(path, transport).map_err(|error| nothing("", &error))?;
        return judge(listen, &reply);
    }
    let addresses = listen.address.reachable().map_err(|error| nothing("", &error))?;
    for address in addresses {
        let reply = ask_tcp(&address, transport).map_err(|error| nothing(&format!(" at {address}"), &error))?;
        judge(listen, &reply)?;
    }
    Ok(())
}

fn judge(listen: &Listen, reply: &str) -> Result<(), String> {
    match reply.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some("503") => Err(format!("the instance on {listen} is stopping")),
        _ => Err(format!("unhealthy answer on {listen}: {}", reply.lines().next().unwrap_or("no answer"))),
    }
}

fn ask_unix(path: &Path, transport: Transport) -> io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    exchange(stream, transport)
}

fn ask_tcp(address: &SocketAddr, transport: Transport) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(address, STEP_TIMEOUT)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    exchange(stream, transport)
}

/// Sends what the listener expects before a request, then asks.
fn exchange(mut stream: impl Read + Write, transport: Transport) -> io::Result<String> {
    match transport {
        Transport::Plain => ask(stream),
        Transport::Proxied => {
            // Proxies send this header with their own health checks. It contains no client address.
            stream.write_all(b"PROXY UNKNOWN\r\n")?;
            ask(stream)
        }
        Transport::Tls => ask(rustls::StreamOwned::new(unverified::session()?, stream)),
    }
}

/// Sends the request and returns the first 4 KiB of the reply. A health page is shorter than that.
fn ask(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    stream.take(4096).read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
