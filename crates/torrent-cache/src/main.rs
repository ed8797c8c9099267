//! The `torrent-cache` program.

fn main() {}
