//! The names of the keys in the engine. A Redis cluster keeps keys with the same part in braces together.

use crate::share::Partition;

/// The names of the keys in the engine.
#[derive(Clone, Debug)]
pub(super) struct EngineKeys {
    /// The beginning of all names.
    name: String,
}

impl EngineKeys {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Returns the key of the log of a partition.
    pub(super) fn log(&self, partition: Partition) -> String {
        format!("{}:{{{}}}:log", self.name, partition.number())
    }

    /// Returns the key of a log's epoch: a random value that is as old as the log. When the value has changed, the engine
    /// has forgotten the log.
    pub(super) fn epoch(&self, partition: Partition) -> String {
        format!("{}:{{{}}}:epoch", self.name, partition.number())
    }

    /// Returns the key under which the engine keeps the key of UDP's connection ids.
    pub(super) fn udp_key(&self) -> String {
        format!("{}:{{0}}:udp-key", self.name)
    }

    /// Returns the key of the hash that has the note of each instance.
    pub(super) fn instances(&self) -> String {
        format!("{}:{{0}}:instances", self.name)
    }

    /// Returns the key of the names of the zones with this fingerprint.
    pub(super) fn zones(&self, fingerprint: u64) -> String {
        format!("{}:{{0}}:zones:{fingerprint:016x}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_other_versions_must_find() {
        let keys = EngineKeys::new("retracker");
        let last = Partition::all().last().unwrap();
        assert_eq!(keys.log(last), "retracker:{15}:log");
        assert_eq!(keys.epoch(last), "retracker:{15}:epoch");
        assert_eq!(keys.udp_key(), "retracker:{0}:udp-key");
        assert_eq!(keys.instances(), "retracker:{0}:instances");
        assert_eq!(keys.zones(0xab), "retracker:{0}:zones:00000000000000ab");
    }
}
