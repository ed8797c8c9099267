use std::io::{Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use proptest::prelude::*;

use super::*;
use crate::digest::Digest;

/// A name that no object has.
const OTHER: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Returns the names and files of this kind that tests/fixtures/ostree/make.sh wrote.
fn objects(kind: &str) -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/ostree");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == kind));
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let objects: Vec<_> = files.map(|path| (name(&path), std::fs::read(&path).unwrap())).collect();
    assert!(objects.len() > 1, "{kind}");
    objects
}

fn verify<'a>(name: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(), FilezFault> {
    let mut verifier = FilezVerifier::new(name.parse().unwrap());
    pieces.into_iter().try_for_each(|piece| verifier.update(piece))?;
    verifier.finish()
}

/// Returns the header and the inflated content of an object, without any check.
fn content(object: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let size = u32::from_be_bytes(object.get(..4)?.try_into().ok()?) as usize;
    let (header, deflated) = object.split_at_checked(8 + size)?;
    let mut inflated = Vec::new();
    DeflateDecoder::new(deflated).take(2 << 20).read_to_end(&mut inflated).ok()?;
    Some((header, inflated))
}

fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Makes the object of a regular file without attributes whose header says this length. Returns its name and its bytes.
fn object(length: u64, content: &[u8]) -> (String, Vec<u8>) {
    let mut file = vec![0, 0, 0, 26, 0, 0, 0, 0];
    file.extend(length.to_be_bytes());
    file.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0o201, 0o244, 0, 0, 0, 0, 0, 25]);
    file.extend(deflate(content));
    let hashed = [&[0, 0, 0, 18, 0, 0, 0, 0][..], &file[16..33], &[17], content].concat();
    (Digest::of(&hashed).hex(), file)
}

#[test]
fn a_clone_goes_on_from_the_same_place() {
    for (name, object) in &objects("filez") {
        let mut verifier = FilezVerifier::new(name.parse().unwrap());
        for at in 0..object.len() {
            verifier.update(&object[at..=at]).unwrap();
            let mut clone = verifier.clone();
            assert_eq!(clone.update(&object[at + 1..]).and_then(|()| clone.finish()), Ok(()), "{name} at {at}");
        }
        assert_eq!(verifier.finish(), Ok(()), "{name}");
    }
}

#[test]
fn the_objects_of_ostree_are_right_however_they_arrive() {
    for (name, object) in &objects("filez") {
        assert_eq!(verify(name, [&object[..]]), Ok(()), "{name}");
        assert_eq!(verify(name, object.chunks(1)), Ok(()), "{name}");
        assert_eq!(verify(name, [&object[..5], &[], &object[5..12], &[], &object[12..]]), Ok(()), "{name}");
    }
}

#[test]
fn the_name_of_a_metadata_object_is_the_digest_of_its_file() {
    for kind in ["dirmeta", "dirtree", "commit"] {
        for (name, object) in objects(kind) {
            assert_eq!(Digest::of(&object).hex(), name);
        }
    }
}

#[test]
fn another_name_is_wrong() {
    for (name, object) in &objects("filez") {
        assert_eq!(verify(OTHER, [&object[..]]), Err(FilezFault::Checksum), "{name}");
    }
}

#[test]
fn no_flipped_bit_is_taken_for_right_unless_the_content_is() {
    // The largest files are left out, because inflating them once for each bit takes minutes.
    let objects = objects("filez");
    let small = objects.iter().filter(|(_, object)| content(object).is_none_or(|(_, content)| content.len() < 10_000));
    for (name, object) in small {
        let header = 8 + u32::from_be_bytes(object[..4].try_into().unwrap()) as usize;
        for at in 0..object.len() {
            for bit in 0..8 {
                let mut wrong = object.clone();
                wrong[at] ^= 1 << bit;
                if verify(name, [&wrong[..]]).is_ok() {
                    // A changed bit need not be an error. Deflate can encode the same content in several ways, and its
                    // last bits mean nothing.
                    assert!(at >= header, "{name}: bit {bit} of byte {at}");
                    assert_eq!(content(&wrong), content(object), "{name}: bit {bit} of byte {at}");
                }
            }
        }
    }
}

#[test]
fn an_object_that_ends_early_or_late_is_wrong() {
    for (name, object) in &objects("filez") {
        for end in 0..object.len() {
            assert!(verify(name, [&object[..end]]).is_err(), "{name}: {end}");
        }
        assert_eq!(verify(name, [&object[..], b"x"]), Err(FilezFault::Trailing), "{name}");
    }
}

#[test]
fn content_is_inflated_to_the_length_in_the_header_at_most() {
    let bomb = vec![0; 4 << 20];
    let (name, file) = object(1000, &bomb);
    let mut verifier = FilezVerifier::new(name.parse().unwrap());
    assert_eq!(verifier.update(&file), Err(FilezFault::Length));
    assert_eq!(verifier.update(b""), Err(FilezFault::Length), "the error stays");
    assert_eq!(verifier.finish(), Err(FilezFault::Length));
    let (name, file) = object(bomb.len() as u64, &bomb);
    assert_eq!(verify(&name, [&file[..]]), Ok(()));
    let (name, file) = object(bomb.len() as u64 + 1, &bomb);
    assert_eq!(verify(&name, [&file[..]]), Err(FilezFault::Length));
}

#[test]
fn a_header_that_is_too_large_is_refused_before_it_arrives() {
    let mut verifier = FilezVerifier::new(OTHER.parse().unwrap());
    assert_eq!(verifier.update(&[0, 0x10, 0, 1, 0, 0, 0, 0]), Err(FilezFault::Header));
}

proptest! {
    #[test]
    fn any_content_in_any_pieces(bytes in prop::collection::vec(0_u8..4, 0..50_000), size in 1_usize..5000) {
        let (name, file) = object(bytes.len() as u64, &bytes);
        prop_assert_eq!(verify(&name, file.chunks(size)), Ok(()));
    }

    #[test]
    fn any_bytes_are_refused(bytes: Vec<u8>, size: u8) {
        prop_assert!(verify(OTHER, [&bytes[..]]).is_err());
        prop_assert!(verify(OTHER, [&[0, 0, 0, size, 0, 0, 0, 0][..], &bytes[..]]).is_err());
    }
}
