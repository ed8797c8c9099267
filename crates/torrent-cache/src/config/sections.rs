//! The sections of the help and of the page.

use ::settings::Section;

/// Sockets and certificates.
pub(super) const LISTENING: Section = Section("Listening");
/// Registries and other servers.
pub(super) const UPSTREAM: Section = Section("Upstream");
/// Which clients may read what.
pub(super) const CLIENTS: Section = Section("Who may have what");
/// The disk.
pub(super) const STORAGE: Section = Section("Storage");
/// The other hosts.
pub(super) const SWARM: Section = Section("Sharing with other hosts");
/// All other settings.
pub(super) const OPERATION: Section = Section("Limits and operation");
