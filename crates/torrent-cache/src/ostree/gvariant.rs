//! Reads serialised GVariant values of known types. It reads only the framing, which divides a container's bytes among
//! its members.
//!
//! Only the normal form is accepted: offsets in order and in range, zeros as padding, nothing left over. GLib accepts
//! any bytes, and reads defaults in place of wrong values. A value that is refused here still passes to the client, but
//! is not cached. The crates `gvariant` and `zvariant` read wrong bytes as defaults, need aligned copies, or bring
//! serde's model for only three types.

/// Reads the members of a tuple in order. Call the method for the kind of each member.
pub(super) struct TupleMembers<'a> {
    bytes: &'a [u8],
    /// Where the member that was read last ends. Padding can follow before the next member.
    at: usize,
    /// Where the unread framing offsets end. The offsets are in reverse order.
    offsets_end: usize,
}

impl<'a> TupleMembers<'a> {
    /// Begins to read this tuple. The tuple must not have a fixed size.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, offsets_end: bytes.len() }
    }

    /// Reads a member of fixed size, aligned to its size.
    pub(super) fn fixed<const SIZE: usize>(&mut self) -> Option<[u8; SIZE]> {
        let start = align(self.bytes, self.at, SIZE)?;
        let (member, _) = self.bytes.get(start..self.offsets_end)?.split_first_chunk::<SIZE>()?;
        self.at = start.checked_add(SIZE)?;
        Some(*member)
    }

    /// Reads a member of variable size that is not the last member.
    pub(super) fn variable(&mut self, alignment: usize) -> Option<&'a [u8]> {
        let size = offset_size(self.bytes.len());
        let offset_at = self.offsets_end.checked_sub(size)?;
        let end = read_offset(self.bytes, offset_at, size)?;
        self.offsets_end = offset_at;
        let start = align(self.bytes, self.at, alignment)?;
        if end > self.offsets_end {
            return None;
        }
        self.at = end;
        self.bytes.get(start..end)
    }

    /// Reads the last member, if it has a variable size. It ends where the framing offsets begin.
    pub(super) fn last(self, alignment: usize) -> Option<&'a [u8]> {
        let start = align(self.bytes, self.at, alignment)?;
        self.bytes.get(start..self.offsets_end)
    }

    /// Checks that nothing is left after a last member of fixed size.
    pub(super) fn finish(self) -> Option<()> {
        (self.at == self.offsets_end).then_some(())
    }
}

/// Returns the elements, of variable size, of an array. An element with wrong framing is `None`.
pub(super) fn elements(bytes: &[u8], alignment: usize) -> Option<impl Iterator<Item = Option<&[u8]>>> {
    let size = offset_size(bytes.len());
    let offsets_at = match bytes.len().checked_sub(size) {
        Some(last) if size > 0 => read_offset(bytes, last, size)?,
        _ => 0,
    };
    let offsets = bytes.get(offsets_at..)?;
    if size > 0 && (offsets.is_empty() || !offsets.len().is_multiple_of(size)) {
        return None;
    }
    let mut at = 0;
    Some(offsets.chunks_exact(size.max(1)).map(move |offset| {
        let start = align(bytes, at, alignment)?;
        let end = read_offset(offset, 0, size)?;
        let element = bytes.get(..offsets_at)?.get(start..end)?;
        at = end;
        Some(element)
    }))
}

/// Reads a value of type `v`. Returns its type and its bytes.
pub(super) fn variant(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let zero = bytes.iter().rposition(|&byte| byte == 0)?;
    let (value, kind) = bytes.split_at_checked(zero)?;
    Some((kind.get(1..)?, value))
}

/// Reads a value of type `s`. Returns the text without the zero at its end.
pub(super) fn string(bytes: &[u8]) -> Option<&[u8]> {
    let (&0, text) = bytes.split_last()? else { return None };
    (!text.contains(&0)).then_some(text)
}

/// Appends the framing offset to a tuple in which only one member needs an offset. That member ends at `end`.
pub(super) fn push_offset(tuple: &mut Vec<u8>, end: usize) {
    let body = tuple.len();
    let size = [1, 2, 4, 8].into_iter().find(|size| offset_size(body.saturating_add(*size)) == *size).unwrap_or(8);
    tuple.extend(end.to_le_bytes().into_iter().chain([0; 8]).take(size));
}

