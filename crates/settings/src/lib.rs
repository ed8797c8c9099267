//! Settings that are declared once, and given by flags and environment variables. A flag overrides its variable, and a
//! variable overrides the default. An empty variable counts as unset. Parsing, errors and the help come from the
//! declarations. The programs say what each of their settings is; this crate knows none of them.

mod about;
mod command;
mod document;
mod origin;
mod setting;
pub mod values;

pub use about::{About, Fallback, Section, Takes};
pub use command::{argument, one_line, plain};
pub use document::Document;
pub use origin::{Flag, Origin, Sources};
pub use setting::{Declared, Given, InvalidValue, Is, SECRET, Setting, Unset, Wrong};
