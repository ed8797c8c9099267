//! The command line, the environment, and the files that they name.

use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

use retracker::config::settings;

use crate::dsl::{Exit, Server, TestConnection, announce, eventually, observer, retracker};
use crate::fake_tracker::{FakeTracker, Visit, script, sends};
use crate::service::{ONE_PEER, forwarders};

const LISTEN: [&str; 2] = ["-l", "127.0.0.1:0"];

/// Returns the only line that a failed start has logged.
fn only_line(exit: &Exit, code: i32) -> &str {
    assert_eq!((exit.code, exit.stdout.as_str()), (Some(code), ""), "{exit:?}");
    let [line] = &exit.stderr[..] else { panic!("expected one line: {exit:?}") };
    line
}

// --- What wins ------------------------------------------------------------------------------------------------

#[test]
fn a_flag_beats_its_variable_beats_the_default() {
    let interval = |server: Server| server.announce(&announce("t", "a")).int("interval");
    let with = |value: &str| retracker(&[]).env("ANNOUNCE_INTERVAL", value);
    assert_eq!(interval(Server::start(&[])), 30);
    assert_eq!(interval(with("").start()), 30, "an empty variable counts as unset");
    assert_eq!(interval(with("77").start()), 77);
    for flag in [&["-i", "88"][..], &["-i88"], &["-i=88"], &["--announce-interval", "88"], &["--announce-interval=88"]]
    {
        assert_eq!(interval(retracker(flag).env("ANNOUNCE_INTERVAL", "77").start()), 88, "{flag:?}");
    }
}

#[test]
fn every_empty_variable_counts_as_unset() {
    let mut setup = retracker(&[]);
    for setting in settings::all() {
        setup = setup.env(setting.variable, "");
    }
    // The only setting is the one that `start` adds: a port that the system chooses.
    let server = setup.start();
    let reply = server.connect().announce_with(&announce("t", "a"), &[("X-Real-IP", "10.0.0.1")]);
    assert_eq!((reply.int("interval"), reply.external_ip().as_str()), (30, "127.0.0.1"));
    assert_eq!(server.get("/metrics").status, 404);
}

#[test]
fn booleans() {
    let believes = |server: Server| {
        let reply = server.connect().announce_with(&announce("t", "a"), &[("X-Real-IP", "10.0.0.1")]);
        reply.external_ip() == "10.0.0.1"
    };
    for (word, expected) in [
        ("true", true),
        ("TRUE", true),
        ("1", true),
        ("yes", true),
        ("On", true),
        ("false", false),
        ("False", false),
        ("0", false),
        ("No", false),
        ("off", false),
    ] {
        assert_eq!(believes(retracker(&[]).env("X_REAL_IP", word).start()), expected, "X_REAL_IP={word}");
        assert_eq!(believes(Server::start(&[&format!("-x={word}")])), expected, "-x={word}");
    }
    assert!(believes(Server::start(&["-x"])));
    assert!(believes(Server::start(&["--x-real-ip"])));
    assert!(believes(retracker(&["-x"]).env("X_REAL_IP", "false").start()));
    assert!(!believes(retracker(&["-x=false"]).env("X_REAL_IP", "true").start()));
    assert!(!believes(retracker(&["--x-real-ip=off"]).env("X_REAL_IP", "on").start()));
}

#[test]
fn metrics_by_flag_and_variable() {
    let status = |server: Server| server.get("/metrics").status;
    assert_eq!(status(Server::start(&[])), 404);
    assert_eq!(status(Server::start(&["-p"])), 200);
    assert_eq!(status(Server::start(&["--prometheus"])), 200);
    assert_eq!(status(retracker(&[]).env("ENABLE_PROMETHEUS", "true").start()), 200);
    assert_eq!(status(retracker(&["-p=false"]).env("ENABLE_PROMETHEUS", "true").start()), 404);
}

