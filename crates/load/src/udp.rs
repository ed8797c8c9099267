//! The load generator over UDP (BEP 15). One thread serves several sockets. Each socket has several announces under
//! way.

mod batch;
mod datagram;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;

use self::batch::Batch;
use self::datagram::{AnnounceDatagram, CONNECT};
use crate::crowd::{Crowd, SendOrder};
use crate::outcome::LoadOutcome;

/// A reply that takes longer counts as lost, because some buffer had no room for it.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the load goes on asking for a connection id before it fails.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection id is valid for this long (BEP 15), so no load may be longer.
pub const MAX_LENGTH: Duration = Duration::from_mins(1);

/// What is sent to which tracker, and for how long.
#[derive(Clone, Copy)]
pub struct UdpLoad {
    pub target: SocketAddr,
    pub sockets: usize,
    /// Announces under way on each socket.
    pub window: usize,
    pub length: Duration,
    /// Whether a reply may have no peers.
    pub may_be_empty: bool,
}

impl UdpLoad {
    /// Makes a load of the usual size. Its announces under way fit into the default buffer of a socket, which holds
    /// about 270 announces.
    pub fn new(target: SocketAddr, length: Duration) -> Self {
        Self { target, sockets: 16, window: 8, length, may_be_empty: false }
    }

    pub fn run(&self, announces: &mut PreparedAnnounces) -> LoadOutcome {
        let PreparedAnnounces { datagrams, order } = announces;
        self.run_datagrams(&mut std::iter::repeat_with(|| datagrams[order.next_index()]))
    }

    /// Runs the load until its time is over, or until there are no more announces.
    fn run_datagrams(&self, announces: &mut dyn Iterator<Item = AnnounceDatagram>) -> LoadOutcome {
        match (0..self.sockets).map(|_| UdpSender::connect(self)).collect() {
            Ok(senders) => UdpEngine::new(self, announces, senders).run(),
            Err(why) => {
                let mut outcome = LoadOutcome::empty();
                outcome.count_error(why);
                outcome
            }
        }
    }
}

/// Announces each peer of a crowd once, with a `numwant` of 0.
pub fn fill(target: SocketAddr, crowd: Crowd) -> Result<(), String> {
    let load = UdpLoad { may_be_empty: true, ..UdpLoad::new(target, MAX_LENGTH) };
    let outcome = load.run_datagrams(&mut (0..crowd.size()).map(|number| datagram::announce(crowd.peer(number), 0)));
    outcome.verdict()?;
    if outcome.replies == crowd.size() { Ok(()) } else { Err(format!("{} announces were lost", outcome.lost)) }
}

/// Waits until a tracker issues connection ids.
pub fn wait_for(target: SocketAddr, timeout: Duration) -> Result<(), &'static str> {
    connect(target, timeout).map(drop)
}

/// The announces of a crowd. They are written beforehand, so that sending them costs little.
pub struct PreparedAnnounces {
    datagrams: Vec<AnnounceDatagram>,
    order: SendOrder,
}

impl PreparedAnnounces {
    pub fn new(crowd: Crowd, numwant: u32) -> Self {
        let write = |number| datagram::announce(crowd.peer(number), numwant);
        Self { datagrams: (0..crowd.size()).map(write).collect(), order: SendOrder::of(crowd) }
    }
}

