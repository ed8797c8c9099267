//! The key by which a tracker recognises a client after the client's address has changed. Over HTTP the key is opaque,
//! and over UDP it is a number (BEP 15).

use crate::Key;

/// Returns the number that stands for a client's key in an announce request; 0 without a key.
///
/// Up to 8 hexadecimal digits are read as a number. libtorrent and Transmission send this number over UDP and its
/// digits over HTTP, so an upstream tracker sees the same key over both protocols. All bytes of any other key are
/// folded into a number.
pub fn key(key: Option<&Key>) -> u32 {
    let bytes = key.map_or(&[][..], |key| key.as_slice());
    let digits = (1..=8).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_hexdigit);
    let number = || u32::from_str_radix(std::str::from_utf8(bytes).ok()?, 16).ok();
    digits.then(number).flatten().unwrap_or_else(|| fold(bytes))
}

/// Writes a number in 8 hexadecimal digits, which [`key`] reads as the same number.
pub(super) fn digits(number: u32) -> Key {
    let nibbles = number.to_be_bytes().into_iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    nibbles.map(|nibble| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }).collect()
}

/// Folds any number of bytes into 32 bits. Four bytes give the number that they stand for in network order.
fn fold(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, &byte| sum.rotate_left(8) ^ u32::from(byte))
}
