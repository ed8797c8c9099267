//! TLS on the server's own listeners: announces, certificates that change, and clients that do not speak TLS.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};

use crate::dsl::{
    CertificateFiles, Exit, Server, ServerSetup, TestAuthority, TestConnection, announce, eventually, may_open,
    observer, request, retracker, retracker_with_files,
};

/// Prepares a run with this certificate and these arguments.
fn with_certificate(files: &CertificateFiles, args: &[&str]) -> ServerSetup {
    retracker(args).env("TLS_CERT_FILE", files.chain()).env("TLS_KEY_FILE", files.key())
}

/// Starts a server with a listener for TLS.
fn start(files: &CertificateFiles, args: &[&str]) -> Server {
    with_certificate(files, &[&["-l", "tls://127.0.0.1:0"], args].concat()).start()
}

fn connect(server: &Server, files: &CertificateFiles) -> TestConnection {
    TestConnection::over_tls(&server.addresses()[0], files.authority.client()).unwrap()
}

/// Opens a connection without a handshake.
fn without_tls(server: &Server) -> TestConnection {
    TestConnection::to(server.addresses()[0].strip_prefix("tls://").unwrap())
}

fn certificate(connection: &TestConnection) -> CertificateDer<'static> {
    connection.session().peer_certificates().unwrap()[0].clone().into_owned()
}

fn metric(connection: &mut TestConnection, name: &str) -> i64 {
    let text = String::from_utf8(connection.get("/metrics").body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

// --- Requests -------------------------------------------------------------------------------------------------

#[test]
fn clients_announce_over_tls_and_meet_those_of_other_listeners() {
    let files = CertificateFiles::new();
    let server = with_certificate(&files, &["-l", "tls://127.0.0.1:0", "-l", "127.0.0.1:0"]).start();
    assert!(server.addresses()[0].starts_with("tls://127.0.0.1:"), "{:?}", server.addresses());
    for (n, version) in [&TLS12, &TLS13].into_iter().enumerate() {
        let config = files.authority.client_of(&[version]);
        let mut connection = TestConnection::over_tls(&server.addresses()[0], config).unwrap();
        assert_eq!(connection.session().alpn_protocol(), Some(&b"http/1.1"[..]));
        for _ in 0..3 {
            connection.announce(&announce("t", &format!("tls {n}")).at("10.0.0.1").port(7001 + n as u16));
        }
    }
    let mut plain = TestConnection::to(&server.addresses()[1]);
    assert_eq!(plain.announce(&observer("t")).peers(), ["10.0.0.1:7001", "10.0.0.1:7002"]);
    // The client's address is the source address of the connection.
    assert_eq!(connect(&server, &files).announce(&announce("u", "a")).external_ip(), "127.0.0.1");
}

#[test]
fn a_client_need_not_name_its_protocol_but_must_not_insist_on_another() {
    let files = CertificateFiles::new();
    let server = start(&files, &[]);
    let connect = |protocols: &[&[u8]]| {
        let mut config = files.authority.client();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TestConnection::over_tls(&server.addresses()[0], config)
    };
    assert_eq!(connect(&[]).unwrap().get("/health").status, 200);
    assert_eq!(connect(&[b"h2", b"http/1.1"]).unwrap().get("/health").status, 200);
    assert!(connect(&[b"h2"]).is_err());
}

#[test]
fn requests_may_come_together_and_in_pieces() {
    let files = CertificateFiles::new();
    let server = start(&files, &[]);
    let mut connection = connect(&server, &files);
    let requests: Vec<u8> = (0..100)
        .flat_map(|n| {
            request("GET", announce("t", &n.to_string()).at("10.0.0.1").port(7000 + n).numwant(0).target(), &[])
        })
        .collect();
    connection.send(&requests);
    for n in 0..100 {
        assert_eq!(connection.reply().int("incomplete"), n + 1);
    }
    // Each piece becomes a TLS record of its own.
    for piece in requests[..1000].chunks(7) {
        connection.send(piece);
    }
    let whole = requests[..1000].windows(4).filter(|end| end == b"\r\n\r\n").count();
    for _ in 0..whole {
        assert_eq!(connection.reply().int("incomplete"), 100);
    }
}

#[test]
fn large_replies_arrive_whole_although_the_client_reads_late() {
    let files = CertificateFiles::new();
    let server = start(&files, &["-p"]);
    let mut connection = connect(&server, &files);
    let requests = request("GET", "/metrics", &[]).repeat(1500);
    connection.send(&requests);
    let replies: Vec<_> = (0..1500).map(|_| connection.reply()).collect();
    let bytes: usize = replies.iter().map(|reply| reply.body.len()).sum();
    // The replies are too long for the socket buffers of any system. So the server had to wait for the client.
    assert!(bytes > 6_000_000, "{bytes}");
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.body.ends_with(b"\n")));
}

