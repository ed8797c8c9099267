//! The name of a blob.

use std::fmt;
use std::sync::Arc;

/// The name of a blob, such as `sha256:` and 64 hexadecimal digits: 1 to 255 of `A-Z a-z 0-9 . _ + : = -`. Clones share
/// the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlobKey(Arc<str>);

/// The bytes are not the name of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotABlobKey;

impl BlobKey {
    /// The most characters of a name.
    const MAX_LENGTH: usize = 255;

    /// Reads a name.
    ///
    /// # Errors
    /// The name is empty or too long, or has a character that is not allowed.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotABlobKey> {
        let is_legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"._+:=-".contains(byte);
        let is_key = (1..=Self::MAX_LENGTH).contains(&bytes.len()) && bytes.iter().all(is_legal);
        let text = std::str::from_utf8(bytes).ok().filter(|_| is_key).ok_or(NotABlobKey)?;
        Ok(Self(text.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_few_characters() {
        for text in ["a", "sha256:0aF", "x86_64+y=.-", "..", &"a".repeat(255)] {
            assert_eq!(BlobKey::parse(text.as_bytes()).unwrap().as_str(), text);
        }
        for bytes in [&b""[..], b"a/b", b"a b", b"a%20", b"a\0", b"a\n", b"\xff", "\u{e9}".as_bytes(), &[b'a'; 256]] {
            assert_eq!(BlobKey::parse(bytes), Err(NotABlobKey), "{bytes:?}");
        }
    }
}
