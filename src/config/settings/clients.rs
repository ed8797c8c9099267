//! Where a client's address comes from.

use ipnet::IpNet;

use ::settings::values::{SWITCH, switch, value};
use ::settings::{Flag, Is, Setting, Takes, Unset, Wrong};

use crate::config::sections;
use crate::config::values::networks;
use crate::frontend::client_address::RealIpHeader;
use crate::topology::IpParam;

settings! {
    X_REAL_IP: Setting<bool, Is> = Setting {
        section: sections::CLIENTS,
        flag: Some(Flag::with_short('x', "x-real-ip")),
        variable: "X_REAL_IP",
        takes: Takes::Switch,
        help: "Take the client's address from the `X-Real-IP` header, from any sender. Use it only behind a proxy that \
               sets the header; `--trusted-proxies` is [safer](reverse-proxy.md#nginx).",
        details: "",
        docker: "",
        default: Is("false"),
        example: "true",
        expected: SWITCH,
        parse: switch,
    };

    TRUSTED_PROXIES: Setting<Vec<IpNet>, Unset> = Setting {
        section: sections::CLIENTS,
        flag: Some(Flag::long("trusted-proxies")),
        variable: "TRUSTED_PROXIES",
        takes: Takes::Value("NETWORKS"),
        help: "Trust the client-address header of these reverse proxies: addresses and networks, comma-separated, such as \
               `127.0.0.1,172.18.0.0/16,fd00::5`.",
        details: "List proxies only: clients at these addresses [are not \
                  listed](reverse-proxy.md#clients-that-are-not-listed).",
        docker: "",
        default: Unset("none"),
        example: "10.0.0.0/8,fd00::5",
        expected: "addresses and networks such as 127.0.0.1,10.0.0.0/8,fd00::/8",
        parse: networks,
    };

    REAL_IP_HEADER: Setting<RealIpHeader, Unset> = Setting {
        section: sections::CLIENTS,
        flag: Some(Flag::long("real-ip-header")),
        variable: "REAL_IP_HEADER",
        takes: Takes::Value("NAME"),
        help: "Read only this header of the trusted proxies, such as `X-Forwarded-For`.",
        details: "`X-Forwarded-For` and `Forwarded` are read as lists, a header of any other name holds one address.",
        docker: "",
        default: Unset("`X-Real-IP`, `X-Forwarded-For` and `Forwarded`, which must agree"),
        example: "X-Forwarded-For",
        expected: "the name of a header such as X-Forwarded-For",
        parse: |text| RealIpHeader::new(text).ok_or(Wrong::Value),
    };

    IP_PARAM: Setting<IpParam, Is> = Setting {
        section: sections::CLIENTS,
        flag: Some(Flag::long("ip-param")),
        variable: "IP_PARAM",
        takes: Takes::Value("WHEN"),
        help: "Let a client announce another address with `ip=`: `never`, `private` (from private networks and this host) \
               or `always`.",
        details: "With `always`, any client can make others connect to an address of its choice.",
        docker: "",
        default: Is("private"),
        example: "always",
        expected: "never, private or always",
        parse: |text| value(&text.to_ascii_lowercase()),
    };
}
