use super::*;
use std::net::Ipv4Addr;

const START: u64 = 1_800_000_000;

fn at(tenths: u32) -> Timestamp {
    Timestamp::from_tenths(tenths)
}

fn blob(text: &str) -> BlobKey {
    BlobKey::parse(text.as_bytes()).unwrap()
}

fn host(n: u8, zone: Option<usize>) -> LeaseHolder {
    let zone = zone.and_then(ZoneId::nth);
    let address = ZonedIp { ip: Ipv4Addr::new(10, 0, 0, n).into(), zone };
    LeaseHolder { address, port: NonZeroU16::new(6881).unwrap(), swarm: None, size: None }
}

fn generation(claimed: Result<Claimed, Busy>) -> u64 {
    match claimed {
        Ok(Claimed::Granted { generation, .. }) => generation,
        other => panic!("{other:?}"),
    }
}

fn leader(claimed: Result<Claimed, Busy>) -> IpAddr {
    match claimed {
        Ok(Claimed::Held(lease)) => lease.holder.address.ip,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_host_of_a_zone_gets_the_lease() {
    let leases = Leases::new(START);
    let first = generation(leases.claim(at(0), &blob("a"), host(1, None)));
    assert_eq!(leader(leases.claim(at(1), &blob("a"), host(2, None))), host(1, None).address.ip);
    // A host that asks again has forgotten its lease, or runs two processes. It learns that the lease is held.
    assert_eq!(leader(leases.claim(at(1), &blob("a"), host(1, None))), host(1, None).address.ip);
    let in_zone = generation(leases.claim(at(1), &blob("a"), host(3, Some(0))));
    let in_other = generation(leases.claim(at(1), &blob("a"), host(4, Some(1))));
    assert_eq!(leader(leases.claim(at(1), &blob("a"), host(5, Some(1)))), host(4, Some(1)).address.ip);
    let of_other_blob = generation(leases.claim(at(1), &blob("b"), host(2, None)));
    assert!(first < in_zone && in_zone < in_other && in_other < of_other_blob);
    assert_eq!(leases.count(), 4);
    for (zone, n) in [(None, 1), (ZoneId::nth(0), 3), (ZoneId::nth(1), 4)] {
        let found = leases.find(at(1), &blob("a"), zone).unwrap();
        assert_eq!(found.holder.address.ip, host(n, None).address.ip);
    }
    assert_eq!(leases.find(at(1), &blob("a"), ZoneId::nth(2)), None);
}

#[test]
fn a_lease_ends_15_seconds_after_its_last_renewal() {
    let leases = Leases::new(START);
    let first = generation(leases.claim(at(0), &blob("a"), host(1, None)));
    assert_eq!(leases.renew(at(149), &blob("a"), first, 7, Some(9)), Ok(()));
    let held = leases.find(at(298), &blob("a"), None).unwrap();
    assert_eq!((held.have, held.holder.size), (7, Some(9)));
    assert_eq!(leases.find(at(299), &blob("a"), None), None);
    let second = generation(leases.claim(at(299), &blob("a"), host(2, None)));
    assert!(second > first);
    assert_eq!(leases.renew(at(299), &blob("a"), first, 8, None), Err(StaleLease::Superseded));
    assert_eq!(leases.release(at(299), &blob("a"), first), Err(StaleLease::Superseded));
    assert_eq!(leases.renew(at(300), &blob("a"), second, 8, None), Ok(()));
    assert_eq!(leases.renew(at(450), &blob("a"), second, 8, None), Err(StaleLease::Ended));
    assert_eq!(leases.release(at(450), &blob("a"), second), Err(StaleLease::Ended));
    assert_eq!(leases.count(), 0);
}

/// Lets host `n` ask for the lease at this moment. Returns the host that lost it to `n`, and why.
fn taken_from(leases: &Leases, tenths: u32, n: u8) -> Option<(IpAddr, Takeover)> {
    match leases.claim(at(tenths), &blob("a"), host(n, None)) {
        Ok(Claimed::Granted { taken_from, .. }) => taken_from,
        Ok(Claimed::Held(_)) => None,
        Err(Busy) => panic!("busy"),
    }
}

/// Renews the lease in each of these seconds. `have` gives the holder's bytes in a second.
fn heartbeats(leases: &Leases, lease: u64, seconds: std::ops::RangeInclusive<u32>, have: impl Fn(u32) -> u64) {
    for second in seconds {
        assert_eq!(leases.renew(at(second * 10), &blob("a"), lease, have(second), None), Ok(()), "{second} s");
    }
}

#[test]
fn another_host_gets_the_lease_of_a_holder_without_progress() {
    let leases = Leases::new(START);
    let first = generation(leases.claim(at(0), &blob("a"), host(1, None)));
    // The bytes grow until the fifth second. In the seventh second there are fewer bytes.
    heartbeats(&leases, first, 1..=14, |second| if second == 7 { 3 } else { second.min(5).into() });
    assert_eq!(taken_from(&leases, 149, 2), None);
    // The eighth heartbeat had more bytes than the seventh. So the time counts from the eighth second.
    heartbeats(&leases, first, 15..=17, |_| 5);
    assert_eq!(taken_from(&leases, 179, 2), None);
    // The holder itself gets no new lease, and thus no more time.
    assert_eq!(taken_from(&leases, 180, 1), None);
    assert_eq!(taken_from(&leases, 180, 2), Some((host(1, None).address.ip, Takeover::Stuck)));
    let next = leases.find(at(180), &blob("a"), None).unwrap();
    assert!(next.generation > first && next.holder == host(2, None) && next.have == 0);
    assert_eq!(leases.renew(at(181), &blob("a"), first, 9, None), Err(StaleLease::Superseded));
    assert_eq!(leases.release(at(181), &blob("a"), first), Err(StaleLease::Superseded));
    assert_eq!((leases.count(), leases.0.lock().by_address.len()), (1, 1));
    // The new holder has ten seconds of its own.
    heartbeats(&leases, next.generation, 19..=27, |_| 0);
    assert_eq!(taken_from(&leases, 279, 3), None);
    assert_eq!(taken_from(&leases, 280, 3), Some((host(2, None).address.ip, Takeover::Stuck)));
}

#[test]
fn without_another_host_a_holder_keeps_the_lease() {
    let leases = Leases::new(START);
    let lease = generation(leases.claim(at(0), &blob("a"), host(1, None)));
    heartbeats(&leases, lease, 1..=60, |_| 0);
    assert_eq!(leases.expire(at(600)), []);
    // A host of another zone gets a lease of its own.
    generation(leases.claim(at(600), &blob("a"), host(4, Some(0))));
    assert_eq!(leases.renew(at(601), &blob("a"), lease, 0, None), Ok(()));
}

#[test]
fn a_holder_that_has_all_bytes_has_15_seconds_to_finish() {
    let leases = Leases::new(START);
    let lease = generation(leases.claim(at(0), &blob("a"), LeaseHolder { size: Some(9), ..host(1, None) }));
    heartbeats(&leases, lease, 1..=17, |second| if second < 3 { 8 } else { 9 });
    assert_eq!(taken_from(&leases, 179, 2), None);
    assert_eq!(taken_from(&leases, 180, 2), Some((host(1, None).address.ip, Takeover::Stuck)));
}

#[test]
fn another_host_gets_the_lease_of_a_holder_whose_heartbeats_stopped() {
    let leases = Leases::new(START);
    let lease = generation(leases.claim(at(0), &blob("a"), LeaseHolder { size: Some(1), ..host(1, None) }));
    heartbeats(&leases, lease, 1..=1, |_| 1);
    assert_eq!(taken_from(&leases, 39, 2), None);
    assert_eq!(taken_from(&leases, 40, 2), Some((host(1, None).address.ip, Takeover::Silent)));
}

#[test]
fn a_holder_that_never_renewed_keeps_the_lease_for_15_seconds() {
    let leases = Leases::new(START);
    let first = generation(leases.claim(at(0), &blob("a"), host(1, None)));
    assert_eq!(leader(leases.claim(at(149), &blob("a"), host(2, None))), host(1, None).address.ip);
    assert!(generation(leases.claim(at(150), &blob("a"), host(2, None))) > first);
}

#[test]
fn a_renewal_without_a_size_keeps_the_size() {
    let leases = Leases::new(START);
    let lease = generation(leases.claim(at(0), &blob("a"), LeaseHolder { size: Some(5), ..host(1, None) }));
    leases.renew(at(1), &blob("a"), lease, 1, None).unwrap();
    assert_eq!(leases.find(at(1), &blob("a"), None).unwrap().holder.size, Some(5));
}

#[test]
fn a_holder_that_is_done_frees_the_lease() {
    let leases = Leases::new(START);
    let first = generation(leases.claim(at(0), &blob("a"), host(1, None)));
    let other_zone = generation(leases.claim(at(0), &blob("a"), host(3, Some(0))));
    assert_eq!(leases.release(at(1), &blob("a"), first), Ok(()));
    assert_eq!(leases.release(at(1), &blob("a"), first), Err(StaleLease::Superseded));
    assert_eq!(leases.release(at(1), &blob("b"), first), Err(StaleLease::Ended));
    assert!(generation(leases.claim(at(1), &blob("a"), host(2, None))) > other_zone);
}

#[test]
fn expired_leases_are_dropped_in_housekeeping() {
    let leases = Leases::new(START);
    generation(leases.claim(at(0), &blob("a"), host(1, None)));
    let late = generation(leases.claim(at(1), &blob("a"), host(3, Some(0))));
    assert_eq!(leases.expire(at(149)), []);
    assert_eq!(leases.expire(at(150)), [blob("a")]);
    assert_eq!(leases.count(), 1);
    assert_eq!(leases.renew(at(150), &blob("a"), late, 0, None), Ok(()));
    assert_eq!(leases.expire(at(299)), []);
    assert_eq!(leases.expire(at(300)), [blob("a")]);
    let table = leases.0.lock();
    assert!(table.by_key.is_empty() && table.by_address.is_empty() && table.count == 0);
}

#[test]
fn leases_are_bounded_for_each_address_and_in_total() {
    let leases = Leases::new(START);
    let keys = |n: usize| blob(&n.to_string());
    let of = |n: usize| {
        let [high, low] = u16::try_from(n / MAX_LEASES_PER_ADDRESS).unwrap().to_be_bytes();
        let ip = Ipv4Addr::new(10, 0, high, low).into();
        LeaseHolder { address: ZonedIp { ip, zone: None }, ..host(1, None) }
    };
    for n in 0..MAX_LEASES_PER_ADDRESS {
        generation(leases.claim(at(0), &keys(n), of(0)));
    }
    assert_eq!(leases.claim(at(0), &keys(MAX_LEASES), of(0)), Err(Busy));
    for n in MAX_LEASES_PER_ADDRESS..MAX_LEASES {
        generation(leases.claim(at(0), &keys(n), of(n)));
    }
    assert_eq!(leases.claim(at(0), &keys(MAX_LEASES), of(MAX_LEASES * 2)), Err(Busy));
    // At the limit on the total, a lease can still change hands, because the total does not grow. But the new holder's
    // address must be below its own limit.
    let lease = leases.find(at(0), &keys(MAX_LEASES - 1), None).unwrap().generation;
    leases.renew(at(0), &keys(MAX_LEASES - 1), lease, 0, None).unwrap();
    assert_eq!(leases.claim(at(30), &keys(MAX_LEASES - 1), of(0)), Err(Busy));
    assert_eq!(leases.find(at(30), &keys(MAX_LEASES - 1), None).unwrap().generation, lease);
    generation(leases.claim(at(30), &keys(MAX_LEASES - 1), of(MAX_LEASES * 2)));
    assert_eq!(leases.count(), MAX_LEASES);
    // A host that asks for a held lease still learns its holder, although no lease could be added.
    assert!(matches!(leases.claim(at(0), &keys(0), of(0)), Ok(Claimed::Held(_))));
    assert_eq!(leases.expire(at(150)).len(), MAX_LEASES - 1);
    generation(leases.claim(at(150), &keys(MAX_LEASES), of(0)));
}

#[test]
fn generations_grow_across_starts_and_fit_into_json() {
    let first = generation(Leases::new(START).claim(at(0), &blob("a"), host(1, None)));
    let next = generation(Leases::new(START + 1).claim(at(0), &blob("a"), host(1, None)));
    assert!(first < next && next < 1 << 53);
}
