//! Builds the command line from the settings and the commands.

use ::settings::{Document, argument};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::settings;

/// Returns the parser of the command line. Every value remains a text, because flags and variables are read together
/// later.
pub fn command() -> Command {
    let command = Command::new("torrent-cache")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A cache for container images and OSTree deltas, for each host of a network")
        .long_about(
            "A cache for container images and OSTree deltas, for each host of a network.\n\n\
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
            "Ask the cache that listens at -i / INTERFACE and -p / PORT whether it is healthy: exit code 0 if so, else 1",
        ))
        .subcommand(Command::new(CHECK).about(
            "Check the upstreams and the logins for them, the storage, the tracker and the ports, with a remedy for each \
             failure: exit code 0 if all is well, 1 if not, 2 if a value is wrong",
        ));
    Document::commands(command)
}

const HEALTHCHECK: &str = "healthcheck";
const CHECK: &str = "check";

/// The command that runs instead of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChosenCommand {
    Healthcheck,
    Check,
    Print(Document),
}

/// Returns the command that the arguments name, if any.
pub(super) fn chosen(matches: &ArgMatches) -> Option<ChosenCommand> {
    match matches.subcommand()? {
        (HEALTHCHECK, _) => Some(ChosenCommand::Healthcheck),
        (CHECK, _) => Some(ChosenCommand::Check),
        (name, matches) => Document::of(name, matches).map(ChosenCommand::Print),
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
