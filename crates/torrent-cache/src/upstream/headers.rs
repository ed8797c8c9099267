//! Lists the headers that pass between clients and upstreams. All other headers concern one connection, or tell the
//! client or the upstream what it need not know.

use std::fmt;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_RANGES, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, LINK, RANGE, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE,
};

/// The `User-Agent` of this program. The tracker gets it, and an upstream gets it if the client sent none.
pub(crate) const OUR_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("torrent-cache/", env!("CARGO_PKG_VERSION")));

/// The most bytes of a client's headers that pass.
const MAX_ASK: usize = 32 << 10;

const ASKED: [HeaderName; 9] = [
    AUTHORIZATION,
    ACCEPT,
    RANGE,
    IF_RANGE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    USER_AGENT,
];

const ANSWERED: [HeaderName; 17] = [
    ACCEPT_RANGES,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HeaderName::from_static("docker-content-digest"),
    HeaderName::from_static("docker-distribution-api-version"),
    ETAG,
    LAST_MODIFIED,
    LINK,
    HeaderName::from_static("oci-filters-applied"),
    HeaderName::from_static("oci-subject"),
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    RETRY_AFTER,
    WWW_AUTHENTICATE,
];

/// The headers of a client's request that an upstream gets: `Authorization`, the lines of `Accept` in their order,
/// `Range`, the conditions, `User-Agent`. `Debug` does not show credentials.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AskHeaders(HeaderMap);

impl AskHeaders {
    /// Takes the headers that pass. Invalid lines, and lines beyond 32 KiB, are left out. `Authorization` passes only
    /// if there is exactly one. A Basic login without name and password does not pass, because skopeo and podman send
    /// one when they have no login.
    pub fn from_client<'a>(lines: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut passed = Self::default();
        let mut room = MAX_ASK;
        for (name, value) in lines {
            let Some(name) = ASKED.iter().find(|asked| name.eq_ignore_ascii_case(asked.as_str())) else { continue };
            let Ok(value) = HeaderValue::from_bytes(value) else { continue };
            if let Some(left) = room.checked_sub(value.len()) {
                room = left;
                passed.0.append(name, value);
            }
        }
        let mut logins = passed.0.get_all(AUTHORIZATION).iter();
        let login = logins.next().filter(|login| !is_empty_basic(login)).cloned();
        let login = if logins.next().is_some() { None } else { login };
        passed.with_authorization(login)
    }

    /// Replaces the credentials, or removes them.
    #[must_use]
    pub fn with_authorization(mut self, value: Option<HeaderValue>) -> Self {
        self.0.remove(AUTHORIZATION);
        if let Some(mut value) = value {
            value.set_sensitive(true);
            self.0.insert(AUTHORIZATION, value);
        }
        self
    }

    /// Replaces `Accept`.
    #[must_use]
    pub fn with_accept(mut self, value: HeaderValue) -> Self {
        self.0.insert(ACCEPT, value);
        self
    }

    /// Replaces `Range`, or removes it.
    #[must_use]
    pub fn with_range(mut self, value: Option<HeaderValue>) -> Self {
        self.0.remove(RANGE);
        if let Some(value) = value {
            self.0.insert(RANGE, value);
        }
        self
    }

    /// Removes the conditions and the range, so that the reply is the whole resource.
    #[must_use]
    pub fn unconditional(mut self) -> Self {
        for name in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
            self.0.remove(name);
        }
        self
    }

    /// Returns the credentials.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.0.get(AUTHORIZATION)
    }

    /// Returns the lines of `Accept`, in their order.
    pub fn accept(&self) -> impl Iterator<Item = &HeaderValue> {
        self.0.get_all(ACCEPT).iter()
    }

    /// Returns the headers as they go upstream.
    pub(super) fn to_upstream(&self, with_credentials: bool) -> HeaderMap {
        let mut headers = self.0.clone();
        if !with_credentials {
            headers.remove(AUTHORIZATION);
        }
        // A compressed body would have other bytes than the blob, so only `identity` is accepted.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.entry(USER_AGENT).or_insert(OUR_AGENT);
        headers
    }
}

