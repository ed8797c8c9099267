//! The description of a setting. The help, the pages and the tests use it.

use crate::origin::Flag;

/// The description of a setting.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The section that lists the setting.
    pub section: Section,
    /// The setting's flag, if it has one.
    pub flag: Option<Flag>,
    /// The setting's environment variable.
    pub variable: &'static str,
    /// The value that follows the flag.
    pub takes: Takes,
    /// What the setting does, in Markdown. Links are relative to the page in `docs`.
    pub help: &'static str,
    /// Further details; may be empty.
    pub details: &'static str,
    /// What matters about the setting in a container; may be empty.
    pub docker: &'static str,
    /// What applies if the setting is not given.
    pub default: Fallback,
    /// A valid value that is not the default. For a setting that names a file, possible content of the file.
    pub example: &'static str,
}

/// What applies if a setting is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// This value applies.
    Is(&'static str),
    /// The setting has no value. The text says, in Markdown, what happens then.
    Unset(&'static str),
}

impl Fallback {
    /// Returns the text that the help shows.
    pub fn text(self) -> &'static str {
        match self {
            Self::Is(text) | Self::Unset(text) => text,
        }
    }
}

/// The value that follows a flag. The text is the name of the value in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// One value.
    Value(&'static str),
    /// One value that no page and no log line shows.
    Secret(&'static str),
    /// A number. `-1` is read as a value, not as a flag, so that the error can say which numbers are expected.
    Number(&'static str),
    /// Values separated by commas. The flag may be repeated.
    List(&'static str),
    /// The path of a file.
    File,
    /// `=true` or `=false`. The flag alone means true.
    Switch,
}

/// The heading of a section of the help and of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section(pub &'static str);
