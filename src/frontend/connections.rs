//! Limits on the number of open connections, and which connection is closed at a limit.
//!
//! The threat: descriptors are few, and holding one costs an attacker nothing. So at the limit a new connection is
//! served, and an old one is closed. It is the connection that has been idle for longest, of the address with the most
//! connections. A connection whose request is being answered is never closed to make room.
//!
//! An idle connection waits for a request, for the rest of a request, or for the client to read the replies. None of
//! these waits protects a connection from being closed. If one did, attackers would keep all their connections in that
//! wait, and honest clients would lose their connections, often before their first request.
//!
//! A connection that never waits is only counted. Any other connection enters a table at its first wait, which takes
//! one short lock.

mod limits;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use tokio_util::task::TaskTracker;

pub use self::limits::{ConnectionLimits, ConnectionOptions, ConnectionTimeouts, Holder};
use crate::clock;
use crate::metrics::ConnectionMetrics;

/// The connections that are open, of all workers together.
#[derive(Debug)]
pub struct Connections {
    /// The limits for each connection, and for all of them.
    pub limits: ConnectionLimits,
    metrics: ConnectionMetrics,
    table: Mutex<ConnectionTable>,
    /// Bytes of requests that have not arrived completely.
    unfinished: AtomicUsize,
    start: Duration,
    /// Tasks of connections that were accepted before the stop signal.
    pub early: TaskTracker,
    /// Tasks of connections that were accepted after the stop signal.
    pub late: TaskTracker,
}

/// The connections that have waited at least once.
#[derive(Debug, Default)]
struct ConnectionTable {
    next: u64,
    entries: HashMap<u64, (Holder, Arc<TableEntry>)>,
    /// The number of connections of each holder.
    weights: HashMap<Holder, Arc<AtomicUsize>>,
}

#[derive(Debug)]
struct TableEntry {
    /// The number of connections of the same holder. `None` for a proxy's connection, which always has weight 1.
    weight: Option<Arc<AtomicUsize>>,
    /// [`BUSY`], or the order in which idle connections are closed, the lowest first.
    rank: AtomicU64,
    shed: AtomicBool,
    /// Whether the connection keeps bytes of an unfinished request or handshake.
    keeps_bytes: AtomicBool,
    task: AtomicWaker,
}

/// The most bytes that unfinished requests and TLS handshakes take together: a thousand of the longest requests. Most
/// requests arrive in one piece.
const MAX_UNFINISHED: usize = 64 * 1024 * 1024;

/// The rank of a connection whose request is being answered.
const BUSY: u64 = u64::MAX;

/// One open connection. It counts as open until this value is dropped.
#[derive(Debug)]
pub struct OpenConnection<'a> {
    connections: &'a Connections,
    in_table: Option<(u64, Arc<TableEntry>)>,
    /// Whether the table can wake the connection's task.
    is_registered: bool,
    /// Bytes of a request that has not arrived completely.
    unfinished: usize,
}

/// What an idle connection waits for. Connections that are [`Self::Finished`] are closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// For the client to close the connection, after the last reply.
    Finished,
    /// For the client to go on: to send a request or the rest of one, or to read the replies.
    Waiting,
}

/// The connection must end: it was chosen to be closed, or its address has too many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MustClose;

impl Connections {
    /// Starts without connections.
    pub fn new(limits: ConnectionLimits, metrics: ConnectionMetrics) -> Self {
        Self {
            limits,
            metrics,
            table: Mutex::default(),
            unfinished: AtomicUsize::new(0),
            start: clock::coarse(),
            early: TaskTracker::new(),
            late: TaskTracker::new(),
        }
    }

    /// Counts an accepted connection, whose task then calls [`Self::opened`]. At the limit, idle connections are
    /// closed. `false` if none is idle: the new connection is not counted, and the caller must close it.
    pub fn admit(&self) -> bool {
        let before = usize::try_from(self.metrics.open.inc()).unwrap_or_default();
        if before < self.limits.total || self.shed(|_| true, &self.metrics.shed_full) > 0 {
            return true;
        }
        self.metrics.open.dec();
        self.metrics.refused_full.inc();
        false
    }

