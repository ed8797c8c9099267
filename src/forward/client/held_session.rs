//! A client's session with one forwarder.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::host::Host;
use crate::forward::announce::ClientKey;
use crate::forward::forwarder::{Exchange, Forwarder, Skipped};
use crate::forward::session::{Presence, Session, UpstreamEvent};
use tracker_protocol::InfoHash;

/// A session with a forwarder. The forwarder counts the sessions that exist.
#[derive(Debug)]
pub(in crate::forward) struct HeldSession {
    pub(super) forwarder: Arc<Forwarder>,
    /// The address that is sent to the forwarder, if any.
    pub(super) ip: Option<IpAddr>,
    pub(in crate::forward) session: Session,
}

impl HeldSession {
    pub(super) fn new(forwarder: &Arc<Forwarder>, ip: Option<IpAddr>) -> Self {
        forwarder.count_sessions(1);
        Self { forwarder: Arc::clone(forwarder), ip, session: Session::new() }
    }

    pub(super) fn covers(&self, host: &Host) -> bool {
        self.forwarder.announced_ip(host.outside) == self.ip
    }

    /// Returns the host whose announces this session passes on: the first that is still here, or else the last host.
    pub(super) fn announcing_host<'a>(&self, hosts: &'a [Host]) -> Option<&'a Host> {
        let covered = || hosts.iter().filter(|host| self.covers(host));
        covered().find(|host| host.is_here()).or_else(|| covered().next_back())
    }

    /// Returns whether the forwarder should list the client; if not, since when.
    pub(super) fn presence(&self, hosts: &[Host], info_hash: InfoHash) -> (Presence, Option<Instant>) {
        if let Some(since) = self.forwarder.hidden_since(info_hash) {
            return (Presence::Hidden, Some(since));
        }
        match self.announcing_host(hosts).map(|host| host.left) {
            Some(None) => (Presence::Here, None),
            Some(left) => (Presence::Left, left),
            None => (Presence::Left, None),
        }
    }

    /// Begins the exchange for the announce that is due, if the forwarder's circuit admits it.
    pub(super) fn begin(
        &mut self,
        event: UpstreamEvent,
        host: &Host,
        client: ClientKey,
        torrent: u64,
        now: Instant,
    ) -> Result<Exchange, Skipped> {
        let admission = self.forwarder.would_admit(now)?;
        Ok(Exchange {
            forwarder: Arc::clone(&self.forwarder),
            admission,
            client,
            torrent,
            request: host.request.clone(),
            ip: self.ip,
            source: host.source,
            headers: host.headers.clone(),
            event,
            session: self.session.serial,
            tracker_id: self.session.begin(event, now),
        })
    }
}

impl Drop for HeldSession {
    fn drop(&mut self) {
        self.forwarder.count_sessions(-1);
    }
}
