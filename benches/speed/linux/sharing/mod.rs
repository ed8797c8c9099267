//! What it costs to share swarms with other instances, through a Redis on a Unix socket.

mod announces;
mod instance;
mod records;
mod replay;

pub(super) use announces::{over_http, over_udp};
pub(super) use records::{idle, received};
pub(super) use replay::slowest;