#[test]
fn a_connection_ends_with_a_message_that_it_ends() {
    let files = CertificateFiles::new();
    let server = start(&files, &[]);
    let mut connection = connect(&server, &files);
    let close = [("Connection", "close")];
    assert_eq!(connection.get_with(announce("t", "a").target(), &close).status, 200);
    assert_eq!(connection.rest_until_closed().unwrap(), b"");
    // The client goes on sending after the server has refused the request, which is too long.
    let mut connection = connect(&server, &files);
    let long = format!("{}&key={}", announce("t", "a").target(), "k".repeat(100_000));
    connection.send(request("GET", long, &[]));
    assert!(connection.reply().text().contains("failure reason"));
    assert_eq!(connection.rest_until_closed().unwrap(), b"");
    let mut connection = connect(&server, &files);
    connection.send("garbage\r\n\r\n");
    assert_eq!(connection.reply().status, 400);
    assert_eq!(connection.rest_until_closed().unwrap(), b"");
}

#[test]
fn the_front_page_shows_an_https_url() {
    let files = CertificateFiles::new();
    let server = with_certificate(&files, &["-l", "tls://127.0.0.1:0", "-l", "127.0.0.1:0"]).start();
    let page = |reply: crate::dsl::Reply| String::from_utf8(reply.body).unwrap();
    let mut secure = connect(&server, &files);
    assert!(page(secure.get("/")).contains("https://retracker.local/announce"));
    assert!(page(TestConnection::to(&server.addresses()[1]).get("/")).contains("http://retracker.local/announce"));
}

// --- Failed handshakes ----------------------------------------------------------------------------------------

