//! An upstream tracker over UDP (BEP 15).

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::dsl::{DEADLINE, eventually};

/// The connection id that the tracker issues.
const CONNECTION_ID: [u8; 8] = *b"\x01connect";

/// A received announce. Each field is read at its offset in the packet.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedUdpAnnounce {
    pub(crate) info_hash: [u8; 20],
    pub(crate) peer_id: [u8; 20],
    pub(crate) left: u64,
    /// 0 none, 1 completed, 2 started, 3 stopped.
    pub(crate) event: u32,
    pub(crate) ip: Ipv4Addr,
    pub(crate) key: u32,
    pub(crate) numwant: u32,
    pub(crate) port: u16,
    /// The bytes after the announce (BEP 41).
    pub(crate) options: Vec<u8>,
}

/// The tracker's reply.
pub(crate) enum UdpAnswer {
    Peers { interval: u32, seeders: u32, leechers: u32, peers: Vec<SocketAddrV4> },
    Refused(&'static str),
}

fn array<const N: usize>(packet: &[u8], at: usize) -> [u8; N] {
    packet[at..at + N].try_into().unwrap()
}

impl ReceivedUdpAnnounce {
    fn read(packet: &[u8]) -> Self {
        assert_eq!(array(packet, 0), CONNECTION_ID);
        Self {
            info_hash: array(packet, 16),
            peer_id: array(packet, 36),
            left: u64::from_be_bytes(array(packet, 64)),
            event: u32::from_be_bytes(array(packet, 80)),
            ip: array::<4>(packet, 84).into(),
            key: u32::from_be_bytes(array(packet, 88)),
            numwant: u32::from_be_bytes(array(packet, 92)),
            port: u16::from_be_bytes(array(packet, 96)),
            options: packet[98..].to_vec(),
        }
    }
}

impl UdpAnswer {
    fn write(&self, transaction: [u8; 4]) -> Vec<u8> {
        match self {
            Self::Peers { interval, seeders, leechers, peers } => {
                let mut packet = [[0, 0, 0, 1], transaction].concat();
                [interval, leechers, seeders].iter().for_each(|n| packet.extend(n.to_be_bytes()));
                for peer in peers {
                    packet.extend(peer.ip().octets());
                    packet.extend(peer.port().to_be_bytes());
                }
                packet
            }
            Self::Refused(reason) => [&[0, 0, 0, 3], &transaction[..], reason.as_bytes()].concat(),
        }
    }
}

/// A tracker that answers each announce on a thread of its own. The tracker runs until no packet has come for a minute.
pub(crate) struct FakeUdpTracker {
    address: SocketAddr,
    announces: Arc<Mutex<Vec<ReceivedUdpAnnounce>>>,
}

impl FakeUdpTracker {
    /// Starts a tracker on a port of 127.0.0.1.
    pub(crate) fn start(answer: impl Fn(&ReceivedUdpAnnounce) -> UdpAnswer + Send + Sync + 'static) -> Self {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let tracker = Self { address: socket.local_addr().unwrap(), announces: Arc::default() };
        let (announces, answer) = (Arc::clone(&tracker.announces), Arc::new(answer));
        // The thread ends when no packet has come for this time. No test has a pause of this length.
        socket.set_read_timeout(Some(DEADLINE * 2)).unwrap();
        thread::spawn(move || {
            let mut packet = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                let packet = packet[..length].to_vec();
                let transaction = array(&packet, 12);
                if packet[8..12] == [0; 4] {
                    let reply = [&[0; 4], &transaction[..], &CONNECTION_ID].concat();
                    socket.send_to(&reply, from).unwrap();
                    continue;
                }
                let announce = ReceivedUdpAnnounce::read(&packet);
                announces.lock().unwrap().push(announce.clone());
                let (socket, answer) = (Arc::clone(&socket), Arc::clone(&answer));
                thread::spawn(move || socket.send_to(&answer(&announce).write(transaction), from).unwrap());
            }
        });
        tracker
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn announces(&self) -> Vec<ReceivedUdpAnnounce> {
        self.announces.lock().unwrap().clone()
    }

    /// Waits until there are this many announces, and returns the last of them.
    pub(crate) fn announce(&self, number: usize) -> ReceivedUdpAnnounce {
        eventually("the tracker gets the announce", || self.announces().get(number - 1).cloned())
    }
}
