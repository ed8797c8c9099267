//! All decisions about addresses: which addresses count, and which address of a peer a client can reach.
//!
//! One address may mean different hosts to different clients, or none. A private address works only within its network,
//! a loopback address only on its host. A site behind a NAT has an external address, at which other sites reach its
//! peers if the NAT forwards their ports. Zones distinguish sites.

mod claims;
mod nearness;
pub mod reach;
mod shared_address;
mod visibility;
mod zones;

pub use claims::{Addresses, IpParam, NotAnIpParam};
pub use nearness::Nearness;
pub(crate) use shared_address::MOST_SHARING;
pub use shared_address::{SharedAddressDetector, Sighting};
pub use visibility::Topology;
pub use zones::{ExternalAddress, Zone, ZoneId, ZonedIp};
