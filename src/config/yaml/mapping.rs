//! Reads mappings with merge keys (`<<: *anchor`) and refuses duplicate keys.
//!
//! Done here, because serde would lose the line of a mapping that it reads by itself.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess};
use serde_yaml::Value;

/// A mapping's fields, and a check of the mapping as a whole.
pub(in crate::config) trait Fields: de::DeserializeOwned {
    /// The result of the check.
    type Checked;
    /// An example, for the error when something else is found.
    const EXPECTED: &'static str;
    /// Checks the mapping. The reader adds the mapping's first line to an error.
    fn check(self) -> Result<Self::Checked, String>;
}

/// A checked mapping.
#[derive(Debug)]
pub(in crate::config) struct Mapping<E: Fields>(pub(in crate::config) E::Checked);

impl<'de, E: Fields> Deserialize<'de> for Mapping<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

struct Visitor<E>(PhantomData<E>);

impl<'de, E: Fields> de::Visitor<'de> for Visitor<E> {
    type Value = Mapping<E>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(E::EXPECTED)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Mapping<E>, A::Error> {
        let entry = E::deserialize(MapAccessDeserializer::new(Once::new(map)))?;
        entry.check().map(Mapping).map_err(de::Error::custom)
    }
}

/// Yields each key once: the mapping's own keys first, then merged keys that it lacks.
pub(in crate::config) struct Once<A> {
    map: A,
    seen: HashSet<String>,
    merged: VecDeque<(String, Value)>,
    /// The value of the merged key that was yielded last.
    value: Option<Value>,
}

impl<A> Once<A> {
    pub(in crate::config) fn new(map: A) -> Self {
        Self { map, seen: HashSet::new(), merged: VecDeque::new(), value: None }
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Once<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = Some(seed);
        while let Some(key) = self.map.next_key_seed(KeyIn { seed: &mut seed, seen: &mut self.seen })? {
            if key.is_some() {
                return Ok(key);
            }
            let merged: Value = self.map.next_value()?;
            self.merged.extend(merge(merged).map_err(de::Error::custom)?);
        }
        seed.map_or(Ok(None), |seed| self.next_merged(seed))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.value.take() {
            Some(value) => seed.deserialize(value).map_err(de::Error::custom),
            None => self.map.next_value_seed(seed),
        }
    }
}

impl<A> Once<A> {
    /// Returns the next merged key.
    fn next_merged<'de, K: DeserializeSeed<'de>, E: de::Error>(&mut self, seed: K) -> Result<Option<K::Value>, E> {
        while let Some((key, value)) = self.merged.pop_front() {
            if !self.seen.contains(&key) {
                self.value = Some(value);
                let named = seed.deserialize(IntoDeserializer::<E>::into_deserializer(key.as_str())).map(Some);
                self.seen.insert(key);
                return named;
            }
        }
        Ok(None)
    }
}

/// Reads a key as written. `None` for the key `<<`; the seed remains for the next key.
struct KeyIn<'a, K> {
    seed: &'a mut Option<K>,
    seen: &'a mut HashSet<String>,
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeyIn<'_, K> {
    type Value = Option<K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> de::Visitor<'de> for KeyIn<'_, K> {
    type Value = Option<K::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        let seed = if key == "<<" { None } else { self.seed.take() };
        let Some(seed) = seed else { return Ok(None) };
        let named = seed.deserialize(StrDeserializer::<E>::new(key))?;
        if !self.seen.insert(key.to_owned()) {
            return Err(E::custom(format!("duplicate field `{key}`")));
        }
        Ok(Some(named))
    }
}

/// Returns the pairs that `<<` merges, from one mapping or several. If several mappings have a key, the first of them
/// counts.
fn merge(mut value: Value) -> Result<Vec<(String, Value)>, String> {
    // A merged mapping may itself have a `<<`.
    value.apply_merge().map_err(|error| error.to_string())?;
    let mappings = match value {
        Value::Sequence(mappings) => mappings,
        mapping => vec![mapping],
    };
    let mut merged = Vec::new();
    for mapping in mappings {
        let Value::Mapping(mapping) = mapping else {
            return Err("`<<` merges a value that is not a mapping, expected one such as *anchor".to_owned());
        };
        let pair = |(key, value): (Value, Value)| Some((key.as_str()?.to_owned(), as_text(value)));
        merged.extend(mapping.into_iter().filter_map(pair));
    }
    Ok(merged)
}

/// Turns numbers and booleans into text, which the readers of fields expect.
fn as_text(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        Value::Bool(is_so) => Value::String(is_so.to_string()),
        Value::Sequence(values) => Value::Sequence(values.into_iter().map(as_text).collect()),
        Value::Mapping(pairs) => Value::Mapping(pairs.into_iter().map(|(key, value)| (key, as_text(value))).collect()),
        other => other,
    }
}
