//! The `torrent-cache` program: reads the [`CacheConfig`], binds the port and serves until a stop signal, or runs a
//! command.

use std::ffi::OsStr;
use std::process::ExitCode;

use daemon::{Daemon, LogOutput, ProgramFailure, Signals, Started};
use tokio::runtime::{Builder, Runtime};
use torrent_cache::check::{check, healthcheck};
use torrent_cache::config::{self, CacheConfig, CacheTask, LogFilter};
use torrent_cache::server::{CacheServer, NOTHING_TO_RELOAD};

fn main() -> ExitCode {
    daemon::run::<CacheDaemon>()
}

struct CacheDaemon;

impl Daemon for CacheDaemon {
    type Server = Box<CacheServer>;

    const NAME: &'static str = "torrent-cache";

    fn is_command(argument: &OsStr) -> bool {
        config::command().find_subcommand(argument).is_some()
    }

    fn start(output: &LogOutput) -> Result<Started<Box<CacheServer>>, ProgramFailure> {
        let task = config::read(daemon::arguments(Self::NAME), |name| std::env::var_os(name));
        match task.map_err(ProgramFailure::usage)? {
            CacheTask::Serve { config, log } => {
                start_log(&log, output);
                Ok(Started::Serves(Box::new(bind(*config)?)))
            }
            CacheTask::Check(config) => {
                let runtime = Builder::new_current_thread().enable_all().build().map_err(ProgramFailure::new)?;
                let report = runtime.block_on(check(&config));
                // Without this, a name look-up that hangs would keep the process from ending.
                runtime.shutdown_background();
                daemon::print(&report.text);
                Ok(Started::Done(if report.has_failures { ExitCode::FAILURE } else { ExitCode::SUCCESS }))
            }
            CacheTask::Healthcheck(listen) => {
                healthcheck(listen.map_err(ProgramFailure::new)?).map_err(ProgramFailure::new)?;
                Ok(Started::Done(ExitCode::SUCCESS))
            }
            CacheTask::Print(text) => {
                daemon::print(&text);
                Ok(Started::Done(ExitCode::SUCCESS))
            }
        }
    }

    fn serve(server: Box<CacheServer>, runtime: &Runtime, signals: Signals) -> Result<(), ProgramFailure> {
        let Signals { mut stop, reload } = signals;
        let reloads = server.reloads();
        let ended = server.run(|| {
            runtime.block_on(async {
                tokio::select! {
                    _ = stop.recv() => {}
                    () = daemon::reload_on(reload, &reloads, NOTHING_TO_RELOAD) => {}
                }
            });
            log::info!("stopping");
        });
        ended.map_err(ProgramFailure::new)
    }
}

fn start_log(LogFilter { debug, filter }: &LogFilter, output: &LogOutput) {
    // actix-http logs every malformed request as an error, so a port scan would fill the log.
    let usual = if *debug { "info,torrent_cache=debug,actix_http=off" } else { "info,actix_http=off" };
    daemon::start_log(filter.as_deref().unwrap_or(usual), output);
}

fn bind(config: CacheConfig) -> Result<CacheServer, ProgramFailure> {
    let upstreams: Vec<_> = config.upstreams.all().map(ToString::to_string).collect();
    let server = CacheServer::bind(config).map_err(ProgramFailure::new)?;
    log::info!("torrent-cache {}, upstreams: {}", env!("CARGO_PKG_VERSION"), upstreams.join(", "));
    log::info!("storage {}", server.storage());
    let speaks = if server.has_tls() { "http and https" } else { "http" };
    log::info!("listening on {}, {speaks}", server.address());
    Ok(server)
}
