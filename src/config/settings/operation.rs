//! Limits and operation.

use std::path::PathBuf;

use ::settings::values::{SWITCH, list, switch, value, whole};
use ::settings::{Flag, Is, Setting, Takes, Unset};

use crate::config::sections;
use crate::frontend::hosts::HostName;

settings! {
    MAX_CONNECTIONS: Setting<usize, Unset> = Setting {
        section: sections::OPERATION,
        flag: Some(Flag::long("max-connections")),
        variable: "MAX_CONNECTIONS",
        takes: Takes::Number("NUMBER"),
        help: "Keep at most this many connections [open](#limits); beyond that, idle connections are closed to make room for \
               new ones.",
        details: "",
        docker: "",
        default: Unset("what the limit of open files allows"),
        example: "1000",
        expected: CONNECTIONS,
        parse: |text| whole(text, &(1..=1_000_000_000)),
    };

    MAX_CONNECTIONS_PER_ADDRESS: Setting<usize, Unset> = Setting {
        section: sections::OPERATION,
        flag: Some(Flag::long("max-connections-per-address")),
        variable: "MAX_CONNECTIONS_PER_ADDRESS",
        takes: Takes::Number("NUMBER"),
        help: "Let one address, or one /64 of IPv6, have at most this many connections open. Trusted proxies have no such \
               limit.",
        details: "",
        docker: "",
        default: Unset("three quarters of `--max-connections`"),
        example: "100",
        expected: CONNECTIONS,
        parse: |text| whole(text, &(1..=1_000_000_000)),
    };

    ALLOWED_HOSTS: Setting<Vec<HostName>, Unset> = Setting {
        section: sections::OPERATION,
        flag: Some(Flag::long("allowed-hosts")),
        variable: "ALLOWED_HOSTS",
        takes: Takes::Value("NAMES"),
        help: "Serve `/metrics`, `/forwarders` and the front page's notices under these [host \
               names](reverse-proxy.md#host-names) as well: comma-separated, `*.example.com` for all names below \
               example.com, `*` for any name.",
        details: "",
        docker: "",
        default: Unset("local names and addresses only"),
        example: "retracker.example.com",
        expected: "host names such as retracker.example.com,*.example.net, without ports",
        parse: list,
    };

    CHIHAYA: Setting<PathBuf, Unset> = Setting {
        section: sections::OPERATION,
        flag: Some(Flag::long_global("chihaya")),
        variable: "CHIHAYA_CONFIG",
        takes: Takes::File,
        help: "Take the settings from this [Chihaya file](from-chihaya.md): `chihaya.yaml` of v2 or `config.json` of v1. The \
               file replaces the settings of retracker for the same things.",
        details: "Variables in the path, such as `$HOME`, are expanded.",
        docker: "This is a path inside the container: /etc/chihaya.yaml.",
        default: Unset("none"),
        example: "chihaya:\n  http:\n    addr: 127.0.0.1:6881\n",
        expected: "chihaya.yaml or config.json of Chihaya",
        parse: value,
    };

    PROMETHEUS: Setting<bool, Is> = Setting {
        section: sections::OPERATION,
        flag: Some(Flag::with_short('p', "prometheus")),
        variable: "ENABLE_PROMETHEUS",
        takes: Takes::Switch,
        help: "Serve Prometheus [metrics](metrics.md) at `/metrics`.",
        details: "",
        docker: "",
        default: Is("false"),
        example: "true",
        expected: SWITCH,
        parse: switch,
    };

    DEBUG: Setting<bool, Is> = Setting {
        section: sections::OPERATION,
        flag: Some(Flag::with_short('d', "debug")),
        variable: "DEBUG_MODE",
        takes: Takes::Switch,
        help: "Log every announce, scrape and exchange with an upstream tracker; RUST_LOG overrides it.",
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
        help: "Log what this [filter](https://docs.rs/env_logger) lets through, such as `warn` or `retracker=debug`. It \
               overrides DEBUG_MODE.",
        details: "Parts of the filter that cannot be read are ignored.",
        docker: "",
        default: Unset("`info`"),
        example: "warn",
        expected: "a filter such as warn or retracker=debug",
        parse: value,
    };
}

const CONNECTIONS: &str = "a whole number from 1 to 1000000000, such as 10000";
