//! The declaration of a setting, and how its value is read.

use thiserror::Error;

use crate::about::{About, Fallback, Section, Takes};
use crate::origin::{Flag, Origin, Sources};

/// One setting. `T` is the type of its value in the program. `D` is the type of its default. With [`Is`] the setting
/// always has a value. With [`Unset`] it can have none.
#[derive(Debug)]
pub struct Setting<T, D> {
    /// The section in which the help and the pages list the setting.
    pub section: Section,
    /// The flag. `None` for a setting that only has a variable.
    pub flag: Option<Flag>,
    /// The environment variable.
    pub variable: &'static str,
    /// The value that follows the flag.
    pub takes: Takes,
    /// What the setting does, in Markdown. The help, the pages and `.env.example` have this text.
    pub help: &'static str,
    /// More about the setting, for the pages and the manual page. May be empty.
    pub details: &'static str,
    /// What matters about the setting in a container, for `.env.example`. May be empty.
    pub docker: &'static str,
    /// [`Is`] or [`Unset`].
    pub default: D,
    /// A valid value that is not the default. For a setting that names a file, possible content of the file. A test
    /// gives the setting this value.
    pub example: &'static str,
    /// Which values are valid. The error about a wrong value says so.
    pub expected: &'static str,
    /// Reads a value.
    pub parse: fn(&str) -> Result<T, Wrong>,
}

/// The text that errors show in place of a secret.
pub const SECRET: &str = "(a secret)";

/// The default of a setting that always has a value, as an operator would write it.
#[derive(Debug)]
pub struct Is(pub &'static str);

/// What happens if a setting has no value, as a text for operators.
#[derive(Debug)]
pub struct Unset(pub &'static str);

/// A text is not a valid value of a setting. The error says what is expected instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The error gives the setting's own `expected`.
    Value,
    /// The error gives this text instead.
    Expected(&'static str),
}

/// A setting of any type.
pub trait Declared: Sync {
    /// Returns the description.
    fn about(&self) -> About;

    /// Returns the text that was given, before it is parsed, and the origin of the text.
    fn typed(&self, sources: &Sources<'_>) -> Option<(Origin, String)>;

    /// Parses the default. A test calls this function.
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
    /// Returns the value that was given, else the default.
    pub fn read(&self, sources: &Sources<'_>) -> Result<T, InvalidValue> {
        let given = match self.given(sources)? {
            Some(given) => given,
            // This does not fail, because a test parses every default.
            None => self.checked(Origin::Variable(self.variable), self.default.0.to_owned())?,
        };
        Ok(given.value)
    }
}

impl<T> Setting<T, Unset> {
    /// Returns the value that was given.
    pub fn read(&self, sources: &Sources<'_>) -> Result<Option<T>, InvalidValue> {
        self.given(sources).map(|given| given.map(|given| given.value))
    }
}

impl<T, D> Setting<T, D> {
    /// Returns the value of the flag, else that of the variable, with its origin. An empty variable counts as unset.
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
        // Errors are logged, and a wrong secret can be one character off the real secret. So errors must not show it.
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
    /// Which values are valid.
    pub expected: &'static str,
}

/// A value that was given.
#[derive(Clone, Debug)]
pub struct Given<T> {
    /// The flag or variable that gave the value.
    pub origin: Origin,
    /// The value as it was written.
    found: String,
    /// The value as the program uses it.
    pub value: T,
}

impl<T> Given<T> {
    /// Makes the error for a value that is valid by itself, but not together with the other settings.
    pub fn refuse(self, expected: &'static str) -> InvalidValue {
        InvalidValue { origin: self.origin, found: self.found, expected }
    }
}
