//! Which servers the cache fetches from.

use std::path::PathBuf;
use std::time::Duration;

use ::settings::values::{items, list, value};
use ::settings::{Flag, Is, Setting, Takes, Unset, Wrong};

use crate::config::sections;
use crate::config::values::{SECONDS, seconds, set};
use crate::upstream::UpstreamOrigin;

settings! {
    REGISTRY_LOCATION: Setting<String, Is> = Setting {
        section: sections::UPSTREAM,
        flag: Some(Flag::long_global("registry-location")),
        variable: "REGISTRY_LOCATION",
        takes: Takes::Value("HOST"),
        help: "Fetch from this registry if a request names no other registry: a host with an optional port.",
        details: "",
        docker: "",
        default: Is("registry-1.docker.io"),
        example: "10.0.0.5:5000",
        expected: "a host with an optional port, such as registry-1.docker.io or 10.0.0.5:5000",
        parse: |text| value::<UpstreamOrigin>(text).map(|_| text.to_owned()),
    };

    REGISTRY_NO_SSL: Setting<bool, Unset> = Setting {
        section: sections::UPSTREAM,
        flag: Some(Flag::long_global("registry-no-ssl")),
        variable: "REGISTRY_NO_SSL",
        takes: Takes::Switch,
        help: "If set, speak http to the registry of REGISTRY_LOCATION, not https.",
        details: "Any text except false, 0, no and off sets this switch.",
        docker: "",
        default: Unset("not set, https"),
        example: "1",
        expected: "any text, or nothing",
        parse: set,
    };

    UPSTREAMS: Setting<Vec<UpstreamOrigin>, Unset> = Setting {
        section: sections::UPSTREAM,
        flag: Some(Flag::long_global("upstreams")),
        variable: "UPSTREAMS",
        takes: Takes::List("HOSTS"),
        help: "Fetch from these servers as well, if a request names one: `quay.io,http://10.0.0.5:5000`. The flag may be \
               repeated, the variable takes a comma-separated list.",
        details: "Requests name a server by `?ns=`, by the first part of the path after `/v2/`, or by an absolute URL.",
        docker: "",
        default: Unset("none, only the registry of REGISTRY_LOCATION"),
        example: "quay.io,ghcr.io,http://10.0.0.5:5000",
        expected: "hosts with optional ports, such as quay.io,http://10.0.0.5:5000, without paths and logins",
        parse: origins,
    };

    CA_FILE: Setting<PathBuf, Unset> = Setting {
        section: sections::UPSTREAM,
        flag: Some(Flag::long_global("ca-file")),
        variable: "CA_FILE",
        takes: Takes::File,
        help: "Trust the authorities in this PEM file to sign upstreams' certificates, and no others.",
        details: "",
        docker: "",
        default: Unset("those of the system and of webpki"),
        example: "-----BEGIN CERTIFICATE-----\n",
        expected: "a PEM file with certificates of authorities",
        parse: value,
    };

    CONNECT_TIMEOUT: Setting<Duration, Is> = Setting {
        section: sections::UPSTREAM,
        flag: Some(Flag::long_global("connect-timeout")),
        variable: "CONNECT_TIMEOUT",
        takes: Takes::Number("SECONDS"),
        help: "Wait at most this long for a connection to an upstream.",
        details: "This time includes the look-up of the name and the TLS handshake.",
        docker: "",
        default: Is("10"),
        example: "5",
        expected: SECONDS,
        parse: seconds,
    };

    UPSTREAM_TIMEOUT: Setting<Duration, Is> = Setting {
        section: sections::UPSTREAM,
        flag: Some(Flag::long_global("upstream-timeout")),
        variable: "UPSTREAM_TIMEOUT",
        takes: Takes::Number("SECONDS"),
        help: "Wait at most this long for an upstream's reply, and for each further piece of the reply.",
        details: "",
        docker: "",
        default: Is("30"),
        example: "60",
        expected: SECONDS,
        parse: seconds,
    };
}

fn origins(text: &str) -> Result<Vec<UpstreamOrigin>, Wrong> {
    if items(text)?.any(|item| item.contains('@')) {
        return Err(Wrong::Expected("hosts without user names and passwords, which belong in REGISTRY_AUTH_FILE"));
    }
    list(text)
}
