//! `retracker man`: prints the manual page, which is generated from the same declarations as the help.

use std::io;

use ::settings::plain;
use clap_mangen::Man;
use roff::{Roff, bold, italic, roman};

use crate::config::{self, settings};

pub(super) fn page() -> io::Result<String> {
    let command = config::command();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut rest = Roff::new();
    commands(&mut rest, &command);
    environment(&mut rest);
    exit_status(&mut rest);
    rest.to_writer(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

fn commands(roff: &mut Roff, command: &clap::Command) {
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

/// An argument as a line of usage shows it. What may be left out is in brackets.
fn usage(argument: &clap::Arg) -> String {
    let Some(long) = argument.get_long() else { return argument.to_string() };
    let values = argument.get_value_names().filter(|_| argument.get_action().takes_values()).unwrap_or_default();
    let flag = values.iter().fold(format!("--{long}"), |flag, value| format!("{flag} {value}"));
    if argument.is_required_set() { flag } else { format!("[{flag}]") }
}

/// Lists the variables that have no flag. Other variables are named beside their flags.
fn environment(roff: &mut Roff) {
    roff.control("SH", ["ENVIRONMENT"]);
    for setting in settings::all().filter(|setting| setting.flag.is_none()) {
        let text = format!("{} {} [default: {}]", setting.help, setting.details, setting.default.text());
        entry(roff, vec![bold(setting.variable)], &plain(&text));
    }
    let proxies = "The proxies for requests to upstream trackers. no_proxy lists hosts that are requested directly.";
    entry(roff, vec![bold("http_proxy, https_proxy, all_proxy, no_proxy")], proxies);
}

fn exit_status(roff: &mut Roff) {
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("0", "It was told to stop, or the command found nothing wrong."),
        ("1", "It cannot serve, such as when a port is taken, or the command found something wrong."),
        ("2", "A flag, a variable or a file has a wrong value. One sentence on stderr says which."),
    ] {
        entry(roff, vec![bold(code)], meaning);
    }
}

fn entry(roff: &mut Roff, heading: Vec<roff::Inline>, text: &str) {
    roff.control("TP", []).text(heading).text([roman(text)]);
}
