//! Clients that mean harm, one for every three that do not. Each has an address of its own, and each kind a thread.
//!
//! What they are answered does not matter. What matters is what the others see of it.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use fastrand::Rng;
use memchr::memmem::find;
use socket2::{Domain, Socket, Type};

use super::super::crowd::info_hash;
use super::super::requests::escape;
use super::drift;

/// Clients of each of the five kinds.
const EACH: u8 = 34;

/// All clients that mean harm. Three times as many mean none.
pub(super) const COUNT: usize = EACH as usize * 5;

/// How often each does what it does.
const PACE: Duration = Duration::from_secs(1);

/// Requests that a pipeliner sends without waiting for a reply, once a second.
const FLOOD: usize = 500;

/// How often a pipeliner looks whether it can send or receive.
const LOOK: Duration = Duration::from_millis(10);

/// Connections that a holder has begun something on.
const HELD: usize = 16;

/// What it begins. None of it is a request to the end.
const BEGINNINGS: [&str; 5] = [
    "",
    "\r\n",
    "GET /announce?info_hash=",
    "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET /announce HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
];

/// A little less than what a tracker waits for the next request.
const SIGN_OF_LIFE: Duration = Duration::from_secs(14);

/// A reply to a hostile client may not come at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// Swarms of the hostile, which are none of the others'.
const FIRST_SWARM: u64 = 1 << 40;

/// The swarm and the port of the victim, which speaks for itself.
const VICTIMS_SWARM: u64 = FIRST_SWARM - 1;
const VICTIMS_PORT: u16 = 6881;
const VICTIM: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 1);
const VICTIMS_NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 2);

/// All of them, and the victim that they must not harm.
pub(super) struct Hostile {
    target: SocketAddr,
    /// When the swarms of the others began to come and go.
    start: Instant,
    /// How often the victim's neighbour was not told of the victim.
    missed: AtomicU64,
}

impl Hostile {
    pub(super) fn new(target: SocketAddr, start: Instant) -> Self {
        Self { target, start, missed: AtomicU64::new(0) }
    }

    /// Starts them. They go on until it is over.
    pub(super) fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, over: &'scope AtomicBool) {
        scope.spawn(|| self.pipeline(over));
        scope.spawn(|| self.hold(over));
        scope.spawn(|| repeat(over, || self.change_ports()));
        scope.spawn(|| repeat(over, || self.steal_ids()));
        scope.spawn(|| repeat(over, || self.visit_pages()));
        scope.spawn(|| repeat(over, || self.watch_the_victim()));
    }

    /// What they have done to the victim.
    pub(super) fn failure(&self) -> Option<String> {
        match self.missed.load(Relaxed) {
            0 => None,
            missed => Some(format!("{missed} times: a neighbour is not told of the client whose id is stolen")),
        }
    }

    fn pipeline(&self, over: &AtomicBool) {
        let mut pipeliners: Vec<_> = (0..EACH).map(|number| Pipeliner::new(number, self.target)).collect();
        while !over.load(Relaxed) {
            pipeliners.iter_mut().for_each(Pipeliner::go_on);
            thread::sleep(LOOK);
        }
    }

    fn hold(&self, over: &AtomicBool) {
        let mut held: Vec<Held> = Vec::new();
        let mut alive = Instant::now();
        repeat(over, || {
            held.retain_mut(|held| !held.is_closed());
            let missing = (0..EACH).flat_map(|number| {
                let has = held.iter().filter(|held| held.number == number).count();
                (has..HELD).map(move |n| (number, BEGINNINGS[n % BEGINNINGS.len()]))
            });
            let begun: Vec<_> =
                missing.filter_map(|(number, beginning)| Held::begin(number, self.target, beginning).ok()).collect();
            held.extend(begun);
            if alive.elapsed() > SIGN_OF_LIFE {
                alive = Instant::now();
                held.iter_mut().for_each(Held::give_a_sign_of_life);
            }
        });
    }

    /// One id, another port each time.
    fn change_ports(&self) {
        for number in 0..EACH {
            let announce = Announce { port: fastrand::u16(1024..), ..Announce::of(Kind::PortChanger, number) };
            self.ask(Kind::PortChanger.address(number), &announce.request(""));
        }
    }

    /// Signs others off: a client by its id, the same at the address that it claims, and the victim.
    fn steal_ids(&self) {
        let mut random = Rng::new();
        for number in 0..EACH {
            let peer = drift::anyone(self.start, &mut random);
            let client = peer.client();
            let stolen =
                Announce { swarm: peer.swarm, id: client.id, port: client.port, rest: "&event=stopped".into() };
            let victims = Announce { rest: format!("&event=stopped&ip={VICTIM}"), ..victim() };
            for announce in [stolen, victims, Announce { rest: "&event=stopped".into(), ..victim() }, victim()] {
                self.ask(Kind::IdStealer.address(number), &announce.request(""));
            }
        }
    }

    /// A page of the web that has the browser announce the victim somewhere else.
    fn visit_pages(&self) {
        for number in 0..EACH {
            let page = "Origin: http://page.example\r\nReferer: http://page.example/\r\nSec-Fetch-Site: cross-site\r\n\
                Sec-Fetch-Mode: no-cors\r\n";
            let claims = Announce { rest: format!("&event=stopped&ip={VICTIM}"), ..victim() };
            self.ask(Kind::Page.address(number), &claims.request(page));
        }
    }

    /// The victim announces, and then its neighbour.
    fn watch_the_victim(&self) {
        self.ask(VICTIM, &victim().request(""));
        let neighbour = Announce { id: *b"-NB0001-neighbour---", port: VICTIMS_PORT, ..victim() };
        let entry = [&VICTIM.octets()[..], &VICTIMS_PORT.to_be_bytes()].concat();
        // A reply that does not come is counted where the others' are.
        let reply = self.ask(VICTIMS_NEIGHBOUR, &neighbour.request(""));
        if reply.is_some_and(|reply| find(&reply, &entry).is_none()) {
            self.missed.fetch_add(1, Relaxed);
        }
    }

    /// A request with a connection of its own. None if nothing comes back.
    fn ask(&self, source: Ipv4Addr, request: &str) -> Option<Vec<u8>> {
        let mut reply = Vec::new();
        let mut stream = connect(source, self.target).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut reply)).ok()?;
        (!reply.is_empty()).then_some(reply)
    }
}

