//! The program's commands, help and pages.

use std::net::TcpListener;

use settings::{About, plain};
use torrent_cache::config::settings::all;

use crate::client::get;
use crate::program::{CacheProgram, command};
use crate::upstream::{Content, RegistryAct, Scripted};

#[test]
fn healthcheck_asks_the_running_cache() {
    let upstream = Content::default().serve();
    let program = CacheProgram::start(&upstream);
    let port = program.address.port().to_string();
    let ask = |port: &str| command().args(["healthcheck", "--port", port]).output().unwrap();
    assert_eq!(ask(&port).status.code(), Some(0));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let output = ask(&free);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no answer from 127.0.0.1"));
}

/// Runs `torrent-cache check` with this upstream and a tracker at this port. Returns the exit code and the output.
fn check(upstream: &Scripted, scheme: &str, tracker: u16, env: &[(&str, &str)]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = command()
        .args(["check", "--port", "0", "--interface", "127.0.0.1"])
        .args([
            "--registry-location",
            &upstream.address.to_string(),
            "--registry-no-ssl",
            "--storage-min-free=0",
            "--storage-quota=1G",
        ])
        .args(["--tracker", &format!("{scheme}://127.0.0.1:{tracker}/announce"), "--etcd-host", "127.0.0.1"])
        .args(["--etcd-port", &tracker.to_string()])
        .env("STORAGE", folder.path())
        .envs(env.iter().copied())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// Starts a tracker that takes announces, and answers requests about torrents with this reply and this boot id.
fn tracker(status: u16, boot: &'static [(&'static str, &'static str)], body: &'static str) -> Scripted {
    Scripted::new(move |asked| {
        if asked.target.starts_with("/announce") {
            return RegistryAct::Reply(200, Vec::new(), b"d8:intervali60e5:peers0:e".to_vec());
        }
        let headers = boot.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        RegistryAct::Reply(status, headers, body.into())
    })
}

#[test]
fn check_has_a_line_for_each_thing_and_a_remedy_for_each_failure() {
    let upstream = Content::default().serve();
    let there = tracker(200, &BOOT, "[]");
    let (code, text) = check(&upstream, "http", there.address.port(), &[]);
    assert_eq!(code, Some(0), "{text}");
    for what in [
        "upstream http://",
        "storage /",
        "port 127.0.0.1:0",
        "tracker http://",
        "torrents 127.0.0.1:",
        "ports 6881-6891",
    ] {
        assert!(text.lines().any(|line| line.starts_with(&format!("ok      {what}"))), "{what} in {text}");
    }
    assert!(text.contains("takes announces") && text.contains("wants no token"), "{text}");
    upstream.now(|_| RegistryAct::Reply(500, Vec::new(), Vec::new()));
    // The listener is closed, so nothing listens at this port.
    let nothing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (code, text) = check(&upstream, "http", nothing, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(text.matches("FAILED").count(), 3, "{text}");
    for remedy in [
        "look at the log of this server",
        "the value of TRACKER is right",
        "the value of ETCD_HOST and ETCD_PORT is right",
    ] {
        assert!(text.contains(remedy), "{remedy} in {text}");
    }
}

const BOOT: [(&str, &str); 1] = [("X-Boot", "1")];

#[test]
fn check_says_what_the_tracker_lacks() {
    let upstream = Content::default().serve();
    let token = [("TORRENTS_TOKEN", "0123456789abcdef")];
    let check = |tracker: &Scripted, scheme: &str| check(&upstream, scheme, tracker.address.port(), &token);
    let (code, text) = check(&tracker(200, &BOOT, "[]"), "http");
    assert!(code == Some(0) && text.contains("accepts TORRENTS_TOKEN"), "{text}");
    for (there, remedy) in [
        (tracker(404, &[], ""), "start the tracker with --torrents"),
        (tracker(401, &BOOT, "{}"), "set TORRENTS_TOKEN to the value"),
        (tracker(403, &BOOT, "{}"), "add the network of this host to TORRENTS_FROM"),
    ] {
        let (code, text) = check(&there, "http");
        assert_eq!((code, text.matches("FAILED").count()), (Some(1), 1), "{text}");
        assert!(text.contains(remedy) && text.contains("takes announces"), "{remedy} in {text}");
        assert!(!text.contains(token[0].1), "{text}");
    }
    let (code, text) = check(&tracker(200, &BOOT, "[]"), "udp");
    assert!(code == Some(1) && text.contains("TRACKER is a udp URL, expected an http or https URL"), "{text}");
}

#[test]
fn wrong_values_end_the_start_with_code_2() {
    for (args, env, expected) in [
        (vec!["--port", "x"], vec![], "-p/--port is \"x\""),
        (vec![], vec![("UPSTREAMS", "a b")], "UPSTREAMS is \"a b\""),
        (vec!["frobnicate"], vec![], "torrent-cache -h"),
    ] {
        let output = command().args(args).envs(env).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.starts_with("torrent-cache: ") && text.contains(expected), "{text}");
    }
    let output = command().arg("--help").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("[env: REGISTRY_LOCATION]"));
}

/// Returns the output of a command, which must work without an environment.
fn printed(args: &[&str]) -> String {
    let output = command().args(args).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_manual_page_has_every_setting_and_command() {
    let text = printed(&["man"]).replace("\\-", "-").replace("\\*(Aq", "'");
    for About { flag, variable, help, .. } in all() {
        assert!(flag.is_none_or(|flag| text.contains(&format!("--{}", flag.long))), "{variable}");
        assert!(text.contains(variable), "{variable}");
        assert!(text.contains(&plain(help)), "{variable}: {help}");
    }
    for section in ["NAME", "COMMANDS", "ENVIRONMENT", "\"EXIT STATUS\""] {
        assert!(text.contains(&format!(".SH {section}\n")), "{section}");
    }
    for name in ["check", "healthcheck", "man", "completions"] {
        assert!(text.contains(&format!("\\fB{name}\\fR")), "{name}");
    }
    assert!(!text.contains("retracker"), "another program's page");
}

#[test]
fn completions_have_every_flag_and_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell]);
        let flags = all().filter_map(|setting| setting.flag).map(|flag| flag.long);
        for name in flags.chain(["torrent-cache", "check", "healthcheck", "man", "completions"]) {
            assert!(script.contains(name), "{shell}: {name}");
        }
    }
    for (args, part) in [(&["completions"][..], "<SHELL>"), (&["completions", "tcsh"], "expected one of bash, ")] {
        let output = command().args(args).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && text.lines().count() == 1 && text.contains(part), "{text}");
    }
}

#[test]
fn pages() {
    let upstream = Scripted::new(|_| RegistryAct::Raw(Vec::new()));
    let program = CacheProgram::start(&upstream);
    assert_eq!(get(program.address, "/health").text(), "ok\n");
    let metrics = get(program.address, "/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(metrics.text().ends_with("# EOF\n"));
}
