//! The token in a query, and the claims in a token.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use smallvec::SmallVec;
use tracker_protocol::{InfoHash, query};

use super::fault::JwtFault;

/// The longest token, in bytes.
const MAX_TOKEN: usize = 8192;

/// What a verified token says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verified {
    /// The info-hash of the torrent, in the two ways in which the claim's text can be read. For most texts, both values
    /// are the same.
    pub(super) info_hashes: [InfoHash; 2],
    /// When the token begins to be valid, in seconds since 1970.
    pub(super) not_before: Option<u64>,
    /// When the token ceases to be valid, in seconds since 1970.
    pub(super) expires: Option<u64>,
    /// The serial of the key that signed the token.
    pub(super) key: u64,
}

/// Returns the token in the query of an announce URL: the first `jwt` that is not empty.
pub(super) fn find(query: &[u8]) -> Result<SmallVec<[u8; 1024]>, JwtFault> {
    let mut fault = JwtFault::Missing;
    for value in query::values(query, b"jwt") {
        let token: SmallVec<[u8; 1024]> = query::unescaped(value).collect();
        match checked(&token) {
            Err(JwtFault::Empty) => fault = JwtFault::Empty,
            Err(fault) => return Err(fault),
            Ok(_) => return Ok(token),
        }
    }
    Err(fault)
}

/// Checks the length of a token.
pub(super) fn checked(token: &[u8]) -> Result<&[u8], JwtFault> {
    match token.len() {
        0 => Err(JwtFault::Empty),
        1..=MAX_TOKEN => Ok(token),
        _ => Err(JwtFault::TooLong),
    }
}

/// The header of a token (RFC 7515, section 4.1).
#[derive(Debug, Deserialize)]
struct TokenHeader {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that a recipient must understand (section 4.1.11). This tracker knows none.
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

/// Reads the algorithm and the name of the key from the header of a token.
pub(super) fn header(token: &[u8]) -> Result<(Algorithm, Option<String>), JwtFault> {
    let mut parts = token.split(|&byte| byte == b'.');
    let (Some(header), Some(_claims), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(JwtFault::Malformed);
    };
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| JwtFault::Malformed)?;
    let TokenHeader { alg, kid, crit } = serde_json::from_slice(&header).map_err(|_| JwtFault::Malformed)?;
    if crit.is_some() {
        return Err(JwtFault::Malformed);
    }
    // If the algorithm is unknown here, such as `none`, the signature cannot be verified.
    Ok((alg.parse().map_err(|_| JwtFault::Signature)?, kid))
}

/// The claims that are read from a token, beside the claims about issuer and audience.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    infohash: Option<InfoHashClaim>,
    #[serde(default, deserialize_with = "seconds")]
    exp: Option<u64>,
    #[serde(default, deserialize_with = "seconds")]
    nbf: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum InfoHashClaim {
    Text(String),
    NoText(IgnoredAny),
}

impl Claims {
    /// Reads the info-hash. `key` is the serial of the key that signed the token.
    pub(super) fn verified(self, key: u64) -> Result<Verified, JwtFault> {
        let Some(InfoHashClaim::Text(text)) = self.infohash else { return Err(JwtFault::InfoHash) };
        let info_hashes = info_hashes(&text).ok_or(JwtFault::OtherTorrent)?;
        Ok(Verified { info_hashes, not_before: self.nbf, expires: self.exp, key })
    }
}

/// Reads an info-hash in each form that issuers write: 40 hexadecimal digits, the 64 digits of a v2 torrent,
/// percent-encoded bytes, or 20 characters whose code points are the bytes. A `+` may stand for itself or for a space.
/// So a text with a `+` may mean two info-hashes. Without a `+`, both returned info-hashes are the same.
fn info_hashes(text: &str) -> Option<[InfoHash; 2]> {
    if let Ok(hash) = text.parse() {
        return Some([hash; 2]);
    }
    let of = |bytes: Vec<u8>| <[u8; 20]>::try_from(bytes).ok().map(InfoHash);
    if !text.is_ascii() {
        let hash = of(text.chars().map_while(|character| u8::try_from(character).ok()).collect())?;
        return Some([hash; 2]);
    }
    let unescaped = |text: &str| of(query::unescaped(text.as_bytes()).collect());
    let literal = of(text.into()).or_else(|| unescaped(text));
    let spaced = unescaped(&text.replace('+', " "));
    Some([literal.or(spaced)?, spaced.or(literal)?])
}

