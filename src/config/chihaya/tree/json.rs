//! Reads JSON. `serde_json` checks the text, and returns each value as a slice of the text. The slice's position is the
//! value's place.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Error;
use serde_json::value::RawValue;

use super::super::super::yaml::Problem;
use super::{ConfigNode, KeyedNode, MAX_DEPTH, MAX_VALUES, NodeValue, Place, ValueBudget, too_deep};

/// Reads the first value in the text. Also returns the line of any text after it, which Chihaya does not read.
pub(in super::super) fn read(text: &str) -> Result<(ConfigNode, Option<usize>), Problem> {
    let lines = LineStarts::of(text);
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    let first = match values.next() {
        Some(first) => first.map_err(|error| problem(&error, 0))?,
        None => return Err(Problem { line: None, problem: "it is empty, expected JSON".to_owned() }),
    };
    let end = values.byte_offset();
    let rest = text.get(end..).unwrap_or_default();
    let rest = rest.find(|c: char| !c.is_whitespace()).map(|start| lines.place(end + start).line);
    let mut reader = JsonReader { text, lines, budget: ValueBudget(MAX_VALUES) };
    Ok((reader.node(first, 0)?, rest))
}

/// Converts an error. `before` is the number of lines before the parsed text.
fn problem(error: &Error, before: usize) -> Problem {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message);
    Problem { line: Some(before + error.line()), problem: format!("it is no JSON: {message}") }
}

struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        Self(memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end + 1).collect())
    }

    fn place(&self, offset: usize) -> Place {
        Place { line: 1 + self.0.partition_point(|start| *start <= offset), offset }
    }
}

struct JsonReader<'a> {
    text: &'a str,
    lines: LineStarts,
    budget: ValueBudget,
}

impl<'a> JsonReader<'a> {
    fn node(&mut self, raw: &'a RawValue, depth: usize) -> Result<ConfigNode, Problem> {
        let place = self.place(raw);
        if depth > MAX_DEPTH {
            return Err(too_deep(place));
        }
        self.budget.take(1, place)?;
        let text = raw.get();
        let value = match text.as_bytes().first() {
            Some(b'{') => {
                let RawPairs(pairs) = self.parse(raw)?;
                NodeValue::Section(pairs.into_iter().map(|pair| self.entry(pair, depth)).collect::<Result<_, _>>()?)
            }
            Some(b'[') => {
                let RawItems(items) = self.parse(raw)?;
                NodeValue::List(items.into_iter().map(|item| self.node(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            Some(b'"') => NodeValue::Quoted(self.parse(raw)?),
            _ => NodeValue::Plain(text.to_owned()),
        };
        Ok(ConfigNode { place, value })
    }

    fn entry(&mut self, (key, value): (&'a RawValue, &'a RawValue), depth: usize) -> Result<KeyedNode, Problem> {
        Ok(KeyedNode { place: self.place(key), key: self.parse(key)?, value: self.node(value, depth + 1)? })
    }

    fn parse<T: Deserialize<'a>>(&self, raw: &'a RawValue) -> Result<T, Problem> {
        let before = self.place(raw).line.saturating_sub(1);
        serde_json::from_str(raw.get()).map_err(|error| problem(&error, before))
    }

    /// Returns the place of a value, from its slice of the whole text.
    fn place(&self, raw: &RawValue) -> Place {
        self.lines.place(raw.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr()))
    }
}

/// The pairs of an object in the order of the text, including repeated keys.
struct RawPairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for RawPairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawPairsVisitor)
    }
}

struct RawPairsVisitor;

impl<'de> Visitor<'de> for RawPairsVisitor {
    type Value = RawPairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawPairs<'de>, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(RawPairs(pairs))
    }
}

struct RawItems<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for RawItems<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RawItemsVisitor)
    }
}

struct RawItemsVisitor;

impl<'de> Visitor<'de> for RawItemsVisitor {
    type Value = RawItems<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<RawItems<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = array.next_element()? {
            items.push(item);
        }
        Ok(RawItems(items))
    }
}
