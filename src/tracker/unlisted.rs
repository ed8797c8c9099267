//! Announces whose client is not listed as a peer: its warning, the count for the metrics, and the log line.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Once;

use super::requester::Standing;
use crate::metrics::UnlistedMetrics;

/// The warning for a client whose address is not known.
const UNCLEAR: &str = "a proxy in front of this tracker does not clearly name your address, so you get public peers \
                       only and are not listed as a peer; the tracker's log tells the operator what to set \
                       (TRUSTED_PROXIES, REAL_IP_HEADER)";

/// The warning for a client behind a proxy that is not trusted.
const UNTRUSTED: &str = "your announce came through a proxy that this tracker does not trust, so you get public \
                         peers only and are not listed as a peer; the operator can name the proxy in TRUSTED_PROXIES";

/// The warning for a web page.
const PAGE: &str = "a web page sent this announce, so it gets public peers only and is not listed as a peer";

/// The warning for a client whose address other clients cannot reach.
const UNREACHABLE: &str =
    "you are not listed as a peer, because no other client can reach the address that you announce from";

/// Counts and logs announces whose client is not listed as a peer.
#[derive(Debug)]
pub(super) struct Unlisted {
    metrics: UnlistedMetrics,
    /// Logs the first address that no other client can reach. There may be many such addresses, so the others appear
    /// only in the debug log.
    told: Once,
}

impl Unlisted {
    pub(super) fn new(metrics: UnlistedMetrics) -> Self {
        Self { metrics, told: Once::new() }
    }

    /// Counts an announce whose sender is not known to be a client. Returns its warning.
    pub(super) fn outsider(&self, standing: Standing) -> Cow<'static, str> {
        let (count, warning) = match standing {
            Standing::Page => (&self.metrics.page, PAGE),
            Standing::Untrusted => (&self.metrics.unclear, UNTRUSTED),
            _ => (&self.metrics.unclear, UNCLEAR),
        };
        count.inc();
        warning.into()
    }

    /// Counts and logs an announce from an address that other clients cannot reach. Returns the client's warning.
    pub(super) fn unreachable(&self, ip: IpAddr) -> Cow<'static, str> {
        self.metrics.address.inc();
        log::debug!("a client at {ip} is not listed: no other client can reach that address");
        self.told.call_once(|| {
            log::info!(
                "clients such as the one at {ip} get peers but are not listed: no other client can reach that address. \
                 Logged once; retracker_announces_unlisted_total counts such announces"
            );
        });
        UNREACHABLE.into()
    }
}
