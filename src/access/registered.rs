//! Torrents and clients that the API of Chihaya v1.0 adds and removes.

use std::collections::HashSet;

use parking_lot::RwLock;
use tracker_protocol::InfoHash;

/// The most torrents, and the most clients, that the API can add.
const MOST: usize = 1_000_000;

/// A client program, which Chihaya calls a "client ID": the six bytes after the leading dash of a peer id, or the first
/// six bytes of a peer id without a leading dash.
pub type ClientProgram = [u8; 6];

/// What the API has added.
#[derive(Debug, Default)]
pub struct Registered {
    torrents: RwLock<HashSet<InfoHash>>,
    /// Whether only added torrents may be announced: `createOnAnnounce` is false.
    restricts_torrents: bool,
    clients: RwLock<HashSet<ClientProgram>>,
    /// Whether only added clients may announce: `clientWhitelistEnabled`.
    restricts_clients: bool,
}

/// There is no room for another torrent or client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Registered {
    /// Starts without torrents. If `clients` is given, only these clients may announce.
    pub fn new(restricts_torrents: bool, clients: Option<HashSet<ClientProgram>>) -> Self {
        Self {
            torrents: RwLock::default(),
            restricts_torrents,
            restricts_clients: clients.is_some(),
            clients: RwLock::new(clients.unwrap_or_default()),
        }
    }

    /// Adds a torrent.
    pub fn add_torrent(&self, torrent: InfoHash) -> Result<(), Full> {
        add(&mut self.torrents.write(), torrent)
    }

    /// Removes a torrent. Returns whether the torrent had been added.
    pub fn remove_torrent(&self, torrent: InfoHash) -> bool {
        self.torrents.write().remove(&torrent)
    }

    /// Returns whether the torrent has been added.
    pub fn has_torrent(&self, torrent: InfoHash) -> bool {
        self.torrents.read().contains(&torrent)
    }

    /// Adds a client.
    pub fn add_client(&self, client: ClientProgram) -> Result<(), Full> {
        add(&mut self.clients.write(), client)
    }

    /// Removes a client. Returns whether the client had been added.
    pub fn remove_client(&self, client: ClientProgram) -> bool {
        self.clients.write().remove(&client)
    }

    /// Returns whether the client has been added.
    pub fn has_client(&self, client: ClientProgram) -> bool {
        self.clients.read().contains(&client)
    }

    pub(super) fn admits_torrent(&self, torrent: InfoHash) -> bool {
        !self.restricts_torrents || self.has_torrent(torrent)
    }

    /// Returns whether a client may announce. `start` is the beginning of its peer id, or the whole id. `None` if the
    /// answer depends on the rest of the id.
    pub(super) fn admits_client(&self, start: &[u8]) -> Option<bool> {
        if !self.restricts_clients {
            return Some(true);
        }
        let program = start.strip_prefix(b"-").unwrap_or(start);
        program.first_chunk().map(|client| self.has_client(*client))
    }
}

fn add<T: Eq + std::hash::Hash>(set: &mut HashSet<T>, entry: T) -> Result<(), Full> {
    if set.len() >= MOST && !set.contains(&entry) {
        return Err(Full);
    }
    set.insert(entry);
    Ok(())
}
