//! Which resource a path names: one decision for HTTP targets and for the URL data that BEP 41 carries over UDP.
//!
//! Users type announce URLs by hand and clients join them to queries in their own ways. Runs of slashes, a last slash, the
//! case of letters and percent escapes therefore make no difference.

use smallvec::SmallVec;

use super::query;
use crate::bittorrent::Parameter;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `/announce` and `/announce.php`.
    Announce,
    /// `/scrape` and `/scrape.php`.
    Scrape,
    /// `/`, which is an announce if it has an `info_hash` and the front page otherwise.
    Root,
    /// Anything else.
    Other,
}

/// The longest path, once decoded and cleaned, that names one of ours.
const LONGEST: usize = "announce.php".len();

/// Path and query of a target or of URL data: what stands before the first `?` and behind it. Of a whole URL, as proxies are
/// asked for (RFC 9112, section 3.2.2), scheme and host are passed over.
///
/// A fragment of the announce URL, which a client should have kept to itself (RFC 3986, section 3.5), belongs to neither: a
/// client appends its query to the URL or puts it before the fragment.
pub fn split(target: &[u8]) -> (&[u8], &[u8]) {
    let target = if target.first() == Some(&b'/') { target } else { behind_host(target) };
    let (path, query) = target.split_at(memchr::memchr(b'?', target).unwrap_or(target.len()));
    let path = path.split(|&byte| byte == b'#').next().unwrap_or_default();
    (path, without_fragment(query.get(1..).unwrap_or_default()))
}

/// A `#` that further parameters follow is a byte of an identifier that the client did not escape.
fn without_fragment(query: &[u8]) -> &[u8] {
    match memchr::memrchr3(b'#', b'&', b'=', query).map(|at| (at, query.get(at))) {
        Some((at, Some(b'#'))) => query.get(..at).unwrap_or_default(),
        _ => query,
    }
}

/// What follows the host of a URL; all of what is none.
fn behind_host(target: &[u8]) -> &[u8] {
    let is_scheme = |scheme: &[u8]| !scheme.is_empty() && scheme.iter().all(u8::is_ascii_alphanumeric);
    let url =
        memchr::memmem::find(target, b"://").map(|end| target.split_at(end)).filter(|(scheme, _)| is_scheme(scheme));
    let Some(behind_scheme) = url.and_then(|(_, rest)| rest.get(3..)) else { return target };
    behind_scheme.get(memchr::memchr2(b'/', b'?', behind_scheme).unwrap_or(behind_scheme.len())..).unwrap_or_default()
}

/// Whether a query asks for a torrent.
pub fn names_torrent(query: &[u8]) -> bool {
    query::pairs(query).any(|(parameter, _)| parameter == Parameter::InfoHash)
}

/// What this path names: what stands before the first `?` of a target.
pub fn route(path: &[u8]) -> Route {
    match path {
        b"/announce" | b"/announce.php" => Route::Announce,
        b"/scrape" | b"/scrape.php" => Route::Scrape,
        b"/" | b"" => Route::Root,
        _ => unusual(path),
    }
}

/// A path that no client of today sends but some user has typed.
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write;

    #[test]
    fn paths_that_users_type_and_clients_build() {
        for (path, expected) in [
            ("/announce", Route::Announce),
            ("/announce.php", Route::Announce),
            ("//announce", Route::Announce),
            ("/announce/", Route::Announce),
            ("///announce///", Route::Announce),
            ("/announce.php/", Route::Announce),
            ("/./announce", Route::Announce),
            ("announce", Route::Announce),
            ("/Announce", Route::Announce),
            ("/ANNOUNCE.PHP", Route::Announce),
            ("/%61nnounce", Route::Announce),
            ("/announc%65/", Route::Announce),
            ("/announce%20", Route::Announce),
            ("/scrape", Route::Scrape),
            ("//scrape/", Route::Scrape),
            ("/scrape.php//", Route::Scrape),
            ("/", Route::Root),
            ("", Route::Root),
            ("//", Route::Root),
            ("/announcement", Route::Other),
            ("/announce.php5", Route::Other),
            ("/announce/scrape", Route::Other),
            ("/x/announce", Route::Other),
            ("/announce/x", Route::Other),
            ("/%zzannounce", Route::Other),
            ("/%2fannounce", Route::Other),
            ("/+announce", Route::Other),
            ("/health", Route::Other),
        ] {
            assert_eq!(route(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn targets_of_every_form() {
        for (target, path, query) in [
            ("/announce?a=1?b", "/announce", "a=1?b"),
            ("/announce", "/announce", ""),
            ("http://tracker.lan/announce?a", "/announce", "a"),
            ("HTTP://tracker.lan:8080/announce?a", "/announce", "a"),
            ("http://tracker.lan?a", "", "a"),
            ("/announce#a", "/announce", ""),
            ("/announce#a?b=c", "/announce", "b=c"),
            ("/announce?b=c#", "/announce", "b=c"),
            ("/announce?b=c#d", "/announce", "b=c"),
            ("/announce?b=#c&d=e", "/announce", "b=#c&d=e"),
            ("/announce?b=#c&d=e#f", "/announce", "b=#c&d=e"),
            ("/announce#a?b=c#d", "/announce", "b=c"),
            ("http://tracker.lan", "", ""),
            ("udp://tracker.lan:6969/announce", "/announce", ""),
            ("announce?a", "announce", "a"),
            ("announce?x=http://y/z", "announce", "x=http://y/z"),
            ("/x?u=http://y/z", "/x", "u=http://y/z"),
            ("", "", ""),
            ("*", "*", ""),
        ] {
            assert_eq!(split(target.as_bytes()), (path.as_bytes(), query.as_bytes()), "{target}");
        }
        assert!(names_torrent(b"a&info%5Fhash=x") && !names_torrent(b"hash=info_hash"));
    }

    proptest! {
        #[test]
        fn slashes_case_and_escapes_make_no_difference(
            (name, expected) in prop_oneof![
                Just(("announce", Route::Announce)), Just(("announce.php", Route::Announce)),
                Just(("scrape", Route::Scrape)), Just(("scrape.php", Route::Scrape)),
            ],
            before in 1..4_usize,
            behind in 0..4_usize,
            how in any::<[u8; 12]>(),
        ) {
            let mut path = "/".repeat(before);
            for (letter, how) in name.chars().zip(how) {
                match how % 3 {
                    0 => path.push(letter),
                    1 => path.push(letter.to_ascii_uppercase()),
                    _ => write!(path, "%{:02x}", u32::from(letter)).unwrap(),
                }
            }
            path.push_str(&"/".repeat(behind));
            prop_assert_eq!(route(path.as_bytes()), expected, "{}", path);
        }

        #[test]
        fn any_path_names_something(path in any::<Vec<u8>>()) {
            let _ = (route(&path), split(&path));
        }
    }
}
