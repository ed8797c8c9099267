//! Our addresses as one upstream sees them.

use std::net::IpAddr;

use crate::forward::exchange::ExchangeReply;
use crate::forward::options::AnnouncedIp;
use crate::forward::own::address_towards;
use crate::topology::reach::is_outside;

/// The addresses under which one upstream may list our clients. In its replies, peers that look like our clients are
/// dropped. Other upstreams' replies are unaffected, in case this upstream reports a false address.
#[derive(Debug, Default)]
pub(in crate::forward) struct OwnAddresses {
    /// The address that the forwarder's entry announces for all clients.
    fixed: Option<IpAddr>,
    /// Our IPv4 and our IPv6 address, as the upstream reported them last (BEP 24).
    reported: [Option<IpAddr>; 2],
    /// Our IPv4 and our IPv6 address from which we send to the upstream.
    sending: [Option<IpAddr>; 2],
    /// The addresses of the other instances.
    elsewhere: Vec<IpAddr>,
}

impl OwnAddresses {
    pub(super) fn new(announced: AnnouncedIp) -> Self {
        let fixed = if let AnnouncedIp::Fixed(ip) = announced { Some(ip) } else { None };
        Self { fixed, ..Self::default() }
    }

    /// Returns the addresses under which a reply may list clients of all instances. Learns this instance's own
    /// addresses from the reply.
    pub(in crate::forward) fn in_reply(&mut self, answer: &ExchangeReply) -> Vec<IpAddr> {
        let reported = answer.reply.external_ip;
        if let Some(ip) = reported.filter(|&ip| is_outside(ip)) {
            *of_family(&mut self.reported, ip) = Some(ip);
        }
        if let Some(ip) = address_towards(answer.from) {
            *of_family(&mut self.sending, ip) = Some(ip);
        }
        let mut addresses = self.here();
        addresses.extend(reported.iter().chain(&self.elsewhere));
        addresses
    }

    /// Returns the addresses under which the upstream may list the clients of this instance.
    pub(in crate::forward) fn here(&self) -> Vec<IpAddr> {
        self.reported.iter().chain(&self.sending).chain([&self.fixed]).flatten().copied().collect()
    }

    /// Replaces the addresses under which the upstream may list the clients of the other instances.
    pub(in crate::forward) fn set_elsewhere(&mut self, addresses: Vec<IpAddr>) {
        self.elsewhere = addresses;
    }
}

fn of_family(addresses: &mut [Option<IpAddr>; 2], ip: IpAddr) -> &mut Option<IpAddr> {
    let [v4, v6] = addresses;
    if ip.is_ipv4() { v4 } else { v6 }
}
