//! Flights from scripted upstreams into real folders, in paused time.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::future::pending;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::sleep;

use super::fetch::MAX_FETCHES;
use super::resuming::ATTEMPTS;
use super::transfer::GRACE;
use super::*;
use crate::content::ContentName;
use crate::digest::Digest;
use crate::store::{BlobStore, DiskShare, StoreLimits};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum FakeError {
    #[error("refused")]
    Refused,
    #[error("unreachable")]
    Unreachable,
    #[error("connection reset")]
    Reset,
}

impl SourceError for FakeError {
    fn is_refusal(&self) -> bool {
        *self == Self::Refused
    }
}

/// What a body does next. The body ends after its last step.
#[derive(Clone)]
pub(super) enum BodyStep {
    Send(Bytes),
    /// Waits until the test calls `notify_one`.
    WaitFor(Rc<Notify>),
    Yield,
    Reset,
    Hang,
    Panic,
}

pub(super) type FakeBody = VecDeque<BodyStep>;
type Opened = Result<OpenedBody<FakeBody>, FakeError>;

/// An upstream that answers with a function of the attempt's number and the offset.
#[derive(Clone)]
pub(super) struct FakeSource {
    answer: Rc<dyn Fn(usize, u64) -> Opened>,
    /// The offsets that were asked for.
    asked: Rc<RefCell<Vec<u64>>>,
    unread: Rc<RefCell<Option<OpenedBody<FakeBody>>>>,
}

impl FakeSource {
    pub(super) fn new(answer: impl Fn(usize, u64) -> Opened + 'static) -> Self {
        Self { answer: Rc::new(answer), asked: Rc::default(), unread: Rc::default() }
    }

    /// Makes an upstream that always sends the right bytes.
    fn of(blob: &Bytes) -> Self {
        let blob = blob.clone();
        Self::new(move |_, offset| opened(offset, Some(&blob), [send(&blob, offset..)]))
    }

    fn asked(&self) -> Vec<u64> {
        self.asked.borrow().clone()
    }
}

impl BlobSource for FakeSource {
    type Body = FakeBody;
    type Error = FakeError;

    async fn open(&self, offset: u64) -> Opened {
        if let Some(unread) = self.unread.take() {
            return Ok(unread);
        }
        let attempt = self.asked.borrow().len();
        self.asked.borrow_mut().push(offset);
        yield_now().await;
        (self.answer)(attempt, offset)
    }

    fn take_back(&self, unread: OpenedBody<FakeBody>) {
        *self.unread.borrow_mut() = Some(unread);
    }
}

impl BlobBody for FakeBody {
    type Error = FakeError;

    async fn chunk(&mut self) -> Result<Option<Bytes>, FakeError> {
        loop {
            match self.pop_front() {
                None => return Ok(None),
                Some(BodyStep::Send(bytes)) => return Ok(Some(bytes)),
                Some(BodyStep::WaitFor(permit)) => permit.notified().await,
                Some(BodyStep::Yield) => yield_now().await,
                Some(BodyStep::Reset) => return Err(FakeError::Reset),
                Some(BodyStep::Hang) => pending().await,
                Some(BodyStep::Panic) => panic!("on purpose"),
            }
        }
    }
}

/// An upstream that never answers.
#[derive(Clone)]
struct NeverOpens;
impl BlobSource for NeverOpens {
    type Body = FakeBody;
    type Error = FakeError;
    async fn open(&self, _: u64) -> Opened {
        pending().await
    }
}

/// An upstream with deadlines of ten minutes.
#[derive(Clone)]
struct PatientSource(FakeSource);

impl BlobSource for PatientSource {
    type Body = FakeBody;
    type Error = FakeError;

    async fn open(&self, offset: u64) -> Opened {
        self.0.open(offset).await
    }

    fn longest_silence(&self) -> Duration {
        Duration::from_mins(10)
    }
}

/// Returns a reply with this body. If `blob` is given, the reply announces its length.
#[expect(clippy::unnecessary_wraps, reason = "a script holds failures beside bodies")]
pub(super) fn opened(offset: u64, blob: Option<&Bytes>, steps: impl IntoIterator<Item = BodyStep>) -> Opened {
    Ok(OpenedBody { offset, length: blob.map(|blob| blob.len() as u64), body: steps.into_iter().collect() })
}

fn send(blob: &Bytes, range: impl std::ops::RangeBounds<u64>) -> BodyStep {
    let place = |at: &u64| usize::try_from(*at).unwrap();
    let bounds = (range.start_bound().map(place), range.end_bound().map(place));
    BodyStep::Send(blob.slice(bounds))
}

fn blob(length: usize) -> Bytes {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<_>>().into()
}

type ReplyFault = Arc<FlightFault<FakeError>>;

struct Cache {
    folder: TempDir,
    store: BlobStore,
    flights: Flights<FakeError>,
}

impl Cache {
    fn new(quota: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let limits = StoreLimits { quota: DiskShare::Bytes(quota), min_free: DiskShare::Bytes(0) };
        let store = BlobStore::open(folder.path(), limits).unwrap();
        Self { folder, flights: Flights::new(store.clone(), None), store }
    }

    /// Opens the same folder as another process would.
    fn reopened(self) -> Self {
        let Self { folder, store, flights } = self;
        let limits =
            StoreLimits { quota: DiskShare::Bytes(store.usage().unwrap().quota), min_free: DiskShare::Bytes(0) };
        drop((store, flights));
        let store = BlobStore::open(folder.path(), limits).unwrap();
        Self { folder, flights: Flights::new(store.clone(), None), store }
    }

    async fn join(&self, blob: &[u8], source: &FakeSource) -> Result<Arc<Flight<FakeError>>, ReplyFault> {
        self.join_named(Digest::of(blob).into(), source).await
    }

    async fn join_named(&self, name: ContentName, source: &FakeSource) -> Result<Arc<Flight<FakeError>>, ReplyFault> {
        self.flights.join(&FlightKey { upstream: "registry".into(), name }, source).await
    }

