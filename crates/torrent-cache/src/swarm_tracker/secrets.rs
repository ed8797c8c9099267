//! The two secrets that the hosts of a network share.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;
use ring::hmac;

/// The allowed lengths of a secret in bytes. A shorter secret could be guessed.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=256;

/// The token that the tracker wants in `Authorization: Bearer`: 16 to 256 of the characters that RFC 6750 allows.
#[derive(Clone, PartialEq, Eq)]
pub struct TrackerToken(HeaderValue);

/// The text cannot be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATrackerToken;

impl TrackerToken {
    pub(super) fn authorization(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl FromStr for TrackerToken {
    type Err = NotATrackerToken;

    fn from_str(text: &str) -> Result<Self, NotATrackerToken> {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if !LENGTHS.contains(&text.len()) || !text.bytes().all(is_legal) {
            return Err(NotATrackerToken);
        }
        let mut value = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| NotATrackerToken)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for TrackerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrackerToken")
    }
}

/// The secret from which hosts compute info-hashes, so that no other program can guess them. Text of 16 to 256 bytes
/// without control characters.
#[derive(Clone)]
pub struct ClusterSecret(hmac::Key);

/// The text cannot be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAClusterSecret;

impl ClusterSecret {
    /// Returns the HMAC-SHA-256 (RFC 2104) of these bytes, with the secret as the key.
    pub(super) fn mac(&self, bytes: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, bytes);
        let mut mac = [0; 32];
        mac.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        mac
    }
}

impl FromStr for ClusterSecret {
    type Err = NotAClusterSecret;

    fn from_str(text: &str) -> Result<Self, NotAClusterSecret> {
        let is_secret = LENGTHS.contains(&text.len()) && !text.contains(char::is_control);
        if is_secret { Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()))) } else { Err(NotAClusterSecret) }
    }
}

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn secrets_are_long_enough_and_not_shown() {
        let text = "0123456789abcdef";
        let token: TrackerToken = text.parse().unwrap();
        assert_eq!(token.authorization(), "Bearer 0123456789abcdef");
        let secret: ClusterSecret = "ein Geheimnis für alle".parse().unwrap();
        assert_eq!(format!("{token:?} {:?} {secret:?}", token.authorization()), "TrackerToken Sensitive ClusterSecret");
        for wrong in ["", "0123456789abcde", "0123456789abcde\n", &"a".repeat(257)] {
            assert_eq!(wrong.parse::<TrackerToken>(), Err(NotATrackerToken), "{wrong:?}");
            assert_eq!(wrong.parse::<ClusterSecret>().map(|_| ()), Err(NotAClusterSecret), "{wrong:?}");
        }
        assert!("0123456789abcde f".parse::<TrackerToken>().is_err());
    }

    #[test]
    fn the_mac_is_the_one_that_openssl_computes() {
        // `printf abc | openssl dgst -sha256 -hmac 0123456789abcdef` prints the expected value.
        let secret: ClusterSecret = "0123456789abcdef".parse().unwrap();
        assert_eq!(
            Digest(secret.mac(b"abc")).hex(),
            "bcaa92843247bc258080d2824bddeba4afb1bd61b4688ca65f60a214e1d9759e"
        );
    }
}
