//! Which sockets are bound for the addresses that were configured, over TCP and UDP alike.
//!
//! - `[::]` takes IPv4 as well, unless `0.0.0.0` is to be bound to the same port: then each takes its own family.
//! - A name is all of its addresses that this host has.
//! - An address that this host does not have yet is bound nevertheless, where the system can: interfaces come up late, and an
//!   IPv6 address that is new is examined for a second.
//! - One port may be bound to several addresses, all of them ours.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

/// How long a name may be unknown at the start, or have no address of this host: networks and name servers come up late.
const NAME_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked up meanwhile.
const PAUSE: Duration = Duration::from_millis(250);

/// How often another port is tried when the one that the system chose for one of a name's addresses is taken at another.
const PORTS: usize = 16;

/// `EAFNOSUPPORT` on Linux, which the standard library has no name for.
const AF_NOT_SUPPORTED: i32 = 97;

/// Where to listen, as it was configured.
#[derive(Clone, Copy, Debug)]
pub(in crate::frontend) struct BindTarget<'a> {
    /// An address or a name; none for all addresses of both families.
    pub(in crate::frontend) host: Option<&'a str>,
    /// 0 lets the system choose.
    pub(in crate::frontend) port: u16,
    /// Whether it is for proxies. One socket cannot be for both.
    pub(in crate::frontend) proxied: bool,
}

/// What a socket is told before it is bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::frontend) struct Options {
    /// All addresses of IPv6 without those of IPv4.
    only_v6: bool,
    /// Other sockets of ours have this port at other addresses, and these are among them.
    is_shared: bool,
    /// The address need not be there.
    is_free: bool,
}

impl Options {
    /// Tells it the socket that is about to be bound to this address.
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

/// Binds the sockets of one protocol, and knows which are bound.
#[derive(Debug, Default)]
pub(in crate::frontend) struct Binder {
    /// The ports at which all addresses of IPv4 are asked for in so many words.
    any_v4: HashSet<u16>,
    /// Each with whether it is for proxies.
    bound: Vec<(SocketAddr, bool)>,
}

impl Binder {
    /// For all these places.
    pub(in crate::frontend) fn new<'a>(places: impl IntoIterator<Item = BindTarget<'a>>) -> Self {
        let any_v4 = |host: &str| host.parse() == Ok(Ipv4Addr::UNSPECIFIED);
        let asked = places.into_iter().filter(|place| place.port != 0 && place.host.is_some_and(any_v4));
        Self { any_v4: asked.map(|place| place.port).collect(), bound: Vec::new() }
    }

    /// Binds what one of them stands for, by a function that also gives the address with the port that the system chose. An
    /// address that is bound already for the same purpose is left out.
    pub(in crate::frontend) fn bind<T>(
        &mut self,
        place: BindTarget<'_>,
        bind: impl Fn(SocketAddr, Options) -> io::Result<(T, SocketAddr)>,
    ) -> io::Result<Vec<T>> {
        let BindTarget { host, port, proxied } = place;
        let found = match host.map(|host| (host, host.parse::<IpAddr>())) {
            None => self.all(port, proxied, &bind)?.into_iter().collect(),
            Some((_, Ok(ip))) => self.literal((ip, port).into(), proxied, &bind)?.into_iter().collect(),
            Some((name, Err(_))) => self.name_in_time(name, port, proxied, &bind)?,
        };
        Ok(found
            .into_iter()
            .map(|(sockets, address): (T, SocketAddr)| {
                self.bound.push((address, proxied));
                sockets
            })
            .collect())
    }

    fn options(&self, address: SocketAddr) -> Options {
        let meets = |other: SocketAddr| {
            other.port() == address.port() && (other.ip().is_unspecified() || address.ip().is_unspecified())
        };
        Options {
            only_v6: self.any_v4.contains(&address.port()),
            is_shared: self.bound.iter().any(|(other, _)| meets(*other)),
            is_free: false,
        }
    }

    /// Whether it is bound already. An error if that is for another purpose.
    fn has(&self, address: SocketAddr, proxied: bool) -> io::Result<bool> {
        match self.bound.iter().find(|(bound, _)| *bound == address && address.port() != 0) {
            Some((_, purpose)) if *purpose != proxied => Err(ErrorKind::AddrInUse.into()),
            found => Ok(found.is_some()),
        }
    }

    /// All addresses of both families, or of the one that the host has.
    fn all<T>(
        &self,
        port: u16,
        proxied: bool,
        bind: &impl Fn(SocketAddr, Options) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let any_v6 = (Ipv6Addr::UNSPECIFIED, port).into();
        if self.has(any_v6, proxied)? {
            return Ok(None);
        }
        match bind(any_v6, self.options(any_v6)) {
            // A host without IPv6 has IPv4, which may have been asked for beside.
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
        proxied: bool,
        bind: &impl Fn(SocketAddr, Options) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        if self.has(address, proxied)? {
            return Ok(None);
        }
        let options = self.options(address);
        match bind(address, options) {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
                log::warn!(
                    "{} is no address of this host yet: clients are served there once it is one, unless it is mistyped",
                    address.ip()
                );
                late(address, options, bind).map(Some)
            }
            bound => bound.map(Some),
        }
    }

