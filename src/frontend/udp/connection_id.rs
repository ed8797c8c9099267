//! Connection ids: proof that the sender of a UDP request is at the request's source address.
//!
//! The threat: a source address can be forged. A sender could make the tracker flood a victim with lists of peers, many
//! times as large as the requests. A sender could also add and remove peers at other hosts' addresses. So an announce
//! or a scrape must contain an id that the tracker sent to the same address (BEP 15, "UDP connections / spoofing").
//!
//! An id is a MAC (message authentication code) over the address and the second of issue. No id is stored, so a flood
//! of connect requests fills no memory. Without the key, a guess is right with a chance of one in 2^56, and the sender
//! does not learn whether the guess was right. As in BEP 15, the port is not in the MAC: a NAT may change it between
//! two packets. Another client behind the same address could only harm that address.
//!
//! A proxy may name the client of each datagram. The response goes to the proxy, so the MAC covers the proxy's address
//! too. Otherwise an attacker could get an id for a client through a proxy, or by acting as a proxy. Datagrams with
//! that id and a victim's forged source address would then send the responses to the victim.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use ring::digest;
use siphasher::sip::SipHasher24;

use crate::clock;
use crate::tracker::Standing;
use tracker_protocol::udp::ConnectionId;

/// Seconds for which an id is valid (BEP 15, "Connect"). Less than 256, because an age is one byte.
pub(super) const LIFETIME: u8 = 120;

/// The largest difference between the clocks of instances that share a key. An id holds the second of
/// its issue modulo 256, so an id from a clock that is ahead looks almost 256 seconds old. With a larger difference, it
/// would look like an id that is really old.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_mins(1);

/// The byte of an id with its second of issue, modulo 256. The other bytes are the MAC.
const SECOND: u64 = 0xff;

/// The sender of a request, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::frontend) struct Sender {
    /// The client's canonical address.
    pub(in crate::frontend) client: IpAddr,
    /// The canonical address of the proxy that forwarded the request. `None` if the listener is not for proxies.
    pub(in crate::frontend) proxy: Option<IpAddr>,
    /// What is known of the client.
    pub(in crate::frontend) standing: Standing,
}

/// A key that several instances share, so that each instance accepts the ids that the others have issued.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey {
    key: [u8; 16],
    /// Seconds by which the clocks of the instances may differ.
    skew: u8,
}

impl SharedKey {
    /// A key of random bytes. `skew` is as in [`Self::new`].
    pub fn of_bytes(key: [u8; 16], skew: Duration) -> Self {
        Self { key, ..Self::new("", skew) }
    }

    /// The key made of this secret text. `skew` says by how much the clocks may differ, up to [`MAX_CLOCK_SKEW`].
    pub fn new(text: &str, skew: Duration) -> Self {
        let mut key = [0; 16];
        key.iter_mut()
            .zip(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
            .for_each(|(to, from)| *to = *from);
        // A part of a second counts as a whole second.
        let skew = Duration::from_secs(skew.as_secs() + u64::from(skew.subsec_nanos() > 0)).min(MAX_CLOCK_SKEW);
        Self { key, skew: u8::try_from(skew.as_secs()).unwrap_or_default() }
    }
}

impl std::fmt::Debug for SharedKey {
    /// Leaves out the key, as [`ConnectionIdKey`] does.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedKey").field("skew", &self.skew).finish_non_exhaustive()
    }
}

/// A key with which ids are issued and verified.
pub struct ConnectionIdKey {
    mac: SipHasher24,
    seconds: Seconds,
    /// Seconds by which the clock of an issuing instance may differ from ours.
    skew: u64,
}

/// The clock that says when an id was issued.
#[derive(Clone, Copy, Debug)]
enum Seconds {
    /// Seconds since this moment. Unlike the system clock, this clock cannot be set.
    Since(Instant),
    /// Seconds since 1970 by the system clock, which all instances have in common.
    Unix,
}

