//! The commands that do not serve clients. Each command does one thing and ends.

mod check;
mod dns;
mod explain;
mod healthcheck;
mod instance;

use crate::config::chihaya::ChihayaFile;
use crate::config::{self, ConfigError, Subcommand, settings};

/// Environment variables that have an effect but are no settings of the tracker, for the manual page.
const OTHER_VARIABLES: [(&str, &str); 1] = [(
    "http_proxy, https_proxy, all_proxy, no_proxy",
    "The proxies for requests to upstream trackers. no_proxy lists hosts that are requested directly.",
)];

/// The result of a command.
#[derive(Debug)]
pub struct Report {
    /// The text to print.
    pub text: String,
    /// Whether the command found no fault.
    pub all_well: bool,
    /// What is wrong with a file that was checked.
    pub error: Option<ConfigError>,
}

/// Runs a command. The error is a sentence for the operator.
pub fn run(command: Subcommand) -> Result<Report, String> {
    match command {
        Subcommand::Healthcheck { listen } => {
            let listen = listen.map_err(|error| error.to_string())?;
            listen.iter().try_for_each(healthcheck::check)?;
            Ok(done(String::new()))
        }
        Subcommand::Check { chihaya, forwarders, access, share, proxies, deadline, offline } => {
            let mut report = chihaya.map_or_else(|| done(String::new()), |file| lint(&file));
            let checks = check::Checks { forwarders, access, share, proxies, deadline, offline };
            let (text, all_well) = checks.run().map_err(|error| error.to_string())?;
            report.text += &text;
            report.all_well &= all_well;
            Ok(report)
        }
        Subcommand::Dns(options) => Ok(done(dns::records(&options))),
        Subcommand::Explain(options) => explain::ask(&options).map(done),
        Subcommand::Print(document) => {
            let text = document.text(config::command(), settings::all(), &OTHER_VARIABLES);
            text.map(done).map_err(|error| error.to_string())
        }
    }
}

fn lint(file: &ChihayaFile) -> Report {
    Report { text: file.to_string(), all_well: file.restricts_as_written(), error: file.checked().err() }
}

fn done(text: String) -> Report {
    Report { text, all_well: true, error: None }
}
