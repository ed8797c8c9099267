//! The `retracker` program: reads the [`Config`](retracker::config::Config), binds the sockets and serves until a stop
//! signal, or runs a command.

use std::ffi::OsStr;
use std::process::ExitCode;

use daemon::{Daemon, LogOutput, ProgramFailure, Signals, Started};
use retracker::app::{App, StartError};
use retracker::commands::{self, Report};
use retracker::config::{self, Config, LogOptions, Task};
use retracker::frontend::listen::Audience;
use tokio::runtime::Runtime;

/// Lists of peers grow by a few bytes at a time. The system's allocator leaves holes that it cannot fill: with a
/// million peers, it takes 42 bytes per peer. mimalloc takes 33 bytes per peer, and not more CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daemon::run::<TrackerDaemon>()
}

struct TrackerDaemon;

impl Daemon for TrackerDaemon {
    type Server = Box<App>;

    const NAME: &'static str = "retracker";

    fn is_command(argument: &OsStr) -> bool {
        config::command().find_subcommand(argument).is_some()
    }

    fn start(output: &LogOutput) -> Result<Started<Box<App>>, ProgramFailure> {
        let task = config::read(daemon::arguments(Self::NAME), |name| std::env::var_os(name));
        match task.map_err(ProgramFailure::usage)? {
            Task::Serve { config, log } => {
                start_log(&log, output);
                Ok(Started::Serves(Box::new(bind(*config).map_err(ProgramFailure::new)?)))
            }
            Task::Run(subcommand) => {
                let Report { text, all_well, error } = commands::run(subcommand).map_err(ProgramFailure::new)?;
                daemon::print(&text);
                error.map_or(Ok(()), |error| Err(ProgramFailure::usage(error)))?;
                Ok(Started::Done(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
            }
            Task::Print(text) => {
                daemon::print(&text);
                Ok(Started::Done(ExitCode::SUCCESS))
            }
        }
    }

    fn serve(app: Box<App>, runtime: &Runtime, signals: Signals) -> Result<(), ProgramFailure> {
        app.run(runtime, signals).map_err(ProgramFailure::new)
    }
}

fn start_log(LogOptions { debug, filter }: &LogOptions, output: &LogOutput) {
    // The log of actix-http is off: actix-http logs every malformed request as an error, so a port scan would fill the
    // log.
    let usual = if *debug { "info,retracker=debug,actix_http=off" } else { "info,actix_http=off" };
    daemon::start_log(filter.as_deref().unwrap_or(usual), output);
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
