//! The `retracker` program: arguments → [`Config`](retracker::config::Config) → bind → run; exit code.

use std::io::Write;
use std::process::ExitCode;

use retracker::app::{self, App};
use retracker::check::{self, Report};
use retracker::config::{self, Config, Task};
use retracker::healthcheck;

/// Lists of peers grow by a few bytes at a time, all of them together. The system's allocator is left with holes that it
/// cannot fill: 42 bytes a peer in a million, against 33 with this one, and no more CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The configuration is wrong.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    match config::read(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(Task::Serve { config, debug }) => {
            start_log(debug);
            serve(&config).map_or_else(|error| fail(&error, 1), |()| ExitCode::SUCCESS)
        }
        Ok(Task::Healthcheck { listen }) => {
            let checked = listen.map_err(|error| error.to_string());
            let checked = checked.and_then(|listen| listen.iter().try_for_each(healthcheck::check));
            checked.map_or_else(|error| fail(&error, 1), |()| ExitCode::SUCCESS)
        }
        Ok(Task::Check { forwarders, offline }) => match check::run(&forwarders, offline) {
            Ok(Report { text, all_well }) => {
                print(&text);
                if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => fail(&error, 1),
        },
        Ok(Task::Print(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, EXIT_USAGE),
    }
}

/// `RUST_LOG` beats `-d`; like any variable, it counts as unset when it is empty.
fn start_log(debug: bool) {
    // actix-http reports every malformed request as an error of ours: a port scan would fill the log.
    let default = if debug { "info,retracker=debug,actix_http=off" } else { "info,actix_http=off" };
    let filter = std::env::var("RUST_LOG").unwrap_or_default();
    env_logger::Builder::new().parse_filters(if filter.trim().is_empty() { default } else { &filter }).init();
}

fn serve(config: &Config) -> Result<(), app::StartError> {
    let app = App::bind(config)?;
    let forwarders = config.forward.as_ref().map_or(0, |forward| forward.options.forwarders.len());
    log::info!("retracker {}, forwarders: {forwarders}", env!("CARGO_PKG_VERSION"));
    app.addresses().iter().for_each(|address| log::info!("listening on {address}"));
    app.run(app::terminated)
}

fn print(text: &str) {
    // Whoever closed the pipe has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn fail(error: &impl std::fmt::Display, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "retracker: {error}");
    ExitCode::from(code)
}
