//! Reads the engine's replies. A reply in an unexpected form is an error, because the engine is an input like any other.

use redis::Value;

use super::entry::{EntryId, ReadEntry};
use super::error::LinkError;
use crate::share::EngineTime;

/// Returns an error reply as an error, and any other reply unchanged.
pub(super) fn checked(reply: &Value) -> Result<&Value, LinkError> {
    match reply {
        Value::ServerError(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

/// Returns the elements of an array.
pub(super) fn items(reply: &Value) -> Result<&[Value], LinkError> {
    match checked(reply)? {
        Value::Array(items) => Ok(items),
        _ => Err(LinkError::Reply("no array")),
    }
}

/// Returns the bytes of a string.
pub(super) fn bytes(reply: &Value) -> Result<&[u8], LinkError> {
    match checked(reply)? {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text.as_bytes()),
        _ => Err(LinkError::Reply("no string")),
    }
}

/// Returns the bytes of a string. `None` if the key does not exist.
pub(super) fn optional_bytes(reply: &Value) -> Result<Option<&[u8]>, LinkError> {
    if matches!(reply, Value::Nil) { Ok(None) } else { bytes(reply).map(Some) }
}

/// Returns a string as text.
pub(super) fn text(reply: &Value) -> Result<&str, LinkError> {
    str::from_utf8(bytes(reply)?).map_err(|_| LinkError::Reply("no text"))
}

/// Reads the reply to `TIME`: seconds and microseconds.
pub(super) fn time(reply: &Value) -> Result<EngineTime, LinkError> {
    let [seconds, micros] = items(reply)? else { return Err(LinkError::Reply("TIME")) };
    let number = |value| text(value)?.parse::<u64>().map_err(|_| LinkError::Reply("TIME"));
    Ok(EngineTime(number(seconds)?.saturating_mul(1000).saturating_add(number(micros)? / 1000)))
}

/// Returns the value of a field in the reply to `INFO`.
pub(super) fn info<'a>(reply: &'a str, field: &str) -> Option<&'a str> {
    reply.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::trim)
}

/// The key of a log, and the entries that were read from the log.
pub(super) type ReadLog<'a> = (&'a [u8], Vec<ReadEntry>);

/// A field of a hash: its name and its value.
pub(super) type HashField<'a> = (&'a [u8], &'a [u8]);

/// Reads the reply to `XREAD`: the key and the new entries of each log that has new entries. An entry without a batch
/// counts as an entry with an empty batch.
pub(super) fn logs(reply: &Value) -> Result<Vec<ReadLog<'_>>, LinkError> {
    if matches!(reply, Value::Nil) {
        return Ok(Vec::new());
    }
    items(reply)?.iter().map(log).collect()
}

fn log(reply: &Value) -> Result<ReadLog<'_>, LinkError> {
    let [key, entries] = items(reply)? else { return Err(LinkError::Reply("XREAD")) };
    let entries = items(entries)?.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    Ok((bytes(key)?, entries))
}

fn entry(reply: &Value) -> Result<ReadEntry, LinkError> {
    let [id, fields] = items(reply)? else { return Err(LinkError::Reply("XREAD")) };
    let id = EntryId::read(text(id)?).ok_or(LinkError::Reply("XREAD"))?;
    let batch = match items(fields)? {
        [_, batch] => bytes(batch)?.to_vec(),
        // A stranger has written this entry. Its empty batch will count as malformed.
        _ => Vec::new(),
    };
    Ok(ReadEntry { id, batch })
}

/// Reads the reply to `HGETALL`: names and values.
pub(super) fn pairs(reply: &Value) -> Result<Vec<HashField<'_>>, LinkError> {
    match checked(reply)? {
        Value::Array(items) => items
            .chunks_exact(2)
            .filter_map(|pair| if let [name, value] = pair { Some((name, value)) } else { None })
            .map(|(name, value)| Ok((bytes(name)?, bytes(value)?)))
            .collect(),
        _ => Err(LinkError::Reply("HGETALL")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn array<const N: usize>(items: [Value; N]) -> Value {
        Value::Array(items.into())
    }

    #[test]
    fn what_the_clock_shows() {
        assert_eq!(time(&array([string("12"), string("345678")])).unwrap(), EngineTime(12_345));
        assert_eq!(time(&array([string(&u64::MAX.to_string()), string("0")])).unwrap(), EngineTime(u64::MAX));
        for wrong in [Value::Nil, string("1"), array([string("1")]), array([string("-1"), string("0")])] {
            assert!(time(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn entries_of_logs() {
        let entry = |id, fields| array([string(id), fields]);
        let field = array([string("b"), string("batch")]);
        let log = array([string("key"), array([entry("5-1", field.clone()), entry("6-0", array([]))])]);
        let reply = array([log]);
        let read = logs(&reply).unwrap();
        let id = |time, number| EntryId { time: EngineTime(time), number };
        let entries =
            vec![ReadEntry { id: id(5, 1), batch: b"batch".to_vec() }, ReadEntry { id: id(6, 0), batch: Vec::new() }];
        assert_eq!(read, [(&b"key"[..], entries)]);
        assert!(logs(&Value::Nil).unwrap().is_empty());
        for id in ["", "5", "5-", "a-b", "-1-1"] {
            assert!(logs(&array([array([string("key"), array([entry(id, field.clone())])])])).is_err(), "{id}");
        }
    }

    #[test]
    fn fields_of_info() {
        let text = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n";
        assert_eq!(info(text, "redis_version"), Some("7.0.15"));
        assert_eq!(info(text, "run_id"), Some("abc"));
        assert_eq!(info(text, "run"), None);
    }
}
