//! The load generator over UDP: one thread, some sockets, each with several announces under way.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;

use super::super::load::Outcome;
use super::batch::Batch;
use super::datagram::{self, Announce, CONNECT};

/// A reply that takes longer is lost: it has been dropped where there was no room for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a tracker is asked for a connection id.
const CONNECTING: Duration = Duration::from_secs(5);

/// For so long a connection id is good (BEP 15).
pub(crate) const LONGEST: Duration = Duration::from_mins(1);

#[derive(Clone, Copy)]
pub(crate) struct UdpLoad {
    pub(crate) target: SocketAddr,
    pub(crate) sockets: usize,
    /// Announces under way on each socket.
    pub(crate) window: usize,
    pub(crate) length: Duration,
    /// Whether there may be no peer in a reply.
    pub(crate) alone: bool,
}

impl UdpLoad {
    /// No more under way than fit in the buffer of a socket as systems come: about 270 announces.
    pub(crate) fn new(target: SocketAddr, length: Duration) -> Self {
        Self { target, sockets: 16, window: 8, length, alone: false }
    }

    /// Until the time is over or there are no more announces.
    pub(super) fn run(&self, announces: &mut dyn Iterator<Item = Announce>) -> Outcome {
        match (0..self.sockets).map(|_| Client::connect(self)).collect() {
            Ok(clients) => Engine::new(self, announces, clients).run(),
            Err(why) => {
                let mut outcome = Outcome::none();
                outcome.count(why);
                outcome
            }
        }
    }
}

/// A connection id on a socket of its own.
pub(super) fn connect(target: SocketAddr, patience: Duration) -> Result<(UdpSocket, [u8; 8]), &'static str> {
    let any = if target.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).map_err(|_| "no socket")?;
    socket.connect(target).map_err(|_| "no way to the tracker")?;
    socket.set_read_timeout(Some(Duration::from_millis(100))).map_err(|_| "no timeout")?;
    let start = Instant::now();
    let mut reply = [0; 64];
    while start.elapsed() < patience {
        // An error of either is that nobody listens yet, or no more.
        if socket.send(&CONNECT).is_ok()
            && let Ok(length) = socket.recv(&mut reply)
        {
            return datagram::connection_id(&reply[..length]).map(|id| (socket, id)).ok_or("a wrong connect reply");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("no connection id")
}

struct Client {
    socket: UdpSocket,
    connection: [u8; 8],
    /// The transactions under way, and since when. A transaction's number modulo the length is its place.
    under_way: Vec<Option<(u32, Instant)>>,
    /// The number that the next transaction in each place has.
    next: Vec<u32>,
    /// Those that were given up: what comes for them is late, and not wrong.
    lost: HashSet<u32>,
}

impl Client {
    fn connect(load: &UdpLoad) -> Result<Self, &'static str> {
        let (socket, connection) = connect(load.target, CONNECTING)?;
        socket.set_nonblocking(true).map_err(|_| "a socket that waits")?;
        let next = (0..load.window as u32).collect();
        Ok(Self { socket, connection, under_way: vec![None; load.window], next, lost: HashSet::new() })
    }

    fn is_idle(&self) -> bool {
        self.under_way.iter().all(Option::is_none)
    }

    /// Sends as many announces as there are places free.
    fn send(&mut self, announces: &mut dyn Iterator<Item = Announce>, batch: &mut Batch) -> Result<(), &'static str> {
        let now = Instant::now();
        let window = self.next.len() as u32;
        let free = self.under_way.iter_mut().zip(&mut self.next).filter(|(place, _)| place.is_none());
        let addressed = free.zip(announces).map(|((place, next), mut announce)| {
            datagram::address(&mut announce, self.connection, *next);
            *place = Some((*next, now));
            *next = next.wrapping_add(window);
            announce
        });
        let datagrams: Vec<_> = addressed.collect();
        if datagrams.is_empty() { Ok(()) } else { batch.send(&self.socket, &datagrams) }
    }

    fn receive(&mut self, batch: &mut Batch, alone: bool, outcome: &mut Outcome) {
        let Self { socket, under_way, lost, .. } = self;
        let received = batch.receive(socket, |reply| {
            let Some(transaction) = datagram::transaction(reply) else {
                return outcome.count("a reply without a number");
            };
            let place = transaction as usize % under_way.len();
            let is_awaited = under_way[place].take_if(|(other, _)| *other == transaction).is_some();
            match datagram::check(reply, alone) {
                Err(why) => outcome.count(why),
                Ok(()) if is_awaited => outcome.replies += 1,
                // One that is late has been counted.
                Ok(()) if lost.remove(&transaction) => {}
                Ok(()) => outcome.count("a reply to nothing that was asked"),
            }
        });
        if let Err(why) = received {
            outcome.count(why);
        }
    }

    /// Gives up on what has not come in time.
    fn give_up(&mut self, now: Instant, outcome: &mut Outcome) {
        for place in &mut self.under_way {
            if let Some((transaction, _)) = place.take_if(|(_, sent)| now.saturating_duration_since(*sent) > PATIENCE) {
                self.lost.insert(transaction);
                outcome.lost += 1;
            }
        }
    }
}

struct Engine<'a> {
    load: &'a UdpLoad,
    announces: &'a mut dyn Iterator<Item = Announce>,
    clients: Vec<Client>,
    epoll: OwnedFd,
    batch: Batch,
    outcome: Outcome,
}

impl<'a> Engine<'a> {
    fn new(load: &'a UdpLoad, announces: &'a mut dyn Iterator<Item = Announce>, clients: Vec<Client>) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
        for (number, client) in clients.iter().enumerate() {
            epoll::add(&epoll, &client.socket, EventData::new_u64(number as u64), EventFlags::IN).unwrap();
        }
        Self { load, announces, clients, epoll, batch: Batch::new(load.window), outcome: Outcome::none() }
    }

    fn run(mut self) -> Outcome {
        let start = Instant::now();
        let end = start + self.load.length.min(LONGEST);
        let mut looked = start;
        let mut events = Vec::with_capacity(256);
        (0..self.clients.len()).for_each(|number| self.send(number, end));
        while !self.clients.iter().all(Client::is_idle) && !self.outcome.is_hopeless() {
            let pause = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&pause)).unwrap();
            for event in events.drain(..) {
                let number = event.data.u64() as usize;
                self.clients[number].receive(&mut self.batch, self.load.alone, &mut self.outcome);
                self.send(number, end);
            }
            if looked.elapsed() > PATIENCE / 4 {
                looked = Instant::now();
                self.give_up(looked, end);
            }
        }
        self.outcome.elapsed = start.elapsed();
        self.outcome
    }

    fn send(&mut self, number: usize, end: Instant) {
        if Instant::now() < end
            && let Err(why) = self.clients[number].send(self.announces, &mut self.batch)
        {
            self.outcome.count(why);
        }
    }

    fn give_up(&mut self, now: Instant, end: Instant) {
        for number in 0..self.clients.len() {
            self.clients[number].give_up(now, &mut self.outcome);
            self.send(number, end);
        }
    }
}
