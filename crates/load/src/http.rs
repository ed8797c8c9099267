//! The load generator over HTTP. One thread serves any number of connections. Each connection has one request under
//! way.

mod connection;
pub mod reply;
pub mod requests;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags};
use rustix::fd::OwnedFd;

use self::connection::LoadConnection;
use self::reply::Expect;
use self::requests::{EachOnce, LoadSource};
use crate::outcome::LoadOutcome;

/// A reply that takes longer counts as missing.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// What is sent to which tracker, how fast and for how long.
#[derive(Clone, Copy)]
pub struct HttpLoad {
    pub target: SocketAddr,
    pub connections: usize,
    /// Whether each request has a connection of its own.
    pub close: bool,
    /// Requests per second, however slow the tracker is. `None` means as fast as the tracker answers.
    pub rate: Option<f64>,
    pub length: Duration,
    pub expect: Expect,
    /// The source address of the first connection. Each further connection has the next address. With `None`, the
    /// system chooses.
    pub first_source: Option<Ipv4Addr>,
    /// Whether to look for due requests only a thousand times a second. This adds to the latencies, but does not keep a
    /// core busy.
    pub relaxed: bool,
}

impl HttpLoad {
    /// Makes a load over kept connections that runs for `length`, as fast as the tracker answers.
    pub fn new(target: SocketAddr, length: Duration) -> Self {
        let (expect, first_source, relaxed) = (Expect::Peers, None, false);
        Self { target, connections: 64, close: false, rate: None, length, expect, first_source, relaxed }
    }

    /// Makes a load of announces that fill a tracker. Any reply counts as correct.
    pub fn filling(target: SocketAddr) -> Self {
        Self { expect: Expect::Anything, ..Self::new(target, Duration::from_secs(10)) }
    }

    /// Runs the load repeatedly until all requests were sent. Each run opens new connections, because opentracker
    /// closes a connection after half a minute, even in the middle of a request.
    pub fn run_all(&self, requests: &mut EachOnce) -> Result<(), String> {
        while !requests.is_over() {
            self.run(requests).verdict()?;
        }
        Ok(())
    }

    fn source(&self, number: u64) -> Option<Ipv4Addr> {
        self.first_source.map(|first| Ipv4Addr::from(u32::from(first) + number as u32))
    }

    pub fn run(&self, requests: &mut dyn LoadSource) -> LoadOutcome {
        HttpEngine::new(self, requests).run()
    }
}

struct HttpEngine<'a> {
    load: &'a HttpLoad,
    requests: &'a mut dyn LoadSource,
    epoll: OwnedFd,
    connections: Vec<LoadConnection>,
    idle: VecDeque<usize>,
    /// When the next request is due. Without a rate, this is unused.
    due: Instant,
    start: Instant,
    /// No request is due after this time.
    end: Instant,
    outcome: LoadOutcome,
}

impl<'a> HttpEngine<'a> {
    fn new(load: &'a HttpLoad, requests: &'a mut dyn LoadSource) -> Self {
        let now = Instant::now();
        Self {
            load,
            requests,
            epoll: epoll::create(CreateFlags::CLOEXEC).unwrap(),
            connections: (0..load.connections as u64)
                .map(|number| LoadConnection::new(number, load.source(number)))
                .collect(),
            idle: (0..load.connections).collect(),
            due: now,
            start: now,
            end: now + load.length,
            outcome: LoadOutcome::empty(),
        }
    }

    fn run(mut self) -> LoadOutcome {
        let mut checked = self.start;
        let mut events = Vec::with_capacity(256);
        loop {
            let now = Instant::now();
            self.send_due(now);
            if self.is_over(now) && self.idle.len() == self.connections.len() {
                break;
            }
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&self.wait_time(now))).unwrap();
            for event in events.drain(..) {
                self.advance(event.data.u64() as usize);
            }
            if now - checked > REPLY_TIMEOUT / 4 {
                checked = now;
                self.drop_overdue(now);
            }
        }
        self.outcome.elapsed = self.start.elapsed();
        self.outcome
    }

    /// Returns how long to wait for events.
    fn wait_time(&self, now: Instant) -> Timespec {
        let pause = match self.load.rate {
            None => Duration::from_secs(1),
            Some(_) if self.load.relaxed => Duration::from_millis(1),
            // epoll waits for whole milliseconds, so the last millisecond is spent polling.
            Some(_) => self.due.saturating_duration_since(now).saturating_sub(Duration::from_millis(1)),
        };
        Timespec::try_from(pause).unwrap()
    }

    fn send_due(&mut self, now: Instant) {
        while !self.is_over(now) && !self.idle.is_empty() {
            let due = match self.load.rate {
                None => now,
                Some(_) if self.due > now => return,
                Some(rate) => {
                    let due = self.due;
                    self.due += Duration::from_secs_f64(1.0 / rate);
                    due
                }
            };
            let Some(request) = self.requests.next() else {
                self.stop();
                return;
            };
            // The connections take turns, so that none is idle long enough for the tracker to close it.
            let Some(number) = self.idle.pop_front() else { return };
            let expect = request.expect.unwrap_or(self.load.expect);
            let connection = &mut self.connections[number];
            if let Err(why) = connection.start(&self.epoll, self.load.target, request.bytes, expect, due) {
                self.count(why);
                self.idle.push_back(number);
            }
        }
    }

    fn advance(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let Some(done) = connection.advance(&self.epoll, self.load.close) else { return };
        let now = Instant::now();
        match done {
            Ok(()) => self.outcome.replies += 1,
            Err(why) => self.count(why),
        }
        if self.load.rate.is_some() {
            let latency = now - self.connections[number].due;
            self.outcome.latencies.record(latency.as_nanos() as u64).unwrap();
        }
        self.idle.push_back(number);
        self.send_due(now);
    }

    fn count(&mut self, why: &'static str) {
        self.outcome.count_error(why);
        if self.outcome.is_hopeless() {
            self.stop();
        }
    }

    /// Whether no further request will be sent. With a rate, requests that were due before the end are sent even after
    /// it.
    fn is_over(&self, now: Instant) -> bool {
        self.end <= if self.load.rate.is_some() { self.due } else { now }
    }

    fn stop(&mut self) {
        self.end = self.start;
    }

    fn drop_overdue(&mut self, now: Instant) {
        for number in 0..self.connections.len() {
            let connection = &mut self.connections[number];
            if !connection.is_idle() && now.saturating_duration_since(connection.sent) > REPLY_TIMEOUT {
                if let Err(why) = connection.failed("a reply that did not come") {
                    self.count(why);
                }
                self.idle.push_back(number);
            }
        }
    }
}
