//! Upstream trackers (5) over TLS with certificates of a private authority.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::{TempDir, tempdir};

use super::proxies::{Tunnels, by_connect};
use super::replies::{ok, with_peers};
use crate::dsl::{ServerSetup, TestAuthority, announce, retracker};

/// A public address, because an upstream tracker behind a proxy can give only public peers.
const PEER: &str = "45.45.45.45:4545";

/// Starts a tracker at `localhost`.
fn tracker(certificate: CertificateDer<'static>, key: &KeyPair) -> SocketAddr {
    serving(certificate, key, ok(with_peers(&[PEER])))
}

/// Starts a server at `localhost` that answers each request with this reply.
fn serving(certificate: CertificateDer<'static>, key: &KeyPair, reply: Vec<u8>) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let (config, reply) = (Arc::clone(&config), reply.clone());
            thread::spawn(move || {
                let session = ServerConnection::new(config).unwrap();
                let mut stream = StreamOwned::new(session, tcp.unwrap());
                let mut request = Vec::new();
                let mut space = [0; 4096];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut space) {
                        Ok(0) | Err(_) => return,
                        Ok(length) => request.extend_from_slice(&space[..length]),
                    }
                }
                let _ = stream.write_all(&reply);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            });
        }
    });
    address
}

/// A server with a certificate of a private authority, and a file with the authority's certificate.
pub(crate) struct Site {
    folder: TempDir,
    pub(crate) tracker: SocketAddr,
}

impl Site {
    fn new() -> Self {
        Self::serving(ok(with_peers(&[PEER])))
    }

    /// Starts a server that answers each request with this reply.
    pub(crate) fn serving(reply: Vec<u8>) -> Self {
        let authority = TestAuthority::new();
        let (certificate, key) = authority.issue();
        let folder = tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self { folder, tracker: serving(certificate.der().clone(), &key, reply) }
    }

    /// Returns the path of the file with the authority's certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }
}

fn forwarding(folder: &TempDir, tracker: SocketAddr, more: &str) -> ServerSetup {
    let file = folder.path().join("forwarders.yml");
    std::fs::write(&file, format!("- {{uri: 'https://localhost:{}/announce', {more}}}\n", tracker.port())).unwrap();
    retracker(&["-t", "20", "-d", "-f", file.to_str().unwrap()])
}

fn peers(setup: ServerSetup) -> Vec<String> {
    setup.start().announce(&announce("t", "client").at("10.0.0.9")).peers()
}

#[test]
fn authorities_of_the_system_and_of_the_entry_are_trusted() {
    let site = Site::new();
    let stranger = forwarding(&site.folder, site.tracker, "").start();
    assert_eq!(stranger.announce(&announce("t", "client").at("10.0.0.9")).peers(), [""; 0]);
    stranger.logged("TLS with it fails");
    assert_eq!(peers(forwarding(&site.folder, site.tracker, "").env("SSL_CERT_FILE", site.file())), [PEER]);
    assert_eq!(peers(forwarding(&site.folder, site.tracker, &format!("ca: {}", site.file().display()))), [PEER]);
    let file = site.folder.path().join("forwarders.yml");
    let all = format!(
        "ca: {}\nforwarders: [{{uri: 'https://localhost:{}/a'}}]\n",
        site.file().display(),
        site.tracker.port()
    );
    std::fs::write(&file, all).unwrap();
    assert_eq!(peers(retracker(&["-t", "20", "-f", file.to_str().unwrap()])), [PEER]);
}

#[test]
fn tls_goes_through_a_tunnel() {
    let site = Site::new();
    let proxy = Tunnels::start(site.tracker, by_connect);
    let setup = forwarding(&site.folder, site.tracker, &format!("ca: {}", site.file().display()));
    assert_eq!(peers(setup.env("HTTPS_PROXY", proxy.address.to_string())), [PEER]);
    let asked = format!("CONNECT localhost:{} HTTP/1.1\r\n", site.tracker.port());
    assert!(proxy.asked().starts_with(asked.as_bytes()));
}

#[test]
fn another_authority_is_not_trusted() {
    let (site, other) = (Site::new(), Site::new());
    let server = forwarding(&site.folder, site.tracker, &format!("ca: {}", other.file().display())).start();
    assert_eq!(server.announce(&announce("t", "client").at("10.0.0.9")).peers(), [""; 0]);
    server.logged("TLS with it fails");
}

#[test]
fn a_self_signed_certificate_is_trusted_if_the_entry_names_it() {
    // A certificate like that of `openssl req -x509`: the server's certificate is also its own authority.
    let key = KeyPair::generate().unwrap();
    let params = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap()
    };
    for (name, expected) in [("localhost", &[PEER][..]), ("other.example", &[])] {
        let certificate = params(name);
        let folder = tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, certificate.pem()).unwrap();
        let tracker = tracker(certificate.der().clone(), &key);
        assert_eq!(peers(forwarding(&folder, tracker, &format!("ca: {}", file.display()))), expected, "{name}");
    }
}

#[test]
fn a_missing_system_store_does_not_stop_the_start() {
    let site = Site::new();
    let setup = forwarding(&site.folder, site.tracker, &format!("ca: {}", site.file().display()));
    assert_eq!(peers(setup.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere")), [PEER]);
    let file = site.folder.path().join("forwarders.yml");
    let exit = {
        std::fs::write(&file, "- uri: https://localhost:1/a\n  ca: /nowhere/ca.pem\n").unwrap();
        retracker(&["-f", file.to_str().unwrap()]).run()
    };
    let text = exit.stderr.join("\n");
    assert!(text.contains("forwarders.yml line 2: ca: /nowhere/ca.pem cannot be read"), "{text}");
}
