//! Decides which peers announce, and in which order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fastrand::Rng;

/// A number of swarms, each with a number of peers.
#[derive(Clone, Copy)]
pub struct Crowd {
    pub swarms: u64,
    pub peers: u64,
    /// The number of the crowd's first swarm. Two crowds share no swarm if their first numbers are far enough apart.
    pub first: u64,
    /// Whether the first swarms are much larger than the others. Then `peers` is the average size of a swarm.
    pub skewed: bool,
    pub network: CrowdNetwork,
    /// Whether peer ids are random from the first byte on. Otherwise all begin with the prefix of one client program.
    pub random_ids: bool,
}

/// Where the peers of a crowd are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrowdNetwork {
    /// No two peers share an address, and hardly any two of one swarm a /24.
    Many,
    /// All peers are in one /24, as in a LAN.
    OneV4,
    /// All peers are in one /64.
    OneV6,
}

impl Crowd {
    /// The crowd with which most figures are measured.
    pub const USUAL: Self = Self::new(10_000, 5);

    pub const fn new(swarms: u64, peers: u64) -> Self {
        Self { swarms, peers, first: 0, skewed: false, network: CrowdNetwork::Many, random_ids: false }
    }

    pub fn size(self) -> u64 {
        self.swarms * self.peers
    }

    /// Returns the peer with this number. Consecutive numbers are in different swarms, as consecutive announces usually
    /// are.
    pub fn peer(self, number: u64) -> CrowdPeer {
        let swarm = if self.skewed { self.popular_swarm(&mut Rng::with_seed(number)) } else { number % self.swarms };
        let Self { first, network, random_ids, .. } = self;
        CrowdPeer { swarm: first + swarm, number: first + number, network, random_id: random_ids }
    }

    /// Returns a random swarm. Swarms with lower numbers are more likely.
    fn popular_swarm(self, random: &mut Rng) -> u64 {
        (random.f64().powi(4) * self.swarms as f64) as u64
    }
}

#[derive(Clone, Copy)]
pub struct CrowdPeer {
    pub swarm: u64,
    pub number: u64,
    network: CrowdNetwork,
    random_id: bool,
}

impl CrowdPeer {
    /// Returns a peer with an address of its own, in [`CrowdNetwork::Many`].
    pub fn new(swarm: u64, number: u64) -> Self {
        Self { swarm, number, network: CrowdNetwork::Many, random_id: false }
    }

    /// Returns whether the peer is a seed. Every third peer is one.
    pub fn is_seed(self) -> bool {
        self.number.is_multiple_of(3)
    }

    /// Returns the address of the peer. In one /24, several peers share it, and differ in their ports.
    pub fn ip(self) -> IpAddr {
        let [_, high, middle, low] = (self.number as u32).to_be_bytes();
        match self.network {
            CrowdNetwork::Many => Ipv4Addr::new(10, high, middle, low).into(),
            CrowdNetwork::OneV4 => Ipv4Addr::new(10, 0, 0, (self.number % 254) as u8 + 1).into(),
            CrowdNetwork::OneV6 => Ipv6Addr::from((0xfd00 << 112) + u128::from(self.number) + 1).into(),
        }
    }

    /// Returns the parameters that the peer announces. They are the same every time.
    pub fn params(self) -> PeerParams {
        let mut own = Rng::with_seed(!self.number);
        let left = if self.is_seed() { 0 } else { own.u64(1..1 << 32) };
        let (port, uploaded, downloaded) = (own.u16(1024..), own.u64(..1 << 34), own.u64(..1 << 34));
        let mut id = *b"-qB4630-............";
        id[8..].fill_with(|| own.alphanumeric() as u8);
        if self.random_id {
            own.fill(&mut id);
        }
        PeerParams { id, port, uploaded, downloaded, left, key: own.u32(..) }
    }
}

pub struct PeerParams {
    pub id: [u8; 20],
    pub port: u16,
    pub uploaded: u64,
    pub downloaded: u64,
    pub left: u64,
    pub key: u32,
}

/// Returns the info-hash of a swarm. It looks random, and is the same in every run.
pub fn info_hash(swarm: u64) -> [u8; 20] {
    let mut hash = [0; 20];
    Rng::with_seed(swarm).fill(&mut hash);
    hash
}

/// The order in which prepared requests are sent.
pub struct SendOrder {
    count: u64,
    /// The crowd whose first swarms are preferred; `None` if all requests are equally frequent.
    preferred: Option<Crowd>,
    random: Rng,
    turn: u64,
}

impl SendOrder {
    /// Makes an order for a crowd. Every second announce is of a random peer and prefers the first swarms. The others
    /// go through all peers in turn. In a skewed crowd all go in turn: its first swarms have more peers.
    pub fn of(crowd: Crowd) -> Self {
        Self { preferred: (!crowd.skewed).then_some(crowd), ..Self::round(crowd.size()) }
    }

    /// Makes an order that goes through all requests again and again.
    pub fn round(count: u64) -> Self {
        Self { count, preferred: None, random: Rng::with_seed(7), turn: 0 }
    }

    pub fn next_index(&mut self) -> usize {
        self.turn += 1;
        let at = match self.preferred {
            Some(crowd) if self.turn % 2 == 1 => {
                let (swarm, peer) = (crowd.popular_swarm(&mut self.random), self.random.u64(..crowd.peers));
                peer * crowd.swarms + swarm
            }
            Some(_) => self.turn / 2 % self.count,
            None => self.turn % self.count,
        };
        at as usize
    }
}
