//! What the tests are written in: a server in a process of its own, connections to it, announces, and replies taken apart.
//!
//! Ports are chosen by the system. Nothing here sleeps for a fixed time: what takes time is asked for again until
//! it is there or [`DEADLINE`] has passed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bendy::decoding::{Decoder, Object};
use socket2::{Domain, SockAddr, Socket, Type};

/// Longer than anything takes on a busy machine. Only a test that fails waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The variable that has servers listen on Unix sockets, unless a test says where it wants them.
pub(crate) const OVER_UNIX: &str = "RETRACKER_TESTS_OVER_UNIX";

/// Before the path of such a socket. A tracker does not know who is behind a Unix socket unless it is told.
const UNIX: &str = "proxy+unix:";

/// What it is told there.
const FROM_THIS_HOST: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 80\r\n";

/// Tries until there is something. `what` is what a failure says was waited for.
pub(crate) fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

// --- Processes ------------------------------------------------------------------------------------------------

/// A run of the binary to be: its arguments and its whole environment.
pub(crate) struct Setup {
    command: Command,
    /// How many listeners it was given; none stands for the one that the tests add.
    listeners: usize,
    /// And how many for UDP.
    udp_listeners: usize,
}

/// Prepares a run with these arguments. A server listens on a port of 127.0.0.1 that the system chooses, unless the
/// arguments or the environment say otherwise.
pub(crate) fn retracker(args: &[&str]) -> Setup {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retracker"));
    command.env_clear().args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    let count = |short, long| args.iter().filter(|arg| arg.starts_with(short) || arg.starts_with(long)).count();
    Setup { command, listeners: count("-l", "--listen"), udp_listeners: count("-u", "--udp-listen") }
}

/// The same for a process that may have so many files open: the soft limit, and the hard one.
pub(crate) fn retracker_with_files(soft: usize, hard: usize, args: &[&str]) -> Setup {
    let mut setup = retracker(args);
    let mut command = Command::new("sh");
    let limited = format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$0\" \"$@\"");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_retracker")]).args(args);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    setup.command = command;
    setup
}

/// Has this process open so many files, if the system lets it.
pub(crate) fn may_open(files: u64) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let fits = |limit: Option<u64>| limit.is_none_or(|limit| limit >= files);
    let may =
        fits(current) || fits(maximum) && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    if !may {
        eprintln!("left out: this host does not let a test have {files} files open");
    }
    may
}

impl Setup {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let addresses = value.as_ref().to_string_lossy().split(',').filter(|address| !address.is_empty()).count();
        match name {
            "LISTEN_ADDR" if self.listeners == 0 => self.listeners = addresses,
            "UDP_LISTEN_ADDR" if self.udp_listeners == 0 => self.udp_listeners = addresses,
            _ => {}
        }
        self.command.env(name, value);
        self
    }

    /// Says how many listeners there will be, if that is not one for each address given.
    pub(crate) fn listeners(mut self, listeners: usize) -> Self {
        self.listeners = listeners;
        self
    }

    /// Starts a server and waits until all its listeners are there.
    pub(crate) fn start(mut self) -> Server {
        let folder = std::env::var_os(OVER_UNIX).map(|_| tempfile::tempdir().unwrap());
        if self.listeners == 0 {
            let unix = folder.as_ref().map(|folder| format!("{UNIX}{}", folder.path().join("socket").display()));
            self.command.args(["-l", unix.as_deref().unwrap_or("127.0.0.1:0")]);
        }
        let listeners = self.listeners.max(1) + self.udp_listeners;
        let mut process = Process::spawn(self.command);
        let addresses = eventually("the server listens", || {
            let found: Vec<_> = process.log().iter().filter_map(|line| listening(line)).collect();
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none() || found.len() == listeners, "it ended at once: {:?}", process.log());
            (found.len() == listeners).then_some(found)
        });
        let is_udp = |address: &String| address.strip_prefix("proxy+").unwrap_or(address).starts_with("udp://");
        let (udp, addresses) = addresses.into_iter().partition(is_udp);
        Server { process, addresses, udp, _folder: folder }
    }

    /// Runs to its end.
    pub(crate) fn run(self) -> Exit {
        Process::spawn(self.command).wait()
    }
}

/// The address in a line that says that a listener is bound.
fn listening(line: &str) -> Option<String> {
    Some(line.rsplit_once("listening on ")?.1.to_owned())
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    /// The log, line by line.
    pub(crate) stderr: Vec<String>,
}

struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<()>>,
}

