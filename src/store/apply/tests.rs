use super::*;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use proptest::prelude::*;

use crate::clock::Timestamp;
use crate::store::contract::from;
use crate::store::{Hearing, PeerChange, Selection, Store, StoreOptions};
use crate::topology::Topology;
use tracker_protocol::{InfoHash, PeerId, SwarmCounts};

const TORRENT: InfoHash = InfoHash([1; 20]);
const AGE: Duration = Duration::from_mins(10);

fn store_of(max_peers: u64) -> Store {
    Store::new(StoreOptions { peer_age: AGE, announce_interval: Duration::from_secs(30), max_peers }).shared()
}

fn store() -> Store {
    store_of(1_000_000)
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::after(Duration::from_secs(seconds))
}

fn leave(announcement: &Announcement) -> Announcement {
    Announcement { action: Action::Leave, ..*announcement }
}

fn completed(announcement: &Announcement) -> Announcement {
    Announcement { role: Role::Seed, action: Action::Stay { completed: true }, ..*announcement }
}

/// Returns another instance's record of an announce.
fn record(announcement: &Announcement, downloaded: u32) -> PeerRecord {
    let &Announcement { place, is_claim, port, peer_id, role, action, .. } = announcement;
    let news = match action {
        Action::Stay { completed } => PeerNews::Stays { port: port.unwrap(), role, completed },
        _ => PeerNews::Left { port },
    };
    PeerRecord { ip: place.ip, is_claim, peer_id, news, downloaded }
}

fn announce(store: &Store, now: Timestamp, announcement: &Announcement) -> Selection {
    store.announce(now, &Topology::default(), TORRENT, announcement)
}

fn apply(store: &Store, now: Timestamp, ago: Duration, record: &PeerRecord) -> Result<Applied, RecordRefusal> {
    store.apply(now, ago, &Topology::default(), TORRENT, None, record)
}

/// Applies a record that another instance heard `ago` seconds ago.
fn tell(store: &Store, now: Timestamp, ago: u64, announcement: &Announcement) -> Result<Applied, RecordRefusal> {
    apply(store, now, Duration::from_secs(ago), &record(announcement, 0))
}

/// Returns the peers that a client gets when it only reads the swarm.
fn peers(store: &Store, now: Timestamp) -> BTreeSet<String> {
    let asks = Announcement { action: Action::Peek, want: 1000, ..from("10.99.99.99:9") };
    let picked = announce(store, now, &asks).peers;
    let v4 = picked.v4.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string());
    v4.chain(picked.v6.iter().map(|peer| SocketAddr::from(peer.endpoint).to_string())).collect()
}

fn set<const N: usize>(addresses: [&str; N]) -> BTreeSet<String> {
    addresses.into_iter().map(str::to_owned).collect()
}

/// One step: the host, the client, whether it uses IPv4, whether it claims the address, what it does, and the seconds
/// that pass.
fn any_step() -> impl Strategy<Value = (u8, u8, bool, bool, u8, u64)> {
    (0..4_u8, 0..4_u8, any::<bool>(), any::<bool>(), 0..7_u8, prop_oneof![0..60_u64, 0..700_u64])
}