#[test]
fn what_is_no_tls_is_closed_and_counted() {
    let files = CertificateFiles::new();
    let server = start(&files, &["-p", "-d"]);
    for bytes in
        [&request("GET", announce("t", "a").target(), &[])[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"\x13BitTorrent protocol"]
    {
        let mut connection = without_tls(&server);
        connection.send(bytes);
        let answer = connection.rest_until_closed().unwrap();
        // The answer is at most a TLS alert.
        assert!(answer.len() <= 7 && !answer.starts_with(b"HTTP"), "{}", answer.escape_ascii());
    }
    server.logged("the TLS handshake of 127.0.0.1 failed: ");
    // This client does not trust the server's authority.
    let stranger = TestConnection::over_tls(&server.addresses()[0], TestAuthority::new().client());
    assert_eq!(stranger.err().unwrap().kind(), ErrorKind::InvalidData);
    let mut connection = connect(&server, &files);
    eventually("four failed handshakes are counted", || {
        (metric(&mut connection, "retracker_tls_handshakes_failed_total") == 4).then_some(())
    });
    assert_eq!(connection.announce(&announce("t", "b")).int("incomplete"), 1, "no other announce was read");
}

/// The time limit of a handshake is tested beside the code, in simulated time.
#[test]
fn unfinished_handshakes_give_way_to_clients() {
    let files = CertificateFiles::new();
    let server = start(&files, &["-p", "--max-connections", "10", "--max-connections-per-address", "10"]);
    let silent: Vec<_> = (0..30)
        .map(|n| {
            let mut connection = without_tls(&server);
            // Each client sends the beginning of a handshake, or nothing.
            connection.send(&b"\x16\x03\x01\x02\x00\x01\x00"[..n % 8]);
            assert_eq!(connect(&server, &files).get("/health").status, 200, "{n}");
            connection
        })
        .collect();
    let mut connection = connect(&server, &files);
    assert!(metric(&mut connection, "retracker_connections_shed_total{reason=\"full\"}") >= 20);
    assert!(metric(&mut connection, "retracker_connections") <= 10);
    drop(silent);
}

#[test]
fn unfinished_handshakes_take_little_memory_together() {
    if !may_open(3000) {
        return;
    }
    let files = CertificateFiles::new();
    let arguments =
        ["-l", "tls://127.0.0.1:0", "-p", "--max-connections", "2000", "--max-connections-per-address", "2000"];
    let setup = retracker_with_files(3000, 3000, &arguments);
    let server = setup.env("TLS_CERT_FILE", files.chain()).env("TLS_KEY_FILE", files.key()).start();
    let mut silent: Vec<_> = (0..1100).map(|_| without_tls(&server)).collect();
    let mut connection = connect(&server, &files);
    let shed = "retracker_connections_shed_total{reason=\"memory\"}";
    eventually("some connections are closed", || (metric(&mut connection, shed) >= 1100 - 1024).then_some(()));
    assert_eq!(metric(&mut connection, "retracker_connections_shed_total{reason=\"full\"}"), 0);
    assert!(silent[0].is_closed(), "the oldest is closed first");
}

// --- The stop -------------------------------------------------------------------------------------------------

#[test]
fn a_stop_answers_connections_that_wait_and_ends_idle_ones() {
    let files = CertificateFiles::new();
    let server = start(&files, &[]);
    let mut idle = connect(&server, &files);
    idle.announce(&announce("t", "idle"));
    let silent = without_tls(&server);
    server.signal("STOP");
    let (connected, wait) = mpsc::channel();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|n| {
                let (connection, config, connected) =
                    (without_tls(&server), files.authority.client(), connected.clone());
                scope.spawn(move || {
                    connected.send(()).unwrap();
                    let mut connection = connection.handshake(config).unwrap();
                    let reply = connection.get(announce("t", &format!("p{n}")).target());
                    (reply.status, connection.rest_until_closed().unwrap())
                })
            })
            .collect();
        clients.iter().for_each(|_| wait.recv().unwrap());
        let start = Instant::now();
        server.signal("TERM");
        server.signal("CONT");
        for client in clients {
            assert_eq!(client.join().unwrap(), (200, vec![]));
        }
        assert_eq!(idle.rest_until_closed().unwrap(), b"");
        let exit = server.wait();
        assert_eq!(exit.code, Some(0));
        // The server stopped before its time limit, because it does not wait for silent clients.
        assert!(!exit.stderr.concat().contains("shutdown: closed"), "{exit:?} after {:?}", start.elapsed());
    });
    drop(silent);
}

// --- The certificate ------------------------------------------------------------------------------------------

#[test]
fn hup_changes_the_certificate_of_new_connections() {
    let files = CertificateFiles::new();
    let server = start(&files, &[]);
    let mut old = connect(&server, &files);
    let first = certificate(&old);
    let second = files.renew();
    assert_eq!(certificate(&connect(&server, &files)), first, "files are read again only at the signal");
    server.signal("HUP");
    let line = server.logged("reloaded ");
    assert!(line.contains("INFO") && line.contains("fullchain.pem"), "{line}");
    assert_eq!(certificate(&connect(&server, &files)), second);
    assert_eq!(old.announce(&announce("t", "a")).int("incomplete"), 1);
    assert_ne!(first, second);
}

