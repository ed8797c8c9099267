//! Any file is the object or not, however its bytes arrive. The first input byte is the length of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent_cache::ostree::filez::{FilezFault, FilezVerifier};
use torrent_cache::ostree::path::ObjectChecksum;

fn verify<'a>(mut pieces: impl Iterator<Item = &'a [u8]>) -> Result<(), FilezFault> {
    let mut verifier = FilezVerifier::new(ObjectChecksum([0; 32]));
    pieces.try_for_each(|piece| verifier.update(piece))?;
    verifier.finish()
}

fuzz_target!(|input: &[u8]| {
    let Some((&size, file)) = input.split_first() else { return };
    let whole = verify(std::iter::once(file));
    assert!(whole.is_err(), "no known file has this checksum");
    // Which fault comes first can depend on the pieces.
    assert!(verify(file.chunks(usize::from(size).max(1))).is_err());
});
