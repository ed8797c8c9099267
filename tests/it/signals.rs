//! A signal takes effect at once: at any moment, even if no process reads the log, and even if the forwarders file is a
//! pipe.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

use crate::dsl::{Exit, Server, TestConnection, announce, eventually, retracker};
use crate::fake_tracker::{FakeTracker, sends};
use crate::service::{ONE_PEER, forwarders};

/// A server whose log is read only if the test reads it.
struct Unread {
    child: Child,
    address: String,
    _folder: TempDir,
}

impl Unread {
    fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", folder.path().join("socket").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_retracker"));
        command.env_clear().args(["-l", &address]).args(args).stdin(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let path = folder.path().join("socket");
        let connects = || std::os::unix::net::UnixStream::connect(&path).ok();
        eventually("the server listens", connects);
        Self { child, address, _folder: folder }
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    fn stderr(&mut self) -> ChildStderr {
        self.child.stderr.take().unwrap()
    }

    /// Announces until lines of the log have been dropped.
    fn log_too_much(&self) {
        let mut connection = TestConnection::to(&self.address);
        let key = "k".repeat(400);
        eventually("lines are dropped", || {
            for n in 0..500 {
                let query = announce("t", &n.to_string()).with("key", &key).numwant(0);
                assert_eq!(connection.announce(&query).int("interval"), 30);
            }
            (self.dropped() > 0).then_some(())
        });
    }

    fn dropped(&self) -> u64 {
        let metrics = String::from_utf8(TestConnection::to(&self.address).get("/metrics").body).unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("retracker_log_lines_dropped_total "));
        line.unwrap().parse().unwrap()
    }

    fn ends_with_0(&mut self) {
        let status = eventually("the process ends", || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{status:?}");
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Both calls fail only if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(process: u32, name: &str) {
    // The test uses the shell's own `kill`, because some systems have no program of that name.
    assert!(Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status().unwrap().success());
}

#[test]
fn a_log_that_is_not_read_delays_neither_announces_nor_the_end() {
    for name in ["TERM", "INT"] {
        let mut server = Unread::start(&["-d", "-p"]);
        server.log_too_much();
        server.signal(name);
        server.ends_with_0();
    }
}

#[test]
fn a_log_that_is_read_again_has_the_number_of_missing_lines() {
    let mut server = Unread::start(&["-d", "-p"]);
    server.log_too_much();
    let log = Arc::<Mutex<Vec<String>>>::default();
    let (lines, stderr) = (Arc::clone(&log), BufReader::new(server.stderr()));
    let reader = thread::spawn(move || stderr.lines().for_each(|line| lines.lock().unwrap().push(line.unwrap())));
    let logged = |text: &str| {
        eventually(text, || log.lock().unwrap().iter().find(|line| line.contains(text)).cloned());
    };
    logged("lines of the log were dropped");
    // From now on no line of the log is dropped.
    let dropped = server.dropped();
    TestConnection::to(&server.address).announce(&announce("after", "a"));
    // The torrent's name in hexadecimal digits.
    logged("6166746572");
    assert_eq!(server.dropped(), dropped);
    server.signal("TERM");
    server.ends_with_0();
    reader.join().unwrap();
}

#[test]
fn a_log_whose_reader_has_closed_delays_nothing() {
    let mut server = Unread::start(&["-d", "-p"]);
    drop(server.stderr());
    let mut connection = TestConnection::to(&server.address);
    for n in 0..100 {
        connection.announce(&announce("t", &n.to_string()));
    }
    assert_eq!(server.dropped(), 0, "lines without a reader are not counted as dropped");
    server.signal("TERM");
    server.ends_with_0();
}

#[test]
fn a_failed_start_logs_its_whole_reason() {
    let Exit { code, stderr, .. } = retracker(&["-l", "nonsense"]).run();
    assert_eq!((code, stderr.len()), (Some(2), 1), "{stderr:?}");
}

#[test]
fn other_signals_do_not_end_the_server() {
    let server = Server::start(&[]);
    for name in ["USR1", "USR2", "HUP", "USR1", "USR2"] {
        server.signal(name);
    }
    server.logged("nothing to reload");
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(server.stop().code, Some(0));
}

/// Signals have an effect as soon as their handlers are installed.
#[cfg(target_os = "linux")]
#[test]
fn signals_are_handled_from_the_start() {
    for (name, ends) in [("TERM", true), ("INT", true), ("HUP", false), ("USR1", false), ("USR2", false)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retracker"));
        command.env_clear().args(["-l", "127.0.0.1:0"]).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let process = procfs::process::Process::new(child.id().cast_signed()).unwrap();
        // SIGINT's handler is installed last, so all other handlers are installed too.
        eventually("the process catches signals", || {
            let caught = process.status().unwrap().sigcgt;
            (caught & 1 << (rustix::process::Signal::INT.as_raw() - 1) != 0).then_some(())
        });
        signal(child.id(), name);
        if !ends {
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains("listening on")), "{name}");
            signal(child.id(), "TERM");
        }
        let status = eventually("the process ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{name}: {status:?}");
    }
}

#[test]
fn a_check_ends_at_once_when_it_is_interrupted() {
    // The upstream never answers, and the timeout is long.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("forwarders.yml");
    let entry = format!("- uri: http://{}/announce\n  timeout: 60\n", silent.local_addr().unwrap());
    std::fs::write(&file, entry).unwrap();
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retracker"));
        command.env_clear().args(["check", "-f"]).arg(&file).stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (mut connection, _) = silent.accept().unwrap();
        let _ = connection.read(&mut [0; 1]);
        signal(child.id(), name);
        let status = eventually("the process ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(code), "{name}");
    }
}

fn become_a_pipe(file: &Path) {
    std::fs::remove_file(file).unwrap();
    assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
}

#[test]
fn a_file_that_has_become_a_pipe_delays_nothing() {
    let upstream = FakeTracker::start(sends(ONE_PEER));
    let file = forwarders(&upstream);
    let server = retracker(&[]).env("FORWARDS_FILE", file.path()).start();
    become_a_pipe(file.path());
    for _ in 0..3 {
        server.signal("HUP");
        assert_eq!(server.announce(&announce("t", "a")).peers(), ["10.0.0.7:6881"]);
    }
    assert_eq!(server.stop().code, Some(0));
}