#[test]
fn hup_with_wrong_files_keeps_the_certificate() {
    let files = CertificateFiles::new();
    let server = start(&files, &[]);
    let first = certificate(&connect(&server, &files));
    let key = fs::read(files.key()).unwrap();
    let spoil: [(&dyn Fn(), &str); 3] = [
        (&|| fs::write(files.key(), "").unwrap(), "privkey.pem: it holds neither"),
        (&|| fs::remove_file(files.key()).unwrap(), "privkey.pem cannot be read"),
        (
            &|| {
                // The certificate and the key are from different renewals.
                files.renew();
                fs::write(files.key(), &key).unwrap();
            },
            "privkey.pem: its key is that of another certificate",
        ),
    ];
    for (spoil, found) in spoil {
        spoil();
        server.signal("HUP");
        let line = server.logged(found);
        assert!(line.contains("ERROR") && line.ends_with("; the certificate does not change"), "{line}");
        assert_eq!(certificate(&connect(&server, &files)), first);
    }
    let renewed = files.renew();
    server.signal("HUP");
    server.logged("reloaded ");
    assert_eq!(certificate(&connect(&server, &files)), renewed);
}

#[test]
fn every_kind_of_key_is_read() {
    for commands in [
        // These commands make, in this order, a PKCS#8 key, a PKCS#1 key, a SEC1 key after its curve parameters, and one
        // file with a certificate and its key.
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout privkey.pem -out fullchain.pem -subj /CN=localhost",
        "openssl genrsa -traditional -out privkey.pem 2048 && openssl req -x509 -key privkey.pem -out fullchain.pem -subj /CN=localhost",
        "openssl ecparam -genkey -name prime256v1 -out privkey.pem && openssl req -x509 -key privkey.pem -out fullchain.pem -subj /CN=localhost",
        "openssl req -x509 -newkey ed25519 -nodes -keyout k -out c -subj /CN=localhost && cat k c >privkey.pem && cp privkey.pem fullchain.pem",
    ] {
        let files = CertificateFiles::new();
        match Command::new("sh").args(["-c", commands]).current_dir(files.folder()).output() {
            Ok(output) if output.status.success() => {}
            output => return eprintln!("skipped: openssl cannot make the files ({output:?})"),
        }
        let server = start(&files, &[]);
        // The authority that the client trusts did not issue this certificate.
        let refused = TestConnection::over_tls(&server.addresses()[0], files.authority.client());
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::InvalidData, "{commands}");
        assert_eq!(retracker(&["healthcheck", "-l", &server.addresses()[0]]).run().code, Some(0), "{commands}");
    }
}

#[test]
fn the_health_check_asks_over_tls() {
    let files = CertificateFiles::new();
    let server = start(&files, &[]);
    let check = |address: &str| retracker(&["healthcheck", "-l", address]).run();
    let exit = check(&server.addresses()[0]);
    assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
    let plain = Server::start(&["-l", "127.0.0.1:0"]);
    let exit = check(&format!("tls://{}", plain.addresses()[0]));
    assert_eq!(exit.code, Some(1), "{exit:?}");
    assert!(exit.stderr[0].contains("nothing answers on tls://"), "{exit:?}");
}

// --- Starts that fail -----------------------------------------------------------------------------------------

fn only_line(exit: &Exit) -> String {
    assert_eq!((exit.code, exit.stderr.len()), (Some(2), 1), "{exit:?}");
    exit.stderr.concat()
}

