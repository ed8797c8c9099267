//! Bencode (BEP 3): a tolerant reader for what other trackers send, and what writing our own replies takes. bendy, which
//! writes everything else, reads canonical input only, and real trackers send unsorted and repeated keys. This reader copies
//! nothing, allocates nothing, and goes no deeper than [`MAX_DEPTH`].

use thiserror::Error;

/// How deep lists and dictionaries may nest. A tracker's reply needs three levels.
pub const MAX_DEPTH: usize = 16;

/// Why input is no bencode that we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BencodeError {
    /// The input ends inside a value.
    #[error("it ends inside a value")]
    EndsEarly,
    /// A byte that begins no value, or stands where it cannot.
    #[error("it is not bencode at byte {0}")]
    Unexpected(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("it nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// One value, as far as it can be told without going into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer; one beyond 64 bits is the nearest that fits.
    Int(i64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A list has begun: read values until [`Reader::end`].
    List,
    /// A dictionary has begun: read [`Reader::key`] and a value in turn until there is no key.
    Dict,
}

/// Reads values one after the other.
#[derive(Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// At the first byte.
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, depth: 0 }
    }

    /// The next value. After `List` or `Dict` the reader stands inside it.
    pub fn value(&mut self) -> Result<Value<'a>, BencodeError> {
        match self.peek()? {
            b'i' => {
                self.at += 1;
                self.int().map(Value::Int)
            }
            b'0'..=b'9' => self.bytes().map(Value::Bytes),
            open @ (b'l' | b'd') => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(BencodeError::TooDeep);
                }
                self.at += 1;
                Ok(if open == b'l' { Value::List } else { Value::Dict })
            }
            _ => Err(BencodeError::Unexpected(self.at)),
        }
    }

    /// Inside a list: whether it ends here, in which case the reader steps out of it.
    pub fn end(&mut self) -> Result<bool, BencodeError> {
        let ends = self.peek()? == b'e' && self.depth > 0;
        if ends {
            self.at += 1;
            self.depth -= 1;
        }
        Ok(ends)
    }

    /// Inside a dictionary: the next key, or none at its end, in which case the reader steps out of it.
    pub fn key(&mut self) -> Result<Option<&'a [u8]>, BencodeError> {
        if self.end()? { Ok(None) } else { self.bytes().map(Some) }
    }

    /// Passes over what is left of a value that [`Reader::value`] gave.
    pub fn skip(&mut self, value: Value<'a>) -> Result<(), BencodeError> {
        if !matches!(value, Value::List | Value::Dict) {
            return Ok(());
        }
        // Keys are byte strings like any other: to skip a dictionary is to skip a list.
        let outside = self.depth - 1;
        while self.depth > outside {
            if !self.end()? {
                self.value()?;
            }
        }
        Ok(())
    }

    /// What follows the values read so far.
    pub fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        self.input.get(self.at).copied().ok_or(BencodeError::EndsEarly)
    }

    /// The digits of an integer and its `e`. Leading zeros and `-0` are let through: they do no harm.
    fn int(&mut self) -> Result<i64, BencodeError> {
        let negative = self.peek()? == b'-';
        if negative {
            self.at += 1;
        }
        let magnitude = self.digits(b'e')?;
        let magnitude = i64::try_from(magnitude).unwrap_or(i64::MAX);
        Ok(if negative { -magnitude } else { magnitude })
    }

    fn bytes(&mut self) -> Result<&'a [u8], BencodeError> {
        let length = usize::try_from(self.digits(b':')?).unwrap_or(usize::MAX);
        let end = self.at.saturating_add(length);
        let bytes = self.input.get(self.at..end).ok_or(BencodeError::EndsEarly)?;
        self.at = end;
        Ok(bytes)
    }

    /// At least one digit, then `terminator`. A number beyond 64 bits is the largest that fits.
    fn digits(&mut self, terminator: u8) -> Result<u64, BencodeError> {
        let start = self.at;
        let mut total = 0_u64;
        loop {
            match self.peek()? {
                digit @ b'0'..=b'9' => total = total.saturating_mul(10).saturating_add(u64::from(digit - b'0')),
                byte if byte == terminator && self.at > start => break,
                _ => return Err(BencodeError::Unexpected(self.at)),
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(total)
    }
}

/// Appends a key as it stands in bencode, length included, and an integer.
pub(super) fn put_pair(out: &mut Vec<u8>, key: &[u8], value: u32) {
    out.extend_from_slice(key);
    out.push(b'i');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.push(b'e');
}

/// Appends a byte string.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends the head of a byte string.
pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.push(b':');
}

