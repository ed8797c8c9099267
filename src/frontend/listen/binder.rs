//! Decides which sockets to bind for the configured addresses, TCP and UDP alike.
//!
//! - `[::]` accepts IPv4 as well, unless `0.0.0.0` is configured for the same port.
//! - A name stands for all of its addresses that this host has.
//! - An address that this host does not have yet is bound nevertheless, if the system can. An interface may come up
//!   late, and the system checks a new IPv6 address for duplicates for a second before it can be used.
//! - This process may bind one port at several addresses.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::purpose::Purpose;

/// How long a name is looked up again at the start, until it resolves to an address of this host. Networks and name
/// servers may come up late.
const NAME_TIMEOUT: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(250);

/// The most ports to try for a name if the system chooses the port: a port may be free at one address of the name and
/// taken at another.
const PORTS: usize = 16;

/// The value of `EAFNOSUPPORT` on Linux. The standard library has no name for this error.
const AF_NOT_SUPPORTED: i32 = 97;

#[derive(Clone, Copy, Debug)]
pub(in crate::frontend) struct BindTarget<'a> {
    /// An address or a name; `None` for all addresses of both families.
    pub(in crate::frontend) host: Option<&'a str>,
    /// The port. 0 lets the system choose a port.
    pub(in crate::frontend) port: u16,
    pub(in crate::frontend) purpose: Purpose,
}

/// The options to set on a socket before it is bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::frontend) struct BindOptions {
    /// Whether `[::]` accepts IPv6 only.
    only_v6: bool,
    /// Whether another socket of this process uses the same port at an overlapping address.
    is_shared: bool,
    /// Whether the address is bound even if the host does not have it.
    is_free: bool,
}

impl BindOptions {
    /// Sets the options of a socket that is about to be bound to this address.
    pub(in crate::frontend) fn apply(self, socket: &Socket, address: SocketAddr) -> io::Result<()> {
        if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            socket.set_only_v6(self.only_v6)?;
        }
        if self.is_shared {
            socket.set_reuse_port(true)?;
        }
        #[cfg(target_os = "linux")]
        if self.is_free {
            match address {
                SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
                SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
            }
        }
        Ok(())
    }
}

/// Binds the sockets of one protocol, and remembers their addresses.
#[derive(Debug, Default)]
pub(in crate::frontend) struct Binder {
    /// The ports for which `0.0.0.0` is configured.
    any_v4: HashSet<u16>,
    /// The bound addresses and their purposes.
    bound: Vec<(SocketAddr, Purpose)>,
}

