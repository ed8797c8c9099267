//! The trackers that are measured, each as a process.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use load::child::ChildProcess;
use load::client;
use load::crowd::Crowd;
use load::http::reply;
use load::http::requests::{LoadSource as _, PreparedRequests, RequestStyle};
use load::machine::{Cores, Placement, process};
use load::udp;
use tempfile::NamedTempFile;

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProgramKind {
    Retracker,
    Opentracker,
    GoRetracker,
    AquaticUdp,
}

/// A tracker that is installed on this host.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) kind: ProgramKind,
    command: String,
}

impl Program {
    /// Returns the build of `cargo bench`, unless the variable `RETRACKER` names another program.
    pub(crate) fn retracker() -> Self {
        let command = named("RETRACKER").unwrap_or_else(|| env!("CARGO_BIN_EXE_retracker").to_owned());
        Self { kind: ProgramKind::Retracker, command }
    }

    /// Returns opentracker, or `None` if it is not installed.
    pub(crate) fn opentracker() -> Option<Self> {
        installed("OPENTRACKER", "opentracker").map(|command| Self { kind: ProgramKind::Opentracker, command })
    }

    /// Returns the Go retracker, or `None` if it is not installed.
    pub(crate) fn go_retracker() -> Option<Self> {
        named("GO_RETRACKER").map(|command| Self { kind: ProgramKind::GoRetracker, command })
    }

    /// Returns `aquatic_udp`, or `None` if it is not installed.
    pub(crate) fn aquatic_udp() -> Option<Self> {
        installed("AQUATIC_UDP", "aquatic_udp").map(|command| Self { kind: ProgramKind::AquaticUdp, command })
    }

    /// Starts the tracker on these cores. Adds the arguments that every start needs.
    pub(crate) fn start(&self, cores: &Cores, place: Placement, args: &[&str]) -> TrackerProcess {
        self.start_logging(cores, place, args, Stdio::null())
    }

    /// Starts the tracker on these cores, and writes its log to `log`.
    pub(crate) fn start_logging(&self, cores: &Cores, place: Placement, args: &[&str], log: Stdio) -> TrackerProcess {
        let address = free_address();
        let mut command = self.command(address);
        command.args(args).stderr(log);
        let server = self.spawn(cores, place, command, address);
        server.wait_until_it_listens();
        server
    }

    /// Starts the tracker on these cores, with UDP on the same port as HTTP. With `is_v6`, UDP is on an IPv6 address.
    pub(crate) fn start_udp(
        &self,
        cores: &Cores,
        place: Placement,
        is_v6: bool,
        args: &[&str],
    ) -> Result<TrackerProcess, String> {
        let http = free_address();
        let mut command = self.command(http);
        command.args(args);
        let config = self.config(http, if place == Placement::Both { 2 } else { 1 })?;
        let ip: IpAddr = if is_v6 { Ipv6Addr::LOCALHOST.into() } else { http.ip() };
        let address = SocketAddr::from((ip, http.port()));
        match self.kind {
            ProgramKind::Retracker => command.arg("-u").arg(address.to_string()),
            ProgramKind::Opentracker => command.args(["-i", &ip.to_string(), "-P", &address.port().to_string()]),
            ProgramKind::AquaticUdp => command.arg("-c").arg(config.path()),
            ProgramKind::GoRetracker => return Err("the Go retracker has no UDP".to_owned()),
        };
        let server = self.spawn(cores, place, command, address);
        udp::wait_for(server.address, START_TIMEOUT).map_err(|why| format!("{}: {why}", server.name))?;
        Ok(server)
    }