impl ConnectionIdKey {
    /// Ids with a new random key. Ids of a previous run are invalid.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn own() -> io::Result<Self> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let seconds = Seconds::Since(Instant::now());
        Ok(Self { mac: SipHasher24::new_with_key(&key), seconds, skew: 0 })
    }

    /// Ids with a key that other instances have, too.
    pub fn shared(SharedKey { key, skew }: &SharedKey) -> Self {
        Self { mac: SipHasher24::new_with_key(key), seconds: Seconds::Unix, skew: (*skew).into() }
    }

    /// The present second. Ids also age while the host sleeps.
    pub(in crate::frontend) fn now(&self) -> u64 {
        let elapsed = match self.seconds {
            Seconds::Since(start) => start.elapsed() + clock::slept(),
            Seconds::Unix => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        };
        elapsed.as_secs()
    }

    /// Issues an id for this sender.
    pub(in crate::frontend) fn issue(&self, sender: Sender, now: u64) -> ConnectionId {
        self.id(sender, now)
    }

    /// Whether this sender got the id in the last two minutes, plus the skew of the clocks.
    pub(in crate::frontend) fn verify(&self, id: ConnectionId, sender: Sender, now: u64) -> bool {
        let age = (now & SECOND).wrapping_sub(id.0 & SECOND) & SECOND;
        let ahead = SECOND + 1 - age;
        let given = if age <= u64::from(LIFETIME) + self.skew {
            now.checked_sub(age)
        } else {
            Some(now + ahead).filter(|_| ahead <= self.skew)
        };
        given.is_some_and(|second| self.id(sender, second) == id)
    }

    /// The id that a sender gets in this second. The MAC covers all bytes of the second. If the MAC covered only the
    /// last byte, an id would become valid again after 256 seconds.
    fn id(&self, Sender { client, proxy, .. }: Sender, second: u64) -> ConnectionId {
        let mut message = [0; 40];
        let (address, rest) = message.split_at_mut(16);
        let (time, behind) = rest.split_at_mut(8);
        address.copy_from_slice(&mapped(client));
        time.copy_from_slice(&second.to_be_bytes());
        let length = match proxy {
            // Most senders have no proxy. Their shorter message saves time in every announce.
            None => 24,
            Some(proxy) => {
                behind.copy_from_slice(&mapped(proxy));
                40
            }
        };
        let mac = self.mac.hash(message.get(..length).unwrap_or_default());
        ConnectionId(mac & !SECOND | second & SECOND)
    }
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

impl std::fmt::Debug for ConnectionIdKey {
    /// Leaves out the key, because anyone who has it can forge ids.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionIdKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own() -> ConnectionIdKey {
        ConnectionIdKey::own().unwrap()
    }

    fn shared(text: &str, skew: u64) -> ConnectionIdKey {
        ConnectionIdKey::shared(&SharedKey::new(text, Duration::from_secs(skew)))
    }

    /// Senders at canonical addresses, as in the frontend: an IPv4-mapped address equals the IPv4 address.
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
            let ids = own();
            let id = ids.issue(source, given);
            prop_assert_eq!(ids.verify(id, source, given + age), age <= 120);
        }

        #[test]
        fn an_id_is_valid_at_no_other_address(
            [one, other] in two_senders(), given in 0..1_000_000_u64, age in 0..=120_u64,
        ) {
            let ids = own();
            let id = ids.issue(one, given);
            prop_assert!(!ids.verify(id, other, given + age));
            prop_assert!(!own().verify(id, one, given + age), "another run has another key");
        }

        #[test]
        fn instances_with_one_key_accept_each_others_ids(
            [one, other] in two_senders(), given in 2_000_000..3_000_000_u64, ahead in -600..600_i64, skew in 0..100_u64,
        ) {
            let [here, there] = ["one key", "one key"].map(|key| shared(key, skew));
            let id = here.issue(one, given);
            // The clock of the other instance is behind by `ahead` seconds.
            let now = given.checked_add_signed(-ahead).unwrap();
            let (skew, ahead) = (skew.min(60).cast_signed(), ahead);
            prop_assert_eq!(there.verify(id, one, now), ahead <= skew && -ahead <= 120 + skew);
            prop_assert!(!there.verify(id, other, given) && !shared("another key", 60).verify(id, one, given));
        }

        #[test]
        fn no_bit_of_an_id_can_be_changed(source in sender(), bit in 0..64_u32, now in 0..1_000_u64) {
            for ids in [own(), shared("one key", 60)] {
                let id = ids.issue(source, now);
                prop_assert!(!ids.verify(ConnectionId(id.0 ^ 1 << bit), source, now));
            }
        }
    }

    #[test]
    fn an_id_from_before_the_start_is_invalid() {
        let ids = own();
        let source = Sender { client: IpAddr::from([10, 0, 0, 1]), proxy: None, standing: Standing::Client };
        for byte in 0..=255 {
            assert!(!ids.verify(ConnectionId(byte), source, 0));
        }
    }
}
