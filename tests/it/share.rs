//! Several instances that share their swarms through a Redis. Each test starts a `redis-server` of its own on a Unix
//! socket. On a host without it, the tests print a message and are skipped.

mod forwarding;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::dsl::{AnnounceQuery, CertificateFiles, DEADLINE, Reply, Server, announce, eventually, observer, retracker};
use crate::udp_client::{UdpClient, udp_announce};

/// A process of `redis-server`. Dropping this value kills the process.
struct TestRedis {
    folder: TempDir,
    args: Vec<String>,
    process: Child,
}

impl TestRedis {
    /// Starts a Redis that keeps nothing on disk. If `redis-server` is not installed, prints a message and returns `None`.
    fn start(args: &[&str]) -> Option<Self> {
        let has_redis = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !has_redis {
            eprintln!("skipped: redis-server is not installed");
            return None;
        }
        Some(Self::start_in(tempfile::tempdir().unwrap(), args))
    }

    /// Starts a Redis in this folder. `redis-server` must be installed.
    fn start_in(folder: TempDir, args: &[&str]) -> Self {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = Self::spawn(&folder, &args);
        let redis = Self { folder, args, process };
        redis.wait_until_it_answers();
        redis
    }

    fn spawn(folder: &TempDir, args: &[String]) -> Child {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
        command.arg(folder.path().join("socket")).arg("--dir").arg(folder.path()).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn wait_until_it_answers(&self) {
        eventually("redis-server answers", || {
            let mut stream = UnixStream::connect(self.socket()).ok()?;
            stream.write_all(b"PING\r\n").ok()?;
            stream.read_exact(&mut [0]).ok()
        });
    }

    /// Sends commands on one connection. Returns the first line of the last reply.
    fn ask(&self, commands: &[&str]) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut replies = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        for command in commands {
            write!(stream, "{command}\r\n").unwrap();
            line.clear();
            replies.read_line(&mut line).unwrap();
        }
        line.trim_end().to_owned()
    }