#[test]
fn debug_by_flag_and_variable() {
    for setup in [retracker(&["-d"]), retracker(&["--debug"]), retracker(&[]).env("DEBUG_MODE", "yes")] {
        let server = setup.start();
        server.announce(&announce("t", "a").at("10.0.0.1"));
        assert!(server.logged("10.0.0.1").contains("DEBUG"));
    }
    let server = retracker(&["-d=0"]).env("DEBUG_MODE", "1").start();
    server.announce(&announce("t", "a").at("10.0.0.1"));
    let log = server.stop().stderr;
    assert!(!log.iter().any(|line| line.contains("10.0.0.1")), "{log:?}");
}

#[test]
fn flags_may_be_joined() {
    let server = Server::start(&["-xpd"]);
    let reply = server.connect().announce_with(&announce("t", "a"), &[("X-Real-IP", "10.0.0.1")]);
    assert_eq!((reply.external_ip().as_str(), server.get("/metrics").status), ("10.0.0.1", 200));
    server.logged("DEBUG");
}

#[test]
fn peers_are_kept_for_the_peer_age() {
    // The peer age is 0.3 seconds. First the flag sets it and overrides the variable, then the variable alone sets it.
    for setup in [retracker(&["-a", "0.005"]).env("PEER_AGE", "180"), retracker(&[]).env("PEER_AGE", "0.005")] {
        let server = setup.start();
        server.announce(&announce("t", "a").at("10.0.0.1"));
        eventually("the peer is forgotten", || {
            let reply = server.announce(&observer("t"));
            assert_eq!(reply.peers().is_empty(), reply.int("incomplete") == 0);
            reply.peers().is_empty().then_some(())
        });
    }
}

#[test]
fn peers_are_kept_up_to_a_number() {
    let torrents: Vec<_> = (0..200).map(|n| format!("t{n}")).collect();
    let hashes: Vec<_> = torrents.iter().map(|torrent| format!("info_hash={torrent:-<20}")).collect();
    let scrape = format!("/scrape?{}", hashes.join("&"));
    let kept = |server: &Server| server.get(&scrape).text().matches("10:incompletei1e").count();
    for (setup, most) in [
        (retracker(&[]), 200),
        (retracker(&[]).env("MAX_PEERS", "10"), 20),
        (retracker(&["--max-peers", "10"]).env("MAX_PEERS", "1000"), 20),
    ] {
        let server = setup.start();
        let mut connection = server.connect();
        for torrent in &torrents {
            connection.announce(&announce(torrent, "a"));
        }
        eventually("the store shrinks", || (kept(&server) <= most).then_some(()));
        assert_eq!(kept(&server) == 200, most == 200);
    }
}

#[test]
fn forwarders_by_flag_and_variable() {
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let file = forwarders(&upstream);
    let path = file.path().to_str().unwrap();
    for setup in [
        retracker(&[]).env("FORWARDS_FILE", path),
        retracker(&["-f", path]).env("FORWARDS_FILE", "/no/such/file.yml"),
        retracker(&["--forwards", path]),
    ] {
        let server = setup.env("FORWARD_TIMEOUT", "30").start();
        assert_eq!(server.announce(&announce("t", "a")).peers(), ["10.0.0.7:6881"]);
    }
}

#[test]
fn forward_timeout_by_flag_and_variable() {
    let upstream = FakeTracker::start(script(Visit::wait_for_close));
    let file = forwarders(&upstream);
    for setup in [
        retracker(&["-t", "0.2"]).env("FORWARD_TIMEOUT", "60"),
        retracker(&["--forward-timeout", "1"]),
        retracker(&[]).env("FORWARD_TIMEOUT", "0.2"),
        retracker(&[]),
    ] {
        let server = setup.env("FORWARDS_FILE", file.path()).start();
        let started = Instant::now();
        assert_eq!(server.announce(&announce("t", "a")).peers(), [""; 0]);
        // 20 s is far less than the overridden timeout of 60 s, and far more than a busy machine needs.
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }
}

