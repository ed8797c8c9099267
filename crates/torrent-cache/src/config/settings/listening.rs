//! Where the cache listens.

use std::net::IpAddr;
use std::path::PathBuf;

use ::settings::values::{value, whole};
use ::settings::{Flag, Is, Setting, Takes};

use crate::config::sections;

settings! {
    PORT: Setting<u16, Is> = Setting {
        section: sections::LISTENING,
        flag: Some(Flag::global('p', "port")),
        variable: "PORT",
        takes: Takes::Number("PORT"),
        help: "Listen on this port, for http and, if there is a certificate, for https as well.",
        details: "With 0 the system chooses a port, which the log names.",
        docker: "",
        default: Is("8888"),
        example: "8889",
        expected: "a port from 0 to 65535",
        parse: |text| whole(text, &(0..=65535)),
    };

    INTERFACE: Setting<IpAddr, Is> = Setting {
        section: sections::LISTENING,
        flag: Some(Flag::global('i', "interface")),
        variable: "INTERFACE",
        takes: Takes::Value("ADDRESS"),
        help: "Listen on this address: `0.0.0.0` is all of IPv4, `::` all addresses, `127.0.0.1` this host only.",
        details: "",
        docker: "",
        default: Is("0.0.0.0"),
        example: "127.0.0.1",
        expected: "an IP address such as 0.0.0.0, 127.0.0.1 or ::",
        parse: value,
    };

    CERTFILE: Setting<PathBuf, Is> = Setting {
        section: sections::LISTENING,
        flag: Some(Flag::long("certfile")),
        variable: "CERTFILE",
        takes: Takes::File,
        help: "The certificate for https and its chain, a PEM file. Without a file at the default path there is no https.",
        details: "",
        docker: "",
        default: Is("/etc/torrent-proxy/ssl/cert.pem"),
        example: "-----BEGIN CERTIFICATE-----\n",
        expected: "a PEM file that begins with the server's certificate",
        parse: value,
    };

    PRIVATEKEY: Setting<PathBuf, Is> = Setting {
        section: sections::LISTENING,
        flag: Some(Flag::long("privatekey")),
        variable: "PRIVATEKEY",
        takes: Takes::File,
        help: "The key of the certificate in CERTFILE, a PEM file without a passphrase.",
        details: "",
        docker: "",
        default: Is("/etc/torrent-proxy/ssl/key.pem"),
        example: "-----BEGIN PRIVATE KEY-----\n",
        expected: "a PEM file with the key of the certificate",
        parse: value,
    };
}
