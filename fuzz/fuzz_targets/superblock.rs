//! Any superblock of a static delta is read or refused. It has no more parts than its bytes have room for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent_cache::ostree::superblock::DeltaSuperblock;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(superblock) = DeltaSuperblock::parse(bytes) {
        assert!((superblock.parts.len() + superblock.fallbacks.len()) * 32 <= bytes.len());
    }
});
