//! A client cannot spoof the headers of proxies: the value that a trusted proxy appends is the one that counts.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use tracker_protocol::forwarded::{Named, Syntax, client};

fuzz_target!(|invented: &[u8]| {
    let none_trusted = |_: IpAddr| false;
    for (syntax, added) in [
        (Syntax::Forwarded, &b", for=\"[2001:db8::5]:4711\";by=\"_us\""[..]),
        (Syntax::Forwarded, b", for=192.0.2.43"),
        (Syntax::XForwardedFor, b", 192.0.2.43"),
    ] {
        let _ = client([invented], syntax, none_trusted);
        let _ = client([invented], syntax, |_| true);
        let line = [invented, added].concat();
        let Named::Client(found) = client([invented, line.as_slice()], syntax, none_trusted) else {
            panic!("the proxy has said it")
        };
        assert!(["192.0.2.43", "2001:db8::5"].contains(&found.to_string().as_str()));
    }
    // A proxy replaces a header that is not a list. So a second line is spoofed.
    let _ = client([invented], Syntax::Single, none_trusted);
    let found = client([invented, b"192.0.2.43"], Syntax::Single, none_trusted);
    assert!(
        found == Named::Unclear || found == client([&b"192.0.2.43"[..]], Syntax::Single, none_trusted),
        "{found:?}"
    );
});
