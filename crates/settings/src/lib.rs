//! Settings of a program, each declared once. Parsing, errors and the help use the declaration. A flag overrides its
//! environment variable, and a variable overrides the default. An empty variable counts as unset.

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
