//! Describes settings to clap, the parser of the command line.

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, ValueHint};

use crate::about::{About, Takes};

/// Returns the argument of a setting; `None` if the setting has no flag.
pub fn argument(setting: About) -> Option<Arg> {
    let flag = setting.flag?;
    let default = plain(setting.default.text());
    let origins = format!("[env: {}] [default: {default}]", setting.variable);
    let help = plain(setting.help);
    let long_help =
        if setting.details.is_empty() { help.clone() } else { format!("{help} {}", plain(setting.details)) };
    let argument = Arg::new(flag.long)
        .long(flag.long)
        .global(flag.global)
        .help_heading(setting.section.0)
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

/// Shortens an error of clap to its sentence, and names the flag that lists all flags. Usage, tips and colours are left
/// out.
pub fn one_line(program: &str, error: &clap::Error) -> String {
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
    format!("{sentence}{arguments}{expected}{suggestion}; {program} -h lists what there is")
}

#[cfg(test)]
mod tests {
    use super::*;

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
