//! How hash tables in this process hash values that come from the network.

use std::sync::LazyLock;

/// Random for each process: an attacker must not be able to choose info-hashes, endpoints or ids that collide.
pub(crate) static SEED: LazyLock<foldhash::fast::RandomState> = LazyLock::new(foldhash::fast::RandomState::default);
