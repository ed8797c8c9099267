//! One setting: where its value came from, and what is wrong with it.

use std::ffi::OsString;

use clap::error::ContextKind;

use super::ConfigError;

/// The two places where a setting can be given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) flag: &'static str,
    pub(super) variable: &'static str,
}

/// What was given, and where.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) setting: &'static str,
    pub(super) text: Option<String>,
}

impl Setting {
    /// The flag's value, or the variable's unless that is empty; without the white space around it, such as the carriage
    /// return that an editor of another system leaves at the end of a line.
    pub(super) fn value(self, flag: Option<&str>, env: &impl Fn(&str) -> Option<OsString>) -> Value {
        if let Some(text) = flag {
            return Value { setting: self.flag, text: Some(text.trim().to_owned()) };
        }
        let text = env(self.variable).map(|value| value.to_string_lossy().trim().to_owned());
        Value { setting: self.variable, text: text.filter(|text| !text.is_empty()) }
    }
}

impl Value {
    /// None when nothing was given.
    pub(super) fn parse<T>(
        &self,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = &self.text else { return Ok(None) };
        parse(text.trim()).map(Some).ok_or_else(|| self.invalid(expected))
    }

    /// What was given cannot be.
    pub(super) fn invalid(&self, expected: &'static str) -> ConfigError {
        let found = self.text.clone().unwrap_or_default();
        ConfigError::Invalid { setting: self.setting, found, expected }
    }
}

/// clap's error without its usage, tips and colours: its sentence, and where to read on.
pub(super) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let sentence = text.lines().next().unwrap_or_default().trim_start_matches("error: ").trim_end_matches(':');
    let suggestion = match error.get(ContextKind::SuggestedArg) {
        Some(argument) => format!(" (is {argument} meant?)"),
        None => String::new(),
    };
    format!("{sentence}{suggestion}; retracker -h lists what there is")
}

/// The items of a comma-separated list. A comma too many, such as one at the end, is none; neither is a list of nothing else.
pub(super) fn items(text: &str) -> Option<impl Iterator<Item = &str>> {
    let mut items = text.split(',').map(str::trim).filter(|item| !item.is_empty()).peekable();
    items.peek().is_some().then_some(items)
}
