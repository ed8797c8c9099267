//! What a setting consists of, and how its value is read. The settings themselves are in [`super::settings`].

use std::ffi::OsString;
use std::fmt;

use clap::ArgMatches;

use super::error::ConfigError;

/// One setting. `T` is what the program uses. With [`Is`] there is always a value, with [`Unset`] there may be none.
#[derive(Debug)]
pub(super) struct Setting<T, D> {
    /// Where help and pages list it.
    pub(super) section: Section,
    /// None for a setting that only its variable sets.
    pub(super) flag: Option<Flag>,
    pub(super) variable: &'static str,
    pub(super) takes: Takes,
    /// What it does, in Markdown: the help, the pages and `.env.example` have this.
    pub(super) help: &'static str,
    /// What there is to say beyond that: the pages and the manual page have it too. It may be empty.
    pub(super) details: &'static str,
    /// What to know about it in a container: `.env.example` has it. It may be empty.
    pub(super) docker: &'static str,
    pub(super) default: D,
    /// A valid value that is not the default; for a file, what could be in it. A test sets it.
    pub(super) example: &'static str,
    /// What an error says that it can be.
    pub(super) expected: &'static str,
    pub(super) parse: fn(&str) -> Result<T, Wrong>,
}

/// The default of a setting that always has a value, as one would write it.
#[derive(Debug)]
pub(super) struct Is(pub(super) &'static str);

/// What happens where a setting has no value, in words.
#[derive(Debug)]
pub(super) struct Unset(pub(super) &'static str);

/// A text that is no value of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The setting's `expected` says what would be.
    Value,
    /// This says it better.
    Expected(&'static str),
}

/// The sections of the help and of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Sockets.
    Listening,
    /// The local peers.
    Peers,
    /// Where a client's address comes from.
    Clients,
    /// Sites and NAT.
    Networks,
    /// Upstream trackers.
    Forwarding,
    /// The rest.
    Operation,
}

impl Section {
    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Listening => "Listening",
            Self::Peers => "Peers",
            Self::Clients => "Who a client is",
            Self::Networks => "Networks",
            Self::Forwarding => "Forwarding",
            Self::Operation => "Limits and operation",
        }
    }
}

/// A flag of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The letter of the short form.
    pub short: Option<char>,
    /// The long form, without its hyphens.
    pub long: &'static str,
    /// Whether commands such as `retracker check` take it too.
    pub global: bool,
}

impl Flag {
    pub(super) const fn long(long: &'static str) -> Self {
        Self { short: None, long, global: false }
    }

    pub(super) const fn with_short(short: char, long: &'static str) -> Self {
        Self { short: Some(short), long, global: false }
    }

    pub(super) const fn global(short: char, long: &'static str) -> Self {
        Self { short: Some(short), long, global: true }
    }
}

/// `-a/--peer-age`, or `--zones` where there is no short form.
impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.short {
            Some(short) => write!(f, "-{short}/--{}", self.long),
            None => write!(f, "--{}", self.long),
        }
    }
}

/// What follows a flag. The text is the value's name in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One value.
    Value(&'static str),
    /// A number. A hyphen before it is no flag, so that the error can say which numbers are expected.
    Number(&'static str),
    /// Values separated by commas. The flag may be repeated.
    List(&'static str),
    /// The path of a file.
    File,
    /// `=true` or `=false`. The flag alone means true.
    Switch,
}

/// What help, pages and tests tell of a setting.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Where it is listed.
    pub section: Section,
    /// Its flag, if it has one.
    pub flag: Option<Flag>,
    /// Its environment variable.
    pub variable: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// What it does, in Markdown with links as from the page in `docs`.
    pub help: &'static str,
    /// What there is to say beyond that; may be empty.
    pub details: &'static str,
    /// What to know about it in a container; may be empty.
    pub docker: &'static str,
    /// What holds where it is not given.
    pub default: Fallback,
    /// A valid value that is not the default; for a file, what could be in it.
    pub example: &'static str,
}

/// What holds where a setting is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This value.
    Is(&'static str),
    /// No value; this tells what follows, in Markdown.
    Unset(&'static str),
}

impl Fallback {
    /// As the help shows it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Is(text) | Self::Unset(text) => text,
        }
    }
}