    /// Sends one command on a connection of its own. Returns the whole reply, or `None` if the server closes the
    /// connection early: Sentinel makes a server close all connections when its role changes.
    fn whole_reply(&self, command: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "{command}\r\n").ok()?;
        stream.shutdown(Shutdown::Write).ok()?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).ok()?;
        Some(String::from_utf8_lossy(&reply).into_owned())
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts a killed Redis again at the same socket. It is empty then.
    fn start_again(&mut self) {
        self.process = Self::spawn(&self.folder, &self.args);
        self.wait_until_it_answers();
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        // Both calls fail only if the process has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts an instance that shares through this Redis, and waits until it has caught up.
fn instance(redis: &TestRedis, args: &[&str]) -> Server {
    let server = unready_instance(&redis.url(), args);
    until_ready(&server);
    server
}

/// Starts an instance that is ready only after it has caught up, because its warm-up lasts an hour.
fn unready_instance(url: &str, args: &[&str]) -> Server {
    retracker(&[&["-x", "-p", "--share-warm-up=3600"], args].concat()).env("SHARE_URL", url).start()
}

fn until_ready(server: &Server) {
    eventually("the instance is ready", || (server.get("/ready").status == 200).then_some(()));
}

/// Sends an announce that comes from the address `host`.
fn from(server: &Server, host: &str, announce: &AnnounceQuery) -> Reply {
    server.connect().announce_with(announce, &[("X-Real-IP", host)])
}

/// Returns the peers that a client without a port gets.
fn peers(server: &Server, torrent: &str) -> Vec<String> {
    let mut peers = from(server, "192.168.1.200", &observer(torrent)).peers();
    peers.sort();
    peers
}

fn until_peers(server: &Server, torrent: &str, expected: &[&str]) {
    eventually(&format!("the peers {expected:?}"), || (peers(server, torrent) == expected).then_some(()));
}

/// Returns the value of a metric. `name` includes the labels. 0 if the metric is not there.
fn metric(server: &Server, name: &str) -> i64 {
    let text = String::from_utf8(server.get("/metrics").body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

fn until_metric(server: &Server, name: &str, is_expected: impl Fn(i64) -> bool) {
    eventually(name, || is_expected(metric(server, name)).then_some(()));
}

fn until_alone(server: &Server) {
    until_metric(server, "retracker_share_up", |up| up == 0);
}

fn until_together(server: &Server) {
    until_metric(server, "retracker_share_up", |up| up == 1);
}

fn health(server: &Server) -> (u16, String) {
    let reply = server.get("/health");
    (reply.status, String::from_utf8(reply.body).unwrap())
}

#[test]
fn what_one_instance_hears_the_other_tells() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let [a, b] = [instance(&redis, &[]), instance(&redis, &[])];
    from(&a, "192.168.1.5", &announce("t", "a").seed());
    from(&b, "192.168.1.6", &announce("t", "b"));
    from(&b, "192.168.1.6", &announce("t", "b").event("completed").seed());
    from(&b, "fd00::6", &announce("t", "b").seed());
    let all = ["192.168.1.5:6881", "192.168.1.6:6881", "[fd00::6]:6881"];
    until_peers(&a, "t", &all);
    until_peers(&b, "t", &all);
    assert_eq!(from(&a, "192.168.1.200", &observer("t")).counts(), [2, 0, 1], "both addresses are of one client");
    assert_eq!(from(&b, "192.168.1.200", &observer("t")).counts(), [2, 0, 1]);
    // A client may send `stopped` to any instance.
    from(&b, "192.168.1.5", &announce("t", "a").event("stopped"));
    until_peers(&a, "t", &all[1..]);
    for (server, instances) in [(&a, 2), (&b, 2)] {
        until_metric(server, "retracker_share_instances", |count| count >= 1 && count <= instances);
        assert_eq!(health(server), (200, "ok\n".to_owned()));
        assert_eq!(server.get("/check").text(), "STILL-ALIVE");
    }
    assert_eq!(metric(&a, "retracker_share_sent_total{reason=\"joined\"}"), 1);
    assert_eq!(metric(&b, "retracker_share_sent_total{reason=\"left\"}"), 1);
    assert!(metric(&a, "retracker_share_received_total") >= 3);
}

#[test]
fn instances_accept_the_connection_ids_of_each_other() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let args = ["--udp-listen=127.0.0.1:0"];
    let [a, b] = [instance(&redis, &args), instance(&redis, &args)];
    // An instance begins with a key of its own. It takes some time until it uses the key of all instances.
    eventually("both instances have the same key", || {
        let id = UdpClient::of(&a).id;
        let reply = UdpClient::of(&b).ask(&udp_announce("t", "a").packet(id));
        (reply[..4] == [0, 0, 0, 1]).then_some(())
    });
}

#[test]
fn instances_with_one_secret_accept_the_connection_ids_of_each_other() {
    let secret = |text: &str| retracker(&["--udp-listen=127.0.0.1:0"]).env("UDP_SECRET", text).start();
    let [a, b, c] = ["0123456789abcdef", "0123456789abcdef", "0123456789abcdeF"].map(secret);
    let packet = udp_announce("t", "a").packet(UdpClient::of(&a).id);
    assert_eq!(UdpClient::of(&b).ask(&packet)[..4], [0, 0, 0, 1]);
    assert_eq!(UdpClient::of(&c).ask(&packet)[..4], [0, 0, 0, 3]);
}

#[test]
fn instances_of_another_name_share_nothing() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let [a, b] = [instance(&redis, &[]), instance(&redis, &[])];
    let other = instance(&redis, &["--share-name=other"]);
    from(&a, "192.168.1.5", &announce("t", "a"));
    until_peers(&b, "t", &["192.168.1.5:6881"]);
    from(&other, "192.168.1.6", &announce("t", "b"));
    assert_eq!(peers(&other, "t"), ["192.168.1.6:6881"]);
    assert_eq!(metric(&other, "retracker_share_received_total"), 0);
}

#[test]
fn an_instance_that_starts_knows_all_peers_before_it_is_ready() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let a = instance(&redis, &[]);
    for n in 0..200 {
        from(&a, &format!("192.168.2.{n}"), &announce(&format!("torrent {}", n % 20), "a").port(1000 + n));
    }
    until_metric(&a, "retracker_share_pending", |pending| pending == 0);
    // The last records may still be on their way to the Redis.
    let b = instance(&redis, &[]);
    until_peers(&b, "torrent 19", &peers(&a, "torrent 19").iter().map(String::as_str).collect::<Vec<_>>());
    let c = instance(&redis, &[]);
    for n in 0..20 {
        let torrent = format!("torrent {n}");
        assert_eq!(peers(&c, &torrent), peers(&a, &torrent), "{torrent}");
        assert_eq!(peers(&c, &torrent).len(), 10, "{torrent}");
    }
}

