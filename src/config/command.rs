//! The command line, made of the settings and the commands.

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::Shell;

use super::about::{About, Takes};
use super::{dns, explain, settings};

/// The parser of the command line. Every value remains a text, because flags and variables are interpreted together
/// later.
pub fn command() -> Command {
    Command::new("retracker")
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
                    "Check the forwarders file and the access rules, ask each forwarder once and fetch the keys for tokens; \
                     with --chihaya say what became of each key of that file: exit code 0 if all is well, 1 if not, 2 if a \
                     value is wrong",
                )
                .arg(Arg::new(OFFLINE).long(OFFLINE).action(ArgAction::SetTrue).help("Only check the files")),
        )
        .subcommand(dns::command())
        .subcommand(explain::command())
        .subcommand(Command::new(MAN).about("Print the manual page, for man -l or a file below share/man/man1"))
        .subcommand(
            Command::new(COMPLETIONS)
                .about("Print a completion script for a shell")
                .arg(Arg::new(SHELL).value_name("SHELL").required(true).value_parser(value_parser!(Shell))),
        )
}

const HEALTHCHECK: &str = "healthcheck";
const CHECK: &str = "check";
const OFFLINE: &str = "offline";
const MAN: &str = "man";
const COMPLETIONS: &str = "completions";
const SHELL: &str = "shell";

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
    Man,
    Completions(Shell),
}

/// The command that was chosen, if any.
pub(super) fn chosen(matches: &ArgMatches) -> Option<Chosen<'_>> {
    match matches.subcommand()? {
        (HEALTHCHECK, _) => Some(Chosen::Healthcheck),
        (CHECK, matches) => Some(Chosen::Check { offline: matches.get_flag(OFFLINE) }),
        (dns::DNS, matches) => Some(Chosen::Dns(matches)),
        (explain::EXPLAIN, matches) => Some(Chosen::Explain(matches)),
        (MAN, _) => Some(Chosen::Man),
        (COMPLETIONS, matches) => matches.get_one(SHELL).copied().map(Chosen::Completions),
        _ => None,
    }
}

/// The argument of a setting; `None` if the setting has no flag.
fn argument(setting: About) -> Option<Arg> {
    let flag = setting.flag?;
    let default = plain(setting.default.text());
    let origins = format!("[env: {}] [default: {default}]", setting.variable);
    let help = plain(setting.help);
    let long_help =
        if setting.details.is_empty() { help.clone() } else { format!("{help} {}", plain(setting.details)) };
    let argument = Arg::new(flag.long)
        .long(flag.long)
        .global(flag.global)
        .help_heading(setting.section.title())
        .help(format!("{help}\n{origins}"))
        .long_help(format!("{long_help}\n{origins}"))
        .action(ArgAction::Set);
    let argument = match flag.short {
        Some(short) => argument.short(short),
        None => argument,
    };
    Some(match setting.takes {
        Takes::Value(name) | Takes::Secret(name) => argument.value_name(name),
        Takes::Number(name) => argument.value_name(name).allow_hyphen_values(true),
        Takes::List(name) => argument.value_name(name).action(ArgAction::Append),
        Takes::File => argument.value_name("FILE").value_hint(ValueHint::FilePath),
        Takes::Switch => argument.value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true"),
    })
}

/// Removes links from Markdown, because they lead nowhere in a terminal.
pub fn plain(markdown: &str) -> String {
    let mut plain = String::new();
    let mut rest = markdown;
    while let Some((before, after)) = rest.split_once("](") {
        let (text, label) = before.rsplit_once('[').unwrap_or((before, ""));
        plain += text;
        plain += label;
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    plain + rest
}

/// Shortens an error of clap to its sentence, and adds where to read on. Usage, tips and colours are left out.
pub(super) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let sentence = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let arguments = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::Strings(arguments)) if sentence.ends_with(':') => format!(" {}", arguments.join(", ")),
        _ => String::new(),
    };
    let expected = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => format!(", expected one of {}", values.join(", ")),
        _ => String::new(),
    };
    let suggestion = match error.get(ContextKind::SuggestedArg) {
        Some(argument) => format!(" (is {argument} meant?)"),
        None => String::new(),
    };
    format!("{sentence}{arguments}{expected}{suggestion}; retracker -h lists what there is")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_nothing_wrong() {
        command().debug_assert();
    }

    #[test]
    fn links_are_left_out() {
        for (markdown, expected) in [
            ("plain `[::1]:80`, `*`", "plain `[::1]:80`, `*`"),
            ("see [limits](#limits), [a `b`](c.md#d).", "see limits, a `b`."),
            ("[a](b)", "a"),
        ] {
            assert_eq!(plain(markdown), expected);
        }
    }
}
