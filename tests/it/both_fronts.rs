//! The fast path answers announces and scrapes over TCP, and actix-web answers all requests over Unix sockets. So the
//! tests of the protocol run over both.

use std::process::Command;

use crate::dsl::OVER_UNIX;

/// The modules whose tests speak HTTP and work at any address.
const SUITE: [&str; 5] = ["announce::", "http::", "malformed::", "reply::", "scrape::"];

#[test]
fn the_protocol_tests_pass_over_unix_sockets_too() {
    if std::env::var_os(OVER_UNIX).is_some() {
        return;
    }
    let this = std::env::current_exe().unwrap();
    let run = Command::new(this).args(SUITE).env(OVER_UNIX, "1").output().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    let passed = said.split_once("test result: ok. ").and_then(|(_, rest)| rest.split_once(" passed"));
    let passed: u32 = passed.unwrap_or_else(|| panic!("no count in {said}")).0.parse().unwrap();
    assert!(passed > 50, "{said}");
}
