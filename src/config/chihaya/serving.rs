//! Applies a Chihaya file to the tracker's configuration. The file replaces the tracker's own settings for the same
//! things.

use std::sync::Arc;
use std::time::Duration;

use ::settings::{Declared, Fallback, InvalidValue, Origin, Sources};

use super::ChihayaFile;
use super::model::{
    Approval, ChihayaConfig, ChihayaHttp, ChihayaTls, ChihayaUdp, HttpTimeouts, PrivateKey, RequestRules,
};
use super::rules::{self, ChihayaRules};
use crate::access::Registered;
use crate::config::error::ConfigError;
use crate::config::settings::{
    ACCESS, ADMIN_LISTEN, ALLOWED_HOSTS, ANNOUNCE_INTERVAL, CHIHAYA, IP_PARAM, LISTEN, PEER_AGE, REAL_IP_HEADER,
    TLS_CERT, TLS_KEY, TRUSTED_PROXIES, UDP_LISTEN, X_REAL_IP,
};
use crate::config::share;
use crate::config::tls::{Tls, TlsFiles};
use crate::config::{AccessRules, AccessSource, Config};
use crate::forward::UpstreamProxies;
use crate::frontend::chihaya_pages::ChihayaPages;
use crate::frontend::client_address::TrustedProxies;
use crate::frontend::connections::{ConnectionLimits, ConnectionTimeouts};
use crate::frontend::hosts::HostName;
use crate::frontend::listen::{Listen, Transport};
use crate::frontend::routes::{RoutePattern, TrackerPaths};
use crate::frontend::udp::connection_id::SharedKey;
use crate::topology::IpParam;
use crate::tracker::{Policy, RequestLimits, WantLimits};
use tracker_protocol::route::{Route, route};

/// The settings that a file replaces. To give one of them beside the file is an error.
static COVERED: [&dyn Declared; 11] = [
    &LISTEN,
    &UDP_LISTEN,
    &ADMIN_LISTEN,
    &TLS_CERT,
    &TLS_KEY,
    &ANNOUNCE_INTERVAL,
    &PEER_AGE,
    &X_REAL_IP,
    &REAL_IP_HEADER,
    &IP_PARAM,
    &ACCESS,
];

/// Refuses settings that the file replaces. A variable with the default value is accepted: docker-compose.yml sets all.
pub(in crate::config) fn refuse_covered(sources: &Sources<'_>) -> Result<(), ConfigError> {
    for setting in COVERED {
        let Some((origin, found)) = setting.typed(sources) else { continue };
        let is_default = matches!(setting.about().default, Fallback::Is(default) if default == found);
        if !(is_default && matches!(origin, Origin::Variable(_))) {
            return Err(
                InvalidValue { origin, found, expected: "none beside --chihaya, whose file replaces it" }.into()
            );
        }
    }
    Ok(())
}

/// Applies the file's values to the settings that it replaces.
pub(in crate::config) fn apply(
    config: &mut Config,
    file: &ChihayaFile,
    sources: &Sources<'_>,
) -> Result<(), ConfigError> {
    let chihaya = file.checked()?;
    if !chihaya.create_on_announce && chihaya.api.is_none() {
        return Err(file.problem(PUT_TORRENTS));
    }
    config.warnings.extend(file.warnings());
    let ChihayaConfig { interval, peer_age, http, udp, metrics, .. } = chihaya;
    config.policy = Policy { local_only_after: config.policy.local_only_after, ..policy(chihaya) };
    config.store.announce_interval = Duration::from_secs((*interval).into());
    config.store.peer_age = *peer_age;
    if let Some(forward) = &mut config.forward {
        forward.options.peer_age = *peer_age;
    }
    let tls = http.as_ref().and_then(|http| http.tls.as_ref());
    let clients = http.iter().flat_map(listeners);
    config.listen = clients.chain(operators(chihaya)).collect();
    config.udp_listen = udp.iter().map(|udp| udp.listen.clone()).collect();
    if config.listen.is_empty() && config.udp_listen.is_empty() {
        return Err(file.problem("it has no address to listen on, expected one such as http.addr: 0.0.0.0:6881"));
    }
    config.tls = tls.map(|tls| certificate(tls, file)).transpose()?;
    config.prometheus |= metrics.is_some();
    if operators(chihaya).next().is_some() && ALLOWED_HOSTS.given(sources)?.is_none() {
        // Chihaya's listeners for operators answer requests for any host name.
        config.allowed_hosts = vec![HostName::Any];
    }
    if let Some(header) = http.as_ref().and_then(|http| http.real_ip_header.clone()) {
        config.client_address.header = Some(header);
        if TRUSTED_PROXIES.given(sources)?.is_none() {
            config.client_address.proxies = TrustedProxies::Anyone;
        }
    }
    config.routes = http.as_ref().and_then(routes);
    if let Some(http) = http {
        limit_connections(config, http);
    }
    if let Some(api) = &chihaya.api {
        let usual = ConnectionLimits::OPERATORS;
        let total = api.max_connections.map_or(usual.total, |limit| limit.get().min(usual.total));
        config.operator_connections =
            ConnectionLimits { timeouts: timeouts(api.timeouts), ..ConnectionLimits::up_to(total) };
    }
    config.udp_key = udp.as_ref().and_then(udp_key).or(config.udp_key.take());
    config.share = share::given(sources, chihaya.share.clone())?;
    if chihaya.respect_address_family {
        config.topology = std::mem::take(&mut config.topology).with_own_family_only();
    }
    say_where_values_come_from(config, sources);
    let registered = chihaya.api.as_ref().map(|_| Arc::new(registered(chihaya)));
    config.chihaya = Some(ChihayaPages { registered: registered.clone() });
    config.access = Some(AccessRules {
        options: rules::access(chihaya, registered.as_ref()),
        file: AccessSource::Chihaya(ChihayaRules::of(file, registered)),
        proxies: UpstreamProxies::from_env(&sources.env),
    });
    Ok(())
}

