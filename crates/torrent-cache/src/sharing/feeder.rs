//! What a host that shares a blob needs of the blob's upstream.

use crate::swarm::SwarmMembership;

/// Brings pieces of a blob from its upstream into the content.
pub trait PieceFeeder {
    /// How the upstream fails.
    type Fault;

    /// Brings the pieces that [`SwarmMembership::claim`] gives, until it gives none.
    fn feed(&mut self, swarm: &SwarmMembership, anything: bool) -> impl Future<Output = Result<(), Self::Fault>>;
}
