//! Any bytes are judged as the head of a request: as a part of one, a whole one, one that is too long, or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retracker::frontend::http::rehearsal;

fuzz_target!(|bytes: &[u8]| rehearsal::read_head(bytes));
