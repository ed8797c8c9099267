//! Every setting is declared once, in the file of its section. The command line, variables, errors, help, the manual
//! page, completions and tests come from these declarations.
//!
//! Tests compare `docs/configuration.md`, `.env.example`, `docker-compose.yml` and `contrib/debian/retracker.default`
//! with them. `UPDATE_SETTINGS=1 cargo test --test it settings` rewrites these four files.
//!
//! A new setting needs an entry in a file below `settings/`, its name in this file, and its use in [`super::read`].

use ::settings::{About, Declared, Fallback, SECRET, Sources, Takes};

use crate::frontend::settings_in_force::SettingInForce;

/// Declares the settings of a section, and lists them.
macro_rules! settings {
    ($($name:ident: $type:ty = $setting:expr;)*) => {
        $(pub(in crate::config) static $name: $type = $setting;)*
        pub(super) static SECTION: &[&dyn ::settings::Declared] = &[$(&$name),*];
    };
}

mod access;
mod clients;
mod forwarding;
mod listening;
mod networks;
mod operation;
mod peers;
mod sharing;
mod torrents;

pub(super) use self::access::ACCESS;
pub(super) use self::clients::{IP_PARAM, REAL_IP_HEADER, TRUSTED_PROXIES, X_REAL_IP};
pub(super) use self::forwarding::{FORWARD_TIMEOUT, FORWARDS, LOCAL_ONLY_AFTER, MAX_EXCHANGES};
pub(super) use self::listening::{ADMIN_LISTEN, LISTEN, TLS_CERT, TLS_KEY, UDP_LISTEN};
pub(super) use self::networks::{EXTERNAL_ADDRESS, ZONES};
pub(super) use self::operation::{
    ALLOWED_HOSTS, CHIHAYA, DEBUG, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, PROMETHEUS, RUST_LOG,
};
pub(super) use self::peers::{ANNOUNCE_INTERVAL, MAX_PEERS, PEER_AGE};
pub(super) use self::sharing::{
    SHARE, SHARE_NAME, SHARE_PASSWORD_FILE, SHARE_SENTINEL_PASSWORD_FILE, SHARE_WARM_UP, UDP_SECRET,
};
pub(super) use self::torrents::{TORRENTS, TORRENTS_FROM, TORRENTS_LISTEN, TORRENTS_MEMORY, TORRENTS_TOKEN};

/// The sections, in the order of help and pages.
static SECTIONS: [&[&dyn Declared]; 9] = [
    listening::SECTION,
    peers::SECTION,
    clients::SECTION,
    networks::SECTION,
    access::SECTION,
    forwarding::SECTION,
    torrents::SECTION,
    sharing::SECTION,
    operation::SECTION,
];

/// Returns the descriptions of all settings, in the order of the help and the pages.
pub fn all() -> impl Iterator<Item = About> {
    declared().map(Declared::about)
}

fn declared() -> impl Iterator<Item = &'static dyn Declared> {
    SECTIONS.iter().copied().flatten().copied()
}

/// Returns every setting as it is in force, without the values of secrets.
pub(super) fn in_force(sources: &Sources<'_>) -> Vec<SettingInForce> {
    let one = |setting: &dyn Declared| {
        let About { variable, default, takes, .. } = setting.about();
        let (origin, value) = setting.typed(sources).map(|(origin, value)| (origin.to_string(), value)).unzip();
        let value = value.map(|value| if matches!(takes, Takes::Secret(_)) { SECRET.to_owned() } else { value });
        let default = if let Fallback::Is(text) = default { Some(text.to_owned()) } else { None };
        SettingInForce { variable, value: value.or(default), origin }
    };
    declared().map(one).collect()
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
