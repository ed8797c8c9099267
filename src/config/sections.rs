//! The sections of the help and of `docs/configuration.md`.

use ::settings::Section;

/// Sockets.
pub(super) const LISTENING: Section = Section("Listening");
/// The local peers.
pub(super) const PEERS: Section = Section("Peers");
/// Where a client's address comes from.
pub(super) const CLIENTS: Section = Section("Who a client is");
/// Sites and NAT.
pub(super) const NETWORKS: Section = Section("Networks");
/// Who may announce.
pub(super) const ACCESS: Section = Section("Who may announce");
/// Upstream trackers.
pub(super) const FORWARDING: Section = Section("Forwarding");
/// Torrent files and leases of shared blobs.
pub(super) const TORRENTS: Section = Section("Shared blobs");
/// Several instances with the same swarms.
pub(super) const SHARING: Section = Section("Several instances");
/// All other settings.
pub(super) const OPERATION: Section = Section("Limits and operation");
