//! The requests that upstream trackers get.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::case::{AMPLE, assert_complete, forwarding_to, with_forwarders};
use super::replies::{PEER, ok, one_peer};
use crate::dsl::announce;
use crate::fake_tracker::{FakeTracker, script, sends};

/// retracker's own user agent.
const OURS: &str = concat!("retracker/", env!("CARGO_PKG_VERSION"));

#[derive(Debug)]
pub(super) struct SentRequest {
    method: String,
    pub(super) target: String,
    version: String,
    /// The names (in lower case) and the values.
    headers: Vec<(String, String)>,
    /// The bytes after the head.
    body: String,
}

impl SentRequest {
    pub(super) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.split("\r\n");
        let line: Vec<_> = lines.next().unwrap().split(' ').map(str::to_owned).collect();
        let [method, target, version] = <[String; 3]>::try_from(line).unwrap();
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                (name.to_ascii_lowercase(), value.to_owned())
            })
            .collect();
        Self { method, target, version, headers, body: body.to_owned() }
    }

    /// Returns the value of a header. The header must not be repeated.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let value = found.next();
        assert_eq!(found.next(), None, "{name} is there twice");
        value
    }

    /// Returns the escaped value of a parameter. The parameter must not be repeated.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?').unwrap().1;
        let mut found = query.split('&').filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let value = found.next();
        assert_eq!(found.next(), None, "{name} is there twice");
        value.map(str::to_owned)
    }
}

/// Forwards an announce to a tracker, whose entry has the uri and `settings`. Returns the request that the tracker gets.
fn sent(target: &str, settings: &str, client: &str, headers: &[(&str, &str)]) -> (SocketAddr, SentRequest) {
    let tracker = FakeTracker::start(sends(ok(one_peer())));
    let entries = format!("- uri: 'http://{}{target}'\n{settings}", tracker.address());
    let server = with_forwarders(&entries, &["-t", AMPLE]);
    let reply = server.connect().get_with(format!("/announce?{client}"), headers);
    assert_eq!(reply.peers(), [PEER], "{}", reply.text());
    assert_eq!(tracker.visits(), 1);
    (tracker.address(), SentRequest::parse(&tracker.request(1)))
}

fn plain_query() -> String {
    announce("t", "client").at("10.0.0.9").query()
}

#[test]
fn the_request_is_exactly_this() {
    // Bytes of every kind, escaped in every way that clients use.
    let info_hash = "%00%ff+%26%3D%2b%25~-._A%2f%3F%23%3b%22%80%0d%0A";
    let peer_id = "-qB4650-%5c%7C%5E%60%7b%7d%5b%5d*!'(";
    let client = format!(
        "info_hash={info_hash}&peer_id={peer_id}&port=51413&uploaded=1&downloaded=18446744073709551615&left=16384\
        &corrupt=5&redundant=6&compact=0&no_peer_id=1&numwant=80&supportcrypto=1&event=started\
        &key=%00%fe9a%2F+%3d~&ip=10.0.0.9&ipv4=10.0.0.9&ipv6=fd00%3A%3A9&passkey=theirs&jwt=a.b.c&trackerid=theirs"
    );
    let headers = [
        ("User-Agent", "qBittorrent/4.6.5 (\u{e9})"),
        ("Accept-Encoding", "br"),
        ("Authorization", "Basic dGhlaXJz"),
        ("Cookie", "theirs"),
        ("X-Theirs", "10.0.0.9"),
    ];
    let (address, request) = sent("/announce", "", &client, &headers);
    assert_eq!(
        request.target,
        "/announce?info_hash=%00%FF%20%26%3D%2B%25~-._A%2F%3F%23%3B%22%80%0D%0A\
        &peer_id=-qB4650-%5C%7C%5E%60%7B%7D%5B%5D%2A%21%27%28\
        &port=51413&uploaded=1&downloaded=9223372036854775807&left=16384&compact=1&numwant=200&event=started\
        &key=%00%FE9a%2F%20%3D~"
    );
    assert_eq!((request.method.as_str(), request.version.as_str(), request.body.as_str()), ("GET", "HTTP/1.1", ""));
    assert_eq!(request.header("host"), Some(address.to_string().as_str()));
    assert_eq!(request.header("user-agent"), Some("qBittorrent/4.6.5 (\u{e9})"));
    let ours = ["host", "user-agent", "accept-encoding", "connection", "date", "via"];
    for (name, value) in &request.headers {
        assert!(ours.contains(&name.as_str()), "{name}: {value}");
        assert!(!value.contains("10.0.0.9") && !value.contains("theirs"), "{name}: {value}");
        request.header(name);
    }
}

#[test]
fn missing_parameters_get_defaults() {
    let client = announce("t", "client").at("10.0.0.9").without("left").query();
    let (_, request) = sent("/announce", "", &client, &[]);
    assert_eq!(
        request.target,
        "/announce?info_hash=t-------------------&peer_id=client--------------&port=6881&uploaded=0&downloaded=0\
        &left=16384&compact=1&numwant=200&event=started"
    );
    assert_eq!(request.header("user-agent"), Some(OURS));
}

