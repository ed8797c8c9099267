//! The limits on the number of connections, at which active clients are still served.

use crate::dsl::{Server, TestConnection, announce, eventually, may_open, observer, request, retracker_with_files};
use crate::fake_tracker::{FakeTracker, sends_when_told};
use crate::service::{ONE_PEER, forwarders};

/// Returns the value of a metric without labels.
fn metric(server: &Server, name: &str) -> i64 {
    let text = String::from_utf8(server.get("/metrics").body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

/// The limit on connections if the process may open 256 files: three quarters of 256.
const ROOM: usize = 192;

/// Opens a connection, and sends a request that is answered.
fn kept(server: &Server) -> TestConnection {
    let mut connection = server.connect();
    connection.announce(&observer("t"));
    connection
}

#[test]
fn the_soft_limit_of_open_files_is_raised() {
    if !may_open(2000) {
        return;
    }
    let server = retracker_with_files(256, 1600, &["-p"]).start();
    let mut kept: Vec<_> = (0..500).map(|_| kept(&server)).collect();
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(metric(&server, "retracker_connections_shed_total{reason=\"full\"}"), 0);
    for connection in &mut kept {
        assert_eq!(connection.get("/health").status, 200);
    }
}

#[test]
fn the_oldest_idle_connection_is_closed_for_a_new_one() {
    if !may_open(1000) {
        return;
    }
    let server = retracker_with_files(256, 256, &["-p", "--max-connections-per-address", "192"]).start();
    let mut kept: Vec<_> = (0..ROOM - 10).map(|_| kept(&server)).collect();
    // After this request on the first connection, the second one has been idle longest.
    kept[0].announce(&observer("t"));
    for _ in 0..50 {
        kept.push(self::kept(&server));
    }
    eventually("the oldest connections are closed", || kept[1].is_closed().then_some(()));
    eventually("the excess connections are closed", || {
        (kept.iter_mut().filter_map(|connection| connection.is_closed().then_some(())).count() >= 40).then_some(())
    });
    assert_eq!(kept[0].get("/health").status, 200);
    for connection in &mut kept[100..] {
        assert_eq!(connection.get("/health").status, 200);
    }
    assert!(metric(&server, "retracker_connections_shed_total{reason=\"full\"}") >= 40);
    assert!(metric(&server, "retracker_connections") <= i64::try_from(ROOM).unwrap());
}

#[test]
fn unfinished_requests_take_nothing_from_other_clients() {
    if !may_open(2000) {
        return;
    }
    for begun in [
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /announce HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
        "GET /announce?info_hash=",
        "GET / HTTP/1.1\r\nHost: x\r\n",
        "\r\n",
        "",
    ] {
        let server = retracker_with_files(256, 256, &[]).start();
        let mut held = Vec::new();
        for n in 0..400 {
            let mut connection = server.connect();
            connection.send(begun);
            held.push(connection);
            if n % 20 == 0 {
                assert_eq!(server.get("/health").status, 200, "{begun:?}");
            }
        }
        // The server logs this line if it cannot accept a connection.
        assert!(!server.log().iter().any(|line| line.contains("no connection can be accepted")), "{begun:?}");
    }
}

#[test]
fn a_reply_to_a_request_with_a_body_is_the_last() {
    let server = Server::start(&[]);
    for header in ["Transfer-Encoding: chunked", "Content-Length: 5", "Content-Length: 0\r\nContent-Length: 5"] {
        for target in ["/", "/announce", "/nowhere"] {
            let mut connection = server.connect();
            connection.send(format!("GET {target} HTTP/1.1\r\n{header}\r\n\r\n"));
            assert_eq!(connection.reply().header("connection"), Some("close"), "{header} {target}");
            // The server closes the connection, and sends nothing after the reply.
            assert_eq!(connection.rest(), b"");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_address_has_its_share_and_a_trusted_proxy_any_number() {
    let args = ["-l", "127.0.0.1:0", "-p", "--max-connections-per-address", "5", "--trusted-proxies", "127.0.0.3"];
    let server = Server::start(&args);
    let address = &server.addresses()[0];
    let connect = |host: u8| {
        let mut connection = TestConnection::from([127, 0, 0, host].into(), address);
        assert_eq!(connection.get("/health").status, 200);
        connection
    };
    let mut neighbour = connect(4);
    let mut proxied: Vec<_> = (0..20).map(|_| connect(3)).collect();
    let mut greedy: Vec<_> = (0..20).map(|_| connect(2)).collect();
    // If two requests come at about the same time, either of them may count as the older one. So the test checks how many
    // connections are closed, but not which.
    eventually("the excess connections are closed", || {
        greedy.retain_mut(|connection| !connection.is_closed());
        (greedy.len() == 5).then_some(())
    });
    for connection in greedy.iter_mut().chain(&mut proxied).chain([&mut neighbour]) {
        assert_eq!(connection.get("/health").status, 200);
    }
    assert_eq!(metric(&server, "retracker_connections_shed_total{reason=\"address\"}"), 15);
}

#[test]
fn a_connection_whose_request_is_being_answered_is_never_closed() {
    let (script, answer) = sends_when_told(ONE_PEER);
    let upstream = FakeTracker::start(script);
    let file = forwarders(&upstream);
    let args = ["-t", "60", "-p", "--max-connections", "3"];
    let server = crate::dsl::retracker(&args).env("FORWARDS_FILE", file.path()).start();
    let mut busy: Vec<_> = (0..3)
        .map(|n| {
            let mut connection = server.connect();
            connection.send(request("GET", announce("t", &format!("p{n}")).port(7000 + n).target(), &[]));
            connection
        })
        .collect();
    // The server may close a connection before it has read a request. So the test waits until the server has forwarded
    // all three requests.
    upstream.request(3);
    eventually("a new connection is refused", || server.raw(request("GET", "/health", &[])).is_empty().then_some(()));
    answer.send(()).unwrap();
    for connection in &mut busy {
        assert_eq!(connection.reply().status, 200);
    }
}
