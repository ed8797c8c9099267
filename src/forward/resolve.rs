//! Looks up the addresses of upstream trackers.

use std::fmt::Display;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use url::{Host, Url};

use super::error::{ForwardError, is_shortage};

/// How many addresses of one name are tried. Each gets its share of the time.
const MAX_ADDRESSES: usize = 4;

/// How long the addresses of a name are cached. The system's resolver does not return their TTL.
const ADDRESS_LIFETIME: Duration = Duration::from_mins(2);

/// How long a failed look-up is cached.
const FAILURE_LIFETIME: Duration = Duration::from_secs(2);

/// How many look-ups for one upstream may be under way.
const MAX_LOOKUPS: usize = 8;

/// How many names of one upstream are cached: its own, and those that it redirects to.
const MAX_NAMES: u64 = 16;

/// Looks up the addresses of one upstream's names.
///
/// The system's resolver blocks a thread until it has a result: 10 s or more with a dead name server. With one look-up
/// per announce, all threads would soon be blocked and the queue would grow without end. So announces share look-ups,
/// and the number of look-ups is bounded.
pub(super) struct Resolver {
    /// Look-ups under way, and results. All announces share them.
    names: Cache<(String, u16), Lookup>,
    /// The address that answered last, tried first: a dead address costs time.
    answered: Mutex<Option<SocketAddr>>,
    permits: Arc<Semaphore>,
}

type Lookup = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, ForwardError>>>;

impl Resolver {
    pub(super) fn new() -> Self {
        Self {
            names: Cache::builder().max_capacity(MAX_NAMES).time_to_live(ADDRESS_LIFETIME).build(),
            answered: Mutex::new(None),
            permits: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    /// Returns the addresses of a URL's host, in the order to try them. The address that answered last comes first.
    pub(super) async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, ForwardError> {
        let port = url.port_or_known_default().unwrap_or(80);
        let name = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => return Ok(vec![SocketAddr::new(ip.into(), port)]),
            Some(Host::Ipv6(ip)) => return Ok(vec![SocketAddr::new(ip.into(), port)]),
            None => return Err(unresolved("there is none")),
        };
        let mut addresses = self.lookup((name, port))?.await?;
        let answered = *self.answered.lock();
        if let Some(at) = addresses.iter().position(|address| Some(*address) == answered) {
            addresses.get_mut(..=at).unwrap_or_default().rotate_right(1);
        }
        Ok(addresses)
    }

    /// Remembers which address answered.
    pub(super) fn answered(&self, address: SocketAddr) {
        *self.answered.lock() = Some(address);
    }

    fn lookup(&self, name: (String, u16)) -> Result<Lookup, ForwardError> {
        if let Some(lookup) = self.names.get(&name) {
            return Ok(lookup);
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit.map_err(|_| unresolved("too many look-ups are under way"))?;
        Ok(self.names.get_with(name.clone(), || start(self.names.clone(), name, permit)))
    }
}

/// Starts a look-up as a task of its own. The task holds the permit as long as the look-up blocks a thread.
fn start(names: Cache<(String, u16), Lookup>, name: (String, u16), permit: OwnedSemaphorePermit) -> Lookup {
    let lookup = tokio::spawn(async move {
        let found = tokio::net::lookup_host((name.0.as_str(), name.1)).await;
        let found = found.map(|found| in_turn(found.collect())).map_err(|error| failed(&error));
        drop(permit);
        if found.is_err() {
            tokio::spawn(async move {
                sleep(FAILURE_LIFETIME).await;
                names.invalidate(&name);
            });
        }
        found
    });
    async { lookup.await.unwrap_or_else(|error| Err(unresolved(error))) }.boxed().shared()
}

fn unresolved(what: impl Display) -> ForwardError {
    ForwardError::Dns(what.to_string())
}

/// Returns why a look-up failed. Without a free descriptor, the system's resolver reports the name as unknown. So this
/// function opens a socket, to see whether a descriptor is free.
fn failed(error: &io::Error) -> ForwardError {
    match UdpSocket::bind("127.0.0.1:0") {
        Err(shortage) if is_shortage(&shortage) => ForwardError::Local(shortage.to_string()),
        _ if is_shortage(error) => ForwardError::Local(error.to_string()),
        _ => unresolved(error),
    }
}

/// Returns the addresses of both families in turn: a broken family costs little time.
fn in_turn(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = found.first().is_some_and(SocketAddr::is_ipv4);
    let (a, b): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv4() == preferred);
    let turns = 0..a.len().max(b.len());
    turns.flat_map(|turn| [a.get(turn), b.get(turn)]).flatten().copied().take(MAX_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[test]
    fn address_families_take_turns() {
        let found = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "[2001:db8::3]:1", "192.0.2.2:1"];
        let found: Vec<SocketAddr> = found.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(in_turn(found.clone()), [found[0], found[2], found[1], found[4]]);
        assert_eq!(in_turn(Vec::new()), []);
    }

    #[actix_web::test]
    async fn the_address_that_answered_last_is_tried_first() {
        let resolver = Resolver::new();
        let [a, b, c] = [1, 2, 3].map(|n| SocketAddr::from(([192, 0, 2, n], 80)));
        let found = ready(Ok(vec![a, b, c])).boxed().shared();
        resolver.names.insert(("tracker.invalid".to_owned(), 80), found);
        let url = Url::parse("http://tracker.invalid").unwrap();
        for (answered, order) in [(a, [a, b, c]), (c, [c, a, b]), (b, [b, a, c])] {
            resolver.answered(answered);
            assert_eq!(resolver.addresses(&url).await.unwrap(), order);
        }
    }

    #[actix_web::test]
    async fn look_ups_are_shared_and_bounded() {
        let resolver = Resolver::new();
        let [localhost, other] = [81, 82].map(|port| Url::parse(&format!("http://localhost:{port}")).unwrap());
        let first = resolver.addresses(&localhost).await.unwrap();
        assert!(first.iter().all(|address| address.ip().is_loopback() && address.port() == 81), "{first:?}");
        let permits = resolver.permits.try_acquire_many(u32::try_from(MAX_LOOKUPS).unwrap()).unwrap();
        assert_eq!(resolver.addresses(&localhost).await, Ok(first));
        resolver.addresses(&other).await.unwrap_err();
        resolver.addresses(&Url::parse("http://[::1]").unwrap()).await.unwrap();
        drop(permits);
        resolver.addresses(&other).await.unwrap();
    }
}
