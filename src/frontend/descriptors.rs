//! The limit of open files, and the share of it that connections may take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit if the system sets none. No host has this many connections.
const UNLIMITED: u64 = 1 << 20;

/// The most descriptors that are reserved: enough for 256 exchanges with each of 16 upstream trackers. One descriptor
/// in four is reserved, so that upstream trackers, name look-ups, reloads and listeners work even if clients take all
/// others.
const MAX_RESERVED: u64 = 4096;

/// Raises the soft limit to the hard limit. Returns the limit that is then in force.
///
/// The soft limit is usually 1024 because of `select`, which this program does not use.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    if current == maximum {
        return maximum.unwrap_or(UNLIMITED);
    }
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum.unwrap_or(UNLIMITED),
        Err(error) => {
            log::warn!(
                "the limit of open files could not be raised and stays at {}: {error}",
                current.unwrap_or(UNLIMITED)
            );
            current.unwrap_or(UNLIMITED)
        }
    }
}

/// The number of client connections that fit into this limit of descriptors.
pub fn for_connections(limit: u64) -> usize {
    let reserved = (limit / 4).min(MAX_RESERVED);
    usize::try_from(limit.min(UNLIMITED) - reserved).unwrap_or(usize::MAX).max(1)
}

/// How many exchanges with upstream trackers may be under way within this limit: three quarters of the reserved
/// descriptors. The rest is for other uses, such as name look-ups.
pub fn for_exchanges(limit: u64) -> usize {
    let reserved = (limit / 4).min(MAX_RESERVED);
    usize::try_from(reserved * 3 / 4).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_reserved() {
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