    /// The connection that [`Self::admit`] counted.
    pub fn opened(&self) -> OpenConnection<'_> {
        OpenConnection { connections: self, in_table: None, is_registered: false, unfinished: 0 }
    }

    /// Closes idle connections because the system has no descriptors left. Returns how many were closed.
    pub fn shed_for_descriptors(&self) -> usize {
        self.shed(|_| true, &self.metrics.shed_descriptors)
    }

    /// The bytes that unfinished requests and TLS handshakes take together, and their limit.
    pub fn unfinished(&self) -> [usize; 2] {
        [self.unfinished.load(Relaxed), MAX_UNFINISHED]
    }

    /// The number of open connections.
    pub fn count(&self) -> i64 {
        self.metrics.open.get()
    }

    /// Closes idle connections for which `is_candidate` holds. Returns how many were closed.
    fn shed(&self, is_candidate: impl Fn(&TableEntry) -> bool, count: &Counter) -> usize {
        self.shed_from(&mut self.table.lock(), |_, entry| is_candidate(entry), count)
    }

    /// Closes idle connections of this table for which `is_candidate` holds. Returns how many were closed.
    ///
    /// Looking at all connections takes time. So if there are many connections, one call closes several.
    fn shed_from(
        &self,
        table: &mut ConnectionTable,
        is_candidate: impl Fn(Holder, &TableEntry) -> bool,
        count: &Counter,
    ) -> usize {
        let ConnectionTable { entries, weights, .. } = table;
        // The holders with the most connections come first.
        let mut idle: Vec<_> = entries
            .iter()
            .filter(|(_, (holder, entry))| is_candidate(*holder, entry))
            .map(|(id, (_, entry))| ((Reverse(entry.weight()), entry.rank.load(Relaxed)), *id))
            .filter(|((_, rank), _)| *rank != BUSY)
            .collect();
        let wanted = (1 + entries.len() / 256).min(idle.len());
        if wanted == 0 {
            return 0;
        }
        idle.select_nth_unstable(wanted - 1);
        for (_, id) in idle.iter().take(wanted) {
            if let Some(entry) = remove(entries, weights, *id) {
                entry.shed.store(true, Relaxed);
                entry.task.wake();
                // The connection's task ends soon, so the connection no longer counts as open.
                self.metrics.open.dec();
            }
        }
        count.inc_by(wanted as u64);
        wanted
    }

    /// Enters a connection into the table, or refuses it if its address has too many. The check and the entry share one
    /// lock. Otherwise two workers could take an address's last free place.
    fn enter(&self, holder: Holder, rank: u64) -> Result<(u64, Arc<TableEntry>), MustClose> {
        let mut table = self.table.lock();
        let weight = table.weights.get(&holder).map_or(0, |weight| weight.load(Relaxed));
        let is_full = holder != Holder::Proxy && weight >= self.limits.per_address;
        if is_full && self.shed_from(&mut table, |of, _| of == holder, &self.metrics.shed_address) == 0 {
            self.metrics.refused_address.inc();
            return Err(MustClose);
        }
        table.next += 1;
        let id = table.next;
        let weight = (holder != Holder::Proxy).then(|| Arc::clone(table.weights.entry(holder).or_default()));
        if let Some(weight) = &weight {
            weight.fetch_add(1, Relaxed);
        }
        let entry = Arc::new(TableEntry {
            weight,
            rank: AtomicU64::new(rank),
            shed: AtomicBool::new(false),
            keeps_bytes: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        table.entries.insert(id, (holder, Arc::clone(&entry)));
        Ok((id, entry))
    }
}

fn remove(
    entries: &mut HashMap<u64, (Holder, Arc<TableEntry>)>,
    weights: &mut HashMap<Holder, Arc<AtomicUsize>>,
    id: u64,
) -> Option<Arc<TableEntry>> {
    let (holder, entry) = entries.remove(&id)?;
    if entry.weight.as_ref().is_some_and(|weight| weight.fetch_sub(1, Relaxed) == 1) {
        weights.remove(&holder);
    }
    Some(entry)
}

impl TableEntry {
    fn weight(&self) -> usize {
        self.weight.as_ref().map_or(1, |weight| weight.load(Relaxed))
    }
}

impl<'a> OpenConnection<'a> {
    /// The limits for this connection.
    pub fn limits(&self) -> &'a ConnectionLimits {
        &self.connections.limits
    }

    /// Records that the connection waits for its client. If the connection is chosen to be closed, the calling task is
    /// woken.
    ///
    /// `since` is when the wait began, by [`clock::coarse`]. `None` if the wait is the same as in the last call.
    pub fn idle(
        &mut self,
        holder: Holder,
        idle: Idle,
        since: Option<Duration>,
        cx: &Context<'_>,
    ) -> Result<(), MustClose> {
        let rank = since.map(|since| self.rank(idle, since));
        let (_, entry) = match &mut self.in_table {
            Some(in_table) => in_table,
            slot => slot.insert(self.connections.enter(holder, rank.unwrap_or_default())?),
        };
        // A connection stays in one task, so one registration is enough.
        if !std::mem::replace(&mut self.is_registered, true) {
            entry.task.register(cx.waker());
        }
        if let Some(rank) = rank {
            entry.rank.store(rank, Relaxed);
        }
        entry.keeps_bytes.store(self.unfinished > 0, Relaxed);
        if entry.shed.load(Relaxed) { Err(MustClose) } else { Ok(()) }
    }

    /// Waits for something that the client does. The connection is idle meanwhile.
    ///
    /// # Errors
    /// The connection was chosen to be closed (`ConnectionAborted`).
    pub async fn while_idle<T>(
        &mut self,
        holder: Holder,
        idle: Idle,
        awaited: impl Future<Output = T>,
    ) -> io::Result<T> {
        let mut awaited = std::pin::pin!(awaited);
        let since = clock::coarse();
        let done = std::future::poll_fn(|cx| match awaited.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.idle(holder, idle, Some(since), cx).is_ok() => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        });
        done.await.ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }

    /// Records that the connection keeps this many bytes of a request or a handshake until the rest arrives. If all
    /// connections together keep too many, some are closed.
    pub fn buffers(&mut self, unfinished: usize) {
        let before = std::mem::replace(&mut self.unfinished, unfinished);
        if before == unfinished {
            return;
        }
        let Connections { unfinished: total, metrics, .. } = self.connections;
        if let Some((_, entry)) = &self.in_table {
            entry.keeps_bytes.store(unfinished > 0, Relaxed);
        }
        total.fetch_sub(before, Relaxed);
        let kept_by_others = total.fetch_add(unfinished, Relaxed);
        if unfinished > before && kept_by_others + unfinished > MAX_UNFINISHED {
            self.connections.shed(|entry| entry.keeps_bytes.load(Relaxed), &metrics.shed_memory);
        }
    }

    /// Records that answering a request takes time. Meanwhile the connection is not closed to make room.
    pub fn busy(&mut self, holder: Holder) -> Result<(), MustClose> {
        match &self.in_table {
            Some((_, entry)) => entry.rank.store(BUSY, Relaxed),
            None => self.in_table = Some(self.connections.enter(holder, BUSY)?),
        }
        Ok(())
    }

    /// Removes the connection from the table, so that it can enter the table for another holder. It still counts as
    /// open.
    pub fn leave(&mut self) {
        self.is_registered = false;
        if let Some((id, entry)) = self.in_table.take() {
            let mut table = self.connections.table.lock();
            let ConnectionTable { entries, weights, .. } = &mut *table;
            remove(entries, weights, id);
            if entry.shed.load(Relaxed) {
                // `shed_from` has subtracted the connection from the count, but it stays open until it is dropped.
                self.connections.metrics.open.inc();
            }
        }
    }

    fn rank(&self, idle: Idle, since: Duration) -> u64 {
        let since = since.saturating_sub(self.connections.start).as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX) & LATEST;
        idle.rank() | since
    }
}

/// The part of a rank that holds microseconds: enough for 140,000 years.
const LATEST: u64 = (1 << 62) - 1;

impl Idle {
    /// The lowest rank of a connection that is idle in this way. [`OpenConnection::rank`] adds when the wait began: the
    /// longest wait has the lowest rank.
    fn rank(self) -> u64 {
        match self {
            Self::Finished => 0,
            Self::Waiting => 1 << 62,
        }
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.buffers(0);
        self.leave();
        self.connections.metrics.open.dec();
    }
}

#[cfg(test)]
mod tests;
