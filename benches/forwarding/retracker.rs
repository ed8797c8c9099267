//! retracker as a process that forwards to fake upstream trackers.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;

use load::client::MetricsPage;
use load::upstream::forwarders_file;
use tempfile::NamedTempFile;

/// A server on a port that the system chooses. Dropping it kills the process.
pub(crate) struct ForwardingRetracker {
    pub(crate) address: SocketAddr,
    process: Child,
    _forwarders: NamedTempFile,
}

impl ForwardingRetracker {
    /// Starts a retracker with these forwarders and their names, and with additional arguments.
    pub(crate) fn start(forwarders: &[(String, SocketAddr)], args: &[&str]) -> Self {
        let file = forwarders_file(forwarders.iter().cloned(), None);
        let mut command = Command::new(env!("CARGO_BIN_EXE_retracker"));
        command.env_clear().args(["-l", "127.0.0.1:0", "-p"]).args(args);
        if !forwarders.is_empty() {
            command.arg("-f").arg(file.path());
        }
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "retracker ended before it listened");
            if let Some((_, address)) = line.trim_end().rsplit_once("listening on ") {
                break address.parse().unwrap();
            }
        };
        // A thread reads the rest of the log, so that the pipe does not fill up.
        thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { address, process, _forwarders: file }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn metrics(&self) -> Result<MetricsPage, String> {
        MetricsPage::of(self.address)
    }
}

impl Drop for ForwardingRetracker {
    fn drop(&mut self) {
        // Both calls fail only if the process has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