/// Does something again and again until it is over.
fn repeat(over: &AtomicBool, mut act: impl FnMut()) {
    while !over.load(Relaxed) {
        let next = Instant::now() + PACE;
        act();
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Pipeliner,
    Holder,
    PortChanger,
    IdStealer,
    Page,
}

impl Kind {
    /// Of one of them.
    fn address(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 2, self as u8, number + 1)
    }
}

/// Connects from one of this host's addresses.
fn connect(source: Ipv4Addr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&target.into(), PATIENCE)?;
    Ok(socket.into())
}

/// What a client says of itself.
struct Announce {
    swarm: u64,
    id: [u8; 20],
    port: u16,
    rest: String,
}

impl Announce {
    /// Of a hostile client in a swarm of its kind.
    fn of(kind: Kind, number: u8) -> Self {
        let mut id = *b"-XX0001-............";
        id[18..].copy_from_slice(&[b'a' + kind as u8, b'a' + number]);
        Self { swarm: FIRST_SWARM + kind as u64, id, port: 6881, rest: String::new() }
    }

    /// On a connection of its own, with these lines in its head.
    fn request(&self, lines: &str) -> String {
        let mut request = "GET /announce?info_hash=".to_owned();
        escape(&info_hash(self.swarm), &mut request);
        request.push_str("&peer_id=");
        escape(&self.id, &mut request);
        let Self { port, rest, .. } = self;
        write!(request, "&port={port}&left=1&compact=1{rest} HTTP/1.1\r\nHost: tracker\r\n{lines}").unwrap();
        request.push_str("Connection: close\r\n\r\n");
        request
    }
}

fn victim() -> Announce {
    Announce { swarm: VICTIMS_SWARM, id: *b"-VI0001-victim------", port: VICTIMS_PORT, rest: String::new() }
}

/// A connection on which floods of requests are sent. It reads what comes back only to have room for more.
struct Pipeliner {
    source: Ipv4Addr,
    target: SocketAddr,
    flood: Vec<u8>,
    stream: Option<TcpStream>,
    /// Bytes of the flood that have gone out.
    sent: usize,
    next: Instant,
}

impl Pipeliner {
    fn new(number: u8, target: SocketAddr) -> Self {
        let announce = Announce::of(Kind::Pipeliner, number).request("").replace("Connection: close\r\n", "");
        let source = Kind::Pipeliner.address(number);
        let flood = announce.repeat(FLOOD).into_bytes();
        Self { source, target, flood, stream: None, sent: 0, next: Instant::now() }
    }

    /// Sends and receives what can be without waiting.
    fn go_on(&mut self) {
        if self.sent == self.flood.len() && Instant::now() >= self.next {
            (self.sent, self.next) = (0, Instant::now() + PACE);
        }
        if self.exchange().is_err() {
            (self.stream, self.sent) = (None, self.flood.len());
        }
    }

    fn exchange(&mut self) -> io::Result<()> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = connect(self.source, self.target)?;
                stream.set_nonblocking(true)?;
                none.insert(stream)
            }
        };
        while self.sent < self.flood.len() {
            match stream.write(&self.flood[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let mut replies = [0; 16 << 10];
        loop {
            match stream.read(&mut replies) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A connection on which something was begun.
struct Held {
    number: u8,
    stream: TcpStream,
}

impl Held {
    fn begin(number: u8, target: SocketAddr, beginning: &str) -> io::Result<Self> {
        let mut stream = connect(Kind::Holder.address(number), target)?;
        stream.write_all(beginning.as_bytes())?;
        stream.set_nonblocking(true)?;
        Ok(Self { number, stream })
    }

    fn is_closed(&mut self) -> bool {
        let mut reply = [0; 4096];
        loop {
            match self.stream.read(&mut reply) {
                Ok(1..) => {}
                Ok(0) => return true,
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }

    fn give_a_sign_of_life(&mut self) {
        // One that is closed is seen the next time.
        let _ = self.stream.write_all(b"\r\n");
    }
}
