//! The thread on which all exchanges with upstream trackers run, apart from the workers that answer clients: what outlives
//! a client's announce goes on here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, timeout};

use super::Shared;
use super::forwarder::Exchange;
use super::torrent::{Swept, Torrent};

/// The shortest and the longest pause between two searches for peers that have gone silent.
const SWEEPS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(20));

/// The pause while leaves are left to be told, because too many are being told already.
const OWING: Duration = Duration::from_millis(250);

/// Torrents that are swept before others get a turn.
const SWEPT_AT_ONCE: usize = 64;

/// Carries out the exchanges. It must run within a tokio `LocalSet`.
#[derive(Debug)]
pub struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) jobs: mpsc::UnboundedReceiver<Exchange>,
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
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        log::error!("a task of the forwarders failed: {error}");
                    }
                }
                Some(exchange) = jobs.recv() => {
                    tasks.spawn_local(carry_out(Arc::clone(&shared), exchange));
                }
            }
        }
    }
}

/// One exchange, and those that have to follow it at once.
async fn carry_out(shared: Arc<Shared>, mut exchange: Exchange) {
    loop {
        let forwarder = Arc::clone(&exchange.place.forwarder);
        let (heard, answer) = forwarder.carry_out(&exchange).await;
        // Before the torrent is locked, as clients wait for that.
        let addresses = answer.as_ref().map(|answer| shared.our_addresses(&forwarder, answer)).unwrap_or_default();
        let answer = answer.as_ref().map(|answer| (answer, addresses.as_slice()));
        let now = Instant::now();
        let ended = |torrent: &mut Torrent| torrent.ended(&exchange, heard, answer, now);
        // A torrent that has been forgotten has nobody who waits.
        match shared.torrents.with_known(exchange.request.info_hash, now, ended).flatten() {
            Some(next) => exchange = next,
            None => return,
        }
    }
}

/// Signs off those who have gone silent, again and again.
async fn sweep(shared: Arc<Shared>) {
    let longest = (shared.peer_age / 8).clamp(SWEEPS.0, SWEEPS.1);
    let mut pause = longest;
    loop {
        // At once when there are peers of a forwarder that is gone.
        let _ = timeout(pause, shared.retired.notified()).await;
        let mut owes = false;
        for (n, torrent) in shared.torrents.iter().enumerate() {
            let now = Instant::now();
            let swept = shared.torrents.with_held(&torrent, |torrent| torrent.sweep(shared.peer_age, now));
            let Swept { exchanges, owes: this_owes } = swept.unwrap_or_default();
            owes |= this_owes;
            exchanges.into_iter().for_each(|exchange| shared.send(exchange));
            // Behind the farewells: what is dropped is signed off no more.
            shared.torrents.drop_if_idle(&torrent, now);
            if n % SWEPT_AT_ONCE == 0 {
                yield_now().await;
            }
        }
        shared.torrents.housekeep();
        pause = if owes { OWING.min(longest) } else { longest };
    }
}