impl Process {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let stdout = thread::spawn(move || {
            let mut text = Vec::new();
            stdout.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::<Mutex<Vec<String>>>::default();
        let lines = Arc::clone(&log);
        let stderr = thread::spawn(move || {
            let mut line = Vec::new();
            while stderr.read_until(b'\n', &mut line).unwrap() > 0 {
                let text = String::from_utf8_lossy(&line);
                lines.lock().unwrap().push(text.strip_suffix('\n').unwrap_or(&text).to_owned());
                line.clear();
            }
        });
        Self { child, log, stdout: Some(stdout), stderr: Some(stderr) }
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn wait(mut self) -> Exit {
        let status = eventually("the process ends", || self.child.try_wait().unwrap());
        let stdout = self.stdout.take().unwrap().join().unwrap();
        self.stderr.take().unwrap().join().unwrap();
        Exit { code: status.code(), stdout, stderr: self.log() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Neither can fail but for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the log of the server:\n{}", self.log().join("\n"));
        }
    }
}

/// A server that listens. It is killed when the test ends.
pub(crate) struct Server {
    process: Process,
    addresses: Vec<String>,
    udp: Vec<String>,
    /// Of its Unix socket, if it has one that the test did not ask for.
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        retracker(args).start()
    }

    /// A server on `::1`; none on a host without IPv6, which is said.
    pub(crate) fn start_on_ipv6(args: &[&str]) -> Option<Self> {
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            eprintln!("left out: this host has no IPv6");
            return None;
        }
        Some(Self::start(&[&["-l", "[::1]:0"], args].concat()))
    }

    /// Where it listens, as it says itself.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Where it listens for UDP, as it says itself, on the first address if there are several.
    pub(crate) fn udp_address(&self) -> SocketAddr {
        self.udp[0].split_once("udp://").unwrap().1.parse().unwrap()
    }

    /// All places where it listens for UDP, as it says itself.
    pub(crate) fn udp_addresses(&self) -> &[String] {
        &self.udp
    }

    /// The lines that it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.log()
    }

    /// Waits for a line of the log that contains this.
    pub(crate) fn logged(&self, text: &str) -> String {
        eventually(text, || self.log().into_iter().find(|line| line.contains(text)))
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::to(&self.addresses[0])
    }

    /// GET on a connection of its own.
    pub(crate) fn get(&self, target: impl AsRef<[u8]>) -> Reply {
        self.connect().get(target)
    }

    /// An announce that must be answered, on a connection of its own.
    pub(crate) fn announce(&self, announce: &Announce) -> Reply {
        self.connect().announce(announce)
    }

    /// Whatever comes back for these bytes until the server closes the connection, which is closed for writing first.
    pub(crate) fn raw(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut connection = self.connect();
        // The server may have heard enough before all is said.
        let _ = connection.0.get_mut().write_all(bytes.as_ref());
        connection.half_close();
        connection.rest()
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn pid(&self) -> i32 {
        self.process.child.id().cast_signed()
    }

    pub(crate) fn signal(&self, name: &str) {
        // The shell's own kill: there is none else everywhere.
        let kill = format!("kill -{name} {}", self.process.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// The processor time that it has used, in hundredths of a second.
    #[cfg(target_os = "linux")]
    pub(crate) fn processor_ticks(&self) -> u64 {
        let stat = procfs::process::Process::new(self.process.child.id().cast_signed()).unwrap().stat().unwrap();
        stat.utime + stat.stime
    }

    /// Waits for its end.
    pub(crate) fn wait(self) -> Exit {
        self.process.wait()
    }

    /// Asks it to stop, and waits for that.
    pub(crate) fn stop(self) -> Exit {
        self.signal("TERM");
        self.wait()
    }
}

// --- Connections ----------------------------------------------------------------------------------------------

/// One connection, kept for as many requests as the test has.
pub(crate) struct Connection(BufReader<Socket>);

impl Connection {
    /// To one of a server's addresses, or to another one by which it can be reached.
    pub(crate) fn to(address: &str) -> Self {
        let unix = |path| {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            Self::open(socket, &SockAddr::unix(path).unwrap())
        };
        if let Some(path) = address.strip_prefix("unix:") {
            return unix(path);
        }
        if let Some(path) = address.strip_prefix(UNIX) {
            let mut connection = unix(path);
            connection.send(FROM_THIS_HOST);
            return connection;
        }
        let address: SocketAddr = address.parse().unwrap();
        Self::open(Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap(), &address.into())
    }

    /// From another address of the loopback network, which only Linux has without being asked.
    #[cfg(target_os = "linux")]
    pub(crate) fn from(source: Ipv4Addr, address: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        Self::open(socket, &address.parse::<SocketAddr>().unwrap().into())
    }

    fn open(socket: Socket, address: &SockAddr) -> Self {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        socket.connect(address).unwrap();
        if !address.is_unix() {
            // What a test sends in pieces is to arrive in pieces.
            socket.set_tcp_nodelay(true).unwrap();
        }
        Self(BufReader::new(socket))
    }

    pub(crate) fn get(&mut self, target: impl AsRef<[u8]>) -> Reply {
        self.get_with(target, &[])
    }

    /// GET with headers beside `Host`.
    pub(crate) fn get_with(&mut self, target: impl AsRef<[u8]>, headers: &[(&str, &str)]) -> Reply {
        self.send(request("GET", target, headers));
        self.reply()
    }

    /// HEAD: the reply has no body, whatever its headers say.
    pub(crate) fn head(&mut self, target: impl AsRef<[u8]>) -> Reply {
        self.send(request("HEAD", target, &[]));
        self.reply_head()
    }

    /// An announce that must be answered.
    pub(crate) fn announce(&mut self, announce: &Announce) -> Reply {
        self.announce_with(announce, &[])
    }

    pub(crate) fn announce_with(&mut self, announce: &Announce, headers: &[(&str, &str)]) -> Reply {
        let reply = self.get_with(announce.target(), headers);
        assert!(reply.tree().get("failure reason").is_none(), "{}: {}", announce.target(), reply.text());
        reply
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// The same where the server may have closed the connection.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref())
    }

    /// The next reply, whole.
    pub(crate) fn reply(&mut self) -> Reply {
        let mut reply = self.reply_head();
        match reply.header("content-length").map(|length| length.parse().unwrap()) {
            Some(length) => {
                reply.body.resize(length, 0);
                self.0.read_exact(&mut reply.body).unwrap();
            }
            None => reply.body = self.rest(),
        }
        reply
    }

    fn reply_head(&mut self) -> Reply {
        let status_line = self.line();
        let mut words = status_line.splitn(3, ' ');
        let version = words.next().unwrap_or_default().to_owned();
        let status = words.next().and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        let headers = std::iter::from_fn(|| Some(self.line()).filter(|line| !line.is_empty()))
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        Reply { version, status, headers, body: Vec::new() }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("the connection ends after {line:?}")).to_owned()
    }

    /// Whether the server has closed it, without a word.
    pub(crate) fn is_closed(&mut self) -> bool {
        let socket = self.0.get_mut();
        socket.set_nonblocking(true).unwrap();
        let read = socket.read(&mut [0]);
        socket.set_nonblocking(false).unwrap();
        !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// What comes until the server closes. A connection that it resets is closed too.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Err(error) = self.0.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the server does not close");
        }
        rest
    }

    /// Says that nothing more will be said.
    pub(crate) fn half_close(&self) {
        let _ = self.0.get_ref().shutdown(Shutdown::Write);
    }
}

