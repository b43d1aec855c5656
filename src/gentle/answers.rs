//! A server's answers about a big key, taken apart.
//!
//! # Invariant
//!
//! An answer of another form than the command has is an error, never an empty part of a value.

use redis::Value;

use crate::client::LinkError;
use crate::rdb::visit::StreamId;

/// Whether an error says that the key, or a group of it, is not what it was.
pub fn is_change(error: &LinkError) -> bool {
    const BEGINNINGS: [&str; 3] = ["WRONGTYPE", "ERR no such key", "NOGROUP"];
    match error {
        LinkError::Reply(_, line) => BEGINNINGS.iter().any(|known| line.starts_with(known)),
        _ => false,
    }
}

/// An answer that is none. Never its bytes: they are somebody's data.
pub(super) fn unexpected(wanted: &'static str) -> LinkError {
    LinkError::Unexpected("a question about a big key", format!("not {wanted}"))
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, LinkError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        // The crate's word for the simple string "OK".
        Value::Okay => Ok(b"OK".to_vec()),
        _ => Err(unexpected("a string")),
    }
}

pub(super) fn array(value: Value) -> Result<Vec<Value>, LinkError> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(unexpected("an array")),
    }
}

/// An array of so many values.
pub(super) fn parts<const N: usize>(value: Value) -> Result<[Value; N], LinkError> {
    let parts = <[Value; N]>::try_from(array(value)?);
    parts.map_err(|_| unexpected("an array of that length"))
}

pub(super) fn number(value: &Value) -> Result<i64, LinkError> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => Err(unexpected("a number")),
    }
}

/// A number that is never negative.
pub(super) fn count(value: &Value) -> Result<u64, LinkError> {
    u64::try_from(number(value)?).map_err(|_| unexpected("a number of things"))
}

pub(super) fn strings(value: Value) -> Result<Vec<Vec<u8>>, LinkError> {
    array(value)?.into_iter().map(bytes).collect()
}

/// Two strings that belong together.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// Pairs of strings, one after the other.
pub(super) fn pairs(value: Value) -> Result<Vec<Pair>, LinkError> {
    let mut values = strings(value)?.into_iter();
    let mut pairs = Vec::with_capacity(values.len() / 2);
    while let Some(first) = values.next() {
        let second = values.next().ok_or_else(|| unexpected("pairs"))?;
        pairs.push((first, second));
    }
    Ok(pairs)
}

/// A score, as servers write it: enough digits to read the same number.
pub(super) fn score(digits: &[u8]) -> Result<f64, LinkError> {
    let parsed = std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| unexpected("a score"))
}

/// An entry's id.
pub(super) fn id(value: Value) -> Result<StreamId, LinkError> {
    let text = bytes(value)?;
    let text = std::str::from_utf8(&text).ok();
    let parsed = text
        .and_then(|text| text.split_once('-'))
        .and_then(|(ms, seq)| {
            Some(StreamId {
                ms: ms.parse().ok()?,
                seq: seq.parse().ok()?,
            })
        });
    parsed.ok_or_else(|| unexpected("an entry's id"))
}

/// What follows its name in an answer of XINFO.
pub(super) struct Named(Vec<(Vec<u8>, Value)>);

impl Named {
    pub fn of(value: Value) -> Result<Self, LinkError> {
        let mut values = array(value)?.into_iter();
        let mut named = Vec::with_capacity(values.len() / 2);
        while let Some(name) = values.next() {
            named.push((bytes(name)?, values.next().unwrap_or(Value::Nil)));
        }
        Ok(Self(named))
    }

    /// `None`: it is not told.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let found = self
            .0
            .iter()
            .position(|(known, _)| known == name.as_bytes());
        found.map(|at| self.0.swap_remove(at).1)
    }

    /// What is always told.
    pub fn must(&mut self, name: &str) -> Result<Value, LinkError> {
        let value = self.take(name);
        value.ok_or_else(|| unexpected("what every server tells"))
    }

    /// Whether anything is told whose name begins so.
    pub fn has_any(&self, prefix: &str) -> bool {
        self.0
            .iter()
            .any(|(name, _)| name.starts_with(prefix.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn scores_are_read_as_servers_write_them() {
        for (digits, wanted) in [
            ("0.10000000000000001", 0.1),
            ("3", 3.0),
            ("-1e+20", -1e20),
            ("inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
        ] {
            assert_eq!(score(digits.as_bytes()).expect("a score"), wanted);
        }
        assert!(score(b"").is_err());
    }

    #[test]
    fn an_answer_of_another_form_is_an_error() {
        assert!(strings(Value::Nil).is_err());
        assert!(pairs(Value::Array(vec![text("field")])).is_err());
        assert!(id(text("17")).is_err());
        assert!(count(&Value::Int(-1)).is_err());
        let mut named =
            Named::of(Value::Array(vec![text("length"), Value::Int(3)])).expect("a table");
        assert!(named.must("groups").is_err());
        assert_eq!(named.take("length"), Some(Value::Int(3)));
    }
}
