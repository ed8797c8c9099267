//! What the program does when it does not serve: each command does one thing and ends.

mod check;
mod completions;
mod healthcheck;
mod man;

use crate::config::Subcommand;

/// How a command went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What is to be printed.
    pub text: String,
    /// Whether nothing is wrong.
    pub all_well: bool,
}

/// Runs a command. The error is a sentence for the operator.
pub fn run(command: Subcommand) -> Result<Report, String> {
    match command {
        Subcommand::Healthcheck { listen } => {
            let listen = listen.map_err(|error| error.to_string())?;
            listen.iter().try_for_each(healthcheck::check)?;
            Ok(done(String::new()))
        }
        Subcommand::Check { forwarders, access, proxies, deadline, offline } => {
            let checks = check::Checks { forwarders, access, proxies, deadline, offline };
            let (text, all_well) = checks.run().map_err(|error| error.to_string())?;
            Ok(Report { text, all_well })
        }
        Subcommand::Man => man::page().map(done).map_err(|error| error.to_string()),
        Subcommand::Completions(shell) => Ok(done(completions::script(shell))),
    }
}

fn done(text: String) -> Report {
    Report { text, all_well: true }
}
