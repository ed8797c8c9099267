//! Upstream trackers (5) and the server's own host. The server accepts neither loopback addresses nor its own
//! listeners as peers, and follows no redirect to this host. If an exchange fails because of
//! this host, the upstream does not count as failed.

use std::net::{IpAddr, UdpSocket};

use super::case::{metrics, with_forwarders};
use super::replies::{http, ok, with_peers};
use crate::dsl::{announce, eventually};
use crate::fake_tracker::{FakeTracker, script, sends};

const PEER: &str = "10.1.1.1:1001";
const AMPLE: &str = "20";

/// Returns an address of this host that other hosts could use. `None` if this host has only loopback addresses.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.88.99.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

#[test]
fn loopback_addresses_are_not_accepted_as_peers() {
    let loopback = FakeTracker::start(sends(ok(with_peers(&["127.0.0.1:6379", "127.9.9.9:1", PEER, "0.0.0.0:1"]))));
    let server = with_forwarders(&format!("- uri: http://{}/announce\n", loopback.address()), &["-t", AMPLE]);
    assert_eq!(server.announce(&announce("t", "client")).peers(), [PEER]);
}

#[test]
fn the_tracker_s_own_listener_is_not_accepted_as_a_peer() {
    let Some(ip) = own_address() else { return };
    let ours = std::sync::Arc::new(std::sync::OnceLock::new());
    let shared = std::sync::Arc::clone(&ours);
    let upstream = FakeTracker::start(script(move |visit| {
        visit.read();
        let port: u16 = *shared.get().unwrap();
        visit.write(&ok(with_peers(&[&format!("{ip}:{port}"), &format!("{ip}:9"), PEER])));
    }));
    let entries = format!("- uri: http://{}/announce\n", upstream.address());
    let server = with_forwarders(&entries, &["-t", AMPLE, "-l", "0.0.0.0:0"]);
    let port = server.addresses()[0].rsplit_once(':').unwrap().1.parse().unwrap();
    ours.set(port).unwrap();
    let mut peers = server.announce(&announce("t", "client").at("10.0.0.9")).peers();
    peers.sort();
    let mut expected = [format!("{ip}:9"), PEER.to_owned()];
    expected.sort();
    assert_eq!(peers, expected);
}

#[test]
fn redirects_to_this_host_or_to_link_local_addresses_are_refused() {
    let hidden = FakeTracker::start(sends(ok(with_peers(&[PEER]))));
    let to = |location: String| {
        script(move |visit| {
            visit.read();
            visit.write(&http(&format!("302 Found\r\nLocation: {location}"), ""));
        })
    };
    let links = ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "0.0.0.0", "100.100.100.200"];
    let mut trackers: Vec<_> =
        links.iter().map(|host| FakeTracker::start(to(format!("http://{host}/latest/meta-data")))).collect();
    // A tracker at an address that other hosts can reach must not redirect to loopback.
    let loopback = hidden.address();
    for target in [format!("http://{loopback}/"), format!("http://localhost:{}/", loopback.port())] {
        trackers.extend(own_address().and_then(|ip| FakeTracker::start_on(ip, to(target))));
    }
    let entry =
        |(n, tracker): (usize, &FakeTracker)| format!("- {{name: n{n}, uri: 'http://{}/a'}}\n", tracker.address());
    let entries: String = trackers.iter().enumerate().map(entry).collect();
    let server = with_forwarders(&entries, &["-t", AMPLE, "-p"]);
    assert_eq!(server.announce(&announce("t", "client").at("10.0.0.9")).peers(), [""; 0]);
    for n in 0..trackers.len() {
        let line = format!("retracker_forward_exchanges_total{{forwarder=\"n{n}\",outcome=\"redirect\"}} 1");
        eventually(&line, || metrics(&server).contains(&line).then_some(()));
    }
    assert_eq!(hidden.visits(), 0);
}