// --- Where it listens -----------------------------------------------------------------------------------------

#[test]
fn one_listener_or_several_by_flag_or_variable() {
    for (setup, listeners) in [
        (retracker(&[]).env("LISTEN_ADDR", "127.0.0.1:0"), 1),
        (retracker(&[]).env("LISTEN_ADDR", "127.0.0.1:0, 127.0.0.1:0"), 2),
        (retracker(&["-l", "127.0.0.1:0", "--listen=127.0.0.1:0", "-l127.0.0.1:0"]), 3),
        (retracker(&["-l", "127.0.0.1:0"]).env("LISTEN_ADDR", "127.0.0.1:0,127.0.0.1:0"), 1),
    ] {
        let server = setup.start();
        assert_eq!(server.addresses().len(), listeners);
        for (n, address) in (1_u16..).zip(server.addresses()) {
            let mut connection = TestConnection::to(address);
            // All addresses lead to one tracker.
            let reply = connection.announce(&announce("t", &n.to_string()).at("10.0.0.1").port(n));
            assert_eq!(reply.int("incomplete"), i64::from(n), "{address}");
        }
    }
}

#[test]
fn a_port_alone_is_all_addresses_of_both_families() {
    let server = Server::start(&["-l", ":0"]);
    let (_, port) = server.addresses()[0].rsplit_once(':').unwrap();
    assert_eq!(TestConnection::to(&format!("127.0.0.1:{port}")).get("/health").status, 200);
    if TcpListener::bind("[::1]:0").is_ok() {
        assert_eq!(TestConnection::to(&format!("[::1]:{port}")).get("/health").status, 200);
    }
}

#[test]
fn a_unix_socket_answers_and_its_file_is_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("retracker.sock");
    let address = format!("unix:{}", path.display());
    let server = Server::start(&["-x", "-l", &address]);
    assert_eq!(server.addresses(), [address.as_str()]);
    let mut connection = server.connect();
    let reply = connection.announce_with(&announce("t", "a"), &[("X-Real-IP", "10.0.0.1")]);
    assert_eq!(reply.external_ip(), "10.0.0.1");
    let another = [("X-Real-IP", "10.0.0.2")];
    assert_eq!(connection.announce_with(&announce("t", "b"), &another).peers(), ["10.0.0.1:6881"]);
    assert_eq!(server.stop().code, Some(0));
    assert!(!path.exists());
}

#[test]
fn the_socket_file_of_a_killed_server_does_not_prevent_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("retracker.sock");
    let address = format!("unix:{}", path.display());
    drop(Server::start(&["-l", &address]));
    assert!(path.exists(), "a killed server cannot remove its file");
    let server = Server::start(&["-l", &address]);
    assert_eq!(server.get("/health").status, 200);
    // A second server does not take the socket file away from a running server.
    let line = retracker(&["-l", &address]).run();
    assert!(only_line(&line, 1).contains(&address));
    assert_eq!(server.get("/health").status, 200);
}

#[test]
fn a_port_that_is_taken_ends_the_start_and_nothing_is_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("retracker.sock");
    let unix = format!("unix:{}", socket.display());
    for args in [&["-l", &taken][..], &["-l", "127.0.0.1:0", "-l", &taken], &["-l", &unix, "-l", &taken]] {
        let exit = retracker(args).run();
        let line = only_line(&exit, 1);
        assert!(line.contains(&taken) && !line.contains("listening"), "{args:?}: {line}");
        assert!(!socket.exists(), "{args:?}");
    }
    let server = Server::start(&[]);
    assert!(only_line(&retracker(&["-l", &server.addresses()[0]]).run(), 1).contains(&server.addresses()[0]));
}

// --- Bad values -----------------------------------------------------------------------------------------------