/// Reads seconds since 1970, with or without a fraction (RFC 7519, section 2, `NumericDate`).
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
            ("jwt=a.b.c&info_hash=x", Ok("a.b.c")),
            ("info_hash=x&jwt=&jwt=a%2Eb&jwt=c", Ok("a.b")),
            ("jwt=a?info_hash=x", Ok("a")),
            ("j%77t=a", Ok("a")),
            ("xjwt=a&jw=b&JWT=c", Err(JwtFault::Missing)),
            ("", Err(JwtFault::Missing)),
            ("jwt=&jwt", Err(JwtFault::Empty)),
        ] {
            assert_eq!(found(query).as_deref(), expected.as_ref().map(|text| *text), "{query}");
        }
        assert!(found(&format!("jwt={}", "a".repeat(MAX_TOKEN))).is_ok());
        assert_eq!(found(&format!("jwt={}", "a".repeat(MAX_TOKEN + 1))), Err(JwtFault::TooLong));
    }

    #[test]
    fn headers() {
        let read = |text: &str, rest: &str| header(format!("{}{rest}", URL_SAFE_NO_PAD.encode(text)).as_bytes());
        let right = r#"{"alg":"RS256","kid":"k","x":[1]}"#;
        assert_eq!(read(right, ".a.b"), Ok((Algorithm::RS256, Some("k".to_owned()))));
        assert_eq!(read(r#"{"alg":"EdDSA"}"#, ".."), Ok((Algorithm::EdDSA, None)));
        for rest in ["", ".", ".a", ".a.b.c"] {
            assert_eq!(read(right, rest), Err(JwtFault::Malformed), "{rest}");
        }
        for wrong in ["", "{}", "[]", r#"{"alg":1}"#, r#"{"alg":"RS256","kid":1}"#, r#"{"alg":"RS256","crit":["x"]}"#] {
            assert_eq!(read(wrong, ".a.b"), Err(JwtFault::Malformed), "{wrong}");
        }
        for unknown in ["none", "None", "", "HS1", "rs256"] {
            assert_eq!(read(&format!("{{\"alg\":\"{unknown}\"}}"), ".a.b"), Err(JwtFault::Signature), "{unknown}");
        }
        assert_eq!(header(b"a.b.c"), Err(JwtFault::Malformed));
    }

    #[test]
    fn an_info_hash_in_every_form() {
        let bytes: [u8; 20] = std::array::from_fn(|n| u8::try_from(n * 13).unwrap());
        let info_hash = |text: &str| info_hashes(text).map(|[hash, _]| hash);
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
        let [literal, spaced] = info_hashes("0123456789+12345678%2B").unwrap();
        assert_eq!(
            [literal.0, spaced.0],
            [*b"0123456789+12345678+", *b"0123456789 12345678+"],
            "as Go's QueryEscape writes it"
        );
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

    #[test]
    fn the_claim_about_the_torrent_is_a_text() {
        let fault = |claim: &str| {
            let claims: Claims = serde_json::from_str(&format!("{{{claim}}}")).unwrap();
            claims.verified(1).map(|_| ()).unwrap_err()
        };
        for absent in ["", "\"infohash\": 7", "\"infohash\": [\"a\"]", "\"infohash\": null"] {
            assert_eq!(fault(absent), JwtFault::InfoHash, "{absent}");
        }
        for other in ["\"infohash\": \"\"", "\"infohash\": \"abc\""] {
            assert_eq!(fault(other), JwtFault::OtherTorrent, "{other}");
        }
    }
}
