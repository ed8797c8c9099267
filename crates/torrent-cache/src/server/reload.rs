//! What SIGHUP reads again. If a file has an error, nothing changes.

use std::sync::Arc;

use certificate::TlsServer;
use daemon::Reload;

use super::context::CacheContext;
use crate::config::{AuthFile, PemFiles};

/// Why there can be nothing to reload, for the log.
pub const NOTHING_TO_RELOAD: &str = "there is no certificate and no REGISTRY_AUTH_FILE";

/// Makes the reload of our own port's certificate.
pub(super) fn certificate(tls: Arc<TlsServer>, files: PemFiles) -> Reload {
    Reload::new("certificate", move || tls.reload(&files, files.read()))
}

/// Makes the reload of our own logins. The reload forgets the logins, so that the next request reads the file. Without
/// SIGHUP, a login is read again after a minute.
pub(super) fn logins(context: Arc<CacheContext>, file: AuthFile) -> Reload {
    Reload::new("logins", move || match file.check() {
        Ok(()) => {
            context.authorization.forget_logins();
            log::info!("reloaded {file}; the next requests log in with it");
        }
        Err(error) => log::error!("{error}; the logins that were read before stay in use for up to a minute"),
    })
}
