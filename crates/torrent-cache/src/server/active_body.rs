//! The body of a reply that is under way.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;

use super::stream::ReplyUnderWay;

/// The body of a reply. While this value exists, the read timeout of its connection does not run, because the client
/// has no reason to send anything.
pub(super) struct ActiveBody {
    pub(super) body: BoxBody,
    pub(super) _under_way: Option<ReplyUnderWay>,
}

impl MessageBody for ActiveBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