/// A setting, whatever its type.
pub(super) trait Declared: Sync {
    fn about(&self) -> About;

    /// Reads the default as the program does.
    #[cfg(test)]
    fn check_default(&self) -> Result<(), Wrong>;
}

impl<T> Declared for Setting<T, Is> {
    fn about(&self) -> About {
        self.about_with(Fallback::Is(self.default.0))
    }

    #[cfg(test)]
    fn check_default(&self) -> Result<(), Wrong> {
        (self.parse)(self.default.0).map(|_| ())
    }
}

impl<T> Declared for Setting<T, Unset> {
    fn about(&self) -> About {
        self.about_with(Fallback::Unset(self.default.0))
    }

    #[cfg(test)]
    fn check_default(&self) -> Result<(), Wrong> {
        Ok(())
    }
}

impl<T> Setting<T, Is> {
    /// The value that was given, else the default.
    pub(super) fn read(&self, sources: &Sources<'_>) -> Result<T, ConfigError> {
        match self.given(sources)? {
            Some(given) => Ok(given.value),
            None => self.checked(self.origin(), self.default.0.to_owned()).map(|default| default.value),
        }
    }

    /// A test shows that the default is a valid value, so no error names this.
    fn origin(&self) -> Origin {
        Origin::Variable(self.variable)
    }
}

impl<T> Setting<T, Unset> {
    /// The value that was given.
    pub(super) fn read(&self, sources: &Sources<'_>) -> Result<Option<T>, ConfigError> {
        self.given(sources).map(|given| given.map(|given| given.value))
    }
}

impl<T, D> Setting<T, D> {
    /// The flag's value, or the variable's unless that is empty, with its origin.
    pub(super) fn given(&self, sources: &Sources<'_>) -> Result<Option<Given<T>>, ConfigError> {
        let typed = || self.flag.and_then(|flag| Some((Origin::Flag(flag), sources.flag(flag)?)));
        let variable = || sources.variable(self.variable).map(|text| (Origin::Variable(self.variable), text));
        typed().or_else(variable).map(|(origin, text)| self.checked(origin, text)).transpose()
    }

    fn checked(&self, origin: Origin, found: String) -> Result<Given<T>, ConfigError> {
        match (self.parse)(&found) {
            Ok(value) => Ok(Given { origin, found, value }),
            Err(Wrong::Value) => Err(ConfigError::Invalid { origin, found, expected: self.expected }),
            Err(Wrong::Expected(expected)) => Err(ConfigError::Invalid { origin, found, expected }),
        }
    }

    fn about_with(&self, default: Fallback) -> About {
        let Self { section, flag, variable, takes, help, details, docker, example, .. } = *self;
        About { section, flag, variable, takes, help, details, docker, default, example }
    }
}

/// A value that was given.
#[derive(Clone, Debug)]
pub(super) struct Given<T> {
    pub(super) origin: Origin,
    /// As it was written.
    found: String,
    pub(super) value: T,
}

impl<T> Given<T> {
    /// The value is valid, but not beside what else was given.
    pub(super) fn refuse(self, expected: &'static str) -> ConfigError {
        ConfigError::Invalid { origin: self.origin, found: self.found, expected }
    }
}

/// The flag or variable that gave a value, as errors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A flag.
    Flag(Flag),
    /// An environment variable.
    Variable(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Variable(variable) => f.write_str(variable),
        }
    }
}

/// The command line and the environment.
pub(super) struct Sources<'a> {
    pub(super) flags: &'a ArgMatches,
    pub(super) env: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Sources<'_> {
    /// A repeated flag's values are one list, as the variable has it.
    fn flag(&self, flag: Flag) -> Option<String> {
        let values = self.flags.try_get_many::<String>(flag.long).ok()??;
        let values: Vec<_> = values.map(String::as_str).collect();
        Some(values.join(",").trim().to_owned())
    }

    /// Without the white space around it, such as the carriage return that an editor of another system leaves at the end
    /// of a line.
    fn variable(&self, name: &str) -> Option<String> {
        let text = (self.env)(name)?.to_string_lossy().trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    }
}
