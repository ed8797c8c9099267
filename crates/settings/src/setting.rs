//! What a setting consists of, and how its value is read.

use thiserror::Error;

use crate::about::{About, Fallback, Section, Takes};
use crate::origin::{Flag, Origin, Sources};

/// One setting. `T` is the type of its value in the program. `D` is the type of its default: a setting with [`Is`]
/// always has a value, and a setting with [`Unset`] may have none.
#[derive(Debug)]
pub struct Setting<T, D> {
    /// The section in which the help and the pages list the setting.
    pub section: Section,
    /// The flag. `None` for a setting that only has a variable.
    pub flag: Option<Flag>,
    /// The environment variable.
    pub variable: &'static str,
    /// What follows the flag.
    pub takes: Takes,
    /// What the setting does, in Markdown. The help, the pages and `.env.example` have this text.
    pub help: &'static str,
    /// More about the setting, for the pages and the manual page. May be empty.
    pub details: &'static str,
    /// What matters about the setting in a container, for `.env.example`. May be empty.
    pub docker: &'static str,
    /// [`Is`] or [`Unset`].
    pub default: D,
    /// A valid value that is not the default. For a file, possible content. A test gives the setting this value.
    pub example: &'static str,
    /// What a value can be, for the error about a wrong value.
    pub expected: &'static str,
    /// Reads a value.
    pub parse: fn(&str) -> Result<T, Wrong>,
}

/// What is shown in place of the value of a secret.
pub const SECRET: &str = "(a secret)";

/// The default of a setting that always has a value, as an operator would write it.
#[derive(Debug)]
pub struct Is(pub &'static str);

/// What happens if a setting has no value, in words.
#[derive(Debug)]
pub struct Unset(pub &'static str);

/// Why a text is not a value of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The error gives the setting's own `expected`.
    Value,
    /// The error gives this text instead.
    Expected(&'static str),
}

/// A setting of any type.
pub trait Declared: Sync {
    /// The description.
    fn about(&self) -> About;

    /// The unparsed text that was given, and its origin.
    fn typed(&self, sources: &Sources<'_>) -> Option<(Origin, String)>;

    /// Reads the default as the program does, for a test.
    fn check_default(&self) -> Result<(), Wrong>;
}

impl<T> Declared for Setting<T, Is> {
    fn about(&self) -> About {
        self.about_with(Fallback::Is(self.default.0))
    }

    fn typed(&self, sources: &Sources<'_>) -> Option<(Origin, String)> {
        self.text(sources)
    }

    fn check_default(&self) -> Result<(), Wrong> {
        (self.parse)(self.default.0).map(|_| ())
    }
}

impl<T> Declared for Setting<T, Unset> {
    fn about(&self) -> About {
        self.about_with(Fallback::Unset(self.default.0))
    }

    fn typed(&self, sources: &Sources<'_>) -> Option<(Origin, String)> {
        self.text(sources)
    }

    fn check_default(&self) -> Result<(), Wrong> {
        Ok(())
    }
}

impl<T> Setting<T, Is> {
    /// Reads the value that was given, else the default.
    pub fn read(&self, sources: &Sources<'_>) -> Result<T, InvalidValue> {
        let given = match self.given(sources)? {
            Some(given) => given,
            // A test shows that every default is a valid value.
            None => self.checked(Origin::Variable(self.variable), self.default.0.to_owned())?,
        };
        Ok(given.value)
    }
}

impl<T> Setting<T, Unset> {
    /// Reads the value that was given.
    pub fn read(&self, sources: &Sources<'_>) -> Result<Option<T>, InvalidValue> {
        self.given(sources).map(|given| given.map(|given| given.value))
    }
}

impl<T, D> Setting<T, D> {
    /// The value of the flag, else of the variable, with its origin. An empty variable counts as not given.
    pub fn given(&self, sources: &Sources<'_>) -> Result<Option<Given<T>>, InvalidValue> {
        self.text(sources).map(|(origin, text)| self.checked(origin, text)).transpose()
    }

    fn text(&self, sources: &Sources<'_>) -> Option<(Origin, String)> {
        let typed = || self.flag.and_then(|flag| Some((Origin::Flag(flag), sources.flag(flag)?)));
        let variable = || sources.variable(self.variable).map(|text| (Origin::Variable(self.variable), text));
        typed().or_else(variable)
    }

    fn checked(&self, origin: Origin, text: String) -> Result<Given<T>, InvalidValue> {
        let parsed = (self.parse)(&text);
        // Errors are logged, so they must not show a secret that has a character too many.
        let found = if matches!(self.takes, Takes::Secret(_)) { SECRET.to_owned() } else { text };
        match parsed {
            Ok(value) => Ok(Given { origin, found, value }),
            Err(Wrong::Value) => Err(InvalidValue { origin, found, expected: self.expected }),
            Err(Wrong::Expected(expected)) => Err(InvalidValue { origin, found, expected }),
        }
    }

    fn about_with(&self, default: Fallback) -> About {
        let Self { section, flag, variable, takes, help, details, docker, example, .. } = *self;
        About { section, flag, variable, takes, help, details, docker, default, example }
    }
}

/// The value of a setting is wrong. The text names the flag or the variable, what was found, and what is expected.
#[derive(Debug, Error)]
#[error("{origin} is \"{}\", expected {expected}", found.escape_default())]
pub struct InvalidValue {
    /// The flag or variable that gave the value.
    pub origin: Origin,
    /// The value.
    pub found: String,
    /// What a value can be.
    pub expected: &'static str,
}

/// A value that was given.
#[derive(Clone, Debug)]
pub struct Given<T> {
    /// The flag or variable that gave it.
    pub origin: Origin,
    /// The value as it was written.
    found: String,
    /// The value as the program uses it.
    pub value: T,
}

impl<T> Given<T> {
    /// The error for a value that is valid by itself, but not together with the other settings.
    pub fn refuse(self, expected: &'static str) -> InvalidValue {
        InvalidValue { origin: self.origin, found: self.found, expected }
    }
}
