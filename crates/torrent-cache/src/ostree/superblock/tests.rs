use proptest::prelude::*;

use super::*;

// Written by tests/fixtures/ostree/make.sh.
const PLAIN: &[u8] = include_bytes!("../../../tests/fixtures/ostree/plain.superblock");
const SWAPPED: &[u8] = include_bytes!("../../../tests/fixtures/ostree/swapped.superblock");
const INLINE: &[u8] = include_bytes!("../../../tests/fixtures/ostree/inline.superblock");
const SIGNED: &[u8] = include_bytes!("../../../tests/fixtures/ostree/signed.superblock");
const PARTS: [&[u8]; 3] = [
    include_bytes!("../../../tests/fixtures/ostree/part.0"),
    include_bytes!("../../../tests/fixtures/ostree/part.1"),
    include_bytes!("../../../tests/fixtures/ostree/part.2"),
];
const FALLBACK: &str = "dea68b6e0ab0b90635da24425e4b2ec94106e732fe139520200798cc90c25c93";

fn expected(is_inline: bool) -> DeltaSuperblock {
    let part = |bytes: &&[u8]| DeltaPart { digest: Digest::of(bytes), length: Some(bytes.len() as u64), is_inline };
    let fallback = FallbackObject { checksum: FALLBACK.parse().unwrap(), length: Some(1214) };
    DeltaSuperblock { parts: PARTS.iter().map(part).collect(), fallbacks: vec![fallback] }
}

#[test]
fn the_parts_of_a_delta_are_those_beside_its_superblock() {
    assert_eq!(DeltaSuperblock::parse(PLAIN), Ok(expected(false)));
    assert_eq!(DeltaSuperblock::parse(SWAPPED), Ok(expected(false)));
    assert_eq!(DeltaSuperblock::parse(INLINE), Ok(expected(true)));
    assert_eq!(DeltaSuperblock::parse(SIGNED), Ok(expected(false)));
    assert_ne!(PLAIN, SWAPPED);
}

#[test]
fn without_a_byte_order_lengths_are_unknown() {
    let at = PLAIN.windows(10).position(|bytes| bytes == b"endianness").unwrap();
    let mut unknown = PLAIN.to_vec();
    unknown[at] = b'E';
    let superblock = DeltaSuperblock::parse(&unknown).unwrap();
    assert!(superblock.parts.iter().all(|part| part.length.is_none()));
    assert_eq!(superblock.parts.len(), 3);
}

#[test]
fn no_flipped_byte_of_a_hash_goes_unnoticed() {
    for superblock in [PLAIN, SWAPPED, INLINE, SIGNED] {
        let right = DeltaSuperblock::parse(superblock).unwrap();
        for hash in PARTS.iter().map(|part| Digest::of(part).0).chain([FALLBACK.parse::<ObjectChecksum>().unwrap().0]) {
            let at = superblock.windows(32).position(|bytes| bytes == hash).unwrap();
            for byte in at..at + 32 {
                for bit in 0..8 {
                    let mut wrong = superblock.to_vec();
                    wrong[byte] ^= 1 << bit;
                    assert_ne!(DeltaSuperblock::parse(&wrong).unwrap(), right);
                }
            }
        }
    }
}

#[test]
fn a_superblock_that_ends_early_or_late_is_none() {
    for superblock in [PLAIN, INLINE, SIGNED] {
        for end in 0..superblock.len() {
            assert_eq!(DeltaSuperblock::parse(&superblock[..end]), Err(NotASuperblock), "{end}");
        }
        for byte in [0, 1, 0xff] {
            assert_eq!(DeltaSuperblock::parse(&[superblock, &[byte]].concat()), Err(NotASuperblock));
        }
    }
    assert_eq!(DeltaSuperblock::parse(&vec![0; MAX_SUPERBLOCK + 1]), Err(NotASuperblock));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _ = DeltaSuperblock::parse(&bytes);
        let _ = DeltaSuperblock::parse(&[&SIGNED_MAGIC, &bytes[..]].concat());
    }

    #[test]
    fn a_damaged_superblock_is_read_or_refused(
        which in 0_usize..4,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = [PLAIN, SWAPPED, INLINE, SIGNED][which].to_vec();
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        if let Ok(superblock) = DeltaSuperblock::parse(&bytes) {
            // Parts do not overlap, so the number of bytes limits the number of parts.
            prop_assert!(superblock.parts.len() * 32 <= bytes.len());
        }
    }
}
