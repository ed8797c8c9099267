//! Where the values of settings come from: flags and environment variables.

use std::ffi::OsString;
use std::fmt;

use clap::ArgMatches;

/// The flag or variable that gave a value. Errors name it.
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
pub struct Sources<'a> {
    /// The parsed command line.
    pub flags: &'a ArgMatches,
    /// Looks up an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Sources<'_> {
    /// Returns the value of a flag. The values of a repeated flag are joined with commas, as in the environment
    /// variable.
    pub fn flag(&self, flag: Flag) -> Option<String> {
        let values = self.flags.try_get_many::<String>(flag.long).ok()??;
        let values: Vec<_> = values.map(String::as_str).collect();
        Some(values.join(",").trim().to_owned())
    }

    /// Returns the value of a variable without the white space around it, such as the carriage return of a Windows
    /// editor.
    pub fn variable(&self, name: &str) -> Option<String> {
        let text = (self.env)(name)?.to_string_lossy().trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    }
}

/// A flag of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The letter of the short form.
    pub short: Option<char>,
    /// The long form, without its hyphens.
    pub long: &'static str,
    /// Whether commands such as `check` take the flag too.
    pub global: bool,
}

impl Flag {
    /// Makes a flag without a short form.
    pub const fn long(long: &'static str) -> Self {
        Self { short: None, long, global: false }
    }

    /// Makes a flag without a short form. Commands take this flag too.
    pub const fn long_global(long: &'static str) -> Self {
        Self { short: None, long, global: true }
    }

    /// Makes a flag with a short form.
    pub const fn with_short(short: char, long: &'static str) -> Self {
        Self { short: Some(short), long, global: false }
    }

    /// Makes a flag with a short form. Commands take this flag too.
    pub const fn global(short: char, long: &'static str) -> Self {
        Self { short: Some(short), long, global: true }
    }
}

/// Writes `-a/--peer-age`, or `--zones` if there is no short form.
impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.short {
            Some(short) => write!(f, "-{short}/--{}", self.long),
            None => write!(f, "--{}", self.long),
        }
    }
}