impl fmt::Debug for AskHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The value of `Authorization` is marked as sensitive.
        self.0.fmt(f)
    }
}

/// Whether the login is `Basic` with the base64 of `:`, or of nothing.
fn is_empty_basic(value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let (scheme, login) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    scheme.eq_ignore_ascii_case("basic") && matches!(login.trim(), "" | "Og==" | "Og")
}

/// Returns those headers of an upstream's reply that are passed to the client: the ones in [`ANSWERED`]. They are passed
/// even if `Connection` names them.
pub(super) fn answered(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for name in &ANSWERED {
        for value in headers.get_all(name) {
            passed.append(name, value.clone());
        }
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(lines: &[(&str, &str)]) -> AskHeaders {
        AskHeaders::from_client(lines.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn needed_headers_pass_and_others_do_not() {
        let headers = taken(&[
            ("accept", "b/2"),
            ("Host", "cache"),
            ("Cookie", "secret"),
            ("Accept", "a/1, c/3"),
            ("Connection", "range, keep-alive"),
            ("Range", "bytes=0-"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("Proxy-Authorization", "Basic eDp5"),
            ("Accept-Encoding", "gzip"),
        ]);
        let accepted: Vec<_> = headers.accept().collect();
        assert_eq!(accepted, ["b/2", "a/1, c/3"]);
        let sent = headers.to_upstream(true);
        let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "accept-encoding", "range", "user-agent"]);
        assert_eq!(sent[ACCEPT_ENCODING], "identity");
        assert!(sent[USER_AGENT].to_str().unwrap().starts_with("torrent-cache/"));
        assert_eq!(taken(&[("user-agent", "skopeo/1")]).to_upstream(true)[USER_AGENT], "skopeo/1");
    }

    #[test]
    fn a_range_passes_with_its_conditions() {
        let conditions = ["if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"];
        let headers = taken(&conditions.map(|name| (name, "x")));
        let sent = headers.to_upstream(true);
        assert!(conditions.iter().all(|name| sent.get(*name).is_some_and(|value| value == "x")), "{sent:?}");
        let whole = headers.unconditional().to_upstream(true);
        assert!(conditions.iter().all(|name| !whole.contains_key(*name)), "{whole:?}");
    }

    #[test]
    fn an_empty_login_is_nobody() {
        for empty in ["Basic Og==", "basic Og", "Basic ", "Basic", "BASIC  Og=="] {
            assert_eq!(taken(&[("authorization", empty)]).authorization(), None, "{empty}");
        }
        for login in ["Basic dTpw", "Bearer Og==", "Bearer x", "Basic OnA="] {
            assert_eq!(taken(&[("authorization", login)]).authorization().unwrap(), login);
        }
        assert_eq!(taken(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]).authorization(), None);
    }

    #[test]
    fn credentials_are_not_shown() {
        let headers = taken(&[("authorization", "Bearer s3cret")]);
        assert!(!format!("{headers:?}").contains("s3cret"));
        assert!(!format!("{:?}", headers.to_upstream(true)).contains("s3cret"));
        assert!(headers.to_upstream(false).get(AUTHORIZATION).is_none());
    }

    #[test]
    fn too_many_headers_are_left_out() {
        let long = "a".repeat(20 << 10);
        assert_eq!(taken(&[("accept", &long), ("accept", &long), ("accept", "b")]).accept().count(), 2);
    }

    #[test]
    fn of_a_reply_only_what_a_client_needs_passes() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "a/b"),
            ("link", "<a>; rel=next"),
            ("link", "<b>; rel=next"),
            ("set-cookie", "x=y"),
            ("location", "https://x/?secret"),
            ("transfer-encoding", "chunked"),
            ("connection", "content-type"),
            ("server", "x"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let passed = answered(&headers);
        assert_eq!(passed.len(), 3);
        assert_eq!(passed.get_all(LINK).iter().count(), 2);
    }
}