/// In the list of settings in force, gives replaced settings no value, and the file as origin.
fn say_where_values_come_from(config: &mut Config, sources: &Sources<'_>) {
    let origin = CHIHAYA.typed(sources).map(|(origin, _)| origin.to_string());
    let is_covered = |variable| COVERED.iter().any(|covered| covered.about().variable == variable);
    for setting in config.settings.iter_mut().filter(|setting| is_covered(setting.variable)) {
        (setting.value, setting.origin) = (None, origin.clone());
    }
}

/// Applies the limits of the file: how long clients may take, and how many connections they may have.
fn limit_connections(config: &mut Config, http: &ChihayaHttp) {
    let connections = &mut config.connections;
    if let Some(limit) = http.max_connections {
        connections.total = Some(connections.total.map_or(limit.get(), |own| own.min(limit.get())));
    }
    connections.timeouts = timeouts(http.timeouts);
    connections.keep_alive = http.keep_alive;
    config.drain = http.timeouts.drain.unwrap_or(config.drain);
}

/// Stands for no limit, since a timer needs a time. No connection lasts for a year.
const NO_LIMIT: Duration = Duration::from_hours(365 * 24);

fn timeouts(HttpTimeouts { read, write, idle, .. }: HttpTimeouts) -> ConnectionTimeouts {
    let limit = |timeout: Option<Duration>| timeout.unwrap_or(NO_LIMIT);
    ConnectionTimeouts {
        first_byte: limit(read),
        rest: limit(read),
        send: limit(write),
        // Go's server too uses the limit for reading if there is no idle limit.
        idle: limit(idle.or(read)),
    }
}

fn udp_key(udp: &ChihayaUdp) -> Option<SharedKey> {
    udp.private_key.as_ref().map(|PrivateKey(text)| SharedKey::new(text, udp.max_clock_skew))
}

fn policy(chihaya: &ChihayaConfig) -> Policy {
    let ChihayaConfig { interval, min_interval, interval_variation, http, udp, .. } = chihaya;
    let limits = |requests: Option<RequestRules>| requests.map(limits).unwrap_or_default();
    Policy {
        min_interval: *min_interval,
        variation: *interval_variation,
        http: limits(http.as_ref().map(|http| http.requests)),
        udp: limits(udp.as_ref().map(|udp| udp.requests)),
        ..Policy::every(*interval)
    }
}

fn limits(RequestRules { ip_spoofing, max_numwant, default_numwant, max_scrape }: RequestRules) -> RequestLimits {
    let whole = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let most = max_numwant.map_or(UNLIMITED_WANT, whole);
    RequestLimits {
        want: WantLimits { usual: whole(default_numwant).min(most), most },
        max_scrape: max_scrape.map(whole),
        ip_param: if ip_spoofing { IpParam::Always } else { IpParam::Never },
    }
}

/// The most peers in a reply if a file of Chihaya v1.0 is in use, because v1.0 has no such limit.
const UNLIMITED_WANT: usize = 1000;

const PUT_TORRENTS: &str = "createOnAnnounce is not true and apiListenAddr is empty, so that no torrent could ever be announced; \
                           expected an address for the API";

/// Returns where an instance with this file serves `/health`: operators' addresses if there are any, else clients'.
/// Empty if it listens on UDP only.
pub(in crate::config) fn health(chihaya: &ChihayaConfig) -> Vec<Listen> {
    let operators: Vec<_> = operators(chihaya).collect();
    if operators.is_empty() { chihaya.http.iter().flat_map(listeners).collect() } else { operators }
}

fn operators(ChihayaConfig { metrics, api, .. }: &ChihayaConfig) -> impl Iterator<Item = Listen> {
    metrics.iter().chain(api.iter().map(|api| &api.listen)).cloned().map(Listen::for_operators)
}

fn listeners(http: &ChihayaHttp) -> impl Iterator<Item = Listen> {
    let tls = http.tls.as_ref().map(|ChihayaTls { listen, .. }| {
        let mut listen = listen.clone();
        listen.purpose.transport = Transport::Tls;
        listen
    });
    http.listen.clone().into_iter().chain(tls)
}

/// Returns the paths of the file. `None` if all are usual paths of the tracker.
fn routes(ChihayaHttp { announce_routes, scrape_routes, .. }: &ChihayaHttp) -> Option<TrackerPaths> {
    let are_usual = |routes: &[RoutePattern], usual| routes.iter().all(|path| route(path.as_str().as_bytes()) == usual);
    let all_usual = are_usual(announce_routes, Route::Announce) && are_usual(scrape_routes, Route::Scrape);
    (!all_usual).then(|| TrackerPaths { announce: announce_routes.clone(), scrape: scrape_routes.clone() })
}

fn certificate(tls: &ChihayaTls, file: &ChihayaFile) -> Result<Tls, ConfigError> {
    let files = TlsFiles::new(file.origin, tls.certificate.clone(), tls.key.clone());
    let certificate = files.read()?;
    Ok(Tls { files, certificate })
}

/// Returns what the v1.0 API starts with: no torrents, and the file's list of approved clients.
fn registered(ChihayaConfig { clients, create_on_announce, .. }: &ChihayaConfig) -> Registered {
    let approved = match clients {
        Some(Approval::Allow(clients)) => Some(clients.iter().copied().collect()),
        Some(Approval::Deny(_)) | None => None,
    };
    Registered::new(!create_on_announce, approved)
}

#[cfg(test)]
mod tests;
