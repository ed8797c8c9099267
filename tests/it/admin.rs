//! Listeners for operators. If there are any, no other listener serves the operator's pages.

use crate::dsl::{CertificateFiles, Reply, Server, TestConnection, announce, eventually, observer, request, retracker};
use crate::fake_tracker::{FakeTracker, sends_when_told};
use crate::service::{ONE_PEER, forwarders};

const PAGES: [&str; 3] = ["/metrics", "/forwarders", "/health"];

fn start(args: &[&str]) -> Server {
    Server::start(&[&["--admin-listen", "127.0.0.1:0"], args].concat())
}

fn admin(server: &Server) -> TestConnection {
    TestConnection::to(&server.admin_addresses()[0])
}

fn text(reply: Reply) -> String {
    String::from_utf8(reply.body).unwrap()
}

/// Announces many clients at one address, so that the tracker's front page shows a notice.
fn make_notice(server: &Server) {
    let mut connection = server.connect();
    for n in (0..3).flat_map(|_| 1..=5) {
        connection.announce_with(&announce("t", &n.to_string()).port(n), &[("X-Real-IP", "192.168.1.1")]);
    }
}

#[test]
fn the_operator_s_pages_are_on_their_listener_only() {
    let server = start(&["-x"]);
    make_notice(&server);
    let mut operator = admin(&server);
    let mut client = server.connect();
    for page in PAGES {
        assert_eq!(operator.get(page).status, 200, "{page}");
        assert_eq!(operator.head(page).status, 200, "{page}");
        assert_eq!(client.get(page), client.get("/nothing"), "{page}");
        assert_eq!(client.get(page).status, 404, "{page}");
    }
    let overview = operator.get("/");
    assert_eq!(overview.status, 200);
    let overview = text(overview);
    assert!(PAGES.iter().all(|page| overview.contains(&format!("href=\"{page}\""))), "{overview}");
    assert!(overview.contains("Many clients") && !overview.contains("/announce"), "{overview}");
    let front = text(client.get("/"));
    assert!(front.contains("http://retracker.local/announce") && !front.contains("Many clients"), "{front}");
    assert!(!front.contains('{') || front.contains("<style>"), "{front}");
    assert_eq!((operator.get("/favicon.ico").status, client.get("/favicon.ico").status), (200, 200));
}

#[test]
fn clients_cannot_announce_where_operators_are_served() {
    let server = start(&[]);
    let mut operator = admin(&server);
    for target in [
        announce("t", "a").target(),
        announce("t", "a").target().replace("/announce?", "/?"),
        announce("t", "a").target().replace("/announce?", "/tracker?"),
        "/announce".to_owned(),
        "/scrape?info_hash=t-------------------".to_owned(),
    ] {
        let reply = operator.get(&target);
        let expected = if target.starts_with("/?") { 200 } else { 404 };
        assert_eq!(reply.status, expected, "{target}");
        assert!(!text(reply).contains("interval"), "{target}");
        operator.send(request("POST", &target, &[]));
        assert_eq!(operator.reply().status, 404, "{target}");
        assert_eq!(operator.head(&target).status, expected, "{target}");
    }
    assert_eq!(server.announce(&observer("t")).counts(), [0, 0, 0]);
    assert!(text(operator.get("/metrics")).contains("\nrequests 1\n"));
}

#[test]
fn they_are_in_every_notation_and_by_variable() {
    let (files, folder) = (CertificateFiles::new(), tempfile::tempdir().unwrap());
    let unix = format!("unix:{}", folder.path().join("admin.sock").display());
    let args = [
        "-l",
        "127.0.0.1:0",
        "--admin-listen",
        "tls://127.0.0.1:0",
        "--admin-listen",
        &unix,
        "--admin-listen=127.0.0.1:0",
    ];
    let setup = retracker(&args).env("TLS_CERT_FILE", files.chain()).env("TLS_KEY_FILE", files.key());
    let server = setup.start();
    let [tls, path, tcp] = server.admin_addresses() else { panic!("{:?}", server.admin_addresses()) };
    let mut connections = [
        TestConnection::over_tls(tls, files.authority.client()).unwrap(),
        TestConnection::to(path),
        TestConnection::to(tcp),
    ];
    for connection in &mut connections {
        assert_eq!(connection.get("/metrics").status, 200);
        assert_eq!(connection.get("/announce").status, 404);
    }
    let log = server.log();
    assert!(log.iter().any(|line| line.ends_with(&format!("listening for operators on {unix}"))), "{log:?}");
    assert_eq!(server.stop().code, Some(0));
    assert!(!folder.path().join("admin.sock").exists());
    // `--real-ip-header` needs a trusted proxy. A Unix socket for operators does not count as one, because no clients use
    // it.
    let exit = retracker(&["-l", "127.0.0.1:0", "--real-ip-header", "X-Real-IP"]).env("ADMIN_LISTEN_ADDR", &unix).run();
    assert_eq!(exit.code, Some(2), "{exit:?}");
}