/// A request without a body, as a client sends it.
pub(crate) fn request(method: &str, target: impl AsRef<[u8]>, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = [method.as_bytes(), b" ", target.as_ref(), b" HTTP/1.1\r\nHost: retracker.local\r\n"].concat();
    headers.iter().for_each(|(name, value)| write!(bytes, "{name}: {value}\r\n").unwrap());
    bytes.extend_from_slice(b"\r\n");
    bytes
}

// --- Announces ------------------------------------------------------------------------------------------------

/// The query of an announce. Values are as they stand on the wire, escaped.
#[derive(Clone, Debug)]
pub(crate) struct Announce(Vec<(String, String)>);

/// A leecher on port 6881. Names become identifiers: see [`id`].
pub(crate) fn announce(torrent: &str, peer: &str) -> Announce {
    let announce = Announce(Vec::new()).with("info_hash", escape(&id(torrent))).with("peer_id", escape(&id(peer)));
    announce.port(6881).with("left", "1")
}

/// One who is told of up to 200 peers without becoming one: a client on the LAN that cannot be reached.
pub(crate) fn observer(torrent: &str) -> Announce {
    announce(torrent, "observer").at("10.99.99.99").without("port").numwant(200)
}

/// Twenty bytes that begin with a name.
pub(crate) fn id(name: &str) -> [u8; 20] {
    let mut id = [b'-'; 20];
    id[..name.len()].copy_from_slice(name.as_bytes());
    id
}

pub(crate) fn escape(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, &byte| {
        match byte {
            b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02x}").unwrap(),
        }
        out
    })
}

impl Announce {
    /// From another address than the test's own.
    pub(crate) fn at(self, ip: &str) -> Self {
        self.with("ip", ip)
    }

    pub(crate) fn port(self, port: u16) -> Self {
        self.with("port", port.to_string())
    }

    pub(crate) fn seed(self) -> Self {
        self.with("left", "0")
    }

    pub(crate) fn event(self, event: &str) -> Self {
        self.with("event", event)
    }

    pub(crate) fn numwant(self, numwant: i64) -> Self {
        self.with("numwant", numwant.to_string())
    }

    /// Sets a parameter, in the place where it stood if it was set.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        match self.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((name.to_owned(), value.into())),
        }
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self
    }

    pub(crate) fn query(&self) -> String {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    }

    pub(crate) fn target(&self) -> String {
        format!("/announce?{}", self.query())
    }
}

