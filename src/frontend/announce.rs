//! Handles an announce over HTTP or UDP: times and counts it, parses it, carries it out, and encodes the reply. An
//! announce with the method HEAD comes here too, but changes no state.

use std::borrow::Borrow;
use std::sync::Arc;

use futures::future::BoxFuture;
use tracker_protocol::{AnnounceReply, AnnounceRequest, Refusal};

use super::context::Context;
use crate::access::Clearance;
use crate::answer::Answer;
use crate::tracker::Requester;

/// The encoded reply, once upstream trackers have answered.
pub(super) type PendingBody = BoxFuture<'static, Vec<u8>>;

/// Carries out an announce. If the reply is ready at once, appends its encoded form to `body`.
///
/// `parse` returns the announce, and a function that encodes its reply. `query` is the query of the announce URL, which
/// may hold a token for the access rules. A refusal is counted and logged here, but the frontend encodes it.
pub(super) fn announce<R, E>(
    context: &Arc<Context>,
    requester: Requester<'_>,
    query: &[u8],
    parse: impl FnOnce() -> Result<(R, E), Refusal>,
    body: &mut Vec<u8>,
) -> Result<Answer<(), PendingBody>, Refusal>
where
    R: Borrow<AnnounceRequest>,
    E: FnOnce(&AnnounceReply, &mut Vec<u8>) + Send + 'static,
{
    let metrics = &context.metrics;
    let counters = metrics.announces.over(requester.protocol);
    let timer = metrics.time_announce();
    let mut chihaya_timer = metrics.time_for_chihaya(requester.protocol, "announce", requester.ip);
    metrics.announce_arrived();
    let admitted = parse().and_then(|(request, encode)| {
        let requester = admit(context, requester, request.borrow(), query)?;
        Ok((requester, request, encode))
    });
    let (requester, request, encode) = admitted.inspect_err(|refusal| {
        chihaya_timer.iter_mut().for_each(|timer| timer.refused(refusal));
        counters.refused.inc();
        log::debug!("announce from {} refused: {refusal}", requester.ip);
    })?;
    Ok(match context.tracker.announce(requester, request.borrow()) {
        Answer::Ready(reply) => {
            encode(&reply, body);
            counters.answered.inc();
            Answer::Ready(())
        }
        Answer::Pending(pending) => {
            let (context, protocol) = (Arc::clone(context), requester.protocol);
            Answer::Pending(Box::pin(async move {
                let reply = context.tracker.finish(pending).await;
                let mut body = Vec::new();
                encode(&reply, &mut body);
                context.metrics.announces.over(protocol).answered.inc();
                drop((timer, chihaya_timer));
                body
            }))
        }
    })
}

fn admit<'a>(
    context: &Context,
    requester: Requester<'a>,
    request: &AnnounceRequest,
    query: &[u8],
) -> Result<Requester<'a>, Refusal> {
    let Some(access) = &context.access else { return Ok(requester) };
    let Clearance { is_confidential } = access.admit(requester.ip, request, query)?;
    Ok(Requester { is_confidential, ..requester })
}

/// Appends the encoded reply that an announce would get now. Changes no state, and is neither timed nor counted. Only
/// the access rules count their refusals.
pub(super) fn peek<E: FnOnce(&AnnounceReply, &mut Vec<u8>)>(
    context: &Context,
    requester: Requester<'_>,
    query: &[u8],
    parse: impl FnOnce() -> Result<(AnnounceRequest, E), Refusal>,
    body: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let (request, encode) = parse()?;
    let requester = admit(context, requester, &request, query)?;
    encode(&context.tracker.peek(requester, &request), body);
    Ok(())
}
