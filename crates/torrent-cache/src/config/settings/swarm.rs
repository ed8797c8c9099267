//! Sharing with the other hosts of the network.

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
        help: "Share blobs with the hosts of this tracker: its announce URL, http or https.",
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
        help: "Share torrent files through this host, which runs a tracker with --torrents.",
        details: "That tracker also decides which host fetches a blob from its registry.",
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
        help: "The port of ETCD_HOST for torrent files.",
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
        help: "Send this token to ETCD_HOST. A tracker that has the same variable answers only hosts that send the token.",
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
        help: "Share only with hosts that have the same secret, so that no other program can guess what is shared.",
        details: "There is no flag, because other users of the host could read it.",
        docker: "",
        default: Unset("none, a host that knows the registry, the repository and the digest of a blob can find the blob"),
        example: "0123456789abcdef0123456789abcdef",
        expected: "text of 16 to 256 bytes",
        parse: value,
    };

    PEER_NETWORKS: Setting<Vec<IpNet>, Is> = Setting {
        section: sections::SWARM,
        flag: Some(Flag::long_global("peer-networks")),
        variable: "PEER_NETWORKS",
        takes: Takes::List("NETWORKS"),
        help: "Share with hosts in these networks only. Blobs travel in these networks in plain text.",
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
        help: "Listen for other hosts on the first free TCP port from this port on.",
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
        help: "Listen for other hosts on a TCP port up to this port.",
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