/// Returns how many bytes each framing offset has in a container of this size.
fn offset_size(container: usize) -> usize {
    match container {
        0 => 0,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

/// Reads the little-endian number of this size at this place.
fn read_offset(bytes: &[u8], at: usize, size: usize) -> Option<usize> {
    let digits = bytes.get(at..at.checked_add(size)?)?;
    let number = digits.iter().rev().fold(0_u64, |number, &digit| number << 8 | u64::from(digit));
    usize::try_from(number).ok()
}

/// Returns the first multiple of `alignment` from `at` on. Returns `None` if the padding is missing or not zero.
fn align(bytes: &[u8], at: usize, alignment: usize) -> Option<usize> {
    let start = at.checked_next_multiple_of(alignment)?;
    bytes.get(at..start)?.iter().all(|&byte| byte == 0).then_some(start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // The examples come from the GVariant specification (Alexander Larsson and Ryan Lortie, 2008), section 2.6.

    #[test]
    fn an_array_of_strings() {
        let bytes = b"i\0can\0has\0strings?\0\x02\x06\x0a\x13";
        let read: Option<Vec<_>> = elements(bytes, 1).unwrap().map(|element| string(element?)).collect();
        assert_eq!(read.unwrap(), [&b"i"[..], b"can", b"has", b"strings?"]);
        assert_eq!(elements(b"", 8).unwrap().count(), 0);
    }

    #[test]
    fn a_tuple_of_a_string_and_a_number() {
        let mut members = TupleMembers::new(b"foo\0\xff\xff\xff\xff\x04");
        assert_eq!(members.variable(1).and_then(string), Some(&b"foo"[..]));
        assert_eq!(members.fixed::<4>(), Some([0xff; 4]));
        assert_eq!(members.finish(), Some(()));
    }

    #[test]
    fn wrong_framing_is_refused() {
        let refused =
            |bytes: &[u8]| elements(bytes, 1).is_none_or(|mut elements| elements.any(|element| element.is_none()));
        assert!(refused(b"ab\x02\x01"), "out of order");
        assert!(refused(b"ab\x05"), "behind the end");
        assert!(refused(b"ab\x03"), "no offset is left");
        let mut members = TupleMembers::new(b"a\x01\0\0\x02\0\0\0\x01");
        assert_eq!(members.variable(1), Some(&b"a"[..]));
        assert_eq!(members.fixed::<4>(), None, "padding that is not zero");
        assert_eq!(variant(b"no type"), None);
        assert_eq!(variant(b"\x05\0y"), Some((&b"y"[..], &b"\x05"[..])));
        assert_eq!(string(b"a\0b\0"), None);
    }

    #[test]
    fn an_offset_is_as_wide_as_its_container_needs() {
        for (body, size) in [(1, 1), (254, 1), (255, 2), (65_533, 2), (65_534, 4)] {
            let mut tuple = vec![0; body];
            push_offset(&mut tuple, body - 1);
            assert_eq!(tuple.len(), body + size);
            assert_eq!(read_offset(&tuple, body, size), Some(body - 1));
        }
    }

    #[test]
    fn elements_that_go_backwards_do_not_overlap() {
        let bytes = [&[0; 53][..], &[0, 0, 0, 0, 9, 0, 0, 53]].concat();
        let read: Vec<_> = elements(&bytes, 1).unwrap().map(|element| element.map(<[u8]>::len)).collect();
        assert_eq!(read, [Some(0), Some(0), Some(0), Some(0), Some(9), None, None, Some(44)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, alignment in prop::sample::select(vec![1_usize, 2, 4, 8])) {
            let total: usize = elements(&bytes, alignment).into_iter().flatten().flatten().map(<[u8]>::len).sum();
            prop_assert!(total <= bytes.len(), "elements do not overlap");
            let mut members = TupleMembers::new(&bytes);
            let _ = (members.fixed::<8>(), members.variable(alignment), members.variable(1), members.fixed::<4>());
            let _ = members.last(alignment);
        }
    }
}