proptest! {
    #[test]
    fn a_record_does_what_the_announce_would_have_done(steps in proptest::collection::vec(any_step(), 0..40)) {
        let (heard, told) = (store(), store());
        let mut seconds = 0;
        for (host, client, is_v4, is_claim, what, pause) in steps {
            seconds += pause;
            let address = if is_v4 { format!("10.0.0.{host}:1") } else { format!("[fd00::{host}]:1") };
            let announcement = Announcement { peer_id: PeerId([client; 20]), is_claim, want: 0, ..from(&address) };
            let announcement = match what {
                0 => leave(&announcement),
                1 => completed(&announcement),
                2 => Announcement { role: Role::PartialSeed, ..announcement },
                3 | 4 => Announcement { role: Role::Seed, ..announcement },
                _ => announcement,
            };
            let selection = announce(&heard, at(seconds), &announcement);
            let applied = apply(&told, at(seconds), Duration::ZERO, &record(&announcement, 0));
            prop_assert_eq!(applied.is_ok(), selection.hearing.is_some());
            prop_assert_eq!(peers(&told, at(seconds)), peers(&heard, at(seconds)));
            prop_assert_eq!(told.scrape(at(seconds), TORRENT), heard.scrape(at(seconds), TORRENT));
            prop_assert_eq!(told.totals(), heard.totals());
        }
    }

    /// Records of one client come in any order, many from the same tick. The announce that was heard last decides.
    #[test]
    fn records_may_come_in_any_order(
        peer_age in prop_oneof![Just(AGE), Just(Duration::from_hours(3))],
        mut news in proptest::collection::vec((any::<bool>(), any::<bool>(), 1..100_u32), 1..12),
        order in proptest::collection::vec(any::<proptest::sample::Index>(), 12),
        others in prop_oneof![Just(0_u32), Just(100)],
    ) {
        let announce_interval = Duration::from_secs(30);
        let store = Store::new(StoreOptions { peer_age, announce_interval, max_peers: 1000 }).shared();
        (0..others).for_each(|n| drop(announce(&store, at(0), &from(&format!("10.1.0.{n}:1")))));
        // Moments are in tenths of a second.
        let now = Timestamp::from_tenths(3000);
        let mut heard = 0;
        let mut records: Vec<_> = news.drain(..).map(|(stays, is_seed, pause)| {
            heard += pause;
            let peer = from("10.0.0.1:1");
            let role = if is_seed { Role::Seed } else { Role::Leecher };
            (heard, if stays { Announcement { role, ..peer } } else { leave(&peer) })
        }).collect();
        let (_, last) = *records.last().unwrap();
        while !records.is_empty() {
            let (heard, announcement) = records.remove(order[records.len() - 1].index(records.len()));
            let ago = Duration::from_millis(u64::from(3000 - heard) * 100);
            prop_assert!(apply(&store, now, ago, &record(&announcement, 0)).is_ok());
        }
        let counts = store.scrape(now, TORRENT);
        let expected = match (last.action, last.role) {
            (Action::Leave, _) => (0, 0),
            (_, Role::Seed) => (1, 0),
            _ => (0, 1),
        };
        prop_assert_eq!((counts.complete, counts.incomplete - others), expected);
    }

    #[test]
    fn no_record_panics_and_counts_stay_right(
        records in proptest::collection::vec(
            (any::<IpAddr>(), any::<[bool; 4]>(), any::<Option<NonZeroU16>>(), 0..4_u8, 0..700_u64, any::<u32>()), 0..60,
        ),
    ) {
        let store = store();
        for (n, (ip, [is_claim, left, completed, is_seed], port, id, ago, downloaded)) in records.into_iter().enumerate() {
            let role = if is_seed { Role::Seed } else { Role::Leecher };
            let news = match port.filter(|_| !left) {
                Some(port) => PeerNews::Stays { port, role, completed },
                None => PeerNews::Left { port },
            };
            let record = PeerRecord { ip, is_claim, peer_id: PeerId([id; 20]), news, downloaded };
            let _ = apply(&store, at(n as u64 * 10), Duration::from_secs(ago), &record);
        }
        let listed = store.list(at(600), &Topology::default(), TORRENT).map_or(0, |listing| listing.peers.len());
        store.remove(TORRENT);
        prop_assert!(listed <= 60);
        prop_assert_eq!((store.totals().peers, store.totals().swarms), ([[0; 2]; 2], 0));
    }
}

#[test]
fn what_was_heard_last_stays() {
    let store = store();
    let peer = from("10.0.0.1:1");
    let seed = Announcement { role: Role::Seed, ..peer };
    announce(&store, at(100), &seed);
    assert_eq!(tell(&store, at(150), 100, &peer), Ok(Applied::Outdated));
    assert_eq!(store.scrape(at(150), TORRENT).complete, 1);
    assert_eq!(tell(&store, at(160), 10, &peer), Ok(Applied::Recorded));
    assert_eq!(store.scrape(at(160), TORRENT).incomplete, 1);
    // A record of another client at the same endpoint must be newer, too.
    let other = Announcement { peer_id: PeerId([9; 20]), ..seed };
    assert_eq!(tell(&store, at(160), 40, &other), Ok(Applied::Outdated));
    assert_eq!(tell(&store, at(160), 5, &other), Ok(Applied::Recorded));
    assert_eq!(store.scrape(at(160), TORRENT).complete, 1);
}

