//! The flights that are under way.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::fetch::{FetchContext, MAX_FETCHES, fetch};
use super::source::{BlobSource, FlightFault, LandedContent, SourceError};
use super::state::{Flight, FlightKey, FlightPhase};
use super::summary::FlightSummary;
use crate::sharing::Sharing;
use crate::store::BlobStore;

/// How often a flight's progress is logged.
const PROGRESS: Duration = Duration::from_secs(10);

type UnderWayFlights<E> = Mutex<HashMap<FlightKey, Arc<Flight<E>>>>;

/// All flights of a process.
pub struct Flights<E> {
    under_way: Arc<UnderWayFlights<E>>,
    context: FetchContext,
}

impl<E: SourceError> Flights<E> {
    /// Starts without flights. With `sharing`, blobs are shared with the other hosts of the network.
    pub fn new(store: BlobStore, sharing: Option<Arc<Sharing>>) -> Self {
        let fetches = Arc::new(Semaphore::new(MAX_FETCHES));
        Self { under_way: Arc::default(), context: FetchContext { store, sharing, fetches } }
    }

    /// Joins the flight of this blob, or starts a flight with this source. Waits until there is something to read. Must
    /// be called inside a `LocalSet`, as actix-web's handlers are.
    ///
    /// The caller must check that the client may have the blob, before it reads. If the upstream refuses the client
    /// that started the flight, that client gets the error. The others try again, and the first of them starts a new
    /// flight with its own source.
    pub async fn join<S>(&self, key: &FlightKey, source: &S) -> Result<Arc<Flight<E>>, Arc<FlightFault<E>>>
    where
        S: BlobSource<Error = E> + Clone,
    {
        loop {
            let (flight, is_own) = self.find_or_start(key, source);
            match flight.opened().await {
                Ok(()) => return Ok(flight),
                Err(fault) if !is_own && fault.is_refusal() => {}
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Returns how many flights are under way.
    pub fn count(&self) -> usize {
        self.under_way.lock().len()
    }

    /// Returns summaries of the flights that are under way, the oldest first.
    pub fn summaries(&self) -> Vec<FlightSummary> {
        let under_way = self.under_way.lock();
        let mut all: Vec<_> = under_way.iter().map(|(key, flight)| FlightSummary::of(key, flight)).collect();
        all.sort_by_key(|summary| std::cmp::Reverse(summary.elapsed));
        all
    }

    fn find_or_start<S>(&self, key: &FlightKey, source: &S) -> (Arc<Flight<E>>, bool)
    where
        S: BlobSource<Error = E> + Clone,
    {
        let mut under_way = self.under_way.lock();
        if let Some(flight) = under_way.get(key) {
            return (Arc::clone(flight), false);
        }
        let flight = Arc::new(Flight::new(key.name));
        under_way.insert(key.clone(), Arc::clone(&flight));
        let landing = Landing {
            under_way: Arc::clone(&self.under_way),
            key: key.clone(),
            flight: Arc::clone(&flight),
            last: FlightPhase::Failed(Arc::new(FlightFault::Abandoned)),
        };
        drop(under_way);
        let (source, context) = (source.clone(), self.context.clone());
        spawn_local(async move {
            let mut landing = landing;
            landing.last = {
                let fetch = fetch(&landing.flight, &landing.key.upstream, &source, &context);
                let mut fetch = pin!(fetch);
                loop {
                    tokio::select! {
                        last = &mut fetch => break last,
                        () = sleep(PROGRESS) => log::info!("{}", FlightSummary::of(&landing.key, &landing.flight)),
                    }
                }
            };
            match &landing.last {
                FlightPhase::Verified { digest, length, .. } => {
                    let from_peers = landing.flight.shared.get().map(|content| content.sources().from_peers);
                    source.landed(Ok(LandedContent { digest: *digest, length: *length, from_peers })).await;
                }
                FlightPhase::Failed(fault) => source.landed(Err(fault)).await,
                _ => {}
            }
        });
        (flight, true)
    }
}

/// Ends a flight on drop, and so even if the flight's task is dropped or panics.
struct Landing<E> {
    under_way: Arc<UnderWayFlights<E>>,
    key: FlightKey,
    flight: Arc<Flight<E>>,
    last: FlightPhase<E>,
}

impl<E> Drop for Landing<E> {
    fn drop(&mut self) {
        // The flight leaves the list first, so that a client that saw the failure cannot join this flight again.
        self.under_way.lock().remove(&self.key);
        let last = std::mem::replace(&mut self.last, FlightPhase::Opening);
        // A verified blob stays verified, even if the task ended before the blob was committed.
        if !matches!(self.flight.state.borrow().phase, FlightPhase::Verified { .. }) {
            self.flight.set_phase(last);
        }
    }
}
