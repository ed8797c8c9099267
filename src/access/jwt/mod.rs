//! Tokens: an announce carries a JSON Web Token (RFC 7519), which names the torrent. The issuer signs the token with a
//! key of a JWK set (RFC 7517).
//!
//! The announce URL holds the token as `jwt=`. Over UDP a client sends the URL's path and query with the announce (BEP
//! 41). A token is neither logged nor sent upstream.
//!
//! Verifying a signature takes as long as ten announces. So a verified token is remembered until it expires or its key
//! is removed. The number of tokens that may fail in a second is bounded, for each source and in total.

mod crypto;
mod failures;
mod fault;
mod keys;
mod refresh;
mod token;

use std::hash::Hasher;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode};
use moka::sync::Cache;
use parking_lot::RwLock;
use prometheus_client::metrics::gauge::Gauge;
use siphasher::sip128::{Hasher128, SipHasher13};
use tokio::sync::Notify;
use tracker_protocol::InfoHash;
use trust::Authorities;
use url::Url;

use self::failures::Failures;
use self::keys::{JwtKey, KeySet};
use self::token::{Claims, Verified};

pub use self::failures::FAILURES_PER_SOURCE;
pub(super) use self::fault::{JwtFault, TOO_MANY};
pub use self::keys::KeySummary;
pub use self::refresh::probe_keys;

/// The most verified tokens that are remembered. Each token takes a hundred bytes.
const REMEMBERED: u64 = 200_000;

/// How far the clocks of the issuer and of this host may differ, in seconds.
const LEEWAY: u64 = 60;

/// The options of the rule about tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtOptions {
    /// Where the keys are.
    pub keys: KeySource,
    /// The certificate authorities that are trusted for the server of the keys, in place of the usual authorities.
    pub ca: Option<Authorities>,
    /// Accepted issuers (`iss`).
    pub issuers: Issuers,
    /// The names of this tracker, one of which must be in `aud`.
    pub audiences: Vec<String>,
    /// How often the keys are fetched again.
    pub refresh: Duration,
    /// Whether scrapes need a token too.
    pub protect_scrape: bool,
    /// Whether a token without `exp` is refused.
    pub require_expiry: bool,
}

/// Whose tokens are accepted (`iss`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issuers {
    /// Tokens of these issuers.
    Listed(Vec<String>),
    /// Tokens of the issuer that the JWK set names in its member `issuer`. If the set names no issuer, the tracker
    /// accepts any token that a key of the set signed, as in Chihaya v1.0.
    OfKeySet,
}

/// Where the JWK set is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// An http or https URL.
    Url(Url),
    /// A file.
    File(PathBuf),
    /// Nowhere. Instead of a URL, the configuration has this placeholder, which was copied from the documentation.
    Placeholder(String),
}

/// The rule that an announce must carry a token.
#[derive(Debug)]
pub(super) struct JwtRule {
    options: JwtOptions,
    validation: Validation,
    keys: RwLock<Arc<KeySet>>,
    key_count: Gauge,
    verified: Cache<u128, Verified>,
    /// The secret key with which tokens are hashed. If a client knew this key, it could search for a token that has the
    /// same hash as a verified token.
    hash_key: [u8; 16],
    failures: Failures,
    /// Wakes `keep_keys` when a token names an unknown key, because the keys must be fetched again then.
    unknown_key: Notify,
}

impl JwtOptions {
    /// Resolves the path of a key file against this folder.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        if let KeySource::File(path) = &mut self.keys {
            *path = folder.join(&path);
        }
        self
    }
}

impl JwtRule {
    /// Makes a rule that has no keys yet.
    pub(super) fn new(options: JwtOptions, key_count: Gauge) -> Self {
        crypto::install();
        // The library does not check the times. [`Self::check`] checks them at each announce, for remembered tokens
        // too, with a time that tests can choose.
        let mut validation = Validation { validate_exp: false, validate_nbf: false, ..Validation::default() };
        validation.set_required_spec_claims(&["iss", "aud"]);
        if let Issuers::Listed(issuers) = &options.issuers {
            validation.set_issuer(issuers);
        }
        validation.set_audience(&options.audiences);
        key_count.set(0);
        Self {
            options,
            validation,
            keys: RwLock::default(),
            key_count,
            verified: Cache::new(REMEMBERED),
            hash_key: std::array::from_fn(|_| fastrand::u8(..)),
            failures: Failures::default(),
            unknown_key: Notify::new(),
        }
    }

