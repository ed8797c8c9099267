//! Any text as a Chihaya file: a value with a line for each key, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retracker::config::chihaya::ChihayaText;

fuzz_target!(|text: &str| {
    let _ = text.parse::<ChihayaText>();
});
