//! A Redis as a process, for measurements of several instances.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::child::ChildProcess;

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A Redis on a Unix socket in a temporary folder. It keeps nothing on disk. Dropping it kills the process.
pub struct RedisProcess {
    // The process ends before its folder is removed: fields are dropped in this order.
    process: ChildProcess,
    folder: TempDir,
}

impl RedisProcess {
    /// Starts `redis-server`, or the program that the variable `REDIS_SERVER` names, on the cores of this thread.
    pub fn start() -> Result<Self, String> {
        let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut command = Command::new(&program);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
        command.arg(folder.path().join("socket")).arg("--dir").arg(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| format!("{program} does not start: {error}"))?;
        let redis = Self { folder, process: ChildProcess(process) };
        let start = Instant::now();
        while redis.ask("PING").is_err() {
            if start.elapsed() > START_TIMEOUT {
                return Err(format!("{program} does not answer"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(redis)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The URL for `--share`.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Sends a command on a connection of its own. Returns the whole reply, as the protocol writes it.
    pub fn ask(&self, command: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        write!(stream, "{command}\r\n")?;
        stream.shutdown(Shutdown::Write)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        Ok(String::from_utf8_lossy(&reply).into_owned())
    }

    /// The value of a field in the reply to `INFO`.
    pub fn info(&self, field: &str) -> Option<u64> {
        let reply = self.ask("INFO").ok()?;
        reply.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.trim().parse().ok())
    }

    /// The version of the program, as it tells it.
    pub fn version(&self) -> String {
        let reply = self.ask("INFO server").unwrap_or_default();
        let version = reply.lines().find_map(|line| line.strip_prefix("redis_version:"));
        format!("Redis {}", version.unwrap_or("of an unknown version").trim())
    }
}
