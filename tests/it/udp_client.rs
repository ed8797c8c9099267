//! A client over UDP (BEP 15).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::dsl::{DEADLINE, Server, id};
use crate::proxied::version_2_of;

/// The default transaction id.
pub(crate) const TRANSACTION: [u8; 4] = *b"\x01\x02\x03\x04";

/// A socket that is connected to one server.
pub(crate) struct UdpClient {
    pub(crate) socket: UdpSocket,
    /// The connection id that the server issued.
    pub(crate) id: [u8; 8],
    /// The PROXY header before each packet. Empty without a proxy.
    header: Vec<u8>,
    /// Whether the client uses IPv4, which decides the form of the peers in a reply. Behind a proxy, it says whether the
    /// client reaches the proxy over IPv4.
    v4: bool,
}

/// An announce, field by field.
#[derive(Clone, Debug)]
pub(crate) struct UdpAnnounce {
    pub(crate) torrent: [u8; 20],
    pub(crate) peer: [u8; 20],
    pub(crate) left: u64,
    /// 0 none, 1 completed, 2 started, 3 stopped.
    pub(crate) event: u32,
    pub(crate) ip: Ipv4Addr,
    pub(crate) numwant: i32,
    pub(crate) port: u16,
    /// The bytes after the announce (BEP 41).
    pub(crate) options: Vec<u8>,
}

/// Returns an announce of a leecher on port 6881.
pub(crate) fn udp_announce(torrent: &str, peer: &str) -> UdpAnnounce {
    UdpAnnounce {
        torrent: id(torrent),
        peer: id(peer),
        left: 1,
        event: 0,
        ip: Ipv4Addr::UNSPECIFIED,
        numwant: -1,
        port: 6881,
        options: Vec::new(),
    }
}

impl UdpAnnounce {
    pub(crate) fn at(self, ip: [u8; 4]) -> Self {
        Self { ip: ip.into(), ..self }
    }

    /// Adds the path and the query of the announce URL, in parts of at most 255 bytes (BEP 41).
    pub(crate) fn url_data(mut self, url: &str) -> Self {
        for part in url.as_bytes().chunks(255) {
            self.options.extend([2, part.len() as u8]);
            self.options.extend(part);
        }
        self
    }

    pub(crate) fn packet(&self, id: [u8; 8]) -> Vec<u8> {
        let mut packet = [&id[..], &[0, 0, 0, 1], &TRANSACTION, &self.torrent, &self.peer, &[0; 8]].concat();
        packet.extend(self.left.to_be_bytes());
        packet.extend([0; 8]);
        packet.extend(self.event.to_be_bytes());
        packet.extend(self.ip.octets());
        packet.extend(*b"\xde\xad\xbe\xef");
        packet.extend(self.numwant.to_be_bytes());
        packet.extend(self.port.to_be_bytes());
        packet.extend(&self.options);
        packet
    }
}

pub(crate) fn connect_packet(transaction: [u8; 4]) -> Vec<u8> {
    [&b"\0\0\x04\x17\x27\x10\x19\x80\0\0\0\0"[..], &transaction].concat()
}

pub(crate) fn scrape_packet(id: [u8; 8], torrents: &[[u8; 20]]) -> Vec<u8> {
    [&id[..], &[0, 0, 0, 2], &TRANSACTION, &torrents.concat()].concat()
}

impl UdpClient {
    /// Connects to a server's first UDP address from loopback and gets an id.
    pub(crate) fn of(server: &Server) -> Self {
        Self::to(server.udp_address())
    }

    pub(crate) fn to(server: SocketAddr) -> Self {
        let loopback: IpAddr = if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        Self::from(loopback, server)
    }

    pub(crate) fn from(source: IpAddr, server: SocketAddr) -> Self {
        Self::open(source, server, Vec::new(), source.is_ipv4())
    }

