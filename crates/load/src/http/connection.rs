//! One connection of the load generator. It sends a request and receives the reply without blocking.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};

use super::reply::{self, Expect};

/// Larger than a reply, so that one read takes all of it.
const BUFFER: usize = 16 << 10;

pub(super) struct LoadConnection {
    /// The number with which epoll reports this connection's events.
    number: u64,
    /// The source address; `None` if the system chooses.
    source: Option<Ipv4Addr>,
    socket: Option<OwnedFd>,
    state: ConnectionState,
    request: Vec<u8>,
    reply: Vec<u8>,
    expect: Expect,
    /// When the request was due. If the tracker lags behind, this is earlier than `sent`.
    pub(super) due: Instant,
    pub(super) sent: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    Idle,
    /// The connection is being opened. The request is sent once it is open.
    Sending,
    Receiving,
}

pub(super) type Done = Result<(), &'static str>;

impl LoadConnection {
    pub(super) fn new(number: u64, source: Option<Ipv4Addr>) -> Self {
        let (request, reply) = (Vec::with_capacity(1024), Vec::with_capacity(BUFFER));
        let (state, expect, now) = (ConnectionState::Idle, Expect::Anything, Instant::now());
        Self { number, source, socket: None, state, request, reply, expect, due: now, sent: now }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state == ConnectionState::Idle
    }

    /// Sends a request. Opens a connection if there is none.
    pub(super) fn start(
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
            None => self.socket.insert(connect(self.source, target).map_err(|_| "a refused connection")?),
        };
        let is_new = self.request.is_empty();
        let sent = rustix::net::send(socket, request, SendFlags::NOSIGNAL);
        let (state, wanted) = match sent {
            Ok(length) if length == request.len() => (ConnectionState::Receiving, EventFlags::IN),
            Err(Errno::AGAIN | Errno::NOTCONN) if is_new => (ConnectionState::Sending, EventFlags::OUT),
            Ok(_) | Err(_) => return self.failed("a request that could not be sent"),
        };
        self.state = state;
        if is_new {
            self.request.extend_from_slice(request);
            epoll::add(epoll, socket, EventData::new_u64(self.number), wanted).unwrap();
        }
        Ok(())
    }

    /// Handles an event. Returns the outcome of the request once there is one.
    pub(super) fn advance(&mut self, epoll: &OwnedFd, close: bool) -> Option<Done> {
        let socket = self.socket.as_ref()?;
        match self.state {
            ConnectionState::Sending => {
                if rustix::net::send(socket, &self.request, SendFlags::NOSIGNAL) != Ok(self.request.len()) {
                    return Some(self.failed("a refused connection"));
                }
                self.state = ConnectionState::Receiving;
                epoll::modify(epoll, socket, EventData::new_u64(self.number), EventFlags::IN).unwrap();
                None
            }
            ConnectionState::Receiving => self.receive(close),
            ConnectionState::Idle => {
                // Either the tracker closed a kept connection, which is allowed, or it wrongly sent bytes without a
                // request.
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
            Err(_) => return Some(self.failed("a connection reset")),
        };
        // With one connection per request, the reply is complete only after the tracker has closed the connection.
        if close && !ended {
            return None;
        }
        let done = reply::check(&self.reply, ended, self.expect)?;
        if ended || done.is_err() {
            self.disconnect();
        }
        self.state = ConnectionState::Idle;
        Some(done)
    }

    /// Gives up the request under way.
    pub(super) fn failed(&mut self, why: &'static str) -> Done {
        self.disconnect();
        Err(why)
    }

    fn disconnect(&mut self) {
        // Closing also removes the socket from epoll.
        self.socket = None;
        self.request.clear();
        self.state = ConnectionState::Idle;
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
