use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use futures::FutureExt as _;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::io::Write as _;

use super::*;
use crate::forward::UpstreamProxies;
use crate::metrics::AccessMetrics;

const TORRENT: InfoHash = InfoHash([7; 20]);
const NOW: u64 = 1_000_000;

struct Signer {
    name: &'static str,
    pair: Ed25519KeyPair,
}

impl Signer {
    fn new(name: &'static str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self { name, pair: Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap() }
    }

    fn public(&self) -> Value {
        let x = BASE64.encode(self.pair.public_key());
        json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.name })
    }

    /// Returns the query of an announce with a token that has these claims beside the usual ones.
    fn query(&self, more: &Value) -> Vec<u8> {
        let mut claims = json!({ "iss": "i", "aud": "a", "infohash": TORRENT.to_string() });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let header = json!({ "alg": "EdDSA", "kid": self.name });
        let message = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
        let signature = BASE64.encode(self.pair.sign(message.as_bytes()));
        format!("jwt={message}.{signature}").into_bytes()
    }
}

fn options(keys: KeySource) -> JwtOptions {
    JwtOptions {
        keys,
        ca: None,
        issuers: Issuers::Listed(vec!["i".to_owned()]),
        audiences: vec!["a".to_owned()],
        refresh: Duration::from_mins(5),
        protect_scrape: false,
        require_expiry: false,
    }
}

fn keys(signers: &[&Signer]) -> KeySet {
    let keys: Vec<_> = signers.iter().map(|signer| signer.public()).collect();
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap().0
}

