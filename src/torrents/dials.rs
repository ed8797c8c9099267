//! Attempts to connect to a host. The host asks for an attempt, to learn whether other hosts can reach its port.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::busy::Busy;

/// The most attempts under way, to all hosts together.
const MAX_DIALS: usize = 64;

/// The addresses to which an attempt is under way, at most one each.
#[derive(Debug, Default)]
pub(super) struct PortDials(Mutex<HashSet<IpAddr>>);

/// An attempt to connect to a host, under way until this value is dropped.
#[derive(Debug)]
pub struct PortDial {
    dials: Arc<PortDials>,
    host: IpAddr,
}

impl PortDials {
    pub(super) fn begin(dials: &Arc<Self>, host: IpAddr) -> Result<PortDial, Busy> {
        let mut hosts = dials.0.lock();
        if hosts.len() >= MAX_DIALS || !hosts.insert(host) {
            return Err(Busy);
        }
        Ok(PortDial { dials: Arc::clone(dials), host })
    }
}

impl Drop for PortDial {
    fn drop(&mut self) {
        self.dials.0.lock().remove(&self.host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_bounded_and_end() {
        let dials = Arc::<PortDials>::default();
        let host = |number: usize| IpAddr::from([10, 0, 0, u8::try_from(number).unwrap()]);
        let mut under_way: Vec<_> = (0..MAX_DIALS).map(|n| PortDials::begin(&dials, host(n)).unwrap()).collect();
        assert_eq!(PortDials::begin(&dials, host(MAX_DIALS)).unwrap_err(), Busy);
        under_way.pop();
        assert_eq!(PortDials::begin(&dials, host(0)).unwrap_err(), Busy);
        under_way.push(PortDials::begin(&dials, host(MAX_DIALS)).unwrap());
        drop(under_way);
        assert!(PortDials::begin(&dials, host(0)).is_ok());
    }
}
