//! The responses to packets.
//!
//! The threat: a tracker that answers forged packets with larger ones can be used to flood a victim. So larger
//! responses need a connection id, which proves the address. A connect request is as long as its response. If a packet
//! has no valid id, an error in response must be no longer than the packet. Malformed packets get no response. A
//! proxy's header does not count as part of the packet.

use std::net::IpAddr;
use std::sync::Arc;

use crate::answer::Answer;
use crate::frontend::announce::{PendingBody, announce as carry_out};
use crate::frontend::context::Context;
use crate::tracker::Requester;
use tracker_protocol::route::{self, Route};
use tracker_protocol::udp::{self, Request, TransactionId};
use tracker_protocol::via::Via;
use tracker_protocol::{AnnounceRequest, InfoHash, Protocol, Refusal};

use super::connection_id::Sender;
use super::connection_ids::IdTime;

/// The error for an invalid connection id: no longer than a scrape of one torrent, the shortest request that needs an
/// id.
const UNKNOWN_ID: &[u8] = b"connection id has expired";

/// Answers the packets of one listen address.
pub(super) struct Responder {
    pub(super) context: Arc<Context>,
}

impl Responder {
    /// Returns the response to a packet. `None` if the packet gets no response. The address of `sender` is not verified
    /// yet.
    pub(super) fn answer(&self, packet: &[u8], sender: Sender, now: IdTime) -> Option<Answer<Vec<u8>, PendingBody>> {
        let metrics = &self.context.metrics.udp;
        let Some(request) = Request::parse(packet) else {
            metrics.malformed.inc();
            return None;
        };
        Some(match request {
            Request::Connect { transaction } => {
                metrics.connects.inc();
                let _timer = self.context.metrics.time_for_chihaya(Protocol::Udp, "connect", sender.client);
                Answer::Ready(udp::encode_connected(transaction, self.context.connection_ids.issue(sender, now)))
            }
            Request::Announce { connection, transaction, .. } | Request::Scrape { connection, transaction, .. }
                if !self.context.connection_ids.verify(connection, sender, now) =>
            {
                metrics.unknown_id.inc();
                let error = udp::encode_refused(transaction, UNKNOWN_ID);
                return (error.len() <= packet.len()).then_some(Answer::Ready(error));
            }
            Request::Announce { transaction, announce, url_data, via, .. } => {
                self.announce(sender, transaction, &announce, &url_data, &via)
            }
            Request::Scrape { transaction, info_hashes, .. } => {
                Answer::Ready(self.scrape(sender.client, transaction, &info_hashes))
            }
        })
    }

    fn announce(
        &self,
        sender: Sender,
        transaction: TransactionId,
        request: &AnnounceRequest,
        url_data: &[u8],
        via: &Via,
    ) -> Answer<Vec<u8>, PendingBody> {
        let ip = sender.client;
        let requester = Requester {
            ip,
            standing: sender.standing,
            protocol: Protocol::Udp,
            max_peers: udp::max_peers(ip),
            user_agent: None,
            via,
            is_confidential: false,
        };
        let encode = move |reply: &_, response: &mut Vec<u8>| {
            *response = udp::encode_announced(transaction, reply, ip);
        };
        let (path, query) = route::split(url_data);
        // Over UDP, Chihaya answers announces at any path.
        let is_announce = self.context.chihaya.is_some() || is_announce_path(path);
        let parse = || if is_announce { Ok((request, encode)) } else { Err(Refusal::UnknownPath) };
        let mut response = Vec::new();
        match carry_out(&self.context, requester, query, parse, &mut response) {
            Ok(Answer::Ready(())) => Answer::Ready(response),
            Ok(Answer::Pending(pending)) => Answer::Pending(pending),
            Err(refusal) => Answer::Ready(udp::encode_refused(transaction, refusal.to_string().as_bytes())),
        }
    }

    fn scrape(&self, source: IpAddr, transaction: TransactionId, info_hashes: &[InfoHash]) -> Vec<u8> {
        let metrics = &self.context.metrics;
        let counters = metrics.scrapes.over(Protocol::Udp);
        let mut timer = metrics.time_for_chihaya(Protocol::Udp, "scrape", source);
        // A scrape has no token for the access rules: the token is in the announce URL's query, which UDP clients send
        // only with announces (BEP 41).
        let admitted = match &self.context.access {
            _ if info_hashes.is_empty() => Err(Refusal::FullScrape),
            None => Ok(()),
            Some(access) => access.admit_scrape(source, info_hashes, b""),
        };
        if let Err(refusal) = admitted {
            timer.iter_mut().for_each(|timer| timer.refused(&refusal));
            counters.refused.inc();
            return udp::encode_refused(transaction, refusal.to_string().as_bytes());
        }
        let scraped = self.context.tracker.policy().limits(Protocol::Udp).scraped(info_hashes);
        if scraped.len() < info_hashes.len() {
            metrics.scrapes_cut.inc();
        }
        log::debug!("scrape from {source} of {} torrents", scraped.len());
        let reply = self.context.tracker.scrape(scraped);
        counters.answered.inc();
        // The reply is sorted, without repetitions. The client expects the order of its request.
        let counts = scraped.iter().map(|hash| {
            let found = reply.files.binary_search_by_key(hash, |(hash, _)| *hash);
            found.ok().and_then(|place| reply.files.get(place)).map(|(_, counts)| *counts).unwrap_or_default()
        });
        udp::encode_scraped(transaction, counts)
    }
}

/// Whether the tracker answers announces at this path of an announce URL. Few clients send the path (BEP 41), and a
/// `udp://` URL needs none.
fn is_announce_path(path: &[u8]) -> bool {
    matches!(route::route(path), Route::Announce | Route::Root)
}