#[test]
fn a_peer_lives_from_the_moment_at_which_it_was_heard() {
    for others in [0, 300] {
        let store = store();
        let renewed = from("10.0.0.1:1");
        announce(&store, at(0), &renewed);
        for n in 0..others {
            announce(&store, at(400), &from(&format!("10.1.{}.{}:1", n / 250, n % 250)));
        }
        // The swarm has been swept, and expects that no peer expires soon.
        let count = |seconds| peers(&store, at(seconds)).len() - others;
        assert_eq!(count(400), 1);
        assert_eq!(tell(&store, at(400), 100, &renewed), Ok(Applied::Recorded));
        assert_eq!(tell(&store, at(400), 500, &from("10.0.0.2:1")), Ok(Applied::Recorded));
        assert_eq!((count(499), count(500), count(899), count(900)), (2, 1, 1, 0));
    }
}

#[test]
fn the_counts_of_a_swarm_are_without_what_has_expired() {
    let store = store();
    announce(&store, at(400), &from("10.0.0.1:1"));
    assert_eq!(store.scrape(at(400), TORRENT).incomplete, 1);
    // The swarm has been swept, and expects that no peer expires soon.
    assert_eq!(tell(&store, at(401), 500, &from("10.0.0.2:1")), Ok(Applied::Recorded));
    let count = |seconds| store.scrape(at(seconds), TORRENT).incomplete;
    assert_eq!((count(500), count(501), count(999), count(1000)), (2, 1, 1, 0));
}

#[test]
fn records_go_on_with_the_sweep_of_a_long_list() {
    // The peer age has as many ticks as possible.
    let options = StoreOptions {
        peer_age: Duration::from_millis(409_600),
        announce_interval: Duration::from_secs(30),
        max_peers: 10_000,
    };
    let store = Store::new(options).shared();
    let peer = |n: u32| from(&format!("{}:1", Ipv4Addr::from_bits(0x0a00_0000 + n)));
    (0..2000).for_each(|n| drop(announce(&store, at(0), &peer(n))));
    (1000..2000).for_each(|n| drop(announce(&store, at(300), &peer(n))));
    for seconds in 0..100 {
        tell(&store, at(420 + seconds), 0, &peer(1000)).unwrap();
    }
    let [[_, left], _] = store.totals().peers;
    assert!(left < 1100, "{left} peers are left, 1000 of them alive");
}

#[test]
fn a_new_instance_learns_what_was_heard_before_it_started() {
    let store = store();
    assert_eq!(tell(&store, at(1), 400, &from("10.0.0.1:1")), Ok(Applied::Recorded));
    assert_eq!(tell(&store, at(1), 300, &from("10.0.0.2:1")), Ok(Applied::Recorded));
    assert_eq!(tell(&store, at(1), 299, &leave(&from("10.0.0.2:1"))), Ok(Applied::Left));
    assert_eq!(peers(&store, at(1)), set(["10.0.0.1:1"]));
    assert_eq!(peers(&store, at(200)), set(["10.0.0.1:1"]));
    assert_eq!(peers(&store, at(201)), set([]));
}

#[test]
fn a_leave_removes_only_what_was_not_heard_since() {
    let store = store();
    let client = from("10.0.0.5:1");
    announce(&store, at(0), &client);
    announce(&store, at(120), &client);
    assert_eq!(tell(&store, at(130), 20, &leave(&client)), Ok(Applied::Left));
    assert_eq!(peers(&store, at(130)), set(["10.0.0.5:1"]), "the client has announced again since");
    assert_eq!(tell(&store, at(130), 10, &leave(&client)), Ok(Applied::Left));
    assert_eq!(peers(&store, at(130)), set([]));

    let peer = from("10.0.0.1:1");
    let other_port = Announcement { port: NonZeroU16::new(2), ..peer };
    announce(&store, at(100), &peer);
    announce(&store, at(120), &other_port);
    assert_eq!(tell(&store, at(130), 31, &leave(&peer)), Ok(Applied::Outdated), "the peer joined after this");
    assert_eq!(tell(&store, at(130), 20, &leave(&from("10.0.0.9:1"))), Ok(Applied::Left), "an unknown peer");
    assert_eq!(peers(&store, at(130)), set(["10.0.0.1:1", "10.0.0.1:2"]));
    let nameless = Announcement { port: None, ..leave(&peer) };
    assert_eq!(tell(&store, at(130), 0, &nameless), Ok(Applied::Left));
    assert_eq!(peers(&store, at(130)), set([]), "at all ports");
}

