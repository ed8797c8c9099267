//! Runs a process from its start to its exit code. The process serves until a stop signal, or runs a command.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::log_output::LogOutput;
use crate::signals::Signals;

/// The exit code for a wrong configuration.
const EXIT_USAGE: u8 = 2;

/// How long the exit waits, at most, for the last log lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A program that serves, or runs a command instead.
pub trait Daemon {
    /// The server, with its sockets bound.
    type Server: Send + 'static;

    /// The name of the program and of its file.
    const NAME: &'static str;

    /// Returns whether this argument is the name of a command.
    fn is_command(argument: &OsStr) -> bool;

    /// Reads the configuration and binds the sockets, or runs the command. May block: [`run`] calls this on a thread of
    /// its own.
    fn start(log: &LogOutput) -> Result<Started<Self::Server>, ProgramFailure>;

    /// Serves until a stop signal.
    fn serve(server: Self::Server, runtime: &Runtime, signals: Signals) -> Result<(), ProgramFailure>;
}

/// How the start ended.
#[derive(Debug)]
pub enum Started<S> {
    /// The sockets are bound.
    Serves(S),
    /// The command is done.
    Done(ExitCode),
}

/// Why the program ends early, and the exit code.
#[derive(Debug)]
pub struct ProgramFailure {
    why: String,
    code: u8,
}

impl ProgramFailure {
    /// Makes the failure of a program that cannot serve, or of a command that cannot run.
    pub fn new(why: impl fmt::Display) -> Self {
        Self { why: why.to_string(), code: 1 }
    }

    /// Makes the failure of a wrong configuration.
    pub fn usage(why: impl fmt::Display) -> Self {
        Self { why: why.to_string(), code: EXIT_USAGE }
    }
}

/// Runs the program to its end.
pub fn run<D: Daemon>() -> ExitCode {
    // This comes first, because a signal that is not caught yet would end the process or be lost.
    let (caught, output) = match (Signals::catch(), LogOutput::to_stderr()) {
        (Ok(caught), Ok(output)) => (caught, output),
        (Err(error), _) | (_, Err(error)) => {
            let _ = writeln!(std::io::stderr(), "{}: cannot set up signals and the log: {error}", D::NAME);
            return ExitCode::FAILURE;
        }
    };
    let (runtime, signals) = caught;
    let code = live::<D>(&runtime, signals, &output).unwrap_or_else(|ProgramFailure { why, code }| {
        output.put(format!("{}: {why}\n", D::NAME).as_bytes());
        ExitCode::from(code)
    });
    output.flush(LAST_LINES);
    code
}

fn live<D: Daemon>(runtime: &Runtime, mut signals: Signals, output: &LogOutput) -> Result<ExitCode, ProgramFailure> {
    // Files, name look-ups and pipes can block the start, but a signal to stop must still be received.
    let (sender, receiver) = oneshot::channel();
    let own = output.clone();
    let thread = thread::Builder::new().name("start".to_owned()).spawn(move || {
        // This fails after a signal to stop, because the receiver is gone.
        let _ = sender.send(D::start(&own));
    });
    thread.map_err(|error| ProgramFailure::new(format!("cannot start a thread: {error}")))?;
    let started = runtime.block_on(async {
        tokio::select! {
            started = receiver => Ok(started.unwrap_or_else(|_| Err(ProgramFailure::new("the start panicked")))),
            signal = signals.stop.recv() => Err(signal),
        }
    });
    match started {
        Ok(started) => match started? {
            Started::Serves(server) => D::serve(server, runtime, signals).map(|()| ExitCode::SUCCESS),
            Started::Done(code) => Ok(code),
        },
        // A command ends with the exit code that a shell reports for a signal. The raw arguments are searched for a
        // command, because they may not have been parsed yet.
        Err(signal) if std::env::args_os().skip(1).any(|argument| D::is_command(&argument)) => {
            Ok(u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from))
        }
        Err(_) => Ok(ExitCode::SUCCESS),
    }
}

/// Returns the arguments of the process. For a bare `program healthcheck`, as in a container's HEALTHCHECK, adds the
/// flags of process 1. They say where the container's server listens.
pub fn arguments(program: &str) -> Vec<OsString> {
    let own: Vec<_> = std::env::args_os().collect();
    let is_bare_check = matches!(&own[..], [_, command] if command == "healthcheck");
    let of_first = std::fs::read("/proc/1/cmdline").ok().filter(|_| is_bare_check).unwrap_or_default();
    let mut of_first = of_first.split(|byte| *byte == 0).map(|argument| OsStr::from_bytes(argument).to_owned());
    let is_ours = of_first.next().is_some_and(|first| Path::new(&first).file_name() == Some(OsStr::new(program)));
    let flags = of_first.filter(|_| is_ours).filter(|argument| !argument.is_empty());
    let (name, command) = own.split_at(own.len().min(1));
    name.iter().cloned().chain(flags).chain(command.iter().cloned()).collect()
}

/// Starts the log. `filter` has the notation of `env_logger`.
pub fn start_log(filter: &str, output: &LogOutput) {
    let style = if LogOutput::has_colours() { env_logger::WriteStyle::Always } else { env_logger::WriteStyle::Never };
    env_logger::Builder::new()
        .parse_filters(filter)
        .write_style(style)
        .target(env_logger::Target::Pipe(Box::new(output.clone())))
        .init();
    // The default hook would write a panic directly to stderr, and this may block.
    panic::set_hook(Box::new(|panicked| log::error!("{}", panicked.to_string().replace('\n', " "))));
}

/// Prints a text to stdout.
pub fn print(text: &str) {
    // An error is ignored, because it means that the reader has closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