fn rule(signers: &[&Signer]) -> JwtRule {
    let rule = JwtRule::new(options(KeySource::File("unused".into())), Gauge::default());
    rule.set_keys(keys(signers));
    rule
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn admit(rule: &JwtRule, query: &[u8], now: u64) -> Result<(), JwtFault> {
    rule.admit(CLIENT, TORRENT, query, now)
}

#[test]
fn a_verified_token_is_remembered_and_still_checked_for_time_and_torrent() {
    let signer = Signer::new("k");
    let rule = rule(&[&signer]);
    let query = signer.query(&json!({ "nbf": NOW, "exp": NOW + 100 }));
    for (now, expected) in [
        (NOW, Ok(())),
        (NOW - 60, Ok(())),
        (NOW - 61, Err(JwtFault::NotYet)),
        (NOW + 159, Ok(())),
        (NOW + 160, Err(JwtFault::Expired)),
        (NOW, Ok(())),
    ] {
        assert_eq!(admit(&rule, &query, now), expected, "{now}");
    }
    assert_eq!(rule.admit(CLIENT, InfoHash([8; 20]), &query, NOW), Err(JwtFault::OtherTorrent));
    rule.verified.run_pending_tasks();
    assert_eq!(rule.verified.entry_count(), 1);
}

#[test]
fn a_remembered_token_is_refused_once_its_key_is_gone_and_others_stay() {
    let (first, second) = (Signer::new("first"), Signer::new("second"));
    let rule = rule(&[&first, &second]);
    let (by_first, by_second) = (first.query(&json!({})), second.query(&json!({})));
    assert_eq!((admit(&rule, &by_first, NOW), admit(&rule, &by_second, NOW)), (Ok(()), Ok(())));
    rule.set_keys(keys(&[&second, &Signer::new("third")]));
    assert_eq!(admit(&rule, &by_first, NOW), Err(JwtFault::UnknownKey));
    assert_eq!(admit(&rule, &by_second, NOW), Ok(()));
    // A different key under the same name counts as another key.
    rule.set_keys(keys(&[&Signer::new("second")]));
    assert_eq!(admit(&rule, &by_second, NOW), Err(JwtFault::Signature));
}

#[test]
fn an_expiry_may_be_required() {
    let signer = Signer::new("k");
    let mut rule = rule(&[&signer]);
    rule.options.require_expiry = true;
    assert_eq!(admit(&rule, &signer.query(&json!({})), NOW), Err(JwtFault::NoExpiry));
    assert_eq!(admit(&rule, &signer.query(&json!({ "exp": NOW })), NOW), Ok(()));
}

#[test]
fn a_flood_of_wrong_tokens_costs_a_bounded_number_of_signatures_and_harms_no_known_client() {
    let signer = Signer::new("k");
    let rule = rule(&[&signer]);
    let known = signer.query(&json!({}));
    assert_eq!(admit(&rule, &known, NOW), Ok(()));
    let forged = Signer::new("k");
    let answers: Vec<_> = (0..200).map(|n| admit(&rule, &forged.query(&json!({ "n": n })), NOW).unwrap_err()).collect();
    let wrong = answers.iter().filter(|answer| **answer == JwtFault::Signature).count();
    assert_eq!((wrong, answers.last()), (50, Some(&JwtFault::TooMany)));
    assert_eq!(admit(&rule, &known, NOW), Ok(()));
    assert_eq!(admit(&rule, &forged.query(&json!({})), NOW + 1), Err(JwtFault::Signature));
}

#[test]
fn examining_a_token_counts_remembers_and_fetches_nothing() {
    let signer = Signer::new("k");
    let rule = rule(&[&signer]);
    let examine = |query: &[u8], torrent| rule.examine(torrent, query.strip_prefix(b"jwt=").unwrap(), NOW);
    assert_eq!(examine(&signer.query(&json!({})), TORRENT), Ok(()));
    assert_eq!(examine(&signer.query(&json!({})), InfoHash([8; 20])), Err(JwtFault::OtherTorrent));
    assert_eq!(
        (examine(b"jwt=", TORRENT), examine(b"jwt=x", TORRENT)),
        (Err(JwtFault::Empty), Err(JwtFault::Malformed))
    );
    assert_eq!(examine(&[&b"jwt="[..], &[b'a'; 8193]].concat(), TORRENT), Err(JwtFault::TooLong));
    let unknown = Signer::new("unknown").query(&json!({}));
    (0..200).for_each(|_| assert_eq!(examine(&unknown, TORRENT), Err(JwtFault::UnknownKey)));
    rule.verified.run_pending_tasks();
    assert_eq!(rule.verified.entry_count(), 0);
    assert!(rule.unknown_key.notified().now_or_never().is_none());
    assert_eq!(admit(&rule, &unknown, NOW), Err(JwtFault::UnknownKey), "there were not too many");
    assert!(rule.unknown_key.notified().now_or_never().is_some());
}

#[test]
fn keys_that_cannot_be_used_are_skipped() {
    let rsa = |bits: usize| json!({ "kty": "RSA", "e": "AQAB", "n": BASE64.encode(vec![0xff; bits / 8]) });
    let ed25519 = Signer::new("k").public();
    let with = |name: &str, value: Value| {
        let mut key = ed25519.clone();
        key[name] = value;
        key
    };
    for (key, expected) in [
        (ed25519.clone(), "1 Ed25519"),
        (with("alg", json!("EdDSA")), "1 Ed25519"),
        (with("alg", json!("RS256")), "no usable key; skipped: 1 with an algorithm that does not fit"),
        (with("alg", json!("X")), "no usable key; skipped: 1 with an algorithm that does not fit"),
        (with("use", json!("sig")), "1 Ed25519"),
        (with("use", json!("enc")), "no usable key; skipped: 1 for encryption"),
        (with("kid", json!(7)), "no usable key; skipped: 1 of an unknown kind"),
        (with("x", json!("?")), "no usable key; skipped: 1 malformed"),
        (with("crv", json!("X25519")), "no usable key; skipped: 1 of an unknown kind"),
        (rsa(2048), "1 RSA"),
        (rsa(8192), "1 RSA"),
        (rsa(8), "no usable key; skipped: 1 RSA of a size other than 2048 to 8192 bits"),
        (rsa(16384), "no usable key; skipped: 1 RSA of a size other than 2048 to 8192 bits"),
        (json!({ "kty": "oct", "k": "AAAA" }), "no usable key; skipped: 1 symmetric"),
        (json!("text"), "no usable key; skipped: 1 of an unknown kind"),
        (json!({}), "no usable key; skipped: 1 of an unknown kind"),
    ] {
        let (_, summary) = KeySet::parse(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
        assert_eq!(summary.to_string(), expected, "{key}");
    }
}

#[test]
fn a_set_of_many_keys_is_cut_off() {
    let many: Vec<_> =
        (0..1200).map(|_| json!({ "kty": "RSA", "e": "AQAB", "n": BASE64.encode([0xff; 256]) })).collect();
    let (keys, summary) = KeySet::parse(json!({ "keys": many }).to_string().as_bytes()).unwrap();
    assert_eq!((keys.len(), summary.to_string().as_str()), (1000, "1000 RSA; skipped: 200 beyond the first 1000"));
    let deep = format!("{{\"keys\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(KeySet::parse(deep.as_bytes()).is_err());
}

proptest::proptest! {
    #[test]
    fn any_query_is_refused_without_a_panic(token in ".*", parts in proptest::collection::vec("[A-Za-z0-9_=-]{0,40}", 3)) {
        let rule = rule(&[&Signer::new("k")]);
        for token in [token, parts.join(".")] {
            let admitted = admit(&rule, format!("jwt={token}").as_bytes(), NOW);
            proptest::prop_assert!(admitted.is_err());
        }
    }

    #[test]
    fn any_set_of_keys_is_read_or_refused(text in proptest::arbitrary::any::<Vec<u8>>(), key in "[a-z\":,{}\\[\\]0-9 ]*") {
        let _ = KeySet::parse(&text);
        let _ = KeySet::parse(format!("{{\"keys\":[{key}]}}").as_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn the_keys_are_fetched_again_and_kept_while_that_fails() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = |signer: &Signer| json!({ "keys": [signer.public()] }).to_string();
    file.write_all(text(&old).as_bytes()).unwrap();
    let rule = JwtRule::new(options(KeySource::File(file.path().to_owned())), Gauge::default());
    let metrics = AccessMetrics::register(None);
    let (by_old, by_new) = (old.query(&json!({})), new.query(&json!({})));
    let proxies = UpstreamProxies::default();
    let keeping = rule.keep_keys(&proxies, &metrics);
    let checks = async {
        let until = async |query: &[u8], expected: Result<(), JwtFault>| {
            while admit(&rule, query, NOW) != expected {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        until(&by_old, Ok(())).await;
        std::fs::write(file.path(), "nonsense").unwrap();
        tokio::time::sleep(Duration::from_mins(6)).await;
        assert_eq!(admit(&rule, &by_old, NOW), Ok(()), "the known keys stay");
        while metrics.key_failures.get() == 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        std::fs::write(file.path(), text(&new)).unwrap();
        until(&by_new, Ok(())).await;
        assert_eq!(admit(&rule, &by_old, NOW), Err(JwtFault::UnknownKey));
    };
    tokio::select! {
        () = keeping => unreachable!("it goes on forever"),
        () = checks => {}
    }
}