#[test]
fn a_peer_that_has_left_is_not_brought_back_by_what_was_heard_before() {
    let store = store();
    let peer = from("10.0.0.1:1");
    announce(&store, at(100), &peer);
    announce(&store, at(110), &leave(&peer));
    assert_eq!(tell(&store, at(111), 5, &peer), Ok(Applied::Outdated));
    assert_eq!(tell(&store, at(130), 10, &leave(&peer)), Ok(Applied::Left));
    assert_eq!(tell(&store, at(131), 15, &peer), Ok(Applied::Outdated));
    assert_eq!(peers(&store, at(131)), set([]));
    assert_eq!(tell(&store, at(131), 5, &peer), Ok(Applied::Recorded), "the peer has come back");
    assert_eq!(peers(&store, at(131)), set(["10.0.0.1:1"]));
}

#[test]
fn a_download_counts_once_wherever_it_was_announced() {
    let store = store();
    let downloaded = || store.scrape(at(0), TORRENT).downloaded;
    let [one, two] = ["10.0.0.1:1", "10.0.0.2:1"].map(from);
    announce(&store, at(0), &one);
    announce(&store, at(0), &two);
    assert_eq!(announce(&store, at(0), &completed(&one)).counts.downloaded, 1);
    // The other instance has heard only the second download, and counted it.
    for _ in 0..3 {
        assert_eq!(apply(&store, at(0), Duration::ZERO, &record(&completed(&two), 1)), Ok(Applied::Recorded));
        assert_eq!(downloaded(), 2, "a record that comes again adds no download");
    }
    // The clients repeat `completed` at this instance.
    announce(&store, at(0), &completed(&one));
    announce(&store, at(0), &completed(&two));
    assert_eq!(downloaded(), 2);
    // The other instance has counted more downloads. Its count is used even from an outdated record.
    let seed = Announcement { role: Role::Seed, ..one };
    apply(&store, at(0), Duration::ZERO, &record(&seed, 7)).unwrap();
    assert_eq!(downloaded(), 7);
    announce(&store, at(100), &seed);
    assert_eq!(apply(&store, at(100), Duration::from_secs(50), &record(&one, 9)), Ok(Applied::Outdated));
    assert_eq!(downloaded(), 9);
    apply(&store, at(100), Duration::ZERO, &record(&seed, 1)).unwrap();
    assert_eq!(downloaded(), 9);
}

#[test]
fn a_record_that_no_client_could_use_is_dropped() {
    let store = store();
    for ip in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "::ffff:10.0.0.1", "::ffff:8.8.8.8"] {
        let record = PeerRecord { ip: ip.parse().unwrap(), ..record(&from("10.0.0.1:1"), 5) };
        assert_eq!(apply(&store, at(1), Duration::ZERO, &record), Err(RecordRefusal::Address), "{ip}");
        let left = PeerRecord { news: PeerNews::Left { port: None }, ..record };
        assert_eq!(apply(&store, at(1), Duration::ZERO, &left), Err(RecordRefusal::Address), "{ip}");
    }
    for ago in [600, 10_000, u64::MAX / 1000] {
        assert_eq!(tell(&store, at(1), ago, &from("10.0.0.1:1")), Err(RecordRefusal::Expired));
    }
    assert_eq!(apply(&store, at(1), Duration::MAX, &record(&from("10.0.0.1:1"), 0)), Err(RecordRefusal::Expired));
    assert_eq!((store.totals().swarms, store.scrape(at(1), TORRENT)), (0, SwarmCounts::default()));
}

#[test]
fn a_claim_that_another_instance_tells_changes_nothing_about_a_peer_that_announces_itself() {
    for is_told in [false, true] {
        let store = store();
        let victim = from("10.0.0.1:1");
        if is_told {
            tell(&store, at(0), 0, &victim).unwrap();
        } else {
            announce(&store, at(0), &victim);
        }
        let claim = Announcement { is_claim: true, role: Role::Seed, ..victim };
        let other = Announcement { peer_id: PeerId([6; 20]), ..claim };
        assert_eq!(tell(&store, at(10), 0, &claim), Err(RecordRefusal::Claimed));
        assert_eq!(tell(&store, at(10), 0, &other), Err(RecordRefusal::Claimed));
        assert_eq!(tell(&store, at(11), 0, &leave(&claim)), Ok(Applied::Left));
        assert_eq!(store.scrape(at(11), TORRENT).incomplete, 1);
        // The peer has expired. Claims of its address count until a peer announces from there.
        tell(&store, at(600), 0, &other).unwrap();
        assert_eq!(store.scrape(at(600), TORRENT).complete, 1);
        tell(&store, at(601), 0, &victim).unwrap();
        let SwarmCounts { complete, incomplete, .. } = store.scrape(at(601), TORRENT);
        assert_eq!((complete, incomplete), (0, 1));
    }
}

