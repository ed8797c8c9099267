//! The command line, made of the settings and the commands.

use ::settings::{Document, argument};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{dns, explain, settings};

/// Returns the parser of the command line. Values remain texts: flags and variables are interpreted together later.
pub fn command() -> Command {
    let command = Command::new("retracker")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A BitTorrent tracker for local networks, which also asks your upstream trackers")
        .long_about(
            "A BitTorrent tracker for local networks, which also asks your upstream trackers.\n\n\
             A flag beats its environment variable. A variable that is set but empty counts as unset.",
        )
        .max_term_width(110)
        .disable_version_flag(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .args(settings::all().filter_map(argument))
        .arg(Arg::new("version").short('v').long("version").action(ArgAction::Version).help("Print the version"))
        .arg(Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).global(true).help("Print this help"))
        .subcommand(Command::new(HEALTHCHECK).about(
            "Ask the instance that listens at --admin-listen / ADMIN_LISTEN_ADDR, else -l / LISTEN_ADDR, whether it is healthy: exit \
             code 0 if so, else 1",
        ))
        .subcommand(
            Command::new(CHECK)
                .about(
                    "Check the forwarders file and the access rules, ask each forwarder once, fetch the keys for tokens and \
                     try the server of --share; with --chihaya say what became of each key of that file: exit code 0 if all is well, 1 if not, 2 if a \
                     value is wrong",
                )
                .arg(Arg::new(OFFLINE).long(OFFLINE).action(ArgAction::SetTrue).help("Only check the files")),
        )
        .subcommand(dns::command())
        .subcommand(explain::command());
    Document::commands(command)
}

const HEALTHCHECK: &str = "healthcheck";
const CHECK: &str = "check";
const OFFLINE: &str = "offline";

/// What to do instead of serving.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chosen<'a> {
    Healthcheck,
    Check {
        offline: bool,
    },
    /// With the arguments of the command.
    Dns(&'a ArgMatches),
    /// With the arguments of the command.
    Explain(&'a ArgMatches),
    Print(Document),
}

/// Returns the command that was chosen, if any.
pub(super) fn chosen(matches: &ArgMatches) -> Option<Chosen<'_>> {
    match matches.subcommand()? {
        (HEALTHCHECK, _) => Some(Chosen::Healthcheck),
        (CHECK, matches) => Some(Chosen::Check { offline: matches.get_flag(OFFLINE) }),
        (dns::DNS, matches) => Some(Chosen::Dns(matches)),
        (explain::EXPLAIN, matches) => Some(Chosen::Explain(matches)),
        (name, matches) => Document::of(name, matches).map(Chosen::Print),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_nothing_wrong() {
        command().debug_assert();
    }
}
