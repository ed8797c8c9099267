//! Keeps for a short time what upstreams have granted.

use std::fmt;
use std::time::Duration;

use moka::sync::Cache;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::time::Instant;

use super::subject::{AccessSubject, Speaker};

/// The most grants that are kept.
const MAX_GRANTS: u64 = 100_000;

/// A keyed hash of the speaker and the subject of a grant. The key is random and never leaves the process, so
/// credentials cannot be guessed from a hash.
type GrantHash = [u8; 32];

/// What upstreams have granted.
pub(super) struct KeptGrants {
    key: hmac::Key,
    kept: Duration,
    /// The time until which each grant counts.
    grants: Cache<GrantHash, Instant>,
    /// When each subject was last public; `None` if `AUTH_STALE` is 0.
    public: Option<PublicGrants>,
}

struct PublicGrants {
    stale: Duration,
    seen: Cache<GrantHash, Instant>,
}

impl KeptGrants {
    /// Keeps a grant for at most `kept`. Remembers for `stale` that a subject was public. The error is a sentence for
    /// the operator.
    pub(super) fn new(kept: Duration, stale: Duration) -> Result<Self, String> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let key = key.map_err(|_| "the system has no random numbers".to_owned())?;
        let cache = |lifetime| Cache::builder().max_capacity(MAX_GRANTS).time_to_live(lifetime).build();
        let public = (!stale.is_zero()).then(|| PublicGrants { stale, seen: cache(stale) });
        Ok(Self { key, kept, grants: cache(kept), public })
    }

    /// Remembers a grant, but not longer than the token is valid. A grant without credentials also makes the subject
    /// public.
    pub(super) fn grant(
        &self,
        speaker: &Speaker,
        subject: &AccessSubject<'_>,
        token_left: Option<Duration>,
        now: Instant,
    ) {
        let lifetime = token_left.map_or(self.kept, |left| left.min(self.kept));
        if !lifetime.is_zero() {
            self.grants.insert(self.hash(speaker, subject), now + lifetime);
        }
        if let Some(public) = self.public.as_ref().filter(|_| *speaker == Speaker::Anonymous) {
            public.seen.insert(self.hash(speaker, subject), now);
        }
    }

    /// Whether there is a grant that still counts.
    pub(super) fn is_granted(&self, speaker: &Speaker, subject: &AccessSubject<'_>, now: Instant) -> bool {
        self.grants.get(&self.hash(speaker, subject)).is_some_and(|until| now < until)
    }

    /// Returns the number of grants.
    pub(super) fn count(&self) -> u64 {
        self.grants.run_pending_tasks();
        self.grants.entry_count()
    }

    /// Returns how long ago the subject was public; `None` if this was longer ago than `AUTH_STALE`.
    pub(super) fn was_public(&self, subject: &AccessSubject<'_>, now: Instant) -> Option<Duration> {
        let public = self.public.as_ref()?;
        let seen = public.seen.get(&self.hash(&Speaker::Anonymous, subject))?;
        Some(now.saturating_duration_since(seen)).filter(|age| *age < public.stale)
    }

    /// Forgets that the subject was public.
    pub(super) fn is_not_public(&self, subject: &AccessSubject<'_>) {
        if let Some(public) = &self.public {
            public.seen.invalidate(&self.hash(&Speaker::Anonymous, subject));
        }
    }

    fn hash(&self, speaker: &Speaker, subject: &AccessSubject<'_>) -> GrantHash {
        let (kind, credentials): (&[u8], &[u8]) = match speaker {
            Speaker::Anonymous => (b"anonymous", b""),
            Speaker::Own => (b"own", b""),
            Speaker::Client(value) => (b"client", value.as_bytes()),
        };
        let mut mac = hmac::Context::with_key(&self.key);
        let origin = subject.origin.to_string();
        for part in [kind, credentials, origin.as_bytes(), subject.repository.as_bytes(), &subject.digest.0] {
            // Without the length before each part, two different subjects could hash the same bytes.
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part);
        }
        let mut hash = GrantHash::default();
        hash.iter_mut().zip(mac.sign().as_ref()).for_each(|(to, from)| *to = *from);
        hash
    }
}

impl fmt::Debug for KeptGrants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeptGrants").field("kept", &self.kept).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::digest::Digest;
    use crate::upstream::UpstreamOrigin;

    const KEPT: Duration = Duration::from_mins(1);

    fn client(text: &'static str) -> Speaker {
        Speaker::Client(HeaderValue::from_static(text))
    }

    fn check(test: impl Fn(&KeptGrants, AccessSubject<'_>, Instant)) {
        let kept = KeptGrants::new(KEPT, Duration::from_mins(5)).unwrap();
        let origin: UpstreamOrigin = "quay.io".parse().unwrap();
        let digest = Digest::of(b"a");
        let subject = AccessSubject { origin: &origin, repository: "a/b", path: "/", digest: &digest, length: Some(1) };
        test(&kept, subject, Instant::now());
    }

    #[test]
    fn a_yes_ends_after_a_minute_or_with_its_token() {
        check(|kept, subject, now| {
            let long = client("Bearer a");
            kept.grant(&long, &subject, None, now);
            assert!(kept.is_granted(&long, &subject, now + KEPT - Duration::from_millis(1)));
            assert!(!kept.is_granted(&long, &subject, now + KEPT));
            let short = client("Bearer b");
            kept.grant(&short, &subject, Some(Duration::from_secs(10)), now);
            assert!(kept.is_granted(&short, &subject, now + Duration::from_secs(9)));
            assert!(!kept.is_granted(&short, &subject, now + Duration::from_secs(10)));
            let over = client("Bearer c");
            kept.grant(&over, &subject, Some(Duration::ZERO), now);
            assert!(!kept.is_granted(&over, &subject, now));
        });
    }

    #[test]
    fn a_yes_is_for_one_client_and_one_thing() {
        check(|kept, subject, now| {
            kept.grant(&client("Bearer a"), &subject, None, now);
            for other in [client("Bearer A"), client("Bearer"), Speaker::Own, Speaker::Anonymous] {
                assert!(!kept.is_granted(&other, &subject, now), "{other:?}");
            }
            let origin = "http://quay.io".parse().unwrap();
            let digest = Digest::of(b"b");
            for other in [
                AccessSubject { origin: &origin, ..subject },
                AccessSubject { repository: "a", ..subject },
                AccessSubject { digest: &digest, ..subject },
            ] {
                assert!(!kept.is_granted(&client("Bearer a"), &other, now), "{other:?}");
            }
            assert!(kept.is_granted(&client("Bearer a"), &AccessSubject { path: "/x", ..subject }, now));
        });
    }

    #[test]
    fn only_what_nobody_had_to_log_in_for_was_public() {
        check(|kept, subject, now| {
            kept.grant(&client("Bearer a"), &subject, None, now);
            kept.grant(&Speaker::Own, &subject, None, now);
            assert_eq!(kept.was_public(&subject, now), None);
            kept.grant(&Speaker::Anonymous, &subject, None, now);
            assert_eq!(kept.was_public(&subject, now + KEPT), Some(KEPT));
            assert_eq!(kept.was_public(&subject, now + 5 * KEPT), None);
            kept.is_not_public(&subject);
            assert_eq!(kept.was_public(&subject, now), None);
        });
        let kept = KeptGrants::new(KEPT, Duration::ZERO).unwrap();
        assert!(kept.public.is_none());
    }
}
