//! The limit of open files, and the share of it that connections may take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Stands for no limit: more than any host has connections.
const UNLIMITED: u64 = 1 << 20;

/// One descriptor in four is kept back for what must work when clients take all others: upstream trackers, name look-ups,
/// files that are read again, listeners. At most this many: 256 exchanges with each of 16 upstream trackers.
const MOST_KEPT_BACK: u64 = 4096;

/// Raises the soft limit to the hard limit and returns it.
///
/// On most systems the soft limit is 1024 because `select` fails beyond that; nothing here uses `select`.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    if current == maximum {
        return maximum.unwrap_or(UNLIMITED);
    }
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum.unwrap_or(UNLIMITED),
        Err(error) => {
            log::warn!("the limit of open files stays at {}: {error}", current.unwrap_or(UNLIMITED));
            current.unwrap_or(UNLIMITED)
        }
    }
}

/// The number of client connections where this many descriptors are allowed.
pub fn for_connections(limit: u64) -> usize {
    let kept_back = (limit / 4).min(MOST_KEPT_BACK);
    usize::try_from(limit.min(UNLIMITED) - kept_back).unwrap_or(usize::MAX).max(1)
}

/// How many exchanges with upstream trackers may be under way with so many descriptors: of those that are kept back a
/// quarter is for what else there is, such as the look-ups of their names.
pub fn for_exchanges(limit: u64) -> usize {
    let kept_back = (limit / 4).min(MOST_KEPT_BACK);
    usize::try_from(kept_back * 3 / 4).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_kept_back() {
        for (limit, connections) in [(0, 1), (4, 3), (1024, 768), (20_000, 15_904), (u64::MAX, (1 << 20) - 4096)] {
            assert_eq!(for_connections(limit), connections, "{limit}");
        }
        for (limit, exchanges) in [(0, 1), (1024, 192), (20_000, 3072), (u64::MAX, 3072)] {
            assert_eq!(for_exchanges(limit), exchanges, "{limit}");
        }
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!((current, limit), (maximum, maximum.unwrap_or(UNLIMITED)));
    }
}