    pub(super) fn options(&self) -> &JwtOptions {
        &self.options
    }

    /// Returns the current fault and its remedy, for the operator.
    pub(super) fn notice(&self) -> Option<String> {
        let is_empty = self.keys.read().is_empty();
        is_empty.then(|| {
            "There are no keys to check tokens with, so every announce is refused. See in the log why the keys could not \
             be fetched, and correct the source of the keys in the access rules or at the issuer."
                .to_owned()
        })
    }

    /// Decides about an announce of a torrent. `now` is in seconds since 1970.
    pub(super) fn admit(&self, ip: IpAddr, info_hash: InfoHash, query: &[u8], now: u64) -> Result<(), JwtFault> {
        let token = token::find(query)?;
        let verified = self.verified(ip, &token, now)?;
        self.check(&verified, info_hash, now)
    }

    /// Decides about a token as [`Self::admit`] does, but for the operator: the call counts and remembers nothing.
    pub(super) fn examine(&self, info_hash: InfoHash, token: &[u8], now: u64) -> Result<(), JwtFault> {
        let token = token::checked(token)?;
        let keys = Arc::clone(&self.keys.read());
        if keys.is_empty() {
            return Err(JwtFault::NoKeys);
        }
        self.check(&self.verify(&keys, token)?, info_hash, now)
    }

    fn check(&self, verified: &Verified, info_hash: InfoHash, now: u64) -> Result<(), JwtFault> {
        if verified.not_before.is_some_and(|time| now.saturating_add(LEEWAY) < time) {
            return Err(JwtFault::NotYet);
        }
        if verified.expires.is_some_and(|time| now >= time.saturating_add(LEEWAY)) {
            return Err(JwtFault::Expired);
        }
        if self.options.require_expiry && verified.expires.is_none() {
            return Err(JwtFault::NoExpiry);
        }
        if verified.info_hashes.contains(&info_hash) { Ok(()) } else { Err(JwtFault::OtherTorrent) }
    }

    /// Verifies the signature of a token, unless the token is remembered. Returns what the token says.
    fn verified(&self, ip: IpAddr, token: &[u8], now: u64) -> Result<Verified, JwtFault> {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key);
        hasher.write(token);
        let hash = hasher.finish128().as_u128();
        let keys = Arc::clone(&self.keys.read());
        if let Some(verified) = self.verified.get(&hash).filter(|verified| keys.has(verified.key)) {
            return Ok(verified);
        }
        if keys.is_empty() {
            return Err(JwtFault::NoKeys);
        }
        if self.failures.are_too_many(ip, now) {
            return Err(JwtFault::TooMany);
        }
        let verified = self.verify(&keys, token).inspect_err(|fault| {
            if *fault == JwtFault::UnknownKey {
                self.unknown_key.notify_one();
            }
            self.failures.count(ip, now);
        })?;
        self.verified.insert(hash, verified);
        Ok(verified)
    }

    fn verify(&self, keys: &KeySet, token: &[u8]) -> Result<Verified, JwtFault> {
        let (algorithm, kid) = token::header(token)?;
        let candidates = keys.candidates(kid.as_deref(), algorithm);
        if candidates.is_empty() {
            if kid.as_deref().is_some_and(|kid| !keys.has_name(kid)) {
                return Err(JwtFault::UnknownKey);
            }
            return Err(JwtFault::Signature);
        }
        let mut validation = Validation { algorithms: vec![algorithm], ..self.validation.clone() };
        if self.options.issuers == Issuers::OfKeySet {
            match keys.issuer() {
                Some(issuer) => validation.set_issuer(&[issuer]),
                None => validation.set_required_spec_claims(&["aud"]),
            }
        }
        let mut fault = JwtFault::Signature;
        for JwtKey { decoding, serial, .. } in candidates {
            match decode::<Claims>(token, decoding, &validation) {
                Ok(data) => return data.claims.verified(*serial),
                Err(error) => match error.kind() {
                    ErrorKind::InvalidSignature => {}
                    other => fault = JwtFault::found(other),
                },
            }
        }
        Err(fault)
    }

    /// Replaces the keys. Remembered tokens of a removed key are verified again, which fails, so these tokens are
    /// refused.
    fn set_keys(&self, keys: KeySet) {
        self.key_count.set(i64::try_from(keys.len()).unwrap_or(i64::MAX));
        *self.keys.write() = Arc::new(keys);
    }
}

#[cfg(test)]
mod tests;
