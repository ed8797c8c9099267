//! Torrent files and leases of shared blobs.

use ::settings::values::{SWITCH, switch, value, whole};
use ::settings::{Flag, Is, Setting, Takes, Unset};
use ipnet::IpNet;

use crate::config::sections;
use crate::config::values::{listen_or_none, networks};
use crate::frontend::listen::Listen;
use crate::frontend::torrents::BearerToken;

settings! {
    TORRENTS: Setting<bool, Is> = Setting {
        section: sections::TORRENTS,
        flag: Some(Flag::long("torrents")),
        variable: "TORRENTS",
        takes: Takes::Switch,
        help: "Keep the torrent files and leases with which hosts [share blobs](torrent-cache.md#the-trackers-part), such as \
               container images.",
        details: "",
        docker: "",
        default: Is("false"),
        example: "true",
        expected: SWITCH,
        parse: switch,
    };

    TORRENTS_LISTEN: Setting<Vec<Listen>, Is> = Setting {
        section: sections::TORRENTS,
        flag: Some(Flag::long("torrents-listen")),
        variable: "TORRENTS_LISTEN_ADDR",
        takes: Takes::List("ADDRESS"),
        help: "With `--torrents`, serve torrent files and leases, and nothing else, on these addresses as well, in the \
               notation of `--listen`; `none` for no such address.",
        details: "The default is the port of etcd, because the first torrent-cache kept torrent files in etcd.",
        docker: "This is the address inside the container, which docker-compose.yml does not publish.",
        default: Is(":2378"),
        example: "127.0.0.1:2378",
        expected: "addresses such as :2378, 127.0.0.1:2378, unix:/run/torrents.sock or tls://:2379, or none",
        parse: listen_or_none,
    };

    TORRENTS_TOKEN: Setting<BearerToken, Unset> = Setting {
        section: sections::TORRENTS,
        flag: None,
        variable: "TORRENTS_TOKEN",
        takes: Takes::Secret("TOKEN"),
        help: "With `--torrents`, every host must send this token in `Authorization: Bearer`, to read and to write.",
        details: "There is no flag for the token, because other users of the host can read the flags of a process.",
        docker: "",
        default: Unset("none, hosts need no token"),
        example: "0123456789abcdef0123456789abcdef",
        expected: "16 to 256 of the characters A-Z a-z 0-9 - . _ ~ + / =",
        parse: value,
    };

    TORRENTS_FROM: Setting<Vec<IpNet>, Unset> = Setting {
        section: sections::TORRENTS,
        flag: Some(Flag::long("torrents-from")),
        variable: "TORRENTS_FROM",
        takes: Takes::List("NETWORKS"),
        help: "With `--torrents`, hosts in these networks may store torrent files and hold leases.",
        details: "",
        docker: "",
        default: Unset("private networks and this host"),
        example: "10.0.0.0/8,fd00::/8",
        expected: "networks such as 10.0.0.0/8,fd00::/8",
        parse: networks,
    };

    TORRENTS_MEMORY: Setting<u64, Is> = Setting {
        section: sections::TORRENTS,
        flag: Some(Flag::long("torrents-memory")),
        variable: "TORRENTS_MEMORY",
        takes: Takes::Number("MIB"),
        help: "With `--torrents`, torrent files take at most this many MiB of memory; beyond that, the torrent files that \
               were used least recently are dropped.",
        details: "64 MiB hold about 30,000 blobs.",
        docker: "",
        default: Is("64"),
        example: "128",
        expected: "a whole number from 8 to 65536",
        parse: |text| whole(text, &(8..=65_536)),
    };
}
