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

impl Bench {
    /// Returns the trackers that announces over UDP are compared with: the name, the program if it is installed, and the
    /// goal for the ratio. `aquatic_udp` is left out if it is not installed.
    pub(crate) fn udp_rivals(&self) -> Vec<(&'static str, Option<&Program>, f64)> {
        let aquatic = self.aquatic_udp.as_ref().map(|program| ("aquatic_udp", Some(program), 1.0));
        [("opentracker", self.opentracker.as_ref(), 0.8)].into_iter().chain(aquatic).collect()
    }
}