    /// All addresses of a name, which may become known a little later.
    fn name_in_time<T>(
        &self,
        name: &str,
        port: u16,
        proxied: bool,
        bind: &impl Fn(SocketAddr, Options) -> io::Result<(T, SocketAddr)>,
    ) -> io::Result<Vec<(T, SocketAddr)>> {
        let end = Instant::now() + NAME_PATIENCE;
        let mut told = false;
        loop {
            match self.name(name, port, proxied, bind) {
                Err(error) if is_early(&error) && Instant::now() < end => {
                    if !told {
                        log::warn!(
                            "{name} cannot be used as an address of this host yet ({error}): it is tried for {NAME_PATIENCE:?}"
                        );
                        told = true;
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
        proxied: bool,
        bind: &impl Fn(SocketAddr, Options) -> io::Result<(T, SocketAddr)>,
    ) -> io::Result<Vec<(T, SocketAddr)>> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in (name, port).to_socket_addrs()? {
            if !addresses.contains(&address.ip()) {
                addresses.push(address.ip());
            }
        }
        self.at_one_port(name, &addresses, port, proxied, bind)
    }

    fn at_one_port<T>(
        &self,
        name: &str,
        addresses: &[IpAddr],
        port: u16,
        proxied: bool,
        bind: &impl Fn(SocketAddr, Options) -> io::Result<(T, SocketAddr)>,
    ) -> io::Result<Vec<(T, SocketAddr)>> {
        let mut tries = 1;
        loop {
            match self.each(name, addresses, port, proxied, bind) {
                Err(error) if error.kind() == ErrorKind::AddrInUse && port == 0 && tries < PORTS => tries += 1,
                bound => return bound,
            }
        }
    }

    /// Binds each of a name's addresses to the same port. Those that this host does not have are left out, but not all.
    fn each<T>(
        &self,
        name: &str,
        addresses: &[IpAddr],
        port: u16,
        proxied: bool,
        bind: &impl Fn(SocketAddr, Options) -> io::Result<(T, SocketAddr)>,
    ) -> io::Result<Vec<(T, SocketAddr)>> {
        let (mut port, mut found, mut had, mut absent) = (port, Vec::new(), false, Vec::new());
        for ip in addresses {
            let address = (*ip, port).into();
            if self.has(address, proxied)? {
                had = true;
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
        if found.is_empty() && !had {
            let error = absent.into_iter().map(|(_, error)| error).next();
            return Err(error.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()));
        }
        for (ip, _) in absent {
            log::warn!("{name} is {ip} as well, which is no address of this host: nothing is served there");
        }
        Ok(found)
    }
}

/// Whether the host does not have the address, or nothing of its family.
pub(in crate::frontend) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AddrNotAvailable | ErrorKind::Unsupported)
        || error.raw_os_error() == Some(AF_NOT_SUPPORTED)
}

/// Whether the name may mean something a little later. An error without a number is one of the look-up.
fn is_early(error: &io::Error) -> bool {
    is_absent(error) || error.raw_os_error().is_none() && error.kind() != ErrorKind::AddrInUse
}

/// Binds to an address that the host does not have yet.
#[cfg(target_os = "linux")]
fn late<T>(
    address: SocketAddr,
    options: Options,
    bind: &impl Fn(SocketAddr, Options) -> io::Result<T>,
) -> io::Result<T> {
    bind(address, Options { is_free: true, ..options })
}

/// Elsewhere it is waited for.
#[cfg(not(target_os = "linux"))]
fn late<T>(
    address: SocketAddr,
    options: Options,
    bind: &impl Fn(SocketAddr, Options) -> io::Result<T>,
) -> io::Result<T> {
    let end = Instant::now() + NAME_PATIENCE;
    loop {
        match bind(address, options) {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable && Instant::now() < end => thread::sleep(PAUSE),
            bound => return bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Stands for the system: these addresses are there, and these ports taken.
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

        fn bind(&self, mut address: SocketAddr, _: Options) -> io::Result<(SocketAddr, SocketAddr)> {
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
            .at_one_port("name", &addresses, port, false, &|address, options| system.bind(address, options));
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
        // It is taken at the second address, twice.
        system
            .taken
            .borrow_mut()
            .extend(["127.0.0.1:1001", "127.0.0.1:1002"].map(|address| address.parse::<SocketAddr>().unwrap()));
        assert_eq!(name(&system, &["::1", "127.0.0.1"], 0).unwrap(), ["[::1]:1003", "127.0.0.1:1003"]);
    }

    #[test]
    fn a_host_without_ipv6_listens_on_ipv4_once() {
        let system = System::new(&["0.0.0.0"]);
        let place = |host, port| BindTarget { host, port, proxied: false };
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
