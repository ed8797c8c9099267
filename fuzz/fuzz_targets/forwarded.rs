//! Whatever a client writes into the headers of proxies, what a trusted proxy adds behind it is what counts.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use tracker_protocol::forwarded::{Named, Syntax, client};

fuzz_target!(|invented: &[u8]| {
    let nobody = |_: IpAddr| false;
    for (syntax, added) in [
        (Syntax::Forwarded, &b", for=\"[2001:db8::5]:4711\";by=\"_us\""[..]),
        (Syntax::Forwarded, b", for=192.0.2.43"),
        (Syntax::XForwardedFor, b", 192.0.2.43"),
    ] {
        let _ = client([invented], syntax, nobody);
        let _ = client([invented], syntax, |_| true);
        let line = [invented, added].concat();
        let Named::Client(found) = client([invented, line.as_slice()], syntax, nobody) else {
            panic!("the proxy has said it")
        };
        assert!(["192.0.2.43", "2001:db8::5"].contains(&found.to_string().as_str()));
    }
    // A header that is no list is replaced by the proxy: a second line is somebody's lie.
    let _ = client([invented], Syntax::Single, nobody);
    let found = client([invented, b"192.0.2.43"], Syntax::Single, nobody);
    assert!(found == Named::Unclear || found == client([&b"192.0.2.43"[..]], Syntax::Single, nobody), "{found:?}");
});
