//! `torrent-cache healthcheck` asks a running cache whether it is healthy. A container's HEALTHCHECK runs this command,
//! so the image needs no curl.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long each step may take: to connect, to write, to read.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of a reply that are read. The reply of `/health` is shorter.
const LONGEST: u64 = 4096;

/// Succeeds if a healthy cache listens at this address. The error is a sentence for the operator.
pub fn healthcheck(listen: SocketAddr) -> Result<(), String> {
    let address = reachable(listen);
    let reply = ask(address).map_err(|error| format!("no answer from {address}: {error}"))?;
    match reply.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some("503") => Err(format!("the cache at {address} is stopping")),
        _ => Err(format!("unhealthy answer from {address}: {}", reply.lines().next().unwrap_or("nothing"))),
    }
}

/// Returns where to reach the server: at the loopback address if it listens on all addresses.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    socket.take(LONGEST).read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
