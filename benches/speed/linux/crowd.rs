//! Who announces, and in which order.

use std::net::Ipv4Addr;

use fastrand::Rng;

/// So many peers in each of so many swarms.
#[derive(Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) swarms: u64,
    pub(crate) peers: u64,
    /// The number of its first swarm, so that crowds can be told apart.
    pub(crate) first: u64,
    /// Whether popular swarms are large, the more popular the larger; `peers` is then what a swarm has on average.
    pub(crate) grown: bool,
}

impl Crowd {
    /// What most figures are measured with.
    pub(crate) const USUAL: Self = Self::new(10_000, 5);

    pub(crate) const fn new(swarms: u64, peers: u64) -> Self {
        Self { swarms, peers, first: 0, grown: false }
    }

    pub(crate) fn size(self) -> u64 {
        self.swarms * self.peers
    }

    /// The peers are numbered so that neighbours are in different swarms, as they come in life.
    pub(crate) fn peer(self, number: u64) -> Peer {
        let swarm = if self.grown { self.favoured(&mut Rng::with_seed(number)) } else { number % self.swarms };
        Peer { swarm: self.first + swarm, number: self.first + number }
    }

    /// A swarm by popularity: the first are favoured, the more the nearer.
    fn favoured(self, random: &mut Rng) -> u64 {
        (random.f64().powi(4) * self.swarms as f64) as u64
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) swarm: u64,
    pub(crate) number: u64,
}

impl Peer {
    /// One in three has everything.
    pub(crate) fn is_seed(self) -> bool {
        self.number.is_multiple_of(3)
    }

    /// An address of its own.
    pub(crate) fn ip(self) -> Ipv4Addr {
        let [_, high, middle, low] = (self.number as u32).to_be_bytes();
        [10, high, middle, low].into()
    }

    /// What it says of itself, the same every time.
    pub(crate) fn client(self) -> Client {
        let mut own = Rng::with_seed(!self.number);
        let left = if self.is_seed() { 0 } else { own.u64(1..1 << 32) };
        let (port, uploaded, downloaded) = (own.u16(1024..), own.u64(..1 << 34), own.u64(..1 << 34));
        let mut id = *b"-qB4630-............";
        id[8..].fill_with(|| own.alphanumeric() as u8);
        Client { id, port, uploaded, downloaded, left, key: own.u32(..) }
    }
}

pub(crate) struct Client {
    pub(crate) id: [u8; 20],
    pub(crate) port: u16,
    pub(crate) uploaded: u64,
    pub(crate) downloaded: u64,
    pub(crate) left: u64,
    pub(crate) key: u32,
}

/// As arbitrary as hashes are, and the same in every run.
pub(crate) fn info_hash(swarm: u64) -> [u8; 20] {
    let mut hash = [0; 20];
    Rng::with_seed(swarm).fill(&mut hash);
    hash
}

/// In which order those announce who are written beforehand.
pub(crate) struct Turns {
    count: u64,
    /// Of whom some swarms are favoured; none when all have their turn.
    favour: Option<Crowd>,
    random: Rng,
    turn: u64,
}

impl Turns {
    pub(crate) fn of(crowd: Crowd) -> Self {
        Self { favour: (!crowd.grown).then_some(crowd), ..Self::round(crowd.size()) }
    }

    /// One after the other, again and again.
    pub(crate) fn round(count: u64) -> Self {
        Self { count, favour: None, random: Rng::with_seed(7), turn: 0 }
    }

    pub(crate) fn next(&mut self) -> usize {
        self.turn += 1;
        let at = match self.favour {
            // Every other one goes round all of them, those between do not.
            Some(crowd) if self.turn % 2 == 1 => {
                let (swarm, peer) = (crowd.favoured(&mut self.random), self.random.u64(..crowd.peers));
                peer * crowd.swarms + swarm
            }
            Some(_) => self.turn / 2 % self.count,
            None => self.turn % self.count,
        };
        at as usize
    }
}
