//! `torrent-cache check` writes a line for each thing that has to work, and a remedy for each thing that does not work.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::sync::Arc;

use http::header::WWW_AUTHENTICATE;
use tracker_protocol::{Event, InfoHash, PeerId};

use super::health::{healthcheck, reachable};
use crate::authorization::{Authorization, Speaker};
use crate::config::{CacheConfig, SwarmOptions};
use crate::digest::Digest;
use crate::store::{BlobStore, StoreFault};
use crate::swarm_tracker::{SwarmAnnounce, SwarmTracker, TrackerError, TrackerOptions};
use crate::upstream::{Ask, AskHeaders, AskMethod, FetchClient, Redirects, UpstreamOrigin};

/// How many bytes must fit into the storage.
const TRIAL: usize = 1 << 20;

/// The results of a check.
#[derive(Debug, Default)]
pub struct CheckReport {
    /// The lines to print.
    pub text: String,
    /// Whether a line reports a failure.
    pub has_failures: bool,
}

impl CheckReport {
    fn add(&mut self, what: &str, found: Result<String, String>) {
        let (mark, text) = match found {
            Ok(text) => ("ok", text),
            Err(text) => {
                self.has_failures = true;
                ("FAILED", text)
            }
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{mark:<7} {what}: {text}");
    }
}

/// Checks the upstreams, the storage, the ports and the tracker that the settings name.
pub async fn check(config: &CacheConfig) -> CheckReport {
    let mut report = CheckReport::default();
    let client = FetchClient::new(Arc::clone(&config.upstreams), config.fetch.clone());
    match Authorization::new(client, config.authorization.clone()) {
        Ok(authorization) => {
            let is_own = config.authorization.auth_file.is_some();
            for origin in config.upstreams.all() {
                report.add(&format!("upstream {origin}"), upstream(&authorization, origin, is_own).await);
            }
        }
        Err(error) => report.add("upstreams", Err(error)),
    }
    report.add(&format!("storage {}", config.storage.display()), storage(config));
    report.add(&format!("port {}", config.listen), port(config.listen, config.tls.is_some()));
    let SwarmOptions { tracker, etcd: (host, port), ports, .. } = &config.swarm;
    let (announced, torrents) = of_tracker(config).await;
    report.add(&format!("tracker {tracker}"), announced);
    report.add(&format!("torrents {host}:{port}"), torrents);
    report.add(&format!("ports {}-{}", ports.start(), ports.end()), torrent_ports(config));
    report
}

async fn upstream(authorization: &Authorization, origin: &UpstreamOrigin, is_own: bool) -> Result<String, String> {
    let speaker = if is_own { Speaker::Own } else { Speaker::Anonymous };
    let headers = AskHeaders::default();
    let ask =
        Ask { method: AskMethod::Get, origin, path_and_query: "/v2/", headers: &headers, redirects: Redirects::Follow };
    let reply = authorization.send(ask, &speaker, "").await;
    let reply = reply.map_err(|error| format!("{}\n        {}", error.fault, error.sentence()))?;
    let is_basic = reply.headers.get_all(WWW_AUTHENTICATE).iter().any(|line| line.as_bytes().starts_with(b"Basic"));
    match reply.status.as_u16() {
        200 if is_own => Ok("answers with the login of REGISTRY_AUTH_FILE, or needs none".to_owned()),
        200 => Ok("answers, and needs no login".to_owned()),
        401 if is_own && is_basic => Err("does not accept the login in REGISTRY_AUTH_FILE\n        \
             log in again with docker login, or look whether the file names this host and port"
            .to_owned()),
        401 => Ok("answers, and wants a login or a token for each repository".to_owned()),
        status @ 500.. => {
            Err(format!("answers with status {status}\n        look at the log of this server, or try again later"))
        }
        status => Ok(format!("answers with status {status} to /v2/: no registry, perhaps a server of files")),
    }
}

fn storage(config: &CacheConfig) -> Result<String, String> {
    let store = match BlobStore::open(&config.storage, config.limits) {
        Ok(store) => store,
        Err(StoreFault::InUse(_)) => return Ok("in use by a torrent-cache that runs".to_owned()),
        Err(error) => return Err(format!("{error}\n        give a folder that this user can write with STORAGE")),
    };
    let usage = store.usage().map_err(|error| error.to_string())?;
    let written =
        store.begin(&Digest::of(b"").into(), Some(TRIAL as u64)).and_then(|mut trial| trial.append(&vec![0; TRIAL]));
    match written {
        Ok(()) => Ok(format!("{} blobs, {} of {} bytes, {} free", usage.blobs, usage.bytes, usage.quota, usage.free)),
        Err(error) => Err(format!(
            "cannot hold 1 MiB more ({error}); {} of {} bytes, {} free\n        make room on this disk, or lower \
             STORAGE_MIN_FREE or raise STORAGE_QUOTA",
            usage.bytes, usage.quota, usage.free
        )),
    }
}

fn port(listen: SocketAddr, has_tls: bool) -> Result<String, String> {
    let speaks = if has_tls { "http and https" } else { "http only, because CERTFILE and PRIVATEKEY name no files" };
    match TcpListener::bind(listen) {
        Ok(_) => Ok(format!("free, for {speaks}")),
        Err(_) if healthcheck(reachable(listen)).is_ok() => Ok("in use by a torrent-cache that runs".to_owned()),
        Err(error) => {
            Err(format!("{error}\n        give a free port with PORT, or an address of this host with INTERFACE"))
        }
    }
}

/// Checks whether the tracker accepts an announce, and whether the server of torrent files answers. Both are asked as
/// the cache asks them.
async fn of_tracker(config: &CacheConfig) -> (Result<String, String>, Result<String, String>) {
    let swarm = &config.swarm;
    // The announce has the event `stopped`, so the tracker lists neither the torrent nor this port.
    let (peer_id, port) = (PeerId(*b"-TC0010-check0000000"), NonZeroU16::new(*swarm.ports.start()));
    let tracker = SwarmTracker::new(TrackerOptions {
        announce: swarm.tracker.clone(),
        torrents: swarm.etcd.clone(),
        token: swarm.token.clone(),
        peer_id,
        port: port.unwrap_or(NonZeroU16::MIN),
        tls: Arc::clone(&config.fetch.tls),
        lookup: Arc::clone(&config.fetch.lookup),
    });
    let tracker = match tracker {
        Ok(tracker) => tracker,
        Err(error) => {
            let hint = "\n        correct the setting; until then this cache works alone";
            return (Err(format!("{error}{hint}")), Ok("not asked".to_owned()));
        }
    };
    let mut info_hash = InfoHash([0; 20]);
    info_hash.0.fill_with(|| fastrand::u8(..));
    let event = Some(Event::Stopped);
    let announce = SwarmAnnounce { info_hash, event, uploaded: 0, downloaded: 0, left: 0, numwant: 0 };
    let (announced, torrents) = tokio::join!(tracker.announce(&announce), tracker.check());
    let told = |result: Result<(), TrackerError>, answers: &str| match result {
        Ok(()) => Ok(answers.to_owned()),
        Err(error) if !swarm.is_given && error.fault.is_down() => {
            Ok("not reached; no tracker is set, so this cache works alone".to_owned())
        }
        Err(error) => Err(match error.remedy() {
            Some(remedy) => format!("{}\n        {remedy}", error.fault),
            None => error.fault.to_string(),
        }),
    };
    let token = match swarm.token {
        Some(_) => "answers requests for torrent files, and accepts TORRENTS_TOKEN",
        None => "answers requests for torrent files, and wants no token",
    };
    (told(announced.map(drop), "takes announces"), told(torrents, token))
}

fn torrent_ports(config: &CacheConfig) -> Result<String, String> {
    let ports = config.swarm.ports.clone();
    let hint = format!(
        "open them for TCP from the other hosts; in a container publish them unchanged with -p {0}-{1}:{0}-{1}",
        ports.start(),
        ports.end()
    );
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let free = ports.clone().filter(|port| TcpListener::bind(SocketAddr::new(any, *port)).is_ok()).count();
    match free {
        0 => Err(
            "all are in use, so other hosts cannot reach this host\n        give free ports with TORRENT_FIRST_PORT and \
                  TORRENT_LAST_PORT, or end the programs that use them; if a cache already runs on this host, all is well"
                .to_owned(),
        ),
        free => Ok(format!("{free} of {} free; {hint}", ports.count())),
    }
}
