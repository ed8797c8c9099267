//! The `torrent-cache` program: catches signals, reads the [`CacheConfig`], binds the port and serves until a stop
//! signal, or runs a command. Returns the exit code.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use daemon::{LogOutput, Signals};
use tokio::sync::oneshot;
use torrent_cache::check::{check, healthcheck};
use torrent_cache::config::{self, CacheConfig, CacheTask, LogFilter};
use torrent_cache::server::CacheServer;

/// The exit code if the configuration is wrong.
const EXIT_USAGE: u8 = 2;

/// Before the process exits, it waits at most this long until the last log lines are written to stderr.
const LAST_LINES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    // Signals are caught first, because an earlier signal would end the process or be lost.
    let (caught, output) = match (Signals::catch(), LogOutput::to_stderr()) {
        (Ok(caught), Ok(output)) => (caught, output),
        (Err(error), _) | (_, Err(error)) => {
            let _ = writeln!(std::io::stderr(), "torrent-cache: cannot set up signals and the log: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (runtime, mut signals) = caught;
    // The start runs on a thread of its own. Files and name look-ups may block that thread, but a signal to stop must
    // still be received.
    let (sender, receiver) = oneshot::channel();
    let own = output.clone();
    let begun = thread::Builder::new().name("start".to_owned()).spawn(move || {
        // Sending fails after a signal to stop, because the receiver is gone.
        let _ = sender.send(begin(&own));
    });
    let ended = begun.map_err(|error| ProgramFailure(format!("cannot start a thread: {error}"), 1)).and_then(|_| {
        let begun = runtime.block_on(async {
            tokio::select! {
                begun = receiver => begun.unwrap_or_else(|_| Err(ProgramFailure("the start panicked".to_owned(), 1))),
                signal = signals.stop.recv() => Ok(Begun::Stopped(signal)),
            }
        });
        match begun? {
            Begun::Serves(server) => serve(*server, || {
                runtime.block_on(signals.stop.recv());
            }),
            Begun::Done(code) => Ok(code),
            // The exit code that a shell reports when a signal has ended a process.
            Begun::Stopped(signal) if is_a_command() => {
                Ok(u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from))
            }
            Begun::Stopped(_) => Ok(ExitCode::SUCCESS),
        }
    });
    let code = ended.unwrap_or_else(|ProgramFailure(why, code)| {
        output.put(format!("torrent-cache: {why}\n").as_bytes());
        ExitCode::from(code)
    });
    output.flush(LAST_LINES);
    code
}

/// How the start ended.
enum Begun {
    /// A cache that has bound its port.
    Serves(Box<CacheServer>),
    /// The command is done.
    Done(ExitCode),
    /// This signal stopped the process before the start had ended.
    Stopped(i32),
}

/// Why the program failed, and the exit code.
struct ProgramFailure(String, u8);

fn begin(output: &LogOutput) -> Result<Begun, ProgramFailure> {
    let task = config::read(arguments(), |name| std::env::var_os(name));
    match task.map_err(|error| ProgramFailure(error.to_string(), EXIT_USAGE))? {
        CacheTask::Serve { config, log } => {
            start_log(log, output);
            Ok(Begun::Serves(Box::new(bind(*config)?)))
        }
        CacheTask::Check(config) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| ProgramFailure(error.to_string(), 1))?;
            let report = runtime.block_on(check(&config));
            // A look-up that hangs must not keep the process from ending.
            runtime.shutdown_background();
            print(&report.text);
            Ok(Begun::Done(if report.has_failures { ExitCode::FAILURE } else { ExitCode::SUCCESS }))
        }
        CacheTask::Healthcheck(listen) => {
            let listen = listen.map_err(|error| ProgramFailure(error.to_string(), 1))?;
            healthcheck(listen).map_err(|error| ProgramFailure(error, 1))?;
            Ok(Begun::Done(ExitCode::SUCCESS))
        }
        CacheTask::Print(text) => {
            print(&text);
            Ok(Begun::Done(ExitCode::SUCCESS))
        }
    }
}

/// The arguments of the process. A container's HEALTHCHECK runs `torrent-cache healthcheck` without flags. In that case
/// the function adds the flags of process 1, because these flags say where the container's cache listens.
fn arguments() -> Vec<OsString> {
    let own: Vec<_> = std::env::args_os().collect();
    let is_bare_check = matches!(&own[..], [_, command] if command == "healthcheck");
    let of_first = std::fs::read("/proc/1/cmdline").ok().filter(|_| is_bare_check).unwrap_or_default();
    let mut of_first = of_first.split(|byte| *byte == 0).map(|argument| OsStr::from_bytes(argument).to_owned());
    let is_ours =
        of_first.next().is_some_and(|program| Path::new(&program).file_name() == Some(OsStr::new("torrent-cache")));
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

fn start_log(LogFilter { debug, filter }: LogFilter, output: &LogOutput) {
    // actix-http logs every malformed request as an error: a port scan would fill the log.
    let default = if debug { "info,torrent_cache=debug,actix_http=off" } else { "info,actix_http=off" };
    let style = if LogOutput::has_colours() { env_logger::WriteStyle::Always } else { env_logger::WriteStyle::Never };
    env_logger::Builder::new()
        .parse_filters(filter.as_deref().unwrap_or(default))
        .write_style(style)
        .target(env_logger::Target::Pipe(Box::new(output.clone())))
        .init();
    // By default a panic writes to stderr directly, which may block.
    panic::set_hook(Box::new(|panicked| log::error!("{}", panicked.to_string().replace('\n', " "))));
}

fn bind(config: CacheConfig) -> Result<CacheServer, ProgramFailure> {
    let upstreams: Vec<_> = config.upstreams.all().map(ToString::to_string).collect();
    let server = CacheServer::bind(config).map_err(|error| ProgramFailure(error.to_string(), 1))?;
    log::info!("torrent-cache {}, upstreams: {}", env!("CARGO_PKG_VERSION"), upstreams.join(", "));
    log::info!("storage {}", server.storage());
    let speaks = if server.has_tls() { "http and https" } else { "http" };
    log::info!("listening on {}, {speaks}", server.address());
    Ok(server)
}

fn serve(server: CacheServer, wait_for_stop: impl FnOnce()) -> Result<ExitCode, ProgramFailure> {
    let ended = server.run(|| {
        wait_for_stop();
        log::info!("stopping");
    });
    ended.map(|()| ExitCode::SUCCESS).map_err(|error| ProgramFailure(error.to_string(), 1))
}

fn print(text: &str) {
    // An error means that the reader closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
