//! Connection ids: how a tracker over UDP knows that who sends a request is really at the address it comes from.
//!
//! The threat: whoever can forge the source address of a packet could have us send a list of peers, many times as large
//! as the request, to somebody who never asked, and could sign in and out peers at addresses of others. So an announce or
//! a scrape must hold an id that we have sent to that address before (BEP 15, "UDP connections / spoofing").
//!
//! An id is a MAC over the address and the second in which it was given, so that none has to be kept: a flood of connect
//! requests fills no memory. Who does not know the key can only guess, one in 2^56, and does not learn whether it was right.
//! The port plays no part, as in BEP 15: a NAT may give the same client another one between two packets, and all that its
//! neighbour on the same address could win is to annoy its own address.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use siphasher::sip::SipHasher24;

use crate::wire::udp::ConnectionId;

/// Seconds for which an id is good (BEP 15, "Connect"). An age is one byte, so it must be less than 256.
const LIFETIME: u8 = 120;

/// The byte of an id that says when it was given: the second, modulo 256. The others are the MAC's.
const SECOND: u64 = 0xff;

/// Gives ids and knows them again. One per listen address, shared by its workers: which of them gets a client's next packet
/// is for the kernel to say.
pub(super) struct ConnectionIds {
    mac: SipHasher24,
    start: Instant,
}

impl ConnectionIds {
    /// With a key of its own, from the system. Ids of another run are of no use.
    pub(super) fn new() -> io::Result<Self> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self { mac: SipHasher24::new_with_key(&key), start: Instant::now() })
    }

    /// An id for a client at this canonical address.
    pub(super) fn give(&self, source: IpAddr, now: Instant) -> ConnectionId {
        self.given(source, self.second(now))
    }

    /// Whether an id was given to this canonical address no longer than two minutes ago.
    pub(super) fn know(&self, id: ConnectionId, source: IpAddr, now: Instant) -> bool {
        let now = self.second(now);
        let age = (now & SECOND).wrapping_sub(id.0 & SECOND) & SECOND;
        let given = now.checked_sub(age).filter(|_| age <= u64::from(LIFETIME));
        given.is_some_and(|second| self.given(source, second) == id)
    }

    /// The id for an address in a second. The whole second is in the MAC, so that an id does not come to life again when its
    /// byte does.
    fn given(&self, source: IpAddr, second: u64) -> ConnectionId {
        let mut message = [0; 24];
        let (address, time) = message.split_at_mut(16);
        address.copy_from_slice(&mapped(source));
        time.copy_from_slice(&second.to_be_bytes());
        ConnectionId(self.mac.hash(&message) & !SECOND | second & SECOND)
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs()
    }
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

impl std::fmt::Debug for ConnectionIds {
    /// Who knows the key can forge ids.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionIds").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn later(ids: &ConnectionIds, seconds: u64) -> Instant {
        ids.start + Duration::from_secs(seconds)
    }

    proptest! {
        #[test]
        fn an_id_is_good_for_two_minutes_at_its_address(
            source in any::<IpAddr>(), given in 0..1_000_000_u64, age in 0..2_000_u64,
        ) {
            let ids = ConnectionIds::new().unwrap();
            let id = ids.give(source, later(&ids, given));
            prop_assert_eq!(ids.know(id, source, later(&ids, given + age)), age <= 120);
        }

        #[test]
        fn an_id_is_good_nowhere_else(
            [one, other] in any::<[IpAddr; 2]>(), given in 0..1_000_000_u64, age in 0..=120_u64,
        ) {
            // Canonical, as they are where packets are read: a mapped address is the same one.
            let [one, other] = [one, other].map(|ip| ip.to_canonical());
            prop_assume!(one != other);
            let ids = ConnectionIds::new().unwrap();
            let id = ids.give(one, later(&ids, given));
            prop_assert!(!ids.know(id, other, later(&ids, given + age)));
            let another_run = ConnectionIds::new().unwrap();
            prop_assert!(!another_run.know(id, one, later(&another_run, given + age)));
        }

        #[test]
        fn no_bit_of_an_id_can_be_changed(source in any::<IpAddr>(), bit in 0..64_u32, now in 0..1_000_u64) {
            let ids = ConnectionIds::new().unwrap();
            let id = ids.give(source, later(&ids, now));
            prop_assert!(!ids.know(ConnectionId(id.0 ^ 1 << bit), source, later(&ids, now)));
        }
    }

    #[test]
    fn an_id_from_before_the_start_is_not_known() {
        let ids = ConnectionIds::new().unwrap();
        for byte in 0..=255 {
            assert!(!ids.know(ConnectionId(byte), IpAddr::from([10, 0, 0, 1]), ids.start));
        }
    }
}
