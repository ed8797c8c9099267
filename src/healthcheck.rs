//! Asks a running instance whether it is well: what a container's HEALTHCHECK needs, without curl in the image.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::frontend::listen::{Listen, ListenAddr};

/// For each step; a healthy instance answers in microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether an instance that listens there is serving. The error is a sentence for the operator.
pub fn check(listen: &Listen) -> Result<(), String> {
    let head = ask(listen).map_err(|error| format!("nothing answers on {listen}: {error}"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some("503") => Err(format!("the instance on {listen} is stopping")),
        _ => Err(format!("what answers on {listen} is not healthy: {}", head.lines().next().unwrap_or("no answer"))),
    }
}

fn ask(listen: &Listen) -> io::Result<String> {
    if let ListenAddr::Unix(path) = &listen.address {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        return exchange(stream, listen.proxied);
    }
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in listen.address.reachable()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return exchange(stream, listen.proxied);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The status line and what follows it, as far as a health page goes.
fn exchange(mut stream: impl Read + Write, proxied: bool) -> io::Result<String> {
    if proxied {
        // As a proxy's own health check: it speaks for nobody.
        stream.write_all(b"PROXY UNKNOWN\r\n")?;
    }
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    stream.take(4096).read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
