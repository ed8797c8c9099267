//! What was expected before anything was built: the table of the design, for clients that announce every half an hour.

use std::time::Duration;

use super::scenario::GrowthScenario;

/// A row of the design's table.
pub(crate) struct PaperFigures {
    peers: u64,
    /// Records a second of all instances together.
    pub(crate) records: f64,
    /// The part of a core that the Redis takes with 2, 8 and 64 instances.
    redis_cpu: [Option<f64>; 3],
    /// Memory of the Redis, in bytes.
    pub(crate) memory: f64,
}

/// The numbers of instances in the design's table.
const INSTANCES: [usize; 3] = [2, 8, 64];

const PAPER: [PaperFigures; 4] = [
    PaperFigures { peers: 1_000_000, records: 380.0, redis_cpu: [None; 3], memory: 0.1e9 },
    PaperFigures { peers: 10_000_000, records: 3_800.0, redis_cpu: [Some(0.02); 3], memory: 1e9 },
    PaperFigures {
        peers: 100_000_000,
        records: 38_000.0,
        redis_cpu: [Some(0.01), Some(0.03), Some(0.17)],
        memory: 10e9,
    },
    PaperFigures {
        peers: 1_000_000_000,
        records: 380_000.0,
        redis_cpu: [Some(0.09), Some(0.25), Some(1.75)],
        memory: 100e9,
    },
];

impl PaperFigures {
    /// The row for a scenario; `None` if the table has none.
    pub(crate) fn of(scenario: GrowthScenario) -> Option<&'static Self> {
        let is_on_paper = scenario.interval == Duration::from_mins(30) && !scenario.after_loss;
        PAPER.iter().find(|row| is_on_paper && row.peers == scenario.peers)
    }

    /// The part of a core that the Redis takes.
    pub(crate) fn redis_cpu(&self, instances: usize) -> Option<f64> {
        let at = INSTANCES.iter().position(|number| *number == instances)?;
        self.redis_cpu[at]
    }
}
