//! Connection ids: proof that the sender of a UDP request is at the address that the request comes from.
//!
//! The threat: a sender can forge the source address of a packet. It could make the tracker send a victim a list of
//! peers that is many times as large as the request. It could also add and remove peers at addresses of others. So an
//! announce or a scrape must contain an id that was sent to its address before (BEP 15, "UDP connections / spoofing").
//!
//! An id is a MAC over the address and the second in which it was issued. No id is stored, so a flood of connect
//! requests fills no memory. Without the key an id can only be guessed, with a chance of one in 2^56, and the sender
//! does not learn whether the guess was right. As in BEP 15, the port is not part of the MAC: a NAT may give the same
//! client another port between two packets. Another client behind the same address could only harm that address.
//!
//! Behind a proxy that names the client of each datagram, the client has the address that the proxy names, but a
//! response goes to the proxy. Then both addresses are in the MAC. Otherwise an attacker could get an id for a client
//! through a proxy, or by acting as a proxy. It could then send datagrams with that id and the forged source address of
//! a victim, and the victim would get the responses.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use siphasher::sip::SipHasher24;

use crate::tracker::Standing;
use tracker_protocol::udp::ConnectionId;

/// Seconds for which an id is valid (BEP 15, "Connect"). An age is one byte, so this must be less than 256.
const LIFETIME: u8 = 120;

/// The byte of an id that holds the second in which it was issued, modulo 256. The other bytes are the MAC.
const SECOND: u64 = 0xff;

/// The sender of a request, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::frontend) struct Sender {
    /// The client's canonical address.
    pub(in crate::frontend) client: IpAddr,
    /// The canonical address of the proxy that forwarded the request, at a listener for proxies.
    pub(in crate::frontend) proxy: Option<IpAddr>,
    /// What is known of the client.
    pub(in crate::frontend) standing: Standing,
}

/// Issues and verifies ids. All workers of a listen address share one value, because the kernel chooses the worker that
/// gets a client's next packet.
pub(in crate::frontend) struct ConnectionIds {
    mac: SipHasher24,
    start: Instant,
}

impl ConnectionIds {
    /// Makes a new random key, so ids of a previous run are invalid.
    pub(in crate::frontend) fn new() -> io::Result<Self> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self { mac: SipHasher24::new_with_key(&key), start: Instant::now() })
    }

    /// Issues an id for this sender.
    pub(in crate::frontend) fn issue(&self, sender: Sender, now: Instant) -> ConnectionId {
        self.id(sender, self.second(now))
    }

    /// Whether an id was issued to this sender no longer than two minutes ago.
    pub(in crate::frontend) fn verify(&self, id: ConnectionId, sender: Sender, now: Instant) -> bool {
        let now = self.second(now);
        let age = (now & SECOND).wrapping_sub(id.0 & SECOND) & SECOND;
        let given = now.checked_sub(age).filter(|_| age <= u64::from(LIFETIME));
        given.is_some_and(|second| self.id(sender, second) == id)
    }

    /// The id of a sender in a second. The whole second is in the MAC, so that an id does not become valid again when its byte
    /// repeats.
    fn id(&self, Sender { client, proxy, .. }: Sender, second: u64) -> ConnectionId {
        let mut message = [0; 40];
        let (address, rest) = message.split_at_mut(16);
        let (time, behind) = rest.split_at_mut(8);
        address.copy_from_slice(&mapped(client));
        time.copy_from_slice(&second.to_be_bytes());
        let length = match proxy {
            // Most senders have no proxy. Their shorter message saves time, because every announce computes the hash.
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
    /// Leaves out the key, because anyone who has it can forge ids.
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

    /// Canonical addresses, as the frontend uses them: an IPv4-mapped address equals the IPv4 one.
    fn sender() -> impl Strategy<Value = Sender> {
        let sender = |(client, proxy): (IpAddr, Option<IpAddr>)| Sender {
            client: client.to_canonical(),
            proxy: proxy.map(|ip| ip.to_canonical()),
            standing: Standing::Client,
        };
        any::<(IpAddr, Option<IpAddr>)>().prop_map(sender)
    }

    /// Two senders that differ in at least one address.
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
        fn an_id_is_valid_for_two_minutes_at_its_address(
            source in sender(), given in 0..1_000_000_u64, age in 0..2_000_u64,
        ) {
            let ids = ConnectionIds::new().unwrap();
            let id = ids.issue(source, later(&ids, given));
            prop_assert_eq!(ids.verify(id, source, later(&ids, given + age)), age <= 120);
        }

        #[test]
        fn an_id_is_valid_at_no_other_address(
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
    fn an_id_from_before_the_start_is_invalid() {
        let ids = ConnectionIds::new().unwrap();
        let source = Sender { client: IpAddr::from([10, 0, 0, 1]), proxy: None, standing: Standing::Client };
        for byte in 0..=255 {
            assert!(!ids.verify(ConnectionId(byte), source, ids.start));
        }
    }
}
