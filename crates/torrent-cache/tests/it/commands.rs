//! Commands, help and pages.

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

#[test]
fn check_has_a_line_for_each_thing_and_a_remedy_for_each_failure() {
    let upstream = Content::default().serve();
    let tracker = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let check = |upstream: &str, tracker: &str| {
        let output = command()
            .args(["check", "--port", "0", "--interface", "127.0.0.1"])
            .args(["--registry-location", upstream, "--registry-no-ssl", "--storage-min-free=0", "--storage-quota=1G"])
            .args(["--tracker", &format!("http://{tracker}/announce"), "--etcd-host", "127.0.0.1"])
            .args(["--etcd-port", tracker.rsplit(':').next().unwrap()])
            .env("STORAGE", folder.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let there = tracker.local_addr().unwrap().to_string();
    let (code, text) = check(&upstream.address.to_string(), &there);
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
    drop(tracker);
    upstream.now(|_| RegistryAct::Reply(500, Vec::new(), Vec::new()));
    let (code, text) = check(&upstream.address.to_string(), &there);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(text.matches("FAILED").count(), 3, "{text}");
    for remedy in ["look at its own log", "TRACKER is right", "ETCD_HOST and ETCD_PORT is right"] {
        assert!(text.contains(remedy), "{remedy} in {text}");
    }
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

/// The output of a command that works without an environment.
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
