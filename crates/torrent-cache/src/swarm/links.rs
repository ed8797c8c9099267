//! The connections of all torrents, counted by the other host's address.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

/// The most connections of all torrents together.
const MAX_CONNECTIONS: usize = 512;
/// The most connections with one address, so that one host cannot take all of them.
const MAX_CONNECTIONS_OF_HOST: usize = MAX_CONNECTIONS / 2;

/// How many connections each address has.
#[derive(Debug, Default)]
pub(super) struct LinkCounts(RefCell<HashMap<IpAddr, usize>>);

impl LinkCounts {
    /// Returns how many more connections there may be.
    pub(super) fn room(&self) -> usize {
        MAX_CONNECTIONS.saturating_sub(self.0.borrow().values().sum())
    }

    /// Counts a connection until the returned value is dropped. Returns `None` if there are too many connections.
    pub(super) fn take(self: &Rc<Self>, ip: IpAddr) -> Option<CountedLink> {
        if self.room() == 0 {
            return None;
        }
        let mut counts = self.0.borrow_mut();
        let count = counts.entry(ip).or_default();
        if *count >= MAX_CONNECTIONS_OF_HOST {
            return None;
        }
        *count += 1;
        Some(CountedLink { counts: Rc::clone(self), ip })
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct CountedLink {
    counts: Rc<LinkCounts>,
    ip: IpAddr,
}

impl Drop for CountedLink {
    fn drop(&mut self) {
        let mut counts = self.counts.0.borrow_mut();
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_cannot_take_all_connections() {
        let counts = Rc::<LinkCounts>::default();
        let take = |last| counts.take([10, 0, 0, last].into());
        let mut links: Vec<_> = (0..MAX_CONNECTIONS_OF_HOST).map(|_| take(1).unwrap()).collect();
        assert!(take(1).is_none());
        links.extend((0..MAX_CONNECTIONS_OF_HOST).map(|number| take(if number == 0 { 3 } else { 2 }).unwrap()));
        assert_eq!(counts.room(), 0);
        assert!(take(4).is_none());
        links.truncate(MAX_CONNECTIONS_OF_HOST);
        links.pop();
        assert!(take(1).is_some());
        drop(links);
        assert!(counts.0.borrow().is_empty());
    }
}