// --- Replies --------------------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) version: String,
    pub(crate) status: u16,
    /// Names in lower case, in the order of the reply.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body, fit to be printed.
    pub(crate) fn text(&self) -> String {
        self.body.escape_ascii().to_string()
    }

    /// The body as a BitTorrent client reads it: the status must be 200, the type plain text, the bencode canonical (keys
    /// sorted and unique, no leading zeros) and nothing behind it.
    pub(crate) fn tree(&self) -> Tree {
        assert_eq!((self.status, self.header("content-type")), (200, Some("text/plain")), "{}", self.text());
        Tree::read(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The peers of an announce reply, sorted.
    pub(crate) fn peers(&self) -> Vec<String> {
        self.tree().peers().into_iter().map(|peer| peer.to_string()).collect()
    }

    /// One of the numbers of an announce reply.
    pub(crate) fn int(&self, key: &str) -> i64 {
        self.tree().get(key).unwrap_or_else(|| panic!("{key} is not in {}", self.text())).int()
    }

    /// The `external ip` of an announce reply.
    pub(crate) fn external_ip(&self) -> String {
        match self.tree().get("external ip").unwrap().bytes() {
            bytes if bytes.len() == 4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).unwrap()).to_string(),
            bytes => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()).to_string(),
        }
    }

    /// A text of an announce reply.
    pub(crate) fn string(&self, key: &str) -> Option<String> {
        Some(String::from_utf8(self.tree().get(key)?.bytes().to_vec()).unwrap())
    }

    /// `complete`, `incomplete` and `downloaded` of an announce reply.
    pub(crate) fn counts(&self) -> [i64; 3] {
        ["complete", "incomplete", "downloaded"].map(|key| self.int(key))
    }
}

/// A bencoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(BTreeMap<Vec<u8>, Tree>),
}

impl Tree {
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, bendy::decoding::Error> {
        let mut decoder = Decoder::new(bytes);
        let tree = Self::of(decoder.next_object()?.ok_or_else(|| bendy::decoding::Error::missing_field("value"))?)?;
        match decoder.next_object()? {
            None => Ok(tree),
            Some(_) => Err(bendy::decoding::Error::unexpected_field("a second value")),
        }
    }

    fn of(object: Object<'_, '_>) -> Result<Self, bendy::decoding::Error> {
        Ok(match object {
            Object::Integer(digits) => Self::Int(digits.parse()?),
            Object::Bytes(bytes) => Self::Bytes(bytes.to_vec()),
            Object::List(mut list) => {
                let mut items = Vec::new();
                while let Some(item) = list.next_object()? {
                    items.push(Self::of(item)?);
                }
                Self::List(items)
            }
            Object::Dict(mut dict) => {
                let mut pairs = BTreeMap::new();
                while let Some((key, value)) = dict.next_pair()? {
                    pairs.insert(key.to_vec(), Self::of(value)?);
                }
                Self::Dict(pairs)
            }
        })
    }

    pub(crate) fn get(&self, key: impl AsRef<[u8]>) -> Option<&Self> {
        match self {
            Self::Dict(pairs) => pairs.get(key.as_ref()),
            other => panic!("no dictionary: {other:?}"),
        }
    }

    pub(crate) fn int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            other => panic!("no integer: {other:?}"),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("no string: {other:?}"),
        }
    }

    /// The peers in `peers`, of either form, and in `peers6`, sorted. Compact lists must have no odd bytes.
    fn peers(&self) -> Vec<SocketAddr> {
        let mut peers: Vec<SocketAddr> = match self.get("peers").expect("peers is always there") {
            Self::List(peers) => peers
                .iter()
                .map(|peer| {
                    let ip = std::str::from_utf8(peer.get("ip").unwrap().bytes()).unwrap();
                    SocketAddr::new(ip.parse().unwrap(), peer.get("port").unwrap().int().try_into().unwrap())
                })
                .collect(),
            compact => entries::<6>(compact.bytes())
                .map(|[a, b, c, d, high, low]| ([a, b, c, d], u16::from_be_bytes([high, low])).into())
                .collect(),
        };
        if let Some(peers6) = self.get("peers6") {
            peers.extend(entries::<18>(peers6.bytes()).map(|entry| {
                let (ip, port) = entry.split_first_chunk::<16>().unwrap();
                SocketAddr::from((*ip, u16::from_be_bytes(port.try_into().unwrap())))
            }));
        }
        peers.sort();
        peers
    }
}

fn entries<const LENGTH: usize>(list: &[u8]) -> impl Iterator<Item = [u8; LENGTH]> {
    let (entries, rest) = list.as_chunks::<LENGTH>();
    assert!(rest.is_empty(), "{} bytes of compact peers", list.len());
    entries.iter().copied()
}
