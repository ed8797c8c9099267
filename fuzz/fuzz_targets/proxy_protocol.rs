//! Any bytes are a PROXY protocol header, the beginning of one or none, and what follows a header changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retracker::wire::proxy_protocol::{MAX_V2, parse, parse_datagram};

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_datagram(bytes);
    match parse(bytes) {
        Ok(Some(header)) => {
            assert!(header.len <= bytes.len().min(MAX_V2));
            assert_eq!(parse(&bytes[..header.len]), Ok(Some(header)));
            assert_eq!(parse(&bytes[..header.len - 1]), Ok(None));
        }
        Ok(None) => assert!(bytes.len() < MAX_V2),
        Err(_) => {}
    }
});