    /// Returns the bytes that one client gets, and how its reply ended.
    async fn get(
        &self,
        blob: &[u8],
        range: (u64, Option<u64>),
        source: &FakeSource,
    ) -> (Vec<u8>, Result<(), ReplyFault>) {
        match self.join(blob, source).await {
            Ok(flight) => reply(FlightReader::new(&flight, range.0, range.1, source.clone())).await,
            Err(fault) => (Vec::new(), Err(fault)),
        }
    }

    async fn landed(&self) {
        while self.flights.count() > 0 {
            // Paused time passes only when no task can run, so this waits for all tasks.
            sleep(Duration::from_secs(1)).await;
        }
    }

    fn has(&self, blob: &[u8]) -> bool {
        self.store.find(&Digest::of(blob)).unwrap().is_some()
    }

    fn is_clean(&self) -> bool {
        fs::read_dir(self.folder.path().join("incoming")).unwrap().count() == 0
    }
}

async fn reply(mut reader: FlightReader<FakeSource>) -> (Vec<u8>, Result<(), ReplyFault>) {
    let mut got = Vec::new();
    loop {
        match reader.next().await {
            Ok(Some(bytes)) => {
                assert!(!bytes.is_empty());
                got.extend_from_slice(&bytes);
            }
            Ok(None) => return (got, Ok(())),
            Err(fault) => return (got, Err(fault)),
        }
    }
}

/// Reads from the file itself, as a connection without TLS does. `None`: there is nothing that can be read now.
fn next_from_file(reader: &mut FlightReader<FakeSource>, most: u64) -> Option<Vec<u8>> {
    let FilePart { file, from, length } = reader.in_memory()?;
    let mut bytes = vec![0; usize::try_from(length.min(most)).unwrap()];
    file.read_exact_at(&mut bytes, from).unwrap();
    reader.skip(bytes.len() as u64);
    Some(bytes)
}

/// Asserts that the reader's next bytes are exactly these.
async fn expect(reader: &mut FlightReader<FakeSource>, expected: &[u8]) {
    let mut got = Vec::new();
    while got.len() < expected.len() {
        got.extend_from_slice(&reader.next().await.unwrap().unwrap());
    }
    assert!(got == expected);
}

/// Runs a test in paused time, which passes only when all tasks wait.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, test)
}

/// Clients on different threads share these types, although each source stays on its thread.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    is_shared::<Flights<FakeError>>();
    is_shared::<Flight<FakeError>>();
    is_shared::<BlobStore>();
};

const WHOLE: (u64, Option<u64>) = (0, None);

#[test]
fn eight_clients_at_once_are_one_fetch_and_get_bytes_as_they_arrive() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let (permit, script) = (Rc::new(Notify::new()), blob.clone());
        let gate = Rc::clone(&permit);
        let source = FakeSource::new(move |_, _| {
            opened(
                0,
                Some(&script),
                [send(&script, ..6000), BodyStep::WaitFor(Rc::clone(&gate)), send(&script, 6000..)],
            )
        });
        let mut readers = Vec::new();
        for _ in 0..8 {
            let flight = cache.join(&blob, &source).await.unwrap();
            assert_eq!(flight.length(), Some(10_000));
            readers.push(FlightReader::new(&flight, 0, None, source.clone()));
        }
        for reader in &mut readers {
            expect(reader, &blob[..6000]).await;
        }
        permit.notify_one();
        for reader in readers {
            let (rest, end) = reply(reader).await;
            assert!(rest == blob[6000..] && end.is_ok());
        }
        cache.landed().await;
        assert_eq!(source.asked(), [0]);
        // The second reply comes from the store.
        assert!(cache.get(&blob, WHOLE, &source).await.0 == blob);
        assert_eq!(source.asked(), [0]);
    });
}

#[test]
fn the_last_byte_of_every_reply_waits_for_the_digest() {
    for with_length in [true, false] {
        run(async {
            let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
            let (permit, script) = (Rc::new(Notify::new()), blob.clone());
            let gate = Rc::clone(&permit);
            let source = FakeSource::new(move |_, _| {
                let steps = [send(&script, ..9990), BodyStep::WaitFor(Rc::clone(&gate)), send(&script, 9990..)];
                opened(0, with_length.then_some(&script), steps)
            });
            let flight = cache.join(&blob, &source).await.unwrap();
            // Without a length, the last byte in the spool may be the blob's last, so readers do not get it yet.
            let readable = if with_length { 9990 } else { 9989 };
            let ranges = [
                (0, None, readable),
                (0, Some(1 << 40), readable),
                (0, Some(9991), readable),
                (0, Some(9990), 9989),
                (5, Some(6), 5),
                (100, Some(200), 199),
                (9990, Some(10_000), 9990),
            ];
            let mut readers = Vec::new();
            for (start, end, readable) in ranges {
                let mut reader = FlightReader::new(&flight, start, end, source.clone());
                expect(&mut reader, &blob[usize::try_from(start).unwrap()..readable]).await;
                {
                    let mut next = std::pin::pin!(reader.next());
                    let waits = std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx).is_pending()));
                    assert!(waits.await, "{start}..{end:?}");
                }
                let end = usize::try_from(end.unwrap_or(10_000).min(10_000)).unwrap();
                readers.push((reader, &blob[readable..end]));
            }
            permit.notify_one();
            for (reader, expected) in readers {
                let (rest, end) = reply(reader).await;
                assert!(rest == expected && end.is_ok());
            }
        });
    }
}

