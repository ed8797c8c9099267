//! Which pieces of a torrent a host has.

use thiserror::Error;

/// A set of pieces of one torrent. Its memory is the bitfield of BEP 3: one bit a piece, the highest bit first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceSet {
    /// The bitfield, with as many bytes as `total` needs. The spare bits of the last byte are 0.
    bits: Vec<u8>,
    total: u32,
    count: u32,
}

/// Why bytes are no bitfield of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BitfieldFault {
    /// The bitfield is for a torrent with more or fewer pieces.
    #[error("a bitfield has {found} bytes, expected {expected}")]
    WrongLength {
        /// The bytes of the bitfield.
        found: usize,
        /// The bytes that a bitfield of the torrent has.
        expected: usize,
    },
    /// A bit after the last piece is 1.
    #[error("a bitfield has a bit for a piece that the torrent does not have")]
    SpareBit,
}

impl PieceSet {
    /// Makes the set without pieces, for a torrent with `total` pieces.
    pub fn empty(total: u32) -> Self {
        Self { bits: vec![0; Self::bitfield_length(total)], total, count: 0 }
    }

    /// Makes the set of all pieces of a torrent with `total` pieces.
    pub fn full(total: u32) -> Self {
        let mut bits = vec![0xff; Self::bitfield_length(total)];
        if let Some(last) = bits.last_mut() {
            *last &= !spare_bits(total);
        }
        Self { bits, total, count: total }
    }

    /// Reads the bitfield of a torrent with `total` pieces (BEP 3).
    ///
    /// # Errors
    /// The length is wrong for `total` pieces, or a spare bit is 1.
    pub fn from_bitfield(bits: &[u8], total: u32) -> Result<Self, BitfieldFault> {
        let expected = Self::bitfield_length(total);
        if bits.len() != expected {
            return Err(BitfieldFault::WrongLength { found: bits.len(), expected });
        }
        if bits.last().is_some_and(|last| last & spare_bits(total) != 0) {
            return Err(BitfieldFault::SpareBit);
        }
        let count = bits.iter().map(|byte| byte.count_ones()).sum();
        Ok(Self { bits: bits.to_vec(), total, count })
    }

    /// Returns the bitfield (BEP 3).
    pub fn as_bitfield(&self) -> &[u8] {
        &self.bits
    }

    /// Returns how many bytes the bitfield of a torrent with `total` pieces has.
    pub fn bitfield_length(total: u32) -> usize {
        total.div_ceil(8) as usize
    }

    /// Returns whether the set has the piece of this index. No set has a piece that the torrent does not have.
    pub fn contains(&self, piece: u32) -> bool {
        let (byte, mask) = place(piece);
        self.bits.get(byte).is_some_and(|bits| bits & mask != 0)
    }

    /// Adds the piece of this index. Returns `false` if the set has the piece already, or if the torrent does not have
    /// it.
    pub fn insert(&mut self, piece: u32) -> bool {
        let (byte, mask) = place(piece);
        match self.bits.get_mut(byte) {
            Some(bits) if piece < self.total && *bits & mask == 0 => {
                *bits |= mask;
                self.count += 1;
                true
            }
            _ => false,
        }
    }

    /// Returns how many pieces are in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns how many pieces the torrent has.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Returns whether all pieces of the torrent are in the set.
    pub fn is_complete(&self) -> bool {
        self.count == self.total
    }

    /// Returns the pieces in the set, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        (0..self.total).filter(|&piece| self.contains(piece))
    }

    /// Returns the pieces of the torrent that are not in the set, in order.
    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.total).filter(|&piece| !self.contains(piece))
    }
}

/// Returns the index of the byte in which a piece has its bit, and a mask for this bit.
fn place(piece: u32) -> (usize, u8) {
    ((piece / 8) as usize, 0x80 >> (piece % 8))
}

