//! Any bytes are a PROXY protocol header, its beginning, or invalid. Bytes after a header change nothing. A datagram
//! must begin with a complete header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracker_protocol::proxy_protocol::{Header, MAX_V2, parse, parse_datagram};
use tracker_protocol::udp::Request;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((source, packet)) = parse_datagram(bytes) {
        assert_eq!(parse(bytes), Ok(Some(Header { len: bytes.len() - packet.len(), source })));
        let _ = Request::parse(packet);
    }
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
