//! The program that is measured, in a process of its own.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::NamedTempFile;

use crate::client::Client;

/// A server on a port that the system chooses. It is killed when this goes.
pub(crate) struct Retracker {
    pub(crate) address: SocketAddr,
    process: Child,
    _forwarders: NamedTempFile,
}

impl Retracker {
    /// Starts one that forwards to these, each with a name, and that has these arguments besides.
    pub(crate) fn start(forwarders: &[(&str, SocketAddr)], args: &[&str]) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        let entries = forwarders.iter().fold(String::new(), |mut entries, (name, address)| {
            writeln!(entries, "- uri: http://{address}/announce\n  name: {name}").unwrap();
            entries
        });
        file.write_all(entries.as_bytes()).unwrap();
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
            assert!(log.read_line(&mut line).unwrap() > 0, "the server does not start");
            if let Some((_, address)) = line.trim_end().rsplit_once("listening on ") {
                break address.parse().unwrap();
            }
        };
        // Nobody reads the rest of the log, but somebody has to take it.
        thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { address, process, _forwarders: file }
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        let mut client = Client::new(self.address);
        let text = client.exchange(b"GET /metrics HTTP/1.1\r\nHost: retracker.local\r\n\r\n").await.unwrap();
        Metrics(String::from_utf8(text).unwrap())
    }
}

impl Drop for Retracker {
    fn drop(&mut self) {
        // Neither can fail but for a process that has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `/metrics` said.
pub(crate) struct Metrics(String);

impl Metrics {
    /// The sum over all lines of this metric that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let values = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let found = series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label));
            found.then(|| value.parse::<f64>().unwrap() as u64)
        });
        values.sum()
    }

    /// Announces that waited for an upstream tracker, whatever ended the wait.
    pub(crate) fn waited(&self) -> u64 {
        let waits = |label| self.sum("retracker_forward_waits_total", label);
        waits(&[]) - waits(&[r#"outcome="saved""#])
    }

    pub(crate) fn circuit_is(&self, forwarder: &str, state: &str) -> bool {
        let labels = [format!("forwarder=\"{forwarder}\""), format!("state=\"{state}\"")];
        self.sum("retracker_forward_circuit", &labels.each_ref().map(String::as_str)) == 1
    }

    pub(crate) fn resident_mib(&self) -> u64 {
        self.sum("process_resident_memory_bytes", &[]) >> 20
    }
}
