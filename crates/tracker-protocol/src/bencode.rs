//! Bencode (BEP 3): a tolerant reader for what other trackers and peers send, and helpers that write what we send.
//!
//! bendy writes our refusals, but reads canonical input only. Real trackers send unsorted and repeated keys. This
//! reader copies nothing, allocates nothing, and goes no deeper than [`MAX_DEPTH`].

use thiserror::Error;

/// How deep lists and dictionaries may nest. A tracker's reply needs three levels.
pub const MAX_DEPTH: usize = 16;

/// Why input cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BencodeError {
    /// The input ends inside a value.
    #[error("it ends inside a value")]
    EndsEarly,
    /// The byte at this position cannot stand there.
    #[error("it is not bencode at byte {0}")]
    Unexpected(usize),
    /// The input nests deeper than [`MAX_DEPTH`].
    #[error("it nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// One value, or the beginning of a list or a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer. An integer that does not fit into 64 bits becomes the nearest integer that fits.
    Int(i64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A list has begun: read values until [`Reader::end`].
    List,
    /// A dictionary has begun: read [`Reader::key`] and a value in turn until there is no key.
    Dict,
}

/// Reads values in turn.
#[derive(Debug)]
pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Makes a reader that stands at the first byte.
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0, depth: 0 }
    }

    /// Reads the next value. After `List` or `Dict` the reader stands inside that list or dictionary.
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

    /// Returns whether the list that the reader is in ends here. If so, the reader steps out of the list.
    pub fn end(&mut self) -> Result<bool, BencodeError> {
        let ends = self.peek()? == b'e' && self.depth > 0;
        if ends {
            self.at += 1;
            self.depth -= 1;
        }
        Ok(ends)
    }

    /// Reads the next key of the dictionary that the reader is in. At the end of the dictionary there is no key, and
    /// the reader steps out of the dictionary.
    pub fn key(&mut self) -> Result<Option<&'a [u8]>, BencodeError> {
        if self.end()? { Ok(None) } else { self.bytes().map(Some) }
    }

    /// Skips the rest of a value that [`Reader::value`] returned.
    pub fn skip(&mut self, value: Value<'a>) -> Result<(), BencodeError> {
        if !matches!(value, Value::List | Value::Dict) {
            return Ok(());
        }
        // Keys are byte strings, so a dictionary can be skipped like a list.
        let outside = self.depth - 1;
        while self.depth > outside {
            if !self.end()? {
                self.value()?;
            }
        }
        Ok(())
    }

    /// Returns the input after the values that have been read so far.
    pub fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Result<u8, BencodeError> {
        self.input.get(self.at).copied().ok_or(BencodeError::EndsEarly)
    }

    /// Reads the digits of an integer and its `e`. Leading zeros and `-0` are accepted, because they do no harm.
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

    /// Reads at least one digit, then `terminator`. A number beyond 64 bits becomes the largest number that fits.
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

/// Appends a key, which is already bencoded, and an integer.
pub fn put_pair(out: &mut Vec<u8>, key: &[u8], value: u32) {
    out.extend_from_slice(key);
    out.push(b'i');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.push(b'e');
}

/// Appends a byte string.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends the length that begins a byte string.
pub fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.push(b':');
}

#[cfg(test)]
mod tests;
