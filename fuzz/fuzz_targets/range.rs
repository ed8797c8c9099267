//! Any `Range` selects bytes inside the blob. The first eight input bytes are the blob's length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent_cache::digest::Digest;
use torrent_cache::registry::range::{RequestedRange, SelectedRange, none_match_has};

fuzz_target!(|input: &[u8]| {
    let Some((length, header)) = input.split_first_chunk::<8>() else { return };
    let length = u64::from_le_bytes(*length);
    let Ok(header) = std::str::from_utf8(header) else { return };
    if let SelectedRange::Part(part) = RequestedRange::parse(header).of(length) {
        assert!(part.first() <= part.last() && part.last() < length && part.count() <= length);
    }
    none_match_has(header, &Digest([0; 32]));
});
