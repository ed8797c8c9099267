//! Carries out all exchanges with upstream trackers, on its own thread. An exchange continues after its client has been
//! answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use super::forwarder::{Admitted, Forwarder};
use super::other_instances::own_peers;
use super::session::{ExchangeOutcome, UpstreamEvent};
use super::state::ForwardState;
use super::torrent::Torrent;
use crate::clock;

/// The shortest and the longest pause between two sweeps.
const SWEEP_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(20));

/// How many torrents are swept before other tasks get a turn.
const SWEPT_AT_ONCE: usize = 64;

/// Carries out the exchanges. The engine must run within a tokio `LocalSet`.
#[derive(Debug)]
pub struct ForwardEngine {
    pub(super) shared: Arc<ForwardState>,
    /// Receives new forwarders.
    pub(super) forwarders: mpsc::UnboundedReceiver<Arc<Forwarder>>,
}

impl ForwardEngine {
    /// Runs until `stop` completes. Exchanges under way are dropped then.
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
                        log::error!("a forwarding task failed: {error}");
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

/// Begins one forwarder's exchanges in their turns, until the forwarder is no longer needed.
async fn take_turns(shared: Arc<ForwardState>, forwarder: Arc<Forwarder>, admitted: mpsc::UnboundedSender<Admitted>) {
    loop {
        let (mut exchange, permit) = tokio::select! {
            turn = forwarder.next_turn() => turn,
            () = forwarder.is_unused() => return,
        };
        let now = clock::now();
        let info_hash = exchange.request.info_hash;
        let refresh = |torrent: &mut Torrent| torrent.refresh(&mut exchange);
        // If the torrent has been evicted, only `stopped` is sent.
        let is_due = shared.torrents.with_known(info_hash, None, refresh);
        if !is_due.unwrap_or(exchange.event == UpstreamEvent::Stopped) {
            shared.end(&exchange, ExchangeOutcome::Lost, None, now);
            continue;
        }
        let Some(admission) = forwarder.admit(now) else {
            shared.end(&exchange, ExchangeOutcome::Lost, None, now);
            continue;
        };
        // Sending fails only when the engine has stopped.
        let _ = admitted.send(Admitted { exchange, admission, _permit: permit });
    }
}

/// Carries out one exchange, and queues the exchanges that are due next.
async fn carry_out(shared: Arc<ForwardState>, admitted: Admitted) {
    let forwarder = Arc::clone(&admitted.exchange.forwarder);
    let (outcome, answer) = forwarder.carry_out(&admitted, shared.deadline).await;
    // This is done before the torrent is locked, because announces wait for that lock.
    let info_hash = admitted.exchange.request.info_hash;
    let answer = answer.map(|answer| {
        let own = own_peers(&shared, &forwarder, info_hash, &answer);
        (answer.reply, own)
    });
    shared.end(&admitted.exchange, outcome, answer, clock::now());
}

/// Sweeps all torrents, again and again: begins the `stopped` announces that are due, and drops what has expired.
async fn sweep(shared: Arc<ForwardState>) {
    let pause = (shared.peer_age / 8).clamp(SWEEP_PAUSE.0, SWEEP_PAUSE.1);
    loop {
        // A removed forwarder gets its `stopped` announces at once.
        let _ = timeout(pause, shared.retired.notified()).await;
        for (n, torrent) in shared.torrents.iter().enumerate() {
            let now = clock::now();
            let exchanges = shared.torrents.with_handle(&torrent, |torrent| torrent.sweep(shared.peer_age, now));
            exchanges.into_iter().flatten().for_each(|exchange| shared.send(exchange));
            // A torrent is dropped only after its sweep, because the sweep begins `stopped` for the torrent's clients.
            shared.torrents.drop_if_idle(&torrent, now);
            if n % SWEPT_AT_ONCE == 0 {
                yield_now().await;
            }
        }
    }
}
