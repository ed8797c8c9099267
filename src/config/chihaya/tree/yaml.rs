//! Reads YAML. saphyr-parser gives the place of each key. Anchors and `<<` are resolved as Chihaya's reader does.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput};

use super::super::super::yaml::Problem;
use super::{ConfigNode, KeyedNode, MAX_DEPTH, MAX_VALUES, NodeValue, Place, ValueBudget, too_deep};

/// Reads the first document of the text; `None` if there are only comments. Also returns the line of a second document,
/// which Chihaya does not read.
pub(in super::super) fn read(text: &str) -> Result<(Option<ConfigNode>, Option<usize>), Problem> {
    let mut reader = YamlReader {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        budget: ValueBudget(MAX_VALUES),
        values: 0,
    };
    let mut first = None;
    while let Some((event, place)) = reader.next()? {
        match event {
            Event::DocumentStart(_) if first.is_some() => return Ok((first, Some(place.line))),
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::StreamEnd | Event::Nothing => {}
            event => first = Some(reader.node(event, place, 0)?),
        }
    }
    Ok((first, None))
}

struct YamlReader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Each value that has an anchor, and how many values this value is made of.
    anchors: HashMap<usize, (ConfigNode, usize)>,
    budget: ValueBudget,
    values: usize,
}

impl<'a> YamlReader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Place)>, Problem> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, place(&span)))),
            Some(Err(error)) => Err(problem(&error)),
        }
    }

    /// Reads the next event inside a value.
    fn inside(&mut self, place: Place) -> Result<(Event<'a>, Place), Problem> {
        let ends = || Problem { line: Some(place.line), problem: "the value that begins here has no end".to_owned() };
        self.next()?.ok_or_else(ends)
    }

    fn node(&mut self, event: Event<'a>, place: Place, depth: usize) -> Result<ConfigNode, Problem> {
        if depth > MAX_DEPTH {
            return Err(too_deep(place));
        }
        let before = self.values;
        self.count(1, place)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let is_plain = style == ScalarStyle::Plain && !is_text;
                let text = text.into_owned();
                (if is_plain { NodeValue::Plain(text) } else { NodeValue::Quoted(text) }, anchor)
            }
            Event::SequenceStart(anchor, _) => (NodeValue::List(self.list(place, depth)?), anchor),
            Event::MappingStart(anchor, _) => (NodeValue::Section(self.section(place, depth)?), anchor),
            Event::Alias(anchor) => return self.alias(anchor, place),
            _ => {
                let problem = "nothing is here, expected a value".to_owned();
                return Err(Problem { line: Some(place.line), problem });
            }
        };
        let node = ConfigNode { place, value };
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), self.values - before));
        }
        Ok(node)
    }

    fn count(&mut self, values: usize, place: Place) -> Result<(), Problem> {
        self.values += values;
        self.budget.take(values, place)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<ConfigNode, Problem> {
        // An anchor is known only after its value, so no value can contain itself.
        let Some((node, values)) = self.anchors.get(&anchor).cloned() else {
            let problem = "the anchor is not known here, expected one that is set further up".to_owned();
            return Err(Problem { line: Some(place.line), problem });
        };
        self.count(values, place)?;
        Ok(node)
    }

    fn list(&mut self, place: Place, depth: usize) -> Result<Vec<ConfigNode>, Problem> {
        let mut items = Vec::new();
        loop {
            match self.inside(place)? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, place) => items.push(self.node(event, place, depth + 1)?),
            }
        }
    }

    fn section(&mut self, place: Place, depth: usize) -> Result<Vec<KeyedNode>, Problem> {
        let (mut entries, mut merged) = (Vec::new(), Vec::new());
        loop {
            let (key, place) = match self.inside(place)? {
                (Event::MappingEnd, _) => break,
                (event, place) => (self.node(event, place, depth + 1)?, place),
            };
            let (event, at) = self.inside(place)?;
            let value = self.node(event, at, depth + 1)?;
            match key.value {
                NodeValue::Plain(key) if key == "<<" => merged.extend(sections(value)?),
                NodeValue::Plain(key) | NodeValue::Quoted(key) => entries.push(KeyedNode { key, place, value }),
                NodeValue::List(_) | NodeValue::Section(_) => {
                    let problem = "a list or a section is where a key is expected".to_owned();
                    return Err(Problem { line: Some(place.line), problem });
                }
            }
        }
        // The section's own key overrides a merged one. Of several merged sections with a key, the first one counts.
        let mut known: HashSet<String> = entries.iter().map(|entry: &KeyedNode| entry.key.clone()).collect();
        entries.extend(merged.into_iter().filter(|entry| known.insert(entry.key.clone())));
        Ok(entries)
    }
}

/// Returns the keys that `<<` merges: those of a section, or of all sections in a list.
fn sections(node: ConfigNode) -> Result<Vec<KeyedNode>, Problem> {
    match node.value {
        NodeValue::Section(entries) => Ok(entries),
        NodeValue::List(nodes) => {
            let entries: Result<Vec<_>, _> = nodes.into_iter().map(sections).collect();
            Ok(entries?.into_iter().flatten().collect())
        }
        NodeValue::Plain(_) | NodeValue::Quoted(_) => {
            let problem = "`<<` merges a value that is not a section, expected one such as *anchor".to_owned();
            Err(Problem { line: Some(node.place.line), problem })
        }
    }
}

fn place(span: &Span) -> Place {
    Place { line: span.start.line(), offset: span.start.index() }
}

fn problem(error: &ScanError) -> Problem {
    Problem { line: Some(error.marker().line()), problem: format!("it is no YAML: {}", error.info()) }
}
