use std::task::Waker;

use prometheus_client::registry::Registry;

use super::*;
use crate::metrics::Metrics;

fn connections(total: usize, per_address: usize) -> Connections {
    let metrics = Metrics::register(&mut Registry::default()).connections;
    Connections::new(ConnectionLimits { per_address, ..ConnectionLimits::up_to(total) }, metrics)
}

fn at(ip: &str) -> Holder {
    Holder::client(ip.parse().unwrap())
}

/// A connection that began to wait this many microseconds after the start.
fn waits(connections: &Connections, holder: Holder, idle: Idle, since: u64) -> OpenConnection<'_> {
    assert!(connections.admit());
    let mut open = connections.opened();
    assert!(still_waits(&mut open, holder, idle, since));
    open
}

fn still_waits(open: &mut OpenConnection<'_>, holder: Holder, idle: Idle, since: u64) -> bool {
    let since = open.connections.start + Duration::from_micros(since);
    open.idle(holder, idle, Some(since), &Context::from_waker(Waker::noop())).is_ok()
}

fn is_shed(open: &OpenConnection<'_>) -> bool {
    open.in_table.as_ref().unwrap().1.shed.load(Relaxed)
}

#[test]
fn the_oldest_idle_connection_of_the_heaviest_address_is_closed_first() {
    let connections = connections(6, 6);
    let light = waits(&connections, at("10.0.0.1"), Idle::Waiting, 0);
    let mut heavy: Vec<_> = (1..=5).map(|n| waits(&connections, at("10.0.0.2"), Idle::Waiting, n)).collect();
    // The oldest connection sends another request, and is now the newest. The second-oldest is busy.
    assert!(still_waits(&mut heavy[0], at("10.0.0.2"), Idle::Waiting, 9));
    heavy[1].busy(at("10.0.0.2")).unwrap();
    let mut newcomers = Vec::new();
    let mut order = Vec::new();
    for n in 0..3 {
        newcomers.push(waits(&connections, at(&format!("10.0.1.{n}")), Idle::Waiting, 10 + n));
        order.push(heavy.iter().map(is_shed).collect::<Vec<_>>());
        assert_eq!(connections.count(), 6);
    }
    assert_eq!(order[0], [false, false, true, false, false]);
    assert_eq!(order[1], [false, false, true, true, false]);
    assert_eq!(order[2], [false, false, true, true, true]);
    assert!(!is_shed(&light));
    drop((light, heavy, newcomers));
    assert_eq!(connections.count(), 0);
    assert!(connections.table.lock().entries.is_empty() && connections.table.lock().weights.is_empty());
}

#[test]
fn finished_connections_are_closed_first_then_the_one_that_has_waited_longest() {
    let connections = connections(4, 4);
    let waiting = [2, 0, 1].map(|since| waits(&connections, at("10.0.0.1"), Idle::Waiting, since));
    let finished = waits(&connections, at("10.0.0.1"), Idle::Finished, 3);
    for gone in 1..=4 {
        assert_eq!(connections.shed_for_descriptors(), 1);
        assert!(is_shed(&finished));
        assert_eq!(waiting.each_ref().map(is_shed), [gone > 3, gone > 1, gone > 2]);
    }
    assert_eq!(connections.shed_for_descriptors(), 0);
}

#[test]
fn without_an_idle_connection_the_new_one_is_refused() {
    let connections = connections(2, 2);
    let mut busy = Vec::new();
    for _ in 0..2 {
        assert!(connections.admit());
        let mut open = connections.opened();
        open.busy(at("10.0.0.1")).unwrap();
        busy.push(open);
    }
    assert!(!connections.admit());
    busy.pop();
    assert!(connections.admit());
    assert_eq!(connections.metrics.refused_full.get(), 1);
}

#[test]
fn an_address_has_a_limit_and_a_proxy_has_none() {
    let connections = connections(100, 2);
    let networks = [("2001:db8::1", "2001:db8::ffff:1"), ("10.0.0.1", "::ffff:10.0.0.1")];
    for (one, alike) in networks {
        let first = waits(&connections, at(one), Idle::Waiting, 1);
        let second = waits(&connections, at(alike), Idle::Waiting, 2);
        let third = waits(&connections, at(one), Idle::Waiting, 3);
        assert_eq!([&first, &second, &third].map(is_shed), [true, false, false]);
    }
    assert_eq!(connections.metrics.shed_address.get(), 2);
    let mut busy: Vec<_> = (0..3).map(|_| connections.opened()).collect();
    assert!(busy[0].busy(at("10.0.0.9")).is_ok() && busy[1].busy(at("10.0.0.9")).is_ok());
    assert_eq!(busy[2].busy(at("10.0.0.9")), Err(MustClose));
    let proxied: Vec<_> = (0..50).map(|n| waits(&connections, Holder::Proxy, Idle::Waiting, n)).collect();
    assert!(!proxied.iter().any(is_shed));
}

#[test]
fn connections_that_fill_memory_with_unfinished_requests_are_closed() {
    let connections = connections(100, 100);
    let mut attackers: Vec<_> = (0..4).map(|n| waits(&connections, at("10.0.0.1"), Idle::Waiting, n)).collect();
    let mut client = waits(&connections, at("10.0.0.2"), Idle::Waiting, 0);
    let idle = waits(&connections, at("10.0.0.1"), Idle::Waiting, 0);
    attackers.iter_mut().for_each(|attacker| attacker.buffers(MAX_UNFINISHED / 4));
    assert!(!attackers.iter().any(is_shed));
    client.buffers(1000);
    assert!(is_shed(&attackers[0]) && !is_shed(&attackers[1]) && !is_shed(&client) && !is_shed(&idle));
    attackers.remove(0);
    client.buffers(2000);
    assert!(!attackers.iter().any(is_shed));
    drop((attackers, client, idle));
    assert_eq!(connections.unfinished.load(Relaxed), 0);
}

#[test]
fn a_proxy_is_no_heavier_than_a_client() {
    let connections = connections(4, 4);
    let proxied: Vec<_> = (5..7).map(|n| waits(&connections, Holder::Proxy, Idle::Waiting, n)).collect();
    let clients =
        [waits(&connections, at("10.0.0.1"), Idle::Waiting, 8), waits(&connections, at("10.0.0.1"), Idle::Waiting, 9)];
    assert_eq!(connections.shed_for_descriptors(), 1);
    assert_eq!(clients.each_ref().map(is_shed), [true, false]);
    assert_eq!(connections.shed_for_descriptors(), 1);
    assert_eq!(proxied.iter().map(is_shed).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn an_address_keeps_its_limit_when_its_connections_enter_at_the_same_moment() {
    const WORKERS: usize = 4;
    for _ in 0..200 {
        let connections = connections(100, 5);
        let before: Vec<_> = (0..4).map(|n| waits(&connections, at("10.0.0.1"), Idle::Waiting, n)).collect();
        let together = std::sync::Barrier::new(WORKERS);
        let enter = |n| {
            together.wait();
            waits(&connections, at("10.0.0.1"), Idle::Waiting, n)
        };
        let after: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (10..).take(WORKERS).map(|n| scope.spawn(move || enter(n))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        assert_eq!(before.iter().chain(&after).filter(|open| !is_shed(open)).count(), 5);
    }
}
