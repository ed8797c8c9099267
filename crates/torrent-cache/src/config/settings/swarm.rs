//! The other hosts of the network.

use ::settings::values::{list, value, whole};
use ::settings::{Flag, Is, Setting, Takes, Unset};
use ipnet::IpNet;
use url::{Host, Url};

use crate::config::sections;
use crate::config::values::{host, tracker};
use crate::swarm_tracker::{ClusterSecret, TrackerToken};

settings! {
    TRACKER: Setting<Url, Is> = Setting {
        section: sections::SWARM,
        flag: Some(Flag::long_global("tracker")),
        variable: "TRACKER",
        takes: Takes::Value("URL"),
        help: "The announce URL of the tracker. This version only checks that it can be reached.",
        details: "",
        docker: "",
        default: Is("http://192.168.1.1:6969/announce"),
        example: "http://10.0.0.1:6969/announce",
        expected: "a URL such as http://192.168.1.1:6969/announce",
        parse: tracker,
    };

    ETCD_HOST: Setting<Host, Is> = Setting {
        section: sections::SWARM,
        flag: Some(Flag::long_global("etcd-host")),
        variable: "ETCD_HOST",
        takes: Takes::Value("HOST"),
        help: "The host that keeps the torrents: the tracker's. This version only checks that it can be reached.",
        details: "",
        docker: "",
        default: Is("192.168.1.1"),
        example: "10.0.0.1",
        expected: "a host name or an IP address",
        parse: host,
    };

    ETCD_PORT: Setting<u16, Is> = Setting {
        section: sections::SWARM,
        flag: Some(Flag::long_global("etcd-port")),
        variable: "ETCD_PORT",
        takes: Takes::Number("PORT"),
        help: "The port of that host.",
        details: "",
        docker: "",
        default: Is("2378"),
        example: "2379",
        expected: PORTS,
        parse: |text| whole(text, &(1..=65535)),
    };

    TORRENTS_TOKEN: Setting<TrackerToken, Unset> = Setting {
        section: sections::SWARM,
        flag: None,
        variable: "TORRENTS_TOKEN",
        takes: Takes::Secret("TOKEN"),
        help: "The token that the tracker wants for torrents, where it has the same variable. This version does not send it.",
        details: "There is no flag, because other users of the host could read it.",
        docker: "",
        default: Unset("none"),
        example: "0123456789abcdef0123456789abcdef",
        expected: "16 to 256 of the characters A-Z a-z 0-9 - . _ ~ + / =",
        parse: value,
    };

    CLUSTER_SECRET: Setting<ClusterSecret, Unset> = Setting {
        section: sections::SWARM,
        flag: None,
        variable: "CLUSTER_SECRET",
        takes: Takes::Secret("SECRET"),
        help: "A secret that all hosts of the network have, so that no other program can guess what they share. This version \
               does not use it.",
        details: "There is no flag, because other users of the host could read it.",
        docker: "",
        default: Unset("none, the name of a blob is enough to find it"),
        example: "0123456789abcdef0123456789abcdef",
        expected: "text of 16 to 256 bytes",
        parse: value,
    };

    PEER_NETWORKS: Setting<Vec<IpNet>, Is> = Setting {
        section: sections::SWARM,
        flag: Some(Flag::long_global("peer-networks")),
        variable: "PEER_NETWORKS",
        takes: Takes::List("NETWORKS"),
        help: "Share with hosts in these networks only. This version does not share.",
        details: "The default is private networks and this host.",
        docker: "",
        default: Is(PRIVATE_NETWORKS),
        example: "10.0.0.0/8,fd00::/8",
        expected: "networks such as 10.0.0.0/8,fd00::/8",
        parse: list,
    };

    TORRENT_FIRST_PORT: Setting<u16, Is> = Setting {
        section: sections::SWARM,
        flag: Some(Flag::long_global("torrent-first-port")),
        variable: "TORRENT_FIRST_PORT",
        takes: Takes::Number("PORT"),
        help: "The first of the ports on which other hosts will reach this one. This version only checks that one is free.",
        details: "",
        docker: "",
        default: Is("6881"),
        example: "6882",
        expected: PORTS,
        parse: |text| whole(text, &(1..=65535)),
    };

    TORRENT_LAST_PORT: Setting<u16, Is> = Setting {
        section: sections::SWARM,
        flag: Some(Flag::long_global("torrent-last-port")),
        variable: "TORRENT_LAST_PORT",
        takes: Takes::Number("PORT"),
        help: "The last of these ports.",
        details: "",
        docker: "",
        default: Is("6891"),
        example: "6890",
        expected: PORTS,
        parse: |text| whole(text, &(1..=65535)),
    };
}

/// Private and link-local networks, and this host.
const PRIVATE_NETWORKS: &str =
    "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16,127.0.0.0/8,fc00::/7,fe80::/10,::1/128";

const PORTS: &str = "a port from 1 to 65535";
