//! Finds out which call a request about shared blobs makes, from its method, path and query.

use std::time::Duration;

use percent_encoding::percent_decode;

use crate::torrents::{BlobKey, MAX_WAIT};
use tracker_protocol::metainfo::MAX_METAINFO;

/// The most bytes of a body in JSON that describes one lease or one port.
const MAX_SMALL_BODY: usize = 4 * 1024;

/// The most bytes of a list of keys in JSON: a thousand of the longest keys fit.
const MAX_LIST_BODY: usize = 300 * 1024;

/// The most bytes of a form that holds a torrent file in base64, with some characters escaped.
const MAX_FORM_BODY: usize = MAX_METAINFO / 2 * 3;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::frontend) enum Call {
    /// `GET /torrents/KEY`
    ReadMetainfo(BlobKey),
    /// `PUT /torrents/KEY`
    WriteMetainfo(BlobKey),
    /// `DELETE /torrents/KEY`
    RemoveMetainfo(BlobKey),
    /// `POST /torrents/KEY/complaint`
    Complain(BlobKey),
    /// `POST /torrents/missing`
    ListMissing,
    /// `POST /torrents/reach`
    Reach,
    /// `POST /leases/KEY`
    Claim(BlobKey),
    /// `GET /leases/KEY?wait=SECONDS`
    Watch {
        key: BlobKey,
        /// How long to wait for a change. 0 for an answer at once.
        wait: Duration,
    },
    /// `PUT /leases/KEY/GENERATION`
    Renew(BlobKey, u64),
    /// `DELETE /leases/KEY/GENERATION`
    Release(BlobKey, u64),
    /// `GET /v2/keys/torrents/KEY`
    ReadNode(BlobKey),
    /// `PUT /v2/keys/torrents/KEY`
    WriteNode(BlobKey),
}

/// Why a request is not a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::frontend) enum NotACall {
    Path,
    /// The path does not allow the method of the request. It allows only these methods.
    Method(&'static str),
    /// The key is empty or too long, or has a character that keys may not have.
    Key,
    Generation,
    Wait,
}

impl Call {
    /// Reads a request. `None` if its path has nothing to do with shared blobs.
    pub(in crate::frontend) fn read(method: &[u8], path: &[u8], query: &[u8]) -> Option<Result<Self, NotACall>> {
        let mut segments = path.strip_prefix(b"/")?.split(|&byte| byte == b'/');
        let first = segments.next()?;
        let rest: Vec<_> = segments.collect();
        let method = if method == b"HEAD" { b"GET" } else { method };
        match (first, &rest[..]) {
            (b"torrents", rest) => Some(Self::read_torrents(method, rest)),
            (b"leases", rest) => Some(Self::read_leases(method, rest, query)),
            (b"v2", [b"keys", b"torrents", rest @ ..]) => Some(Self::read_nodes(method, rest)),
            _ => None,
        }
    }

    fn read_torrents(method: &[u8], path: &[&[u8]]) -> Result<Self, NotACall> {
        match (path, method) {
            ([b"missing"], b"POST") => Ok(Self::ListMissing),
            ([b"reach"], b"POST") => Ok(Self::Reach),
            ([name], b"GET") => key(name).map(Self::ReadMetainfo),
            ([name], b"PUT") => key(name).map(Self::WriteMetainfo),
            ([name], b"DELETE") => key(name).map(Self::RemoveMetainfo),
            ([b"missing" | b"reach"], _) => Err(NotACall::Method("GET, HEAD, PUT, DELETE, POST")),
            ([_], _) => Err(NotACall::Method("GET, HEAD, PUT, DELETE")),
            ([name, b"complaint"], b"POST") => key(name).map(Self::Complain),
            ([_, b"complaint"], _) => Err(NotACall::Method("POST")),
            _ => Err(NotACall::Path),
        }
    }

    fn read_leases(method: &[u8], path: &[&[u8]], query: &[u8]) -> Result<Self, NotACall> {
        match (path, method) {
            ([name], b"POST") => key(name).map(Self::Claim),
            ([name], b"GET") => Ok(Self::Watch { key: key(name)?, wait: wait(query)? }),
            ([_], _) => Err(NotACall::Method("GET, HEAD, POST")),
            ([name, number], b"PUT") => Ok(Self::Renew(key(name)?, generation(number)?)),
            ([name, number], b"DELETE") => Ok(Self::Release(key(name)?, generation(number)?)),
            ([_, _], _) => Err(NotACall::Method("PUT, DELETE")),
            _ => Err(NotACall::Path),
        }
    }

    fn read_nodes(method: &[u8], path: &[&[u8]]) -> Result<Self, NotACall> {
        match (path, method) {
            ([name], b"GET") => key(name).map(Self::ReadNode),
            ([name], b"PUT") => key(name).map(Self::WriteNode),
            ([_], _) => Err(NotACall::Method("GET, HEAD, PUT")),
            _ => Err(NotACall::Path),
        }
    }

    /// Whether the call only reads.
    pub(in crate::frontend) fn is_read(&self) -> bool {
        matches!(self, Self::ReadMetainfo(_) | Self::Watch { .. } | Self::ReadNode(_))
    }

