//! Announces and scrapes over HTTP: query and headers in, bencoded body out.

use std::sync::Arc;

use tracker_protocol::via::Via;
use tracker_protocol::{Protocol, Refusal, ScrapeRequest, announce, scrape};

use crate::answer::Answer;
use crate::frontend::announce::{PendingBody, announce as carry_out, peek};
use crate::frontend::client_address::{Identity, Remote};
use crate::frontend::context::Context;
use crate::frontend::headers::Headers;
use crate::tracker::Requester;

/// The resource that is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Announce,
    /// An announce at a path where this tracker does not answer announces.
    StrayAnnounce,
    Scrape,
}

/// An announce or a scrape, without HTTP's framing.
#[derive(Debug)]
pub(super) struct TrackerRequest<'a, H> {
    pub(super) resource: Resource,
    /// The part of the target after the first `?`.
    pub(super) query: &'a [u8],
    pub(super) headers: &'a H,
    /// The other end of the socket.
    pub(super) source: Remote,
    /// Whether the method is HEAD. An announce then does not change the tracker's state.
    pub(super) is_head: bool,
}

/// Answers a request. If the reply is ready at once, appends its body to `body`.
///
/// A refusal has status 200, too: clients discard the body of other statuses, and after some of them libtorrent never
/// announces again.
pub(super) fn answer<H: Headers>(
    context: &Arc<Context>,
    request: &TrackerRequest<'_, H>,
    body: &mut Vec<u8>,
) -> Answer<(), PendingBody> {
    let identity = context.client_address.of(request.source, request.headers, &context.metrics);
    let answered = match request.resource {
        Resource::Announce => announce(context, request, identity, body),
        Resource::StrayAnnounce => stray(context, identity),
        Resource::Scrape => scrape(context, request, identity, body).map(Answer::Ready),
    };
    answered.unwrap_or_else(|refusal| {
        refuse(context, &refusal, body);
        Answer::Ready(())
    })
}

fn announce<H: Headers>(
    context: &Arc<Context>,
    request: &TrackerRequest<'_, H>,
    Identity { ip, standing }: Identity,
    body: &mut Vec<u8>,
) -> Result<Answer<(), PendingBody>, Refusal> {
    let via = Via::parse(request.headers.all("via"));
    let user_agent = request.headers.first("user-agent");
    let requester = Requester {
        ip,
        standing,
        protocol: Protocol::Http,
        max_peers: usize::MAX,
        user_agent,
        via: &via,
        is_confidential: false,
    };
    let parse = || {
        let (parsed, format) = announce::parse(request.query)?;
        Ok((parsed, move |reply: &_, body: &mut Vec<u8>| announce::encode(reply, format, body)))
    };
    if request.is_head {
        return peek(context, requester, request.query, parse, body).map(Answer::Ready);
    }
    carry_out(context, requester, request.query, parse, body)
}

fn stray(context: &Context, Identity { ip, .. }: Identity) -> Result<Answer<(), PendingBody>, Refusal> {
    context.metrics.announce_arrived();
    context.metrics.announces.over(Protocol::Http).refused.inc();
    log::debug!("announce from {ip} refused: {}", Refusal::UnknownPath);
    Err(Refusal::UnknownPath)
}

fn scrape<H>(
    context: &Context,
    request: &TrackerRequest<'_, H>,
    Identity { ip, .. }: Identity,
    body: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let admit = |parsed: ScrapeRequest| match &context.access {
        None => Ok(parsed),
        Some(access) => access.admit_scrape(ip, &parsed.info_hashes, request.query).map(|()| parsed),
    };
    let counters = context.metrics.scrapes.over(Protocol::Http);
    let mut timer = context.metrics.time_for_chihaya(Protocol::Http, "scrape", ip);
    let parsed = scrape::parse(request.query).and_then(admit).inspect_err(|refusal| {
        timer.iter_mut().for_each(|timer| timer.refused(refusal));
        counters.refused.inc();
        log::debug!("scrape from {ip} refused: {refusal}");
    })?;
    log::debug!("scrape from {ip} of {} torrents", parsed.info_hashes.len());
    let scraped = context.tracker.policy().limits(Protocol::Http).scraped(&parsed.info_hashes);
    if scraped.len() < parsed.info_hashes.len() {
        context.metrics.scrapes_cut.inc();
    }
    scrape::encode(&context.tracker.scrape(scraped), body);
    counters.answered.inc();
    Ok(())
}

/// Appends the body that tells a client why its request is refused.
pub(super) fn refuse(context: &Context, refusal: &Refusal, body: &mut Vec<u8>) {
    body.extend(announce::encode_refusal(refusal, context.tracker.policy().interval));
}