#[test]
fn a_listener_for_tls_needs_a_certificate_and_a_certificate_a_listener() {
    let files = CertificateFiles::new();
    let (chain, key) = (files.chain(), files.key());
    let run = |args: &[&str], files: &[(&str, &std::path::Path)]| {
        let args: Vec<OsString> = args
            .iter()
            .map(OsString::from)
            .chain(files.iter().flat_map(|(flag, path)| [flag.into(), path.as_os_str().to_owned()]))
            .collect();
        let args: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
        only_line(&retracker(&args).run())
    };
    let tls = ["-l", "tls://127.0.0.1:0"];
    let line = run(&tls, &[]);
    assert!(
        line.contains("tls://127.0.0.1:0 has no certificate")
            && line.contains("--tls-cert (TLS_CERT_FILE) and --tls-key"),
        "{line}"
    );
    let line = run(&tls, &[("--tls-cert", &chain)]);
    assert!(line.contains("expected --tls-key (TLS_KEY_FILE)"), "{line}");
    let line = run(&tls, &[("--tls-key", &key)]);
    assert!(line.contains("expected --tls-cert (TLS_CERT_FILE)"), "{line}");
    let line = run(&["-l", "127.0.0.1:0", "--admin-listen", "tls://127.0.0.1:0"], &[]);
    assert!(line.contains("has no certificate"), "{line}");
    for files in [&[("--tls-cert", chain.as_path()), ("--tls-key", &key)][..], &[("--tls-key", &key)]] {
        let line = run(&["-l", "127.0.0.1:0"], files);
        assert!(line.contains(files[0].0) && line.contains("expected tls:// before an address"), "{line}");
    }
}

#[test]
fn tls_is_for_tcp_and_not_for_proxies() {
    for address in ["tls://unix:/tmp/x.sock", "proxy+tls://127.0.0.1:0", "tls://proxy+tcp://127.0.0.1:0"] {
        for flag in ["-l", "--admin-listen"] {
            let line = only_line(&retracker(&[flag, address]).run());
            assert!(
                line.contains(address) && line.contains("expected tls:// before an address of TCP alone"),
                "{line}"
            );
        }
    }
}

#[test]
fn wrong_files_end_the_start_and_are_named() {
    let (files, other) = (CertificateFiles::new(), CertificateFiles::new());
    let (chain, key) = (fs::read_to_string(files.chain()).unwrap(), fs::read_to_string(files.key()).unwrap());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let traditional = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,5A\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
    let no_certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    for (chain, key, file, found) in [
        ("", key.as_str(), "fullchain.pem", "it holds neither a certificate nor a private key, expected a PEM file"),
        ("\x30\x03\x02\x01\x01", &key, "fullchain.pem", "it holds neither a certificate nor a private key"),
        (&key, &key, "fullchain.pem", "it holds a private key and no certificate"),
        ("-----BEGIN CERTIFICATE-----\n!!!\n", &key, "fullchain.pem", "it is not a PEM file"),
        (no_certificate, &key, "fullchain.pem", "its first certificate cannot be used"),
        (
            &chain,
            "",
            "privkey.pem",
            "it holds neither a certificate nor a private key, expected a PEM file with the key",
        ),
        (&chain, &chain, "privkey.pem", "it holds a certificate and no private key"),
        (&chain, &key.repeat(2), "privkey.pem", "it holds 2 private keys"),
        (&chain, encrypted, "privkey.pem", "it holds a key with a passphrase, expected a PEM file with the key"),
        (&chain, traditional, "privkey.pem", "it holds a key with a passphrase"),
        (&chain, no_key, "privkey.pem", "its key cannot be used"),
        (&chain, &fs::read_to_string(other.key()).unwrap(), "privkey.pem", "its key is that of another certificate"),
    ] {
        fs::write(files.chain(), chain).unwrap();
        fs::write(files.key(), key).unwrap();
        let line = only_line(&with_certificate(&files, &["-l", "tls://127.0.0.1:0"]).run());
        assert!(line.contains(&format!("{file}: {found}")) && line.contains("expected "), "{line}");
        assert!(!line.contains("MII"), "{line}");
    }
    for (variable, expected) in
        [("TLS_CERT_FILE", "the server's certificate"), ("TLS_KEY_FILE", "the key of the first")]
    {
        for path in ["/nowhere/x.pem", "/"] {
            let line = only_line(&with_certificate(&other, &["-l", "tls://127.0.0.1:0"]).env(variable, path).run());
            for part in [variable, path, "cannot be read", expected] {
                assert!(line.contains(part), "{part}: {line}");
            }
        }
    }
}
