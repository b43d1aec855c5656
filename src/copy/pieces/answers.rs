//! The source's answers, taken apart.
//!
//! # Invariant
//!
//! An answer of another form than the command has is an error, never an empty piece.

use redis::Value;

use crate::client::LinkError;
use crate::client::control::Control;

/// What a question about the key came to.
pub(super) enum Answer {
    /// What was asked for.
    Value(Value),
    /// The key is gone, or of another type by now.
    Changed,
}

/// Asks about the key.
pub(super) async fn ask(source: &mut Control, command: &redis::Cmd) -> Result<Answer, LinkError> {
    match source.ask(command).await {
        Ok(value) => Ok(Answer::Value(value)),
        Err(error) if is_change(&error) => Ok(Answer::Changed),
        Err(error) => Err(error),
    }
}

/// Whether an error says that the key, or a group of it, is not what it was.
pub(super) fn is_change(error: &LinkError) -> bool {
    const BEGINNINGS: [&str; 3] = ["WRONGTYPE", "ERR no such key", "NOGROUP"];
    match error {
        LinkError::Reply(_, line) => BEGINNINGS.iter().any(|known| line.starts_with(known)),
        _ => false,
    }
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

/// An array of pairs of strings, one after the other.
pub(super) fn pairs(value: Value) -> Result<Vec<(Vec<u8>, Vec<u8>)>, LinkError> {
    let mut values = array(value)?.into_iter();
    let mut pairs = Vec::with_capacity(values.len() / 2);
    while let Some(first) = values.next() {
        let second = values.next().unwrap_or(Value::Nil);
        pairs.push((bytes(first)?, bytes(second)?));
    }
    Ok(pairs)
}
