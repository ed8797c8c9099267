//! What SIGHUP reads again. If a file has an error, nothing changes.

use std::fmt;
use std::sync::Arc;
use std::thread;

use futures::future::join_all;
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;

use crate::config::{AccessSource, ForwardsFile, TlsFiles};
use crate::frontend::context::Context;

/// Something to read again, such as the file of forwarders. The new content is put into effect, or the log says what is
/// wrong with it.
pub(super) struct Reload {
    /// The name for the log, such as "forwarders".
    what: &'static str,
    run: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("what", &self.what).finish_non_exhaustive()
    }
}

impl Reload {
    fn new(what: &'static str, run: impl Fn() + Send + Sync + 'static) -> Self {
        Self { what, run: Arc::new(run) }
    }

    /// Reloads the file of forwarders.
    pub(super) fn forwarders(context: Arc<Context>, file: ForwardsFile) -> Self {
        Self::new("forwarders", move || {
            let Some(forwarders) = context.tracker.forwarders() else { return };
            let read = file.read().map_err(|error| error.to_string());
            match read.and_then(|entries| forwarders.replace(&entries).map(|()| entries.len())) {
                // The file may have been read while it was being written.
                Ok(0) => log::warn!("reloaded {file}: no forwarders left"),
                Ok(count) => log::info!("reloaded {file}; forwarders now: {count}"),
                Err(error) => log::error!("{error}; the forwarders do not change"),
            }
        })
    }

    /// Reloads the file of access rules.
    pub(super) fn access(context: Arc<Context>, file: AccessSource) -> Self {
        Self::new("access rules", move || {
            let Some(access) = &context.access else { return };
            match file.read() {
                Ok(options) => {
                    access.replace(options);
                    log::info!("reloaded {file}");
                }
                Err(error) => log::error!("{error}; the access rules do not change"),
            }
        })
    }

    /// Reloads the certificate for our own listeners.
    pub(super) fn certificate(context: Arc<Context>, files: TlsFiles) -> Self {
        Self::new("certificate", move || {
            let Some(tls) = &context.tls else { return };
            match files.read() {
                Ok(certificate) => {
                    tls.replace(certificate);
                    log::info!("reloaded {files}; new connections get this certificate");
                }
                Err(error) => log::error!("{error}; the certificate does not change"),
            }
        })
    }

    /// Reloads on a thread of its own. Reading a file on an unreachable server blocks, and a stop must not wait for
    /// that.
    async fn run(&self) {
        let (done, wait) = oneshot::channel();
        let run = Arc::clone(&self.run);
        let started = thread::Builder::new().name("reload".to_owned()).spawn(move || {
            run();
            // This fails if nothing waits for the reload any more.
            let _ = done.send(());
        });
        match started {
            Err(error) => log::error!("cannot start a thread to reload the {}: {error}", self.what),
            Ok(_) if wait.await.is_err() => log::error!("reloading the {} panicked", self.what),
            Ok(_) => {}
        }
    }
}

/// Reads everything again at each signal.
pub(super) async fn on_signal(mut signal: Signal, reloads: &[Reload]) {
    loop {
        signal.recv().await;
        if reloads.is_empty() {
            log::warn!("nothing to reload: there is no forwarders file, no access rules file and no certificate");
        }
        join_all(reloads.iter().map(Reload::run)).await;
    }
}
