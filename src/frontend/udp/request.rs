//! What a packet is answered with.
//!
//! The threat: a tracker that answers forged packets with larger ones is a weapon. Nothing that is sent to an address which
//! has not shown a connection id is larger than what came from there: a connect request is as long as its response, an error
//! is sent where it fits, and what is no request is not answered at all. Of what comes through a proxy, its header does not
//! count as sent.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;

use crate::bittorrent::{AnnounceRequest, InfoHash, Refusal, ScrapeRequest};
use crate::frontend::Context;
use crate::tracker::{Announced, Caller};
use crate::wire::route::{self, Route};
use crate::wire::udp::{self, Request, TransactionId};
use crate::wire::via::Via;

use super::connection_id::{ConnectionIds, Sender};

/// Short enough for the shortest request that asks for something, a scrape of one torrent.
const UNKNOWN_ID: &[u8] = b"connection id has expired";

/// The answer to one packet.
pub(super) enum Answer {
    /// None at all.
    Silence,
    /// To be sent.
    Response(Vec<u8>),
    /// To be sent when it is there: upstream trackers are being asked.
    Later(BoxFuture<'static, Vec<u8>>),
}

/// Answers the packets that come to one listen address.
pub(super) struct Responder {
    pub(super) context: Arc<Context>,
    pub(super) ids: Arc<ConnectionIds>,
}

impl Responder {
    /// `sender` is who seems to have sent the packet.
    pub(super) fn answer(&self, packet: &[u8], sender: Sender, now: Instant) -> Answer {
        let metrics = &self.context.metrics.udp;
        match Request::parse(packet) {
            None => {
                metrics.malformed.inc();
                Answer::Silence
            }
            Some(Request::Connect { transaction }) => {
                metrics.connects.inc();
                Answer::Response(udp::encode_connected(transaction, self.ids.give(sender, now)))
            }
            Some(
                Request::Announce { connection, transaction, .. } | Request::Scrape { connection, transaction, .. },
            ) if !self.ids.know(connection, sender, now) => {
                metrics.unknown_id.inc();
                let error = udp::encode_refused(transaction, UNKNOWN_ID);
                if error.len() <= packet.len() { Answer::Response(error) } else { Answer::Silence }
            }
            Some(Request::Announce { transaction, announce, url_data, via, .. }) if is_announce_url(&url_data) => {
                self.announce(sender, transaction, &announce, &via)
            }
            Some(Request::Announce { transaction, .. }) => {
                self.context.metrics.announce_arrived();
                self.context.metrics.announces_refused.inc();
                Answer::Response(udp::encode_refused(transaction, Refusal::UnknownPath.to_string().as_bytes()))
            }
            Some(Request::Scrape { transaction, info_hashes, .. }) => {
                Answer::Response(self.scrape(sender.client, transaction, &info_hashes))
            }
        }
    }

    fn announce(&self, sender: Sender, transaction: TransactionId, request: &AnnounceRequest, via: &Via) -> Answer {
        let metrics = &self.context.metrics;
        let timer = metrics.time_announce();
        metrics.announce_arrived();
        let ip = sender.client;
        let caller = Caller { ip, standing: sender.standing, room: udp::room(ip), user_agent: None, via };
        match self.context.tracker.announce(caller, request) {
            Announced::Now(reply) => {
                metrics.announces_answered.inc();
                Answer::Response(udp::encode_announced(transaction, &reply, ip))
            }
            Announced::Later(pending) => {
                let context = Arc::clone(&self.context);
                Answer::Later(Box::pin(async move {
                    let reply = context.tracker.finish(pending).await;
                    context.metrics.announces_answered.inc();
                    drop(timer);
                    udp::encode_announced(transaction, &reply, ip)
                }))
            }
        }
    }

    fn scrape(&self, source: IpAddr, transaction: TransactionId, info_hashes: &[InfoHash]) -> Vec<u8> {
        let metrics = &self.context.metrics;
        if info_hashes.is_empty() {
            metrics.scrapes_refused.inc();
            return udp::encode_refused(transaction, Refusal::FullScrape.to_string().as_bytes());
        }
        log::debug!("scrape from {source} of {} torrents", info_hashes.len());
        let reply = self.context.tracker.scrape(ScrapeRequest { info_hashes: info_hashes.to_vec() });
        metrics.scrapes_answered.inc();
        // The reply has them sorted and once each; the client counts on its own order.
        let counts = info_hashes.iter().map(|hash| {
            let found = reply.files.binary_search_by_key(hash, |(hash, _)| *hash);
            found.ok().and_then(|place| reply.files.get(place)).map(|(_, counts)| *counts).unwrap_or_default()
        });
        udp::encode_scraped(transaction, counts)
    }
}

/// Whether there is a tracker at this path of an announce URL. Few clients tell it (BEP 41), and none has to: a URL of this
/// protocol needs no path.
fn is_announce_url(url_data: &[u8]) -> bool {
    let (path, _query) = route::split(url_data);
    matches!(route::route(path), Route::Announce | Route::Root)
}
