//! The TLS settings for upstream trackers.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use trust::{Authorities, client_config, default_roots};

/// Returns the TLS settings for one upstream. Entries without authorities share one configuration, so that any thread
/// can resume their sessions. The error is a text of the TLS library.
pub(super) fn tls_config(authorities: Option<&Authorities>) -> Result<Arc<ClientConfig>, String> {
    static DEFAULT: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    authorities.map_or_else(|| DEFAULT.get_or_init(default).clone(), Authorities::client_config)
}

fn default() -> Result<Arc<ClientConfig>, String> {
    let roots = default_roots();
    #[cfg(test)]
    let roots = super::test_tls::with_test_root(roots);
    client_config(roots)
}
