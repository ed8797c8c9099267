//! Names of upstream trackers become addresses.

use std::fmt::Display;
use std::future::ready;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::{Host, Url};

use super::error::{ForwardError, is_shortage};

/// How many addresses of one name are tried. Each takes its share of the time.
const MAX_ADDRESSES: usize = 4;

/// How long the addresses of a name are good for. The system does not say how long they really are.
const ADDRESSES_LAST: Duration = Duration::from_mins(2);

/// How soon a name that could not be resolved is tried again.
const FAILURE_LASTS: Duration = Duration::from_secs(2);

/// How many lookups of one upstream may be under way.
const MAX_LOOKUPS: usize = 8;

/// Finds the addresses of one upstream's names.
///
/// The system's resolver blocks a thread for as long as it likes, 10 s and more with a dead name server, whoever has
/// given up waiting. One lookup per announce would soon hold all threads, with more lookups queued than ever end.
pub(super) struct Resolver {
    usual: Mutex<Option<(Instant, Lookup)>>,
    /// The address that answered last: one that is dead is not to cost its share of the time again and again.
    answered: Mutex<Option<SocketAddr>>,
    places: Arc<Semaphore>,
}

type Lookup = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, ForwardError>>>;

impl Resolver {
    pub(super) fn new() -> Self {
        Self { usual: Mutex::new(None), answered: Mutex::new(None), places: Arc::new(Semaphore::new(MAX_LOOKUPS)) }
    }

    /// The addresses of the host that is asked for at every announce, in the order in which they are to be tried.
    /// All announces share a lookup, and for a while its result. The one that answered last is the first.
    pub(super) async fn usual(&self, url: &Url) -> Result<Vec<SocketAddr>, ForwardError> {
        let lookup = {
            let mut usual = self.usual.lock();
            match &*usual {
                Some((start, lookup)) if start.elapsed() < lasts(lookup.peek()) => lookup.clone(),
                _ => usual.insert((Instant::now(), self.lookup(url))).1.clone(),
            }
        };
        let mut addresses = lookup.await?;
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

    /// The same for a host that is named once, in a redirect.
    pub(super) async fn once(&self, url: &Url) -> Result<Vec<SocketAddr>, ForwardError> {
        self.lookup(url).await
    }

    fn lookup(&self, url: &Url) -> Lookup {
        let port = url.port_or_known_default().unwrap_or(80);
        let known = |ip: IpAddr| Ok(vec![SocketAddr::new(ip, port)]);
        let name = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => return ready(known(ip.into())).boxed().shared(),
            Some(Host::Ipv6(ip)) => return ready(known(ip.into())).boxed().shared(),
            None => return ready(Err(unresolved("there is none"))).boxed().shared(),
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return ready(Err(unresolved("too many lookups are under way"))).boxed().shared();
        };
        // A task of its own keeps the place until the thread is free, and not just until nobody waits.
        let lookup = tokio::spawn(async move {
            let _place = place;
            let found = tokio::net::lookup_host((name, port)).await.map_err(|error| failed(&error))?;
            Ok(in_turn(found.collect()))
        });
        async { lookup.await.unwrap_or_else(|error| Err(unresolved(error))) }.boxed().shared()
    }
}

fn unresolved(what: impl Display) -> ForwardError {
    ForwardError::Dns(what.to_string())
}

/// The system's resolver does not say that it had no descriptor, but calls the name unknown.
fn failed(error: &io::Error) -> ForwardError {
    match UdpSocket::bind("127.0.0.1:0") {
        Err(shortage) if is_shortage(&shortage) => ForwardError::Local(shortage.to_string()),
        _ if is_shortage(error) => ForwardError::Local(error.to_string()),
        _ => unresolved(error),
    }
}

/// From its start. A lookup under way is not started anew.
fn lasts(lookup: Option<&Result<Vec<SocketAddr>, ForwardError>>) -> Duration {
    match lookup {
        Some(Err(_)) => FAILURE_LASTS,
        Some(Ok(_)) | None => ADDRESSES_LAST,
    }
}

/// The families in turn, so that a broken one costs little.
fn in_turn(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = found.first().is_some_and(SocketAddr::is_ipv4);
    let (a, b): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv4() == preferred);
    let turns = 0..a.len().max(b.len());
    turns.flat_map(|turn| [a.get(turn), b.get(turn)]).flatten().copied().take(MAX_ADDRESSES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_families_take_turns() {
        let found = ["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "[2001:db8::3]:1", "192.0.2.2:1"];
        let found: Vec<SocketAddr> = found.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(in_turn(found.clone()), [found[0], found[2], found[1], found[4]]);
        assert_eq!(in_turn(Vec::new()), []);
    }

    #[actix_web::test]
    async fn who_answered_last_is_asked_first() {
        let resolver = Resolver::new();
        let [a, b, c] = [1, 2, 3].map(|n| SocketAddr::from(([192, 0, 2, n], 80)));
        let found = ready(Ok(vec![a, b, c])).boxed().shared();
        *resolver.usual.lock() = Some((Instant::now(), found));
        let url = Url::parse("http://tracker.invalid").unwrap();
        for (answered, order) in [(a, [a, b, c]), (c, [c, a, b]), (b, [b, a, c])] {
            resolver.answered(answered);
            assert_eq!(resolver.usual(&url).await.unwrap(), order);
        }
    }

    #[actix_web::test]
    async fn lookups_are_shared_and_bounded() {
        let resolver = Resolver::new();
        let localhost = Url::parse("http://localhost:81").unwrap();
        let first = resolver.usual(&localhost).await.unwrap();
        assert!(first.iter().all(|address| address.ip().is_loopback() && address.port() == 81), "{first:?}");
        let places = resolver.places.try_acquire_many(u32::try_from(MAX_LOOKUPS).unwrap()).unwrap();
        assert_eq!(resolver.usual(&localhost).await, Ok(first));
        resolver.once(&localhost).await.unwrap_err();
        resolver.once(&Url::parse("http://[::1]").unwrap()).await.unwrap();
        drop(places);
        resolver.once(&localhost).await.unwrap();
    }
}
