//! The names in a registry's paths: repositories, tags, digests (OCI Distribution Specification, "Pulling manifests").

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::digest::Digest;

/// The longest repository name, in bytes. The specification says that many clients have this limit.
const MAX_NAME: usize = 255;

/// The longest tag, in bytes.
const MAX_TAG: usize = 128;

/// The longest digest that we pass on, in bytes. The longest registered digest, `sha512`, has 135 bytes.
const MAX_DIGEST: usize = 255;

/// The name of a repository, such as `library/alpine`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text does not follow the specification's grammar of repository names, or is longer than 255 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "a repository name has at most 255 bytes and consists of parts with '/' between them; a part has \
     lower-case letters and digits, joined by '.', '_', '__' or hyphens"
)]
pub struct NotARepositoryName;

impl FromStr for RepositoryName {
    type Err = NotARepositoryName;

    fn from_str(text: &str) -> Result<Self, NotARepositoryName> {
        let is_name = text.len() <= MAX_NAME && text.split('/').all(is_component);
        if is_name { Ok(Self(text.to_owned())) } else { Err(NotARepositoryName) }
    }
}

/// Whether the text matches `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(text: &str) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let ends_well = bytes.first().is_some_and(is_letter) && bytes.last().is_some_and(is_letter);
    // Between two adjacent letters, `split` yields an empty separator.
    ends_well
        && bytes.split(is_letter).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|&byte| byte == b'-')
        })
}

/// A tag, such as `latest` or `3.20`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageTag(String);

impl ImageTag {
    /// Returns the tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text does not follow the specification's grammar of tags, or is longer than 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a tag has at most 128 of the characters a-z, A-Z, 0-9, '_', '.', '-', and does not start with '.' or '-'")]
pub struct NotATag;

impl FromStr for ImageTag {
    type Err = NotATag;

    fn from_str(text: &str) -> Result<Self, NotATag> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts_well = text.bytes().next().is_some_and(is_word);
        let is_tag = starts_well
            && text.len() <= MAX_TAG
            && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'));
        if is_tag { Ok(Self(text.to_owned())) } else { Err(NotATag) }
    }
}

/// A digest of any algorithm (OCI Image Specification, "Digests"). The cache keeps only content with a SHA-256 digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ContentDigest {
    /// A SHA-256 digest.
    Sha256(Digest),
    /// A valid digest of another algorithm, such as `sha512:…`.
    Other(OtherDigest),
}

/// A valid digest of another algorithm than SHA-256, as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OtherDigest(String);

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::Other(OtherDigest(text)) => f.write_str(text),
        }
    }
}

/// The text does not follow the grammar of digests, or its hash does not fit its registered algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a digest is an algorithm, ':' and the encoded hash, such as sha256: and 64 lower-case hexadecimal digits")]
pub struct NotAContentDigest;

impl FromStr for ContentDigest {
    type Err = NotAContentDigest;

    fn from_str(text: &str) -> Result<Self, NotAContentDigest> {
        let (algorithm, encoded) = text.split_once(':').ok_or(NotAContentDigest)?;
        let is_valid = match algorithm {
            "sha256" => return text.parse().map(Self::Sha256).map_err(|_| NotAContentDigest),
            "sha512" => is_hex(encoded, 128),
            "blake3" => is_hex(encoded, 64),
            _ => is_algorithm(algorithm) && is_encoded(encoded) && text.len() <= MAX_DIGEST,
        };
        if is_valid { Ok(Self::Other(OtherDigest(text.to_owned()))) } else { Err(NotAContentDigest) }
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the text matches `[a-z0-9]+([+._-][a-z0-9]+)*`.
fn is_algorithm(text: &str) -> bool {
    text.split(['+', '.', '_', '-'])
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()))
}

/// Whether the text matches `[a-zA-Z0-9=_-]+`.
fn is_encoded(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'=' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_grammar_of_repository_names() {
        for good in
            ["a", "library/alpine", "a.b", "a_b", "a__b", "a-b", "a---b", "0/1/2", "quay.io/x", &"a".repeat(255)]
        {
            assert_eq!(good.parse::<RepositoryName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let long = "a".repeat(256);
        for bad in [
            "", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", "a/./b", "A", "a..b", "a___b", "a.-b", "a._b",
            "-a", "a-", "_a", "a_", "a.", "a b", "a%2fb", "a:b", "a@b", "a\0b", "ä", "a\\b", "a?b", "a#b", "_catalog",
            &long,
        ] {
            assert_eq!(bad.parse::<RepositoryName>(), Err(NotARepositoryName), "{bad:?}");
        }
    }

    #[test]
    fn the_grammar_of_tags() {
        for good in ["latest", "3.20", "_x", "A-b", &"t".repeat(128)] {
            assert_eq!(good.parse::<ImageTag>().map(|tag| tag.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", ".", "..", "-a", ".a", "a/b", "a:b", "a%20", "a b", "a\0", "ä", &"t".repeat(129)] {
            assert_eq!(bad.parse::<ImageTag>(), Err(NotATag), "{bad:?}");
        }
    }

    #[test]
    fn the_grammar_of_digests() {
        let hex = "0123456789abcdef".repeat(4);
        let sha256 = format!("sha256:{hex}");
        assert_eq!(sha256.parse(), Ok(ContentDigest::Sha256(sha256.parse().unwrap())));
        for other in [
            format!("sha512:{hex}{hex}"),
            format!("blake3:{hex}"),
            "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8".to_owned(),
            "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564".to_owned(),
        ] {
            let parsed = other.parse::<ContentDigest>().unwrap();
            assert!(matches!(parsed, ContentDigest::Other(_)));
            assert_eq!(parsed.to_string(), other);
        }
        for bad in [
            String::new(),
            ":".to_owned(),
            hex.clone(),
            "sha256:".to_owned(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{hex}0"),
            format!("sha512:{hex}"),
            format!("SHA256:{hex}"),
            format!("sha-:{hex}"),
            "a:b/c".to_owned(),
            "a:b:c".to_owned(),
            "a:..".to_owned(),
            "a:b%00".to_owned(),
            format!("x:{}", "a".repeat(254)),
        ] {
            assert_eq!(bad.parse::<ContentDigest>(), Err(NotAContentDigest), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn names_of_the_grammar_are_names(name in "[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}(/[a-z0-9]{1,5}((\\.|_|__|-{1,3})[a-z0-9]{1,4}){0,3}){0,3}") {
            prop_assert!(name.parse::<RepositoryName>().is_ok());
        }

        #[test]
        fn a_name_has_no_character_with_a_meaning_in_urls(text in "[a-z./_%?#:@\\\\ -]{0,12}") {
            if let Ok(name) = text.parse::<RepositoryName>() {
                prop_assert!(!name.as_str().contains(['%', '?', '#', ':', '@', '\\', ' ']));
                prop_assert!(name.as_str().split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }
}
