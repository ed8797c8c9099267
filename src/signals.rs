//! The signals that the process acts upon. They are caught before it does anything else: by default SIGHUP, SIGUSR1 and SIGUSR2
//! end a process, and the first process of a container does not even hear SIGTERM.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is left to do of it is [`stop`](Self::stop) and [`reload`](Self::reload), on the event loop that comes with them.
#[derive(Debug)]
pub struct Signals {
    /// SIGTERM and SIGINT.
    pub stop: StopSignals,
    /// SIGHUP.
    pub reload: Signal,
}

/// Waits for the signals that end the process.
#[derive(Debug)]
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Catches them, and gives the event loop of the thread on which they are heard.
    pub fn catch() -> io::Result<(Runtime, Self)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let caught = runtime.block_on(async {
            let reload = signal(SignalKind::hangup())?;
            // They mean nothing here, and end nothing: once caught, a signal stays so.
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
    /// Done at the first of them; with its number.
    pub async fn told(&mut self) -> i32 {
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