/// Returns the bits of a bitfield's last byte that belong to no piece.
fn spare_bits(total: u32) -> u8 {
    match total % 8 {
        0 => 0,
        used => 0xff >> used,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_first_piece_is_the_highest_bit() {
        let mut pieces = PieceSet::empty(10);
        for piece in [0, 7, 9] {
            assert!(pieces.insert(piece));
            assert!(!pieces.insert(piece));
        }
        assert_eq!(pieces.as_bitfield(), [0b1000_0001, 0b0100_0000]);
        assert_eq!(PieceSet::from_bitfield(&[0b1000_0001, 0b0100_0000], 10), Ok(pieces));
    }

    #[test]
    fn no_piece_is_after_the_last() {
        let mut pieces = PieceSet::full(10);
        for piece in [10, 15, 16, u32::MAX] {
            assert!(!pieces.contains(piece) && !pieces.insert(piece), "{piece}");
        }
        assert_eq!(pieces.as_bitfield(), [0xff, 0b1100_0000]);
        assert_eq!((pieces.count(), pieces.total(), pieces.is_complete()), (10, 10, true));
    }

    #[test]
    fn a_bitfield_fits_exactly_and_its_spare_bits_are_0() {
        for (bits, total) in [(&[][..], 1), (&[0], 0), (&[0, 0], 8), (&[0], 9)] {
            let expected = PieceSet::bitfield_length(total);
            let fault = BitfieldFault::WrongLength { found: bits.len(), expected };
            assert_eq!(PieceSet::from_bitfield(bits, total), Err(fault), "{total}");
        }
        assert_eq!(PieceSet::from_bitfield(&[0b0000_0001], 7), Err(BitfieldFault::SpareBit));
        assert_eq!(PieceSet::from_bitfield(&[0, 0b0100_0000], 9), Err(BitfieldFault::SpareBit));
        assert!(PieceSet::from_bitfield(&[0b0000_0010], 7).is_ok());
        assert_eq!(PieceSet::from_bitfield(&[], 0), Ok(PieceSet::empty(0)));
        assert_eq!(PieceSet::empty(0), PieceSet::full(0));
    }

    proptest! {
        #[test]
        fn it_is_a_set(total in 0_u32..70, added: BTreeSet<u8>) {
            let mut pieces = PieceSet::empty(total);
            let mut expected = BTreeSet::new();
            for piece in added.into_iter().map(u32::from) {
                prop_assert_eq!(pieces.insert(piece), piece < total && expected.insert(piece));
            }
            prop_assert_eq!(pieces.iter().collect::<BTreeSet<_>>(), expected.clone());
            let missing: BTreeSet<_> = (0..total).filter(|piece| !expected.contains(piece)).collect();
            prop_assert_eq!(pieces.missing().collect::<BTreeSet<_>>(), missing.clone());
            prop_assert_eq!(pieces.count() as usize, expected.len());
            prop_assert_eq!(pieces.is_complete(), missing.is_empty());
            prop_assert_eq!(pieces.is_complete(), pieces == PieceSet::full(total));
            prop_assert_eq!(PieceSet::from_bitfield(pieces.as_bitfield(), total), Ok(pieces));
        }

        #[test]
        fn a_bitfield_that_is_read_is_kept(bits in prop::collection::vec(any::<u8>(), 0..5), total in 0_u32..40) {
            match PieceSet::from_bitfield(&bits, total) {
                Ok(pieces) => {
                    prop_assert_eq!(pieces.as_bitfield(), bits);
                    prop_assert_eq!(pieces.iter().count(), pieces.count() as usize);
                }
                Err(BitfieldFault::WrongLength { .. }) => {
                    prop_assert_ne!(bits.len(), PieceSet::bitfield_length(total));
                }
                Err(BitfieldFault::SpareBit) => {
                    let after = total..u32::try_from(bits.len()).unwrap() * 8;
                    let is_set = |piece: u32| bits[(piece / 8) as usize] >> (7 - piece % 8) & 1 == 1;
                    prop_assert!(after.into_iter().any(is_set));
                }
            }
        }
    }
}
