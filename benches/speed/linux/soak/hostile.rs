//! Hostile clients. There is one hostile client for every three other clients. Each hostile client has its own address,
//! and each kind of attack has its own thread.
//!
//! The test fails only if other clients notice the attacks. The replies to hostile clients do not matter.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use fastrand::Rng;
use load::crowd::info_hash;
use load::http::requests::escape;
use memchr::memmem::find;
use socket2::{Domain, Socket, Type};

use super::drift;

/// The number of hostile clients for each of the five kinds of attack.
const EACH: u8 = 34;

/// The number of all hostile clients. There are three times as many other clients.
pub(super) const COUNT: usize = EACH as usize * 5;

/// The pause between two attacks of a client.
const PACE: Duration = Duration::from_secs(1);

/// How many requests a pipeliner sends each second, without waiting for a reply.
const FLOOD: usize = 500;

/// How often a pipeliner tries to send and receive.
const LOOK: Duration = Duration::from_millis(10);

/// How many connections with an unfinished request each holder keeps open.
const HELD: usize = 16;

/// How the unfinished requests begin.
const BEGINNINGS: [&str; 5] = [
    "",
    "\r\n",
    "GET /announce?info_hash=",
    "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "GET /announce HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
];

/// The pause between two line breaks on a connection with an unfinished request. It is a little shorter than the time
/// that a tracker keeps an idle connection.
const KEEP_ALIVE: Duration = Duration::from_secs(14);

/// How long a hostile client waits for a reply. It need not get one.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// The swarms of hostile clients have numbers from here on, so that no other client is in them.
const FIRST_SWARM: u64 = 1 << 40;

/// The swarm of the victim, whose id hostile clients steal. The only other client in the swarm is a neighbour, which
/// checks that the victim stays registered.
const VICTIM_SWARM: u64 = FIRST_SWARM - 1;
const VICTIM_PORT: u16 = 6881;
const VICTIM: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 1);
const VICTIM_NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 3, 0, 2);

/// All hostile clients, and the victim that they must not harm.
pub(super) struct HostileClients {
    target: SocketAddr,
    /// The time at which the other clients began to announce. It determines their swarms, see [`drift`].
    start: Instant,
    /// How many replies to the victim's neighbour did not list the victim.
    missed: AtomicU64,
}

impl HostileClients {
    pub(super) fn new(target: SocketAddr, start: Instant) -> Self {
        Self { target, start, missed: AtomicU64::new(0) }
    }

    /// Starts a thread for each kind of attack. The threads run until `over` is set.
    pub(super) fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, over: &'scope AtomicBool) {
        scope.spawn(|| self.pipeline(over));
        scope.spawn(|| self.hold(over));
        scope.spawn(|| repeat(over, || self.change_ports()));
        scope.spawn(|| repeat(over, || self.steal_ids()));
        scope.spawn(|| repeat(over, || self.visit_pages()));
        scope.spawn(|| repeat(over, || self.watch_the_victim()));
    }

    /// Returns an error message if the victim was harmed.
    pub(super) fn failure(&self) -> Option<String> {
        match self.missed.load(Relaxed) {
            0 => None,
            missed => Some(format!("{missed} replies to the neighbour did not list the client whose id was stolen")),
        }
    }

    fn pipeline(&self, over: &AtomicBool) {
        let mut pipeliners: Vec<_> = (0..EACH).map(|number| Pipeliner::new(number, self.target)).collect();
        while !over.load(Relaxed) {
            pipeliners.iter_mut().for_each(Pipeliner::advance);
            thread::sleep(LOOK);
        }
    }

    fn hold(&self, over: &AtomicBool) {
        let mut held: Vec<UnfinishedRequest> = Vec::new();
        let mut alive = Instant::now();
        repeat(over, || {
            held.retain_mut(|held| !held.is_closed());
            let missing = (0..EACH).flat_map(|number| {
                let has = held.iter().filter(|held| held.number == number).count();
                (has..HELD).map(move |n| (number, BEGINNINGS[n % BEGINNINGS.len()]))
            });
            let begun: Vec<_> = missing
                .filter_map(|(number, beginning)| UnfinishedRequest::begin(number, self.target, beginning).ok())
                .collect();
            held.extend(begun);
            if alive.elapsed() > KEEP_ALIVE {
                alive = Instant::now();
                held.iter_mut().for_each(UnfinishedRequest::keep_alive);
            }
        });
    }

    /// Announces each of the attack's clients with a new port and the id that it always has.
    fn change_ports(&self) {
        for number in 0..EACH {
            let announce =
                HostileAnnounce { port: fastrand::u16(1024..), ..HostileAnnounce::of(Attack::PortChanger, number) };
            self.ask(Attack::PortChanger.address(number), &announce.request(""));
        }
    }

    /// Sends `stopped` with a random client's id. Then sends `stopped` with the victim's id, first with the victim's
    /// address in `ip=` and then without `ip=`. Last, sends an announce with the victim's id and without an event.
    fn steal_ids(&self) {
        let mut random = Rng::new();
        for number in 0..EACH {
            let peer = drift::random_peer(self.start, &mut random);
            let params = peer.params();
            let stolen =
                HostileAnnounce { swarm: peer.swarm, id: params.id, port: params.port, rest: "&event=stopped".into() };
            let victims = HostileAnnounce { rest: format!("&event=stopped&ip={VICTIM}"), ..victim() };
            for announce in [stolen, victims, HostileAnnounce { rest: "&event=stopped".into(), ..victim() }, victim()] {
                self.ask(Attack::IdStealer.address(number), &announce.request(""));
            }
        }
    }

    /// Sends `stopped` with the victim's id and address. The request has the header lines that a browser adds when a
    /// web page contains the announce URL.
    fn visit_pages(&self) {
        for number in 0..EACH {
            let page = "Origin: http://page.example\r\nReferer: http://page.example/\r\nSec-Fetch-Site: cross-site\r\n\
                Sec-Fetch-Mode: no-cors\r\n";
            let claims = HostileAnnounce { rest: format!("&event=stopped&ip={VICTIM}"), ..victim() };
            self.ask(Attack::Page.address(number), &claims.request(page));
        }
    }

    /// Announces the victim, then its neighbour. Counts the reply to the neighbour if it does not list the victim.
    fn watch_the_victim(&self) {
        self.ask(VICTIM, &victim().request(""));
        let neighbour = HostileAnnounce { id: *b"-NB0001-neighbour---", port: VICTIM_PORT, ..victim() };
        let entry = [&VICTIM.octets()[..], &VICTIM_PORT.to_be_bytes()].concat();
        // A missing reply is not counted here, because the other clients' errors show it.
        let reply = self.ask(VICTIM_NEIGHBOUR, &neighbour.request(""));
        if reply.is_some_and(|reply| find(&reply, &entry).is_none()) {
            self.missed.fetch_add(1, Relaxed);
        }
    }

    /// Sends a request on a connection of its own. Returns the reply, if there is one.
    fn ask(&self, source: Ipv4Addr, request: &str) -> Option<Vec<u8>> {
        let mut reply = Vec::new();
        let mut stream = connect(source, self.target).ok()?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).ok()?;
        stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_end(&mut reply)).ok()?;
        (!reply.is_empty()).then_some(reply)
    }
}

