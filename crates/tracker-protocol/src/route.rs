//! Which resource a path names, for HTTP targets and for the URL data of BEP 41 alike.
//!
//! Users type announce URLs by hand, and clients append queries in their own ways. So repeated slashes, a trailing
//! slash, the case of letters and percent escapes make no difference.

use smallvec::SmallVec;

use super::query;
use crate::Parameter;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/announce` and `/announce.php`.
    Announce,
    /// `/scrape` and `/scrape.php`.
    Scrape,
    /// `/`. With an `info_hash` in the query, this is an announce. Without, it is the front page.
    Root,
    /// Anything else.
    Other,
}

/// The length of the longest path that names a resource, after the path is decoded and cleaned.
const LONGEST: usize = "announce.php".len();

/// Splits a target or URL data into path and query, at the first `?`. Clients send a whole URL to proxies (RFC 9112,
/// section 3.2.2); its scheme and host are skipped.
///
/// A client should not send a fragment of the announce URL (RFC 3986, section 3.5). If it does, neither part has the
/// fragment. The fragment may stand before the query, because some clients append the query to the whole URL, or after
/// it.
pub fn split(target: &[u8]) -> (&[u8], &[u8]) {
    let target = if target.first() == Some(&b'/') { target } else { behind_host(target) };
    let (path, query) = target.split_at(memchr::memchr(b'?', target).unwrap_or(target.len()));
    let path = path.split(|&byte| byte == b'#').next().unwrap_or_default();
    (path, without_fragment(query.get(1..).unwrap_or_default()))
}

/// Removes a fragment: a `#` and what follows it, if no `&` or `=` follows. A `#` with parameters after it is kept: it
/// is a byte of an info-hash or a peer id that the client did not escape.
fn without_fragment(query: &[u8]) -> &[u8] {
    match memchr::memrchr3(b'#', b'&', b'=', query).map(|at| (at, query.get(at))) {
        Some((at, Some(b'#'))) => query.get(..at).unwrap_or_default(),
        _ => query,
    }
}

/// Returns the part of a URL after its host. A text that is not a URL is returned whole.
fn behind_host(target: &[u8]) -> &[u8] {
    let is_scheme = |scheme: &[u8]| !scheme.is_empty() && scheme.iter().all(u8::is_ascii_alphanumeric);
    let url =
        memchr::memmem::find(target, b"://").map(|end| target.split_at(end)).filter(|(scheme, _)| is_scheme(scheme));
    let Some(behind_scheme) = url.and_then(|(_, rest)| rest.get(3..)) else { return target };
    behind_scheme.get(memchr::memchr2(b'/', b'?', behind_scheme).unwrap_or(behind_scheme.len())..).unwrap_or_default()
}

/// Returns whether a query has an `info_hash`.
pub fn names_torrent(query: &[u8]) -> bool {
    query::pairs(query).any(|(parameter, _)| parameter == Parameter::InfoHash)
}

/// Returns the resource that a path names.
pub fn route(path: &[u8]) -> Route {
    match path {
        b"/announce" | b"/announce.php" => Route::Announce,
        b"/scrape" | b"/scrape.php" => Route::Scrape,
        b"/" | b"" => Route::Root,
        _ => unusual(path),
    }
}

/// Returns the resource that an unusual path names. No current client sends such a path, but a user may have typed it.
fn unusual(path: &[u8]) -> Route {
    let mut found: Option<SmallVec<[u8; LONGEST]>> = None;
    for segment in path.split(|&byte| byte == b'/') {
        let decoded: SmallVec<[u8; LONGEST]> =
            query::unescape_leniently(segment, query::Plus::Itself).take(LONGEST + 16).collect();
        match decoded.trim_ascii() {
            b"" | b"." => {}
            _ if found.is_some() => return Route::Other,
            name => found = Some(name.to_ascii_lowercase().into()),
        }
    }
    match found.as_deref() {
        None => Route::Root,
        Some(b"announce" | b"announce.php") => Route::Announce,
        Some(b"scrape" | b"scrape.php") => Route::Scrape,
        Some(_) => Route::Other,
    }
}

#[cfg(test)]
mod tests;
