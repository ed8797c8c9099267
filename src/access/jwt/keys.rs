//! The keys of a JWK set (RFC 7517, RFC 7518, RFC 8037).

use std::collections::BTreeMap;
use std::fmt;
use std::hash::BuildHasher as _;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::hash::SEED;

/// The most keys of a set that are used.
const MAX_KEYS: usize = 1000;

/// The most keys that are tried for a token that does not name its key.
const MAX_TRIED: usize = 8;

/// RSA keys of these sizes in bytes are used: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// The keys of a set that can be used.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<JwtKey>,
    /// `issuer`, a member that Chihaya v1.0 adds to RFC 7517.
    issuer: Option<String>,
}

/// One key.
pub(super) struct JwtKey {
    /// The `kid` of the key.
    name: Option<String>,
    pub(super) decoding: DecodingKey,
    /// The algorithms that the key's type and its `alg` allow.
    algorithms: &'static [Algorithm],
    /// A hash of the key, by which the key is recognised when the keys are fetched again.
    pub(super) serial: u64,
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

/// The numbers of keys in a JWK set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySummary {
    /// How many keys of each kind can be used.
    pub used: BTreeMap<&'static str, usize>,
    /// The keys that cannot be used: for each reason, how many keys there are.
    pub skipped: BTreeMap<&'static str, usize>,
}

impl fmt::Display for KeySummary {
    /// Writes for example `2 RSA, 1 Ed25519; skipped: 1 of an unknown kind`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &BTreeMap<&str, usize>| {
            counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
        };
        f.write_str(&if self.used.is_empty() { "no usable key".to_owned() } else { list(&self.used) })?;
        if self.skipped.is_empty() { Ok(()) } else { write!(f, "; skipped: {}", list(&self.skipped)) }
    }
}

/// The text is no JWK set.
#[derive(Debug, Error)]
pub(super) enum NotAKeySet {
    #[error("it is not JSON: {0}")]
    NotJson(serde_json::Error),
    #[error("it has no list `keys`, expected a JWK set such as {{\"keys\": [...]}}")]
    NoKeys,
}

impl KeySet {
    /// Reads a set. Keys that cannot be used are skipped.
    pub(super) fn parse(json: &[u8]) -> Result<(Self, KeySummary), NotAKeySet> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
            issuer: Option<Value>,
        }
        let set = serde_json::from_slice::<Set>(json)
            .map_err(|error| if error.is_data() { NotAKeySet::NoKeys } else { NotAKeySet::NotJson(error) })?;
        let (mut keys, mut summary) = (Vec::new(), KeySummary::default());
        for value in set.keys {
            let read = if keys.len() < MAX_KEYS { read(&value) } else { Err("beyond the first 1000") };
            match read {
                Ok((kind, key)) => {
                    *summary.used.entry(kind).or_default() += 1;
                    keys.push(key);
                }
                Err(why) => *summary.skipped.entry(why).or_default() += 1,
            }
        }
        let issuer = set.issuer.as_ref().and_then(Value::as_str).filter(|issuer| !issuer.is_empty());
        Ok((Self { keys, issuer: issuer.map(str::to_owned) }, summary))
    }

    /// Returns the issuer of tokens that these keys sign. `None` if the set names no issuer.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether the set has the key with this serial.
    pub(super) fn has(&self, serial: u64) -> bool {
        self.keys.iter().any(|key| key.serial == serial)
    }

    /// Returns whether the set has a key of this name.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name.as_deref() == Some(name))
    }

    /// Returns the keys that may have signed a token of this algorithm. `name` is the token's `kid`. Without a name,
    /// all keys of the algorithm may have signed it.
    pub(super) fn candidates(&self, name: Option<&str>, algorithm: Algorithm) -> Vec<&JwtKey> {
        let may_sign = |key: &&JwtKey| key.algorithms.contains(&algorithm);
        let is_named = |key: &&JwtKey| name.is_none() || key.name.as_deref() == name;
        self.keys.iter().filter(is_named).filter(may_sign).take(MAX_TRIED).collect()
    }
}

/// Reads a key and its kind, or says why it cannot be used.
fn read(value: &Value) -> Result<(&'static str, JwtKey), &'static str> {
    let jwk = Jwk::deserialize(value).map_err(|_| "of an unknown kind")?;
    if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return Err("for encryption");
    }
    let (kind, all) = algorithms(&jwk.algorithm)?;
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| "malformed")?;
    let only = value.get("alg").and_then(Value::as_str);
    let algorithms = match only {
        None => all,
        Some(name) => one_of(all, name).ok_or("with an algorithm that does not fit")?,
    };
    let name = jwk.common.key_id;
    let serial = SEED.hash_one((&name, &jwk.algorithm, only));
    Ok((kind, JwtKey { name, decoding, algorithms, serial }))
}

/// Returns the algorithms of a type of keys.
fn algorithms(parameters: &AlgorithmParameters) -> Result<(&'static str, &'static [Algorithm]), &'static str> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match parameters {
        AlgorithmParameters::RSA(key) => {
            // Base64 has 4 characters for 3 bytes.
            let bytes = key.n.trim_end_matches('=').len() * 3 / 4;
            if RSA_BYTES.contains(&bytes) {
                Ok(("RSA", &[RS256, RS384, RS512, PS256, PS384, PS512]))
            } else {
                Err("RSA of a size other than 2048 to 8192 bits")
            }
        }
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => Ok(("P-256", &[ES256])),
            EllipticCurve::P384 => Ok(("P-384", &[ES384])),
            _ => Err("of an unknown curve"),
        },
        AlgorithmParameters::OctetKeyPair(key) => match key.curve {
            EllipticCurve::Ed25519 => Ok(("Ed25519", &[EdDSA])),
            _ => Err("of an unknown curve"),
        },
        AlgorithmParameters::OctetKey(_) => Err("symmetric"),
        _ => Err("of an unknown kind"),
    }
}

/// Returns a list with only the algorithm of this name. `None` if `algorithms` does not include this algorithm.
fn one_of(algorithms: &'static [Algorithm], name: &str) -> Option<&'static [Algorithm]> {
    let only = name.parse::<Algorithm>().ok()?;
    algorithms.iter().position(|algorithm| *algorithm == only).and_then(|at| algorithms.get(at..=at))
}
