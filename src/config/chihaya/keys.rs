//! Reads each key of a section once, and tells the linter what became of the key.

use super::known;
use super::lint::{Lint, Outcome};
use super::scalars::Parsed;
use super::tree::{ConfigNode, KeyedNode, NodeValue, Place};

/// The most unknown keys in a section. Each is compared with all known keys, which takes time.
const MAX_UNKNOWN: usize = 200;

/// The keys of a section that have not been read yet.
pub(super) struct Keys<'a> {
    /// The path of the section, such as `http.`; empty at the top.
    path: String,
    rest: Vec<&'a KeyedNode>,
    /// Whether the case of names is ignored. Go's JSON reader takes `Announce` for `announce`.
    folds_case: bool,
    /// The keys that Chihaya knows in this section.
    known: Vec<&'static str>,
    /// The keys that were looked for, but are not in the file or are null.
    absent: Vec<&'static str>,
    /// Whether an unknown key may be a misspelt key that restricts access.
    restricts: bool,
}

impl<'a> Keys<'a> {
    pub(super) fn new(path: impl Into<String>, entries: &'a [KeyedNode]) -> Self {
        let rest = entries.iter().collect();
        Self { path: path.into(), rest, folds_case: false, known: Vec::new(), absent: Vec::new(), restricts: false }
    }

    pub(super) fn folding_case(mut self) -> Self {
        self.folds_case = true;
        self
    }

    pub(super) fn restricting(mut self) -> Self {
        self.restricts = true;
        self
    }

    /// Returns the full name of a key, as the linter's lines show it.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// Takes a key, unless its value is null. If the key is repeated, the last value counts, as in Chihaya.
    pub(super) fn take(&mut self, lint: &mut Lint, key: &'static str) -> Option<&'a KeyedNode> {
        self.known.push(key);
        let folds_case = self.folds_case;
        let is_it = |entry: &&KeyedNode| entry.key == key || (folds_case && entry.key.eq_ignore_ascii_case(key));
        let (mut found, rest): (Vec<_>, _) = std::mem::take(&mut self.rest).into_iter().partition(is_it);
        self.rest = rest;
        let Some(last) = found.pop() else {
            self.absent.push(key);
            return None;
        };
        for earlier in found {
            let why = format!("does not count: the key is on line {} again, and the last one counts", last.place.line);
            lint.says(&self.name(key), earlier, Outcome::Warns(String::new(), why));
        }
        if last.value.is_null() {
            lint.says(&self.name(key), last, Outcome::Nothing("it is as if the key were not there".to_owned()));
            self.absent.push(key);
            return None;
        }
        Some(last)
    }

    /// Reads the value of a key. `outcome` says what becomes of the value.
    pub(super) fn read<T>(
        &mut self,
        lint: &mut Lint,
        key: &'static str,
        parse: impl FnOnce(&ConfigNode) -> Parsed<T>,
        outcome: impl FnOnce(&T) -> Outcome,
    ) -> Option<T> {
        let entry = self.take(lint, key)?;
        match parse(&entry.value) {
            Ok(value) => {
                lint.says(&self.name(key), entry, outcome(&value));
                Some(value)
            }
            Err(expected) => {
                lint.expected(&self.name(key), &entry.value, expected);
                None
            }
        }
    }

    /// Checks the value of a key that has no effect here.
    pub(super) fn check<T>(
        &mut self,
        lint: &mut Lint,
        key: &'static str,
        parse: impl FnOnce(&ConfigNode) -> Parsed<T>,
        why: &str,
    ) {
        self.read(lint, key, parse, |_| Outcome::Nothing(why.to_owned()));
    }

    /// Returns whether a key was looked for and is not there.
    pub(super) fn is_absent(&self, key: &str) -> bool {
        self.absent.contains(&key)
    }

    /// Reports each of these required keys that was looked for and is absent.
    pub(super) fn require(&self, lint: &mut Lint, keys: &[&'static str], place: Place) {
        for key in keys.iter().filter(|key| self.is_absent(key)) {
            lint.error(place, format!("{} is missing, expected a value for it", self.name(key)));
        }
    }

    /// Reads the section below a key. Also returns the key.
    pub(super) fn section(&mut self, lint: &mut Lint, key: &'static str) -> Option<(Keys<'a>, &'a KeyedNode)> {
        let entry = self.take(lint, key)?;
        let NodeValue::Section(entries) = &entry.value.value else {
            lint.expected(&self.name(key), &entry.value, "a section with keys of its own");
            return None;
        };
        Some((Self::new(format!("{}.", self.name(key)), entries), entry))
    }

    /// Warns of keys that only later versions of Chihaya know.
    pub(super) fn later(&mut self, lint: &mut Lint, keys: &[&'static str], what: &str) {
        for key in keys {
            let Some(entry) = self.take(lint, key) else { continue };
            let why = format!("means nothing: {what} does not know the key, only later versions do");
            lint.says(&self.name(key), entry, Outcome::Warns(String::new(), why));
        }
    }

    /// Reports the keys that were not looked for: Chihaya does not know them.
    pub(super) fn finish(self, lint: &mut Lint) {
        if let Some(entry) = self.rest.get(MAX_UNKNOWN) {
            let text =
                format!("there are more than {MAX_UNKNOWN} keys here that Chihaya does not know, expected its keys");
            return lint.error(entry.place, text);
        }
        for entry in &self.rest {
            let restricts = self.restricts || known::nearest(&entry.key, known::RESTRICTING).is_some();
            let why = known::explain(&self.path, &entry.key, &self.known);
            lint.unknown(&self.name(&entry.key), entry, restricts && !known::is_dead(&self.path, &entry.key), &why);
        }
    }
}