impl Binder {
    pub(in crate::frontend) fn new<'a>(places: impl IntoIterator<Item = BindTarget<'a>>) -> Self {
        let any_v4 = |host: &str| host.parse() == Ok(Ipv4Addr::UNSPECIFIED);
        let asked = places.into_iter().filter(|place| place.port != 0 && place.host.is_some_and(any_v4));
        Self { any_v4: asked.map(|place| place.port).collect(), bound: Vec::new() }
    }

    /// Binds the addresses of one target, except those already bound for the same purpose. `bind` binds one address,
    /// and returns it with the port that the system chose.
    pub(in crate::frontend) fn bind<T>(
        &mut self,
        place: BindTarget<'_>,
        bind: impl Fn(SocketAddr, BindOptions) -> io::Result<(T, SocketAddr)>,
    ) -> io::Result<Vec<T>> {
        let BindTarget { host, port, purpose } = place;
        let found = match host.map(|host| (host, host.parse::<IpAddr>())) {
            None => self.all(port, purpose, &bind)?.into_iter().collect(),
            Some((_, Ok(ip))) => self.literal((ip, port).into(), purpose, &bind)?.into_iter().collect(),
            Some((name, Err(_))) => self.name_with_retries(name, port, purpose, &bind)?,
        };
        Ok(found
            .into_iter()
            .map(|(sockets, address): (T, SocketAddr)| {
                self.bound.push((address, purpose));
                sockets
            })
            .collect())
    }

    fn options(&self, address: SocketAddr) -> BindOptions {
        let meets = |other: SocketAddr| {
            other.port() == address.port() && (other.ip().is_unspecified() || address.ip().is_unspecified())
        };
        BindOptions {
            only_v6: self.any_v4.contains(&address.port()),
            is_shared: self.bound.iter().any(|(other, _)| meets(*other)),
            is_free: false,
        }
    }

    /// Whether the address is already bound for this purpose. An error if it is bound for another.
    fn has(&self, address: SocketAddr, purpose: Purpose) -> io::Result<bool> {
        match self.bound.iter().find(|(bound, _)| *bound == address && address.port() != 0) {
            Some((_, other)) if *other != purpose => Err(ErrorKind::AddrInUse.into()),
            found => Ok(found.is_some()),
        }
    }

    /// Binds all addresses of both families, or of IPv4 if the host has no IPv6.
    fn all<T>(
        &self,
        port: u16,
        purpose: Purpose,
        bind: &impl Fn(SocketAddr, BindOptions) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let any_v6 = (Ipv6Addr::UNSPECIFIED, port).into();
        if self.has(any_v6, purpose)? {
            return Ok(None);
        }
        match bind(any_v6, self.options(any_v6)) {
            // The host has no IPv6, and the configured `0.0.0.0` covers IPv4.
            Err(error) if is_absent(&error) && self.any_v4.contains(&port) => Ok(None),
            Err(error) if is_absent(&error) => {
                let any_v4 = (Ipv4Addr::UNSPECIFIED, port).into();
                bind(any_v4, self.options(any_v4)).map(Some)
            }
            bound => bound.map(Some),
        }
    }

    fn literal<T>(
        &self,
        address: SocketAddr,
        purpose: Purpose,
        bind: &impl Fn(SocketAddr, BindOptions) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        if self.has(address, purpose)? {
            return Ok(None);
        }
        let options = self.options(address);
        match bind(address, options) {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                log::warn!(
                    "this host does not have the address {} yet; clients are served there as soon as it does",
                    address.ip()
                );
                late(address, options, bind).map(Some)
            }
            bound => bound.map(Some),
        }
    }

    /// Binds all addresses of a name. Looks the name up again if a later try may succeed.
    fn name_with_retries<T>(
        &self,
        name: &str,
        port: u16,
        purpose: Purpose,
        bind: &impl Fn(SocketAddr, BindOptions) -> io::Result<(T, SocketAddr)>,
    ) -> io::Result<Vec<(T, SocketAddr)>> {
        let end = Instant::now() + NAME_TIMEOUT;
        let mut warned = false;
        loop {
            match self.name(name, port, purpose, bind) {
                Err(error) if is_early(&error) && Instant::now() < end => {
                    if !warned {
                        log::warn!("cannot listen on {name} yet ({error}): retrying for {NAME_TIMEOUT:?}");
                        warned = true;
                    }
                    thread::sleep(PAUSE);
                }
                bound => return bound,
            }
        }
    }

    fn name<T>(
        &self,
        name: &str,
        port: u16,
        purpose: Purpose,
        bind: &impl Fn(SocketAddr, BindOptions) -> io::Result<(T, SocketAddr)>,
    ) -> io::Result<Vec<(T, SocketAddr)>> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in (name, port).to_socket_addrs()? {
            if !addresses.contains(&address.ip()) {
                addresses.push(address.ip());
            }
        }
        self.at_same_port(name, &addresses, port, purpose, bind)
    }

    fn at_same_port<T>(
        &self,
        name: &str,
        addresses: &[IpAddr],
        port: u16,
        purpose: Purpose,
        bind: &impl Fn(SocketAddr, BindOptions) -> io::Result<(T, SocketAddr)>,
    ) -> io::Result<Vec<(T, SocketAddr)>> {
        let mut tries = 1;
        loop {
            match self.each(name, addresses, port, purpose, bind) {
                Err(error) if error.kind() == ErrorKind::AddrInUse && port == 0 && tries < PORTS => tries += 1,
                bound => return bound,
            }
        }
    }

    /// Binds the same port at each of a name's addresses that this host has. Fails if it has none.
    fn each<T>(
        &self,
        name: &str,
        addresses: &[IpAddr],
        port: u16,
        purpose: Purpose,
        bind: &impl Fn(SocketAddr, BindOptions) -> io::Result<(T, SocketAddr)>,
    ) -> io::Result<Vec<(T, SocketAddr)>> {
        let (mut port, mut found, mut already_bound, mut absent) = (port, Vec::new(), false, Vec::new());
        for ip in addresses {
            let address = (*ip, port).into();
            if self.has(address, purpose)? {
                already_bound = true;
                continue;
            }
            match bind(address, self.options(address)) {
                Ok((sockets, bound)) => {
                    port = bound.port();
                    found.push((sockets, bound));
                }
                Err(error) if is_absent(&error) => absent.push((ip, error)),
                Err(error) => return Err(error),
            }
        }
        if found.is_empty() && !already_bound {
            let error = absent.into_iter().map(|(_, error)| error).next();
            return Err(error.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()));
        }
        for (ip, _) in absent {
            log::warn!("not listening on {ip}, an address of {name}: this host does not have it");
        }
        Ok(found)
    }
}

/// Whether the error says that the host lacks the address, or its address family.
pub(in crate::frontend) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
        || error.raw_os_error() == Some(AF_NOT_SUPPORTED)
}

