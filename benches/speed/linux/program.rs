//! The trackers that are measured, each in a process of its own.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::crowd::Crowd;
use tempfile::NamedTempFile;

use super::machine::{Cores, Place, process};
use super::requests::{Prepared, Requests as _, Style};
use super::{reply, udp};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Retracker,
    Opentracker,
    GoRetracker,
    AquaticUdp,
}

/// A tracker that can be started.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) kind: Kind,
    command: String,
}

impl Program {
    /// What `cargo bench` has built, unless another build is named.
    pub(crate) fn retracker() -> Self {
        let command = named("RETRACKER").unwrap_or_else(|| env!("CARGO_BIN_EXE_retracker").to_owned());
        Self { kind: Kind::Retracker, command }
    }

    /// None if there is none on this machine.
    pub(crate) fn opentracker() -> Option<Self> {
        let command = named("OPENTRACKER").or_else(|| on_path("opentracker"))?;
        Some(Self { kind: Kind::Opentracker, command })
    }

    /// None if there is none on this machine.
    pub(crate) fn go_retracker() -> Option<Self> {
        named("GO_RETRACKER").map(|command| Self { kind: Kind::GoRetracker, command })
    }

    /// None if there is none on this machine.
    pub(crate) fn aquatic_udp() -> Option<Self> {
        named("AQUATIC_UDP").map(|command| Self { kind: Kind::AquaticUdp, command })
    }

    /// Starts it there, with these arguments besides those that every start needs.
    pub(crate) fn start(&self, cores: &Cores, place: Place, args: &[&str]) -> Server {
        self.start_logging(cores, place, args, Stdio::null())
    }

    /// The same, with what it logs going there.
    pub(crate) fn start_logging(&self, cores: &Cores, place: Place, args: &[&str], log: Stdio) -> Server {
        let address = free_address();
        let mut command = self.command(address);
        command.args(args).stderr(log);
        let server = self.spawn(cores, place, command, address);
        server.wait_until_it_listens();
        server
    }

    /// Starts it on the tracker's core so that it can be asked over UDP, on the same port.
    pub(crate) fn start_udp(&self, cores: &Cores) -> Result<Server, String> {
        let address = free_address();
        let mut command = self.command(address);
        let config = self.config(address)?;
        match self.kind {
            Kind::Retracker => command.arg("-u").arg(address.to_string()),
            Kind::Opentracker => command.arg("-P").arg(address.port().to_string()),
            Kind::AquaticUdp => command.arg("-c").arg(config.path()),
            Kind::GoRetracker => return Err("the Go retracker has no UDP".to_owned()),
        };
        let server = self.spawn(cores, Place::Server, command, address);
        udp::wait_for(&server, PATIENCE)?;
        Ok(server)
    }

    /// With what every start needs.
    fn command(&self, address: SocketAddr) -> Command {
        let mut command = Command::new(&self.command);
        match self.kind {
            Kind::Retracker => command.env_clear().arg("-l").arg(address.to_string()),
            Kind::Opentracker => command.args(["-i", "127.0.0.1", "-p", &address.port().to_string()]),
            Kind::GoRetracker => command.arg("-l").arg(address.to_string()),
            Kind::AquaticUdp => &mut command,
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The configuration that `aquatic_udp` prints as its default, but for the port; empty for others.
    fn config(&self, address: SocketAddr) -> Result<NamedTempFile, String> {
        let mut file = NamedTempFile::new().map_err(|error| error.to_string())?;
        if self.kind == Kind::AquaticUdp {
            let output = Command::new(&self.command).arg("-p").output().map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&output.stdout).replace(":3000", &format!(":{}", address.port()));
            file.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(file)
    }

    /// A process runs where the thread that started it does.
    fn spawn(&self, cores: &Cores, place: Place, mut command: Command, address: SocketAddr) -> Server {
        cores.stay(place);
        let process = command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", self.command));
        cores.stay(if place == Place::Both { Place::Both } else { Place::Load });
        let name = match self.kind {
            Kind::Retracker => "retracker",
            Kind::Opentracker => "opentracker",
            Kind::GoRetracker => "Go retracker",
            Kind::AquaticUdp => "aquatic_udp",
        };
        Server { name, address, process }
    }

    /// As it names itself.
    pub(crate) fn version(&self, cores: &Cores) -> String {
        match self.kind {
            Kind::Opentracker => {
                let server = self.start(cores, Place::Server, &[]);
                let version = server.get("/stats?mode=version").unwrap();
                let commit = version.rsplit("id=").next().unwrap_or_default().trim().to_owned();
                format!("opentracker {commit}")
            }
            // It does not tell.
            Kind::AquaticUdp => "aquatic_udp".to_owned(),
            Kind::Retracker | Kind::GoRetracker => {
                let output = Command::new(&self.command).arg("-v").output().unwrap();
                let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                if self.kind == Kind::Retracker { version } else { format!("Go retracker {version}") }
            }
        }
    }
}

/// The first variable that names a program that is not there, in a sentence.
pub(crate) fn missing() -> Option<String> {
    ["RETRACKER", "OPENTRACKER", "GO_RETRACKER", "AQUATIC_UDP"].into_iter().find_map(|variable| {
        let program = named(variable)?;
        let is_there = Path::new(&program).is_file() || on_path(&program).is_some();
        (!is_there).then(|| format!("{variable} is {program}, but there is no such program"))
    })
}

fn named(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

fn on_path(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let mut found = std::env::split_paths(&path).map(|folder| folder.join(name)).filter(|file| Path::is_file(file));
    found.next()?.into_os_string().into_string().ok()
}

/// A port that nobody listens on: not every tracker can be told to choose one.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A tracker that runs. It is killed when this goes.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether it has not ended. Who has ended and has not been waited for has a process, but no more than that.
    pub(crate) fn is_alive(&self) -> bool {
        process(self.pid()).stat().is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    fn wait_until_it_listens(&self) {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            assert!(start.elapsed() < PATIENCE, "{} does not listen", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The reply to a request on a connection of its own.
    fn exchange(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        Ok(reply)
    }

    pub(crate) fn get(&self, path: &str) -> io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        Ok(String::from_utf8_lossy(&self.exchange(request.as_bytes())?).into_owned())
    }

    /// How many peers it says that a crowd's first swarms have, of which it asks in one scrape.
    pub(crate) fn peers_of(&self, crowd: Crowd, swarms: u64) -> u64 {
        let style = Style::new(self.address).close(true);
        let mut scrapes = Prepared::scrapes(Crowd { swarms, ..crowd }, swarms, &style);
        reply::counted(&self.exchange(scrapes.next().unwrap().bytes).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Neither can fail but for a process that has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