/// Bad values of each long flag.
const BAD_VALUES: [(&str, &[&str]); 18] = [
    (
        "listen",
        &[
            "nonsense",
            "127.0.0.1",
            "8080",
            ":",
            ":http",
            ":65536",
            ":-1",
            "::1:80",
            "[::1]",
            "[x]:80",
            "unix:",
            "proxy+tcp://",
            "proxy+tcp:127.0.0.1:80",
            "proxy+http://127.0.0.1:80",
            "proxy+unix:",
            "http://127.0.0.1:80",
            "127.0.0.1:80 :81",
            "127.0.0.1:0,nonsense",
            ",",
        ],
    ),
    ("peer-age", &["x", "-1", "0", "1,5", "3h", "NaN", "inf", "1e300"]),
    ("announce-interval", &["x", "-1", "0", "1.5", "30s", "4294967296", "99999999999999999999"]),
    ("x-real-ip", &["maybe", "2", "X-Real-IP", "truefalse"]),
    ("forward-timeout", &["x", "-1", "0", "2s", "NaN", "inf", "1e300"]),
    ("prometheus", &["maybe", "2", ":9090"]),
    ("debug", &["maybe", "2", "trace"]),
    ("max-peers", &["x", "-1", "0", "1.5", "2M", "99999999999999999999"]),
    ("max-connections", &["x", "-1", "0", "1.5", "1k", "99999999999999999999"]),
    ("max-connections-per-address", &["x", "-1", "0", "unlimited"]),
    ("trusted-proxies", &["x", "localhost", "10.0.0.0/33", "10.0.0.1:80", "10.0.0.1 fd00::1", ","]),
    // `X-Forwarded-For` is bad only because there is no trusted proxy.
    ("real-ip-header", &["a b", "X-Real-IP:", "a,b", "X-Forwarded-For"]),
    ("ip-param", &["x", "true", "never,private"]),
    (
        "external-address",
        &["x", "example.com", "10.0.0.1", "fd00::1", "127.0.0.1", "1.2.3.4,5.6.7.8", ",", "1.2.3.4:80"],
    ),
    ("max-exchanges", &["x", "-1", "0", "1.5", "1000001"]),
    ("udp-listen", &["nonsense", "127.0.0.1", ":", "unix:/run/x.sock", "proxy+tcp://:80", "udp://:80", ","]),
    ("allowed-hosts", &["a b", "example.com:80", "http://example.com", "a..b", ","]),
    ("local-only-after", &["x", "0", "-1", "1.5", "4294967296"]),
];

#[test]
fn a_bad_value_ends_the_start_and_is_named() {
    for (long, values) in BAD_VALUES {
        let setting = settings::all().find(|setting| setting.flag.is_some_and(|flag| flag.long == long)).unwrap();
        let (flag, variable) = (setting.flag.unwrap(), setting.variable);
        let listen: &[&str] = if long == "listen" { &[] } else { &LISTEN };
        for value in values {
            let mut names = vec![format!("--{long}")];
            names.extend(flag.short.map(|short| format!("-{short}")));
            let by_flag = |name: &String| retracker(&[listen, &[&format!("{name}={value}")]].concat()).run();
            let mut runs: Vec<_> = names.iter().map(|name| (name.as_str(), by_flag(name))).collect();
            runs.push((variable, retracker(listen).env(variable, value).run()));
            for (name, exit) in runs {
                let line = only_line(&exit, 2);
                assert!(line.contains(name), "{name}={value} is not named: {line}");
                assert!(line.contains(&format!("\"{value}\"")), "{name}={value} is not quoted: {line}");
                assert!(line.contains("expected "), "{name}={value}: the line does not say what is expected: {line}");
            }
        }
    }
}