#[cfg(test)]
mod tests {
    use super::*;
    use bendy::encoding::{SingleItemEncoder, ToBencode};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A whole value, for comparison with what bendy wrote.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Tree {
        Int(i64),
        Bytes(Vec<u8>),
        List(Vec<Tree>),
        Dict(BTreeMap<Vec<u8>, Tree>),
    }

    impl ToBencode for Tree {
        const MAX_DEPTH: usize = MAX_DEPTH;
        fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), bendy::encoding::Error> {
            match self {
                Self::Int(n) => encoder.emit_int(*n),
                Self::Bytes(bytes) => encoder.emit_bytes(bytes),
                Self::List(items) => encoder.emit_list(|list| items.iter().try_for_each(|item| list.emit(item))),
                Self::Dict(pairs) => {
                    encoder.emit_dict(|mut dict| pairs.iter().try_for_each(|(key, value)| dict.emit_pair(key, value)))
                }
            }
        }
    }

    fn tree(reader: &mut Reader<'_>) -> Result<Tree, BencodeError> {
        Ok(match reader.value()? {
            Value::Int(n) => Tree::Int(n),
            Value::Bytes(bytes) => Tree::Bytes(bytes.to_vec()),
            Value::List => {
                let mut items = Vec::new();
                while !reader.end()? {
                    items.push(tree(reader)?);
                }
                Tree::List(items)
            }
            Value::Dict => {
                let mut pairs = BTreeMap::new();
                while let Some(key) = reader.key()? {
                    pairs.insert(key.to_vec(), tree(reader)?);
                }
                Tree::Dict(pairs)
            }
        })
    }

    fn any_tree() -> impl Strategy<Value = Tree> {
        let leaf =
            prop_oneof![any::<i64>().prop_map(|n| Tree::Int(n.max(-i64::MAX))), any::<Vec<u8>>().prop_map(Tree::Bytes)];
        leaf.prop_recursive(8, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Tree::List),
                proptest::collection::btree_map(any::<Vec<u8>>(), inner, 0..8).prop_map(Tree::Dict),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_bendy_writes(expected in any_tree()) {
            let bytes = expected.to_bencode().unwrap();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(tree(&mut reader).unwrap(), expected);
            prop_assert!(reader.rest().is_empty());

            let mut reader = Reader::new(&bytes);
            let value = reader.value().unwrap();
            reader.skip(value).unwrap();
            prop_assert!(reader.rest().is_empty());
        }

        #[test]
        fn every_cut_of_a_value_ends_early(expected in any_tree(), cut in any::<prop::sample::Index>()) {
            let bytes = expected.to_bencode().unwrap();
            let cut = cut.index(bytes.len());
            let result = tree(&mut Reader::new(&bytes[..cut]));
            prop_assert_eq!(result, Err(BencodeError::EndsEarly));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = tree(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn depth_is_bounded() {
        let read = |depth: usize| tree(&mut Reader::new("l".repeat(depth).as_bytes()));
        assert_eq!(read(MAX_DEPTH), Err(BencodeError::EndsEarly));
        assert_eq!(read(MAX_DEPTH + 1), Err(BencodeError::TooDeep));
        assert_eq!(read(1_000_000), Err(BencodeError::TooDeep));
    }

    #[test]
    fn tolerates_what_bendy_does_not() {
        let read = |text: &str| tree(&mut Reader::new(text.as_bytes()));
        assert_eq!(read("i007e"), Ok(Tree::Int(7)));
        assert_eq!(read("i-0e"), Ok(Tree::Int(0)));
        assert_eq!(read("i99999999999999999999999e"), Ok(Tree::Int(i64::MAX)));
        assert_eq!(read("03:abc"), Ok(Tree::Bytes(b"abc".to_vec())));
        assert_eq!(
            read("d1:bi1e1:ai2e1:bi3ee"),
            Ok(Tree::Dict([(b"b".to_vec(), Tree::Int(3)), (b"a".to_vec(), Tree::Int(2))].into()))
        );
    }

    #[test]
    fn says_where_it_is_wrong() {
        let read = |text: &str| tree(&mut Reader::new(text.as_bytes()));
        assert_eq!(read("<html>"), Err(BencodeError::Unexpected(0)));
        assert_eq!(read("ie"), Err(BencodeError::Unexpected(1)));
        assert_eq!(read("i-e"), Err(BencodeError::Unexpected(2)));
        assert_eq!(read("di1ei2ee"), Err(BencodeError::Unexpected(1)));
        assert_eq!(read("99999999999999999999:a"), Err(BencodeError::EndsEarly));
        assert_eq!(read("e"), Err(BencodeError::Unexpected(0)));
    }
}
