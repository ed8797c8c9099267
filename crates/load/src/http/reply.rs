//! Checks each reply, because a fast tracker that answers wrongly must not look good.

use std::borrow::Cow;

use memchr::memmem::{find, find_iter};

/// What a reply must contain. Every reply must also be a dictionary. A failure reason is an error, except with
/// [`Expect::Failure`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Anything,
    /// At least one peer in a compact list.
    Peers,
    /// A compact list, which may be empty.
    List,
    /// A list of dictionaries, which may be empty.
    Dictionaries,
    /// A failure reason.
    Failure,
    /// The counts of this many swarms.
    Counts(usize),
}

/// Checks a reply. Returns `None` while the reply is incomplete, and then whether the reply is correct.
pub fn check(reply: &[u8], ended: bool, expect: Expect) -> Option<Result<(), &'static str>> {
    let Some(end) = find(reply, b"\r\n\r\n") else {
        return ended.then_some(Err("a connection closed before the reply"));
    };
    let (head, rest) = (&reply[..end], &reply[end + 4..]);
    let body = match framing(head) {
        BodyLength::Length(length) if rest.len() < length => {
            return ended.then_some(Err("a reply shorter than its Content-Length"));
        }
        BodyLength::Length(length) if rest.len() > length => {
            return Some(Err("a reply longer than its Content-Length"));
        }
        BodyLength::Length(_) => Cow::Borrowed(rest),
        BodyLength::Chunked if rest.ends_with(b"0\r\n\r\n") => match join_chunks(rest) {
            Some(body) => Cow::Owned(body),
            None => return Some(Err("malformed chunks")),
        },
        BodyLength::UntilClosed if ended => Cow::Borrowed(rest),
        BodyLength::Chunked | BodyLength::UntilClosed => return ended.then_some(Err("a reply cut off")),
    };
    if !head.starts_with(b"HTTP/1.1 200") && !head.starts_with(b"HTTP/1.0 200") {
        return Some(Err("a status other than 200"));
    }
    Some(check_body(&body, expect))
}

enum BodyLength {
    Length(usize),
    Chunked,
    UntilClosed,
}

fn framing(head: &[u8]) -> BodyLength {
    for line in head.split(|&byte| byte == b'\n').skip(1) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            return BodyLength::Length(number(value).unwrap_or(usize::MAX));
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return BodyLength::Chunked;
        }
    }
    BodyLength::UntilClosed
}

/// Joins the chunks of a reply's body. Returns `None` if the body is incomplete or invalid.
fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(rest.len());
    loop {
        let end = find(rest, b"\r\n")?;
        let length = usize::from_str_radix(str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(end + 2..end + 2 + length)?);
        rest = rest.get(end + 4 + length..)?;
    }
}

fn check_body(body: &[u8], expect: Expect) -> Result<(), &'static str> {
    if body.first() != Some(&b'd') || body.last() != Some(&b'e') {
        return Err("a body that is not a dictionary");
    }
    match (find(body, b"14:failure reason").is_some(), expect == Expect::Failure) {
        (true, false) => return Err("a failure reason"),
        (false, true) => return Err("no failure reason"),
        _ => {}
    }
    match expect {
        Expect::Anything | Expect::Failure => Ok(()),
        Expect::Peers if peers_length(body)? == 0 => Err("no peer"),
        Expect::Peers | Expect::List => peers_length(body).map(drop),
        Expect::Dictionaries if find(body, b"5:peersl").is_some() => Ok(()),
        Expect::Dictionaries => Err("no list of dictionaries"),
        Expect::Counts(swarms) if find_iter(body, b"8:completei").count() == swarms => Ok(()),
        Expect::Counts(_) => Err("a scrape reply that lacks swarms"),
    }
}

/// Returns the length of the compact lists of both families, in bytes. A reply has at least one list, which may be empty.
fn peers_length(body: &[u8]) -> Result<usize, &'static str> {
    let lists = [list_length(body, b"5:peers", 6)?, list_length(body, b"6:peers6", 18)?];
    if lists == [None; 2] {
        return Err("no list of peers");
    }
    Ok(lists.into_iter().flatten().sum())
}

/// Returns the length of one compact list, in bytes; `None` if the reply does not have the key.
fn list_length(body: &[u8], key: &[u8], peer_length: usize) -> Result<Option<usize>, &'static str> {
    let Some(at) = find(body, key) else { return Ok(None) };
    let list = &body[at + key.len()..];
    let colon = memchr::memchr(b':', list).ok_or("a list of peers that is not a string")?;
    let length = number(&list[..colon]).ok_or("a list of peers that is not a string")?;
    if length % peer_length != 0 || length >= list.len() - colon - 1 {
        return Err("a list of peers of the wrong length");
    }
    Ok(Some(length))
}

fn number(digits: &[u8]) -> Option<usize> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the number of seeds and leechers of all swarms in a scrape reply.
pub fn count_peers(body: &[u8]) -> u64 {
    let sum = |key: &[u8]| {
        let number = |at| {
            let digits = &body[at + key.len()..];
            number(&digits[..memchr::memchr(b'e', digits).unwrap_or_default()]).unwrap_or_default() as u64
        };
        find_iter(body, key).map(number).sum::<u64>()
    };
    sum(b"8:completei") + sum(b"10:incompletei")
}