/// Repeats an attack until `over` is set.
fn repeat(over: &AtomicBool, mut act: impl FnMut()) {
    while !over.load(Relaxed) {
        let next = Instant::now() + PACE;
        act();
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

#[derive(Clone, Copy)]
enum Attack {
    Pipeliner,
    Holder,
    PortChanger,
    IdStealer,
    Page,
}

impl Attack {
    /// Returns the address of one client.
    fn address(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 2, self as u8, number + 1)
    }
}

/// Connects from this source address.
fn connect(source: Ipv4Addr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&target.into(), REPLY_TIMEOUT)?;
    Ok(socket.into())
}

/// The parameters of an announce.
struct HostileAnnounce {
    swarm: u64,
    id: [u8; 20],
    port: u16,
    rest: String,
}

impl HostileAnnounce {
    /// Returns an announce of a hostile client, in the swarm of its attack.
    fn of(attack: Attack, number: u8) -> Self {
        let mut id = *b"-XX0001-............";
        id[18..].copy_from_slice(&[b'a' + attack as u8, b'a' + number]);
        Self { swarm: FIRST_SWARM + attack as u64, id, port: 6881, rest: String::new() }
    }

    /// Returns the request, with these additional header lines.
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

fn victim() -> HostileAnnounce {
    HostileAnnounce { swarm: VICTIM_SWARM, id: *b"-VI0001-victim------", port: VICTIM_PORT, rest: String::new() }
}

/// A client that sends floods of requests on one connection. It reads replies only because the tracker would otherwise
/// stop reading requests.
struct Pipeliner {
    source: Ipv4Addr,
    target: SocketAddr,
    flood: Vec<u8>,
    stream: Option<TcpStream>,
    /// How many bytes of this second's flood were sent.
    sent: usize,
    next: Instant,
}

impl Pipeliner {
    fn new(number: u8, target: SocketAddr) -> Self {
        let announce = HostileAnnounce::of(Attack::Pipeliner, number).request("").replace("Connection: close\r\n", "");
        let source = Attack::Pipeliner.address(number);
        let flood = announce.repeat(FLOOD).into_bytes();
        Self { source, target, flood, stream: None, sent: 0, next: Instant::now() }
    }

    /// Sends and receives as much as possible without blocking.
    fn advance(&mut self) {
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

/// A connection with an unfinished request.
struct UnfinishedRequest {
    number: u8,
    stream: TcpStream,
}

impl UnfinishedRequest {
    fn begin(number: u8, target: SocketAddr, beginning: &str) -> io::Result<Self> {
        let mut stream = connect(Attack::Holder.address(number), target)?;
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

    fn keep_alive(&mut self) {
        // An error is ignored here, because the next `is_closed` notices a closed connection.
        let _ = self.stream.write_all(b"\r\n");
    }
}