#[test]
fn without_it_pages_are_where_they_were() {
    let server = Server::start(&["-p", "-x"]);
    make_notice(&server);
    for page in PAGES {
        assert_eq!(server.get(page).status, 200, "{page}");
    }
    assert!(text(server.get("/")).contains("Many clients"));
    assert_eq!(server.admin_addresses(), [""; 0]);
}

#[test]
fn foreign_host_names_are_refused_there_too() {
    let server = start(&["-x"]);
    make_notice(&server);
    for (page, status) in [("/metrics", 403), ("/forwarders", 403), ("/health", 200), ("/", 200)] {
        let mut connection = admin(&server);
        connection.send(format!("GET {page} HTTP/1.1\r\nHost: evil.example\r\n\r\n"));
        let reply = connection.reply();
        assert_eq!(reply.status, status, "{page}");
        assert!(reply.header("content-security-policy").is_some(), "{page}");
        assert!(!text(reply).contains("Many clients"), "{page}");
    }
}

#[test]
fn the_health_check_asks_the_listener_for_operators() {
    let server = start(&[]);
    let address = &server.admin_addresses()[0];
    for setup in [
        retracker(&["healthcheck", "--admin-listen", address]),
        retracker(&["--admin-listen", address, "healthcheck", "-l", "127.0.0.1:1"]),
        retracker(&["healthcheck"]).env("ADMIN_LISTEN_ADDR", address).env("LISTEN_ADDR", "127.0.0.1:1"),
    ] {
        let exit = setup.run();
        assert_eq!((exit.code, exit.stderr.len()), (Some(0), 0), "{exit:?}");
    }
    // The clients' listener has no /health.
    let exit = retracker(&["healthcheck", "-l", &server.addresses()[0]]).run();
    assert!(exit.code == Some(1) && exit.stderr[0].contains("404"), "{exit:?}");
}

#[test]
fn a_stop_shows_at_the_listener_for_operators() {
    let (script, answer) = sends_when_told(ONE_PEER);
    let upstream = FakeTracker::start(script);
    let server = retracker(&["-t", "60", "--admin-listen", "127.0.0.1:0"])
        .env("FORWARDS_FILE", forwarders(&upstream).path())
        .start();
    let mut client = server.connect();
    client.send(request("GET", announce("t", "a").target(), &[]));
    upstream.request(1);
    server.signal("TERM");
    eventually("health reports the shutdown", || {
        let mut connection = admin(&server);
        let _ = connection.try_send(request("GET", "/health", &[]));
        connection.half_close();
        connection.rest().starts_with(b"HTTP/1.1 503 ").then_some(())
    });
    answer.send(()).unwrap();
    assert_eq!(client.reply().status, 200);
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn clients_that_take_all_connections_do_not_lock_operators_out() {
    let (script, answer) = sends_when_told(ONE_PEER);
    let upstream = FakeTracker::start(script);
    let args = ["-t", "60", "--max-connections", "3", "--admin-listen", "127.0.0.1:0"];
    let server = retracker(&args).env("FORWARDS_FILE", forwarders(&upstream).path()).start();
    let mut busy: Vec<_> = (0..3)
        .map(|n| {
            let mut connection = server.connect();
            connection.send(request("GET", announce("t", &format!("p{n}")).port(7000 + n).target(), &[]));
            connection
        })
        .collect();
    upstream.request(3);
    eventually("a new client is refused", || server.raw(request("GET", "/", &[])).is_empty().then_some(()));
    let mut operators: Vec<_> = (0..10).map(|_| admin(&server)).collect();
    for operator in &mut operators {
        assert_eq!(operator.get("/health").status, 200);
    }
    let metrics = text(operators[0].get("/metrics"));
    assert!(metrics.contains("\nretracker_connections 3\n"), "{metrics}");
    // The number of operators' connections has its own limit. Above this limit, the server closes for each new
    // connection the one that has been idle longest.
    for _ in 0..50 {
        operators.push(admin(&server));
        assert_eq!(operators.last_mut().unwrap().get("/health").status, 200);
    }
    eventually("some connections are closed", || {
        (operators.iter_mut().filter_map(|operator| operator.is_closed().then_some(())).count() >= 20).then_some(())
    });
    answer.send(()).unwrap();
    for connection in &mut busy {
        assert_eq!(connection.reply().status, 200);
    }
}

#[test]
fn one_address_cannot_be_for_both() {
    let taken = Server::start(&["-l", "127.0.0.1:0"]);
    let address = taken.addresses()[0].clone();
    drop(taken);
    let exit = retracker(&["-l", &address, "--admin-listen", &address]).run();
    assert!(exit.code == Some(1) && exit.stderr.concat().contains(&address), "{exit:?}");
    let exit = retracker(&["--admin-listen", "nonsense"]).run();
    assert!(exit.code == Some(2) && exit.stderr.concat().contains("--admin-listen"), "{exit:?}");
}
