use std::ffi::OsString;
use std::io::Write as _;

use super::*;
use crate::config::{Task, read};
use crate::frontend::shutdown::DRAIN;

const SECOND: Duration = Duration::from_secs(1);

/// Returns the configuration of `retracker --chihaya FILE` for this text of the file.
fn config(text: &str) -> Config {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let args = ["retracker".into(), OsString::from("--chihaya"), file.path().into()];
    match read(args, |_| None).unwrap() {
        Task::Serve { config, .. } => *config,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_timeout_of_the_file_is_in_force() {
    let timeouts = |text: &str| {
        let config = config(text);
        let ConnectionTimeouts { first_byte, rest, send, idle } = config.connections.timeouts;
        ([first_byte, rest, send, idle].map(|time| time.as_millis()), config.drain)
    };
    let newest = |keys: &str| timeouts(&format!("chihaya:\n  http:\n    addr: 127.0.0.1:0\n{keys}"));
    assert_eq!(newest(""), ([2000, 2000, 2000, 30_000], DRAIN), "Chihaya's defaults");
    let keys = "    read_timeout: 1s\n    write_timeout: 300ms\n    idle_timeout: 4s\n";
    assert_eq!(newest(keys), ([1000, 1000, 300, 4000], DRAIN));
    let rc1 = |keys: &str| {
        timeouts(&format!("chihaya:\n  storage:\n    gc_interval: 1m\n  http:\n    addr: 127.0.0.1:0\n{keys}"))
    };
    let none = NO_LIMIT.as_millis();
    assert_eq!(rc1(""), ([none; 4], DRAIN), "rc.1 has no timeouts by default");
    let keys = "    read_timeout: 1s\n    write_timeout: 2s\n    request_timeout: 9s\n";
    assert_eq!(rc1(keys), ([1000, 1000, 2000, 1000], 9 * SECOND));
    let v1 = timeouts("{\"httpReadTimeout\": \"1s\", \"httpWriteTimeout\": \"2s\", \"httpRequestTimeout\": \"3s\"}");
    assert_eq!(v1, ([1000, 1000, 2000, 1000], 3 * SECOND));
}

#[test]
fn connections_are_limited_as_the_file_says() {
    let limits = |keys: &str| {
        let config = config(&format!("{{\"createOnAnnounce\": true{keys}}}"));
        let operators = config.operator_connections;
        (config.connections.total, config.connections.keep_alive, operators.total, operators.timeouts.send)
    };
    assert_eq!(limits(""), (None, false, 32, 10 * SECOND));
    let keys = ", \"httpListenLimit\": 7, \"apiListenLimit\": 3, \"apiWriteTimeout\": \"1s\"";
    assert_eq!(limits(keys), (Some(7), false, 3, SECOND));
    assert_eq!(limits(", \"apiListenLimit\": 1000"), (None, false, 32, 10 * SECOND), "32 descriptors are reserved");
}

#[test]
fn the_key_of_connection_ids_is_the_files_unless_everybody_knows_it() {
    let key = |keys: &str| config(&format!("chihaya:\n  udp:\n    addr: 127.0.0.1:0\n{keys}")).udp_key;
    assert_eq!(key(""), None);
    assert_eq!(key("    private_key: \"\"\n"), None);
    let example = "paste a random string here that will be used to hmac connection IDs";
    assert_eq!(key(&format!("    private_key: {example}\n")), None);
    assert_eq!(key("    private_key: x\n"), Some(SharedKey::new("x", Duration::ZERO)));
    assert_eq!(key("    private_key: x\n    max_clock_skew: 10s\n"), Some(SharedKey::new("x", 10 * SECOND)));
    assert_eq!(key("    private_key: x\n    max_clock_skew: 1h\n"), Some(SharedKey::new("x", 60 * SECOND)));
}
