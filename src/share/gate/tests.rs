use super::*;
use std::net::Ipv4Addr;

use proptest::prelude::*;

/// The engine's time when the test begins. It is not a round number, so it is on no boundary.
const START: u64 = 1_764_293_371_123;

fn endpoint(n: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from_bits(0x0a00_0000 + n).into(), 6881)
}

fn unchanged(at: u64, silence: u64) -> Hearing {
    let at = Timestamp::from_tenths(u32::try_from(at / 100).unwrap());
    Hearing { at, silence: Some(Duration::from_millis(silence)), change: None }
}

/// What each of several instances knows of one peer, in milliseconds since [`START`].
struct Instances {
    gate: ShareGate,
    endpoint: SocketAddr,
    /// When each instance last heard of the peer.
    seen: Vec<u64>,
    /// How far each instance's idea of the engine's time is off.
    skews: Vec<u64>,
}

impl Instances {
    /// Makes instances that have all heard, at the moment 0, that the peer joined.
    fn new(peer_age: Duration, n: u32, skews: Vec<u64>) -> Self {
        Self { gate: ShareGate::new(peer_age), endpoint: endpoint(n), seen: vec![0; skews.len()], skews }
    }

    /// Lets the peer announce at an instance. Returns whether the announce is shared. If so, all instances hear of it.
    fn announces_at(&mut self, instance: usize, now: u64) -> bool {
        let hearing = unchanged(now, now - self.seen[instance]);
        let at = EngineTime(START + now + self.skews[instance]);
        let is_shared = self.gate.reason(&hearing, at, self.endpoint, None).is_some();
        self.seen[instance] = now;
        if is_shared {
            self.seen.fill(now);
        }
        is_shared
    }
}

proptest! {
    #[test]
    fn no_live_peer_is_silent_for_longer_than_the_logs_are_kept(
        (peer_age, interval) in (60_u64..100_000, 1_u64..20_000),
        skews in proptest::collection::vec(0..1000_u64, 1..8),
        announces in proptest::collection::vec((0.0..=1.0, any::<proptest::sample::Index>()), 1..300),
        n: u16,
    ) {
        let (peer_age, interval) = (Duration::from_secs(peer_age), Duration::from_secs(interval));
        let retention = millis(ShareGate::retention(peer_age, interval));
        prop_assert!(retention <= millis(peer_age));
        // Some clients announce only every half hour, whatever the interval is. The five seconds are a margin, because
        // the instances' clocks differ.
        let longest = interval.max(Duration::from_mins(30)).min((peer_age / 4 * 3).saturating_sub(Duration::from_secs(5)));
        let mut instances = Instances::new(peer_age, n.into(), skews);
        let (mut now, mut shared) = (0, 0);
        for (part, instance) in announces {
            now += millis(longest.mul_f64(part)).max(1);
            let instance = instance.index(instances.seen.len());
            if instances.announces_at(instance, now) {
                prop_assert!(now - shared <= retention, "silent for {} ms of {retention}", now - shared);
                shared = now;
            }
        }
        prop_assert!(now - shared <= retention);
    }

    #[test]
    fn after_a_loss_each_peer_is_shared_once(
        loss in 1..100_000_u32, before in 0..50_000_u32, after in 1..500_u32, n: u16,
    ) {
        let gate = ShareGate::new(Duration::from_hours(3));
        let resync = Some(Timestamp::from_tenths(loss));
        let announce = |at: u32, silence: u32| {
            let at = u64::from(at) * 100;
            gate.reason(&unchanged(at, u64::from(silence) * 100), EngineTime(START + at), endpoint(n.into()), resync)
        };
        prop_assert!(announce(loss + after, after + before).is_some());
        let next = announce(loss + 2 * after, after);
        prop_assert!(matches!(next, None | Some(ShareReason::Due)));
    }
}

#[test]
fn changes_are_always_shared() {
    let gate = ShareGate::new(Duration::from_hours(3));
    for change in [PeerChange::Joined, PeerChange::Changed, PeerChange::Completed, PeerChange::Left] {
        let hearing = Hearing { change: Some(change), ..unchanged(1000, 0) };
        let reason = gate.reason(&hearing, EngineTime(START), endpoint(1), None);
        assert_eq!(reason, Some(ShareReason::Change(change)));
    }
    assert_eq!(gate.reason(&unchanged(1000, 0), EngineTime(START), endpoint(1), None), None);
}

/// Returns how many of 100 announces are shared. The announces with which peers join do not count.
fn shared_of_100(interval: Duration, instances: usize) -> f64 {
    const PEER_AGE: Duration = Duration::from_hours(3);
    let (mut all, mut shared) = (0, 0);
    for n in 0..200 {
        let mut instances = Instances::new(PEER_AGE, n, vec![0; instances]);
        let mut now = 0;
        // The peer announces for a day and a half.
        for round in 0_u32.. {
            if interval * round >= 12 * PEER_AGE {
                break;
            }
            now += millis(interval);
            let instance = round as usize % instances.seen.len();
            all += 1;
            shared += u32::from(instances.announces_at(instance, now));
        }
    }
    f64::from(shared) / f64::from(all) * 100.0
}

#[test]
fn few_announces_are_shared_however_many_instances_there_are() {
    for instances in [1, 2, 64] {
        for (interval, expected) in [(30, 1.2), (5 * 60, 11.0), (30 * 60, 67.0)] {
            let shared = shared_of_100(Duration::from_secs(interval), instances);
            assert!((shared - expected).abs() < expected / 10.0, "{instances} at {interval} s: {shared} %");
        }
    }
}

#[test]
fn endpoints_have_their_boundaries_at_different_moments() {
    let gate = ShareGate::new(Duration::from_hours(3));
    // All peers announce at the same moments, every 30 seconds. The announces that are shared are spread over the whole
    // quarter.
    let due = |round: u64| {
        let hearing = unchanged(round * 30_000, 30_000);
        let is_due = |n: &u32| gate.reason(&hearing, EngineTime(START + round * 30_000), endpoint(*n), None).is_some();
        (0..9000).filter(is_due).count()
    };
    let counts: Vec<_> = (1..=90).map(due).collect();
    assert_eq!(counts.iter().sum::<usize>(), 9000, "each peer once in a quarter of three hours");
    assert!(counts.iter().all(|count| (50..200).contains(count)), "{counts:?}");
}

#[test]
fn all_versions_give_an_endpoint_the_same_boundaries() {
    let spread_of = |endpoint: &str| spread(endpoint.parse().unwrap());
    assert_eq!(
        ["192.168.1.5:6881", "192.168.1.5:6882", "[2001:db8::5]:6881", "[2001:db8::6]:6881"].map(spread_of),
        [7_854_574_258_110_975_982, 1_366_196_496_547_591_125, 2_264_069_818_981_238_839, 362_298_024_792_534_276]
    );
}
