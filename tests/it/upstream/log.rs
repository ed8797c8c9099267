//! What the log and the metrics show about upstream trackers that fail.

use super::case::{AMPLE, SECRET_TARGET, assert_secret_kept, forwarding_to, metrics, with_forwarders};
use super::replies::{http, ok, one_peer};
use crate::dsl::announce;
use crate::fake_tracker::{FakeTracker, Refusing, script, sends};

#[test]
fn a_failing_forwarder_is_logged_once() {
    let failing = FakeTracker::start(sends(http("500 sEcReTpAtH", "sEcReTqUeRy")));
    let refusing = FakeTracker::start(sends(ok("d14:failure reason12:unregisterede")));
    let gone = Refusing::new();
    let entries = format!(
        "- {{name: failing, uri: 'http://{}{SECRET_TARGET}'}}\n\
        - {{name: refusing, uri: 'http://{}{SECRET_TARGET}'}}\n\
        - {{name: gone, uri: 'http://{}{SECRET_TARGET}'}}\n",
        failing.address(),
        refusing.address(),
        gone.address()
    );
    let server = with_forwarders(&entries, &["-t", AMPLE, "-p"]);
    for torrent in ["t", "u", "v", "w"] {
        server.announce(&announce(torrent, "client").at("10.0.0.9"));
    }
    server.logged("forwarder failing: failed 3 times in a row; skipped for ");
    server.logged("forwarder gone: failed 3 times in a row; skipped for ");
    let log = server.log();
    let about = |name: &str| log.iter().filter(|line| line.contains(&format!("forwarder {name}"))).collect::<Vec<_>>();
    for (name, level) in [("failing", "500"), ("gone", "reached")] {
        let lines = about(name);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("WARN") && lines[0].contains(level), "{lines:?}");
        assert!(lines[1].contains("INFO") && lines[1].contains(", then probed"), "{lines:?}");
    }
    // A tracker that refuses a torrent has not failed.
    assert_eq!(about("refusing"), [""; 0]);
    assert_secret_kept(&server);
}

#[test]
fn a_forwarder_that_answers_again_is_logged_at_once() {
    let tracker = FakeTracker::start(script(|visit| {
        visit.read();
        visit.write(&if visit.number == 0 { http("500 Oops", "") } else { ok(one_peer()) });
    }));
    let server = forwarding_to(&[&tracker], AMPLE);
    for torrent in ["t", "u", "v"] {
        server.announce(&announce(torrent, "client").at("10.0.0.9"));
    }
    assert!(server.logged("forwarder tracker 0: answers again").contains("INFO"));
    let log = server.log();
    let lines =
        |level: &str| log.iter().filter(|line| line.contains(level) && line.contains("forwarder tracker 0: ")).count();
    assert_eq!((lines("WARN"), lines("INFO")), (1, 1), "{log:?}");
}

#[test]
fn a_name_that_is_derived_from_the_uri_does_not_reveal_the_secret() {
    let tracker = FakeTracker::start(sends(""));
    let uri = format!("http://user:sEcReTword@{}{SECRET_TARGET}", tracker.address());
    let server = with_forwarders(&format!("- uri: '{uri}'\n"), &["-t", AMPLE, "-p", "-d"]);
    server.announce(&announce("t", "client"));
    server.logged(&tracker.address().to_string());
    assert!(metrics(&server).contains(&format!("{{forwarder=\"{}\",outcome=\"truncated\"}} 1", tracker.address())));
    assert_secret_kept(&server);
}