#[test]
fn bad_values_are_quoted_in_full_and_escaped() {
    let line = |exit: Exit| only_line(&exit, 2).to_owned();
    insta::assert_snapshot!(line(retracker(&["-a", "soon"]).run()), @r#"retracker: -a/--peer-age is "soon", expected minutes above 0 and up to 525600, such as 180 or 0.5"#);
    insta::assert_snapshot!(line(retracker(&[]).env("PEER_AGE", "soon").run()), @r#"retracker: PEER_AGE is "soon", expected minutes above 0 and up to 525600, such as 180 or 0.5"#);
    for value in [&b"\x1b[31m\nx"[..], b"\xff\xfe"] {
        let message = line(retracker(&LISTEN).env("PEER_AGE", std::ffi::OsStr::from_bytes(value)).run());
        assert!(message.contains("PEER_AGE") && !message.contains(char::is_control), "{message}");
    }
}

#[test]
fn unknown_arguments_end_the_start_and_are_named() {
    for argument in ["--nonsense", "-z", "nonsense", "--listne=:80", "--peerage=1"] {
        let exit = retracker(&[&LISTEN[..], &[argument]].concat()).run();
        let name = argument.split('=').next().unwrap();
        assert!(only_line(&exit, 2).contains(name), "{exit:?}");
    }
    for flag in ["-a", "--announce-interval", "-f"] {
        assert!(only_line(&retracker(&[flag]).run(), 2).contains(flag), "{flag} without a value");
    }
}

#[test]
fn a_wrong_file_of_forwarders_ends_the_start_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let runs = |path: &Path| {
        let path = path.to_str().unwrap();
        let by_flag = retracker(&[&LISTEN[..], &["-f", path]].concat()).run();
        let by_variable = retracker(&LISTEN).env("FORWARDS_FILE", path).run();
        [("-f", by_flag), ("FORWARDS_FILE", by_variable)].map(|(name, exit)| {
            let line = only_line(&exit, 2);
            assert!(line.contains(path), "{line}");
            (name, line.to_owned())
        })
    };
    for path in [folder.path().join("missing.yml"), folder.path().join("no/such/folder.yml"), folder.path().to_owned()]
    {
        for (name, line) in runs(&path) {
            assert!(line.contains(name) && line.contains("expected "), "{line}");
        }
    }
    for (file, line, word, text) in [
        ("unknown-key.yml", 2, "url", "- uri: http://1.2.3.4/announce\n- url: http://5.6.7.8/announce\n"),
        ("unknown-key-2.yml", 3, "timeouts", "- uri: http://1.2.3.4/announce\n  ip: 10.0.0.1\n  timeouts: 3\n"),
        ("no-uri.yml", 2, "uri", "- uri: http://1.2.3.4/announce\n- name: x\n"),
        ("bad-uri.yml", 3, "uri", "# mine\n- uri: http://1.2.3.4/announce\n- uri: 1.2.3.4/announce\n"),
        ("bad-scheme.yml", 1, "uri", "- uri: ftp://1.2.3.4/announce\n"),
        ("bad-ip.yml", 2, "ip", "- uri: http://1.2.3.4/announce\n  ip: retracker.local\n"),
        ("bad-host.yml", 2, "host", "- uri: http://1.2.3.4/announce\n  host: \"a\\r\\nb\"\n"),
        ("no-list.yml", 1, "", "uri: http://1.2.3.4/announce\n"),
        ("no-yaml.yml", 2, "", "- uri: http://1.2.3.4/announce\n  ip: [\n"),
        ("tab.yml", 2, "", "- uri: http://1.2.3.4/announce\n\tip: 10.0.0.1\n"),
    ] {
        for (_, message) in runs(&write(file, text)) {
            assert!(message.contains(&format!("{file} line {line}: ")), "line {line} is not named: {message}");
            assert!(message.contains(word) && !message.contains(char::is_control), "{message}");
        }
    }
    let binary = folder.path().join("binary.yml");
    std::fs::write(&binary, b"\xff\xfe\x00").unwrap();
    runs(&binary);
}

/// Encodes a text in every encoding that YAML allows.
fn encoded(text: &str) -> [Vec<u8>; 4] {
    let units = || text.encode_utf16();
    [
        text.as_bytes().to_vec(),
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        [0xff, 0xfe].into_iter().chain(units().flat_map(u16::to_le_bytes)).collect(),
        [0xfe, 0xff].into_iter().chain(units().flat_map(u16::to_be_bytes)).collect(),
    ]
}

#[test]
fn files_are_read_in_every_encoding_that_editors_write() {
    let folder = tempfile::tempdir().unwrap();
    let (forwarders, zones) = (folder.path().join("forwarders.yml"), folder.path().join("zones.yml"));
    let list = encoded(
        "- &a\r\n  uri: http://127.0.0.1:1/announce\r\n  timeout: 3\r\n- <<: *a\r\n  name: b\u{fc}ro\r\n  ip: 10.0.0.1\r\n",
    );
    let sites = encoded("- name: b\u{fc}ro\r\n  networks: [10.0.0.0/8]\r\n");
    for (list, sites) in list.into_iter().zip(sites) {
        std::fs::write(&forwarders, list).unwrap();
        std::fs::write(&zones, sites).unwrap();
        let setup = retracker(&["--zones", zones.to_str().unwrap()]);
        let server = setup.env("FORWARDS_FILE", &forwarders).start();
        assert!(server.logged("forwarders: ").ends_with("forwarders: 2"));
    }
}

#[test]
fn trailing_white_space_and_commas_of_values_are_ignored() {
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let file = forwarders(&upstream);
    let path = file.path().to_str().unwrap();
    for end in ["\r", "\r\n", " ", "\t"] {
        let path = format!("{path}{end}");
        for setup in [retracker(&["-f", &path]), retracker(&[]).env("FORWARDS_FILE", &path)] {
            let server = setup.env("FORWARD_TIMEOUT", format!("30{end}")).start();
            assert_eq!(server.announce(&announce("t", "a")).peers(), ["10.0.0.7:6881"], "{path:?}");
        }
    }
    for value in ["127.0.0.1,", ",127.0.0.1", "127.0.0.1,,10.0.0.0/8", "127.0.0.1 , "] {
        let server = retracker(&["--trusted-proxies", value, "--external-address", "5.6.7.8,"]).start();
        let reply = server.connect().announce_with(&announce("t", "a"), &[("X-Real-IP", "10.0.0.1")]);
        assert_eq!(reply.external_ip(), "10.0.0.1", "{value}");
    }
    let server = retracker(&[]).env("LISTEN_ADDR", "127.0.0.1:0,").start();
    assert_eq!((server.addresses().len(), server.get("/health").status), (1, 200));
}

#[test]
fn a_path_that_is_not_a_file_is_named_and_does_not_block_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.yml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (path, found) in [(pipe.to_str().unwrap(), "pipe"), ("/dev/zero", "16 MiB"), ("/", "directory")] {
        let exit = retracker(&[&LISTEN[..], &["-f", path]].concat()).run();
        let line = only_line(&exit, 2);
        assert!(line.contains(path) && line.contains(found) && line.contains("expected "), "{line}");
    }
}

