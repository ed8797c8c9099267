//! Who is where: the one room that decides about addresses.
//!
//! An address means one host to some clients and another host, or none, to others: a private one only where its network is,
//! loopback only on its host. A site behind a NAT has an external address, by which others reach those inside if the NAT
//! forwards their ports. Several sites are told apart as zones.

mod claims;
mod nearness;
pub mod reach;
mod shared_address;
mod visibility;
mod zones;

pub use claims::{Addresses, IpParam, NotAnIpParam};
pub use nearness::Nearness;
pub use shared_address::{SharedAddressDetector, Sighting};
pub use visibility::Topology;
pub use zones::{ExternalAddress, Zone, ZoneId, ZonedIp};
