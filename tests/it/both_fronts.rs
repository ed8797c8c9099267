//! Announces and scrapes over TCP are answered on the connection; what comes over Unix sockets goes through actix-web. The
//! tests of the wire contract hold for both.

use std::process::Command;

use crate::dsl::OVER_UNIX;

/// The modules that speak HTTP to a server and do not care for its address.
const SUITE: [&str; 5] = ["announce::", "http::", "malformed::", "reply::", "scrape::"];

#[test]
fn the_wire_contract_holds_over_unix_sockets_too() {
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
