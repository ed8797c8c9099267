//! Writes the explanation as text for people.

use std::fmt::Write as _;
use std::time::Duration;

use tracker_protocol::InfoHash;
use tracker_protocol::upstream::DroppedPeers;

use crate::access::AccessVerdict;
use crate::frontend::admin::torrent::role_name;
use crate::frontend::context::Context;
use crate::tracker::{
    Explanation, ForwarderExplanation, HiddenPeer, ListUse, PeerExplanation, PeerVerdict, SwarmExplanation,
};

pub(super) fn write(
    info_hash: InfoHash,
    explanation: &Explanation,
    access: Option<AccessVerdict>,
    context: &Context,
) -> String {
    let Explanation { ip, zone, role, usual, swarm, forwarders } = explanation;
    let mut text = format!("What a client at {ip} gets of torrent {info_hash} now.\n\n");
    let zone = zone.as_ref().map_or_else(|| "in no zone".to_owned(), |zone| format!("in zone {}", shown(zone)));
    let place = match swarm.as_ref().and_then(|swarm| swarm.client) {
        Some(client) => format!("It is the {} at port {}, {zone}.", role_name(client.role), client.port),
        None => format!("The tracker has no peer at this address, so it counts as a {}, {zone}.", role_name(*role)),
    };
    let _ = writeln!(text, "{place}\n{}\n", access_sentence(access));
    match swarm {
        None => text.push_str("No client has announced this torrent here lately.\n"),
        Some(swarm) => local(&mut text, swarm, *usual, context),
    }
    if !forwarders.is_empty() {
        text.push_str("\nForwarders:\n");
        forwarders.iter().for_each(|forwarder| one_forwarder(&mut text, forwarder));
    }
    text
}

fn access_sentence(verdict: Option<AccessVerdict>) -> String {
    let sentence = match verdict {
        None => "There are no access rules: every client may announce.",
        Some(AccessVerdict::Admitted) => "The access rules admit it.",
        Some(AccessVerdict::NetworkRefused) => "The access rules refuse announces from this network.",
        Some(AccessVerdict::TorrentRefused) => "The access rules refuse this torrent.",
        Some(AccessVerdict::ClientRefused) => "The access rules refuse its program.",
        Some(AccessVerdict::NeedsToken) => "The access rules admit it if it has a token for this torrent.",
        Some(AccessVerdict::TokenRefused(fault)) => return format!("The access rules refuse its token: {fault}."),
        Some(AccessVerdict::DependsOnClient) => {
            "The access rules admit it if its program may announce: that depends on the beginning of its peer id."
        }
    };
    sentence.to_owned()
}

fn local(text: &mut String, swarm: &SwarmExplanation, usual: usize, context: &Context) {
    let given = swarm.peers.iter().filter(|peer| matches!(peer.verdict, PeerVerdict::Given(_))).count();
    let shown_count = swarm.peers.len();
    let room = if given > usual {
        format!(" A reply has {usual} of them by default: the nearest of those that are picked at random.")
    } else {
        String::new()
    };
    let _ = writeln!(text, "Local peers that it gets: {given} of {shown_count}.{room}");
    for peer in &swarm.peers {
        let _ = writeln!(text, "  {}", peer_line(peer, context));
    }
    if swarm.more > 0 {
        let _ = writeln!(text, "  and {} more, which are not shown", swarm.more);
    }
}

fn peer_line(PeerExplanation { peer, verdict }: &PeerExplanation, context: &Context) -> String {
    let zone = peer.zone.map_or(String::new(), |zone| format!(", zone {}", shown(context.tracker.zone_name(zone))));
    let claimed = if peer.is_claimed { ", an address that it claims" } else { "" };
    let second = if peer.is_second { ", a second address" } else { "" };
    let what = format!(
        "{} {}{zone}{claimed}{second}, announced {} ago",
        role_name(peer.role),
        peer.address,
        period(peer.silent_for)
    );
    match *verdict {
        PeerVerdict::Given(address) if address == peer.address => format!("gets      {what}"),
        PeerVerdict::Given(address) => format!("gets      {what}, as {address}, the external address of its network"),
        PeerVerdict::Hidden(hidden) => format!("not given {what}: {}", why(hidden)),
    }
}

fn why(hidden: HiddenPeer) -> &'static str {
    match hidden {
        HiddenPeer::Expired => "it has expired, because it has not announced for the peer age",
        HiddenPeer::Itself => "it is the client itself",
        HiddenPeer::BothSeeds => "neither of the two downloads",
        HiddenPeer::FirstAddressServes => "the client can use the peer's other address",
        HiddenPeer::Unreachable => {
            "the client cannot reach this address, and no external address is known for the peer's network"
        }
        HiddenPeer::OtherFamily => "it is of the other address family, and clients get only their own",
        HiddenPeer::SameAddress => "the client gets another peer at the same external address and port",
    }
}

fn one_forwarder(text: &mut String, ForwarderExplanation { at, list }: &ForwarderExplanation) {
    let name = shown(&at.forwarder.name);
    let _ = write!(text, "  {name}: circuit {}", at.forwarder.state);
    if let Some(error) = &at.forwarder.last_error {
        let _ = write!(text, ", last error {} ago: {}", period(error.ago), shown(&error.text));
    }
    text.push_str(".\n");
    if at.is_hidden {
        text.push_str("    The torrent is not announced there, because of only or except in its entry.\n");
        return;
    }
    let Some(torrent) = at.torrent.as_ref().filter(|torrent| torrent.clients > 0 || torrent.list.is_some()) else {
        text.push_str("    No client has been announced there for this torrent. The next announce is the first.\n");
        return;
    };
    let due = match torrent.due_in {
        None => "an announce is under way".to_owned(),
        Some(Duration::ZERO) => "the next announce of such a client goes there".to_owned(),
        Some(due) => format!("the next one is due in {}", period(due)),
    };
    let _ = writeln!(text, "    Our clients that are announced there: {}; {due}.", torrent.clients);
    match (list, &torrent.list) {
        (Some(list), Some(peers)) => {
            let _ = writeln!(text, "    {}", list_sentence(list, peers.dropped, torrent.list_good_for));
        }
        _ => text.push_str("    It has given no list of peers that is still in use.\n"),
    }
}

/// Says how many peers of a forwarder's list the client may get, and why it does not get the others.
fn list_sentence(list: &ListUse, dropped: DroppedPeers, good_for: Duration) -> String {
    let ListUse { useful, unreachable, itself, local, other_family } = *list;
    let [own, repeats, unusable, excess] = [dropped.own, dropped.repeats, dropped.unusable, dropped.excess]
        .map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    let parts = [
        (unreachable, "at addresses that the client cannot reach"),
        (other_family, "of the other address family"),
        (itself, "the client itself"),
        (local, "given as local peers already"),
        (own, "our own clients"),
        (repeats, "repeats of another"),
        (unusable, "at addresses or ports that no peer can have"),
        (excess, "more than a list keeps"),
    ];
    let total = parts.iter().fold(useful, |total, (count, _)| total.saturating_add(*count));
    let parts = parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}"));
    format!(
        "Its list is used for {} more. Peers in it: {total}. Of these, the client may get {useful}{}.",
        period(good_for),
        parts.collect::<String>()
    )
}

/// Replaces the control characters in a text from a file or from the network, because they could confuse a terminal.
fn shown(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

/// Writes a period in seconds, minutes or hours, rounded down.
fn period(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}
