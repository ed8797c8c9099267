//! Limits and operation.

use std::time::Duration;

use ::settings::values::{SWITCH, switch, value, whole};
use ::settings::{Flag, Is, Setting, Takes, Unset};

use crate::config::sections;
use crate::config::values::{SECONDS, seconds};

settings! {
    MAX_CONNECTIONS: Setting<usize, Is> = Setting {
        section: sections::OPERATION,
        flag: Some(Flag::long("max-connections")),
        variable: "MAX_CONNECTIONS",
        takes: Takes::Number("NUMBER"),
        help: "Serve at most this many connections at once; further connections wait.",
        details: "",
        docker: "",
        default: Is("256"),
        example: "64",
        expected: "a whole number from 1 to 100000",
        parse: |text| whole(text, &(1..=100_000)),
    };

    CLIENT_TIMEOUT: Setting<Duration, Is> = Setting {
        section: sections::OPERATION,
        flag: Some(Flag::long("client-timeout")),
        variable: "CLIENT_TIMEOUT",
        takes: Takes::Number("SECONDS"),
        help: "Close a connection if its client sends no request, or reads nothing of a reply, for this time.",
        details: "",
        docker: "",
        default: Is("60"),
        example: "30",
        expected: SECONDS,
        parse: seconds,
    };

    DEBUG: Setting<bool, Is> = Setting {
        section: sections::OPERATION,
        flag: Some(Flag::with_short('d', "debug")),
        variable: "DEBUG",
        takes: Takes::Switch,
        help: "Log every request; RUST_LOG overrides this setting.",
        details: "",
        docker: "",
        default: Is("false"),
        example: "true",
        expected: SWITCH,
        parse: switch,
    };

    RUST_LOG: Setting<String, Unset> = Setting {
        section: sections::OPERATION,
        flag: None,
        variable: "RUST_LOG",
        takes: Takes::Value("FILTER"),
        help: "Log what this [filter](https://docs.rs/env_logger) lets through, such as `warn` or `torrent_cache=debug`. This \
               filter overrides DEBUG.",
        details: "Invalid parts of the filter are ignored.",
        docker: "",
        default: Unset("`info`"),
        example: "warn",
        expected: "a filter such as warn or torrent_cache=debug",
        parse: value,
    };
}
