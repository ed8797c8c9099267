//! Upstream trackers.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ::settings::values::{duration, value, whole};
use ::settings::{Flag, Is, Setting, Takes, Unset};

use crate::config::sections;
settings! {
    FORWARDS: Setting<PathBuf, Unset> = Setting {
        section: sections::FORWARDING,
        flag: Some(Flag::global('f', "forwards")),
        variable: "FORWARDS_FILE",
        takes: Takes::File,
        help: "Announce to the [upstream trackers](forwarding.md) in this YAML file, which SIGHUP reads again.",
        details: "",
        docker: "This is a path inside the container: /app/forwarders.yml.",
        default: Unset("none"),
        example: "- uri: http://tracker.example/announce\n",
        expected: "a YAML file with a list of forwarders",
        parse: value,
    };

    FORWARD_TIMEOUT: Setting<Duration, Is> = Setting {
        section: sections::FORWARDING,
        flag: Some(Flag::with_short('t', "forward-timeout")),
        variable: "FORWARD_TIMEOUT",
        takes: Takes::Number("SECONDS"),
        help: "Let an announce wait at most this many seconds for upstream peers.",
        details: "[Few announces wait](forwarding.md#what-a-client-gets-and-when). Fractions are allowed.",
        docker: "",
        default: Is("2"),
        example: "0.5",
        expected: "seconds above 0 and up to 60, such as 2 or 0.5",
        parse: |text| duration(text, Duration::from_secs(1), 60.0),
    };

    LOCAL_ONLY_AFTER: Setting<NonZeroU32, Unset> = Setting {
        section: sections::FORWARDING,
        flag: Some(Flag::long("local-only-after")),
        variable: "LOCAL_ONLY_AFTER",
        takes: Takes::Number("SEEDS"),
        help: "Return few upstream peers once this many local seeds of a torrent exist.",
        details: "From then on, at most five upstream peers are returned, so that the transfer stays inside the network.",
        docker: "",
        default: Unset("never"),
        example: "3",
        expected: "a whole number from 1 to 4294967295, such as 3",
        parse: value,
    };

    MAX_EXCHANGES: Setting<usize, Unset> = Setting {
        section: sections::FORWARDING,
        flag: Some(Flag::long("max-exchanges")),
        variable: "MAX_EXCHANGES",
        takes: Takes::Number("NUMBER"),
        help: "Run at most this many exchanges at once, with all upstream trackers together; further exchanges wait until \
               one ends.",
        details: "Each exchange takes a file descriptor.",
        docker: "",
        default: Unset("three quarters of the file descriptors [kept for them](#limits), 3072 at most"),
        example: "100",
        expected: "a whole number from 1 to 1000000, such as 1024",
        parse: |text| whole(text, &(1..=1_000_000)),
    };
}
