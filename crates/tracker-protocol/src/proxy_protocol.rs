//! The PROXY protocol, versions 1 and 2: what a proxy puts in front of a connection, or of a datagram, to say whose it is
//! (HAProxy's `proxy-protocol.txt`, sections 2.1 and 2.2).
//!
//! Whoever can send it can claim any address. It is read only where the operator has said that a proxy speaks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// The longest header of version 1, its line end included (section 2.1).
pub const MAX_V1: usize = 107;

/// The longest header of version 2 that is taken. Its length field could say 64 KiB; addresses take 36 bytes, and what
/// proxies add to them (section 2.2.7) a few hundred, or a kilobyte or two with a client's certificate.
pub const MAX_V2: usize = 4096;

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The command of version 2 with which a proxy speaks for somebody else (section 2.2).
const PROXY: u8 = 1;
/// The transport of version 2 that stands for TCP and for streams of Unix sockets (section 2.2).
const STREAM: u8 = 1;

/// What comes before the addresses of version 2: the signature, version and command, family and transport, and a length.
const FIXED_V2: usize = 16;

/// A header, read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it takes.
    pub len: usize,
    /// Where the proxied connection or datagram comes from; its address is canonical. None when the proxy speaks for
    /// itself, as in its health checks (`LOCAL`), or does not say for whom (`UNKNOWN`, a Unix socket): then the other
    /// end of the socket counts.
    pub source: Option<SocketAddr>,
}

/// This is no header, nor the beginning of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// It begins as no header does: somebody who is no proxy, or a proxy that was not told to send one.
    #[error("it begins with no PROXY protocol header")]
    NoHeader,
    /// It is longer than a header may be.
    #[error("its PROXY protocol header is too long")]
    TooLong,
    /// What the header says is not to be understood.
    #[error("its PROXY protocol header is malformed")]
    Unreadable,
    /// A datagram ends before its header does.
    #[error("its PROXY protocol header is cut off")]
    CutOff,
    /// A datagram's header tells of a stream.
    #[error("its PROXY protocol header tells of a stream, and not of datagrams")]
    Stream,
}

/// Reads the header at the beginning of a stream, as far as it has come. None while more is needed: at most [`MAX_V1`] or
/// [`MAX_V2`] bytes in all.
///
/// Whether the client spoke TCP or UDP to the proxy is passed over: a proxy may translate.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    if begins(bytes, SIGNATURE_V2) {
        return parse_v2(bytes);
    }
    if begins(bytes, SIGNATURE_V1) { parse_v1(bytes) } else { Err(Malformed::NoHeader) }
}

/// Takes the header off a datagram. Gives where the datagram comes from, none as in [`Header`], and what the header stands
/// before. Only version 2 can stand there: version 1 has no word for UDP (section 2.1).
///
/// # Errors
/// Unlike at the beginning of a stream, a header that ends too late is one that is cut off; and so that nobody's connection
/// is taken for a datagram, one that tells of a stream (transport `0x1`, section 2.2) is refused, as a receiver may.
pub fn parse_datagram(datagram: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), Malformed> {
    if !datagram.starts_with(SIGNATURE_V2) {
        return Err(Malformed::NoHeader);
    }
    let header = parse_v2(datagram)?.ok_or(Malformed::CutOff)?;
    // What it says when it speaks for itself counts for nothing, not even this.
    let [command, transport] = [12, 13].map(|at| datagram.get(at).map_or(0, |byte| byte & 0x0f));
    if (command, transport) == (PROXY, STREAM) {
        return Err(Malformed::Stream);
    }
    Ok((header.source, datagram.get(header.len..).unwrap_or_default()))
}

/// Whether these bytes are the beginning of what starts so, or go on from there.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let within = bytes.get(..MAX_V1).unwrap_or(bytes);
    let Some(end) = memchr::memmem::find(within, b"\r\n") else {
        return if bytes.len() < MAX_V1 { Ok(None) } else { Err(Malformed::TooLong) };
    };
    let line = within.get(SIGNATURE_V1.len()..end).and_then(|line| std::str::from_utf8(line).ok());
    let source = v1_source(line.ok_or(Malformed::Unreadable)?)?;
    Ok(Some(Header { len: end + 2, source }))
}

/// What follows `PROXY `: `TCP4 192.0.2.1 192.0.2.2 56324 443`, or `UNKNOWN` and anything.
fn v1_source(line: &str) -> Result<Option<SocketAddr>, Malformed> {
    let mut words = line.split(' ');
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(None);
    }
    let mut word = || words.next().ok_or(Malformed::Unreadable);
    let [source, destination, source_port, destination_port] = [word()?, word()?, word()?, word()?];
    let ip = match family {
        Some("TCP4") => v1_address::<Ipv4Addr>(source, destination)?.into(),
        Some("TCP6") => v1_address::<Ipv6Addr>(source, destination)?.into(),
        _ => return Err(Malformed::Unreadable),
    };
    let port = |text: &str| text.parse::<u16>().map_err(|_| Malformed::Unreadable);
    port(destination_port)?;
    if words.next().is_some() {
        return Err(Malformed::Unreadable);
    }
    Ok(Some(canonical(ip, port(source_port)?)))
}

/// The source, if both are addresses of the family that the line has named.
fn v1_address<A: std::str::FromStr>(source: &str, destination: &str) -> Result<A, Malformed> {
    match (source.parse(), destination.parse::<A>()) {
        (Ok(source), Ok(_)) => Ok(source),
        _ => Err(Malformed::Unreadable),
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_V2>() else { return Ok(None) };
    let [.., version_and_command, family_and_transport, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let len = FIXED_V2 + length;
    if len > MAX_V2 {
        return Err(Malformed::TooLong);
    }
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Unreadable),
    };
    let Some(body) = rest.get(..length) else { return Ok(None) };
    // A proxy that speaks for itself may put there what it likes.
    let source = if is_local { None } else { v2_source(family_and_transport, body)? };
    Ok(Some(Header { len, source }))
}

/// The addresses, the source first, then the ports. What follows them (TLVs, section 2.2) is of no use here.
fn v2_source(family_and_transport: u8, body: &[u8]) -> Result<Option<SocketAddr>, Malformed> {
    let v4 = || {
        let &[a, b, c, d, _, _, _, _, high, low, _, _] = body.first_chunk::<12>()?;
        Some(canonical([a, b, c, d].into(), u16::from_be_bytes([high, low])))
    };
    let v6 = || {
        let (addresses, ports) = body.first_chunk::<36>()?.split_first_chunk::<32>()?;
        let &[high, low, _, _] = ports.first_chunk::<4>()?;
        Some(canonical((*addresses.first_chunk::<16>()?).into(), u16::from_be_bytes([high, low])))
    };
    match family_and_transport {
        0x11 | 0x12 => v4().map(Some).ok_or(Malformed::Unreadable),
        0x21 | 0x22 => v6().map(Some).ok_or(Malformed::Unreadable),
        // Unspecified, or a Unix socket: there is no address to be told to others.
        0x00 | 0x31 | 0x32 => Ok(None),
        _ => Err(Malformed::Unreadable),
    }
}

fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

#[cfg(test)]
mod tests;
