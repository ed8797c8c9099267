//! The uris of forwarders and redirects: the request target, the host, and the secret parts.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

/// The most bytes of a `failure reason` that are kept. The reason goes into logs and to clients.
const MAX_REASON: usize = 512;

/// The fewest bytes that a part of a uri must have to count as a passkey.
const MIN_SECRET: usize = 6;

/// Replaces a passkey in a `failure reason`.
const REDACTED: &[u8] = b"***";

/// Bytes that awc refuses in a path or a query. [`Url`] has encoded most of them.
const REFUSED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'`');

/// Returns a URL's path and query, with our query appended. If the URL already has an info-hash, nothing is appended: a
/// redirect has copied our query.
pub(super) fn target(url: &Url, query: &str) -> String {
    let mut target = utf8_percent_encode(url.path(), REFUSED).to_string();
    if url.query().is_none() && query.is_empty() {
        return target;
    }
    let own = url.query().unwrap_or_default();
    target.push('?');
    target.extend(utf8_percent_encode(own, REFUSED));
    if !own.split('&').any(|pair| pair.starts_with("info_hash=")) {
        if !own.is_empty() && !own.ends_with('&') {
            target.push('&');
        }
        target.push_str(query);
    }
    target
}

/// Returns the host as in `Host`: with its port, unless that is the scheme's default. Contains no secret.
pub fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

pub(super) fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    (a.scheme(), a.host(), a.port()) == (b.scheme(), b.host(), b.port())
}

/// Returns the URL with another host, which may have a port.
pub(super) fn with_host(url: &Url, host: &str) -> Option<Url> {
    if host.contains(['/', '\\', '?', '#', '@']) || host.trim() != host {
        return None;
    }
    let mut other = Url::parse(&format!("{}://{host}/", url.scheme())).ok()?;
    other.set_path(url.path());
    other.set_query(url.query());
    Some(other)
}

/// Returns the user and the password in a URL, which are sent as Basic authentication.
pub(super) fn login(url: &Url) -> Option<(String, String)> {
    let decoded = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let password = url.password().unwrap_or_default();
    (!url.username().is_empty()).then(|| (decoded(url.username()), decoded(password)))
}

/// The parts of a uri that may be a passkey and that upstream trackers repeat in refusals. Longest first: a longer part
/// may begin with a shorter one.
pub(super) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    pub(super) fn of(url: &Url) -> Self {
        let path = url.path().split('/').filter(|part| !part.starts_with("announce"));
        let query = url
            .query()
            .unwrap_or_default()
            .split('&')
            .map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        let password = url.password();
        let mut secrets: Vec<_> = path
            .chain(query)
            .chain(password)
            .flat_map(|part| [part.as_bytes().to_vec(), percent_decode_str(part).collect()])
            .filter(|secret| secret.len() >= MIN_SECRET)
            .collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self(secrets)
    }

    /// Returns a `failure reason` without our passkey, cut to [`MAX_REASON`].
    pub(super) fn redact(&self, reason: &[u8]) -> Vec<u8> {
        let mut rest = reason;
        let mut kept = Vec::new();
        while let [first, remaining @ ..] = rest
            && kept.len() < MAX_REASON
        {
            if let Some(remaining) = self.0.iter().find_map(|secret| rest.strip_prefix(secret.as_slice())) {
                kept.extend_from_slice(REDACTED);
                rest = remaining;
            } else {
                kept.push(*first);
                rest = remaining;
            }
        }
        kept
    }
}