#[test]
fn a_repeated_forwarder_ends_the_start_and_both_lines_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forwarders.yml");
    std::fs::write(&path, "- uri: http://a/announce?k=secret\n- uri: http://A:80/announce?k=secret\n").unwrap();
    let exit = retracker(&[&LISTEN[..], &["-f", path.to_str().unwrap()]].concat()).run();
    let line = only_line(&exit, 2);
    assert!(line.contains("forwarders.yml line 2: ") && line.contains("of line 1,"), "{line}");
    assert!(!line.contains("secret"), "{line}");
}

#[test]
fn a_wrong_file_of_zones_ends_the_start_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zones.yml");
    let path = path.to_str().unwrap();
    let runs = || {
        let by_flag = retracker(&[&LISTEN[..], &["--zones", path]].concat()).run();
        [("--zones", by_flag), ("ZONES_FILE", retracker(&LISTEN).env("ZONES_FILE", path).run())]
    };
    for (name, exit) in runs() {
        let line = only_line(&exit, 2);
        assert!(
            [name, path, "expected a YAML file with a list of zones"].iter().all(|part| line.contains(part)),
            "{line}"
        );
    }
    std::fs::write(path, "- name: office\n  networks:\n    - 10.0.0.0/8\n    - 10.0.0.0/33\n").unwrap();
    for (_, exit) in runs() {
        let line = only_line(&exit, 2);
        assert!(line.contains("zones.yml line 4: the network is \"10.0.0.0/33\", expected "), "{line}");
    }
    std::fs::write(path, "- name: office\n  networks: [10.0.0.0/8]\n").unwrap();
    assert_eq!(Server::start(&["--zones", path]).get("/health").status, 200);
}