#[test]
fn ranges_are_of_the_blob_that_is_still_coming() {
    for with_length in [true, false] {
        run(async {
            let (cache, blob) = (Cache::new(4 << 20), blob(3 << 20));
            let script = blob.clone();
            let source = FakeSource::new(move |_, _| {
                let chunks = (0..3 << 20).step_by(100_000).map(|at| send(&script, at..(at + 100_000).min(3 << 20)));
                let length = with_length.then_some(&script);
                opened(0, length, chunks.flat_map(|chunk| [chunk, BodyStep::Yield]))
            });
            let ranges = [(0, None), (1, Some(2)), (2 << 20, None), (1_000_000, Some(2_500_000)), (3 << 20, None)];
            let cache = Rc::new(cache);
            let replies = ranges.map(|range| {
                let (cache, blob, source) = (Rc::clone(&cache), blob.clone(), source.clone());
                spawn_local(async move { cache.get(&blob, range, &source).await })
            });
            for ((start, end), reply) in ranges.into_iter().zip(replies) {
                let (got, result) = reply.await.unwrap();
                let place = |at: u64| usize::try_from(at).unwrap();
                assert!(got == blob[place(start)..end.map_or(blob.len(), place)] && result.is_ok());
            }
            assert_eq!(source.asked(), [0]);
        });
    }
}

#[test]
fn a_broken_fetch_goes_on_where_it_stopped() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let script = blob.clone();
        // There are more breaks than `ATTEMPTS`, but each attempt makes progress. A body that ends early counts as a
        // break.
        let source = FakeSource::new(move |attempt, offset| {
            let end = [BodyStep::Reset].into_iter().take(attempt % 2);
            opened(offset, Some(&script), [send(&script, offset..offset + 500)].into_iter().chain(end))
        });
        let (got, end) = cache.get(&blob, WHOLE, &source).await;
        assert!(got == blob && end.is_ok());
        assert_eq!(source.asked(), (0..20).map(|number| number * 500).collect::<Vec<_>>());
    });
}

#[test]
fn an_upstream_without_ranges_is_read_again_from_its_start() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let script = blob.clone();
        let source = FakeSource::new(move |attempt, _| match attempt {
            0 => opened(0, Some(&script), [send(&script, ..7000), BodyStep::Reset]),
            _ => opened(0, Some(&script), [send(&script, ..6999), send(&script, 6999..7005), send(&script, 7005..)]),
        });
        let (got, end) = cache.get(&blob, WHOLE, &source).await;
        assert!(got == blob && end.is_ok());
        assert_eq!(source.asked(), [0, 7000]);
    });
}

#[test]
fn without_progress_the_attempts_end() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let script = blob.clone();
        let source = FakeSource::new(move |attempt, _| match attempt {
            0 | 1 => opened(0, Some(&script), [send(&script, ..7000), BodyStep::Reset]),
            2 => opened(7000, Some(&script), []),
            _ => Err(FakeError::Unreachable),
        });
        let (got, end) = cache.get(&blob, WHOLE, &source).await;
        assert!(got == blob[..7000]);
        assert!(matches!(*end.unwrap_err(), FlightFault::Source(FakeError::Unreachable)));
        assert_eq!(source.asked().len(), 1 + usize::try_from(ATTEMPTS).unwrap());
        cache.landed().await;
        assert!(!cache.has(&blob) && cache.is_clean());
    });
}

#[test]
fn a_refusal_midway_ends_the_flight() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let script = blob.clone();
        let source = FakeSource::new(move |attempt, _| match attempt {
            0 => opened(0, Some(&script), [send(&script, ..7000), BodyStep::Reset]),
            _ => Err(FakeError::Refused),
        });
        let (_, end) = cache.get(&blob, WHOLE, &source).await;
        assert!(end.unwrap_err().is_refusal());
        // The third request is from the client's own reader, after the flight was refused.
        assert_eq!(source.asked(), [0, 7000, 7000]);
        assert_eq!(cache.flights.count(), 0);
    });
}

/// Asserts that every reply from this upstream is cut off, and that the store keeps nothing. `wanted` is the blob that
/// the clients ask for. Returns the fault of each reply.
fn assert_cut_off(wanted: &Bytes, quota: u64, answer: impl Fn(usize, u64) -> Opened + 'static) -> Vec<ReplyFault> {
    run(async {
        let cache = Cache::new(quota);
        let source = FakeSource::new(answer);
        let ranges = [(0, None), (0, Some(wanted.len() as u64)), (0, Some(1)), (3, Some(20))];
        let mut faults = Vec::new();
        for range in ranges {
            let (got, end) = cache.get(wanted, range, &source).await;
            let end = end.unwrap_err();
            assert!(range.1.is_none_or(|end| (got.len() as u64) < end - range.0));
            faults.push(end);
            cache.landed().await;
            assert!(!cache.has(wanted) && cache.is_clean());
        }
        // A later request starts a new flight.
        let good = FakeSource::of(wanted);
        let (got, end) = cache.get(wanted, WHOLE, &good).await;
        assert!(got == *wanted && end.is_ok());
        faults
    })
}

#[test]
fn a_wrong_blob_is_cut_off_and_not_stored() {
    let right = blob(10_000);
    // Quotas for a store with room, without room, and with room for two blocks.
    for (quota, with_length) in [(1 << 20, true), (1 << 20, false), (0, true), (0, false), (8192, false)] {
        for wrong_at in [0, 5000, 9999] {
            let mut wrong = right.to_vec();
            wrong[wrong_at] ^= 1;
            let wrong = Bytes::from(wrong);
            let faults = assert_cut_off(&right, quota, move |_, offset| {
                let length = with_length.then_some(&wrong);
                // The chunks are small, so that some of them are in the spool before the wrong byte comes.
                let ends = (offset..10_000).step_by(1000);
                let chunks = ends.map(|at| send(&wrong, at..(at + 1000).min(10_000)));
                opened(offset, length, chunks.flat_map(|chunk| [chunk, BodyStep::Yield]))
            });
            assert!(faults.iter().all(|fault| matches!(**fault, FlightFault::Wrong(_))), "{faults:?}");
        }
    }
}

