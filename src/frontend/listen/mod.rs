//! The addresses on which the tracker listens, and their sockets: TCP, Unix and UDP.

mod address;
mod binder;
mod datagrams;
mod purpose;
mod streams;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

pub use self::address::{Listen, ListenAddr, NotAListenAddr, UdpListenAddr};
pub use self::datagrams::UdpListener;
pub use self::purpose::{Audience, Purpose, Transport};
pub use self::streams::SocketFile;

use self::binder::Binder;
use self::datagrams::bind_udp;
use self::streams::{bind_tcp, bind_unix};

/// Bound sockets and their purpose.
#[derive(Debug)]
pub struct Listening {
    /// The sockets.
    pub bound: Bound,
    /// The purpose of the sockets, as in [`Listen`].
    pub purpose: Purpose,
}

/// Binds sockets for this number of workers at all of these addresses, or at none if one fails. The error names the
/// address that failed.
pub fn bind(listen: &[Listen], workers: usize) -> Result<Vec<Listening>, (Listen, io::Error)> {
    let mut binder = Binder::new(listen.iter().filter_map(Listen::place));
    let mut listening = Vec::new();
    for listen in listen {
        let bound = Bound::bind(listen, &mut binder, workers).map_err(|error| (listen.clone(), error))?;
        listening.extend(bound.into_iter().map(|bound| Listening { bound, purpose: listen.purpose }));
    }
    Ok(listening)
}

/// Binds UDP sockets at all of these addresses: one per worker at each address, on one port. With `SO_REUSEPORT` the
/// kernel distributes the clients among them.
pub fn bind_datagrams(listen: &[UdpListenAddr], workers: usize) -> Result<Vec<Listening>, (UdpListenAddr, io::Error)> {
    let mut binder = Binder::new(listen.iter().map(UdpListenAddr::place));
    let mut listening = Vec::new();
    for listen in listen {
        let bound = binder.bind(listen.place(), |address, options| bind_udp(address, options, workers));
        let bound = bound.map_err(|error| (listen.clone(), error))?;
        let purpose = listen.purpose();
        listening.extend(bound.into_iter().map(|bound| Listening { bound: Bound::Udp(bound), purpose }));
    }
    Ok(listening)
}

impl Listening {
    /// The address of the sockets; `None` for a Unix socket.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match &self.bound {
            Bound::Tcp(listeners) => listeners.first()?.local_addr().ok(),
            Bound::Unix(_) => None,
            Bound::Udp(listeners) => listeners.first()?.socket_address(),
        }
    }

    /// The bound address in the notation of the settings, with the port that the system chose.
    pub fn address(&self) -> String {
        let has_scheme = matches!(self.bound, Bound::Unix(_) | Bound::Udp(_));
        format!("{}{}", self.purpose.transport.prefix(has_scheme), self.bound.address())
    }
}

/// The sockets of one listen address: one for each worker.
#[derive(Debug)]
pub enum Bound {
    /// TCP sockets on the same port. With `SO_REUSEPORT` the kernel distributes connections, so workers need not hand
    /// them over.
    Tcp(Vec<TcpListener>),
    /// One shared Unix socket. Dropping the last of these handles removes its file.
    Unix(Vec<(UnixListener, Arc<SocketFile>)>),
    /// UDP sockets on the same port, among which the kernel distributes the clients.
    Udp(Vec<UdpListener>),
}

impl Bound {
    fn bind(listen: &Listen, binder: &mut Binder, workers: usize) -> io::Result<Vec<Self>> {
        match (&listen.address, listen.place()) {
            (ListenAddr::Unix(path), _) => Ok(vec![Self::Unix(bind_unix(path, workers)?)]),
            (_, Some(place)) => {
                let listeners = binder.bind(place, |address, options| bind_tcp(address, options, workers))?;
                Ok(listeners.into_iter().map(Self::Tcp).collect())
            }
            (_, None) => Ok(Vec::new()),
        }
    }

    /// The bound address, with the port that the system chose.
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listeners) => match listeners.first().map(TcpListener::local_addr) {
                Some(Ok(address)) => address.to_string(),
                _ => "an unknown address".to_owned(),
            },
            Self::Unix(listeners) => {
                listeners.first().map_or_else(String::new, |(_, file)| format!("unix:{}", file.0.display()))
            }
            Self::Udp(listeners) => listeners.first().map_or_else(String::new, UdpListener::address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_port_is_shared_among_our_workers_only() {
        let listening = bind(&["127.0.0.1:0".parse().unwrap()], 3).unwrap();
        let [Listening { bound: Bound::Tcp(listeners), .. }] = &listening[..] else { panic!() };
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert_eq!(ports, [ports[0]; 3]);
        let (_, error) = bind(&[listening[0].address().parse().unwrap()], 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_udp_port_is_shared_among_our_workers_only() {
        for address in ["127.0.0.1:0", ":0"] {
            let listening = bind_datagrams(&[address.parse().unwrap()], 3).unwrap();
            let [Listening { bound: Bound::Udp(listeners), .. }] = &listening[..] else { panic!() };
            let bound: Vec<_> = listeners.iter().map(|listener| listener.socket.local_addr().unwrap()).collect();
            assert_eq!(bound, [bound[0]; 3]);
            let (_, error) = bind_datagrams(&[bound[0].to_string().parse().unwrap()], 2).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        }
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let address = [Listen { address: ListenAddr::Unix(path.clone()), purpose: Purpose::clients(Transport::Plain) }];
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = bind(&address, 2).unwrap();
        assert_eq!(bind(&address, 2).unwrap_err().1.kind(), io::ErrorKind::AddrInUse);
        drop(bound);
        assert!(!path.exists());
        std::fs::write(&path, "no socket").unwrap();
        assert!(bind(&address, 1).is_err());
        assert!(path.exists());
    }
}
