//! How long a connection waits, and for what.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::clock;
use crate::frontend::shutdown::StopReceiver;

/// How long a client may take to send a head once it has begun, or to read [`AT_ONCE`] bytes of what it was sent.
pub(super) const IO_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may take until the first byte of its first request.
pub(super) const FIRST_BYTE: Duration = Duration::from_secs(5);

/// A connection on which nothing is asked is kept for at least so long, and for twice as long at most. Clients announce in
/// minutes; proxies reuse within seconds.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a connection without a request is waited for once the process has been told to stop.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// The same for one that has had a request: a client that keeps asking gets one more reply, which says that it is the last.
pub(super) const SHORT_GRACE: Duration = Duration::from_millis(250);

/// What ends a connection on which nothing is asked: time, or the end of the process.
///
/// A wait costs a few looks at flags. The alarms are set with the first one and stay set: one that goes off while the
/// connection is in use is set anew.
pub(super) struct Waiting {
    /// When a request was last answered; before that, when the first wait began.
    last_request: Option<Duration>,
    /// Whether one has been answered since the last wait, since the alarm was set, and at all.
    is_news: bool,
    is_used: bool,
    was_used: bool,
    alarms: Option<Alarms>,
}

struct Alarms {
    alarm: Pin<Box<Sleep>>,
    awaited: Awaited,
    stop: Pin<Box<dyn Future<Output = ()>>>,
}

/// What an alarm waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The first byte of a request.
    Request,
    /// The rest of a head.
    Rest,
    /// Either, while the process is stopping.
    Last,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self { last_request: None, is_news: false, is_used: false, was_used: false, alarms: None }
    }

    /// A request has been answered.
    pub(super) fn answered(&mut self) {
        self.is_news = true;
        self.is_used = true;
        self.was_used = true;
    }

    /// The time of the last request, if this is the first wait since.
    pub(super) fn since(&mut self, is_asking: bool) -> Option<Duration> {
        if std::mem::take(&mut self.is_news) || self.last_request.is_none() {
            self.last_request = Some(clock::coarse());
            return self.last_request;
        }
        let was_asking = self.alarms.as_ref().map(|alarms| alarms.awaited == Awaited::Rest);
        self.last_request.filter(|_| was_asking != Some(is_asking))
    }

    /// Ready once the client need not be waited for any longer. `is_asking` is whether a part of a head is there.
    pub(super) fn poll_over(
        &mut self,
        is_asking: bool,
        cx: &mut Task<'_>,
        is_draining: bool,
        stop: &StopReceiver,
    ) -> Poll<()> {
        let (awaited, patience) = match (is_draining, is_asking) {
            (true, false) if self.was_used => (Awaited::Last, SHORT_GRACE),
            (true, _) => (Awaited::Last, GRACE),
            (false, true) => (Awaited::Rest, IO_TIMEOUT),
            (false, false) if self.was_used => (Awaited::Request, KEEP_ALIVE),
            (false, false) => (Awaited::Request, FIRST_BYTE),
        };
        let Some(alarms) = &mut self.alarms else {
            self.is_used = false;
            let alarms = self.alarms.insert(Alarms::set(patience, awaited, stop));
            // Polled so that it wakes this task. The stop may have come just now.
            if !is_draining && alarms.stop.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            return alarms.alarm.as_mut().poll(cx);
        };
        let is_another = std::mem::replace(&mut alarms.awaited, awaited) != awaited;
        let is_over = alarms.alarm.is_elapsed();
        let anew = match awaited {
            // An earlier alarm may go off first, which is set anew then.
            Awaited::Request => is_over && self.is_used,
            Awaited::Rest => is_another || self.is_used,
            Awaited::Last => is_another,
        };
        if anew {
            self.is_used = false;
            alarms.alarm.as_mut().reset(Instant::now() + patience);
            return alarms.alarm.as_mut().poll(cx);
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Alarms {
    fn set(patience: Duration, awaited: Awaited, stop: &StopReceiver) -> Self {
        let mut stop = stop.clone();
        let stop = async move {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        Self { alarm: Box::pin(sleep(patience)), awaited, stop: Box::pin(stop) }
    }
}
