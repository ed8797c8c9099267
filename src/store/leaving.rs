//! Which entries of a client are removed when the client leaves.

use std::num::NonZeroU16;

use super::client_id::ClientId;
use super::entry::Entry;
use super::time::Tick;
use crate::topology::ZonedIp;
use tracker_protocol::Ip;

/// A client that leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) place: ZonedIp,
    pub(super) port: Option<NonZeroU16>,
    pub(super) id: ClientId,
    pub(super) is_claim: bool,
    /// For a client that left at another instance: the present moment, and how many ticks ago the client left. Newer
    /// entries stay.
    pub(super) heard: Option<(Tick, u16)>,
}

impl Leaving {
    /// Returns whether this entry is removed. A claim removes only claimed entries. `ip` is the address of `place`.
    pub(super) fn removes<A: Ip>(&self, ip: A, entry: &Entry<A>) -> bool {
        entry.ip == ip
            && entry.zone == self.place.zone
            && (!self.is_claim || entry.is_claimed())
            && self.heard.is_none_or(|(now, ago)| now.since(entry.seen()) >= ago)
    }
}