#[test]
fn an_empty_file_has_no_forwarders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forwarders.yml");
    for text in ["", "# none yet\n", "[]\n"] {
        std::fs::write(&path, text).unwrap();
        let server = Server::start(&["-f", path.to_str().unwrap()]);
        assert_eq!(server.announce(&announce("t", "a")).counts(), [0, 1, 0]);
    }
}

// --- Help, version, healthcheck -------------------------------------------------------------------------------

#[test]
fn version() {
    for flag in ["-v", "--version"] {
        let exit = retracker(&[flag]).run();
        assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
        assert_eq!(exit.stdout, concat!("retracker ", env!("CARGO_PKG_VERSION"), "\n"));
    }
}

#[test]
fn help() {
    for flag in ["-h", "--help"] {
        let exit = retracker(&[flag]).run();
        assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
        // The tests in settings.rs check that the help has every setting.
        for name in ["-v", "--version", "-h", "--help", "healthcheck", "check"] {
            assert!(exit.stdout.contains(name), "{name} is not in\n{}", exit.stdout);
        }
    }
}

#[test]
fn healthcheck_of_a_server_that_serves() {
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", folder.path().join("retracker.sock").display());
    let server = Server::start(&["-l", "127.0.0.1:0", "-l", &unix]);
    let tcp = &server.addresses()[0];
    let (_, port) = tcp.rsplit_once(':').unwrap();
    let [any, all] = [format!(":{port}"), format!("{tcp},{unix}")];
    for address in [tcp, &unix, &any, &all] {
        for exit in [
            retracker(&["healthcheck"]).env("LISTEN_ADDR", address).run(),
            retracker(&["healthcheck", "-l", address]).env("LISTEN_ADDR", ":1").run(),
            retracker(&["-l", address, "healthcheck"]).run(),
        ] {
            assert_eq!((exit.code, exit.stdout.as_str(), exit.stderr.len()), (Some(0), "", 0), "{address}: {exit:?}");
        }
    }
}

#[test]
fn healthcheck_of_nothing_or_of_something_else() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    assert!(only_line(&retracker(&["healthcheck", "-l", &free]).run(), 1).contains(&free));
    assert!(only_line(&retracker(&["healthcheck", "-l", "unix:/no/such.sock"]).run(), 1).contains("/no/such.sock"));

    let server = Server::start(&[]);
    let both = format!("{},{free}", server.addresses()[0]);
    assert!(only_line(&retracker(&["healthcheck"]).env("LISTEN_ADDR", both).run(), 1).contains(&free));
    assert!(only_line(&retracker(&["healthcheck", "-l", "nonsense"]).run(), 1).contains("nonsense"));

    // The health check fails if the listener closes every connection, or if another program answers.
    for answer in [&b""[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"] {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = other.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        });
        assert!(only_line(&retracker(&["healthcheck", "-l", &address]).run(), 1).contains(&address));
        thread.join().unwrap();
    }
}
