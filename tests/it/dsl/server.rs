//! A server as a process of its own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv6Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::announce::AnnounceQuery;
use super::connection::{TestConnection, UNIX};
use super::reply::Reply;
use super::wait::eventually;

/// The name of an environment variable. If it is set, servers listen on Unix sockets, unless a test chooses an address.
pub(crate) const OVER_UNIX: &str = "RETRACKER_TESTS_OVER_UNIX";

/// A run of the binary before it starts: the arguments and the whole environment.
pub(crate) struct ServerSetup {
    command: Command,
    /// The number of TCP and Unix listeners; 0 if `start` must add the default listener.
    listeners: usize,
    /// The number of UDP listeners.
    udp_listeners: usize,
    /// The number of listeners for operators.
    admin_listeners: usize,
    /// The number of listeners for torrent-cache.
    torrents_listeners: usize,
}

/// Prepares a run with these arguments. By default a server listens on a port of 127.0.0.1 that the system chooses.
pub(crate) fn retracker(args: &[&str]) -> ServerSetup {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retracker"));
    command.env_clear().args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    let count = |short, long| args.iter().filter(|arg| arg.starts_with(short) || arg.starts_with(long)).count();
    ServerSetup {
        command,
        listeners: count("-l", "--listen"),
        udp_listeners: count("-u", "--udp-listen"),
        admin_listeners: args.iter().filter(|arg| arg.starts_with("--admin-listen")).count(),
        torrents_listeners: args
            .iter()
            .filter(|arg| arg.starts_with("--torrents-listen=") && !arg.ends_with("=none"))
            .count(),
    }
}

/// Prepares a run as [`retracker`] does, with a soft and a hard limit of open files.
pub(crate) fn retracker_with_files(soft: usize, hard: usize, args: &[&str]) -> ServerSetup {
    let mut setup = retracker(args);
    let mut command = Command::new("sh");
    let limited = format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$0\" \"$@\"");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_retracker")]).args(args);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    setup.command = command;
    setup
}

/// Raises this process's limit of open files. If the system does not allow this many, prints a message and returns
/// false.
pub(crate) fn may_open(files: u64) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let fits = |limit: Option<u64>| limit.is_none_or(|limit| limit >= files);
    let may =
        fits(current) || fits(maximum) && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    if !may {
        eprintln!("skipped: this host does not allow a test {files} open files");
    }
    may
}

impl ServerSetup {
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

    /// Sets the number of listeners to wait for. This is necessary if one address in the arguments stands for several
    /// listeners.
    pub(crate) fn listeners(mut self, listeners: usize) -> Self {
        self.listeners = listeners;
        self
    }

    /// Sets the numbers of listeners to wait for if a file says where to listen. There must be at least one for HTTP.
    pub(crate) fn listens(self, listeners: usize, udp_listeners: usize, admin_listeners: usize) -> Self {
        Self { listeners, udp_listeners, admin_listeners, ..self }
    }

    /// Starts a server and waits until all its listeners are bound.
    pub(crate) fn start(mut self) -> Server {
        let folder = std::env::var_os(OVER_UNIX).map(|_| tempfile::tempdir().unwrap());
        if self.listeners == 0 {
            let unix = folder.as_ref().map(|folder| format!("{UNIX}{}", folder.path().join("socket").display()));
            self.command.args(["-l", unix.as_deref().unwrap_or("127.0.0.1:0")]);
        }
        let listeners = self.listeners.max(1) + self.udp_listeners + self.admin_listeners + self.torrents_listeners;
        let mut process = ServerProcess::spawn(self.command);
        let addresses = eventually("the server listens", || {
            let found: Vec<_> = process.log().iter().filter_map(|line| listening(line)).collect();
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none() || found.len() == listeners, "the server ended too early: {:?}", process.log());
            (found.len() == listeners).then_some(found)
        });
        let of = |wanted: &str| {
            let found = addresses.iter().filter(|(audience, _)| *audience == wanted);
            found.map(|(_, address)| address.clone()).collect::<Vec<_>>()
        };
        let [admin, torrents, addresses] = [of("operators"), of("torrent-cache"), of("clients")];
        let is_udp = |address: &String| address.strip_prefix("proxy+").unwrap_or(address).starts_with("udp://");
        let (udp, addresses) = addresses.into_iter().partition(is_udp);
        Server { process, addresses, udp, admin, torrents, _folder: folder }
    }

    /// Runs the program until it ends.
    pub(crate) fn run(self) -> Exit {
        ServerProcess::spawn(self.command).wait()
    }
}

