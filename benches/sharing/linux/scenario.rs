//! What is simulated: how many peers and instances there are, and how the announces reach the instances.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use fastrand::Rng;

/// The most instances.
pub(crate) const MOST_INSTANCES: usize = 64;

/// The peer age of the tracker's default settings.
pub(crate) const PEER_AGE: Duration = Duration::from_hours(3);

/// Peers in each swarm.
const SWARM: u64 = 10;

/// One row of the table.
#[derive(Clone, Copy)]
pub(crate) struct GrowthScenario {
    pub(crate) peers: u64,
    pub(crate) instances: usize,
    /// How often each peer announces. Its pauses are up to a twentieth shorter or longer.
    pub(crate) interval: Duration,
    pub(crate) balance: Balance,
    /// Whether the Redis has just lost everything, so that each peer is shared once more.
    pub(crate) after_loss: bool,
}

/// Which instance gets an announce.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Balance {
    /// A torrent always has the same instance.
    Torrent,
    /// The announces of a peer go to all instances in turn.
    Turns,
    /// Each announce goes to a random instance.
    Random,
}

impl GrowthScenario {
    /// The swarm of a peer.
    pub(crate) fn swarm(self, peer: u64) -> u64 {
        peer % (self.peers / SWARM).max(1)
    }

    /// Returns the instance that gets this announce. `announce` is 0 for a peer's first announce.
    pub(crate) fn instance(self, peer: u64, announce: u64, random: &mut Rng) -> usize {
        let instances = self.instances as u64;
        let instance = match self.balance {
            Balance::Torrent => self.swarm(peer).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32,
            Balance::Turns => peer + announce,
            Balance::Random => random.u64(..instances),
        };
        (instance % instances) as usize
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Torrent => "by torrent",
            Self::Turns => "in turn",
            Self::Random => "at random",
        })
    }
}
