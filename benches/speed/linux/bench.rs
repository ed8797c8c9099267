//! The environment of every measurement.

use load::machine::Cores;

use super::program::Program;

/// The trackers that are installed, and the cores they run on.
pub(crate) struct Bench {
    pub(crate) cores: Cores,
    pub(crate) opentracker: Option<Program>,
    pub(crate) go_retracker: Option<Program>,
    pub(crate) aquatic_udp: Option<Program>,
}
