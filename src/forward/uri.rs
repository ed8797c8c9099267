//! The uri of a forwarder, and those of redirects: what is requested of whom, and what of it must stay secret.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use url::Url;

/// What is kept of a `failure reason`: it goes into logs and to clients.
const MAX_REASON: usize = 512;

/// Shorter parts of a uri are no passkeys.
const MIN_SECRET: usize = 6;

/// Stands in a `failure reason` where a passkey stood.
const REDACTED: &[u8] = b"***";

/// What awc refuses in a path or a query. [`Url`] has most of it encoded already.
const REFUSED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'`');

/// The path and the query, with ours appended unless the query, which a redirect can bring, has it already.
pub(super) fn target(url: &Url, query: &str) -> String {
    let mut target = utf8_percent_encode(url.path(), REFUSED).to_string();
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

/// As in `Host`: without the port that the scheme implies. It holds no secret.
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

/// The URL under another host, which may come with a port.
pub(super) fn with_host(url: &Url, host: &str) -> Option<Url> {
    if host.contains(['/', '\\', '?', '#', '@']) || host.trim() != host {
        return None;
    }
    let mut other = Url::parse(&format!("{}://{host}/", url.scheme())).ok()?;
    other.set_path(url.path());
    other.set_query(url.query());
    Some(other)
}

/// The user and the password in a URL, which go out as Basic authentication.
pub(super) fn login(url: &Url) -> Option<(String, String)> {
    let decoded = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let password = url.password().unwrap_or_default();
    (!url.username().is_empty()).then(|| (decoded(url.username()), decoded(password)))
}

/// The parts of a uri that may be a passkey: upstream trackers repeat them in their refusals. The longest first, as one
/// may begin with another.
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

    /// A `failure reason` without our passkey, and not too long.
    pub(super) fn redact(&self, reason: &[u8]) -> Vec<u8> {
        let mut rest = reason;
        let mut kept = Vec::new();
        while let [first, behind @ ..] = rest
            && kept.len() < MAX_REASON
        {
            if let Some(behind) = self.0.iter().find_map(|secret| rest.strip_prefix(secret.as_slice())) {
                kept.extend_from_slice(REDACTED);
                rest = behind;
            } else {
                kept.push(*first);
                rest = behind;
            }
        }
        kept
    }
}
