//! `retracker dns`: prints the DNS records of the tracker, in the notation of dnsmasq, unbound and BIND.
//!
//! - The tracker's name: A and AAAA records, and PTR records from the addresses back to the name.
//! - BEP 34: the tracker's ports, in order of preference, in a TXT record of its name. Clients then try no other port.
//! - BEP 22: a client looks up the name of its own address (PTR). The client puts `_bittorrent-tracker._tcp` before
//!   that name and asks for the host and the port of a tracker (SRV). If there is no answer, the client drops the first
//!   label of the name and asks again. So one SRV record of a domain serves all clients whose names are in that domain.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::DnsOptions;

/// Returns the records as three blocks of text, one for each name server.
pub(super) fn records(options: &DnsOptions) -> String {
    [dnsmasq(options), unbound(options), bind(options)].join("\n")
}

// The comments above the groups of records in the output.
const NAME: &str = "The tracker's name";
const PORTS: &str = "Its ports (BEP 34)";
const SERVICE: &str = "The tracker of clients whose names are in this domain (BEP 22)";
const CLIENTS: &str = "Names for clients whose addresses have none (BEP 22)";

/// The labels before the domain in the name of the SRV record.
const SERVICE_LABELS: &str = "_bittorrent-tracker._tcp";

/// The first label of clients' names.
const CLIENT: &str = "client";

fn dnsmasq(options: &DnsOptions) -> String {
    let DnsOptions { name, addresses, domain, clients, http_port, .. } = options;
    let mut lines = vec!["# --- dnsmasq: /etc/dnsmasq.d/retracker.conf ---".to_owned(), format!("# {NAME}")];
    // dnsmasq adds the PTR record itself.
    lines.extend(addresses.iter().map(|ip| format!("host-record={name},{ip}")));
    lines.push(format!("# {PORTS}"));
    lines.push(format!("txt-record={name},\"{}\"", ports(options)));
    lines.push(format!("# {SERVICE}"));
    lines.push(format!("srv-host={SERVICE_LABELS}.{domain},{name},{http_port}"));
    if !clients.is_empty() {
        lines.push(format!("# {CLIENTS}"));
        lines.extend(clients.iter().map(|zone| format!("synth-domain={domain},{},{CLIENT}-", zone.network())));
    }
    text(&lines, "")
}

fn unbound(options: &DnsOptions) -> String {
    let DnsOptions { name, addresses, domain, clients, http_port, .. } = options;
    let mut lines = vec![format!("# {NAME}")];
    lines.extend(addresses.iter().map(|ip| format!("local-data: \"{name}. {} {ip}\"", record_type(*ip))));
    lines.extend(outside_clients(options).map(|ip| format!("local-data-ptr: \"{ip} {name}\"")));
    lines.push(format!("# {PORTS}"));
    lines.push(format!("local-data: '{name}. TXT \"{}\"'", ports(options)));
    lines.push(format!("# {SERVICE}"));
    lines.push(format!("local-data: \"{SERVICE_LABELS}.{domain}. SRV 0 0 {http_port} {name}.\""));
    if !clients.is_empty() {
        lines.push(format!("# {CLIENTS}"));
    }
    for zone in clients {
        // A `redirect` zone answers a query for any name in it with the records of the zone's own name.
        let zone = reverse_name(zone.network());
        lines.push(format!("local-zone: \"{zone}.\" redirect"));
        lines.push(format!("local-data: \"{zone}. PTR {CLIENT}.{domain}.\""));
    }
    "# --- unbound: /etc/unbound/unbound.conf.d/retracker.conf ---\nserver:\n".to_owned() + &text(&lines, "    ")
}

fn bind(options: &DnsOptions) -> String {
    let DnsOptions { name, addresses, domain, clients, http_port, .. } = options;
    let zone = name.parent().unwrap_or_else(|| name.clone());
    let mut lines = vec![format!("; --- BIND: the zone file of {zone} ---"), format!("; {NAME}")];
    lines.extend(addresses.iter().map(|ip| format!("{name}. IN {} {ip}", record_type(*ip))));
    lines.push(format!("; {PORTS}"));
    lines.push(format!("{name}. IN TXT \"{}\"", ports(options)));
    if zone != *domain {
        lines.push(format!("; --- BIND: the zone file of {domain} ---"));
    }
    lines.push(format!("; {SERVICE}"));
    lines.push(format!("{SERVICE_LABELS}.{domain}. IN SRV 0 0 {http_port} {name}."));
    for ip in outside_clients(options) {
        let reverse = reverse_name(ip.into());
        lines.push(format!("; --- BIND: the zone file that has {reverse} ---"));
        lines.push(format!("{reverse}. IN PTR {name}."));
    }
    for network in clients.iter().map(|zone| zone.network()) {
        let reverse = reverse_name(network);
        let names = if network.prefix_len() == network.max_prefix_len() { "" } else { "*." };
        lines.push(format!("; --- BIND: the zone file that has {reverse} ---"));
        lines.push(format!("; {CLIENTS}"));
        lines.push(format!("{names}{reverse}. IN PTR {CLIENT}.{domain}."));
    }
    text(&lines, "")
}

fn text(lines: &[String], indent: &str) -> String {
    lines.iter().flat_map(|line| [indent, line, "\n"]).collect()
}

/// Returns the text of the TXT record that BEP 34 defines.
fn ports(options: &DnsOptions) -> String {
    let udp = options.udp_port.map(|port| format!(" UDP:{port}")).unwrap_or_default();
    format!("BITTORRENT{udp} TCP:{}", options.http_port)
}

/// Returns the tracker's addresses that need a PTR record of their own: those outside all networks of clients. The PTR
/// record of a network covers the addresses inside. In BIND that record is a wildcard, and a second record inside would
/// hide the wildcard from neighbouring addresses.
fn outside_clients(options: &DnsOptions) -> impl Iterator<Item = IpAddr> {
    let is_client = |ip: &IpAddr| options.clients.iter().any(|zone| zone.network().contains(ip));
    options.addresses.iter().copied().filter(move |ip| !is_client(ip))
}

fn record_type(ip: IpAddr) -> &'static str {
    match ip {
        IpAddr::V4(_) => "A",
        IpAddr::V6(_) => "AAAA",
    }
}

/// Returns the ending that the reverse names (PTR) of all addresses in a network have in common, without the final dot.
/// The network's prefix must end where a label ends.
fn reverse_name(network: IpNet) -> String {
    let length = usize::from(network.prefix_len());
    let (mut labels, ending): (Vec<_>, _) = match network.addr() {
        IpAddr::V4(ip) => (ip.octets().iter().take(length / 8).map(u8::to_string).collect(), "in-addr.arpa"),
        IpAddr::V6(ip) => {
            let digits = format!("{:032x}", ip.to_bits());
            (digits.chars().take(length / 4).map(String::from).collect(), "ip6.arpa")
        }
    };
    labels.reverse();
    labels.push(ending.to_owned());
    labels.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names() {
        for (network, expected) in [
            ("192.168.1.5/32", "5.1.168.192.in-addr.arpa"),
            ("192.168.1.0/24", "1.168.192.in-addr.arpa"),
            ("10.0.0.0/8", "10.in-addr.arpa"),
            ("fd12:3450::/28", "5.4.3.2.1.d.f.ip6.arpa"),
            ("fd00::5/128", "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"),
        ] {
            assert_eq!(reverse_name(network.parse().unwrap()), expected);
        }
    }
}