#[test]
fn a_redis_that_is_killed_and_comes_back_empty_costs_no_peer() {
    let Some(mut redis) = TestRedis::start(&[]) else { return };
    let [a, b] = [instance(&redis, &[]), instance(&redis, &[])];
    from(&a, "192.168.1.5", &announce("t", "a"));
    until_peers(&b, "t", &["192.168.1.5:6881"]);
    redis.kill();
    until_alone(&a);
    until_alone(&b);
    assert_eq!(from(&a, "192.168.1.6", &announce("t", "b")).peers(), ["192.168.1.5:6881"]);
    assert_eq!(peers(&b, "t"), ["192.168.1.5:6881"]);
    // The first error is that the connection is lost. The test waits for the second error: no connection can be opened.
    eventually("the page says why", || {
        let (status, body) = health(&a);
        assert_eq!(status, 200);
        (body.contains("alone since ") && body.contains("cannot be reached")).then_some(())
    });
    assert_eq!(a.get("/ready").status, 200, "the instance has been ready");
    redis.start_again();
    until_together(&a);
    until_together(&b);
    let both = ["192.168.1.5:6881", "192.168.1.6:6881"];
    until_peers(&b, "t", &both);
    assert_eq!(health(&a).1, "ok\n");
    // The Redis has forgotten the first peer. The instance shares this peer once more at the peer's next announce.
    from(&a, "192.168.1.5", &announce("t", "a"));
    let c = instance(&redis, &[]);
    until_peers(&c, "t", &both);
    assert!(metric(&a, "retracker_share_resyncs_total{reason=\"epoch\"}") >= 1);
    for server in [&a, &b] {
        let lines = |text: &str| server.log().iter().filter(|line| line.contains(text)).count();
        assert_eq!((lines("share: alone: "), lines("share: no longer alone")), (1, 1), "{:?}", server.log());
    }
}

#[test]
fn a_redis_that_forgets_its_keys_while_it_runs_is_noticed_at_once() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let a = instance(&redis, &[]);
    from(&a, "192.168.1.5", &announce("t", "a"));
    until_metric(&a, "retracker_share_pending", |pending| pending == 0);
    assert_eq!(redis.ask(&["FLUSHALL"]), "+OK");
    // Each exchange asks for the epoch of the first log. The instance asks for all epochs only once a minute, and no
    // test waits that long.
    until_metric(&a, "retracker_share_resyncs_total{reason=\"epoch\"}", |resyncs| resyncs == 1);
    assert_eq!(redis.ask(&["EXISTS retracker:{0}:epoch retracker:{15}:epoch retracker:{0}:udp-key"]), ":3");
    from(&a, "192.168.1.5", &announce("t", "a"));
    until_metric(&a, "retracker_share_sent_total{reason=\"resync\"}", |sent| sent == 1);
    let b = instance(&redis, &[]);
    until_peers(&b, "t", &["192.168.1.5:6881"]);
}

#[test]
fn announces_are_answered_while_the_redis_hangs() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let [a, b] = [instance(&redis, &[]), instance(&redis, &[])];
    redis.signal("STOP");
    for n in 0..100 {
        let reply = from(&a, &format!("192.168.2.{n}"), &announce("t", &format!("p{n}")).port(1000 + n));
        assert_eq!(reply.counts(), [0, i64::from(n) + 1, 0]);
    }
    until_metric(&a, "retracker_share_errors_total{reason=\"timeout\"}", |errors| errors >= 1);
    until_alone(&b);
    assert_eq!(from(&b, "192.168.1.200", &observer("t")).counts(), [0, 0, 0]);
    assert!(health(&a).1.contains("does not answer within 2 s"), "{:?}", health(&a));
    redis.signal("CONT");
    eventually("the other instance knows all", || {
        (from(&b, "192.168.1.200", &observer("t")).counts() == [0, 100, 0]).then_some(())
    });
}

