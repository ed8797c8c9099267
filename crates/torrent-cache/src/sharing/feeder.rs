//! What a host that shares a blob needs of the blob's upstream.

use crate::swarm::SwarmMembership;

/// Fetches pieces of a blob from its upstream into the content.
pub trait PieceFeeder {
    /// How the upstream fails.
    type Fault;

    /// Fetches the pieces that [`SwarmMembership::claim`] returns, until it returns none. With `anything`, which is
    /// passed to `claim`, also fetches pieces that peers have.
    fn feed(&mut self, swarm: &SwarmMembership, anything: bool) -> impl Future<Output = Result<(), Self::Fault>>;
}
