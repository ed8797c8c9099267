//! Reads files again at SIGHUP.

use std::fmt;
use std::sync::Arc;
use std::thread;

use tokio::signal::unix::Signal;
use tokio::sync::oneshot;

/// Something to read again, such as the file of a certificate. The new content takes effect, or the log says what is
/// wrong with the file.
pub struct Reload {
    /// The name for the log, such as "certificate".
    what: &'static str,
    run: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Reload {
    /// Makes a reload that the log calls `what`. `run` reads the file, puts it into effect and writes to the log. `run`
    /// may block.
    pub fn new(what: &'static str, run: impl Fn() + Send + Sync + 'static) -> Self {
        Self { what, run: Arc::new(run) }
    }

    /// Begins to reload on a thread of its own. Reading a file on an unreachable server blocks, and neither a stop nor
    /// another reload must wait for that.
    fn begin(&self) -> impl Future<Output = ()> + use<> {
        let (done, wait) = oneshot::channel();
        let (what, run) = (self.what, Arc::clone(&self.run));
        let started = thread::Builder::new().name("reload".to_owned()).spawn(move || {
            run();
            // This fails if nothing waits for the reload any more.
            let _ = done.send(());
        });
        async move {
            match started {
                Err(error) => log::error!("cannot start a thread to reload the {what}: {error}"),
                Ok(_) if wait.await.is_err() => log::error!("reloading the {what} panicked"),
                Ok(_) => {}
            }
        }
    }
}

/// Runs all reloads at each signal, for ever. If there are no reloads, the log gets `nothing` as the reason.
pub async fn reload_on(mut signal: Signal, reloads: &[Reload], nothing: &str) {
    loop {
        signal.recv().await;
        if reloads.is_empty() {
            log::warn!("nothing to reload: {nothing}");
        }
        let begun: Vec<_> = reloads.iter().map(Reload::begin).collect();
        for reload in begun {
            reload.await;
        }
    }
}