#[test]
fn a_wrong_password_is_named_and_no_announce_waits() {
    let Some(redis) = TestRedis::start(&["--requirepass", "right"]) else { return };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "wrong\n").unwrap();
    let with_file = format!("--share-password-file={}", file.path().display());
    let wrong = unready_instance(&redis.url(), &[&with_file]);
    assert_eq!(from(&wrong, "192.168.1.5", &announce("t", "a")).counts(), [0, 1, 0]);
    let line = wrong.logged("share: alone: ");
    assert!(line.contains("refuses the user or the password") && line.contains("SHARE_PASSWORD_FILE"), "{line}");
    let (status, body) = health(&wrong);
    assert!(status == 200 && body.contains("alone since "), "{body}");
    let ready = wrong.get("/ready");
    assert_eq!((ready.status, &ready.body[..]), (503, &b"warming up\n"[..]));
    assert_eq!(wrong.get("/check").status, 503);
    until_metric(&wrong, "retracker_share_errors_total{reason=\"login\"}", |errors| errors >= 1);

    std::fs::write(file.path(), "right\n").unwrap();
    let right = unready_instance(&redis.url(), &[&with_file]);
    until_ready(&right);
    let in_url = unready_instance(&redis.url().replace("//", "//:right@"), &[]);
    until_ready(&in_url);
    assert!(!in_url.log().join("\n").contains("right"), "{:?}", in_url.log());
    let status = in_url.get("/api/v1/status").text();
    assert!(status.contains("SHARE_URL") && !status.contains("right"), "{status}");
}

#[test]
fn an_instance_that_cannot_warm_up_is_ready_after_a_while() {
    let server = retracker(&["--share-warm-up=0.1"]).env("SHARE_URL", "redis+unix:///nowhere/socket").start();
    until_ready(&server);
    assert_eq!(server.get("/check").text(), "STILL-ALIVE");
}

#[test]
fn a_full_redis_takes_what_waits_when_it_has_room() {
    let Some(redis) = TestRedis::start(&["--maxmemory-policy", "noeviction"]) else { return };
    let [a, b] = [instance(&redis, &[]), instance(&redis, &[])];
    assert_eq!(redis.ask(&["CONFIG SET maxmemory 1"]), "+OK");
    from(&a, "192.168.1.5", &announce("t", "a"));
    until_metric(&a, "retracker_share_errors_total{reason=\"full\"}", |errors| errors >= 1);
    assert!(health(&a).1.contains("no memory left"), "{:?}", health(&a));
    assert_eq!(peers(&b, "t"), [""; 0]);
    assert_eq!(redis.ask(&["CONFIG SET maxmemory 0"]), "+OK");
    until_peers(&b, "t", &["192.168.1.5:6881"]);
    until_together(&a);
}

#[test]
fn the_last_announces_before_a_stop_are_shared() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let [a, b] = [instance(&redis, &[]), instance(&redis, &[])];
    until_metric(&b, "retracker_share_instances", |count| count >= 1);
    let hosts: Vec<_> = (10..60).map(|n| format!("192.168.1.{n}:6881")).collect();
    for host in &hosts {
        from(&a, host.trim_end_matches(":6881"), &announce("t", host));
    }
    let exit = a.stop();
    assert_eq!(exit.code, Some(0));
    assert!(!exit.stderr.join("\n").contains("were not written"), "{:?}", exit.stderr);
    until_peers(&b, "t", &hosts.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(redis.ask(&["HLEN retracker:{0}:instances"]), ":1", "the instance has signed off");
}

#[test]
fn junk_in_a_log_is_dropped_and_counted() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let a = instance(&redis, &[]);
    let log = "retracker:{3}:log";
    redis.ask(&[
        &format!("XADD {log} * b junk"),
        &format!("XADD {log} * b \"\\x01\""),
        &format!("XADD {log} * odd 1 fields 2"),
    ]);
    until_metric(&a, "retracker_share_dropped_total{reason=\"version\"}", |dropped| dropped == 1);
    until_metric(&a, "retracker_share_dropped_total{reason=\"malformed\"}", |dropped| dropped == 2);
    assert_eq!(health(&a).1, "ok\n");
}