#[test]
fn a_wrong_length_is_cut_off() {
    let right = blob(10_000);
    let longer: Bytes = [&right[..], b"more"].concat().into();
    for quota in [1 << 20, 0] {
        let (announced, sent) = (right.clone(), longer.clone());
        let faults = assert_cut_off(&right, quota, move |_, at| opened(at, Some(&announced), [send(&sent, at..)]));
        assert!(faults.iter().all(|fault| matches!(**fault, FlightFault::TooLong { length: 10_000 })), "{faults:?}");

        let sent = longer.clone();
        let faults = assert_cut_off(&right, quota, move |_, at| opened(at, None, [send(&sent, at..)]));
        assert!(faults.iter().all(|fault| matches!(**fault, FlightFault::Wrong(_))), "{faults:?}");

        let (announced, sent) = (longer.clone(), right.clone());
        let faults = assert_cut_off(&right, quota, move |_, at| opened(at, Some(&announced), [send(&sent, at..)]));
        let expected = |fault: &ReplyFault| matches!(**fault, FlightFault::TooShort { length: 10_004, got: 10_000 });
        assert!(faults.iter().all(expected), "{faults:?}");

        let sent = right.slice(..9999);
        let faults = assert_cut_off(&right, quota, move |_, at| opened(at, None, [send(&sent, at..)]));
        assert!(faults.iter().all(|fault| matches!(**fault, FlightFault::Wrong(_))), "{faults:?}");

        let (first, then) = (right.clone(), longer.clone());
        let faults = assert_cut_off(&right, quota, move |_, at| match at {
            0 => opened(0, Some(&first), [send(&first, ..100), BodyStep::Reset]),
            _ => opened(at, Some(&then), [send(&then, at..)]),
        });
        let expected =
            |fault: &ReplyFault| matches!(**fault, FlightFault::LengthChanged { first: 10_000, then: 10_004 });
        assert!(faults.iter().all(expected), "{faults:?}");

        let sent = right.clone();
        let faults = assert_cut_off(&right, quota, move |_, at| match at {
            0 => opened(0, None, [send(&sent, ..100), BodyStep::Reset]),
            _ => opened(at + 1, None, [send(&sent, at + 1..)]),
        });
        let expected = |fault: &ReplyFault| matches!(**fault, FlightFault::Misplaced { asked: 100, got: 101 });
        assert!(faults.iter().all(expected), "{faults:?}");
    }
}

#[test]
fn an_empty_blob_is_verified_like_any() {
    for quota in [1 << 20, 0] {
        for with_length in [true, false] {
            run(async {
                let (cache, empty) = (Cache::new(quota), Bytes::new());
                let source = FakeSource::new(move |_, _| opened(0, with_length.then_some(&Bytes::new()), []));
                let (got, end) = cache.get(&empty, WHOLE, &source).await;
                assert!(got.is_empty() && end.is_ok());
                let (got, end) = cache.get(b"not empty", WHOLE, &source).await;
                assert!(got.is_empty());
                assert!(matches!(*end.unwrap_err(), FlightFault::Wrong(_)));
                // A client takes a reply of length 0 as complete once the reply begins, so the flight must not open.
                assert!(!with_length || cache.join(b"not empty", &source).await.is_err());
            });
        }
    }
}

#[test]
fn who_is_refused_does_not_spoil_it_for_others() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let refused = FakeSource::new(|_, _| Err(FakeError::Refused));
        let allowed = FakeSource::of(&blob);
        let (a, b, c) = tokio::join!(
            cache.get(&blob, WHOLE, &refused),
            cache.get(&blob, WHOLE, &allowed),
            cache.get(&blob, WHOLE, &allowed)
        );
        assert!(a.0.is_empty() && a.1.unwrap_err().is_refusal());
        assert!(b.0 == blob && b.1.is_ok() && c.0 == blob && c.1.is_ok());
        assert_eq!((refused.asked(), allowed.asked()), (vec![0], vec![0]));
    });
}

#[test]
fn an_upstream_that_fails_is_asked_once_for_all() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let source = FakeSource::new(|_, _| Err(FakeError::Unreachable));
        let (a, b) = tokio::join!(cache.get(&blob, WHOLE, &source), cache.get(&blob, WHOLE, &source));
        for (got, end) in [a, b] {
            assert!(got.is_empty());
            assert!(matches!(*end.unwrap_err(), FlightFault::Source(FakeError::Unreachable)));
        }
        assert_eq!(source.asked(), [0]);
        assert_eq!(cache.flights.count(), 0);
    });
}

#[test]
fn the_same_blob_of_two_upstreams_is_two_flights() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let (bad, good) = (FakeSource::new(|_, _| opened(0, None, [BodyStep::Hang])), FakeSource::of(&blob));
        let key = |upstream: &str| FlightKey { upstream: upstream.into(), name: Digest::of(&blob).into() };
        cache.flights.join(&key("bad"), &bad).await.unwrap();
        let flight = cache.flights.join(&key("good"), &good).await.unwrap();
        assert!(reply(FlightReader::new(&flight, 0, None, good)).await.0 == blob);
    });
}

#[test]
fn the_fetch_goes_on_when_all_clients_have_left() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let (permit, script) = (Rc::new(Notify::new()), blob.clone());
        let gate = Rc::clone(&permit);
        let source = FakeSource::new(move |_, _| {
            opened(0, Some(&script), [send(&script, ..10), BodyStep::WaitFor(Rc::clone(&gate)), send(&script, 10..)])
        });
        let flight = cache.join(&blob, &source).await.unwrap();
        let mut reader = FlightReader::new(&flight, 0, None, source.clone());
        expect(&mut reader, &blob[..10]).await;
        drop((reader, flight));
        permit.notify_one();
        cache.landed().await;
        assert!(cache.has(&blob));
    });
}

