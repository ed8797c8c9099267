//! Where the tracker listens.

use std::path::PathBuf;

use ::settings::values::{list, value};
use ::settings::{Flag, Is, Setting, Takes, Unset};

use crate::config::sections;
use crate::config::values::listen;
use crate::frontend::listen::{Listen, UdpListenAddr};

settings! {
    LISTEN: Setting<Vec<Listen>, Is> = Setting {
        section: sections::LISTENING,
        flag: Some(Flag::global('l', "listen")),
        variable: "LISTEN_ADDR",
        takes: Takes::List("ADDRESS"),
        help: "Listen on these addresses: `:8080` (all addresses, IPv4 and IPv6), `127.0.0.1:8080`, `[::1]:8080` or \
               `unix:/run/retracker.sock`; over [TLS](tls.md) `tls://:8443`; for proxies that speak the [PROXY \
               protocol](reverse-proxy.md#the-proxy-protocol) `proxy+tcp://127.0.0.1:8081` or \
               `proxy+unix:/run/retracker.sock`. The flag may be repeated, the variable takes a comma-separated list.",
        details: "A name means [all of its addresses](#addresses).",
        docker: "This is the address inside the container: when you change its port, change docker-compose.yml as well.",
        default: Is(":80"),
        example: "127.0.0.1:8080,unix:/run/retracker.sock",
        expected: ADDRESSES,
        parse: listen,
    };

    UDP_LISTEN: Setting<Vec<UdpListenAddr>, Unset> = Setting {
        section: sections::LISTENING,
        flag: Some(Flag::with_short('u', "udp-listen")),
        variable: "UDP_LISTEN_ADDR",
        takes: Takes::List("ADDRESS"),
        help: "Serve [UDP](#udp) clients on these addresses as well: `:6969`, `127.0.0.1:6969` or `[::1]:6969`; for \
               proxies that speak the [PROXY protocol](reverse-proxy.md#udp-behind-a-proxy), version 2, \
               `proxy+udp://127.0.0.1:6969`. The flag may be repeated, the variable takes a comma-separated list.",
        details: "",
        docker: "`:80` is published under HOST_PORT, as LISTEN_ADDR is.",
        default: Unset("none"),
        example: ":6969,proxy+udp://127.0.0.1:6970",
        expected: "addresses such as :6969, 127.0.0.1:6969, [::1]:6969 or proxy+udp://:6969",
        parse: list,
    };

    ADMIN_LISTEN: Setting<Vec<Listen>, Unset> = Setting {
        section: sections::LISTENING,
        flag: Some(Flag::long_global("admin-listen")),
        variable: "ADMIN_LISTEN_ADDR",
        takes: Takes::List("ADDRESS"),
        help: "Serve the [operator's pages](metrics.md#a-listener-for-operators) (`/metrics`, `/forwarders`, `/health`, \
               notices) on these addresses and no others, in the notation of `--listen`. It implies `--prometheus`.",
        details: "Clients cannot announce there, and connections there do not count towards `--max-connections`.",
        docker: "This is the address inside the container, which docker-compose.yml does not publish.",
        default: Unset("none, the operator's pages are where clients announce"),
        example: "127.0.0.1:9090,unix:/run/retracker-admin.sock",
        expected: ADDRESSES,
        parse: listen,
    };

    TLS_CERT: Setting<PathBuf, Unset> = Setting {
        section: sections::LISTENING,
        flag: Some(Flag::long("tls-cert")),
        variable: "TLS_CERT_FILE",
        takes: Takes::File,
        help: "The [certificate](tls.md) of `tls://` listeners and its chain, a PEM file, which SIGHUP reads again.",
        details: "",
        docker: "This is a path inside the container: /app/fullchain.pem.",
        default: Unset("none"),
        example: "-----BEGIN CERTIFICATE-----\n",
        expected: "a PEM file with a certificate",
        parse: value,
    };

    TLS_KEY: Setting<PathBuf, Unset> = Setting {
        section: sections::LISTENING,
        flag: Some(Flag::long("tls-key")),
        variable: "TLS_KEY_FILE",
        takes: Takes::File,
        help: "The key of that certificate, a PEM file without a passphrase, which SIGHUP reads again.",
        details: "",
        docker: "This is a path inside the container: /app/privkey.pem.",
        default: Unset("none"),
        example: "-----BEGIN PRIVATE KEY-----\n",
        expected: "a PEM file with a private key",
        parse: value,
    };
}

const ADDRESSES: &str =
    "addresses such as :8080, 127.0.0.1:8080, [::1]:8080, unix:/run/retracker.sock, tls://:8443 or proxy+tcp://:8081";
