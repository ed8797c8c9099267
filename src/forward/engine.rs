//! The thread on which all exchanges with upstream trackers run, apart from the workers that answer clients: what outlives
//! a client's announce goes on here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use super::Shared;
use super::forwarder::{Admitted, Forwarder};
use super::session::{ExchangeOutcome, UpstreamEvent};
use super::torrent::Torrent;
use crate::clock;

/// The shortest and the longest pause between two searches for peers that have gone silent.
const SWEEPS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(20));

/// Torrents that are swept before others get a turn.
const SWEPT_AT_ONCE: usize = 64;

/// Carries out the exchanges. It must run within a tokio `LocalSet`.
#[derive(Debug)]
pub struct Engine {
    pub(super) shared: Arc<Shared>,
    /// Forwarders that are new.
    pub(super) forwarders: mpsc::UnboundedReceiver<Arc<Forwarder>>,
}

impl Engine {
    /// Runs until `stop` is done. What is under way then is dropped.
    pub async fn run(self, stop: impl Future) {
        let Self { shared, mut forwarders } = self;
        let (admitted, mut begin) = mpsc::unbounded_channel();
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
                Some(forwarder) = forwarders.recv() => {
                    tasks.spawn_local(take_turns(Arc::clone(&shared), forwarder, admitted.clone()));
                }
                Some(admitted) = begin.recv() => {
                    tasks.spawn_local(carry_out(Arc::clone(&shared), admitted));
                }
            }
        }
    }
}

/// Lets the exchanges that wait for one forwarder begin, each in its turn, until the forwarder is no longer needed.
async fn take_turns(shared: Arc<Shared>, forwarder: Arc<Forwarder>, admitted: mpsc::UnboundedSender<Admitted>) {
    loop {
        let (mut exchange, permit) = tokio::select! {
            turn = forwarder.next_turn() => turn,
            () = forwarder.is_unused() => return,
        };
        let now = clock::now();
        let info_hash = exchange.request.info_hash;
        let has_its_turn = |torrent: &mut Torrent| torrent.has_its_turn(&mut exchange);
        // A torrent that has been forgotten has no clients any more; those who have left are still signed off.
        let is_due = shared.torrents.with_known(info_hash, None, has_its_turn);
        if !is_due.unwrap_or(exchange.event == UpstreamEvent::Stopped) {
            shared.end(&exchange, ExchangeOutcome::Lost, None, now);
            continue;
        }
        let Some(admission) = forwarder.admit(now) else {
            shared.end(&exchange, ExchangeOutcome::Lost, None, now);
            continue;
        };
        // Fails only when the engine has stopped.
        let _ = admitted.send(Admitted { exchange, admission, _permit: permit });
    }
}

/// One exchange. What has to follow it waits for its turn.
async fn carry_out(shared: Arc<Shared>, admitted: Admitted) {
    let forwarder = Arc::clone(&admitted.exchange.forwarder);
    let (outcome, answer) = forwarder.carry_out(&admitted, shared.deadline).await;
    // Before the torrent is locked, as clients wait for that.
    let addresses = answer.as_ref().map(|answer| forwarder.our_addresses(answer)).unwrap_or_default();
    let answer = answer.as_ref().map(|answer| (answer, addresses.as_slice()));
    shared.end(&admitted.exchange, outcome, answer, clock::now());
}

/// Signs off those who have gone silent, again and again.
async fn sweep(shared: Arc<Shared>) {
    let pause = (shared.peer_age / 8).clamp(SWEEPS.0, SWEEPS.1);
    loop {
        // At once when there are peers of a forwarder that is gone.
        let _ = timeout(pause, shared.retired.notified()).await;
        for (n, torrent) in shared.torrents.iter().enumerate() {
            let now = clock::now();
            let exchanges = shared.torrents.with_handle(&torrent, |torrent| torrent.sweep(shared.peer_age, now));
            exchanges.into_iter().flatten().for_each(|exchange| shared.send(exchange));
            // Afterwards: the clients of a torrent that is dropped are not signed off any more.
            shared.torrents.drop_if_idle(&torrent, now);
            if n % SWEPT_AT_ONCE == 0 {
                yield_now().await;
            }
        }
    }
}
