use super::*;

/// A value with the weight that it contains.
#[derive(Debug, Default)]
struct Thing(u32);

impl Weigh for Thing {
    fn weight(&self) -> u32 {
        self.0
    }
}

const IDLE: Duration = Duration::from_mins(10);
/// The weight of a small torrent, roughly.
const ONE: u32 = 30;
const CAPACITY: u32 = 100 * ONE;

struct FilledCache {
    cache: TorrentCache<Thing>,
    start: Instant,
}

impl FilledCache {
    fn new() -> Self {
        Self { cache: TorrentCache::new(CAPACITY, IDLE), start: clock::now() }
    }

    /// Uses torrent `n` from a host that uses no other torrent, and adds `by` to the weight of the torrent.
    fn grow(&self, n: u32, minute: u64, by: u32) {
        self.grow_from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n).into(), n, minute, by);
    }

    fn grow_from(&self, source: IpAddr, n: u32, minute: u64, by: u32) {
        self.cache.with(hash(n), source, self.at(minute), |thing| thing.0 += by);
    }

    fn housekeep(&self, minute: u64) {
        self.cache.iter().for_each(|handle| self.cache.drop_if_idle(&handle, self.at(minute)));
    }

    fn at(&self, minute: u64) -> Instant {
        self.start + Duration::from_mins(minute)
    }

    fn weight(&self) -> u32 {
        self.cache.iter().map(|handle| self.cache.with_handle(&handle, |thing| thing.0).unwrap_or_default()).sum()
    }

    /// Returns the torrents that are in the cache.
    fn here(&self) -> Vec<u32> {
        let mut here: Vec<_> = self.cache.iter().map(|Handle(cell)| number(cell.info_hash)).collect();
        here.sort_unstable();
        assert_eq!(i64::try_from(here.len()).unwrap(), self.cache.len());
        assert!(self.cache.weight.load(Relaxed) <= i64::from(CAPACITY));
        here
    }
}

fn hash(n: u32) -> InfoHash {
    let mut hash = [0; 20];
    hash[16..].copy_from_slice(&n.to_be_bytes());
    InfoHash(hash)
}

fn number(InfoHash([.., a, b, c, d]): InfoHash) -> u32 {
    u32::from_be_bytes([a, b, c, d])
}

#[test]
fn what_is_used_stays_and_what_is_not_goes() {
    let setup = FilledCache::new();
    setup.grow(1, 0, 1);
    setup.grow(2, 0, 1);
    for minute in 1..60 {
        setup.grow(1, minute, 0);
        setup.housekeep(minute);
    }
    assert_eq!(setup.here(), [1]);
    assert_eq!(setup.cache.with_known(hash(1), Some(setup.at(60)), |thing| thing.0), Some(1));
    // Neither iterating nor changing a value on behalf of an upstream counts as a use.
    for minute in 61..120 {
        for handle in setup.cache.iter() {
            setup.cache.with_handle(&handle, |thing| thing.0 += 1);
        }
        setup.cache.with_known(hash(1), None, |thing| thing.0 += 1);
        setup.housekeep(minute);
    }
    assert!(setup.here().is_empty());
    assert_eq!(setup.cache.with_known(hash(1), None, |thing| thing.0), None);
    assert_eq!(setup.cache.evicted(), 0);
}

#[test]
fn a_handle_of_a_dropped_value_changes_nothing_and_the_next_use_gets_a_new_one() {
    let setup = FilledCache::new();
    setup.grow(1, 0, 5);
    let handles: Vec<_> = setup.cache.iter().collect();
    setup.housekeep(60);
    assert_eq!(setup.cache.with_handle(&handles[0], |thing| thing.0), None);
    setup.grow(1, 60, 0);
    assert_eq!(setup.weight(), 0);
    assert_eq!(setup.here(), [1]);
}

#[test]
fn a_flood_takes_nothing_that_is_used() {
    type Flood = (&'static str, fn(u32) -> IpAddr, u32);
    let floods: [Flood; 3] = [
        ("one source", |_| [10, 200, 0, 1].into(), 1),
        ("one source, twice each", |_| [10, 200, 0, 1].into(), 2),
        ("a source each", |n| std::net::Ipv4Addr::from_bits(0x0b00_0000 + n).into(), 1),
    ];
    for (kind, source, times) in floods {
        let setup = FilledCache::new();
        (0..50).for_each(|n| setup.grow(n, 0, ONE));
        (0..50).for_each(|n| setup.grow(n, 1, 0));
        for n in 0..10_000 {
            (0..times).for_each(|_| setup.grow_from(source(n), 1_000 + n, 2, ONE / times));
        }
        let here = setup.here();
        assert_eq!(here.iter().filter(|&&n| n < 50).count(), 50, "{kind}");
        assert!(setup.cache.evicted() > 9_000, "{kind}");
    }
}

#[test]
fn what_grows_takes_the_room_of_others() {
    let setup = FilledCache::new();
    (0..50).for_each(|n| setup.grow(n, 0, ONE));
    assert_eq!(setup.here().len(), 50);
    (0..60).for_each(|_| setup.grow(0, 0, ONE));
    assert!(setup.weight() <= CAPACITY);
    let here = setup.here();
    assert!(here.len() < 50 && here.contains(&0), "{here:?}");
}

#[test]
fn all_threads_find_the_same_value() {
    let setup = FilledCache::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|n| setup.grow(n % 10, 0, u32::from(n < 10))));
        }
    });
    let all = setup.here().into_iter().map(|n| setup.cache.with_known(hash(n), None, |thing| thing.0).unwrap());
    assert_eq!(all.collect::<Vec<_>>(), [4; 10]);
}