#[test]
fn failures_of_this_host_do_not_count_against_the_upstream() {
    let good = FakeTracker::start(sends(ok(with_peers(&[PEER]))));
    // The kernel refuses both of these addresses before it sends a packet.
    let entries = format!(
        "- {{name: tcp, uri: 'http://255.255.255.255/announce'}}\n\
         - {{name: udp, uri: 'udp://255.255.255.255:6969/announce'}}\n\
         - {{name: good, uri: 'http://{}/announce'}}\n",
        good.address()
    );
    let server = with_forwarders(&entries, &["-t", AMPLE, "-p"]);
    for n in 0..6 {
        assert_eq!(server.announce(&announce(&format!("t{n}"), "client").at("10.0.0.9")).peers(), [PEER]);
    }
    for name in ["tcp", "udp"] {
        let line = format!("retracker_forward_exchanges_total{{forwarder=\"{name}\",outcome=\"local\"}} 6");
        eventually(&line, || metrics(&server).contains(&line).then_some(()));
        let line = format!("retracker_forward_circuit{{state=\"closed\",forwarder=\"{name}\"}} 1");
        let other = format!("retracker_forward_circuit{{forwarder=\"{name}\",state=\"closed\"}} 1");
        let text = metrics(&server);
        assert!(text.contains(&line) || text.contains(&other), "{text}");
    }
    server.logged("cannot ask upstream trackers");
}

/// While the server runs, the test sets the server's limit of open files to zero.
#[cfg(target_os = "linux")]
#[test]
fn a_lack_of_descriptors_does_not_count_against_the_upstream() {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let tracker = FakeTracker::start(sends(ok(with_peers(&[PEER]))));
    let port = tracker.address().port();
    let entries = format!(
        "- {{name: address, uri: 'http://127.0.0.1:{port}/announce'}}\n\
         - {{name: named, uri: 'http://localhost:{port}/announce'}}\n\
         - {{name: udp, uri: 'udp://127.0.0.1:{port}/announce'}}\n"
    );
    let server = with_forwarders(&entries, &["-t", "0.2", "-p"]);
    let mut connection = server.connect();
    connection.get("/metrics");
    let pid = Pid::from_raw(server.pid()).unwrap();
    let none = Rlimit { current: Some(0), ..getrlimit(Resource::Nofile) };
    let before = prlimit(Some(pid), Resource::Nofile, none).unwrap();
    for n in 0..6 {
        connection.announce(&announce(&format!("t{n}"), "client").at("10.0.0.9"));
    }
    let mut page = String::new();
    for name in ["address", "named", "udp"] {
        let line = format!("retracker_forward_exchanges_total{{forwarder=\"{name}\",outcome=\"local\"}} 6");
        eventually(&line, || {
            page = String::from_utf8(connection.get("/metrics").body).unwrap();
            page.contains(&line).then_some(())
        });
    }
    assert!(
        !["dns", "connect", "timeout"].iter().any(|other| page.contains(&format!("outcome=\"{other}\""))),
        "{page}"
    );
    prlimit(Some(pid), Resource::Nofile, before).unwrap();
    eventually("the server forwards again", || {
        (connection.announce(&announce("u", "client").at("10.0.0.9")).peers() == [PEER]).then_some(())
    });
}

#[test]
fn temporary_statuses_do_not_count_as_refusals() {
    for status in [408, 421, 425] {
        let tracker = FakeTracker::start(script(move |visit| {
            visit.read();
            let first = http(&format!("{status} Later\r\nContent-Length: 0"), "");
            visit.write(&if visit.number == 0 { first } else { ok(with_peers(&[PEER])) });
        }));
        let server = with_forwarders(&format!("- uri: http://{}/a\n", tracker.address()), &["-t", AMPLE]);
        eventually("the upstream gets another request", || {
            let peers = server.announce(&announce("t", "client").at("10.0.0.9")).peers();
            (peers == [PEER]).then_some(())
        });
    }
}

#[test]
fn exchanges_with_all_upstreams_together_are_limited() {
    let held = script(|visit| {
        visit.read();
        visit.wait_for_close();
    });
    let slow = FakeTracker::start(held);
    let entries = format!("- {{name: slow, timeout: 60, uri: 'http://{}/announce'}}\n", slow.address());
    let server = with_forwarders(&entries, &["-t", "0.1", "-p", "--max-exchanges", "2"]);
    for n in 0..5 {
        server.announce(&announce(&format!("t{n}"), "client").at("10.0.0.9"));
    }
    let line = "retracker_forward_exchanges_delayed_total 3";
    eventually(line, || metrics(&server).contains(line).then_some(()));
    // The tracker may accept the connections only after the server's reply. So the test waits for them.
    eventually("two connections", || (slow.visits() == 2).then_some(()));
    assert_eq!(slow.visits(), 2);
}
