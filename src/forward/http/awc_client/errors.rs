//! Converts awc's errors to ours.

use std::fmt;

use actix_http::error::ParseError;
use awc::error::{ConnectError, PayloadError, SendRequestError};

use super::stream_error::StreamError;
use crate::forward::error::{ForwardError, is_shortage};

/// Returns why the head of a response was not received.
pub(in super::super) fn send_error(error: SendRequestError) -> ForwardError {
    match error {
        SendRequestError::Connect(ConnectError::Io(error)) => {
            from_stream(&error, None).unwrap_or_else(|| ForwardError::Connect(error.to_string()))
        }
        SendRequestError::Connect(ConnectError::Disconnected) => ForwardError::Truncated { status: None },
        SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => ForwardError::Timeout,
        SendRequestError::Connect(error) => ForwardError::Connect(error.to_string()),
        SendRequestError::Send(error) | SendRequestError::Response(ParseError::Io(error)) => io_error(&error, None),
        SendRequestError::Response(ParseError::TooLarge) => ForwardError::TooLarge { status: None },
        SendRequestError::Response(error) => junk(format_args!("it is not HTTP: {error}"), None),
        // The other errors concern features that we do not use.
        _ => junk("it is not HTTP", None),
    }
}

/// Returns why the body of a response was not received.
pub(in super::super) fn body_error(error: PayloadError, code: u16) -> ForwardError {
    match error {
        PayloadError::Overflow => ForwardError::TooLarge { status: Some(code) },
        // Despite the name, awc wraps all errors of the stream in `Incomplete`.
        PayloadError::Incomplete(Some(error)) | PayloadError::Io(error) => io_error(&error, Some(code)),
        PayloadError::Incomplete(None) => ForwardError::Truncated { status: Some(code) },
        error => junk(error, Some(code)),
    }
}

fn io_error(error: &std::io::Error, status: Option<u16>) -> ForwardError {
    use std::io::ErrorKind::{InvalidData, InvalidInput, WriteZero};
    match (from_stream(error, status), error.kind()) {
        (Some(error), _) => error,
        (None, _) if is_shortage(error) => ForwardError::Local(error.to_string()),
        // These errors come from awc's reader of chunks.
        (None, InvalidData | InvalidInput | WriteZero) => junk(error, status),
        (None, _) => ForwardError::Truncated { status },
    }
}

/// Returns the error of our stream under awc; `None` if the error comes from elsewhere.
fn from_stream(error: &std::io::Error, status: Option<u16>) -> Option<ForwardError> {
    Some(match StreamError::find(error)? {
        StreamError::Tls(what) => ForwardError::Tls(what),
        StreamError::Proxy(what) => ForwardError::Proxy(what),
        StreamError::Local(what) => ForwardError::Local(what),
        StreamError::HeadTooLarge | StreamError::TooMuch => ForwardError::TooLarge { status },
        StreamError::Truncated => ForwardError::Truncated { status },
    })
}

pub(in super::super) fn junk(what: impl fmt::Display, status: Option<u16>) -> ForwardError {
    ForwardError::Junk { what: what.to_string(), status }
}
