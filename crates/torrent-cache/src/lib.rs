//! A pull-through cache for container images and OSTree deltas. Each host of a fleet runs one.

pub mod authorization;
pub mod digest;
pub mod flight;
pub mod ostree;
pub mod registry;
pub mod store;
pub mod upstream;
