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
//!
//! Behind a proxy that says whose each datagram is, the client is known by the address that the proxy names, but a response
//! goes to the proxy. Both addresses are in the MAC then: or whoever has been given an id through one proxy, or has claimed to
//! be one, could have the responses sent to any other address by forging that alone.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use siphasher::sip::SipHasher24;

use crate::tracker::Standing;
use tracker_protocol::udp::ConnectionId;

/// Seconds for which an id is good (BEP 15, "Connect"). An age is one byte, so it must be less than 256.
const LIFETIME: u8 = 120;

/// The byte of an id that says when it was given: the second, modulo 256. The others are the MAC's.
const SECOND: u64 = 0xff;

/// Who sends a request, as far as that can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::frontend) struct Sender {
    /// The client's canonical address.
    pub(in crate::frontend) client: IpAddr,
    /// The canonical address of the proxy that has passed the request on, at a listener for proxies.
    pub(in crate::frontend) proxy: Option<IpAddr>,
    /// What is known of the client.
    pub(in crate::frontend) standing: Standing,
}

/// Gives ids and knows them again. One per listen address, shared by its workers: which of them gets a client's next packet
/// is for the kernel to say.
pub(in crate::frontend) struct ConnectionIds {
    mac: SipHasher24,
    start: Instant,
}

impl ConnectionIds {
    /// With a key of its own, from the system. Ids of another run are of no use.
    pub(in crate::frontend) fn new() -> io::Result<Self> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self { mac: SipHasher24::new_with_key(&key), start: Instant::now() })
    }

    /// An id for this one.
    pub(in crate::frontend) fn issue(&self, sender: Sender, now: Instant) -> ConnectionId {
        self.given(sender, self.second(now))
    }

    /// Whether an id was given to this one no longer than two minutes ago.
    pub(in crate::frontend) fn verify(&self, id: ConnectionId, sender: Sender, now: Instant) -> bool {
        let now = self.second(now);
        let age = (now & SECOND).wrapping_sub(id.0 & SECOND) & SECOND;
        let given = now.checked_sub(age).filter(|_| age <= u64::from(LIFETIME));
        given.is_some_and(|second| self.given(sender, second) == id)
    }

    /// The id for somebody in a second. The whole second is in the MAC, so that an id does not come to life again when its
    /// byte does.
    fn given(&self, Sender { client, proxy, .. }: Sender, second: u64) -> ConnectionId {
        let mut message = [0; 40];
        let (address, rest) = message.split_at_mut(16);
        let (time, behind) = rest.split_at_mut(8);
        address.copy_from_slice(&mapped(client));
        time.copy_from_slice(&second.to_be_bytes());
        let length = match proxy {
            // Shorter: most have none, and it is hashed with every announce.
            None => 24,
            Some(proxy) => {
                behind.copy_from_slice(&mapped(proxy));
                40
            }
        };
        let mac = self.mac.hash(message.get(..length).unwrap_or_default());
        ConnectionId(mac & !SECOND | second & SECOND)
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

    /// Canonical addresses, as they are where packets are read: a mapped one is the same.
    fn sender() -> impl Strategy<Value = Sender> {
        let sender = |(client, proxy): (IpAddr, Option<IpAddr>)| Sender {
            client: client.to_canonical(),
            proxy: proxy.map(|ip| ip.to_canonical()),
            standing: Standing::Client,
        };
        any::<(IpAddr, Option<IpAddr>)>().prop_map(sender)
    }

    /// Two that differ, if only in one of their addresses.
    fn two_senders() -> impl Strategy<Value = [Sender; 2]> {
        let two = prop_oneof![
            [sender(), sender()],
            (sender(), sender()).prop_map(|(one, other)| [one, Sender { proxy: other.proxy, ..one }]),
            (sender(), sender()).prop_map(|(one, other)| [one, Sender { client: other.client, ..one }]),
        ];
        two.prop_filter("the same", |[one, other]| one != other)
    }

    proptest! {
        #[test]
        fn an_id_is_good_for_two_minutes_at_its_address(
            source in sender(), given in 0..1_000_000_u64, age in 0..2_000_u64,
        ) {
            let ids = ConnectionIds::new().unwrap();
            let id = ids.issue(source, later(&ids, given));
            prop_assert_eq!(ids.verify(id, source, later(&ids, given + age)), age <= 120);
        }

        #[test]
        fn an_id_is_good_nowhere_else(
            [one, other] in two_senders(), given in 0..1_000_000_u64, age in 0..=120_u64,
        ) {
            let ids = ConnectionIds::new().unwrap();
            let id = ids.issue(one, later(&ids, given));
            prop_assert!(!ids.verify(id, other, later(&ids, given + age)));
            let another_run = ConnectionIds::new().unwrap();
            prop_assert!(!another_run.verify(id, one, later(&another_run, given + age)));
        }

        #[test]
        fn no_bit_of_an_id_can_be_changed(source in sender(), bit in 0..64_u32, now in 0..1_000_u64) {
            let ids = ConnectionIds::new().unwrap();
            let id = ids.issue(source, later(&ids, now));
            prop_assert!(!ids.verify(ConnectionId(id.0 ^ 1 << bit), source, later(&ids, now)));
        }
    }

    #[test]
    fn an_id_from_before_the_start_is_not_known() {
        let ids = ConnectionIds::new().unwrap();
        let source = Sender { client: IpAddr::from([10, 0, 0, 1]), proxy: None, standing: Standing::Client };
        for byte in 0..=255 {
            assert!(!ids.verify(ConnectionId(byte), source, ids.start));
        }
    }
}
