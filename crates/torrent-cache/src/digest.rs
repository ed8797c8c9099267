//! SHA-256 digests, which are the names of blobs.

use std::fmt;
use std::str::FromStr;

use ring::digest::{Context, SHA256};
use thiserror::Error;

/// The beginning of every digest's text.
const PREFIX: &str = "sha256:";

/// The SHA-256 of a blob (OCI Image Specification, "Digests").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Returns the digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = DigestHasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Returns the digest as 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.to_string().split_off(PREFIX.len())
    }
}

/// Writes `sha256:` and 64 digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not sha256: and 64 lower-case hexadecimal digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let hex = text.strip_prefix(PREFIX).ok_or(NotADigest)?.as_bytes();
        let mut digest = [0; 32];
        if hex.len() != 2 * digest.len() {
            return Err(NotADigest);
        }
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(NotADigest),
        };
        for (to, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
            let [high, low] = *pair else { return Err(NotADigest) };
            *to = 16 * digit(high)? + digit(low)?;
        }
        Ok(Self(digest))
    }
}

/// Computes a digest of bytes that arrive little by little.
#[derive(Clone)]
pub struct DigestHasher(Context);

impl DigestHasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all bytes.
    pub fn finish(self) -> Digest {
        let mut digest = Digest([0; 32]);
        digest.0.iter_mut().zip(self.0.finish().as_ref()).for_each(|(to, from)| *to = *from);
        digest
    }
}

impl Default for DigestHasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl fmt::Debug for DigestHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestHasher")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        let expected = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), expected);
    }

    #[test]
    fn only_lower_case_sha256_is_a_digest() {
        let hex = "ab".repeat(32);
        assert_eq!(format!("sha256:{hex}").parse(), Ok(Digest([0xab; 32])));
        for wrong in [
            hex.clone(),
            format!("sha512:{hex}"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{hex}0"),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{}/", &hex[1..]),
            format!("sha256: {}", &hex[1..]),
            format!("sha256:{}ä", &hex[2..]),
            String::new(),
        ] {
            assert_eq!(wrong.parse::<Digest>(), Err(NotADigest), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_digest_is_read_as_it_is_written(bytes: [u8; 32]) {
            prop_assert_eq!(Digest(bytes).to_string().parse(), Ok(Digest(bytes)));
        }

        #[test]
        fn the_pieces_do_not_matter(bytes: Vec<u8>, at in 0_usize..100) {
            let (a, b) = bytes.split_at(at.min(bytes.len()));
            let mut hasher = DigestHasher::default();
            hasher.update(a);
            hasher.update(b);
            prop_assert_eq!(hasher.finish(), Digest::of(&bytes));
        }
    }
}
