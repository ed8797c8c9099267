//! The limits of `/api/v1/status`: what each limit allows, how much is in use, how often it had an effect, and what the
//! operator can do.

use serde_json::{Value, json};

use crate::access::FAILURES_PER_SOURCE;
use crate::frontend::context::Context;
use crate::frontend::udp::MAX_WAITING;
use crate::metrics::{LogSample, Metrics};
use crate::tracker::{ForwardLimits, LimitUse};
use tracker_protocol::Protocol::{Http, Udp};

#[derive(Debug)]
struct Limit {
    name: &'static str,
    /// The setting that sets the limit, or that names the file with the limit. `None` for a fixed limit.
    variable: Option<&'static str>,
    /// The most that may be in use. `None` if the system does not say.
    value: Option<u64>,
    /// How much is in use. `None` if the tracker does not count this.
    in_use: Option<u64>,
    /// How often the limit had an effect since the start.
    bites: u64,
    /// A sentence: what the operator can do if the limit has an effect.
    remedy: &'static str,
}

impl Limit {
    fn of(
        name: &'static str,
        variable: Option<&'static str>,
        LimitUse { most, in_use, bites }: LimitUse,
        remedy: &'static str,
    ) -> Self {
        Self { name, variable, value: Some(most), in_use: Some(in_use), bites, remedy }
    }

    fn json(&self) -> Value {
        let Self { name, variable, value, in_use, bites, remedy } = *self;
        let remedy = (bites > 0).then_some(remedy);
        json!({
            "limit": name, "variable": variable, "value": value, "in_use": in_use, "bites": bites, "remedy": remedy,
        })
    }
}

/// Returns all limits, except those of features that are switched off.
pub(super) fn json(context: &Context) -> Value {
    let forwarding = context.tracker.forwarders().map(|forwarders| forwarding(context, forwarders.limits()));
    let limits = connections(context)
        .into_iter()
        .chain([peers(context)])
        .chain(forwarding.into_iter().flatten())
        .chain(scrapes(context))
        .chain(tokens(context))
        .chain([log(context)]);
    limits.map(|limit| limit.json()).collect()
}

fn connections(context: &Context) -> [Limit; 4] {
    let (limits, metrics) = (&context.connections.limits, &context.metrics.connections);
    let [unfinished, most_unfinished] = context.connections.unfinished();
    let [open, most] = Metrics::descriptors().map_or([None; 2], |descriptors| descriptors.map(Some));
    [
        Limit {
            name: "connections",
            variable: Some("MAX_CONNECTIONS"),
            value: Some(limits.total as u64),
            in_use: u64::try_from(metrics.open.get()).ok(),
            bites: metrics.shed_full.get() + metrics.refused_full.get(),
            remedy: "Raise MAX_CONNECTIONS, or the limit of open files of the process if MAX_CONNECTIONS is not set.",
        },
        Limit {
            name: "connections_per_address",
            variable: Some("MAX_CONNECTIONS_PER_ADDRESS"),
            value: Some(limits.per_address as u64),
            in_use: None,
            bites: metrics.shed_address.get() + metrics.refused_address.get(),
            remedy: "Raise MAX_CONNECTIONS_PER_ADDRESS if many clients share an address, and name the address in \
                     TRUSTED_PROXIES if it is a proxy of yours.",
        },
        Limit {
            name: "descriptors",
            variable: None,
            value: most,
            in_use: open,
            bites: metrics.shed_descriptors.get(),
            remedy: "Raise the limit of open files of the process: LimitNOFILE of the systemd unit, or ulimits in Docker.",
        },
        Limit {
            name: "unfinished_requests_bytes",
            variable: None,
            value: Some(most_unfinished as u64),
            in_use: Some(unfinished as u64),
            bites: metrics.shed_memory.get(),
            remedy: "If this happens again and again, find the hosts that begin requests and do not finish them, and block \
                     them in the firewall.",
        },
    ]
}

fn peers(context: &Context) -> Limit {
    let totals = context.tracker.totals();
    let peers: i64 = totals.peers.iter().flatten().sum();
    Limit {
        name: "peers",
        variable: Some("MAX_PEERS"),
        value: u64::try_from(totals.capacity).ok(),
        // MAX_PEERS limits the peers, and also the torrents.
        in_use: u64::try_from(peers.max(totals.swarms)).ok(),
        // The two counts are not added up: the eviction of a torrent's last peer counts in both.
        bites: totals.evicted.max(totals.evicted_peers).unsigned_abs(),
        remedy: "Raise MAX_PEERS if the host has memory for more peers, or lower PEER_AGE.",
    }
}

fn forwarding(context: &Context, limits: ForwardLimits) -> [Limit; 4] {
    let ForwardLimits { exchanges, queue, memory } = limits;
    let raise = "Raise MAX_EXCHANGES, and the limit of open files of the process with it.";
    let rate = "Raise `rate` of the forwarder in FORWARDS_FILE, or have fewer torrents announced to it with `only` or \
                `except`.";
    let fewer = "Have fewer torrents announced upstream, with `only` or `except` in FORWARDS_FILE, or lower PEER_AGE.";
    [
        Limit::of("exchanges", Some("MAX_EXCHANGES"), exchanges, raise),
        Limit::of("exchanges_waiting_per_forwarder", Some("FORWARDS_FILE"), queue, rate),
        Limit::of("forwarding_bytes", None, memory, fewer),
        Limit {
            name: "udp_announces_waiting_per_worker",
            variable: None,
            value: Some(MAX_WAITING as u64),
            in_use: None,
            bites: context.metrics.udp.busy.get(),
            remedy: "Lower FORWARD_TIMEOUT, so that announces wait for a shorter time.",
        },
    ]
}

/// Returns the limit on the torrents of a scrape. Only a Chihaya file can set it.
fn scrapes(context: &Context) -> Option<Limit> {
    let policy = context.tracker.policy();
    let most = [Http, Udp].into_iter().filter_map(|protocol| policy.limits(protocol).max_scrape).min()?;
    Some(Limit {
        name: "torrents_per_scrape",
        variable: Some("CHIHAYA_CONFIG"),
        value: Some(most as u64),
        in_use: None,
        bites: context.metrics.scrapes_cut.get(),
        remedy: "Raise max_scrape_infohashes in the Chihaya file.",
    })
}

fn tokens(context: &Context) -> Option<Limit> {
    let bites = context.access.as_ref()?.unchecked_tokens()?;
    Some(Limit {
        name: "wrong_tokens_per_address_and_second",
        variable: None,
        value: Some(FAILURES_PER_SOURCE.into()),
        in_use: None,
        bites,
        remedy: "Find the address that sends wrong tokens in the log with DEBUG_MODE, and block it, or name it in \
                 TRUSTED_PROXIES if it is a proxy of yours.",
    })
}

fn log(context: &Context) -> Limit {
    let LogSample { dropped, capacity } = (context.log)();
    Limit {
        name: "log_bytes",
        variable: None,
        value: Some(capacity),
        in_use: None,
        bites: dropped,
        remedy: "Log less with RUST_LOG, or make the program that reads the log faster.",
    }
}
