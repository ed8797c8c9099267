//! The hash function of tables whose keys come from the network.

use std::sync::LazyLock;

/// The seed of the hash function. The seed is random for each process, because an attacker who knew it could choose
/// info-hashes, endpoints or ids that collide.
pub(crate) static SEED: LazyLock<foldhash::fast::RandomState> = LazyLock::new(foldhash::fast::RandomState::default);
