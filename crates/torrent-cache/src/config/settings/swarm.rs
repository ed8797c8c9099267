//! The other hosts of the network.

use ::settings::values::whole;
use ::settings::{Flag, Is, Setting, Takes};
use url::{Host, Url};

use crate::config::sections;
use crate::config::values::{host, tracker};

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

const PORTS: &str = "a port from 1 to 65535";
