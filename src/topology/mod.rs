//! Everything that is decided about addresses: which of them count, and which address of a peer a client can reach.
//!
//! An address means different hosts to different clients, or none: a private address is of use only in its network, loopback
//! only on its host. A site behind a NAT has an external address, at which other sites reach its peers if the NAT forwards
//! their ports. Zones distinguish several sites.

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
