//! 5.3: redirects.

use super::case::{AMPLE, Case, TestedUpstream, assert_complete, assert_secret_kept, check, with_forwarders};
use super::replies::{PEER, http, ok, one_peer, with_length};
use super::request::SentRequest;
use crate::dsl::announce;
use crate::fake_tracker::{FakeTracker, script, sends};

/// Returns a case whose tracker answers the first request with this redirect, and the second request with peers.
fn redirects(name: impl Into<String>, head: &'static str) -> Case {
    let answer = script(move |visit| {
        visit.read();
        if visit.number == 0 {
            let head = head.replace("SELF", &visit.address.to_string());
            visit.write(&with_length(&head, "<html>moved</html>"));
        } else {
            visit.write(&ok(one_peer()));
        }
    });
    Case::new(name, TestedUpstream::Answers(answer), "ok 200").visits(2)
}

#[test]
fn s5_3_redirects() {
    let mut cases: Vec<_> = [
        "301 Moved Permanently\r\nLocation: http://SELF/moved",
        "302 Found\r\nLocation: http://SELF/moved",
        "303 See Other\r\nLocation: http://SELF/moved",
        "307 Temporary Redirect\r\nLocation: http://SELF/moved",
        "308 Permanent Redirect\r\nLocation: http://SELF/moved",
        "302 Found\r\nLocation: /moved",
        "302 Found\r\nLocation: moved",
        "302 Found\r\nLocation: ?x=y",
        "302 Found\r\nlocation: //SELF/moved#there",
        "302 Found\r\nLocation: /\u{e9} \"<%0d%0aHost: x>",
        "302 Found\r\nLocation: http://you:sEcReTword@SELF/",
        "302 Found\r\nLocation: http://SELF",
        "302 Found\r\nLocation: HTTP://SELF/",
    ]
    .into_iter()
    .map(|head| redirects(head, head))
    .collect();
    let lost = |head: &'static str, expected| redirects(head, head).fails(expected);
    cases.extend([
        lost("302 Found", "redirect 302").visits(1),
        lost("301 Moved\r\nLocation: ftp://SELF/sEcReTpAtH", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: udp://SELF/announce", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: file:///etc/passwd", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: javascript:alert(1)", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: http://", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: http://SELF:99999/", "redirect 301").visits(1),
        lost("301 Moved\r\nLocation: http://127.0.0.1:0/", "redirect 301|connect error").visits(1),
        lost("301 Moved\r\nLocation: http://tracker.invalid/sEcReTpAtH", "dns error|timeout error")
            .visits(1)
            .less_short(),
        lost("304 Not Modified\r\nLocation: http://SELF/moved", "status 304").visits(1),
        lost("200 OK\r\nLocation: http://SELF/moved", "junk 200").visits(1),
        // The target, which is the tracker itself, does not speak TLS.
        lost("301 Moved\r\nLocation: https://SELF/sEcReTpAtH", "tls error|timeout error").less_short(),
        Case::new(
            "in a circle",
            TestedUpstream::Answers(script(|visit| {
                visit.read();
                let [here, there] = if visit.number.is_multiple_of(2) { ["a", "b"] } else { ["b", "a"] };
                visit.write(&http(&format!("302 Found\r\nX: {here}\r\nLocation: /sEcReTpAtH/{there}"), ""));
            })),
            "redirect 302",
        )
        .visits(3),
        Case::new(
            "five times",
            TestedUpstream::Answers(script(|visit| {
                visit.read();
                let head = format!("302 Found\r\nLocation: /{}", visit.number);
                let reply = if visit.number == 5 { ok(one_peer()) } else { http(&head, "") };
                visit.write(&reply);
            })),
            "ok 200",
        )
        .visits(6),
    ]);
    check(cases);
}

#[test]
fn s5_3_redirects_keep_the_announce_and_use_the_host_setting_only_at_home() {
    let elsewhere = FakeTracker::start(sends(ok(one_peer())));
    let target = elsewhere.address();
    let home = FakeTracker::start(script(move |visit| {
        visit.read();
        let location = if visit.number == 0 { "/b?c=d".to_owned() } else { format!("http://{target}/e") };
        visit.write(&http(&format!("302 Found\r\nLocation: {location}"), ""));
    }));
    let uri = format!("http://user:sEcReTword@{}/a", home.address());
    let entries = format!("- {{name: home, uri: '{uri}', host: retracker.local}}\n");
    let server = with_forwarders(&entries, &["-t", AMPLE, "-p", "-d"]);
    let client = announce("t", "client").at("10.0.0.9");
    let mut connection = server.connect();
    let reply = connection.announce_with(&client, &[("User-Agent", "agent/1")]);
    assert_complete(&reply, [0, 1], &[PEER]);

    let requests: Vec<_> =
        home.requests().iter().chain(&elsewhere.requests()).map(|text| SentRequest::parse(text)).collect();
    let starts = ["/a?info_hash=t--", "/b?c=d&info_hash=t--", "/e?info_hash=t--"];
    assert_eq!(requests.len(), starts.len());
    for (request, start) in requests.iter().zip(starts) {
        assert!(request.target.starts_with(start), "{request:?}");
        assert_eq!(request.header("user-agent"), Some("agent/1"));
    }
    let hosts: Vec<_> = requests.iter().map(|request| request.header("host").unwrap()).collect();
    assert_eq!(hosts, ["retracker.local", "retracker.local", &target.to_string()]);
    let logins: Vec<_> = requests.iter().map(|request| request.header("authorization").is_some()).collect();
    assert_eq!(logins, [true, true, false]);
    assert_secret_kept(&server);
}