    /// The most bytes of the body that the call may have.
    pub(in crate::frontend) fn max_body(&self) -> usize {
        match self {
            Self::WriteMetainfo(_) => MAX_METAINFO,
            Self::WriteNode(_) => MAX_FORM_BODY,
            Self::ListMissing => MAX_LIST_BODY,
            _ => MAX_SMALL_BODY,
        }
    }
}

fn key(segment: &[u8]) -> Result<BlobKey, NotACall> {
    let decoded: Vec<u8> = percent_decode(segment).collect();
    BlobKey::parse(&decoded).map_err(|_| NotACall::Key)
}

fn generation(segment: &[u8]) -> Result<u64, NotACall> {
    digits(segment).ok_or(NotACall::Generation)
}

/// Reads `wait=SECONDS`. Other parameters are ignored.
fn wait(query: &[u8]) -> Result<Duration, NotACall> {
    let mut values = query.split(|&byte| byte == b'&').filter_map(|pair| pair.strip_prefix(b"wait="));
    let Some(value) = values.next() else { return Ok(Duration::ZERO) };
    digits(value).map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT)).ok_or(NotACall::Wait)
}

fn digits(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_number)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: &str) -> Option<Result<Call, NotACall>> {
        let (method, target) = request.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Call::read(method.as_bytes(), path.as_bytes(), query.as_bytes())
    }

    fn blob(text: &str) -> BlobKey {
        BlobKey::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_row_of_the_table_is_a_call() {
        let a = || blob("sha256:a");
        for (request, call) in [
            ("GET /torrents/sha256:a", Call::ReadMetainfo(a())),
            ("HEAD /torrents/sha256%3Aa", Call::ReadMetainfo(a())),
            ("GET /torrents/missing", Call::ReadMetainfo(blob("missing"))),
            ("PUT /torrents/sha256:a", Call::WriteMetainfo(a())),
            ("DELETE /torrents/sha256:a", Call::RemoveMetainfo(a())),
            ("POST /torrents/sha256:a/complaint", Call::Complain(a())),
            ("POST /torrents/missing", Call::ListMissing),
            ("POST /torrents/reach", Call::Reach),
            ("GET /torrents/reach", Call::ReadMetainfo(blob("reach"))),
            ("POST /leases/sha256:a", Call::Claim(a())),
            ("GET /leases/sha256:a", Call::Watch { key: a(), wait: Duration::ZERO }),
            ("GET /leases/sha256:a?x=1&wait=10", Call::Watch { key: a(), wait: Duration::from_secs(10) }),
            ("GET /leases/sha256:a?wait=31", Call::Watch { key: a(), wait: MAX_WAIT }),
            ("PUT /leases/sha256:a/7", Call::Renew(a(), 7)),
            ("DELETE /leases/sha256:a/7", Call::Release(a(), 7)),
            ("GET /v2/keys/torrents/sha256:a?quorum=true", Call::ReadNode(a())),
            ("PUT /v2/keys/torrents/sha256:a", Call::WriteNode(a())),
        ] {
            assert_eq!(read(request), Some(Ok(call)), "{request}");
        }
    }

    #[test]
    fn other_requests_say_what_is_wrong() {
        for (request, problem) in [
            ("GET /torrents", NotACall::Path),
            ("GET /torrents/a/b/c", NotACall::Path),
            ("GET /leases/a/1/2", NotACall::Path),
            ("GET /v2/keys/torrents/a/b", NotACall::Path),
            ("GET /torrents/", NotACall::Key),
            ("GET /torrents/a%2Fb", NotACall::Key),
            ("GET /torrents/a%00", NotACall::Key),
            ("PUT /torrents/a b", NotACall::Key),
            ("POST /leases/%", NotACall::Key),
            ("PUT /v2/keys/torrents/%ff", NotACall::Key),
            ("POST /torrents/a", NotACall::Method("GET, HEAD, PUT, DELETE")),
            ("get /torrents/a", NotACall::Method("GET, HEAD, PUT, DELETE")),
            ("GET /torrents/a/complaint", NotACall::Method("POST")),
            ("DELETE /leases/a", NotACall::Method("GET, HEAD, POST")),
            ("GET /leases/a/1", NotACall::Method("PUT, DELETE")),
            ("DELETE /v2/keys/torrents/a", NotACall::Method("GET, HEAD, PUT")),
            ("PUT /leases/a/x", NotACall::Generation),
            ("PUT /leases/a/-1", NotACall::Generation),
            ("PUT /leases/a/", NotACall::Generation),
            ("PUT /leases/a/99999999999999999999999", NotACall::Generation),
            ("GET /leases/a?wait=", NotACall::Wait),
            ("GET /leases/a?wait=1.5", NotACall::Wait),
            ("GET /leases/a?wait=99999999999999999999999", NotACall::Wait),
        ] {
            assert_eq!(read(request), Some(Err(problem)), "{request}");
        }
        for request in
            ["GET /", "GET /torrent/a", "GET /v2/keys/other/a", "GET /v2/", "GET torrents/a", "GET /Torrents/a"]
        {
            assert_eq!(read(request), None, "{request}");
        }
    }
}
