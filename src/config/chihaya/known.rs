//! Keys that mean nothing to Chihaya: keys from documentation and examples, and misspelt keys.

/// Keys that appear in documentation, although no version of Chihaya (or only one old version) reads them. Each row has
/// the section, the key, and an explanation.
const DEAD: &[(&str, &str, &str)] = &[
    ("storage.", "shards", "Chihaya's example had it, but Chihaya reads shard_count, which means nothing here either"),
    (
        "storage.config.",
        "shards",
        "Chihaya's example had it, but Chihaya reads shard_count, which means nothing here either",
    ),
    ("", "driver", "the page of v1.0 still lists it, but its code has only one store and does not read driver"),
    ("", "jwkUpdateInterval", "jwkSetUpdateInterval was meant, and without it keys are fetched every 5m"),
    (
        "",
        "jwkTTL",
        "v1.0 keeps keys as long as the caching headers of the set say, and here keys are kept until the set has other keys",
    ),
    ("http.", "request_timeout", "only v2.0.0-rc.1 reads it"),
];

/// Keys that restrict access. An unknown key that resembles one may be a misspelling.
pub(super) const RESTRICTING: &[&str] = &[
    "prehooks",
    "whitelist",
    "blacklist",
    "clientWhitelist",
    "clientWhitelistEnabled",
    "createOnAnnounce",
    "jwkSetURI",
    "jwtAudience",
];

/// The keys of v2 by their sections. For a key in a wrong section, the table gives the right one.
const SECTIONS: &[(&str, &[&str])] = &[
    ("", &["announce_interval", "min_announce_interval", "metrics_addr", "prometheus_addr", "prehooks", "posthooks"]),
    (
        "http.",
        &[
            "https_addr",
            "tls_cert_path",
            "tls_key_path",
            "read_timeout",
            "write_timeout",
            "idle_timeout",
            "enable_keepalive",
            "announce_routes",
            "scrape_routes",
            "real_ip_header",
            "allow_ip_spoofing",
            "default_numwant",
            "max_numwant",
            "max_scrape_infohashes",
        ],
    ),
    ("udp.", &["private_key", "max_clock_skew"]),
    ("storage.config.", &["gc_interval", "peer_lifetime", "shard_count", "prometheus_reporting_interval"]),
];

/// Whether the value of this key, which may be misspelt, must not appear in a log.
pub(super) fn is_secret(key: &str) -> bool {
    nearest(key, &["private_key", "redis_broker"]).is_some()
}

/// Returns whether [`DEAD`] has this key of this section.
pub(super) fn is_dead(section: &str, key: &str) -> bool {
    DEAD.iter().any(|(other, dead, _)| *other == section && *dead == key)
}

/// Returns why a key of this section means nothing, and what was probably meant.
pub(super) fn explain(section: &str, key: &str, known: &[&'static str]) -> String {
    if let Some((_, _, why)) = DEAD.iter().find(|(other, dead, _)| *other == section && *dead == key) {
        return format!("never meant anything: {why}");
    }
    if let Some(meant) = nearest(key, known) {
        return format!("never meant anything: Chihaya does not know the key, probably {meant} was meant");
    }
    match SECTIONS.iter().find(|(other, keys)| *other != section && keys.contains(&key)) {
        Some((other, _)) => format!("never meant anything: its place is {other}{key}"),
        None => "never meant anything: Chihaya does not know the key".to_owned(),
    }
}

/// Returns the name in `names` that the author of the file probably meant by `name`. `None` if `name` resembles none.
pub(super) fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    // A long name resembles no known name. Comparing takes time in proportion to the product of the lengths.
    if name.len() > 64 {
        return None;
    }
    let bare = |name: &str| name.to_ascii_lowercase().replace(['_', '-', ' '], "");
    let distance = |other: &str| strsim::damerau_levenshtein(&bare(name), &bare(other));
    let alike = names.iter().map(|other| (distance(other), *other)).min_by_key(|(distance, _)| *distance);
    alike.filter(|(distance, other)| *distance <= (other.len() / 4).max(1)).map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_like_the_right_ones() {
        let names = ["announce_interval", "whitelist", "addr", "name"];
        for (name, expected) in [
            ("anounce_interval", Some("announce_interval")),
            ("announceInterval", Some("announce_interval")),
            ("announce-intervall", Some("announce_interval")),
            ("white_list", Some("whitelist")),
            ("adr", Some("addr")),
            ("address", None),
            ("blacklist", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, &names), expected, "{name}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), &names), None);
    }

    #[test]
    fn the_wrong_section_is_named() {
        assert!(explain("storage.", "peer_lifetime", &["name", "config"]).contains("storage.config.peer_lifetime"));
        assert!(explain("udp.", "announce_routes", &["addr"]).contains("http.announce_routes"));
        assert!(explain("", "jwkTTL", &[]).contains("caching"));
    }
}
