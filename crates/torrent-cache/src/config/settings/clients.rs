//! Which clients may read what.

use std::path::PathBuf;
use std::time::Duration;

use ::settings::values::{list, value};
use ::settings::{Flag, Is, Setting, Takes, Unset};
use ipnet::IpNet;

use crate::config::sections;
use crate::config::values::{SECONDS_OR_NONE, seconds_or_none};

settings! {
    REGISTRY_AUTH_FILE: Setting<PathBuf, Unset> = Setting {
        section: sections::CLIENTS,
        flag: Some(Flag::long_global("registry-auth-file")),
        variable: "REGISTRY_AUTH_FILE",
        takes: Takes::File,
        help: "Log in at registries with this `config.json` of Docker, for clients that send no credentials.",
        details: "The cache runs the credential helpers that the file names. It uses these logins only for clients \
                  in CLIENT_NETWORKS.",
        docker: "",
        default: Unset("none, a client without credentials is anonymous"),
        example: "{\"auths\":{}}",
        expected: "docker's config.json",
        parse: value,
    };

    CLIENT_NETWORKS: Setting<Vec<IpNet>, Unset> = Setting {
        section: sections::CLIENTS,
        flag: Some(Flag::long_global("client-networks")),
        variable: "CLIENT_NETWORKS",
        takes: Takes::List("NETWORKS"),
        help: "Use the logins of REGISTRY_AUTH_FILE for clients in these networks, and show them the status page: \
               `10.0.0.0/8,fd00::/8`.",
        details: "A client in these networks can read every repository that these logins can read.",
        docker: "",
        default: Unset("this host only"),
        example: "10.0.0.0/8,127.0.0.0/8",
        expected: "networks such as 10.0.0.0/8,127.0.0.0/8",
        parse: list,
    };

    AUTH_STALE: Setting<Duration, Is> = Setting {
        section: sections::CLIENTS,
        flag: Some(Flag::long_global("auth-stale")),
        variable: "AUTH_STALE",
        takes: Takes::Number("SECONDS"),
        help: "While an upstream fails, keep serving for this time what the upstream last gave without credentials.",
        details: "The time starts when the upstream last gave the content to this process without credentials.",
        docker: "",
        default: Is("0"),
        example: "3600",
        expected: SECONDS_OR_NONE,
        parse: seconds_or_none,
    };
}
