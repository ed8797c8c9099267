//! Announces and scrapes, whoever has parsed the request: query and headers in, bencoded body out.

use std::net::IpAddr;

use futures::future::BoxFuture;

use crate::bittorrent::Refusal;
use crate::frontend::Context;
use crate::frontend::client_address::{Client, Source};
use crate::frontend::headers::Headers;
use crate::tracker::{Announced, Caller};
use crate::wire::via::Via;
use crate::wire::{announce, scrape};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Announce,
    Scrape,
}

/// A request without what HTTP has around it.
#[derive(Debug)]
pub(super) struct Question<'a, H> {
    pub(super) resource: Resource,
    /// What follows the first `?` of the target.
    pub(super) query: &'a [u8],
    pub(super) headers: &'a H,
    /// Who is at the other end of the socket.
    pub(super) source: Source,
    /// Whether it only wants to know what the reply would be.
    pub(super) is_head: bool,
}

/// The body of a reply, for one that is not there yet.
pub(super) type Later<'a> = BoxFuture<'a, Vec<u8>>;

/// Appends the body of the reply to `body`, or returns what it has to be waited for.
///
/// Refusals are bodies like others, with status 200: clients throw away the bodies of all others, and libtorrent never
/// comes back after some of them.
pub(super) fn answer<'a, H: Headers>(
    context: &'a Context,
    question: &Question<'_, H>,
    body: &mut Vec<u8>,
) -> Option<Later<'a>> {
    let client = context.client_address.of(question.source, question.headers, &context.metrics);
    match question.resource {
        Resource::Announce => announce(context, question, client, body),
        Resource::Scrape => {
            scrape(context, question, client.ip, body);
            None
        }
    }
}

fn announce<'a, H: Headers>(
    context: &'a Context,
    question: &Question<'_, H>,
    Client { ip, standing }: Client,
    body: &mut Vec<u8>,
) -> Option<Later<'a>> {
    let metrics = &context.metrics;
    let is_head = question.is_head;
    let timer = if is_head { None } else { metrics.time_announce() };
    if !is_head {
        metrics.announce_arrived();
    }
    let (request, format) = match announce::parse(question.query) {
        Ok(parsed) => parsed,
        Err(refusal) => {
            if !is_head {
                metrics.announces_refused.inc();
            }
            refuse(context, "announce", ip, refusal, body);
            return None;
        }
    };
    let via = Via::parse(question.headers.all("via"));
    let caller = Caller { ip, standing, room: usize::MAX, user_agent: question.headers.first("user-agent"), via: &via };
    if is_head {
        announce::encode(&context.tracker.peek(caller, &request), format, body);
        return None;
    }
    match context.tracker.announce(caller, &request) {
        Announced::Now(reply) => {
            announce::encode(&reply, format, body);
            metrics.announces_answered.inc();
            None
        }
        Announced::Later(pending) => Some(Box::pin(async move {
            let mut body = Vec::new();
            announce::encode(&context.tracker.finish(pending).await, format, &mut body);
            metrics.announces_answered.inc();
            drop(timer);
            body
        })),
    }
}

fn scrape<H>(context: &Context, question: &Question<'_, H>, ip: IpAddr, body: &mut Vec<u8>) {
    match scrape::parse(question.query) {
        Ok(request) => {
            log::debug!("scrape from {ip} of {} torrents", request.info_hashes.len());
            scrape::encode(&context.tracker.scrape(request), body);
            context.metrics.scrapes_answered.inc();
        }
        Err(refusal) => {
            context.metrics.scrapes_refused.inc();
            refuse(context, "scrape", ip, refusal, body);
        }
    }
}

pub(super) fn refuse(context: &Context, what: &str, ip: IpAddr, refusal: Refusal, body: &mut Vec<u8>) {
    log::debug!("{what} from {ip} refused: {refusal}");
    body.extend(announce::encode_refusal(&refusal, context.tracker.policy().interval));
}
