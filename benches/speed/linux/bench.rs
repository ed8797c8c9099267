//! What every measurement needs to know of this host.

use load::machine::Cores;

use super::program::Program;

/// The trackers that are installed, and the cores on which they run.
pub(crate) struct Bench {
    pub(crate) cores: Cores,
    pub(crate) opentracker: Option<Program>,
    pub(crate) go_retracker: Option<Program>,
    pub(crate) aquatic_udp: Option<Program>,
}