#[test]
fn a_missing_or_long_user_agent_is_replaced_or_cut() {
    let client = announce("t", "client").at("10.0.0.9").query();
    let long = "x".repeat(150);
    for (user_agent, expected) in [("", OURS), (" ", OURS), ("qB/4", "qB/4"), (&long, &long[..128])] {
        let (_, request) = sent("/announce", "", &client, &[("User-Agent", user_agent)]);
        assert_eq!(request.header("user-agent"), Some(expected), "{user_agent:?}");
    }
}

#[test]
fn the_query_is_appended_to_the_uri() {
    for (uri, start) in [
        ("/announce", "/announce?info_hash="),
        ("/announce?passkey=x", "/announce?passkey=x&info_hash="),
        ("/announce?passkey=x&", "/announce?passkey=x&info_hash="),
        ("/announce?", "/announce?info_hash="),
        ("", "/?info_hash="),
        ("?passkey=x", "/?passkey=x&info_hash="),
        ("/a%2Fb/%E9?k=%26%3d", "/a%2Fb/%E9?k=%26%3d&info_hash="),
        ("/announce.php?a=b&c=d#there", "/announce.php?a=b&c=d&info_hash="),
    ] {
        let (_, request) = sent(uri, "", &plain_query(), &[]);
        assert!(request.target.starts_with(start), "{uri}: {request:?}");
        assert_eq!(request.target.matches('?').count(), 1, "{uri}: {request:?}");
    }
}

#[test]
fn an_entry_can_name_an_address_and_a_host() {
    let (address, request) = sent("/announce", "  ip: 192.168.1.15\n", &plain_query(), &[]);
    assert!(request.target.ends_with("&numwant=200&event=started&ip=192.168.1.15&ipv4=192.168.1.15"), "{request:?}");
    assert_eq!(request.header("host"), Some(address.to_string().as_str()));
    let (_, request) = sent("/announce", "  ip: 'fd00::15'\n", &plain_query(), &[]);
    assert!(request.target.ends_with("&numwant=200&event=started&ip=fd00%3A%3A15&ipv6=fd00%3A%3A15"), "{request:?}");
    let (_, request) = sent("/announce", "  host: retracker.local\n", &plain_query(), &[]);
    assert_eq!(request.header("host"), Some("retracker.local"));
    let (_, request) = sent("/announce", "  host: retracker.local:8080\n", &plain_query(), &[]);
    assert_eq!(request.header("host"), Some("retracker.local:8080"));
    assert_eq!(request.value("ip"), None);
}

#[test]
fn a_tracker_can_have_an_ipv6_address() {
    let Some(tracker) = FakeTracker::start_on(Ipv6Addr::LOCALHOST.into(), sends(ok(one_peer()))) else {
        eprintln!("skipped: this host has no IPv6");
        return;
    };
    let server = forwarding_to(&[&tracker], AMPLE);
    assert_complete(&server.announce(&announce("t", "client").at("10.0.0.9")), [0, 1], &[PEER]);
    let request = SentRequest::parse(&tracker.request(1));
    assert_eq!(request.header("host"), Some(tracker.address().to_string().as_str()));
}

#[test]
fn events_are_sent_upstream() {
    let tracker = FakeTracker::start(sends(ok(one_peer())));
    let server = forwarding_to(&[&tracker], AMPLE);
    let client = announce("t", "client").at("10.0.0.9");
    let events = ["started", "completed", "stopped"];
    for (n, event) in events.into_iter().enumerate() {
        let client = if event == "started" { client.clone() } else { client.clone().seed() };
        server.announce(&client.event(event));
        let request = SentRequest::parse(&tracker.request(n + 1));
        assert_eq!(request.value("event").as_deref(), Some(event));
        assert_eq!(request.value("left").as_deref(), Some(if event == "started" { "1" } else { "0" }));
        assert_eq!(request.value("port").as_deref(), Some("6881"));
    }
}

#[test]
fn stopped_is_sent_without_delaying_the_client_s_reply() {
    let tracker = FakeTracker::start(script(|visit| {
        visit.read();
        if visit.number == 0 {
            visit.write(&ok(one_peer()));
        } else {
            visit.wait_for_close();
        }
    }));
    let server = forwarding_to(&[&tracker], "60");
    let client = announce("t", "client").at("10.0.0.9");
    server.announce(&client.clone().event("started"));
    let start = Instant::now();
    let reply = server.announce(&client.event("stopped"));
    // The client does not wait for the tracker, which never answers. The exchange has a timeout of a minute.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_complete(&reply, [0, 0], &[]);
    assert_eq!(SentRequest::parse(&tracker.request(2)).value("event").as_deref(), Some("stopped"));
    // When the server stops, it does not wait for the tracker either.
    let exit = server.stop();
    assert_eq!(exit.code, Some(0), "{:?}", exit.stderr);
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
}
