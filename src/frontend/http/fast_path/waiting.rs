//! What a connection waits for, and how long it may wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::clock;
use crate::frontend::connections::ConnectionTimeouts;
use crate::frontend::shutdown::StopReceiver;

/// How long a connection may take to send its first request after the stop signal.
pub(in crate::frontend) const GRACE: Duration = Duration::from_secs(2);

/// How long a connection may take to send another request after the stop signal. The reply to that request ends
/// the connection.
pub(super) const SHORT_GRACE: Duration = Duration::from_millis(250);

/// The timeouts of a connection, and its end when the process stops.
///
/// To save time, most waits check only a few flags. The alarms are set at the first wait and stay set. If the alarm
/// goes off although a request was answered after the alarm was set, the alarm is set again.
pub(super) struct Waiting<'a> {
    timeouts: &'a ConnectionTimeouts,
    /// Whether the next wait is a new one: the first, or the first after an answer.
    is_new: bool,
    /// Whether a request was answered since the alarm was last set.
    is_used: bool,
    /// Whether a request was ever answered.
    was_used: bool,
    alarms: Option<Alarms>,
}

struct Alarms {
    alarm: Pin<Box<Sleep>>,
    awaited: Awaited,
    stop: Pin<Box<dyn Future<Output = ()>>>,
}

/// What the connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The first byte of a request.
    Request,
    /// The rest of a head.
    Rest,
    /// A request or the rest of one, while the process is stopping.
    Last,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(timeouts: &'a ConnectionTimeouts) -> Self {
        Self { timeouts, is_new: true, is_used: false, was_used: false, alarms: None }
    }

    pub(super) fn answered(&mut self) {
        self.is_new = true;
        self.is_used = true;
        self.was_used = true;
    }

    /// The present time, if a new wait begins. A part of a request begins no new wait. Otherwise the connection of a
    /// client that sends a request bit by bit would always be among the newest connections, which are closed last.
    pub(super) fn since(&mut self) -> Option<Duration> {
        std::mem::take(&mut self.is_new).then(clock::coarse)
    }

    /// Ready when the wait has taken too long. `is_asking`: a part of a head has arrived.
    pub(super) fn poll_over(
        &mut self,
        is_asking: bool,
        cx: &mut Task<'_>,
        is_draining: bool,
        stop: &StopReceiver,
    ) -> Poll<()> {
        let (awaited, limit) = match (is_draining, is_asking) {
            (true, false) if self.was_used => (Awaited::Last, SHORT_GRACE),
            (true, _) => (Awaited::Last, GRACE),
            (false, true) => (Awaited::Rest, self.timeouts.rest),
            (false, false) if self.was_used => (Awaited::Request, self.timeouts.idle),
            (false, false) => (Awaited::Request, self.timeouts.first_byte),
        };
        let Some(alarms) = &mut self.alarms else {
            self.is_used = false;
            let alarms = self.alarms.insert(Alarms::set(limit, awaited, stop));
            // Polled so that the stop signal wakes this task. If the signal has just arrived, the task wakes itself.
            if !is_draining && alarms.stop.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            return alarms.alarm.as_mut().poll(cx);
        };
        let is_another = std::mem::replace(&mut alarms.awaited, awaited) != awaited;
        let is_over = alarms.alarm.is_elapsed();
        let anew = match awaited {
            // A request was answered after the alarm was set, so the alarm went off too early.
            Awaited::Request => is_over && self.is_used,
            Awaited::Rest => is_another || self.is_used,
            Awaited::Last => is_another,
        };
        if anew {
            self.is_used = false;
            alarms.alarm.as_mut().reset(Instant::now() + limit);
            return alarms.alarm.as_mut().poll(cx);
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Alarms {
    fn set(limit: Duration, awaited: Awaited, stop: &StopReceiver) -> Self {
        let mut stop = stop.clone();
        let stop = async move {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        Self { alarm: Box::pin(sleep(limit)), awaited, stop: Box::pin(stop) }
    }
}
