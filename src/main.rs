//! The `retracker` program: catches signals, reads the [`Config`](retracker::config::Config), binds the sockets and
//! serves until a stop signal, or runs a command. Returns the exit code.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use daemon::{LogOutput, Signals};
use retracker::app::{App, StartError};
use retracker::commands::{self, Report};
use retracker::config::{self, Config, LogOptions, Task};
use retracker::frontend::listen::Audience;
use tokio::sync::oneshot;

/// Lists of peers grow by a few bytes at a time. The system's allocator leaves holes that it cannot fill: with a
/// million peers it takes 42 bytes per peer. This allocator takes 33, and no more CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code if the configuration is wrong.
const EXIT_USAGE: u8 = 2;

/// Before the process exits, it waits at most this long until the last log lines are written to stderr.
const LAST_LINES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Signals are caught first, because an earlier signal would end the process or be lost.
    let (caught, output) = match (Signals::catch(), LogOutput::to_stderr()) {
        (Ok(caught), Ok(output)) => (caught, output),
        (Err(error), _) | (_, Err(error)) => {
            let _ = writeln!(std::io::stderr(), "retracker: cannot set up signals and the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (runtime, mut signals) = caught;
    // The start runs on a thread of its own. Files, name look-ups and pipes may block that thread, but a signal to stop
    // must still be received.
    let (sender, receiver) = oneshot::channel();
    let own = output.clone();
    let begun = thread::Builder::new().name("start".to_owned()).spawn(move || {
        // Sending fails after a signal to stop, because the receiver is gone.
        let _ = sender.send(begin(&own));
    });
    let ended = begun.map_err(|error| StartFailure(format!("cannot start a thread: {error}"), 1)).and_then(|_| {
        let begun = runtime.block_on(async {
            tokio::select! {
                begun = receiver => begun.unwrap_or_else(|_| Err(StartFailure("the start panicked".to_owned(), 1))),
                signal = signals.stop.recv() => Ok(Started::Stopped(signal)),
            }
        });
        match begun? {
            Started::Serves(app) => app.run(&runtime, signals).map(|()| ExitCode::SUCCESS).map_err(StartFailure::from),
            Started::Done(code) => Ok(code),
            // The exit code that a shell reports when a signal has ended a process.
            Started::Stopped(signal) if is_a_command() => {
                Ok(u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from))
            }
            Started::Stopped(_) => Ok(ExitCode::SUCCESS),
        }
    });
    let code = ended.unwrap_or_else(|StartFailure(why, code)| {
        output.put(format!("retracker: {why}\n").as_bytes());
        ExitCode::from(code)
    });
    output.flush(LAST_LINES);
    code
}

/// How the start ended.
enum Started {
    /// A tracker that has bound its sockets.
    Serves(Box<App>),
    /// The command is done.
    Done(ExitCode),
    /// This signal stopped the process before the start had ended.
    Stopped(i32),
}

/// Why the start failed, and the exit code.
struct StartFailure(String, u8);

impl From<StartError> for StartFailure {
    fn from(error: StartError) -> Self {
        Self(error.to_string(), 1)
    }
}

fn begin(output: &LogOutput) -> Result<Started, StartFailure> {
    let task = config::read(arguments(), |name| std::env::var_os(name));
    match task.map_err(|error| StartFailure(error.to_string(), EXIT_USAGE))? {
        Task::Serve { config, log } => {
            start_log(log, output);
            Ok(Started::Serves(Box::new(bind(*config)?)))
        }
        Task::Run(subcommand) => {
            let Report { text, all_well, error } = commands::run(subcommand).map_err(|error| StartFailure(error, 1))?;
            print(&text);
            if let Some(error) = error {
                return Err(StartFailure(error.to_string(), EXIT_USAGE));
            }
            Ok(Started::Done(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
        }
        Task::Print(text) => {
            print(&text);
            Ok(Started::Done(ExitCode::SUCCESS))
        }
    }
}

/// The arguments of the process. A container's HEALTHCHECK runs `retracker healthcheck` without flags. In that case the
/// function adds the flags of process 1, because these flags say where the container's tracker listens.
fn arguments() -> Vec<OsString> {
    let own: Vec<_> = std::env::args_os().collect();
    let is_bare_check = matches!(&own[..], [_, command] if command == "healthcheck");
    let of_first = std::fs::read("/proc/1/cmdline").ok().filter(|_| is_bare_check).unwrap_or_default();
    let mut of_first = of_first.split(|byte| *byte == 0).map(|argument| OsStr::from_bytes(argument).to_owned());
    let is_ours =
        of_first.next().is_some_and(|program| Path::new(&program).file_name() == Some(OsStr::new("retracker")));
    let flags = of_first.filter(|_| is_ours).filter(|argument| !argument.is_empty());
    let (program, command) = own.split_at(own.len().min(1));
    program.iter().cloned().chain(flags).chain(command.iter().cloned()).collect()
}

/// Whether the process runs a command instead of serving. This searches the raw arguments, because they may not have
/// been parsed yet.
fn is_a_command() -> bool {
    let command = config::command();
    std::env::args_os().skip(1).any(|argument| command.find_subcommand(argument).is_some())
}

fn start_log(LogOptions { debug, filter }: LogOptions, output: &LogOutput) {
    // actix-http logs every malformed request as an error: a port scan would fill the log.
    let default = if debug { "info,retracker=debug,actix_http=off" } else { "info,actix_http=off" };
    let style = if LogOutput::has_colours() { env_logger::WriteStyle::Always } else { env_logger::WriteStyle::Never };
    env_logger::Builder::new()
        .parse_filters(filter.as_deref().unwrap_or(default))
        .write_style(style)
        .target(env_logger::Target::Pipe(Box::new(output.clone())))
        .init();
    // By default a panic writes to stderr directly, which may block.
    panic::set_hook(Box::new(|panicked| log::error!("{}", panicked.to_string().replace('\n', " "))));
}

fn bind(config: Config) -> Result<App, StartError> {
    let forwarders = config.forward.as_ref().map_or(0, |forward| forward.options.forwarders.len());
    let app = App::bind(config)?;
    log::info!("retracker {}, forwarders: {forwarders}", env!("CARGO_PKG_VERSION"));
    for listening in app.listening() {
        match listening.purpose.audience {
            Audience::Clients => log::info!("listening on {}", listening.address()),
            Audience::Operators => log::info!("listening for operators on {}", listening.address()),
            Audience::Torrents => log::info!("listening for torrent-cache on {}", listening.address()),
        }
    }
    Ok(app)
}

fn print(text: &str) {
    // An error means that the reader closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
