//! Opens a TCP connection to a server: looks its addresses up, drops those that are not allowed, and tries the others
//! in turn.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use url::Host;

use super::error::FetchFault;
use super::origin::{UpstreamOrigin, Upstreams};

/// The most addresses of one name that are tried. Each address gets its share of the time.
const MAX_ADDRESSES: usize = 4;

/// The most look-ups under way at once. Each look-up blocks one of the threads that the disk's work needs, too.
const MAX_LOOKUPS: usize = 4;

/// The future of a look-up's result.
pub type HostAddresses = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Looks a name and a port up.
pub type HostLookup = Arc<dyn Fn(String, u16) -> HostAddresses + Send + Sync>;

/// Returns the look-up of the system.
pub fn system_lookup() -> HostLookup {
    limited(Arc::new(|host, port| {
        Box::pin(async move { tokio::net::lookup_host((host, port)).await.map(Iterator::collect) })
    }))
}

/// Limits a look-up to [`MAX_LOOKUPS`] at once. Further look-ups wait.
fn limited(lookup: HostLookup) -> HostLookup {
    let permits = Arc::new(Semaphore::new(MAX_LOOKUPS));
    Arc::new(move |host, port| {
        let (permits, lookup) = (Arc::clone(&permits), Arc::clone(&lookup));
        Box::pin(async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            // The look-up has a task of its own, which keeps the permit until the look-up ends: the thread stays
            // blocked even if no fetch waits for the look-up any more.
            let lookup = tokio::spawn(async move {
                let found = lookup(host, port).await;
                drop(permit);
                found
            });
            lookup.await.map_err(io::Error::other)?
        })
    })
}

/// Connects to servers.
pub(super) struct Dialler {
    pub(super) upstreams: Arc<Upstreams>,
    pub(super) lookup: HostLookup,
    /// Whether a host that is not listed may have this address.
    pub(super) unlisted: fn(IpAddr) -> bool,
}

impl Dialler {
    /// Connects to an allowed address of the server. Each address is dialled as it was checked, without another
    /// look-up. Each address gets its share of the time to the deadline. For the last address, the caller enforces the
    /// deadline.
    pub(super) async fn dial(&self, to: &UpstreamOrigin, deadline: Instant) -> Result<TcpStream, FetchFault> {
        let addresses = self.allowed(to, self.addresses(to).await?)?;
        let mut failures = Vec::new();
        for (at, address) in addresses.iter().enumerate() {
            let left = u32::try_from(addresses.len() - at).unwrap_or(1);
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            let connecting = TcpStream::connect(address);
            match if left > 1 { timeout(share, connecting).await } else { Ok(connecting.await) } {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failures.push(format!("{address}: {error}")),
                Err(_) => failures.push(format!("{address}: not in time")),
            }
        }
        Err(FetchFault::Connect(failures.join(", ")))
    }

    async fn addresses(&self, to: &UpstreamOrigin) -> Result<Vec<SocketAddr>, FetchFault> {
        match to.host() {
            Host::Ipv4(ip) => Ok(vec![SocketAddr::new((*ip).into(), to.port())]),
            Host::Ipv6(ip) => Ok(vec![SocketAddr::new((*ip).into(), to.port())]),
            Host::Domain(name) => {
                let found = (self.lookup)(name.clone(), to.port()).await;
                found.map(families_in_turn).map_err(|error| FetchFault::Name(error.to_string()))
            }
        }
    }

    fn allowed(&self, to: &UpstreamOrigin, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, FetchFault> {
        let first = found.first().ok_or_else(|| FetchFault::Name("it has no address".to_owned()))?.ip();
        let is_listed = self.upstreams.lists_host(to.host());
        let mut allowed = found;
        allowed.retain(|address| is_listed || (self.unlisted)(address.ip()));
        allowed.truncate(MAX_ADDRESSES);
        if allowed.is_empty() { Err(FetchFault::NotPublic(first)) } else { Ok(allowed) }
    }
}

impl fmt::Debug for Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialler").field("upstreams", &self.upstreams).finish_non_exhaustive()
    }
}

/// Orders the addresses so that IPv4 and IPv6 take turns. A family that does not work then costs little time.
fn families_in_turn(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = found.first().is_some_and(SocketAddr::is_ipv4);
    let (mut a, mut b): (Vec<_>, Vec<_>) = found.into_iter().partition(|address| address.is_ipv4() == preferred);
    let pairs = a.len().min(b.len());
    let rest: Vec<_> = a.split_off(pairs).into_iter().chain(b.split_off(pairs)).collect();
    a.into_iter().zip(b).flat_map(|(a, b)| [a, b]).chain(rest).collect()
}

/// Waits for the future until the deadline. Returns `None` if the deadline passes first.
pub(super) async fn before<T>(deadline: Instant, what: impl Future<Output = T>) -> Option<T> {
    timeout_at(deadline, what).await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn look_ups_that_hang_leave_threads_for_the_disk() {
        let (begun, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (count, gate) = (Arc::clone(&begun), Arc::clone(&end));
        let lookup = limited(Arc::new(move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.notified().await;
                Ok(Vec::new())
            })
        }));
        // The callers give up, but the look-ups still hang.
        let asked = (0..10).map(|_| timeout(std::time::Duration::from_secs(1), lookup("a.test".to_owned(), 1)));
        assert!(futures::future::join_all(asked).await.iter().all(Result::is_err));
        assert_eq!(begun.load(Ordering::Relaxed), 4);
        end.notify_one();
        let next = timeout(std::time::Duration::from_secs(1), lookup("a.test".to_owned(), 1));
        assert!(next.await.is_err());
        assert_eq!(begun.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn families_are_tried_in_turn() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"]);
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"]);
        assert_eq!(families_in_turn(found), expected);
        assert_eq!(families_in_turn(Vec::new()), []);
    }
}
