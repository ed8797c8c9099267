//! A registry like Quay: it publishes a JWK set and issues a token for each torrent.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::dsl::id;
use crate::fake_tracker::{FakeTracker, script};

/// The `iss` of the registry's tokens.
pub(crate) const ISSUER: &str = "quay";
/// The `aud` of the registry's tokens.
pub(crate) const AUDIENCE: &str = "http://tracker.example/announce";

/// A key that signs tokens.
pub(crate) struct SigningKey {
    name: String,
    pair: Pair,
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Encodes bytes as tokens and keys do: in Base64 for URLs, without padding.
pub(crate) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64.encode(bytes)
}

impl SigningKey {
    /// Returns the only RSA key of the tests. The key is in a file, because ring cannot generate RSA keys.
    pub(crate) fn rsa(name: &str) -> Self {
        let key = PrivatePkcs8KeyDer::from_pem_slice(include_bytes!("issuer/rsa.pem")).unwrap();
        let pair = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
        Self { name: name.to_owned(), pair: Pair::Rsa(Box::new(pair)) }
    }

    pub(crate) fn p256(name: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap();
        Self { name: name.to_owned(), pair: Pair::P256(pair) }
    }

    pub(crate) fn ed25519(name: &str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap();
        Self { name: name.to_owned(), pair: Pair::Ed25519(pair) }
    }

    /// Returns the public key as a JWK (RFC 7517).
    pub(crate) fn public(&self) -> Value {
        let mut key = match &self.pair {
            Pair::Rsa(pair) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": encoded(public.n), "e": encoded(public.e) })
            }
            Pair::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "x": encoded(x), "y": encoded(y) })
            }
            Pair::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key().as_ref()) })
            }
        };
        key["kid"] = self.name.as_str().into();
        key
    }

    /// Returns the name of the algorithm of this key's signatures.
    fn algorithm(&self) -> &'static str {
        match &self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    pub(crate) fn header(&self) -> Value {
        json!({ "alg": self.algorithm(), "typ": "JWT", "kid": self.name })
    }

    /// Makes a token with this header and these claims, and signs it.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
            Pair::P256(pair) => pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", encoded(signature))
    }

    /// Makes a token for a torrent of the tests, as Quay does: without expiry.
    pub(crate) fn token(&self, torrent: &str) -> String {
        self.sign(&self.header(), &claims(torrent))
    }
}

/// Returns the claims of a token for a torrent.
pub(crate) fn claims(torrent: &str) -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "infohash": hex(torrent) })
}

/// Returns the info-hash of a torrent of the tests, in hexadecimal digits.
pub(crate) fn hex(torrent: &str) -> String {
    tracker_protocol::InfoHash(id(torrent)).to_string()
}

/// A server that publishes a JWK set. The test can replace the set.
pub(crate) struct KeyServer {
    keys: Arc<Mutex<Option<Value>>>,
    server: FakeTracker,
}

impl KeyServer {
    /// Starts a server with these keys. With `None` the server answers with an error.
    pub(crate) fn start(keys: Option<&[&SigningKey]>) -> Self {
        let keys = Arc::new(Mutex::new(keys.map(set)));
        let published = Arc::clone(&keys);
        let server = FakeTracker::start(script(move |visit| {
            visit.read();
            let reply = match &*published.lock().unwrap() {
                None => "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_owned(),
                Some(set) => {
                    let set = set.to_string();
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{set}", set.len())
                }
            };
            visit.write(reply.as_bytes());
        }));
        Self { keys, server }
    }

    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        *self.keys.lock().unwrap() = Some(set(keys));
    }

    /// Publishes a set of keys that names its issuer, as Chihaya v1.0 reads it.
    pub(crate) fn publish_as(&self, keys: &[&SigningKey], issuer: &str) {
        let mut set = set(keys);
        set["issuer"] = issuer.into();
        *self.keys.lock().unwrap() = Some(set);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/keys/services/quay/keys", self.server.address())
    }

    /// Returns the section `jwt` of access rules with the keys of this server.
    pub(crate) fn rules(&self) -> String {
        rules(&self.url())
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.server.requests()
    }
}

/// Returns the section `jwt` of access rules. `keys` is the URL or the file of the keys.
pub(crate) fn rules(keys: &str) -> String {
    format!("jwt:\n  keys: {keys}\n  issuer: {ISSUER}\n  audience: [other, '{AUDIENCE}']\n")
}

/// Returns a JWK set with these keys, and with a key of a kind that does not exist.
pub(crate) fn set(keys: &[&SigningKey]) -> Value {
    let keys: Vec<_> = keys.iter().map(|key| key.public()).collect();
    let mut set = json!({ "keys": keys });
    set["keys"].as_array_mut().unwrap().push(json!({ "kty": "QUANTUM", "kid": "future", "q": "x" }));
    set
}