/// Whether a later try may succeed: the host lacks the address, or the name look-up failed. An error of the look-up has
/// no error number of the system.
fn is_early(error: &io::Error) -> bool {
    is_absent(error) || error.raw_os_error().is_none() && error.kind() != ErrorKind::AddrInUse
}

/// Binds to an address that the host does not have yet.
#[cfg(target_os = "linux")]
fn late<T>(
    address: SocketAddr,
    options: BindOptions,
    bind: &impl Fn(SocketAddr, BindOptions) -> io::Result<T>,
) -> io::Result<T> {
    bind(address, BindOptions { is_free: true, ..options })
}

/// Waits until the host has the address: only Linux can bind to it earlier.
#[cfg(not(target_os = "linux"))]
fn late<T>(
    address: SocketAddr,
    options: BindOptions,
    bind: &impl Fn(SocketAddr, BindOptions) -> io::Result<T>,
) -> io::Result<T> {
    let end = Instant::now() + NAME_TIMEOUT;
    loop {
        match bind(address, options) {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable && Instant::now() < end => thread::sleep(PAUSE),
            bound => return bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::purpose::{Audience, Transport};
    use super::*;
    use std::cell::RefCell;

    const CLIENTS: Purpose = Purpose { transport: Transport::Plain, audience: Audience::Clients };

    /// A simulated system that has these addresses, and on which these ports are taken.
    struct System {
        own: Vec<IpAddr>,
        taken: RefCell<Vec<SocketAddr>>,
        next_port: RefCell<u16>,
    }

    impl System {
        fn new(own: &[&str]) -> Self {
            let own = own.iter().map(|ip| ip.parse().unwrap()).collect();
            Self { own, taken: RefCell::default(), next_port: RefCell::new(1000) }
        }

        fn bind(&self, mut address: SocketAddr, _: BindOptions) -> io::Result<(SocketAddr, SocketAddr)> {
            if !self.own.contains(&address.ip()) {
                return Err(ErrorKind::AddrNotAvailable.into());
            }
            if address.port() == 0 {
                *self.next_port.borrow_mut() += 1;
                address.set_port(*self.next_port.borrow());
            }
            if self.taken.borrow().contains(&address) {
                return Err(ErrorKind::AddrInUse.into());
            }
            Ok((address, address))
        }
    }

    fn name(system: &System, addresses: &[&str], port: u16) -> io::Result<Vec<String>> {
        let addresses: Vec<_> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let bound = Binder::default()
            .at_same_port("name", &addresses, port, CLIENTS, &|address, options| system.bind(address, options));
        bound.map(|bound| bound.into_iter().map(|(_, address)| address.to_string()).collect())
    }

    #[test]
    fn a_name_is_bound_at_all_of_its_addresses_that_are_there() {
        let system = System::new(&["127.0.0.1", "::1", "10.0.0.1"]);
        assert_eq!(name(&system, &["::1", "127.0.0.1"], 80).unwrap(), ["[::1]:80", "127.0.0.1:80"]);
        assert_eq!(
            name(&system, &["127.0.0.1", "192.0.2.1", "10.0.0.1"], 80).unwrap(),
            ["127.0.0.1:80", "10.0.0.1:80"]
        );
        assert_eq!(name(&system, &["192.0.2.1"], 80).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
        assert_eq!(name(&system, &[], 80).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
        system.taken.borrow_mut().push("127.0.0.1:80".parse().unwrap());
        assert_eq!(name(&system, &["::1", "127.0.0.1"], 80).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn the_port_that_the_system_chooses_is_the_same_at_all_addresses() {
        let system = System::new(&["127.0.0.1", "::1"]);
        // The first two ports that the system chooses are taken at the second address.
        system
            .taken
            .borrow_mut()
            .extend(["127.0.0.1:1001", "127.0.0.1:1002"].map(|address| address.parse::<SocketAddr>().unwrap()));
        assert_eq!(name(&system, &["::1", "127.0.0.1"], 0).unwrap(), ["[::1]:1003", "127.0.0.1:1003"]);
    }

    #[test]
    fn a_host_without_ipv6_listens_on_ipv4_once() {
        let system = System::new(&["0.0.0.0"]);
        let place = |host, port| BindTarget { host, port, purpose: CLIENTS };
        let bind = |address, options| system.bind(address, options);
        assert_eq!(Binder::new([]).bind(place(None, 80), bind).unwrap(), ["0.0.0.0:80".parse().unwrap()]);
        for order in [[None, Some("0.0.0.0")], [Some("0.0.0.0"), None]] {
            let places = order.map(|host| place(host, 80));
            let mut binder = Binder::new(places);
            let bound: Vec<_> = places.into_iter().flat_map(|place| binder.bind(place, bind).unwrap()).collect();
            assert_eq!(bound, ["0.0.0.0:80".parse().unwrap()]);
        }
    }
}