#[test]
fn a_fetch_that_nobody_reads_is_given_up_unless_it_is_half_done() {
    for (sent, with_length, is_given_up) in [(4999, true, true), (5000, true, false), (9000, false, true)] {
        run(async {
            let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
            let (permit, script) = (Rc::new(Notify::new()), blob.clone());
            let gate = Rc::clone(&permit);
            let source = FakeSource::new(move |_, _| {
                let steps = [send(&script, ..sent), BodyStep::WaitFor(Rc::clone(&gate)), send(&script, sent..)];
                opened(0, with_length.then_some(&script), steps)
            });
            let flight = cache.join(&blob, &source).await.unwrap();
            let mut reader = FlightReader::new(&flight, 0, None, source.clone());
            // Without a length, the last byte in the spool may be the blob's last, so readers do not get it yet.
            expect(&mut reader, &blob[..usize::try_from(sent).unwrap() - usize::from(!with_length)]).await;
            // While a client reads, the fetch goes on.
            sleep(GRACE * 9 / 10).await;
            drop(reader);
            sleep(GRACE * 9 / 10).await;
            assert_eq!(cache.flights.count(), 1);
            sleep(GRACE / 5).await;
            assert_eq!(cache.flights.count(), usize::from(!is_given_up), "{sent}");
            assert_eq!(flight.is_uncached(), is_given_up);
            permit.notify_one();
            cache.landed().await;
            assert_eq!(cache.has(&blob), !is_given_up);
            assert!(cache.is_clean());
        });
    }
}

#[test]
fn a_damaged_file_is_removed_and_the_blob_fetched_again() {
    let blob = blob(3 << 20);
    let damages: [fn(&Path); 3] = [
        |path| fs::File::options().write(true).open(path).unwrap().write_all_at(b"!", 1 << 20).unwrap(),
        |path| fs::File::options().write(true).open(path).unwrap().set_len(1 << 20).unwrap(),
        |path| fs::File::options().append(true).open(path).unwrap().write_all(b"!").unwrap(),
    ];
    for damage in damages {
        run(async {
            let source = FakeSource::of(&blob);
            // The cache has not verified the file yet, because another process has stored it.
            let (cache, path) = kept_before(&blob, &source).await;
            damage(&path);
            let length = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap();
            let (got, end) = cache.get(&blob, WHOLE, &source).await;
            assert!(got.len() < length && end.is_err());
            cache.landed().await;
            assert!(!path.exists() && cache.is_clean());
            assert!(cache.get(&blob, WHOLE, &source).await.0 == blob);
            assert_eq!(source.asked(), [0, 0]);
        });
    }
}

fn file_of(cache: &Cache, digest: Digest) -> std::path::PathBuf {
    cache.folder.path().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
}

/// Returns a cache whose store has this blob from another process, and the path of the blob's file.
async fn kept_before(blob: &Bytes, source: &FakeSource) -> (Cache, std::path::PathBuf) {
    let cache = Cache::new(64 << 20);
    assert!(cache.get(blob, WHOLE, source).await.1.is_ok());
    cache.landed().await;
    let cache = cache.reopened();
    let path = file_of(&cache, Digest::of(blob));
    (cache, path)
}

#[test]
fn no_part_of_a_damaged_file_is_complete() {
    let blob = blob(3 << 20);
    // Some of the ranges contain the damaged byte, and others do not.
    for damaged_at in [0, 1 << 20, (3 << 20) - 1] {
        run(async {
            let source = FakeSource::of(&blob);
            let (cache, path) = kept_before(&blob, &source).await;
            fs::File::options().write(true).open(&path).unwrap().write_all_at(b"!", damaged_at).unwrap();
            let ranges = [(0, Some(1)), (100, Some(200)), (1 << 20, Some(2 << 20)), (2 << 20, None), WHOLE];
            let mut readers = Vec::new();
            // All clients join at once. For some of them, the flight has failed before they can read.
            let joined = futures::future::join_all(ranges.map(|_| cache.join(&blob, &source))).await;
            for ((start, end), flight) in ranges.into_iter().zip(joined) {
                match flight {
                    Ok(flight) => readers.push((FlightReader::new(&flight, start, end, source.clone()), start, end)),
                    Err(fault) => assert!(matches!(*fault, FlightFault::Damaged), "{start}..{end:?}"),
                }
            }
            for (reader, start, end) in readers {
                let (got, result) = reply(reader).await;
                assert!((got.len() as u64) < end.unwrap_or(3 << 20) - start, "{start}..{end:?}");
                assert!(matches!(*result.unwrap_err(), FlightFault::Damaged), "{start}..{end:?}");
            }
            assert!(!path.exists());
            cache.landed().await;
            assert!(cache.get(&blob, (100, Some(200)), &source).await.0 == blob[100..200]);
            assert_eq!(source.asked(), [0, 0]);
        });
    }
}

#[test]
fn the_first_part_that_is_read_verifies_the_file_once() {
    run(async {
        let (cache, blob) = (Cache::new(64 << 20), blob(3 << 20));
        let source = FakeSource::of(&blob);
        assert!(cache.get(&blob, WHOLE, &source).await.1.is_ok());
        cache.landed().await;
        let cache = cache.reopened();
        let is_verified = || cache.store.find(&Digest::of(&blob)).unwrap().unwrap().is_verified();
        assert!(!is_verified());
        for (start, end) in [(5, 6), (0, 3 << 20), (1 << 20, 2 << 20)] {
            let (got, result) = cache.get(&blob, (start as u64, Some(end as u64)), &source).await;
            assert!(got == blob[start..end] && result.is_ok());
            assert!(is_verified());
        }
        assert_eq!(source.asked(), [0]);
    });
}

#[test]
fn a_file_that_lost_all_its_bytes_is_no_reply() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let (digest, source) = (Digest::of(&blob), FakeSource::of(&blob));
        let path = cache.folder.path().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, b"").unwrap();
        assert!(cache.get(&blob, WHOLE, &source).await.0 == blob);
    });
}

#[test]
fn a_file_that_gets_shorter_while_the_process_runs_is_removed() {
    run(async {
        let (cache, blob) = (Cache::new(64 << 20), blob(3 << 20));
        let (digest, source) = (Digest::of(&blob), FakeSource::of(&blob));
        assert!(cache.get(&blob, WHOLE, &source).await.1.is_ok());
        cache.landed().await;
        let path = cache.folder.path().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
        let flight = cache.join(&blob, &source).await.unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        let (_, end) = reply(FlightReader::new(&flight, 2 << 20, None, source.clone())).await;
        assert!(matches!(*end.unwrap_err(), FlightFault::Disk(_)));
        assert!(!path.exists());
        drop(flight);
        cache.landed().await;
        assert!(cache.get(&blob, WHOLE, &source).await.0 == blob);
    });
}

