//! What a setting consists of, and how its value is read. The settings themselves are in [`super::settings`].

use super::about::{About, Fallback, Section, Takes};
use super::error::ConfigError;
use super::origin::{Flag, Origin, Sources};

/// One setting. `T` is the type of its value in the program. `D` is the type of its default: a setting with [`Is`]
/// always has a value, and a setting with [`Unset`] may have none.
#[derive(Debug)]
pub(super) struct Setting<T, D> {
    /// The section in which the help and the pages list the setting.
    pub(super) section: Section,
    /// The flag. `None` for a setting that only has a variable.
    pub(super) flag: Option<Flag>,
    pub(super) variable: &'static str,
    pub(super) takes: Takes,
    /// What the setting does, in Markdown. The help, the pages and `.env.example` have this text.
    pub(super) help: &'static str,
    /// More about the setting, for the pages and the manual page. May be empty.
    pub(super) details: &'static str,
    /// What matters about the setting in a container, for `.env.example`. May be empty.
    pub(super) docker: &'static str,
    pub(super) default: D,
    /// A valid value that is not the default. For a file, possible content. A test gives the setting this value.
    pub(super) example: &'static str,
    /// What a value can be, for the error about a wrong value.
    pub(super) expected: &'static str,
    pub(super) parse: fn(&str) -> Result<T, Wrong>,
}

/// The default of a setting that always has a value, as an operator would write it.
#[derive(Debug)]
pub(super) struct Is(pub(super) &'static str);

/// What happens if a setting has no value, in words.
#[derive(Debug)]
pub(super) struct Unset(pub(super) &'static str);

/// Why a text is not a value of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The error gives the setting's own `expected`.
    Value,
    /// The error gives this text instead.
    Expected(&'static str),
}

/// A setting of any type.
pub(super) trait Declared: Sync {
    fn about(&self) -> About;

    /// The unparsed text that was given, and its origin.
    fn typed(&self, sources: &Sources<'_>) -> Option<(Origin, String)>;

    /// Reads the default as the program does.
    #[cfg(test)]
    fn check_default(&self) -> Result<(), Wrong>;
}

impl<T> Declared for Setting<T, Is> {
    fn about(&self) -> About {
        self.about_with(Fallback::Is(self.default.0))
    }

    fn typed(&self, sources: &Sources<'_>) -> Option<(Origin, String)> {
        self.text(sources)
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

    fn typed(&self, sources: &Sources<'_>) -> Option<(Origin, String)> {
        self.text(sources)
    }

    #[cfg(test)]
    fn check_default(&self) -> Result<(), Wrong> {
        Ok(())
    }
}

impl<T> Setting<T, Is> {
    /// Reads the value that was given, else the default.
    pub(super) fn read(&self, sources: &Sources<'_>) -> Result<T, ConfigError> {
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
    pub(super) fn read(&self, sources: &Sources<'_>) -> Result<Option<T>, ConfigError> {
        self.given(sources).map(|given| given.map(|given| given.value))
    }
}

impl<T, D> Setting<T, D> {
    /// The value of the flag, else of the variable, with its origin. An empty variable counts as not given.
    pub(super) fn given(&self, sources: &Sources<'_>) -> Result<Option<Given<T>>, ConfigError> {
        self.text(sources).map(|(origin, text)| self.checked(origin, text)).transpose()
    }

    fn text(&self, sources: &Sources<'_>) -> Option<(Origin, String)> {
        let typed = || self.flag.and_then(|flag| Some((Origin::Flag(flag), sources.flag(flag)?)));
        let variable = || sources.variable(self.variable).map(|text| (Origin::Variable(self.variable), text));
        typed().or_else(variable)
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
    /// The value as it was written.
    found: String,
    pub(super) value: T,
}

impl<T> Given<T> {
    /// The error for a value that is valid by itself, but not together with the other settings.
    pub(super) fn refuse(self, expected: &'static str) -> ConfigError {
        ConfigError::Invalid { origin: self.origin, found: self.found, expected }
    }
}
