//! One connection of the load generator: a request out, a reply in, never waiting.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use super::reply::{self, Expect};

/// More than a reply has, so that one read takes all of it.
const BUFFER: usize = 16 << 10;

pub(crate) struct Connection {
    /// What epoll calls it.
    number: u64,
    /// Where it comes from, if the system does not choose.
    source: Option<Ipv4Addr>,
    socket: Option<OwnedFd>,
    state: State,
    request: Vec<u8>,
    reply: Vec<u8>,
    expect: Expect,
    /// When the request was due, which is before it was sent when the tracker lags behind.
    pub(crate) due: Instant,
    pub(crate) sent: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// It is still being connected.
    Sending,
    Receiving,
}

pub(crate) type Done = Result<(), &'static str>;

impl Connection {
    pub(crate) fn new(number: u64, source: Option<Ipv4Addr>) -> Self {
        let (request, reply) = (Vec::with_capacity(1024), Vec::with_capacity(BUFFER));
        let (state, expect, now) = (State::Idle, Expect::Anything, Instant::now());
        Self { number, source, socket: None, state, request, reply, expect, due: now, sent: now }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Sends a request, over a new connection if there is none.
    pub(crate) fn start(
        &mut self,
        epoll: &OwnedFd,
        target: SocketAddr,
        request: &[u8],
        expect: Expect,
        due: Instant,
    ) -> Done {
        (self.expect, self.due, self.sent) = (expect, due, Instant::now());
        self.reply.clear();
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(connect(self.source, target).map_err(|_| "a connection that was refused")?),
        };
        let is_new = self.request.is_empty();
        let sent = rustix::net::send(socket, request, SendFlags::NOSIGNAL);
        let (state, wanted) = match sent {
            Ok(length) if length == request.len() => (State::Receiving, EventFlags::IN),
            Err(Errno::AGAIN | Errno::NOTCONN) if is_new => (State::Sending, EventFlags::OUT),
            Ok(_) | Err(_) => return self.failed("a request that could not be sent"),
        };
        self.state = state;
        if is_new {
            self.request.extend_from_slice(request);
            epoll::add(epoll, socket, EventData::new_u64(self.number), wanted).unwrap();
        }
        Ok(())
    }

    /// Goes on after an event; gives the outcome once there is one.
    pub(crate) fn advance(&mut self, epoll: &OwnedFd, close: bool) -> Option<Done> {
        let socket = self.socket.as_ref()?;
        match self.state {
            State::Sending => {
                if rustix::net::send(socket, &self.request, SendFlags::NOSIGNAL) != Ok(self.request.len()) {
                    return Some(self.failed("a connection that was refused"));
                }
                self.state = State::Receiving;
                epoll::modify(epoll, socket, EventData::new_u64(self.number), EventFlags::IN).unwrap();
                None
            }
            State::Receiving => self.receive(close),
            State::Idle => {
                // A tracker may close what it was told to keep, and may not send without being asked.
                self.disconnect();
                None
            }
        }
    }

    fn receive(&mut self, close: bool) -> Option<Done> {
        let socket = self.socket.as_ref()?;
        self.reply.reserve(1024);
        let ended = match rustix::io::read(socket, spare_capacity(&mut self.reply)) {
            Ok(length) => length == 0,
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Err(_) => return Some(self.failed("a connection that was reset")),
        };
        // Who closes after each reply has to be seen doing it.
        if close && !ended {
            return None;
        }
        let done = reply::check(&self.reply, ended, self.expect)?;
        if ended || done.is_err() {
            self.disconnect();
        }
        self.state = State::Idle;
        Some(done)
    }

    /// Gives up what is under way.
    pub(crate) fn failed(&mut self, why: &'static str) -> Done {
        self.disconnect();
        Err(why)
    }

    fn disconnect(&mut self) {
        // Closing takes it out of epoll's list, too.
        self.socket = None;
        self.request.clear();
        self.state = State::Idle;
    }
}

fn connect(source: Option<Ipv4Addr>, target: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if let Some(source) = source {
        rustix::net::bind(&socket, &SocketAddr::from((source, 0)))?;
    }
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}
