//! https and http on the same port, and the certificate.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{Connection, get};
use crate::program::{CacheProgram, command};
use crate::upstream::{Content, blob_path, noise};

/// Writes a certificate for `localhost` and its key. Returns the certificate.
fn certificate(folder: &Path) -> CertificateDer<'static> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

fn connect(
    program: &CacheProgram,
    trusted: &CertificateDer<'static>,
) -> Connection<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    Connection::over(StreamOwned::new(client, TcpStream::connect(program.address).unwrap()))
}

#[test]
fn http_and_https_share_a_port() {
    let folder = tempfile::tempdir().unwrap();
    let trusted = certificate(folder.path());
    let path = |name| folder.path().join(name).to_str().unwrap().to_owned();
    let blob = noise(3 << 20, 1);
    let upstream = Content::default().with_blob("a", &blob).serve();
    let program = CacheProgram::with(&upstream, &[("CERTFILE", &path("cert.pem")), ("PRIVATEKEY", &path("key.pem"))]);
    let mut secure = connect(&program, &trusted);
    for _ in 0..2 {
        assert!(secure.request("GET", &blob_path("a", &blob), &[]).body.as_ref() == Ok(&blob));
        assert!(get(program.address, &blob_path("a", &blob)).body.as_ref() == Ok(&blob));
    }
    assert_eq!(upstream.take().iter().filter(|asked| asked.starts_with("GET ")).count(), 1);
}

#[test]
fn sighup_reads_the_certificate_again() {
    let folder = tempfile::tempdir().unwrap();
    let first = certificate(folder.path());
    let path = |name| folder.path().join(name).to_str().unwrap().to_owned();
    let blob = noise(1000, 1);
    let upstream = Content::default().with_blob("a", &blob).serve();
    let program = CacheProgram::with(&upstream, &[("CERTFILE", &path("cert.pem")), ("PRIVATEKEY", &path("key.pem"))]);
    let mut open = connect(&program, &first);
    let is_served = |connection: &mut Connection<StreamOwned<ClientConnection, TcpStream>>| {
        connection.request("GET", &blob_path("a", &blob), &[]).body.as_ref() == Ok(&blob)
    };
    assert!(is_served(&mut open));
    // The certificate on disk is replaced by another one, but its key cannot be read.
    let second = certificate(folder.path());
    let key = std::fs::read(path("key.pem")).unwrap();
    std::fs::write(path("key.pem"), "no key").unwrap();
    program.reload();
    let line = program.line("the certificate does not change");
    assert!(line.contains(&format!("PRIVATEKEY: {}: it holds neither", path("key.pem"))), "{line}");
    assert!(is_served(&mut connect(&program, &first)));
    std::fs::write(path("key.pem"), key).unwrap();
    program.reload();
    program.line("new connections get this certificate");
    assert!(is_served(&mut connect(&program, &second)));
    assert!(is_served(&mut open), "an open connection keeps its certificate");
}

#[test]
fn without_files_sighup_has_nothing_to_read() {
    let upstream = Content::default().serve();
    let program = CacheProgram::start(&upstream);
    program.reload();
    program.line("nothing to reload: there is no certificate and no REGISTRY_AUTH_FILE");
    assert_eq!(get(program.address, "/health").status, 200);
}

#[test]
fn files_that_are_given_must_be_there_and_fit() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificate(folder.path());
    certificate(other.path());
    let storage = tempfile::tempdir().unwrap();
    let start = |cert: &Path, key: &Path| {
        let output = command()
            .args(["--port", "0", "--storage", storage.path().to_str().unwrap()])
            .env("CERTFILE", cert)
            .env("PRIVATEKEY", key)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let nowhere = Path::new("/nowhere/x.pem");
    assert!(start(nowhere, &key).contains("CERTFILE: /nowhere/x.pem: it cannot be read"));
    assert!(start(&cert, nowhere).contains("PRIVATEKEY: /nowhere/x.pem: it cannot be read"));
    assert!(start(&key, &key).contains("CERTFILE:"), "a key is no certificate");
    assert!(start(&cert, &cert).contains("PRIVATEKEY:"), "a certificate is no key");
    assert!(start(&cert, &other.path().join("key.pem")).contains("PRIVATEKEY:"), "the key of another certificate");
}