/// Opens a socket and gets a connection id.
fn connect(target: SocketAddr, timeout: Duration) -> Result<(UdpSocket, [u8; 8]), &'static str> {
    let any = if target.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).map_err(|_| "no socket")?;
    socket.connect(target).map_err(|_| "no route to the tracker")?;
    socket.set_read_timeout(Some(Duration::from_millis(100))).map_err(|_| "no timeout")?;
    let start = Instant::now();
    let mut reply = [0; 64];
    while start.elapsed() < timeout {
        // Sending and receiving can fail until the tracker listens.
        if socket.send(&CONNECT).is_ok()
            && let Ok(length) = socket.recv(&mut reply)
        {
            return datagram::connection_id(&reply[..length]).map(|id| (socket, id)).ok_or("a wrong connect reply");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("no connection id")
}

struct UdpSender {
    socket: UdpSocket,
    connection: [u8; 8],
    /// The transactions under way, and when each was sent. The index of a transaction is its id modulo the length of
    /// this list.
    under_way: Vec<Option<(u32, Instant)>>,
    /// The id of the next transaction at each index.
    next: Vec<u32>,
    /// Transactions that were given up. A reply to one of them is late, not wrong.
    lost: HashSet<u32>,
}

impl UdpSender {
    fn connect(load: &UdpLoad) -> Result<Self, &'static str> {
        let (socket, connection) = connect(load.target, CONNECT_TIMEOUT)?;
        socket.set_nonblocking(true).map_err(|_| "a socket that blocks")?;
        let next = (0..load.window as u32).collect();
        Ok(Self { socket, connection, under_way: vec![None; load.window], next, lost: HashSet::new() })
    }

    fn is_idle(&self) -> bool {
        self.under_way.iter().all(Option::is_none)
    }

    /// Sends as many announces as the window has room for.
    fn send(
        &mut self,
        announces: &mut dyn Iterator<Item = AnnounceDatagram>,
        batch: &mut Batch,
    ) -> Result<(), &'static str> {
        let now = Instant::now();
        let window = self.next.len() as u32;
        let free = self.under_way.iter_mut().zip(&mut self.next).filter(|(slot, _)| slot.is_none());
        let addressed = free.zip(announces).map(|((slot, next), mut announce)| {
            datagram::address(&mut announce, self.connection, *next);
            *slot = Some((*next, now));
            *next = next.wrapping_add(window);
            announce
        });
        let datagrams: Vec<_> = addressed.collect();
        if datagrams.is_empty() { Ok(()) } else { batch.send(&self.socket, &datagrams) }
    }

    fn receive(&mut self, batch: &mut Batch, load: &UdpLoad, outcome: &mut LoadOutcome) {
        let (is_v6, may_be_empty) = (load.target.is_ipv6(), load.may_be_empty);
        let Self { socket, under_way, lost, .. } = self;
        let received = batch.receive(socket, |reply| {
            let Some(transaction) = datagram::transaction(reply) else {
                return outcome.count_error("a reply without a transaction id");
            };
            let slot = transaction as usize % under_way.len();
            let is_awaited = under_way[slot].take_if(|(other, _)| *other == transaction).is_some();
            match datagram::check(reply, is_v6, may_be_empty) {
                Err(why) => outcome.count_error(why),
                Ok(()) if is_awaited => outcome.replies += 1,
                // A late reply has already been counted as lost.
                Ok(()) if lost.remove(&transaction) => {}
                Ok(()) => outcome.count_error("a reply to no request"),
            }
        });
        if let Err(why) = received {
            outcome.count_error(why);
        }
    }

    /// Counts overdue replies as lost.
    fn give_up(&mut self, now: Instant, outcome: &mut LoadOutcome) {
        for slot in &mut self.under_way {
            if let Some((transaction, _)) =
                slot.take_if(|(_, sent)| now.saturating_duration_since(*sent) > REPLY_TIMEOUT)
            {
                self.lost.insert(transaction);
                outcome.lost += 1;
            }
        }
    }
}

struct UdpEngine<'a> {
    load: &'a UdpLoad,
    announces: &'a mut dyn Iterator<Item = AnnounceDatagram>,
    senders: Vec<UdpSender>,
    epoll: OwnedFd,
    batch: Batch,
    outcome: LoadOutcome,
}

impl<'a> UdpEngine<'a> {
    fn new(
        load: &'a UdpLoad,
        announces: &'a mut dyn Iterator<Item = AnnounceDatagram>,
        senders: Vec<UdpSender>,
    ) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
        for (number, sender) in senders.iter().enumerate() {
            epoll::add(&epoll, &sender.socket, EventData::new_u64(number as u64), EventFlags::IN).unwrap();
        }
        Self { load, announces, senders, epoll, batch: Batch::new(load.window), outcome: LoadOutcome::empty() }
    }

    fn run(mut self) -> LoadOutcome {
        let start = Instant::now();
        let end = start + self.load.length.min(MAX_LENGTH);
        let mut checked = start;
        let mut events = Vec::with_capacity(256);
        (0..self.senders.len()).for_each(|number| self.send(number, end));
        while !self.senders.iter().all(UdpSender::is_idle) && !self.outcome.is_hopeless() {
            let pause = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&pause)).unwrap();
            for event in events.drain(..) {
                let number = event.data.u64() as usize;
                self.senders[number].receive(&mut self.batch, self.load, &mut self.outcome);
                self.send(number, end);
            }
            if checked.elapsed() > REPLY_TIMEOUT / 4 {
                checked = Instant::now();
                self.give_up(checked, end);
            }
        }
        self.outcome.elapsed = start.elapsed();
        self.outcome
    }

    fn send(&mut self, number: usize, end: Instant) {
        if Instant::now() < end
            && let Err(why) = self.senders[number].send(self.announces, &mut self.batch)
        {
            self.outcome.count_error(why);
        }
    }

    fn give_up(&mut self, now: Instant, end: Instant) {
        for number in 0..self.senders.len() {
            self.senders[number].give_up(now, &mut self.outcome);
            self.send(number, end);
        }
    }
}
