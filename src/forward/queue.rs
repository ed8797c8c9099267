//! A queue in which sources take turns.
//!
//! The rate of exchanges with a forwarder is bounded, and further exchanges wait. Sources take turns, so a client that
//! invents peer ids delays only itself. A seedbox that starts with thousands of torrents is announced in full, a little
//! later.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::time::Instant;

/// The most exchanges that wait for their turn with one forwarder: about half a kilobyte each.
pub(super) const MAX_WAITING: usize = 16 * 1024;

/// The source of an announce: an IPv4 address, or an IPv6 /64, as one host can use a whole /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RequestSource(IpAddr);

impl RequestSource {
    pub(super) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self(ip),
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()),
        }
    }
}

/// A bounded queue in which sources take turns.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    by_source: HashMap<RequestSource, VecDeque<T>, foldhash::fast::RandomState>,
    /// The sources that have items, in the order of their turns.
    turns: VecDeque<RequestSource>,
    /// The sources that have items, ordered by how many items each source has.
    by_length: BTreeSet<(usize, RequestSource)>,
    length: usize,
    most: usize,
}

impl<T> FairQueue<T> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            by_source: HashMap::default(),
            turns: VecDeque::new(),
            by_length: BTreeSet::new(),
            length: 0,
            most: most.max(1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds an item. A full queue drops and returns the newest item of the source with the most items.
    pub(super) fn push(&mut self, source: RequestSource, item: T) -> Option<T> {
        let items = self.by_source.entry(source).or_default();
        if items.is_empty() {
            self.turns.push_back(source);
        }
        self.by_length.remove(&(items.len(), source));
        items.push_back(item);
        self.by_length.insert((items.len(), source));
        self.length += 1;
        if self.length > self.most { self.drop_newest_of_heaviest() } else { None }
    }

    /// Takes the oldest item of the source whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        let source = self.turns.pop_front()?;
        let items = self.by_source.get_mut(&source)?;
        let item = items.pop_front();
        let left = items.len();
        self.took_one(source, left);
        if left > 0 {
            self.turns.push_back(source);
        }
        item
    }

    fn drop_newest_of_heaviest(&mut self) -> Option<T> {
        let (_, source) = *self.by_length.last()?;
        let items = self.by_source.get_mut(&source)?;
        let item = items.pop_back();
        let left = items.len();
        self.took_one(source, left);
        if left == 0 {
            self.turns.retain(|turn| *turn != source);
        }
        item
    }

    /// Records that a source has one item less. `left` is how many items the source still has.
    fn took_one(&mut self, source: RequestSource, left: usize) {
        self.length -= 1;
        self.by_length.remove(&(left + 1, source));
        if left == 0 {
            self.by_source.remove(&source);
        } else {
            self.by_length.insert((left, source));
        }
    }
}

/// When the next exchange may begin. At most `rate` exchanges begin in a second.
#[derive(Debug)]
pub(super) struct ExchangeRate {
    next: Instant,
}

impl ExchangeRate {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: unused_since(now) }
    }

    /// Takes a turn and returns its time. Unused turns of the past second are available at once.
    pub(super) fn take(&mut self, rate: u32, now: Instant) -> Instant {
        let turn = self.next.max(unused_since(now));
        self.next = turn + Duration::from_secs(1) / rate.max(1);
        turn
    }
}

/// Returns the earliest turn that is still available. Turns that were not taken expire after a second.
fn unused_since(now: Instant) -> Instant {
    now.checked_sub(Duration::from_secs(1)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet as Set;

    use proptest::prelude::*;

    fn source(n: u8) -> RequestSource {
        RequestSource::of([10, 0, 0, n].into())
    }

    #[test]
    fn sources_take_turns_and_each_keeps_its_order() {
        let mut queue = FairQueue::new(100);
        for n in 0..5 {
            queue.push(source(1), (1, n));
        }
        queue.push(source(2), (2, 0));
        queue.push(source(3), (3, 0));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(1, 0), (2, 0), (3, 0), (1, 1), (1, 2), (1, 3), (1, 4)]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_full_queue_drops_the_newest_of_the_heaviest_source() {
        let mut queue = FairQueue::new(4);
        for n in 0..3 {
            assert_eq!(queue.push(source(1), (1, n)), None);
        }
        assert_eq!(queue.push(source(2), (2, 0)), None);
        assert_eq!(queue.push(source(3), (3, 0)), Some((1, 2)), "the heaviest source makes room for another");
        assert_eq!(queue.push(source(1), (1, 3)), Some((1, 3)), "the heaviest source makes room for itself");
        assert_eq!(queue.len(), 4);
    }

    #[test]
    fn hosts_of_one_ipv6_network_are_one_source() {
        let of = |ip: &str| RequestSource::of(ip.parse().unwrap());
        assert_eq!(of("2a00::1"), of("2a00::ffff:0:0:2"));
        assert_ne!(of("2a00::1"), of("2a00:0:0:1::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn the_pace_allows_a_second_s_worth_at_once_and_the_rate_from_then_on() {
        let start = Instant::now();
        let mut pace = ExchangeRate::new(start);
        let later = start + Duration::from_secs(10);
        let at_once = std::iter::from_fn(|| Some(pace.take(200, later))).take_while(|&turn| turn <= later).count();
        assert_eq!(at_once, 201);
        let next: Vec<_> = (0..3).map(|_| (pace.take(200, later) - later).as_millis()).collect();
        assert_eq!(next, [10, 15, 20]);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_once_or_is_dropped(
            steps in proptest::collection::vec(proptest::option::weighted(0.6, 0u8..6), 0..200),
            most in 1..20_usize,
        ) {
            let mut queue = FairQueue::new(most);
            let (mut inside, mut next) = (Set::new(), 0);
            for step in steps {
                if let Some(n) = step {
                    inside.insert(next);
                    if let Some(dropped) = queue.push(source(n), next) {
                        prop_assert!(inside.remove(&dropped));
                    }
                    next += 1;
                } else if let Some(popped) = queue.pop() {
                    prop_assert!(inside.remove(&popped));
                } else {
                    prop_assert!(inside.is_empty());
                }
                prop_assert_eq!(queue.len(), inside.len());
                prop_assert!(queue.len() <= most);
            }
        }
    }
}
