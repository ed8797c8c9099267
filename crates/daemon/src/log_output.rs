//! Writes the log to stderr on a thread of its own, so that no other thread waits for the reader of stderr.
//!
//! A pipe that is not read fills up, and then every write blocks. A worker that logs would stop answering clients, and
//! a process that logs its exit could not exit. So lines wait in a queue. Lines that do not fit into it are dropped and
//! counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The most bytes that wait to be written. This is room for some thousand lines.
pub const MAX_QUEUED: usize = 1024 * 1024;

/// The pause before a write is tried again. Another process may have made stderr non-blocking, so writes can fail.
const PAUSE: Duration = Duration::from_millis(10);

/// Lines that were dropped since the start of the process.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Returns how many lines have been dropped because stderr was not read.
pub fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

/// Takes lines for stderr and never blocks. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct LogOutput(Arc<LogBuffer>);

#[derive(Debug, Default)]
struct LogBuffer {
    queue: Mutex<Queue>,
    /// Signals that there are lines to write.
    filled: Condvar,
    /// Signals that all lines are written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    /// The bytes of the queued lines, and of the lines that are being written.
    bytes: usize,
    /// Lines that were dropped since the last warning.
    dropped: u64,
}

impl LogOutput {
    /// Starts the thread that writes to stderr.
    pub fn to_stderr() -> io::Result<Self> {
        // A blocked write through `io::stderr` would hold the lock of `io::stderr`.
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        Self::to(stderr)
    }

    fn to(target: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<LogBuffer>::default();
        let lines = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || lines.write_to(target))?;
        Ok(Self(shared))
    }

    /// Whether stderr is a terminal that shows colours. `NO_COLOR` and `TERM` are taken into account.
    pub fn has_colours() -> bool {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        io::stderr().is_terminal() && !is_set("NO_COLOR") && !is_dumb
    }

    /// Queues a line, with its line break. Drops the line if more than `MAX_QUEUED` bytes would wait.
    pub fn put(&self, line: &[u8]) {
        let mut queue = self.0.queue.lock();
        if queue.bytes + line.len() > MAX_QUEUED {
            queue.dropped += 1;
            DROPPED.fetch_add(1, Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.into());
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Waits until all lines are written, but no longer than `timeout`.
    pub fn flush(&self, timeout: Duration) {
        let mut queue = self.0.queue.lock();
        self.0.emptied.wait_while_for(&mut queue, |queue| queue.bytes > 0, timeout);
    }
}

impl Write for LogOutput {
    /// Queues a whole line, because the logger writes a line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl LogBuffer {
    /// Writes lines until the process ends.
    fn write_to(&self, mut target: impl Write) {
        let mut written = 0;
        loop {
            let (lines, dropped) = self.next(written);
            write_all(&mut target, &lines);
            written = lines.len();
            if dropped > 0 {
                log::warn!("{dropped} lines of the log were dropped: the reader of stderr did not keep up");
            }
        }
    }

    /// Subtracts the `written` bytes from the size of the queue, and waits for more lines. Returns all queued lines,
    /// and how many lines were dropped.
    fn next(&self, written: usize) -> (Vec<u8>, u64) {
        let mut queue = self.queue.lock();
        queue.bytes -= written;
        if queue.bytes == 0 {
            self.emptied.notify_all();
        }
        self.filled.wait_while(&mut queue, |queue| queue.lines.is_empty());
        let lines = queue.lines.drain(..).collect::<Vec<_>>().concat();
        (lines, std::mem::take(&mut queue.dropped))
    }
}

/// Writes all bytes. After an error, the remaining bytes are dropped, because an error of the log cannot be logged.
fn write_all(target: &mut impl Write, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match target.write(bytes) {
            Ok(0) => return,
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A pipe that the test reads step by step.
    struct Pipe {
        read: Sender<Vec<u8>>,
        go_on: Receiver<()>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go_on.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.read.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_are_not_read_wait_or_are_dropped_and_nothing_blocks() {
        let ((read, lines), (go_on, waits)) = (channel(), channel());
        let output = LogOutput::to(Pipe { read, go_on: waits }).unwrap();
        let before = dropped();
        let line = [b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<_>>();
        for _ in 0..MAX_QUEUED / 1024 + 7 {
            output.put(&line);
        }
        assert!(dropped() - before >= 7);
        output.flush(Duration::from_millis(1));
        go_on.send(()).unwrap();
        let mut read = lines.recv().unwrap().len();
        while read < MAX_QUEUED {
            go_on.send(()).unwrap();
            read += lines.recv().unwrap().len();
        }
        assert_eq!(read, MAX_QUEUED);
        // `flush` returns only after the last write.
        output.flush(Duration::from_secs(30));
        output.put(b"again\n");
        go_on.send(()).unwrap();
        assert_eq!(lines.recv().unwrap(), b"again\n");
        output.flush(Duration::from_secs(30));
        assert_eq!(output.0.queue.lock().bytes, 0);
    }

    #[test]
    fn a_reader_that_went_away_does_not_block() {
        let ((read, lines), (go_on, waits)) = (channel(), channel());
        let output = LogOutput::to(Pipe { read, go_on: waits }).unwrap();
        drop((lines, go_on));
        output.put(b"a\n");
        output.put(b"b\n");
        output.flush(Duration::from_secs(30));
        assert_eq!(output.0.queue.lock().bytes, 0);
    }
}
