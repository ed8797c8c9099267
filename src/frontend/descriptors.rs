//! How many descriptors the process may have open, and how many of them are for connections.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Where the system sets no limit. More than any host has connections.
const UNLIMITED: u64 = 1 << 20;

/// Of four descriptors one is kept back for what must work when clients take all others: upstream trackers, look-ups of
/// names, files that are read again, listeners. No more than this many: 256 exchanges with each of 16 upstream trackers.
const MOST_KEPT_BACK: u64 = 4096;

/// Raises the soft limit to the hard limit, and gives it.
///
/// The soft limit is 1024 on most systems for the sake of programs that use `select`, which is none of ours.
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

/// How many of so many descriptors may be connections of clients.
pub fn for_connections(limit: u64) -> usize {
    let kept_back = (limit / 4).min(MOST_KEPT_BACK);
    usize::try_from(limit.min(UNLIMITED) - kept_back).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_kept_back() {
        for (limit, connections) in [(0, 1), (4, 3), (1024, 768), (20_000, 15_904), (u64::MAX, (1 << 20) - 4096)] {
            assert_eq!(for_connections(limit), connections, "{limit}");
        }
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!((current, limit), (maximum, maximum.unwrap_or(UNLIMITED)));
    }
}
