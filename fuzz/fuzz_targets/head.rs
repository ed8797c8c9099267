//! Any bytes are classified as a request head: incomplete, complete, too long, or invalid.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retracker::frontend::http::rehearsal;

fuzz_target!(|bytes: &[u8]| rehearsal::read_head(bytes));