#[test]
fn zones_are_those_of_the_same_name() {
    let Some(redis) = TestRedis::start(&[]) else { return };
    let zones = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    };
    let [north, south] = ["10.1.0.0/16", "10.2.0.0/16"];
    let here = zones(&format!("- name: north\n  networks: [{north}]\n- name: south\n  networks: [{south}]\n"));
    let there = zones(&format!("- name: south\n  networks: [{south}]\n- name: north\n  networks: [{north}]\n"));
    let other = zones("- name: east\n  networks: [10.3.0.0/16]\n");
    let of = |file: &tempfile::NamedTempFile| instance(&redis, &[&format!("--zones={}", file.path().display())]);
    let [a, b, c] = [of(&here), of(&there), of(&other)];
    from(&a, "10.1.0.5", &announce("t", "a"));
    from(&a, "10.2.0.5", &announce("t", "b").seed());
    for server in [&a, &b] {
        for (zone, role) in [("north", "leecher"), ("south", "seed")] {
            let name = format!("retracker_peers_by_zone{{zone=\"{zone}\",role=\"{role}\"}}");
            until_metric(server, &name, |peers| peers == 1);
        }
    }
    until_metric(&c, "retracker_share_dropped_total{reason=\"zone\"}", |dropped| dropped == 2);
    assert_eq!(from(&c, "192.168.1.200", &observer("t")).counts(), [0, 0, 0]);
}

// --- TLS ------------------------------------------------------------------------------------------------------

#[test]
fn instances_share_over_tls_with_a_server_that_they_trust() {
    let (files, port) = (CertificateFiles::new(), free_port().to_string());
    let [chain, key] = [files.chain(), files.key()].map(|path| path.display().to_string());
    let tls = ["--tls-port", &port, "--tls-auth-clients", "no", "--tls-cert-file", &chain, "--tls-key-file", &key];
    // Redis needs the file of an authority for clients, although it asks clients for no certificate.
    let Some(_redis) = TestRedis::start(&[&tls[..], &["--tls-ca-cert-file", &chain]].concat()) else { return };
    let authority = files.folder().join("authority.pem");
    std::fs::write(&authority, files.authority.pem()).unwrap();
    let url = format!("rediss://localhost:{port}");
    let trusting = || {
        let server = retracker(&["-x", "-p", "--share-warm-up=3600"]);
        let server = server.env("SHARE_URL", &url).env("SSL_CERT_FILE", &authority).start();
        until_ready(&server);
        server
    };
    let [a, b] = [trusting(), trusting()];
    from(&a, "192.168.1.5", &announce("t", "a"));
    until_peers(&b, "t", &["192.168.1.5:6881"]);
    let stranger = unready_instance(&url, &[]);
    let line = stranger.logged("share: alone: ");
    assert!(line.contains("does not get through the TLS handshake") && line.contains("SSL_CERT_FILE"), "{line}");
    let without_tls = unready_instance(&url.replace("rediss", "redis"), &[]);
    assert!(without_tls.logged("share: alone: ").contains("A port for TLS needs rediss://"), "{:?}", without_tls.log());
}

// --- Sentinel -------------------------------------------------------------------------------------------------

