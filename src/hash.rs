//! How the tables of this process hash what strangers send.

use std::sync::LazyLock;

/// Random for each process: strangers must not be able to choose info-hashes, endpoints or ids that collide.
pub(crate) static SEED: LazyLock<foldhash::fast::RandomState> = LazyLock::new(foldhash::fast::RandomState::default);
