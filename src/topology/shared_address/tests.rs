use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn after(duration: Duration) -> Timestamp {
    Timestamp::after(duration)
}

/// A detector, and a record of the clients that have joined each swarm from each address.
struct Lan {
    watch: SharedAddressDetector,
    joined: std::collections::HashSet<(IpAddr, u8, u8)>,
}

impl Lan {
    fn new() -> Self {
        Self { watch: SharedAddressDetector::new(Gauge::default()), joined: std::collections::HashSet::new() }
    }

    /// Announces for a client. Returns whether the client gets a warning.
    fn announces(&mut self, now: Timestamp, at: IpAddr, swarm: u8, client: u8) -> bool {
        let others = self.joined.iter().filter(|(ip, of, _)| (*ip, *of) == (at, swarm)).count();
        let is_new = self.joined.insert((at, swarm, client));
        let sighting = Sighting {
            source: at,
            swarm: InfoHash([swarm; 20]),
            client: PeerId([client; 20]),
            others: if is_new { others } else { 0 },
        };
        self.watch.saw(now, &sighting).is_some()
    }

    /// Announces twice for each of this many clients of one swarm, all at one address. Returns whether the last
    /// announce gets a warning.
    fn share(&mut self, now: Timestamp, at: IpAddr, clients: u8) -> bool {
        let mut warned = false;
        for _ in 0..2 {
            (0..clients).for_each(|client| warned = self.announces(now, at, 1, client));
        }
        warned
    }

    fn count(&self, now: Timestamp) -> usize {
        let notices = self.watch.notices(now).len();
        assert_eq!(self.watch.gauge.get(), i64::try_from(notices).unwrap());
        notices
    }
}

#[test]
fn an_address_is_shared_for_as_long_as_clients_announce_from_there() {
    let bridge = ip("172.17.0.1");
    let start = Timestamp::after(Duration::ZERO);
    let mut lan = Lan::new();
    assert!(!lan.share(start, bridge, 4) && !lan.share(start, ip("8.8.8.8"), 100));
    assert_eq!(lan.count(start), 0);

    assert!(lan.share(start, bridge, 5));
    assert_eq!(lan.count(start), 1);
    let later = after(Duration::from_mins(59));
    assert!(lan.announces(later, bridge, 9, 1), "another swarm");
    assert!(!lan.announces(later, ip("172.17.0.2"), 1, 1));
    assert!(lan.watch.warning(later, bridge).is_some_and(|warning| warning.contains("172.17.0.1")));

    // The address was found more than an hour ago, but its last announce came less than an hour ago.
    assert_eq!(lan.count(after(Duration::from_mins(61))), 1);
    let mended = after(Duration::from_hours(2));
    assert_eq!(lan.count(mended), 0);
    assert!(!lan.announces(mended, bridge, 1, 1) && lan.watch.warning(mended, bridge).is_none());
}

#[test]
fn a_client_that_comes_back_with_another_id_counts_once() {
    let home = ip("192.168.1.5");
    for announces in 1..4 {
        let mut lan = Lan::new();
        // Each new id announces while client 0 stays in the swarm.
        for client in 1..50 {
            assert!(!lan.announces(Timestamp::after(Duration::ZERO), home, 1, 0));
            for _ in 0..announces {
                assert!(!lan.announces(Timestamp::after(Duration::ZERO), home, 1, client), "{client}");
            }
        }
        assert_eq!(lan.count(Timestamp::after(Duration::ZERO)), 0);
    }
}

#[test]
fn the_swarm_with_the_most_clients_is_watched() {
    let mut lan = Lan::new();
    let (now, bridge) = (Timestamp::after(Duration::ZERO), ip("172.17.0.1"));
    assert!(!lan.announces(now, bridge, 7, 1) && !lan.announces(now, bridge, 7, 2), "two clients of another swarm");
    assert!(!lan.share(now, bridge, 5), "the swarm is watched from its third client on");
    assert!(lan.share(now, bridge, 5));
}

#[test]
fn notices_name_the_cause_and_the_remedy() {
    let said = |address| Gateway { ip: ip(address), until: Timestamp::after(Duration::ZERO) }.to_string();
    for bridge in ["172.17.0.1", "172.18.0.1", "172.31.16.1"] {
        assert!(said(bridge).contains("network_mode: host"), "{bridge}");
    }
    assert!(said("192.168.65.1").contains("Docker Desktop"));
    for address in ["127.0.0.1", "::1", "172.17.0.2", "172.16.0.1", "192.168.1.1", "fd00::1"] {
        let said = said(address);
        assert!(
            said.contains("docs/reverse-proxy.md") && !said.contains("Docker") && !said.contains(address),
            "{said}"
        );
    }
}

#[test]
fn the_oldest_addresses_are_forgotten() {
    let mut lan = Lan::new();
    let bridge = ip("172.17.0.1");
    let mut now = Duration::ZERO;
    assert!(lan.share(after(now), bridge, 5));
    for n in 0..=255 {
        now += Duration::from_secs(1);
        lan.share(after(now), [10, 0, 0, n].into(), 5);
        assert!(lan.announces(after(now), bridge, 1, 1), "the bridge is in use, so it is not forgotten");
    }
    assert_eq!(lan.count(after(now)), MOST);
    assert!(lan.watch.warning(after(now), ip("10.0.0.0")).is_none());
    // The number of suspected addresses is limited, too: the oldest are forgotten.
    let mut lan = Lan::new();
    for n in 0..=255 {
        now += Duration::from_secs(1);
        (0..2).for_each(|client| assert!(!lan.announces(after(now), [10, 0, 1, n].into(), 1, client)));
    }
    assert_eq!(lan.watch.watched.lock().suspects.len(), MOST);
    assert!(lan.share(after(now), bridge, 5));
}
