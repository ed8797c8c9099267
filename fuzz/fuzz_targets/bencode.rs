//! Any upstream body is read or refused. Skipping a value ends at the same byte as reading it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracker_protocol::bencode::{BencodeError, Reader, Value};
use tracker_protocol::upstream;

fuzz_target!(|body: &[u8]| {
    if let Ok(reply) = upstream::parse_reply(body) {
        assert!(reply.peers.len() <= upstream::MAX_PEERS);
    }
    let mut skipper = Reader::new(body);
    let skipped = skipper.value().and_then(|value| skipper.skip(value));
    let mut walker = Reader::new(body);
    if walk(&mut walker).is_ok() {
        assert_eq!(skipped, Ok(()));
        assert_eq!(skipper.rest(), walker.rest());
    }
});

fn walk(reader: &mut Reader<'_>) -> Result<(), BencodeError> {
    match reader.value()? {
        Value::Int(_) | Value::Bytes(_) => {}
        Value::List => {
            while !reader.end()? {
                walk(reader)?;
            }
        }
        Value::Dict => {
            while reader.key()?.is_some() {
                walk(reader)?;
            }
        }
    }
    Ok(())
}
