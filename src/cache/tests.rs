use super::*;

/// As heavy as it says.
#[derive(Default)]
struct Thing(u32);

impl Weigh for Thing {
    fn weight(&self) -> u32 {
        self.0
    }
}

const IDLE: Duration = Duration::from_mins(10);
/// What a torrent weighs at least, about.
const ONE: u32 = 30;
const CAPACITY: u32 = 100 * ONE;

struct Setup {
    cache: TorrentCache<Thing>,
    dropped: Arc<AtomicI64>,
    start: Instant,
}

impl Setup {
    fn new() -> Self {
        let dropped = Arc::new(AtomicI64::new(0));
        let count = Arc::clone(&dropped);
        let cache = TorrentCache::new(CAPACITY.into(), IDLE, move |_: &mut Thing| {
            count.fetch_add(1, Relaxed);
        });
        Self { cache, dropped, start: Instant::now() }
    }

    fn grow(&self, n: u32, minute: u64, by: u32) {
        self.cache.with(hash(n), self.at(minute), |thing| thing.0 += by);
    }

    fn housekeep(&self, minute: u64) {
        self.cache.iter().for_each(|held| self.cache.drop_if_idle(&held, self.at(minute)));
        self.settle();
    }

    /// Has moka do all that it still has to. It does so much at a time, and stops in the middle when that takes long.
    fn settle(&self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        loop {
            self.cache.housekeep();
            let ours = self.cache.iter().count() as u64;
            let has_room = self.cache.moka.weighted_size() <= CAPACITY.into();
            if has_room && ours == self.cache.moka.entry_count() {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "of {ours} moka knows {}", self.cache.moka.entry_count());
        }
    }

    fn at(&self, minute: u64) -> Instant {
        self.start + Duration::from_mins(minute)
    }

    /// What it has grown to; nothing once it is dropped.
    fn weight(&self, held: &Held<Thing>) -> u32 {
        self.cache.with_held(held, |thing| thing.0).unwrap_or_default()
    }

    /// Those that are there, of which moka and our own tables know the same.
    fn here(&self) -> Vec<u32> {
        self.settle();
        let mut here: Vec<_> = self.cache.iter().map(|held| number(held.info_hash)).collect();
        here.sort_unstable();
        assert_eq!(i64::try_from(here.len()).unwrap(), self.cache.len());
        assert_eq!(u64::try_from(here.len()).unwrap(), self.cache.moka.entry_count());
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
    let setup = Setup::new();
    setup.grow(1, 0, 1);
    setup.grow(2, 0, 1);
    for minute in 1..60 {
        setup.grow(1, minute, 0);
        setup.housekeep(minute);
    }
    assert_eq!((setup.here(), setup.dropped.load(Relaxed)), (vec![1], 1));
    assert_eq!(setup.cache.with_known(hash(1), setup.at(60), |thing| thing.0), Some(1));
    // To be looked at is no use.
    for minute in 61..120 {
        for held in setup.cache.iter() {
            setup.cache.with_held(&held, |thing| thing.0 += 1);
        }
        setup.housekeep(minute);
    }
    assert_eq!((setup.here(), setup.dropped.load(Relaxed)), (vec![], 2));
    assert_eq!(setup.cache.with_known(hash(1), setup.at(120), |thing| thing.0), None);
    assert_eq!(setup.cache.evicted(), 0);
}

#[test]
fn a_use_that_changes_the_weight_is_one() {
    let setup = Setup::new();
    setup.grow(1, 0, 1);
    for minute in 1..60 {
        setup.grow(1, minute, 1);
        setup.housekeep(minute);
    }
    assert_eq!(setup.here(), [1]);
    setup.grow(1, 60, 1_000);
    setup.housekeep(70);
    assert_eq!(setup.here(), [1]);
    setup.housekeep(71);
    assert!(setup.here().is_empty());
}

#[test]
fn who_holds_a_dropped_thing_cannot_change_it_and_the_next_gets_a_new_one() {
    let setup = Setup::new();
    setup.grow(1, 0, 5);
    let held: Vec<_> = setup.cache.iter().collect();
    setup.housekeep(60);
    assert_eq!(setup.cache.with_held(&held[0], |thing| thing.0), None);
    assert_eq!(setup.cache.with(hash(1), setup.at(60), |thing| thing.0), 0);
    assert_eq!(setup.here(), [1]);
}

#[test]
fn a_flood_of_what_is_asked_for_once_does_not_push_out_what_is_used() {
    const USES: u32 = 50 * 39;
    let setup = Setup::new();
    (0..50).for_each(|n| setup.grow(n, 0, ONE));
    setup.housekeep(0);
    let mut lost = 0;
    for minute in 1..40 {
        for n in 0..50 {
            let before = setup.cache.with(hash(n), setup.at(minute), |thing| std::mem::replace(&mut thing.0, ONE));
            lost += u32::from(before == 0);
        }
        // Ten times as many: moka forgets uses once there have been ten times as many as it has room for.
        (0..500).for_each(|n| setup.grow(u32::try_from(minute).unwrap() * 1000 + n, minute, ONE));
        setup.housekeep(minute);
    }
    // Were the last ones kept, all would be lost. moka only estimates how often something is used, and looks at more or
    // less at a time as the machine is busy or not: a few uses in a hundred find that the thing has gone.
    assert!(lost < USES / 5, "{lost} of {USES}");
    let here = setup.here().len();
    assert!(here <= 100, "{here}");
    assert!(setup.cache.evicted() > 18_000);
}

#[test]
fn what_grows_takes_the_room_of_others() {
    let setup = Setup::new();
    (0..50).for_each(|n| setup.grow(n, 0, ONE));
    setup.housekeep(0);
    assert_eq!(setup.here().len(), 50);
    for _ in 0..60 {
        setup.grow(0, 0, ONE);
    }
    setup.housekeep(0);
    let weight: u32 = setup.cache.iter().map(|held| setup.weight(&held)).sum();
    assert!(weight <= CAPACITY, "{weight}");
    assert!(setup.here().len() < 50);
}

#[test]
fn everybody_finds_the_same_thing() {
    let setup = Setup::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1_000).for_each(|n| setup.grow(n % 10, 0, u32::from(n < 10))));
        }
    });
    setup.housekeep(0);
    let all = setup.here().into_iter().map(|n| setup.cache.with(hash(n), setup.start, |thing| thing.0));
    assert_eq!(all.collect::<Vec<_>>(), [4; 10]);
}
