//! The binary as a process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tempfile::TempDir;

use crate::upstream::Scripted;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_torrent-cache");

/// A running cache.
pub(crate) struct CacheProgram {
    pub(crate) address: SocketAddr,
    child: Child,
    lines: Receiver<String>,
    folder: Option<TempDir>,
}

/// Returns a command for the binary, without the environment of this process.
pub(crate) fn command() -> Command {
    let mut command = Command::new(BINARY);
    command.env_clear();
    command
}

impl CacheProgram {
    /// Starts a cache for this upstream, with a storage of its own.
    pub(crate) fn start(upstream: &Scripted) -> Self {
        Self::with(upstream, &[])
    }

    /// Starts such a cache with more environment variables.
    pub(crate) fn with(upstream: &Scripted, env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut program = Self::at(folder.path(), upstream, env);
        program.folder = Some(folder);
        program
    }

    /// Starts a cache with this storage and more environment variables.
    pub(crate) fn at(storage: &Path, upstream: &Scripted, env: &[(&str, &str)]) -> Self {
        let mut command = command();
        command
            .env("PORT", "0")
            .env("INTERFACE", "127.0.0.1")
            .env("REGISTRY_LOCATION", upstream.address.to_string())
            .env("REGISTRY_NO_SSL", "1")
            .env("STORAGE", storage)
            // No tracker answers at port 9.
            .env("TRACKER", "http://127.0.0.1:9/announce")
            .env("ETCD_HOST", "127.0.0.1")
            .env("ETCD_PORT", "9")
            // The disk of a test machine can be nearly full.
            .env("STORAGE_QUOTA", "1G")
            .env("STORAGE_MIN_FREE", "0")
            .env("RUST_LOG", "debug")
            .envs(env.iter().copied());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut program = Self { address: SocketAddr::from(([0; 4], 0)), child, lines, folder: None };
        let line = program.line("listening on ");
        let address = line.split("listening on ").nth(1).unwrap().split(',').next().unwrap();
        program.address = address.parse().unwrap();
        program
    }

    /// Waits for a line of the log with this text.
    pub(crate) fn line(&self, text: &str) -> String {
        let mut seen = Vec::new();
        loop {
            let Ok(line) = self.lines.recv() else { panic!("no line with {text:?} in {seen:#?}") };
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends SIGHUP.
    pub(crate) fn reload(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, name: &str) {
        let killed = Command::new("kill").arg(name).arg(self.child.id().to_string()).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for the process to end. Returns its status and the remaining lines of its log.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        (status, self.lines.iter().collect())
    }

    /// Waits until all fetches are on disk. A reply can be complete earlier, as soon as its bytes are verified.
    pub(crate) fn settle(&self) {
        while self.metric("torrent_cache_flights") != 0 {}
    }

    /// Returns the files of the storage below this folder.
    pub(crate) fn files(&self, below: &str) -> Vec<PathBuf> {
        files(&self.folder.as_ref().unwrap().path().join(below))
    }

    /// Returns the value of a metric, or 0 if it is missing.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = crate::client::get(self.address, "/metrics").text();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for CacheProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns all files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, mut found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    folders.iter().for_each(|folder| found.extend(files(folder)));
    found
}