#[test]
fn there_are_only_so_many_fetches_at_once() {
    run(async {
        let cache = Cache::new(64 << 20);
        let stored = blob(10);
        assert!(cache.get(&stored, WHOLE, &FakeSource::of(&stored)).await.1.is_ok());
        cache.landed().await;
        let stuck = FakeSource::new(|_, _| opened(0, None, [BodyStep::Hang]));
        for number in 0..MAX_FETCHES {
            cache.join(&number.to_be_bytes(), &stuck).await.unwrap();
        }
        assert!(matches!(*cache.join(b"another", &stuck).await.err().unwrap(), FlightFault::TooMany));
        // A stored blob needs no fetch, and a fetch that is under way can be joined.
        assert!(cache.get(&stored, WHOLE, &stuck).await.0 == stored);
        cache.join(&0_usize.to_be_bytes(), &stuck).await.unwrap();
    });
}

#[test]
fn readers_go_on_by_themselves_when_the_first_ones_token_has_ended() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let (permit, script) = (Rc::new(Notify::new()), blob.clone());
        let gate = Rc::clone(&permit);
        let first = FakeSource::new(move |attempt, _| match attempt {
            0 => {
                opened(0, Some(&script), [send(&script, ..6000), BodyStep::WaitFor(Rc::clone(&gate)), BodyStep::Reset])
            }
            _ => Err(FakeError::Refused),
        });
        let second = FakeSource::of(&blob);
        let flight = cache.join(&blob, &first).await.unwrap();
        let mut readers = [&first, &second].map(|source| FlightReader::new(&flight, 0, None, source.clone()));
        for reader in &mut readers {
            expect(reader, &blob[..6000]).await;
        }
        permit.notify_one();
        let [refused, served] = readers;
        let (rest, end) = reply(served).await;
        assert!(rest == blob[6000..] && end.is_ok());
        assert!(reply(refused).await.1.unwrap_err().is_refusal());
        assert_eq!((first.asked(), second.asked()), (vec![0, 6000, 6000], vec![6000]));
        cache.landed().await;
        assert!(!cache.has(&blob) && cache.is_clean());
    });
}

#[test]
fn a_client_that_leaves_before_the_upstream_answers_changes_nothing() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let source = FakeSource::of(&blob);
        {
            let mut join = Box::pin(cache.join(&blob, &source));
            let begun = std::future::poll_fn(|cx| std::task::Poll::Ready(join.as_mut().poll(cx).is_pending()));
            assert!(begun.await);
        }
        cache.landed().await;
        assert!(cache.has(&blob));
    });
}

#[test]
fn a_flight_waits_as_long_as_its_source() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let (permit, script) = (Rc::new(Notify::new()), blob.clone());
        let gate = Rc::clone(&permit);
        let source = PatientSource(FakeSource::new(move |_, _| {
            opened(0, Some(&script), [BodyStep::WaitFor(Rc::clone(&gate)), send(&script, ..)])
        }));
        let key = FlightKey { upstream: "registry".into(), name: Digest::of(&blob).into() };
        let flight = cache.flights.join(&key, &source).await.unwrap();
        let _reader = FlightReader::new(&flight, 0, None, source.clone());
        sleep(Duration::from_mins(9)).await;
        permit.notify_one();
        cache.landed().await;
        assert!(cache.has(&blob));
        assert_eq!(source.0.asked(), [0]);
    });
}

#[test]
fn a_flight_ends_although_its_source_forgets_its_deadline() {
    run(async {
        let (cache, blob) = (Cache::new(1 << 20), blob(10_000));
        let script = blob.clone();
        let source = FakeSource::new(move |_, offset| opened(offset, Some(&script), [BodyStep::Hang]));
        let (_, end) = cache.get(&blob, WHOLE, &source).await;
        assert!(matches!(*end.unwrap_err(), FlightFault::Silent));
        assert_eq!(cache.flights.count(), 0);
        let key = FlightKey { upstream: "registry".into(), name: Digest::of(&blob).into() };
        assert!(matches!(*cache.flights.join(&key, &NeverOpens).await.err().unwrap(), FlightFault::Silent));
    });
}

#[test]
fn readers_of_a_task_that_panics_or_is_dropped_get_an_error() {
    let blob = blob(10_000);
    let script = blob.clone();
    let source = FakeSource::new(move |_, _| opened(0, Some(&script), [send(&script, ..10), BodyStep::Panic]));
    run(async {
        let cache = Cache::new(1 << 20);
        let (_, end) = cache.get(&blob, WHOLE, &source).await;
        assert!(matches!(*end.unwrap_err(), FlightFault::Abandoned));
        assert!(cache.flights.count() == 0 && cache.is_clean());
    });
    let script = blob.clone();
    let source = FakeSource::new(move |_, _| opened(0, Some(&script), [send(&script, ..10), BodyStep::Hang]));
    let cache = Cache::new(1 << 20);
    let flight = run(cache.join(&blob, &source)).unwrap();
    // The flight's task ends with its runtime. A client on another runtime still reads.
    let (_, end) = run(reply(FlightReader::new(&flight, 0, None, source)));
    assert!(matches!(*end.unwrap_err(), FlightFault::Abandoned));
    assert!(cache.flights.count() == 0 && cache.is_clean());
}