/// Returns a port that is free now. A test with Sentinel or TLS must choose the ports, because a Redis cannot choose a
/// free port itself.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts a Sentinel of the primary at this place, which listens on this port and has these settings.
fn sentinel_of(primary: &str, port: u16, settings: &str) -> TestRedis {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sentinel.conf");
    let socket = folder.path().join("socket");
    let text = format!(
        "port {port}\nbind 127.0.0.1\nunixsocket {}\ndir {}\nsentinel monitor mymaster {primary} 1\n{settings}",
        socket.display(),
        folder.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("redis-server");
    command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let sentinel = TestRedis { folder, args: Vec::new(), process: command.spawn().unwrap() };
    sentinel.wait_until_it_answers();
    sentinel
}

/// Two Redis servers, and a Sentinel that decides which of them is the primary.
struct TestSentinel {
    servers: [TestRedis; 2],
    ports: [u16; 2],
    sentinel: TestRedis,
    port: u16,
}

impl TestSentinel {
    fn start() -> Option<Self> {
        let [first, second, port] = [free_port(), free_port(), free_port()];
        let on = |port: u16| ["--bind".to_owned(), "127.0.0.1".to_owned(), "--port".to_owned(), port.to_string()];
        let [first_args, second_args] = [on(first), on(second)];
        let primary = TestRedis::start(&first_args.each_ref().map(String::as_str))?;
        let of = format!("127.0.0.1 {first}");
        let mut replica_args: Vec<_> = second_args.iter().map(String::as_str).collect();
        replica_args.extend(["--replicaof", &of]);
        let replica = TestRedis::start(&replica_args)?;
        let settings = "sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 2000\n";
        let sentinel = sentinel_of(&of, port, settings);
        let set_up = Self { servers: [primary, replica], ports: [first, second], sentinel, port };
        set_up.until_replica(1);
        Some(set_up)
    }

    /// Waits until server `n` has copied all data of the other server, and the Sentinel could make it the primary.
    fn until_replica(&self, n: usize) {
        let from = format!("master_port:{}\r\n", self.ports[1 - n]);
        eventually("the server is a replica", || {
            let info = self.servers[n].whole_reply("INFO replication")?;
            (info.contains(&from) && info.contains("master_link_status:up")).then_some(())
        });
        eventually("the Sentinel knows the replica", || {
            let reply = self.sentinel.whole_reply("SENTINEL replicas mymaster")?;
            (reply.contains("master-link-status\r\n$2\r\nok") && !reply.contains("s_down")).then_some(())
        });
    }

    /// Waits until server `n` is the primary.
    fn until_primary(&self, n: usize) {
        let port = format!("\r\n{}\r\n", self.ports[n]);
        eventually("the other server is the primary", || {
            let reply = self.sentinel.whole_reply("SENTINEL get-master-addr-by-name mymaster")?;
            let role = self.servers[n].whole_reply("ROLE")?;
            (reply.contains(&port) && role.contains("master")).then_some(())
        });
    }

    fn url(&self) -> String {
        // No program listens at the first address, so that the instances must ask the second.
        format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/mymaster", free_port(), self.port)
    }
}

#[test]
fn instances_follow_the_primary_that_sentinel_names() {
    let Some(mut sentinel) = TestSentinel::start() else { return };
    let [a, b] = [unready_instance(&sentinel.url(), &[]), unready_instance(&sentinel.url(), &[])];
    until_ready(&a);
    until_ready(&b);
    from(&a, "192.168.1.5", &announce("t", "a"));
    until_peers(&b, "t", &["192.168.1.5:6881"]);
    // A planned failover: the old primary stays up, as a replica.
    assert_eq!(sentinel.sentinel.ask(&["SENTINEL FAILOVER mymaster"]), "+OK");
    sentinel.until_primary(1);
    from(&a, "192.168.1.6", &announce("t", "b"));
    until_peers(&b, "t", &["192.168.1.5:6881", "192.168.1.6:6881"]);
    // An unplanned failover: the new primary is killed.
    sentinel.until_replica(0);
    sentinel.servers[1].kill();
    from(&b, "192.168.1.7", &announce("t", "c"));
    let all = ["192.168.1.5:6881", "192.168.1.6:6881", "192.168.1.7:6881"];
    until_peers(&a, "t", &all);
    // During a failover, Sentinel lets the old primary accept writes for some seconds. These writes are lost. So an instance
    // shares each peer once more at the peer's next announce.
    for (host, peer) in [("192.168.1.5", "a"), ("192.168.1.6", "b"), ("192.168.1.7", "c")] {
        from(&a, host, &announce("t", peer));
    }
    let c = unready_instance(&sentinel.url(), &[]);
    until_ready(&c);
    until_peers(&c, "t", &all);
}

#[test]
fn a_sentinel_may_have_a_password() {
    let [of_server, of_sentinel, of_open_sentinel] = [free_port(), free_port(), free_port()];
    let args = ["--bind", "127.0.0.1", "--port", &of_server.to_string(), "--requirepass", "of the server"];
    let Some(_redis) = TestRedis::start(&args) else { return };
    let primary = format!("127.0.0.1 {of_server}");
    let closed = "requirepass \"of the Sentinels\"\nsentinel auth-pass mymaster \"of the server\"\n";
    let _sentinels =
        [(of_sentinel, closed), (of_open_sentinel, "")].map(|(port, text)| sentinel_of(&primary, port, text));
    let file = |text: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    };
    let [right, wrong] = [file("of the Sentinels\n"), file("wrong\n")];
    let with = |file: &tempfile::NamedTempFile| format!("--share-sentinel-password-file={}", file.path().display());
    let url = |port| format!("redis+sentinel://:of%20the%20server@127.0.0.1:{port}/mymaster");

    until_ready(&unready_instance(&url(of_sentinel), &[&with(&right)]));
    let (code, text) = check(&url(of_sentinel), &[&with(&right)]);
    assert_eq!(code, Some(0), "{text}");
    // A Sentinel that has no password refuses any password, so the instance asks it without one.
    until_ready(&unready_instance(&url(of_open_sentinel), &[&with(&right)]));
    // Without the file, the instance tries the password of the server, which these Sentinels refuse.
    for args in [&[with(&wrong)][..], &[]] {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        let line = unready_instance(&url(of_sentinel), &args).logged("share: alone: ");
        assert!(
            line.contains("refuses the user or the password") && line.contains("SHARE_SENTINEL_PASSWORD_FILE"),
            "{line}"
        );
        let (code, text) = check(&url(of_sentinel), &args);
        assert!(code == Some(1) && text.contains("the Sentinels refuse the password or want one"), "{text}");
        assert!(text.contains("SHARE_SENTINEL_PASSWORD_FILE") && !text.contains("of the server"), "{text}");
    }
    let without = format!("redis+sentinel://127.0.0.1:{of_sentinel}/mymaster");
    let (code, text) = check(&without, &[]);
    assert!(code == Some(1) && text.contains("NOAUTH") && text.contains("SHARE_SENTINEL_PASSWORD_FILE"), "{text}");
}

