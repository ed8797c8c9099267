//! The keys of connection ids. An instance that shares its swarms begins with a key of its own, until it learns the key
//! of all instances.

use std::io;
use std::sync::OnceLock;

use super::connection_id::{ConnectionIdKey, LIFETIME, Sender, SharedKey};
use tracker_protocol::udp::ConnectionId;

/// Issues and verifies ids. All workers share one value: the kernel chooses the worker for a client's next packet.
#[derive(Debug)]
pub struct ConnectionIds {
    first: ConnectionIdKey,
    /// Whether the operator has set the first key.
    is_set: bool,
    adopted: OnceLock<AdoptedKey>,
}

#[derive(Debug)]
struct AdoptedKey {
    key: ConnectionIdKey,
    /// The last second at which ids of the first key are accepted, on the clock of the first key.
    grace: u64,
}

/// The present second by the clock of each key. `adopted` is 0 if no key was adopted.
#[derive(Clone, Copy, Debug)]
pub(in crate::frontend) struct IdTime {
    first: u64,
    adopted: u64,
}

impl ConnectionIds {
    /// Makes a new random key. Ids of a previous run are invalid.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn own() -> io::Result<Self> {
        ConnectionIdKey::own().map(|key| Self::of(key, false))
    }

    /// Uses a key that the operator has set. Other instances may have the same key.
    pub fn shared(key: &SharedKey) -> Self {
        Self::of(ConnectionIdKey::shared(key), true)
    }

    fn of(first: ConnectionIdKey, is_set: bool) -> Self {
        Self { first, is_set, adopted: OnceLock::new() }
    }

    /// Issues ids with this key from now on. Earlier ids stay valid until they expire. Only the first call has an
    /// effect. If the operator has set a key, no call has an effect.
    pub fn adopt(&self, key: &SharedKey) {
        if self.is_set {
            return;
        }
        let grace = self.first.now() + u64::from(LIFETIME);
        self.adopted.get_or_init(|| AdoptedKey { key: ConnectionIdKey::shared(key), grace });
    }

    /// Returns the present second by the clock of each key.
    pub(in crate::frontend) fn now(&self) -> IdTime {
        IdTime { first: self.first.now(), adopted: self.adopted.get().map_or(0, |adopted| adopted.key.now()) }
    }

    /// Issues an id for this sender.
    pub(in crate::frontend) fn issue(&self, sender: Sender, now: IdTime) -> ConnectionId {
        // `now.adopted` is 0 if the key was adopted after `now` was read.
        match self.adopted.get().filter(|_| now.adopted > 0) {
            Some(adopted) => adopted.key.issue(sender, now.adopted),
            None => self.first.issue(sender, now.first),
        }
    }

    /// Whether this sender got the id in the last two minutes.
    pub(in crate::frontend) fn verify(&self, id: ConnectionId, sender: Sender, now: IdTime) -> bool {
        match self.adopted.get() {
            None => self.first.verify(id, sender, now.first),
            Some(AdoptedKey { key, grace }) => {
                key.verify(id, sender, now.adopted) || (now.first <= *grace && self.first.verify(id, sender, now.first))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::Standing;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[test]
    fn ids_of_the_first_key_are_valid_for_two_minutes_after_another_was_adopted() {
        let sender = Sender { client: Ipv4Addr::LOCALHOST.into(), proxy: None, standing: Standing::Client };
        let key = SharedKey::of_bytes([7; 16], Duration::ZERO);
        let [here, there] = [(); 2].map(|()| ConnectionIds::own().unwrap());
        let before = IdTime { first: 1000, adopted: 0 };
        let old = here.issue(sender, before);
        assert!(here.verify(old, sender, before) && !there.verify(old, sender, before));
        here.adopt(&key);
        there.adopt(&key);
        let grace = here.adopted.get().unwrap().grace;
        let now = IdTime { first: grace, adopted: 5_000_000 };
        let last = here.first.issue(sender, grace);
        assert!(here.verify(last, sender, now));
        assert!(!here.verify(last, sender, IdTime { first: grace + 1, ..now }));
        let new = here.issue(sender, now);
        assert!(there.verify(new, sender, now) && here.verify(new, sender, now));
        here.adopt(&SharedKey::of_bytes([8; 16], Duration::ZERO));
        assert!(here.verify(new, sender, now), "the first adopted key stays");

        let set = ConnectionIds::shared(&SharedKey::of_bytes([9; 16], Duration::ZERO));
        set.adopt(&key);
        assert!(set.adopted.get().is_none());
    }
}
