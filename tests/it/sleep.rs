//! Time during which the host sleeps counts: peers and connection ids expire, and upstream announces become due.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::dsl::{Server, announce, retracker};
use crate::fake_tracker::{FakeTracker, sends};
use crate::service::forwarders;
use crate::udp_client::{UdpClient, udp_announce};

/// A library that a server preloads. As soon as the file that `SLEPT` names exists, the server's clock shows eight
/// hours of sleep.
const SLEEPER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *at) {
    int (*system_s)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
    int result = system_s(clock, at);
    if (clock == CLOCK_BOOTTIME && access(getenv("SLEPT"), F_OK) == 0) at->tv_sec += 8 * 3600;
    return result;
}
"#;

/// Compiles the library. `None` if there is no compiler.
fn sleeper(folder: &Path) -> Option<String> {
    let (source, library) = (folder.join("sleeper.c"), folder.join("sleeper.so"));
    fs::write(&source, SLEEPER).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").status();
    if built.is_ok_and(|status| status.success()) {
        return Some(library.to_str().unwrap().to_owned());
    }
    eprintln!("skipped: there is no C compiler to build the library that changes the clock");
    None
}

#[test]
fn peers_and_connection_ids_expire_while_the_host_sleeps() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = sleeper(folder.path()) else { return };
    let slept = folder.path().join("slept");
    let start = || retracker(&["-u", "127.0.0.1:0"]).env("LD_PRELOAD", &library).env("SLEPT", &slept).start();
    let server: Server = start();
    server.announce(&announce("t", "a").at("10.0.0.1"));
    assert_eq!(server.announce(&announce("t", "b").at("10.0.0.2")).peers(), ["10.0.0.1:6881"]);
    let client = UdpClient::of(&server);
    client.announce(&udp_announce("t", "c"));
    fs::write(&slept, "").unwrap();
    let line = server.logged("the host has slept for");
    assert!(line.contains(" 28800 s") || line.contains(" 28799 s"), "{line}");
    let reply = server.announce(&announce("t", "d").at("10.0.0.3"));
    assert_eq!((reply.peers(), reply.int("incomplete")), (vec![], 1));
    assert_eq!(client.refused(&udp_announce("t", "c").packet(client.id)), "connection id has expired");
    // Peers that have announced after the sleep have not expired. A server that starts after the sleep does not count
    // the sleep.
    assert_eq!(server.announce(&announce("t", "e").at("10.0.0.4")).peers(), ["10.0.0.3:6881"]);
    let late = start();
    late.announce(&announce("t", "a").at("10.0.0.1"));
    assert_eq!(late.announce(&announce("t", "b").at("10.0.0.2")).peers(), ["10.0.0.1:6881"]);
    assert!(!late.log().iter().any(|line| line.contains("slept")));
}

/// A reply of an upstream with the peer 10.0.0.7:6881 and an interval of half an hour.
const FOR_HALF_AN_HOUR: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\nd8:intervali1800e5:peers6:\x0a\x00\x00\x07\x1a\xe1e";

#[test]
fn upstream_announces_are_due_after_the_host_has_slept() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = sleeper(folder.path()) else { return };
    let slept = folder.path().join("slept");
    let upstream = FakeTracker::start(sends(FOR_HALF_AN_HOUR));
    let file = forwarders(&upstream);
    let setup = retracker(&["-t", "30"]).env("FORWARDS_FILE", file.path());
    let server = setup.env("LD_PRELOAD", &library).env("SLEPT", &slept).start();
    assert_eq!(server.announce(&announce("t", "a")).peers(), ["10.0.0.7:6881"]);
    assert!(upstream.request(1).contains("event=started"));
    // The upstream gets nothing before half an hour has passed.
    for _ in 0..5 {
        assert_eq!(server.announce(&announce("t", "a")).peers(), ["10.0.0.7:6881"]);
    }
    fs::write(&slept, "").unwrap();
    server.logged("the host has slept for");
    server.announce(&announce("t", "a"));
    // The second request may be a `stopped`, because the client was silent for longer than the peer age.
    upstream.request(2);
}
