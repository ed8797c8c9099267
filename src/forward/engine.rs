//! The thread on which all exchanges with upstream trackers run, apart from the workers that answer clients: what outlives
//! a client's announce goes on here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, timeout};

use super::Shared;
use super::forwarder::Exchange;
use super::list::UpstreamPeers;

/// The shortest and the longest pause between two searches for peers that have gone silent.
const SWEEPS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(20));

/// Torrents that are swept before others get a turn.
const SWEPT_AT_ONCE: usize = 64;

/// An exchange, and who waits for what it brings.
pub(super) struct Job {
    pub(super) exchange: Exchange,
    pub(super) waiter: Option<oneshot::Sender<Arc<UpstreamPeers>>>,
}

/// Carries out the exchanges. It must run within a tokio `LocalSet`.
#[derive(Debug)]
pub struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: mpsc::UnboundedReceiver<Job>,
}

impl Engine {
    /// Runs until `stop` is done. What is under way then is dropped.
    pub async fn run(self, stop: impl Future) {
        let Self { shared, mut jobs } = self;
        let mut tasks = JoinSet::new();
        tasks.spawn_local(sweep(Arc::clone(&shared)));
        tokio::pin!(stop);
        loop {
            tokio::select! {
                _ = &mut stop => return,
                Some(_) = tasks.join_next() => {}
                Some(job) = jobs.recv() => {
                    tasks.spawn_local(carry_out(Arc::clone(&shared), job));
                }
            }
        }
    }
}

/// One exchange, and those that have to follow it at once.
async fn carry_out(shared: Arc<Shared>, job: Job) {
    let Job { mut exchange, mut waiter } = job;
    loop {
        let forwarder = Arc::clone(&exchange.place.forwarder);
        let (heard, answer) = forwarder.carry_out(&exchange).await;
        let info_hash = exchange.request.info_hash;
        let now = Instant::now();
        let ended =
            shared.torrents.with_known(info_hash, |torrent| torrent.ended(&exchange, heard, answer.as_ref(), now));
        // A torrent that is no longer known has nobody who waits.
        let Some((list, next)) = ended else { return };
        if let Some((waiter, list)) = waiter.take().zip(list) {
            // Whoever waited may have given up.
            let _ = waiter.send(list);
        }
        match next {
            Some(next) => exchange = next,
            None => return,
        }
    }
}

/// Signs off those who have gone silent, again and again.
async fn sweep(shared: Arc<Shared>) {
    let pause = (shared.peer_age / 8).clamp(SWEEPS.0, SWEEPS.1);
    loop {
        // At once when there are peers of a forwarder that is gone.
        let _ = timeout(pause, shared.retired.notified()).await;
        shared.torrents.housekeep();
        let (metrics, evicted) = (&shared.metrics, shared.torrents.evicted().unsigned_abs());
        metrics.forward_torrents.set(shared.torrents.len());
        metrics.forward_torrents_evicted.inc_by(evicted - metrics.forward_torrents_evicted.get().min(evicted));
        for some in shared.torrents.all().chunks(SWEPT_AT_ONCE) {
            let now = Instant::now();
            for torrent in some {
                let exchanges = shared.torrents.with_held(torrent, |torrent| torrent.sweep(shared.peer_age, now));
                exchanges.into_iter().flatten().for_each(|exchange| shared.send(exchange, None));
            }
            yield_now().await;
        }
    }
}