#[test]
fn without_room_each_client_reads_past_the_store() {
    for with_length in [true, false] {
        run(async {
            let (cache, blob) = (Cache::new(0), blob(10_000));
            let script = blob.clone();
            let source = FakeSource::new(move |attempt, offset| {
                let breaks = [BodyStep::Reset].into_iter().take(attempt % 2);
                let steps = [send(&script, offset..(offset + 4000).min(10_000))].into_iter().chain(breaks);
                if with_length {
                    opened(offset, Some(&script), steps)
                } else {
                    opened(offset, None, [send(&script, offset..)])
                }
            });
            let flight = cache.join(&blob, &source).await;
            // Without a length, the lack of room shows only when the first bytes are written.
            assert!(!with_length || flight.unwrap().is_uncached());
            for (start, end) in [(0, 10_000), (0, 1), (5000, 5001), (9999, 10_000), (3000, 9000)] {
                let (got, result) = cache.get(&blob, (start as u64, Some(end as u64)), &source).await;
                assert!(got == blob[start..end] && result.is_ok());
            }
            cache.landed().await;
            assert!(!cache.has(&blob) && cache.is_clean());
        });
    }
}

#[test]
fn without_room_the_upstream_is_asked_once_for_each_client() {
    run(async {
        let (cache, blob) = (Cache::new(0), blob(10_000));
        let source = FakeSource::of(&blob);
        for count in 1..4 {
            assert!(cache.get(&blob, WHOLE, &source).await.0 == blob);
            assert_eq!(source.asked(), vec![0; count]);
        }
    });
}

/// Returns a file object of OSTree and its name.
fn file_object() -> (ContentName, Bytes) {
    let checksum = "85dd35d60e2fdd749a1b6fd0bffcf1f7f0b103980fa5f6c1f5b130816b396014";
    let path = format!("{}/tests/fixtures/ostree/{checksum}.filez", env!("CARGO_MANIFEST_DIR"));
    (ContentName::FileObject(checksum.parse().unwrap()), fs::read(path).unwrap().into())
}

#[test]
fn a_file_object_is_one_fetch_that_is_continued_and_stored_by_the_digest_of_its_file() {
    let (name, file) = file_object();
    let middle = file.len() as u64 / 2;
    for quota in [1 << 20, 0] {
        run(async {
            let cache = Cache::new(quota);
            let script = file.clone();
            let source = FakeSource::new(move |attempt, offset| match attempt % 2 {
                0 => opened(offset, Some(&script), [send(&script, offset..middle), BodyStep::Reset]),
                _ => opened(offset, Some(&script), [send(&script, offset..)]),
            });
            let mut readers = Vec::new();
            for (start, end) in [(0, None), (3, Some(middle)), (0, None)] {
                let flight = cache.join_named(name, &source).await.unwrap();
                readers.push((FlightReader::new(&flight, start, end, source.clone()), start, end));
            }
            for (reader, start, end) in readers {
                let (got, result) = reply(reader).await;
                let end = usize::try_from(end.unwrap_or(file.len() as u64)).unwrap();
                assert!(got == file[usize::try_from(start).unwrap()..end] && result.is_ok());
            }
            cache.landed().await;
            assert_eq!(cache.has(&file), quota > 0);
            assert!(cache.is_clean());
            assert_eq!(source.asked().len(), if quota > 0 { 2 } else { 6 });
        });
    }
}

#[test]
fn a_wrong_file_object_is_cut_off_and_not_stored() {
    let (name, file) = file_object();
    for (quota, with_length) in [(1 << 20, true), (1 << 20, false), (0, true), (0, false)] {
        for wrong_at in [0, 20, file.len() / 2, file.len() - 1] {
            run(async {
                let cache = Cache::new(quota);
                let mut wrong = file.to_vec();
                wrong[wrong_at] ^= 1;
                let wrong = Bytes::from(wrong);
                let script = wrong.clone();
                let source = FakeSource::new(move |_, offset| {
                    let steps = (offset..script.len() as u64).map(|at| send(&script, at..=at));
                    opened(offset, with_length.then_some(&script), steps)
                });
                let flight = cache.join_named(name, &source).await.unwrap();
                let (got, end) = reply(FlightReader::new(&flight, 0, None, source.clone())).await;
                assert!(got.len() < file.len());
                assert!(matches!(*end.unwrap_err(), FlightFault::Wrong(_)));
                cache.landed().await;
                assert!(!cache.has(&wrong) && cache.is_clean());
            });
        }
    }
}

