//! Reads the head of a request about shared blobs, before its body: which call it makes, whether the sender may use the
//! call, and how long the body is.

use std::net::IpAddr;

use super::call::{Call, NotACall};
use super::gate::Denial;
use crate::frontend::client_address::Remote;
use crate::frontend::context::Context;
use crate::frontend::headers::Headers;
use crate::frontend::listen::Audience;

/// A request about shared blobs, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::frontend) struct TorrentsRequest {
    pub(in crate::frontend) call: Result<Call, RefusedCall>,
    /// The sender's address.
    pub(in crate::frontend) ip: IpAddr,
}

/// Why a request is refused before its body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::frontend) enum RefusedCall {
    NotACall(NotACall),
    Denied(Denial),
    /// The length is not known: the body comes in chunks.
    NoLength,
    /// The header lines about the length are wrong.
    BadLength,
    /// The body is longer than the call allows: this number of bytes.
    TooLong(usize),
}

/// A body that is still to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::frontend) struct Upload {
    /// The length in bytes.
    pub(in crate::frontend) length: usize,
    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110, section 10.1.1).
    pub(in crate::frontend) expects_continue: bool,
}

/// The body of a request.
#[derive(Debug, Default)]
pub(in crate::frontend) struct UploadedBody(pub(in crate::frontend) Vec<u8>);

#[derive(Clone, Copy, Debug)]
pub(in crate::frontend) struct RequestLine<'a> {
    pub(in crate::frontend) method: &'a [u8],
    pub(in crate::frontend) path: &'a [u8],
    pub(in crate::frontend) query: &'a [u8],
}

/// Reads a head. `None` if the request is not about shared blobs, or if they are switched off. A listener for shared
/// blobs serves nothing else: every request there is about them.
pub(in crate::frontend) fn read(
    context: &Context,
    audience: Audience,
    source: Remote,
    line: RequestLine<'_>,
    headers: &impl Headers,
) -> Option<(TorrentsRequest, Upload)> {
    let part = context.torrents.as_ref().filter(|_| audience != Audience::Operators)?;
    let call = Call::read(line.method, line.path, line.query);
    let call = call.or_else(|| (audience == Audience::Torrents).then_some(Err(NotACall::Path)))?;
    let identity = context.client_address.of(source, headers, &context.metrics);
    let is_read = call.as_ref().map_or(true, Call::is_read);
    let admitted = part.gate.admit(identity, headers, is_read).map_err(RefusedCall::Denied);
    let call = admitted.and_then(|()| call.map_err(RefusedCall::NotACall));
    let sized = call.and_then(|call| body_length(headers, call.max_body()).map(|length| (call, length)));
    let length = sized.as_ref().map_or(0, |(_, length)| *length);
    let expects_continue = headers.first("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"));
    let request = TorrentsRequest { call: sized.map(|(call, _)| call), ip: identity.ip };
    Some((request, Upload { length, expects_continue }))
}

/// The length of the body. A request with doubtful lines about the length is refused: a proxy could read them
/// differently.
fn body_length(headers: &impl Headers, most: usize) -> Result<usize, RefusedCall> {
    if headers.first("transfer-encoding").is_some() {
        return Err(RefusedCall::NoLength);
    }
    let mut lengths = headers.all("content-length");
    let (Some(length), rest) = (lengths.next(), lengths.next()) else { return Ok(0) };
    if rest.is_some() || length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
        return Err(RefusedCall::BadLength);
    }
    let length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
    length.filter(|length| *length <= most).ok_or(RefusedCall::TooLong(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lines(Vec<(&'static str, &'static str)>);

    impl Headers for Lines {
        fn lines(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
            self.0.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        }
    }

    #[test]
    fn a_length_is_one_number() {
        for (lines, expected) in [
            (vec![], Ok(0)),
            (vec![("Content-Length", "0")], Ok(0)),
            (vec![("content-length", "100")], Ok(100)),
            (vec![("content-length", "101")], Err(RefusedCall::TooLong(100))),
            (vec![("content-length", "99999999999999999999999999")], Err(RefusedCall::TooLong(100))),
            (vec![("content-length", "")], Err(RefusedCall::BadLength)),
            (vec![("content-length", "+1")], Err(RefusedCall::BadLength)),
            (vec![("content-length", "-1")], Err(RefusedCall::BadLength)),
            (vec![("content-length", "0x1")], Err(RefusedCall::BadLength)),
            (vec![("content-length", "1,1")], Err(RefusedCall::BadLength)),
            (vec![("content-length", "1"), ("content-length", "1")], Err(RefusedCall::BadLength)),
            (vec![("content-length", "1"), ("transfer-encoding", "chunked")], Err(RefusedCall::NoLength)),
            (vec![("transfer-encoding", "identity")], Err(RefusedCall::NoLength)),
        ] {
            assert_eq!(body_length(&Lines(lines.clone()), 100), expected, "{lines:?}");
        }
    }
}