    /// Makes a client at `source` behind a proxy, and gets an id. The proxy has a socket for each client.
    pub(crate) fn behind(proxy: IpAddr, server: SocketAddr, source: &str) -> Self {
        let v4 = source.parse::<SocketAddr>().unwrap().ip().to_canonical().is_ipv4();
        Self::open(proxy, server, version_2_of(2, source, b""), v4)
    }

    /// Makes a client behind a proxy that sends this header before each datagram, and gets an id.
    pub(crate) fn with_header(proxy: IpAddr, server: SocketAddr, header: Vec<u8>) -> Self {
        Self::open(proxy, server, header, proxy.is_ipv4())
    }

    fn open(source: IpAddr, server: SocketAddr, header: Vec<u8>, v4: bool) -> Self {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        // From now on the socket receives only from the server's address.
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut client = Self { socket, id: [0; 8], header, v4 };
        client.id = client.connect();
        client
    }

    /// Asks for a connection id.
    pub(crate) fn connect(&self) -> [u8; 8] {
        let response = self.ask(&connect_packet(TRANSACTION));
        assert_eq!((response.len(), &response[..8]), (16, &[&[0; 4], &TRANSACTION[..]].concat()[..]));
        response[8..].try_into().unwrap()
    }

    pub(crate) fn send(&self, packet: &[u8]) {
        self.socket.send(&[&self.header, packet].concat()).unwrap();
    }

    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    pub(crate) fn ask(&self, packet: &[u8]) -> Vec<u8> {
        self.send(packet);
        self.receive()
    }

    /// Sends a packet and returns the replies to it, possibly none. The server handles a client's packets in order. So the
    /// reply to a later connect request shows that no more replies will come. This does not work for announces that may
    /// wait for upstream trackers.
    pub(crate) fn answers(&self, packet: &[u8]) -> Vec<Vec<u8>> {
        let last = *b"last";
        self.send(packet);
        self.send(&connect_packet(last));
        let answers = std::iter::repeat_with(|| self.receive());
        answers.take_while(|answer| answer[4..8] != last).collect()
    }

    /// Sends an announce that must be answered.
    pub(crate) fn announce(&self, announce: &UdpAnnounce) -> UdpReply {
        UdpReply::read(&self.ask(&announce.packet(self.id)), self.v4)
    }

    /// Sends a packet that must be refused. Returns the text of the error.
    pub(crate) fn refused(&self, packet: &[u8]) -> String {
        let response = self.ask(packet);
        assert_eq!(response[..8], [&[0, 0, 0, 3], &TRANSACTION[..]].concat());
        String::from_utf8(response[8..].to_vec()).unwrap()
    }
}

/// The response to an announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UdpReply {
    pub(crate) interval: u32,
    pub(crate) leechers: u32,
    pub(crate) seeders: u32,
    /// The peers, sorted.
    pub(crate) peers: Vec<String>,
}

impl UdpReply {
    fn read(response: &[u8], v4: bool) -> Self {
        assert_eq!(response[..8], [&[0, 0, 0, 1], &TRANSACTION[..]].concat(), "{}", response.escape_ascii());
        let number = |at: usize| u32::from_be_bytes(response[at..at + 4].try_into().unwrap());
        let list = &response[20..];
        let size = if v4 { 6 } else { 18 };
        assert_eq!(list.len() % size, 0, "{} bytes of peers", list.len());
        let mut peers: Vec<_> = list.chunks(size).map(peer).collect();
        peers.sort();
        Self {
            interval: number(8),
            leechers: number(12),
            seeders: number(16),
            peers: peers.iter().map(SocketAddr::to_string).collect(),
        }
    }
}

fn peer(entry: &[u8]) -> SocketAddr {
    let (ip, port) = entry.split_at(entry.len() - 2);
    let ip = match <[u8; 4]>::try_from(ip) {
        Ok(ip) => IpAddr::from(ip),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(ip).unwrap()),
    };
    (ip, u16::from_be_bytes(port.try_into().unwrap())).into()
}