    /// Returns the command with the arguments that every start needs.
    fn command(&self, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.command);
        match self.kind {
            ProgramKind::Retracker => command.env_clear().arg("-l").arg(address.to_string()),
            ProgramKind::Opentracker => command.args(["-i", "127.0.0.1", "-p", &address.port().to_string()]),
            ProgramKind::GoRetracker => command.arg("-l").arg(address.to_string()),
            ProgramKind::AquaticUdp => &mut command,
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Writes the default configuration that `aquatic_udp` prints, with another port, this number of workers, and as many
    /// peers in a reply as a client wants. The file is empty for other trackers.
    fn config(&self, address: SocketAddr, workers: usize) -> Result<NamedTempFile, String> {
        let mut file = NamedTempFile::new().map_err(|error| error.to_string())?;
        if self.kind == ProgramKind::AquaticUdp {
            let output = Command::new(&self.command).arg("-p").output().map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&output.stdout)
                .replace(":3000", &format!(":{}", address.port()))
                .replace("socket_workers = 1", &format!("socket_workers = {workers}"))
                .replace("max_response_peers = 30", "max_response_peers = 200");
            file.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(file)
    }

    /// Starts the process on the cores of this place. A process inherits the cores of the thread that starts it.
    fn spawn(&self, cores: &Cores, place: Placement, mut command: Command, address: SocketAddr) -> TrackerProcess {
        cores.pin(place);
        let process = command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", self.command));
        cores.pin(if place == Placement::Both { Placement::Both } else { Placement::Load });
        let name = match self.kind {
            ProgramKind::Retracker => "retracker",
            ProgramKind::Opentracker => "opentracker",
            ProgramKind::GoRetracker => "Go retracker",
            ProgramKind::AquaticUdp => "aquatic_udp",
        };
        TrackerProcess { name, address, process: ChildProcess(process) }
    }

    /// Returns the tracker's name, and its version if the tracker tells it.
    pub(crate) fn version(&self, cores: &Cores) -> String {
        match self.kind {
            ProgramKind::Opentracker => {
                let server = self.start(cores, Placement::Server, &[]);
                let version = client::get(server.address, "/stats?mode=version").unwrap();
                let commit = version.rsplit("id=").next().unwrap_or_default().trim().to_owned();
                format!("opentracker {commit}")
            }
            // aquatic_udp prints no version.
            ProgramKind::AquaticUdp => "aquatic_udp".to_owned(),
            ProgramKind::Retracker | ProgramKind::GoRetracker => {
                let output = Command::new(&self.command).arg("-v").output().unwrap();
                let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                if self.kind == ProgramKind::Retracker { version } else { format!("Go retracker {version}") }
            }
        }
    }
}

/// Returns an error message for the first variable that names a missing program.
pub(crate) fn missing() -> Option<String> {
    ["RETRACKER", "OPENTRACKER", "GO_RETRACKER", "AQUATIC_UDP", "AQUATIC_UDP_LOAD_TEST"].into_iter().find_map(
        |variable| {
            let program = named(variable)?;
            let is_there = Path::new(&program).is_file() || on_path(&program).is_some();
            (!is_there).then(|| format!("{variable} is {program}, but there is no such program"))
        },
    )
}

/// Returns the program that the variable names, or else the program in `PATH`. `None` if neither exists.
pub(crate) fn installed(variable: &str, name: &str) -> Option<String> {
    named(variable).or_else(|| on_path(name))
}

fn named(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

fn on_path(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(name)).filter(|file| Path::is_file(file));
    found.next()?.into_os_string().into_string().ok()
}

/// Returns an address with a free port, because not every tracker can choose a port itself.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A running tracker. Dropping it kills the process.
pub(crate) struct TrackerProcess {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    process: ChildProcess,
}

impl TrackerProcess {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns whether the process runs. A process that has ended is a zombie until its exit status is collected.
    pub(crate) fn is_alive(&self) -> bool {
        process(self.pid()).stat().is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    fn wait_until_it_listens(&self) {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(start.elapsed() < START_TIMEOUT, "{} does not listen", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Scrapes a crowd's first swarms and returns the number of their peers.
    pub(crate) fn peers_of(&self, crowd: Crowd, swarms: u64) -> u64 {
        let style = RequestStyle::new(self.address).close(true);
        let mut scrapes = PreparedRequests::scrapes(Crowd { swarms, ..crowd }, swarms, &style);
        reply::count_peers(&client::exchange(self.address, scrapes.next().unwrap().bytes).unwrap())
    }
}
