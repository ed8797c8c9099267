//! The local peers.

use std::time::Duration;

use ::settings::values::{duration, whole};
use ::settings::{Flag, Is, Setting, Takes};

use crate::config::sections;
settings! {
    ANNOUNCE_INTERVAL: Setting<u32, Is> = Setting {
        section: sections::PEERS,
        flag: Some(Flag::with_short('i', "announce-interval")),
        variable: "ANNOUNCE_INTERVAL",
        takes: Takes::Number("SECONDS"),
        help: "Ask clients to announce again after this many seconds, 1 to 86400.",
        details: "",
        docker: "",
        default: Is("30"),
        example: "1800",
        expected: "whole seconds from 1 to 86400, such as 30",
        parse: |text| whole(text, &(1..=86_400)),
    };

    PEER_AGE: Setting<Duration, Is> = Setting {
        section: sections::PEERS,
        flag: Some(Flag::with_short('a', "peer-age")),
        variable: "PEER_AGE",
        takes: Takes::Number("MINUTES"),
        help: "Drop a peer this many minutes after its latest announce.",
        details: "Fractions are allowed.",
        docker: "",
        default: Is("180"),
        example: "0.5",
        expected: "minutes above 0 and up to 525600, such as 180 or 0.5",
        parse: |text| duration(text, Duration::from_mins(1), 525_600.0),
    };

    MAX_PEERS: Setting<u64, Is> = Setting {
        section: sections::PEERS,
        flag: Some(Flag::long("max-peers")),
        variable: "MAX_PEERS",
        takes: Takes::Number("NUMBER"),
        help: "Keep at most this many peers, of all torrents together.",
        details: "Beyond that, peers of the address that has the most peers are dropped first, so that a flood from one \
                  host displaces no peers of other hosts. Among addresses with equally many peers, torrents that are \
                  rarely asked for are dropped first.",
        docker: "",
        default: Is("2000000"),
        example: "1000",
        expected: "a whole number from 1 to 1000000000, such as 2000000",
        parse: |text| whole(text, &(1..=1_000_000_000)),
    };
}