#[test]
fn a_sentinel_may_have_the_password_of_the_server() {
    let [of_server, of_sentinel] = [free_port(), free_port()];
    let args = ["--bind", "127.0.0.1", "--port", &of_server.to_string(), "--requirepass", "same"];
    let Some(_redis) = TestRedis::start(&args) else { return };
    let settings = "requirepass same\nsentinel auth-pass mymaster same\n";
    let _sentinel = sentinel_of(&format!("127.0.0.1 {of_server}"), of_sentinel, settings);
    until_ready(&unready_instance(&format!("redis+sentinel://:same@127.0.0.1:{of_sentinel}/mymaster"), &[]));
}

// --- retracker check ------------------------------------------------------------------------------------------

fn check(url: &str, args: &[&str]) -> (Option<i32>, String) {
    let exit = retracker(&[&["check"], args].concat()).env("SHARE_URL", url).run();
    (exit.code, exit.stdout + &exit.stderr.join("\n"))
}

#[test]
fn check_says_whether_a_redis_is_usable() {
    let Some(redis) = TestRedis::start(&["--requirepass", "secret word"]) else { return };
    let with_password = redis.url().replace("//", "//:secret%20word@");
    let (code, text) = check(&with_password, &[]);
    assert!(code == Some(0) && text.contains("(Redis ") && text.contains("is usable"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let (code, text) = check(&redis.url(), &[]);
    assert!(code == Some(1) && text.contains("refuses the user or the password"), "{text}");
    let (code, text) = check("redis+unix:///nowhere/socket", &[]);
    assert!(code == Some(1) && text.contains("cannot be reached") && text.contains("SHARE_URL"), "{text}");
    let (code, _) = check("redis+unix:///nowhere/socket", &["--offline"]);
    assert_eq!(code, Some(0));

    let auth = "AUTH \"secret word\"";
    redis.ask(&[auth, "ACL SETUSER few on >pw ~retracker:* +get +set +info +time"]);
    let (code, text) = check(&redis.url().replace("//", "//few:pw@"), &[]);
    assert!(code == Some(1) && text.contains("does not permit a command") && text.contains("+xadd"), "{text}");
    let rights = "+xadd +xread +get +set +hset +hgetall +hdel +time +info";
    redis.ask(&[auth, &format!("ACL SETUSER enough on >pw ~retracker:* {rights}")]);
    let enough = redis.url().replace("//", "//enough:pw@");
    let (code, text) = check(&enough, &[]);
    assert_eq!(code, Some(0), "{text}");
    until_ready(&unready_instance(&enough, &[]));

    redis.ask(&[auth, "CONFIG SET maxmemory 100mb", "CONFIG SET maxmemory-policy allkeys-lru"]);
    let (code, text) = check(&with_password, &[]);
    assert!(code == Some(1) && text.contains("allkeys-lru") && text.contains("noeviction"), "{text}");
}

#[test]
fn a_user_without_password_is_an_error() {
    let exit = retracker(&["-l", "127.0.0.1:0"]).env("SHARE_URL", "redis://tracker@host").run();
    assert_eq!(exit.code, Some(2));
    assert!(
        exit.stderr.join("\n").contains("SHARE_URL is \"(a secret)\", expected a password behind the user"),
        "{exit:?}"
    );
}
