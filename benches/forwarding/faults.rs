//! Upstreams that misbehave, that go and come back, and that lead back to us.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{Announcer, Client, Peer, contains, errors, latencies, run_all};
use crate::events::{announced, arrives};
use crate::report::{Ms, Row};
use crate::retracker::Retracker;
use crate::run;
use crate::upstream::{Behaviour, FIRST_PEER, Upstreams};

pub(crate) fn junk(upstreams: &Upstreams) -> Vec<Row> {
    const PEERS: usize = 40;
    let html = upstreams.tracker(Behaviour::answers(b"<html>It works!</html>", Duration::ZERO));
    let deep = upstreams.tracker(Behaviour::answers(&b"l".repeat(100_000), Duration::ZERO));
    let binary =
        upstreams.tracker(Behaviour::Answers(b"\x00\xff\x16\x03\x01 no HTTP\r\n\r\n".to_vec(), Duration::ZERO));
    let good = upstreams.tracker(Behaviour::good(1800));
    let broken = [("html", html.address), ("deep", deep.address), ("binary", binary.address)];
    run(async {
        let mut retracker = Retracker::start(&[&broken[..], &[("good", good.address)]].concat(), &[]);
        let mut served = 0;
        for peer in Peer::some(PEERS, PEERS) {
            let reply = Client::new(retracker.address).exchange(&peer.event("started")).await.unwrap();
            served += usize::from(contains(&reply, &FIRST_PEER));
        }
        let metrics = retracker.metrics().await;
        let counted = metrics.sum("retracker_forward_exchanges_total", &[r#"outcome="junk""#]);
        let open = broken.iter().filter(|(name, _)| metrics.circuit_is(name, "open")).count();
        let alive = retracker.is_alive();
        let measured = format!(
            "process {}; HTML, deep nesting and no HTTP: {counted} exchanges counted as junk, {open} of 3 circuits open; the \
             good upstream's peers in {served} of {PEERS} replies",
            if alive { "alive" } else { "dead" }
        );
        let goal = "counted, circuit opens, others unaffected";
        let row = Row::new("upstream answers junk", "process exits", goal, measured);
        vec![row.must(alive && counted >= 9 && open == broken.len() && served == PEERS)]
    })
}

pub(crate) fn two_retrackers(upstreams: &Upstreams) -> Vec<Row> {
    let (to_first, to_second) = (upstreams.relay(), upstreams.relay());
    run(async {
        let first = Retracker::start(&[("second", to_second.address)], &[]);
        let second = Retracker::start(&[("first", to_first.address)], &[]);
        to_first.leads_to(first.address);
        to_second.leads_to(second.address);
        announced(&first, Peer { torrent: 0, number: 0 }.event("started")).await;
        // Time for one too many.
        sleep(Duration::from_secs(2)).await;
        let (there, back) = (to_second.passed(), to_first.passed());
        let measured = format!("for one announce {there} there and {back} back");
        let what = "two retrackers forwarding to each other";
        vec![Row::new(what, "endless loop", "one request each way", measured).must(there == 1 && back == 1)]
    })
}

/// The upstream has an interval of 10 s, so that it is asked all the time, and half of the clients come only while it is
/// away.
pub(crate) fn restart(upstreams: &Upstreams) -> Vec<Row> {
    const CLIENTS: usize = 100;
    const SWARMS: usize = 20;
    const PACE: Duration = Duration::from_millis(250);
    const WARM_UP: Duration = Duration::from_secs(2);
    const AWAY: Duration = Duration::from_secs(10);
    /// The circuit opens for 5 s at first and then for 10 s, each give or take a fifth.
    const BACK: Duration = Duration::from_secs(14);
    let mut upstream = upstreams.tracker(Behaviour::good(10));
    run(async {
        let retracker = Retracker::start(&[("flaky", upstream.address)], &[]);
        let clients = Peer::some(CLIENTS, SWARMS).into_iter().map(|peer| Announcer::new(retracker.address, peer));
        let mut early: Vec<_> = clients.collect();
        let mut late = early.split_off(CLIENTS / 2);
        let start = Instant::now();
        run_all(&mut early, start, PACE, || start.elapsed() < WARM_UP).await;
        // How long they waited for the first list is another matter.
        latencies(&mut early);
        let waited = retracker.metrics().await.waited();

        upstream.stop().await;
        let stop = Cell::new(false);
        let away = async {
            sleep(AWAY).await;
            upstream.resume();
            let back = Instant::now();
            while back.elapsed() < BACK && !retracker.metrics().await.circuit_is("flaky", "closed") {
                sleep(Duration::from_millis(50)).await;
            }
            let closed = back.elapsed();
            let told = arrives(CLIENTS, || upstream.told("started")).await;
            stop.set(true);
            (closed, told, back.elapsed())
        };
        let go_on = || !stop.get();
        let now = Instant::now();
        let ((closed, told, took), (), ()) =
            tokio::join!(away, run_all(&mut early, now, PACE, go_on), run_all(&mut late, now, PACE, go_on));

        early.append(&mut late);
        let (errors, latencies) = (errors(&early), latencies(&mut early));
        let waited = retracker.metrics().await.waited() - waited;
        let measured = format!(
            "{errors} of {} announces failed and {waited} waited, p99 {}, at most {}; circuit closed {:.1} s after the return, \
             {told} of {CLIENTS} peers told `started` after {:.1} s",
            latencies.len(),
            Ms(latencies.quantile(0.99)),
            Ms(latencies.max()),
            closed.as_secs_f64(),
            took.as_secs_f64()
        );
        let what = "upstream gone for 10 s and back under load, warm swarms";
        let goal = "no error, none waits; asked again within its back-off, and told what it missed";
        vec![
            Row::new(what, "–", goal, measured)
                .must(errors == 0 && waited == 0 && closed < BACK && told == CLIENTS)
                .should(latencies.max() < Duration::from_millis(100)),
        ]
    })
}
