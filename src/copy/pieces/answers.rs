//! The source's answers, taken apart.
//!
//! # Invariant
//!
//! An answer of another form than the command has is an error, never an empty piece.

use redis::Value;

use crate::client::LinkError;
use crate::rdb::visit::StreamId;
use crate::resp::ErrorCode;

/// Whether an error says that the key, or a group of it, is not what it was.
pub(super) fn is_change(error: &LinkError) -> bool {
    const BEGINNINGS: [&str; 3] = ["WRONGTYPE", "ERR no such key", "NOGROUP"];
    match error {
        LinkError::Reply(_, line) => BEGINNINGS.iter().any(|known| line.starts_with(known)),
        _ => false,
    }
}

/// Whether an error says that this user, or this server, can't be asked so; DUMP may still be answered.
pub(super) fn is_refusal(error: &LinkError) -> bool {
    matches!(
        error,
        LinkError::Reply(ErrorCode::NoPerm | ErrorCode::UnknownCommand, _)
    )
}

/// An answer that is none.
pub(super) fn unexpected(wanted: &'static str, got: &Value) -> LinkError {
    // Never the bytes: they are somebody's data.
    let form = match got {
        Value::Nil => "nil",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
        Value::Array(_) => "an array of another form",
        _ => "another form",
    };
    LinkError::Unexpected(
        "a question about a big key",
        format!("{form} instead of {wanted}"),
    )
}

/// A string's bytes.
pub(super) fn bytes(value: Value) -> Result<Vec<u8>, LinkError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        // The crate's word for the simple string "OK".
        Value::Okay => Ok(b"OK".to_vec()),
        other => Err(unexpected("a string", &other)),
    }
}

/// An array's elements.
pub(super) fn array(value: Value) -> Result<Vec<Value>, LinkError> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(unexpected("an array", &other)),
    }
}

/// A number.
pub(super) fn number(value: &Value) -> Result<i64, LinkError> {
    match value {
        Value::Int(number) => Ok(*number),
        other => Err(unexpected("a number", other)),
    }
}

/// An array of strings.
pub(super) fn strings(value: Value) -> Result<Vec<Vec<u8>>, LinkError> {
    array(value)?.into_iter().map(bytes).collect()
}

/// Two strings that belong together.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// An array of pairs of strings, one after the other.
pub(super) fn pairs(value: Value) -> Result<Vec<Pair>, LinkError> {
    let mut values = array(value)?.into_iter();
    let mut pairs = Vec::with_capacity(values.len() / 2);
    while let Some(first) = values.next() {
        let second = values.next().unwrap_or(Value::Nil);
        pairs.push((bytes(first)?, bytes(second)?));
    }
    Ok(pairs)
}

/// An entry's id.
pub(super) fn id(value: Value) -> Result<StreamId, LinkError> {
    let text = bytes(value)?;
    let text = String::from_utf8_lossy(&text);
    let parsed = text.split_once('-').and_then(|(ms, seq)| {
        Some(StreamId {
            ms: ms.parse().ok()?,
            seq: seq.parse().ok()?,
        })
    });
    parsed.ok_or_else(|| unexpected("an entry's id", &Value::BulkString(Vec::new())))
}

/// What follows its name in an answer of XINFO.
pub(super) struct Named(Vec<(Vec<u8>, Value)>);

impl Named {
    pub(super) fn of(value: Value) -> Result<Self, LinkError> {
        let mut values = array(value)?.into_iter();
        let mut named = Vec::with_capacity(values.len() / 2);
        while let Some(name) = values.next() {
            named.push((bytes(name)?, values.next().unwrap_or(Value::Nil)));
        }
        Ok(Self(named))
    }

    /// Takes it out; nil, if it is not there.
    pub(super) fn take(&mut self, name: &str) -> Value {
        let found = self
            .0
            .iter_mut()
            .find(|(known, _)| known == name.as_bytes());
        found.map_or(Value::Nil, |(_, value)| {
            std::mem::replace(value, Value::Nil)
        })
    }

    /// A number that is not negative; `None`, if it is not there, or not known.
    pub(super) fn count(&mut self, name: &str) -> Result<Option<u64>, LinkError> {
        match self.take(name) {
            Value::Nil => Ok(None),
            value => Ok(u64::try_from(number(&value)?).ok()),
        }
    }
}