#[test]
fn a_flood_that_another_instance_tells_takes_no_torrent_from_another_source() {
    for is_claim in [false, true] {
        let store = store_of(600);
        let torrent = |n: u32| {
            let mut info_hash = [0; 20];
            info_hash[..4].copy_from_slice(&n.to_be_bytes());
            InfoHash(info_hash)
        };
        for n in 0..300 {
            let of_host = from(&format!("10.0.{}.{}:1", n / 250, n % 250));
            store.announce(at(0), &Topology::default(), torrent(n), &of_host);
        }
        for n in 0..5000 {
            let ip = if is_claim { Ipv4Addr::from_bits(0xc0a8_0000 + n) } else { Ipv4Addr::new(10, 200, 200, 200) };
            let flood = PeerRecord { ip: ip.into(), is_claim, ..record(&from("10.9.9.9:1"), 0) };
            let _ = store.apply(at(1), Duration::ZERO, &Topology::default(), torrent(1000 + n), None, &flood);
        }
        let kept = (0..300).filter(|&n| store.scrape(at(1), torrent(n)).incomplete == 1).count();
        let totals = store.totals();
        assert_eq!(kept, 300, "{is_claim}");
        assert!(totals.swarms <= 600 && totals.peers.iter().flatten().sum::<i64>() <= 600, "{totals:?}");
    }
}

#[test]
fn an_announce_tells_what_other_instances_must_hear() {
    let store = store();
    let hears = |seconds: u64, announcement: &Announcement| announce(&store, at(seconds), announcement).hearing;
    let told = |seconds, silence: Option<u64>, change| {
        Some(Hearing { at: at(seconds), silence: silence.map(Duration::from_secs), change })
    };
    let peer = from("10.0.0.1:1");
    let seed = Announcement { role: Role::Seed, ..peer };
    let other = Announcement { peer_id: PeerId([9; 20]), ..seed };
    assert_eq!(hears(0, &peer), told(0, None, Some(PeerChange::Joined)));
    assert_eq!(hears(30, &peer), told(30, Some(30), None));
    let again = Announcement { started: true, ..peer };
    assert_eq!(
        hears(30, &again),
        told(30, Some(0), Some(PeerChange::Joined)),
        "another instance may have heard the peer leave"
    );
    assert_eq!(hears(70, &completed(&peer)), told(70, Some(40), Some(PeerChange::Completed)));
    assert_eq!(hears(80, &completed(&peer)), told(80, Some(10), None), "the client repeats `completed`");
    assert_eq!(hears(90, &peer), told(90, Some(10), Some(PeerChange::Changed)), "the role");
    assert_eq!(hears(95, &seed), told(95, Some(5), Some(PeerChange::Changed)));
    assert_eq!(hears(99, &other), told(99, Some(4), Some(PeerChange::Changed)), "the id");
    // A record of another instance counts as an announce.
    tell(&store, at(120), 10, &other).unwrap();
    assert_eq!(hears(130, &other), told(130, Some(20), None));
    assert_eq!(hears(140, &leave(&other)), told(140, None, Some(PeerChange::Left)));
    assert_eq!(
        hears(150, &leave(&other)),
        told(150, None, Some(PeerChange::Left)),
        "other instances may know the peer"
    );
    assert_eq!(hears(160, &from("10.0.0.1:0")), None, "the peer is not recorded");
    assert_eq!(hears(160, &Announcement { action: Action::Peek, ..peer }), None);
    assert_eq!(hears(170, &peer), told(170, None, Some(PeerChange::Joined)));
    assert_eq!(hears(180, &Announcement { is_claim: true, ..seed }), None, "the peer announces itself");
    store.remove(TORRENT);
    assert_eq!(hears(190, &Announcement { action: Action::Peek, ..peer }), None);
    assert_eq!(hears(190, &leave(&peer)), told(190, None, Some(PeerChange::Left)));
    assert_eq!(store.totals().swarms, 0);
}

#[test]
fn a_store_that_is_not_shared_tells_nothing() {
    let options = StoreOptions { peer_age: AGE, announce_interval: Duration::from_secs(30), max_peers: 1000 };
    let store = Store::new(options);
    for announcement in [from("10.0.0.1:1"), completed(&from("10.0.0.1:1")), leave(&from("10.0.0.1:1"))] {
        assert_eq!(announce(&store, at(0), &announcement).hearing, None);
    }
}
