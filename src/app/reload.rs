//! Reads files again after SIGHUP. If a file has an error, its previous content stays in force.

use std::sync::Arc;

use daemon::Reload;

use crate::config::{AccessSource, ForwardsFile, TlsFiles};
use crate::frontend::context::Context;

/// Why a process reloads nothing, for the log.
pub(super) const NOTHING: &str = "there is no forwarders file, no access rules file and no certificate";

/// Reloads the file of forwarders.
pub(super) fn forwarders(context: Arc<Context>, file: ForwardsFile) -> Reload {
    Reload::new("forwarders", move || {
        let Some(forwarders) = context.tracker.forwarders() else { return };
        let read = file.read().map_err(|error| error.to_string());
        match read.and_then(|entries| forwarders.replace(&entries).map(|()| entries.len())) {
            // This is a warning, because the file may have been read while an editor was still writing it.
            Ok(0) => log::warn!("reloaded {file}: no forwarders left"),
            Ok(count) => log::info!("reloaded {file}; forwarders now: {count}"),
            Err(error) => log::error!("{error}; the forwarders do not change"),
        }
    })
}

/// Reloads the file of access rules.
pub(super) fn access(context: Arc<Context>, file: AccessSource) -> Reload {
    Reload::new("access rules", move || {
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
pub(super) fn certificate(context: Arc<Context>, files: TlsFiles) -> Reload {
    Reload::new("certificate", move || {
        context.tls.iter().for_each(|tls| tls.reload(&files, files.read()));
    })
}
