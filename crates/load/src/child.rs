//! Programs that a measurement starts.

use std::process::Child;

/// A running program. Dropping it kills the process.
pub struct ChildProcess(pub Child);

impl ChildProcess {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // Both calls fail only if the process has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
