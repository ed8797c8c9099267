//! The settings of several instances that share their swarms.

use std::path::PathBuf;
use std::time::Duration;

use ::settings::values::{duration, value};
use ::settings::{Flag, Is, Setting, Takes, Unset, Wrong};

use crate::config::sections;
use crate::frontend::udp::connection_id::{MAX_CLOCK_SKEW, SharedKey};
use crate::share_link::EngineTarget;

settings! {
    SHARE: Setting<EngineTarget, Unset> = Setting {
        section: sections::SHARING,
        flag: Some(Flag::long_global("share")),
        variable: "SHARE_URL",
        takes: Takes::Secret("URL"),
        help: "[Share the swarms](high-availability.md#one-swarm-for-all-instances) with other instances through this Redis \
               (6.2 or newer) or Valkey: `redis://host:6379`, `rediss://host:6379` over TLS, \
               `redis+sentinel://host1,host2,host3/mymaster`, or `redis+unix:///run/redis.sock`. A user and a password may \
               stand before the host, as in `redis://user:password@host`.",
        details: "A number behind the host selects a database, as in `redis://host/3`. Announces never wait for the server.",
        docker: "",
        default: Unset("none, the instance keeps its swarms to itself"),
        example: "redis://redis.lan:6379",
        expected: "a URL such as redis://host:6379, rediss://host:6379, redis+sentinel://host1,host2/mymaster or \
                   redis+unix:///run/redis.sock; special characters of a password in percent-encoding, such as %40",
        parse: value,
    };

    SHARE_PASSWORD_FILE: Setting<PathBuf, Unset> = Setting {
        section: sections::SHARING,
        flag: Some(Flag::long_global("share-password-file")),
        variable: "SHARE_PASSWORD_FILE",
        takes: Takes::File,
        help: "With `--share`, the file with the password for the server. Other users of the host can read a password in a \
               flag.",
        details: "White space around the password is ignored.",
        docker: "This is a path inside the container, such as /run/secrets/share.",
        default: Unset("none, the password is in the URL, or the server needs no password"),
        example: "a password",
        expected: "a file with one line, the password",
        parse: value,
    };

    SHARE_SENTINEL_PASSWORD_FILE: Setting<PathBuf, Unset> = Setting {
        section: sections::SHARING,
        flag: Some(Flag::long_global("share-sentinel-password-file")),
        variable: "SHARE_SENTINEL_PASSWORD_FILE",
        takes: Takes::File,
        help: "With `redis+sentinel://`, the file with the password of the Sentinels, if it is not that of the server.",
        details: "White space around the password does not count. Sentinels without a password are asked without one.",
        docker: "This is a path inside the container, such as /run/secrets/sentinel.",
        default: Unset("Sentinels that want a password get that of the server"),
        example: "a password",
        expected: "a file with one line, the password",
        parse: value,
    };

    SHARE_NAME: Setting<String, Is> = Setting {
        section: sections::SHARING,
        flag: Some(Flag::long_global("share-name")),
        variable: "SHARE_NAME",
        takes: Takes::Value("NAME"),
        help: "With `--share`, begin all keys in the server with this name. Instances with the same name share their swarms.",
        details: "",
        docker: "",
        default: Is("retracker"),
        example: "retracker-test",
        expected: "1 to 64 of the characters A-Z a-z 0-9 - . _ :",
        parse: name,
    };

    UDP_SECRET: Setting<SharedKey, Unset> = Setting {
        section: sections::SHARING,
        flag: Some(Flag::long("udp-secret")),
        variable: "UDP_SECRET",
        takes: Takes::Secret("TEXT"),
        help: "Make the connection ids of UDP with this secret. Instances with the same secret accept each other's ids; their \
               clocks may differ by a minute.",
        details: "Other users of the host can read a flag, so the variable is better.",
        docker: "",
        default: Unset("none, instances that share swarms agree on a random key, any other instance makes its own"),
        example: "0123456789abcdef0123456789abcdef",
        expected: "16 to 256 characters without white space, such as the output of openssl rand -hex 16",
        parse: secret,
    };

    SHARE_WARM_UP: Setting<Duration, Is> = Setting {
        section: sections::SHARING,
        flag: Some(Flag::long("share-warm-up")),
        variable: "SHARE_WARM_UP",
        takes: Takes::Number("SECONDS"),
        help: "With `--share`, `/ready` answers 503 until the instance knows the peers of the others, but for no longer than \
               this many seconds.",
        details: "Announces are answered from the start.",
        docker: "",
        default: Is("10"),
        example: "30",
        expected: "seconds above 0 and up to 3600, such as 10",
        parse: |text| duration(text, Duration::from_secs(1), 3600.0),
    };
}

fn secret(text: &str) -> Result<SharedKey, Wrong> {
    let is_secret = (16..=256).contains(&text.len()) && !text.contains(char::is_whitespace);
    if is_secret { Ok(SharedKey::new(text, MAX_CLOCK_SKEW)) } else { Err(Wrong::Value) }
}

fn name(text: &str) -> Result<String, Wrong> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let is_name = (1..=64).contains(&text.len()) && text.bytes().all(is_allowed);
    if is_name { Ok(text.to_owned()) } else { Err(Wrong::Value) }
}
