//! The forwarders of one configuration.

use std::sync::Arc;

use super::forwarder::Forwarder;

/// The forwarders that are configured.
#[derive(Debug, Default)]
pub(super) struct ForwarderSet {
    pub(super) generation: Generation,
    pub(super) forwarders: Vec<Arc<Forwarder>>,
}

/// A number that changes with the configuration. Results for earlier forwarders become invalid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Generation(u64);

impl ForwarderSet {
    pub(super) fn replace(&mut self, forwarders: Vec<Arc<Forwarder>>) {
        *self = Self { generation: Generation(self.generation.0 + 1), forwarders };
    }
}
