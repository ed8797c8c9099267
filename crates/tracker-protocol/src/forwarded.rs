//! The headers in which proxies name the client of a request: `Forwarded` (RFC 7239), `X-Forwarded-For`, and headers
//! with one address, such as `X-Real-IP`.
//!
//! Each proxy appends the address that it got the request from. The left part of a list may be forged, because a client
//! can send the header itself. So a list is read from the right. The first address that belongs to no trusted proxy is
//! the client's.

use std::net::IpAddr;

use super::announce::parse_ip;

/// The syntax of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `for=192.0.2.43;proto=http, for="[2001:db8:cafe::17]:4711"` (RFC 7239, section 4).
    Forwarded,
    /// `192.0.2.43, 2001:db8:cafe::17`; also with ports, and with brackets.
    XForwardedFor,
    /// `192.0.2.43`.
    Single,
}

impl Syntax {
    /// Returns the syntax of the header with this name, in upper or lower case. A header with any other name holds one
    /// address.
    pub fn of(name: &str) -> Self {
        if name.eq_ignore_ascii_case("forwarded") {
            Self::Forwarded
        } else if name.eq_ignore_ascii_case("x-forwarded-for") {
            Self::XForwardedFor
        } else {
            Self::Single
        }
    }
}

/// The host that a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// The client at this address, canonical.
    Client(IpAddr),
    /// All addresses belong to trusted proxies, and this is the leftmost address. The proxy at this address sent the
    /// request itself, or does not name its client.
    Proxy(IpAddr),
    /// No host: the header is missing, is empty, or hides the client.
    NotSaid,
    /// The header cannot be read, or contradicts itself.
    Unclear,
}

/// One element of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Ip(IpAddr),
    /// `unknown`, an obfuscated name (RFC 7239, section 6.3), or what programs write when they have no address.
    Hidden,
    Junk,
}

/// Returns the host that a header names. `lines` are the lines of this header, in their order.
pub fn client<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    syntax: Syntax,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Named {
    let node = match syntax {
        Syntax::Forwarded => forwarded_for,
        Syntax::XForwardedFor => node,
        Syntax::Single => return single(lines, is_trusted),
    };
    let mut named = None;
    for line in lines {
        // All lines together are one list (RFC 9110, section 5.3), in which later lines stand to the right.
        match in_list(line, node, &is_trusted) {
            Some(Named::Proxy(ip)) => drop(named.get_or_insert(Named::Proxy(ip))),
            Some(decided) => named = Some(decided),
            None => {}
        }
    }
    named.unwrap_or(Named::NotSaid)
}

/// Returns the host that one line of a list names. `None` when the line is empty.
fn in_list(line: &[u8], node: impl Fn(&[u8]) -> Node, is_trusted: impl Fn(IpAddr) -> bool) -> Option<Named> {
    let mut leftmost = None;
    let mut rest = Some(line);
    while let Some(line) = rest {
        let (before, element) = split_last(line, b',');
        rest = before;
        if element.trim_ascii().is_empty() {
            continue;
        }
        match node(element) {
            Node::Ip(ip) if is_trusted(ip) => leftmost = Some(Named::Proxy(ip)),
            // A trusted proxy wrote this element, and does not name the client.
            Node::Hidden => return Some(Named::NotSaid),
            Node::Ip(ip) => return Some(Named::Client(ip)),
            Node::Junk => return Some(Named::Unclear),
        }
    }
    leftmost
}

/// Returns the host that a header of [`Syntax::Single`] names. If the header has several addresses, only one comes from
/// the proxy, and the rest may be forged. So all addresses must be the same.
fn single<'a>(lines: impl IntoIterator<Item = &'a [u8]>, is_trusted: impl Fn(IpAddr) -> bool) -> Named {
    let mut found = None;
    for line in lines {
        let is_empty = line.trim_ascii().is_empty();
        let elements = line.split(|&byte| byte == b',').filter(|element| is_empty || !element.trim_ascii().is_empty());
        for element in elements {
            let node = node(element);
            if *found.get_or_insert(node) != node {
                return Named::Unclear;
            }
        }
    }
    match found {
        Some(Node::Ip(ip)) if is_trusted(ip) => Named::Proxy(ip),
        Some(Node::Ip(ip)) => Named::Client(ip),
        Some(Node::Hidden) | None => Named::NotSaid,
        Some(Node::Junk) => Named::Unclear,
    }
}

/// Splits the text at the last separator outside of quoted strings. Without a separator, the second part is the whole
/// text.
///
/// A client may send a quote that it never closes. The text is read from the right, so such a quote does not affect
/// what the proxy appended.
fn split_last(text: &[u8], separator: u8) -> (Option<&[u8]>, &[u8]) {
    let mut in_quotes = false;
    for (at, &byte) in text.iter().enumerate().rev() {
        let before = text.get(..at).unwrap_or_default();
        if byte == b'"' && !ends_in_escape(before) {
            in_quotes = !in_quotes;
        } else if byte == separator && !in_quotes {
            return (Some(before), text.get(at + 1..).unwrap_or_default());
        }
    }
    (None, text)
}

/// Returns whether the byte after this text is escaped: the text ends with an odd number of backslashes.
fn ends_in_escape(text: &[u8]) -> bool {
    text.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// Reads the `for` of an element of `Forwarded`. An element with a second `for` is junk, because it is unclear which
/// `for` is meant.
fn forwarded_for(element: &[u8]) -> Node {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(pairs) = rest {
        let (before, pair) = split_last(pairs, b';');
        rest = before;
        let Some(value) = value_of_for(pair) else { continue };
        if found.replace(value).is_some() {
            return Node::Junk;
        }
    }
    found.map_or(Node::Hidden, node)
}

fn value_of_for(pair: &[u8]) -> Option<&[u8]> {
    let (name, value) = pair.trim_ascii().split_at_checked(4)?;
    name.eq_ignore_ascii_case(b"for=").then_some(value)
}

/// What programs write when they have no address.
const NOTHING: [&[u8]; 6] = [b"", b"-", b"unknown", b"null", b"(null)", b"none"];

/// Reads an address, with or without quotes, brackets and a port. A text with a backslash is not read as an address,
/// because addresses contain only unescaped characters.
fn node(text: &[u8]) -> Node {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text).trim_ascii();
    let host = text.split(|&byte| byte == b':').next().unwrap_or_default();
    let is_nothing = NOTHING.iter().any(|nothing| host.eq_ignore_ascii_case(nothing)) && !text.starts_with(b":");
    if is_nothing || text.starts_with(b"_") {
        return Node::Hidden;
    }
    match std::str::from_utf8(text).ok().and_then(parse_ip) {
        Some(ip) => Node::Ip(ip),
        None => Node::Junk,
    }
}

#[cfg(test)]
mod tests;
