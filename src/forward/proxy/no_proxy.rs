//! The elements of `no_proxy`.

use std::net::IpAddr;

use ipnet::IpNet;
use url::{Host, Url};

/// Hosts that are reached without a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    hosts: ExemptHosts,
    /// If given, the exception covers only this port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ExemptHosts {
    All,
    Network(IpNet),
    /// A domain in lower case, with its subdomains.
    Domain(String),
}

impl Exception {
    /// Reads an element. `None` if the element is empty.
    pub(super) fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self { hosts: ExemptHosts::All, port: None });
        }
        if let Some(hosts) = ExemptHosts::network(text) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = match text.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => (host, Some(port)),
            _ => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let domain = || ExemptHosts::Domain(bare.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase());
        Some(Self { hosts: ExemptHosts::network(bare).unwrap_or_else(domain), port })
    }

    pub(super) fn covers(&self, url: &Url) -> bool {
        if self.port.is_some() && self.port != url.port_or_known_default() {
            return false;
        }
        match (&self.hosts, url.host()) {
            (ExemptHosts::All, _) => true,
            (ExemptHosts::Network(network), Some(Host::Ipv4(ip))) => network.contains(&IpAddr::from(ip)),
            (ExemptHosts::Network(network), Some(Host::Ipv6(ip))) => network.contains(&IpAddr::from(ip).to_canonical()),
            (ExemptHosts::Domain(domain), Some(Host::Domain(name))) => {
                let name = name.trim_end_matches('.');
                name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

impl ExemptHosts {
    fn network(text: &str) -> Option<Self> {
        let address = || text.parse::<IpAddr>().ok().map(|ip| IpNet::from(ip.to_canonical()));
        text.parse().ok().or_else(address).map(Self::Network)
    }
}