#[test]
fn a_disk_that_fills_midway_costs_no_client_its_reply() {
    run(async {
        let (cache, blob) = (Cache::new(8192), blob(20_000));
        let (permit, script) = (Rc::new(Notify::new()), blob.clone());
        let gate = Rc::clone(&permit);
        let source = FakeSource::new(move |attempt, offset| match attempt {
            0 => opened(
                0,
                None,
                [
                    send(&script, ..8000),
                    BodyStep::WaitFor(Rc::clone(&gate)),
                    send(&script, 8000..12_000),
                    BodyStep::Hang,
                ],
            ),
            _ => opened(offset, Some(&script), [send(&script, offset..15_000), send(&script, 15_000..)]),
        });
        let flight = cache.join(&blob, &source).await.unwrap();
        let reader = |start, end| FlightReader::new(&flight, start, end, source.clone());
        let mut early = reader(0, None);
        expect(&mut early, &blob[..7999]).await;
        let ranges = [(0, 20_000), (0, 1), (7999, 8000), (7998, 8001), (8000, 8001), (10_000, 19_000), (100, 8000)];
        let replies = ranges.map(|(start, end)| spawn_local(reply(reader(start, Some(end)))));
        permit.notify_one();
        let (rest, end) = reply(early).await;
        assert!(rest == blob[7999..] && end.is_ok());
        for ((start, end), reply) in ranges.into_iter().zip(replies) {
            let (got, result) = reply.await.unwrap();
            let expected = &blob[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
            assert!(got == expected && result.is_ok(), "{start}..{end}");
        }
        // The flight asked for the blob from its start, and each reader from the end of the spool on.
        assert_eq!(source.asked(), [0, 8000, 8000, 8000, 8000, 8000, 8000, 8000, 8000]);
        drop(flight);
        cache.landed().await;
        assert!(!cache.has(&blob) && cache.is_clean());
    });
}

/// One connection to a random upstream.
#[derive(Clone, Debug)]
struct RandomConnection {
    /// Bytes that it sends before it breaks.
    bytes: u64,
    break_kind: BreakKind,
    knows_ranges: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakKind {
    Reset,
    End,
    Unreachable,
    Refused,
    /// It sends one wrong byte, and does not break.
    Wrong,
    /// It sends one byte too many.
    TooLong,
}

#[derive(Clone, Debug)]
struct RandomClient {
    joins_after: usize,
    start: u64,
    length: Option<u64>,
    leaves_after: Option<usize>,
    /// The most bytes at a time that the client reads from the file itself; `None` if it never does.
    most_from_file: Option<u64>,
}

fn random_connection() -> impl Strategy<Value = RandomConnection> {
    let kinds = prop_oneof![
        6 => Just(BreakKind::Reset),
        3 => Just(BreakKind::End),
        2 => Just(BreakKind::Unreachable),
        1 => Just(BreakKind::Refused),
        1 => Just(BreakKind::Wrong),
        1 => Just(BreakKind::TooLong)
    ];
    (1..20_000_u64, kinds, proptest::bool::weighted(0.8))
        .prop_map(|(bytes, break_kind, knows_ranges)| RandomConnection { bytes, break_kind, knows_ranges })
}

fn random_client() -> impl Strategy<Value = RandomClient> {
    let start = prop_oneof![Just(0), 0..40_000_u64];
    let leaves_after = proptest::option::weighted(0.2, 0..10_usize);
    (0..60_usize, start, proptest::option::of(1..40_000_u64), leaves_after, proptest::option::of(1..40_000_u64))
        .prop_map(|(joins_after, start, length, leaves_after, most_from_file)| RandomClient {
            joins_after,
            start,
            length,
            leaves_after,
            most_from_file,
        })
}

/// Makes an upstream with these first connections. All later connections are good.
fn random_source(blob: &Bytes, connections: Vec<RandomConnection>, with_length: bool, chunk: u64) -> FakeSource {
    let blob = blob.clone();
    FakeSource::new(move |attempt, offset| {
        let length = blob.len() as u64;
        let connection = connections.get(attempt);
        let mut sent = blob.clone();
        let mut steps = Vec::new();
        let mut from = offset;
        let mut to = length;
        if let Some(connection) = connection {
            from = if connection.knows_ranges { offset } else { 0 };
            let end = (from + connection.bytes).min(length);
            match connection.break_kind {
                BreakKind::Unreachable => return Err(FakeError::Unreachable),
                BreakKind::Refused => return Err(FakeError::Refused),
                BreakKind::Reset | BreakKind::End => to = end,
                BreakKind::Wrong if end > from => {
                    let mut wrong = sent.to_vec();
                    wrong[usize::try_from(end).unwrap() - 1] ^= 1;
                    sent = wrong.into();
                }
                BreakKind::Wrong => {}
                BreakKind::TooLong => {
                    sent = [&sent[..], b"!"].concat().into();
                    to = length + 1;
                }
            }
        }
        for at in (from..to).step_by(usize::try_from(chunk).unwrap()) {
            steps.extend([send(&sent, at..(at + chunk).min(to)), BodyStep::Yield]);
        }
        if connection.is_some_and(|connection| connection.break_kind == BreakKind::Reset) {
            steps.push(BodyStep::Reset);
        }
        opened(from, with_length.then_some(&blob), steps)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_reply_is_right_or_cut_off(
        length in 0..40_000_usize,
        with_length: bool,
        chunk in 500..9000_u64,
        quota in prop_oneof![3 => Just(1_u64 << 20), 1 => (0..10_u64).prop_map(|blocks| blocks * 4096)],
        connections in proptest::collection::vec(random_connection(), 0..6),
        clients in proptest::collection::vec(random_client(), 1..6),
    ) {
        let blob = blob(length);
        let is_harmless = with_length
            && connections.iter().all(|connection| connection.break_kind == BreakKind::Reset && connection.knows_ranges);
        run(async {
            let cache = Rc::new(Cache::new(quota));
            let source = random_source(&blob, connections, with_length, chunk);
            let replies: Vec<_> = clients.iter().cloned().map(|client| {
                let (cache, source, blob) = (Rc::clone(&cache), source.clone(), blob.clone());
                spawn_local(async move {
                    for _ in 0..client.joins_after {
                        yield_now().await;
                    }
                    let flight = cache.join(&blob, &source).await?;
                    let end = client.length.map(|length| client.start + length);
                    let mut reader = FlightReader::new(&flight, client.start, end, source);
                    let mut got = Vec::new();
                    let mut turns = 0;
                    loop {
                        if let Some(most) = client.most_from_file
                            && let Some(bytes) = next_from_file(&mut reader, most)
                        {
                            got.extend(bytes);
                        } else if let Some(bytes) = reader.next().await? {
                            got.extend_from_slice(&bytes);
                        } else {
                            break;
                        }
                        turns += 1;
                        if client.leaves_after.is_some_and(|limit| turns > limit) {
                            return Ok(None);
                        }
                    }
                    Ok::<_, ReplyFault>(Some(got))
                })
            }).collect();
            for (client, reply) in clients.iter().zip(replies) {
                let place = |at: u64| usize::try_from(at).unwrap().min(length);
                let start = place(client.start);
                let end = client.length.map_or(length, |length| place(client.start + length));
                match reply.await.unwrap() {
                    Ok(Some(got)) => assert!(got == blob[start..end], "{client:?}"),
                    Ok(None) => {}
                    Err(fault) => assert!(!is_harmless, "{client:?}: {fault}"),
                }
            }
            cache.landed().await;
            assert!(cache.is_clean());
            if let Some(stored) = cache.store.find(&Digest::of(&blob)).unwrap() {
                assert_eq!(stored.length(), length as u64);
                let file = cache.folder.path().join("blobs/sha256");
                let hex = Digest::of(&blob).hex();
                assert!(fs::read(file.join(&hex[..2]).join(hex)).unwrap() == blob);
            }
        });
    }
}
