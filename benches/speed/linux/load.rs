//! The load generator: one thread, as many connections as wanted, each with one request under way.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags};
use rustix::fd::OwnedFd;

use super::connection::Connection;
use super::reply::Expect;
use super::requests::{EachOnce, Requests};

/// A reply that takes longer has not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// More of them end a load.
const TOO_MANY_ERRORS: u64 = 1000;

#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) target: SocketAddr,
    pub(crate) connections: usize,
    /// A connection for each request.
    pub(crate) close: bool,
    /// Requests a second, whatever the tracker does; as fast as it can when there is none.
    pub(crate) rate: Option<f64>,
    pub(crate) length: Duration,
    pub(crate) expect: Expect,
    /// The address from which the first connection comes, the next one coming from the next address; none for what the
    /// system chooses.
    pub(crate) first_source: Option<Ipv4Addr>,
    /// Looks a thousand times a second for what is due, which shows in latencies but spares a core.
    pub(crate) relaxed: bool,
}

impl Load {
    /// For so long, over kept connections, as fast as the tracker can.
    pub(crate) fn new(target: SocketAddr, length: Duration) -> Self {
        let (expect, first_source, relaxed) = (Expect::Peers, None, false);
        Self { target, connections: 64, close: false, rate: None, length, expect, first_source, relaxed }
    }

    /// What fills a tracker.
    pub(crate) fn filling(target: SocketAddr) -> Self {
        Self { expect: Expect::Anything, ..Self::new(target, Duration::from_secs(10)) }
    }

    /// Until everybody has announced. No connection takes longer than the load's length: opentracker closes those that it
    /// has kept for half a minute, in the middle of a request.
    pub(crate) fn run_all(&self, requests: &mut EachOnce) -> Result<(), String> {
        while !requests.is_over() {
            self.run(requests).verdict()?;
        }
        Ok(())
    }

    fn source(&self, number: u64) -> Option<Ipv4Addr> {
        self.first_source.map(|first| Ipv4Addr::from(u32::from(first) + number as u32))
    }

    pub(crate) fn run(&self, requests: &mut dyn Requests) -> Outcome {
        Engine::new(self, requests).run()
    }
}

/// What came of it.
pub(crate) struct Outcome {
    /// Right ones.
    pub(crate) replies: u64,
    /// Over UDP: requests that have had no reply.
    pub(crate) lost: u64,
    pub(crate) errors: BTreeMap<&'static str, u64>,
    pub(crate) elapsed: Duration,
    /// In nanoseconds since each request was due; only of a load with a rate.
    pub(crate) latencies: Histogram<u64>,
}

impl Outcome {
    pub(crate) fn none() -> Self {
        let latencies = Histogram::new(3).unwrap();
        Self { replies: 0, lost: 0, errors: BTreeMap::new(), elapsed: Duration::ZERO, latencies }
    }

    /// Of two loads at the same time.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.replies += other.replies;
        self.lost += other.lost;
        other.errors.into_iter().for_each(|(why, count)| *self.errors.entry(why).or_default() += count);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.latencies += other.latencies;
        self
    }

    pub(crate) fn count(&mut self, why: &'static str) {
        *self.errors.entry(why).or_default() += 1;
    }

    /// Whether there are so many errors that nothing is measured any more.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.errors.values().sum::<u64>() > TOO_MANY_ERRORS
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.replies as f64 / self.elapsed.as_secs_f64()
    }

    /// In milliseconds.
    pub(crate) fn quantile(&self, fraction: f64) -> f64 {
        self.latencies.value_at_quantile(fraction) as f64 / 1e6
    }

    /// The first error, if there was one.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        if self.errors.is_empty() && self.replies > 0 {
            return Ok(());
        }
        Err(format!("{} right replies, errors: {:?}", self.replies, self.errors))
    }
}

struct Engine<'a> {
    load: &'a Load,
    requests: &'a mut dyn Requests,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    /// When the next request is due; of no matter without a rate.
    due: Instant,
    start: Instant,
    /// When there are no more.
    end: Instant,
    outcome: Outcome,
}

impl<'a> Engine<'a> {
    fn new(load: &'a Load, requests: &'a mut dyn Requests) -> Self {
        let now = Instant::now();
        Self {
            load,
            requests,
            epoll: epoll::create(CreateFlags::CLOEXEC).unwrap(),
            connections: (0..load.connections as u64)
                .map(|number| Connection::new(number, load.source(number)))
                .collect(),
            idle: (0..load.connections).collect(),
            due: now,
            start: now,
            end: now + load.length,
            outcome: Outcome::none(),
        }
    }

    fn run(mut self) -> Outcome {
        let mut checked = self.start;
        let mut events = Vec::with_capacity(256);
        loop {
            let now = Instant::now();
            self.send_what_is_due(now);
            if self.is_over(now) && self.idle.len() == self.connections.len() {
                break;
            }
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&self.pause(now))).unwrap();
            for event in events.drain(..) {
                self.advance(event.data.u64() as usize);
            }
            if now - checked > PATIENCE / 4 {
                checked = now;
                self.give_up_on_the_silent(now);
            }
        }
        self.outcome.elapsed = self.start.elapsed();
        self.outcome
    }

    /// How long to wait for events.
    fn pause(&self, now: Instant) -> Timespec {
        let pause = match self.load.rate {
            None => Duration::from_secs(1),
            Some(_) if self.load.relaxed => Duration::from_millis(1),
            Some(_) => self.due.saturating_duration_since(now),
        };
        Timespec::try_from(pause).unwrap()
    }

    fn send_what_is_due(&mut self, now: Instant) {
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
            // In turn, so that a kept connection is never left alone for long.
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
        self.send_what_is_due(now);
    }

    fn count(&mut self, why: &'static str) {
        self.outcome.count(why);
        if self.outcome.is_hopeless() {
            self.stop();
        }
    }

    /// Whether all requests have been sent. What was due in time is sent even if a slow tracker makes it late.
    fn is_over(&self, now: Instant) -> bool {
        self.end <= if self.load.rate.is_some() { self.due } else { now }
    }

    fn stop(&mut self) {
        self.end = self.start;
    }

    fn give_up_on_the_silent(&mut self, now: Instant) {
        for number in 0..self.connections.len() {
            let connection = &mut self.connections[number];
            if !connection.is_idle() && now.saturating_duration_since(connection.sent) > PATIENCE {
                if let Err(why) = connection.failed("a reply that did not come") {
                    self.count(why);
                }
                self.idle.push_back(number);
            }
        }
    }
}
