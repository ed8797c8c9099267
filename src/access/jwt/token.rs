//! The token in a query, and the claims in a token.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use smallvec::SmallVec;
use tracker_protocol::{InfoHash, query};

use super::fault::JwtFault;

/// The longest token, in bytes.
const MAX_TOKEN: usize = 8192;

/// What a verified token says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verified {
    pub(super) info_hash: InfoHash,
    /// When the token begins and ceases to be valid, in seconds since 1970.
    pub(super) not_before: Option<u64>,
    pub(super) expires: Option<u64>,
    /// The serial of the key that signed the token.
    pub(super) key: u64,
}

/// The token in the query of an announce URL: the first `jwt` that is not empty. `None` if there is none, or if it is
/// longer than [`MAX_TOKEN`].
pub(super) fn find(query: &[u8]) -> Option<SmallVec<[u8; 1024]>> {
    query::values(query, b"jwt")
        .map(|value| query::unescaped(value).collect::<SmallVec<[u8; 1024]>>())
        .find(|token| !token.is_empty())
        .filter(|token| token.len() <= MAX_TOKEN)
}

/// The claims that are read from a token, beside those about issuer and audience.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    infohash: Option<String>,
    #[serde(default, deserialize_with = "seconds")]
    exp: Option<u64>,
    #[serde(default, deserialize_with = "seconds")]
    nbf: Option<u64>,
}

impl Claims {
    /// Reads the info-hash. `key` is the serial of the key that signed the token.
    pub(super) fn verified(self, key: u64) -> Result<Verified, JwtFault> {
        let info_hash = self.infohash.as_deref().and_then(info_hash).ok_or(JwtFault::InfoHash)?;
        Ok(Verified { info_hash, not_before: self.nbf, expires: self.exp, key })
    }
}

/// Reads an info-hash in each form that issuers write: 40 hexadecimal digits, the 64 digits of a v2 torrent,
/// percent-encoded bytes, or 20 characters whose code points are the bytes.
fn info_hash(text: &str) -> Option<InfoHash> {
    if let Ok(hash) = text.parse() {
        return Some(hash);
    }
    let of = |bytes: Vec<u8>| <[u8; 20]>::try_from(bytes).ok().map(InfoHash);
    if text.is_ascii() {
        return of(text.into()).or_else(|| of(query::unescaped(text.as_bytes()).collect()));
    }
    of(text.chars().map_while(|character| u8::try_from(character).ok()).collect())
}

/// Seconds since 1970, with or without fraction (RFC 7519, section 2, `NumericDate`).
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumericDate {
        Whole(u64),
        Fraction(f64),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => None,
        Some(NumericDate::Whole(seconds)) => Some(seconds),
        Some(NumericDate::Fraction(seconds)) if seconds < 0.0 => Some(0),
        Some(NumericDate::Fraction(seconds)) => {
            Some(Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |time| time.as_secs()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_that_is_not_empty_counts() {
        let found = |query: &str| find(query.as_bytes()).map(|token| String::from_utf8(token.to_vec()).unwrap());
        for (query, expected) in [
            ("jwt=a.b.c&info_hash=x", Some("a.b.c")),
            ("info_hash=x&jwt=&jwt=a%2Eb&jwt=c", Some("a.b")),
            ("jwt=a?info_hash=x", Some("a")),
            ("xjwt=a&jw=b&JWT=c&jwt", None),
            ("j%77t=a", Some("a")),
            ("", None),
        ] {
            assert_eq!(found(query).as_deref(), expected, "{query}");
        }
        assert!(find(format!("jwt={}", "a".repeat(MAX_TOKEN)).as_bytes()).is_some());
        assert!(find(format!("jwt={}", "a".repeat(MAX_TOKEN + 1)).as_bytes()).is_none());
    }

    #[test]
    fn an_info_hash_in_every_form() {
        let bytes: [u8; 20] = std::array::from_fn(|n| u8::try_from(n * 13).unwrap());
        let expected = Some(InfoHash(bytes));
        let hex = InfoHash(bytes).to_string();
        let escaped = hex
            .to_uppercase()
            .as_bytes()
            .chunks(2)
            .fold(String::new(), |text, digits| text + "%" + std::str::from_utf8(digits).unwrap());
        let characters: String = bytes.iter().copied().map(char::from).collect();
        assert_eq!(info_hash(&hex), expected);
        assert_eq!(info_hash(&hex.to_uppercase()), expected);
        assert_eq!(info_hash(&format!("{hex}{}", "0".repeat(24))), expected, "that of a v2 torrent");
        assert_eq!(info_hash(&escaped), expected);
        assert_eq!(info_hash(&escaped.to_lowercase()), expected);
        assert_eq!(info_hash(&characters), expected);
        assert_eq!(info_hash("aaaaabbbbbcccccddddd"), Some(InfoHash(*b"aaaaabbbbbcccccddddd")));
        assert_eq!(info_hash("a+b+c+d+e+f+g+h+i+j+"), Some(InfoHash(*b"a+b+c+d+e+f+g+h+i+j+")), "bytes as they are");
        for text in ["", "abc", &hex[1..], "\u{100}aaaaabbbbbcccccdddd"] {
            assert_eq!(info_hash(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_numbers() {
        let read = |json: &str| serde_json::from_str::<Claims>(json).map(|claims| claims.exp);
        assert_eq!(read("{}").unwrap(), None);
        assert_eq!(read("{\"exp\": 7}").unwrap(), Some(7));
        assert_eq!(read("{\"exp\": 7.9}").unwrap(), Some(7));
        assert_eq!(read("{\"exp\": -1.5}").unwrap(), Some(0));
        assert_eq!(read("{\"exp\": 1e300}").unwrap(), Some(u64::MAX));
        assert!(read("{\"exp\": \"7\"}").is_err());
        assert!(read("{\"exp\": []}").is_err());
    }
}
