//! Settings about addresses. They depend on each other, so they are read together.

use ::settings::Sources;

use super::error::ConfigError;
use super::settings::{EXTERNAL_ADDRESS, REAL_IP_HEADER, TRUSTED_PROXIES, X_REAL_IP, ZONES};
use super::zones;
use crate::frontend::client_address::{ClientAddressOptions, RealIpHeader, TrustedProxies};
use crate::frontend::listen::{Listen, ListenAddr};
use crate::topology::Topology;

/// Reads `-x`, `--trusted-proxies` and `--real-ip-header` together.
pub(super) fn client_address(sources: &Sources<'_>, listen: &[Listen]) -> Result<ClientAddressOptions, ConfigError> {
    let x_real_ip = X_REAL_IP.read(sources)?;
    let trusted = TRUSTED_PROXIES.read(sources)?;
    let header = REAL_IP_HEADER.given(sources)?;
    let has_unix_socket = listen.iter().any(|address| matches!(address.address, ListenAddr::Unix(_)));
    let trusts_a_proxy = trusted.is_some() || (!x_real_ip && has_unix_socket);
    let header = match header {
        Some(header) if !trusts_a_proxy => {
            return Err(header
                .refuse("--trusted-proxies (TRUSTED_PROXIES) beside it, to say whose headers are trusted")
                .into());
        }
        header => header.map(|header| header.value),
    };
    // `-x` alone trusts `X-Real-IP` from any sender, as the Go retracker does.
    Ok(match (trusted, x_real_ip) {
        // Beside --trusted-proxies, `-x` only says that the header of the trusted proxies is `X-Real-IP`.
        (Some(networks), _) => ClientAddressOptions {
            proxies: TrustedProxies::At(networks),
            header: header.or_else(|| x_real_ip.then(RealIpHeader::x_real_ip)),
        },
        (None, true) => {
            ClientAddressOptions { proxies: TrustedProxies::Anyone, header: Some(RealIpHeader::x_real_ip()) }
        }
        (None, false) => ClientAddressOptions { proxies: TrustedProxies::default(), header },
    })
}

/// Reads `--zones` and `--external-address` together.
pub(super) fn topology(sources: &Sources<'_>) -> Result<Topology, ConfigError> {
    let external = EXTERNAL_ADDRESS.read(sources)?.unwrap_or_default();
    let zones = match ZONES.given(sources)? {
        Some(file) => zones::read(file.origin, &file.value)?,
        None => Vec::new(),
    };
    Ok(Topology::new(&zones, external))
}
