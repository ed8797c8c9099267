//! Catches the signals of the process, before the process does anything else. By default, SIGHUP, SIGUSR1 and SIGUSR2
//! end a process, and SIGTERM has no effect on the first process of a container.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The caught signals. Wait for them on the event loop that [`Signals::catch`] returns.
#[derive(Debug)]
pub struct Signals {
    /// SIGTERM and SIGINT.
    pub stop: StopSignals,
    /// SIGHUP.
    pub reload: Signal,
}

/// The signals that end the process.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches the signals, and returns the event loop on which they are received.
    pub fn catch() -> io::Result<(Runtime, Self)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let caught = runtime.block_on(async {
            let reload = signal(SignalKind::hangup())?;
            // SIGUSR1 and SIGUSR2 have no meaning here, but uncaught they would end the process.
            let (_, _) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
            let stop = StopSignals {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            };
            io::Result::Ok(Self { stop, reload })
        })?;
        Ok((runtime, caught))
    }
}

impl StopSignals {
    /// Waits for the first of these signals. Returns its number.
    pub async fn recv(&mut self) -> i32 {
        poll_fn(|context| {
            if self.terminate.poll_recv(context).is_ready() {
                Poll::Ready(SignalKind::terminate().as_raw_value())
            } else if self.interrupt.poll_recv(context).is_ready() {
                Poll::Ready(SignalKind::interrupt().as_raw_value())
            } else {
                Poll::Pending
            }
        })
        .await
    }
}
