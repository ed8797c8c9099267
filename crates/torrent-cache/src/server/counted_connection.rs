//! Counts the open connections, in total and by address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::context::CacheContext;

/// How many connections each address has open. All workers share these counts.
pub(super) struct AddressShares {
    limit: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

impl AddressShares {
    /// Limits each address to half of all connections, so that one host cannot take them all. The limit is not lower,
    /// because all clients behind Docker's published ports can share the bridge's address.
    pub(super) fn of(max_connections: usize) -> Arc<Self> {
        Arc::new(Self { limit: max_connections.div_ceil(2), open: Mutex::default() })
    }

    /// Counts a connection until the result is dropped. Returns `None` if the address has reached its limit. Loopback
    /// addresses have no limit.
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<AddressShare> {
        let address = address.to_canonical();
        let mut open = self.open.lock();
        let count = open.entry(address).or_default();
        if *count >= self.limit && !address.is_loopback() {
            return None;
        }
        *count += 1;
        Some(AddressShare { shares: Arc::clone(self), address })
    }
}

/// One connection in the count of its address.
struct AddressShare {
    shares: Arc<AddressShares>,
    address: IpAddr,
}

impl Drop for AddressShare {
    fn drop(&mut self) {
        let mut open = self.shares.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// A connection that is counted until this value is dropped, even if its task panics.
pub(super) struct CountedConnection {
    context: Arc<CacheContext>,
    _share: AddressShare,
    _permit: OwnedSemaphorePermit,
}

impl CountedConnection {
    /// Counts a connection. Returns `None` if the address has too many.
    pub(super) fn of(
        address: IpAddr,
        context: &Arc<CacheContext>,
        shares: &Arc<AddressShares>,
        permit: OwnedSemaphorePermit,
    ) -> Option<Self> {
        let share = shares.take(address)?;
        context.metrics.connections.inc();
        Some(Self { context: Arc::clone(context), _share: share, _permit: permit })
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.context.metrics.connections.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_half_of_all_connections() {
        let shares = AddressShares::of(5);
        let take = |address: &str| shares.take(address.parse().unwrap());
        let held: Vec<_> = (0..3).map(|_| take("10.0.0.1").unwrap()).collect();
        assert!(take("10.0.0.1").is_none() && take("::ffff:10.0.0.1").is_none());
        let other = take("10.0.0.2");
        assert!(other.is_some());
        drop(held);
        assert!(take("10.0.0.1").is_some());
        let own: Vec<_> = (0..20).map(|_| take("127.0.0.1").unwrap()).collect();
        drop((own, other));
        assert!(shares.open.lock().is_empty());
    }
}
