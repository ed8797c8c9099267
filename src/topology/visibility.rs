//! Which peers a client can reach, and at which address.

use std::net::IpAddr;

use ipnet::IpNet;

use super::reach::{Reach, is_outside};
use super::{ExternalAddress, Zone, ZoneId, ZonedIp};

/// The zones, and the external address of clients outside of all zones. If neither is configured, clients on private
/// networks get private and public peers, and all other clients get public peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    external: ExternalAddress,
    /// The external address of each zone, by [`ZoneId`].
    zone_externals: Vec<ExternalAddress>,
    /// The zones' networks, the narrowest first; equally narrow ones in the order of their zones in the configuration.
    networks: Vec<(IpNet, ZoneId)>,
    own_family_only: bool,
    /// The name of each zone, by [`ZoneId`].
    zone_names: Vec<String>,
}

impl Topology {
    /// Makes the topology of these zones. Zones past [`ZoneId::MOST`] are ignored.
    pub fn new(zones: &[Zone], external: ExternalAddress) -> Self {
        let ids = (0..).map_while(ZoneId::nth);
        let networks = ids.zip(zones).flat_map(|(id, zone)| zone.networks.iter().map(move |network| (*network, id)));
        let mut networks: Vec<_> = networks.collect();
        networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        let zone_externals = zones.iter().map(|zone| zone.external).collect();
        let zone_names = zones.iter().map(|zone| zone.name.clone()).collect();
        Self { external, zone_externals, networks, own_family_only: false, zone_names }
    }

    /// Returns the same topology, in which clients get only peers of their own address family.
    #[must_use]
    pub fn with_own_family_only(self) -> Self {
        Self { own_family_only: true, ..self }
    }

    /// Returns the name of a zone.
    pub fn zone_name(&self, zone: ZoneId) -> &str {
        self.zone_names.get(zone.number()).map_or("", String::as_str)
    }

    /// Returns the zones with their names, in the order of configuration.
    pub fn zones(&self) -> impl Iterator<Item = (ZoneId, &str)> {
        (0..).map_while(ZoneId::nth).zip(self.zone_names.iter().map(String::as_str))
    }

    /// Returns whether clients get peers of the other address family, too.
    pub fn mixes_families(&self) -> bool {
        !self.own_family_only
    }

    /// Returns the zone with the narrowest network that contains the address.
    pub fn zone_of(&self, ip: IpAddr) -> Option<ZoneId> {
        self.networks.iter().find(|(network, _)| network.contains(&ip)).map(|(_, zone)| *zone)
    }

    /// Returns the address with its zone.
    pub fn zoned(&self, ip: IpAddr) -> ZonedIp {
        ZonedIp { ip, zone: self.zone_of(ip) }
    }

    /// Returns the address `ip` of a peer that announced from `source`, with its zone. Several sites may use the same
    /// private network. So the zone of `source` wins if it also contains `ip`.
    pub fn locate(&self, ip: IpAddr, source: IpAddr) -> ZonedIp {
        let is_ambiguous = Reach::of(ip) == Reach::Site;
        let at_source = self.zone_of(source).filter(|&zone| is_ambiguous && self.has(zone, ip));
        ZonedIp { ip, zone: at_source.or_else(|| self.zone_of(ip)) }
    }

    fn has(&self, zone: ZoneId, ip: IpAddr) -> bool {
        self.networks.iter().any(|(network, other)| *other == zone && network.contains(&ip))
    }

    /// Returns the address at which the client at `asks` reaches a peer, with the peer's own port; `None` if the client
    /// cannot reach the peer.
    pub fn visible_address(&self, asks: ZonedIp, peer: ZonedIp) -> Option<IpAddr> {
        match Reach::of(peer.ip) {
            Reach::Nowhere => None,
            Reach::Everywhere => Some(peer.ip),
            // No host on the internet has such an address.
            Reach::Example => (Reach::of(asks.ip) != Reach::Everywhere).then_some(peer.ip),
            Reach::Host => (Reach::of(asks.ip) == Reach::Host).then_some(peer.ip),
            Reach::Link => (Reach::of(asks.ip) == Reach::Link && peer.zone == asks.zone).then_some(peer.ip),
            Reach::Site => match Reach::of(asks.ip) {
                Reach::Nowhere => None,
                Reach::Everywhere | Reach::Example => {
                    let own = self.external_of(peer).filter(|&ip| is_outside(ip));
                    own.or_else(|| self.external.instead_of(peer.ip).filter(|&ip| is_outside(ip)))
                }
                Reach::Host | Reach::Link | Reach::Site if peer.zone == asks.zone => Some(peer.ip),
                Reach::Host | Reach::Link | Reach::Site => self.external_of(peer),
            },
        }
    }

    /// Returns the external address of a peer's zone, or of clients outside of all zones.
    fn external_of(&self, peer: ZonedIp) -> Option<IpAddr> {
        let external = match peer.zone {
            Some(zone) => self.zone_externals.get(zone.number()).copied().unwrap_or_default(),
            None => self.external,
        };
        external.instead_of(peer.ip)
    }
}

#[cfg(test)]
mod tests;
