//! The manual page and the completions for shells, which every program prints with the commands `man` and
//! `completions`. They come from the declarations of the settings and the commands.

use std::io;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use roff::{Inline, Roff, bold, italic, roman};

use crate::about::About;
use crate::command::plain;

const MAN: &str = "man";
const COMPLETIONS: &str = "completions";
const SHELL: &str = "shell";

/// A text that a program prints about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// The manual page: `man`.
    Manual,
    /// The script that completes the command line in this shell: `completions SHELL`.
    Completion(Shell),
}

impl Document {
    /// Adds the commands that print the documents.
    pub fn commands(command: Command) -> Command {
        command
            .subcommand(Command::new(MAN).about("Print the manual page, for man -l or a file below share/man/man1"))
            .subcommand(
                Command::new(COMPLETIONS)
                    .about("Print a completion script for a shell")
                    .arg(Arg::new(SHELL).value_name("SHELL").required(true).value_parser(value_parser!(Shell))),
            )
    }

    /// Returns the document that a command prints; `None` for other commands.
    pub fn of(command: &str, arguments: &ArgMatches) -> Option<Self> {
        match command {
            MAN => Some(Self::Manual),
            COMPLETIONS => arguments.get_one(SHELL).copied().map(Self::Completion),
            _ => None,
        }
    }

    /// Returns the text of the document. `command` is the parser of the command line. `variables` are names of
    /// variables that are not settings, each with its effect; the manual page lists them too.
    ///
    /// # Errors
    /// None in practice, because the page is written to memory.
    pub fn text(
        self,
        mut command: Command,
        settings: impl Iterator<Item = About>,
        variables: &[(&str, &str)],
    ) -> io::Result<String> {
        let mut text = Vec::new();
        match self {
            Self::Manual => manual(&mut text, &command, settings, variables)?,
            Self::Completion(shell) => {
                let name = command.get_name().to_owned();
                generate(shell, &mut command, name, &mut text);
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

fn manual(
    page: &mut Vec<u8>,
    command: &Command,
    settings: impl Iterator<Item = About>,
    variables: &[(&str, &str)],
) -> io::Result<()> {
    let man = Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    let mut rest = Roff::new();
    commands(&mut rest, command);
    environment(&mut rest, settings, variables);
    exit_status(&mut rest);
    rest.to_writer(page)
}

fn commands(roff: &mut Roff, command: &Command) {
    roff.control("SH", ["COMMANDS"]);
    for command in command.get_subcommands() {
        let mut heading = vec![bold(command.get_name())];
        for argument in command.get_arguments() {
            heading.extend([roman(" "), italic(usage(argument))]);
        }
        entry(roff, heading, &command.get_about().map(ToString::to_string).unwrap_or_default());
        roff.control("RS", []);
        for argument in command.get_arguments() {
            let (Some(long), Some(help)) = (argument.get_long(), argument.get_help()) else { continue };
            entry(roff, vec![bold(format!("--{long}"))], &help.to_string().replace('\n', " "));
        }
        roff.control("RE", []);
    }
}

/// Writes an argument as a usage line shows it. An optional argument is in brackets.
fn usage(argument: &Arg) -> String {
    let Some(long) = argument.get_long() else { return argument.to_string() };
    let values = argument.get_value_names().filter(|_| argument.get_action().takes_values()).unwrap_or_default();
    let flag = values.iter().fold(format!("--{long}"), |flag, value| format!("{flag} {value}"));
    if argument.is_required_set() { flag } else { format!("[{flag}]") }
}

/// Lists the variables that have no flag. The options section names the other variables beside their flags.
fn environment(roff: &mut Roff, settings: impl Iterator<Item = About>, variables: &[(&str, &str)]) {
    roff.control("SH", ["ENVIRONMENT"]);
    for setting in settings.filter(|setting| setting.flag.is_none()) {
        let text = format!("{} {} [default: {}]", setting.help, setting.details, setting.default.text());
        entry(roff, vec![bold(setting.variable)], &plain(&text));
    }
    for (names, text) in variables {
        entry(roff, vec![bold(*names)], text);
    }
}

fn exit_status(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("0", "A signal stopped the server, or the command found nothing wrong."),
        ("1", "The server cannot serve, such as when a port is taken, or the command found something wrong."),
        ("2", "A flag, a variable or a file has a wrong value. One sentence on stderr says which."),
    ] {
        entry(roff, vec![bold(code)], meaning);
    }
}

fn entry(roff: &mut Roff, heading: Vec<Inline>, text: &str) {
    roff.control("TP", []).text(heading).text([roman(text)]);
}
