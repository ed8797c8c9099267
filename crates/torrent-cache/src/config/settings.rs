//! Every setting is declared once, in the file of its section. Eleven settings have the names and defaults of the proof
//! of concept that this program replaces.

use ::settings::{About, Declared};

/// Declares the settings of a section, and lists them.
macro_rules! settings {
    ($($name:ident: $type:ty = $setting:expr;)*) => {
        $(pub(in crate::config) static $name: $type = $setting;)*
        pub(super) static SECTION: &[&dyn ::settings::Declared] = &[$(&$name),*];
    };
}

mod clients;
mod listening;
mod operation;
mod storage;
mod swarm;
mod upstream;

pub(super) use self::clients::{AUTH_STALE, CLIENT_NETWORKS, REGISTRY_AUTH_FILE};
pub(super) use self::listening::{CERTFILE, INTERFACE, PORT, PRIVATEKEY};
pub(super) use self::operation::{CLIENT_TIMEOUT, DEBUG, MAX_CONNECTIONS, RUST_LOG};
pub(super) use self::storage::{STORAGE, STORAGE_MIN_FREE, STORAGE_QUOTA, TAG_STALE};
pub(super) use self::swarm::{
    CLUSTER_SECRET, ETCD_HOST, ETCD_PORT, PEER_NETWORKS, TORRENT_FIRST_PORT, TORRENT_LAST_PORT, TORRENTS_TOKEN, TRACKER,
};
pub(super) use self::upstream::{
    CA_FILE, CONNECT_TIMEOUT, REGISTRY_LOCATION, REGISTRY_NO_SSL, UPSTREAM_TIMEOUT, UPSTREAMS,
};

/// The sections, in the order of the help and the pages.
static SECTIONS: [&[&dyn Declared]; 6] =
    [listening::SECTION, upstream::SECTION, clients::SECTION, storage::SECTION, swarm::SECTION, operation::SECTION];

/// Returns the descriptions of all settings, in the order of the help and the pages.
pub fn all() -> impl Iterator<Item = About> {
    declared().map(Declared::about)
}

fn declared() -> impl Iterator<Item = &'static dyn Declared> {
    SECTIONS.iter().copied().flatten().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_valid_value() {
        for setting in declared() {
            assert_eq!(setting.check_default(), Ok(()), "{}", setting.about().variable);
        }
    }
}