/// Returns the audience and the address of the listener that this line of the log reports. `None` if the line reports no
/// listener.
fn listening(line: &str) -> Option<(&'static str, String)> {
    let after = |text, audience| Some((audience, line.rsplit_once(text)?.1.to_owned()));
    after("listening on ", "clients")
        .or_else(|| after("listening for operators on ", "operators"))
        .or_else(|| after("listening for torrent-cache on ", "torrent-cache"))
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    /// The log, line by line.
    pub(crate) stderr: Vec<String>,
}

struct ServerProcess {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<()>>,
}

impl ServerProcess {
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

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // Both calls fail only if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the log of the server:\n{}", self.log().join("\n"));
        }
    }
}

/// A listening server. Dropping it kills the process.
pub(crate) struct Server {
    process: ServerProcess,
    addresses: Vec<String>,
    udp: Vec<String>,
    admin: Vec<String>,
    torrents: Vec<String>,
    /// The folder of the default Unix socket.
    _folder: Option<tempfile::TempDir>,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        retracker(args).start()
    }

    /// Starts a server on `::1`. On a host without IPv6, prints a message and returns `None`.
    pub(crate) fn start_on_ipv6(args: &[&str]) -> Option<Self> {
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            eprintln!("skipped: this host has no IPv6");
            return None;
        }
        Some(Self::start(&[&["-l", "[::1]:0"], args].concat()))
    }

    /// Returns the server's addresses for clients over TCP and Unix sockets, as the server logs them.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Returns the server's first UDP address.
    pub(crate) fn udp_address(&self) -> SocketAddr {
        self.udp[0].split_once("udp://").unwrap().1.parse().unwrap()
    }

    /// Returns the server's UDP addresses, as the server logs them.
    pub(crate) fn udp_addresses(&self) -> &[String] {
        &self.udp
    }

    /// Returns the server's addresses for operators, as the server logs them.
    pub(crate) fn admin_addresses(&self) -> &[String] {
        &self.admin
    }

    /// Returns the server's addresses for torrent-cache, as the server logs them.
    pub(crate) fn torrents_addresses(&self) -> &[String] {
        &self.torrents
    }

    /// Returns the lines that the server has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.log()
    }

    /// Waits for a line of the log that contains this text, and returns the line.
    pub(crate) fn logged(&self, text: &str) -> String {
        eventually(text, || self.log().into_iter().find(|line| line.contains(text)))
    }

    pub(crate) fn connect(&self) -> TestConnection {
        TestConnection::to(&self.addresses[0])
    }

    /// Sends GET on a connection of its own.
    pub(crate) fn get(&self, target: impl AsRef<[u8]>) -> Reply {
        self.connect().get(target)
    }

    /// Sends an announce that must succeed, on a connection of its own.
    pub(crate) fn announce(&self, announce: &AnnounceQuery) -> Reply {
        self.connect().announce(announce)
    }

    /// Sends bytes, shuts down the sending side and returns everything that the server sends.
    pub(crate) fn raw(&self, bytes: impl AsRef<[u8]>) -> Vec<u8> {
        let mut connection = self.connect();
        // The server may close before it has read everything.
        let _ = connection.try_send(bytes);
        connection.half_close();
        connection.rest()
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn pid(&self) -> i32 {
        self.process.child.id().cast_signed()
    }

    pub(crate) fn signal(&self, name: &str) {
        // The test uses the shell's own `kill`, because some systems have no program of that name.
        let kill = format!("kill -{name} {}", self.process.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Returns the processor time that the server has used, in hundredths of a second.
    #[cfg(target_os = "linux")]
    pub(crate) fn processor_ticks(&self) -> u64 {
        let stat = procfs::process::Process::new(self.process.child.id().cast_signed()).unwrap().stat().unwrap();
        stat.utime + stat.stime
    }

    /// Waits until the server ends.
    pub(crate) fn wait(self) -> Exit {
        self.process.wait()
    }

    /// Sends SIGTERM and waits until the server ends.
    pub(crate) fn stop(self) -> Exit {
        self.signal("TERM");
        self.wait()
    }
}
