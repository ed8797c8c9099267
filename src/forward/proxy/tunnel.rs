//! Tunnels through proxies: `CONNECT` (RFC 9110, section 9.3.6) and SOCKS5 (RFC 1928, with the login of RFC 1929).

use std::fmt;
use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use url::{Host, Url};

use crate::forward::headers::USER_AGENT;

/// The longest head of a reply to `CONNECT`.
const MAX_HEAD: usize = 16 * 1024;

/// Where a tunnel leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::forward) struct Target {
    host: Host<String>,
    port: u16,
}

impl Target {
    /// Returns the host and the port of a URL.
    pub(in crate::forward) fn of(url: &Url) -> Option<Self> {
        Some(Self { host: url.host()?.to_owned(), port: url.port_or_known_default()? })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a tunnel was not made.
#[derive(Debug, Error)]
pub(in crate::forward) enum TunnelError {
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The proxy refused, or its answer cannot be read.
    #[error("{0}")]
    Refused(String),
}

fn refused<T>(what: impl fmt::Display) -> Result<T, TunnelError> {
    Err(TunnelError::Refused(what.to_string()))
}

/// Makes a tunnel with `CONNECT`.
pub(super) async fn http(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    authorization: Option<&str>,
    to: &Target,
) -> Result<(), TunnelError> {
    let authorization = authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: {USER_AGENT}\r\n{authorization}\r\n");
    io.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    // The head is read byte by byte, because the bytes after it belong to the tunnel.
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        if head.len() >= MAX_HEAD {
            return refused("its answer is too large");
        }
        head.push(io.read_u8().await?);
    }
    let mut words = head.split(|&byte| byte == b' ' || byte == b'\r' || byte == b'\n');
    let is_http = words.next().is_some_and(|version| version.starts_with(b"HTTP/1."));
    match words.next() {
        Some([b'2', _, _]) if is_http => Ok(()),
        Some(b"407") if is_http => refused("it wants a login (407)"),
        Some(status) if is_http => refused(format_args!("it answers CONNECT with status {}", status.escape_ascii())),
        _ => refused("its answer is not HTTP"),
    }
}

/// Makes a tunnel through a SOCKS5 proxy.
pub(super) async fn socks5(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    login: Option<&(String, String)>,
    to: &Target,
) -> Result<(), TunnelError> {
    // The methods that we support: no login, and a login if one is configured.
    let methods: &[u8] = if login.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
    io.write_all(methods).await?;
    match ([io.read_u8().await?, io.read_u8().await?], login) {
        ([5, 0], _) => {}
        ([5, 2], Some(login)) => log_in(io, login).await?,
        ([5, 2 | 0xff], _) => return refused("it wants a login"),
        _ => return refused("its answer is not SOCKS5"),
    }
    io.write_all(&connect_request(to)?).await?;
    let mut reply = [0; 4];
    io.read_exact(&mut reply).await?;
    let [version, status, _, kind] = reply;
    if (version, status) != (5, 0) {
        return refused(format_args!("it does not connect us: {}", status_text(status)));
    }
    // The proxy's own address is not needed, but must be read.
    let length = match kind {
        1 => 4,
        4 => 16,
        _ => usize::from(io.read_u8().await?),
    };
    let mut rest = vec![0; length + 2];
    io.read_exact(&mut rest).await?;
    Ok(())
}

/// Sends the login and reads the answer (RFC 1929).
async fn log_in(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    (user, password): &(String, String),
) -> Result<(), TunnelError> {
    let mut request = vec![1];
    for part in [user, password] {
        let Ok(length) = u8::try_from(part.len()) else { return refused("the login is too long for it") };
        request.push(length);
        request.extend_from_slice(part.as_bytes());
    }
    io.write_all(&request).await?;
    let [_version, status] = [io.read_u8().await?, io.read_u8().await?];
    if status == 0 { Ok(()) } else { refused("it refuses the login") }
}

/// Returns the request to connect us to a target (RFC 1928, section 4).
fn connect_request(to: &Target) -> Result<Vec<u8>, TunnelError> {
    let mut request = vec![5, 1, 0];
    match &to.host {
        Host::Ipv4(ip) => {
            request.push(1);
            request.extend_from_slice(&ip.octets());
        }
        Host::Ipv6(ip) => {
            request.push(4);
            request.extend_from_slice(&ip.octets());
        }
        Host::Domain(name) => {
            let Ok(length) = u8::try_from(name.len()) else { return refused("the name is too long for it") };
            request.extend_from_slice(&[3, length]);
            request.extend_from_slice(name.as_bytes());
        }
    }
    request.extend_from_slice(&to.port.to_be_bytes());
    Ok(request)
}

/// Returns what the status of a reply means (RFC 1928, section 6).
fn status_text(status: u8) -> &'static str {
    match status {
        2 => "its rules forbid it",
        3 => "the network is unreachable",
        4 => "the host is unreachable",
        5 => "connection refused",
        6 => "it took too long",
        7 | 8 => "it does not support this",
        _ => "it failed",
    }
}
