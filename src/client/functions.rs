//! Libraries of functions (Redis 7.0): what a server has, and how one is given to another.
//!
//! # Invariant
//!
//! What is restored is one library at a time, under its own name; none is ever removed.

use super::wire::{LinkError, Reply, Wire};
use crate::key::Escaped;
use crate::rdb::decode::libraries;
use crate::rdb::encode::library;
use crate::rdb::footer;
use crate::resp::ErrorCode;

/// A library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// As its first line says, for people.
    pub name: String,
    /// Its source text, first line included.
    pub code: Vec<u8>,
}

impl Library {
    fn of_code(code: Vec<u8>) -> Self {
        let name = name_in(&code).unwrap_or_default();
        Self {
            name: Escaped(name).to_string(),
            code,
        }
    }
}

/// What follows `name=` in `#!lua name=shop`.
fn name_in(code: &[u8]) -> Option<&[u8]> {
    let first = code.split(|byte| *byte == b'\n').next()?;
    let mut words = first.split(u8::is_ascii_whitespace);
    words.find_map(|word| word.strip_prefix(b"name="))
}

/// All libraries, by FUNCTION DUMP; `None` where there can't be any (before 7.0).
///
/// # Errors
///
/// The connection's, the server's refusal, or an answer that is none.
pub async fn dumped(wire: &mut Wire) -> Result<Option<Vec<Library>>, LinkError> {
    let unexpected = |what: String| LinkError::Unexpected("FUNCTION DUMP", what);
    let payload = match wire.call(&[b"FUNCTION", b"DUMP"]).await? {
        Reply::Bulk(payload) => payload,
        Reply::Error(ErrorCode::UnknownCommand, _) => return Ok(None),
        Reply::Error(code, line) => return Err(LinkError::Reply(code, line)),
        other => return Err(unexpected(format!("{other:?}"))),
    };
    // Of no library there is nothing but the footer, which the check takes for too short.
    if payload.len() > footer::FOOTER_BYTES {
        footer::check(&payload).map_err(|error| unexpected(error.to_string()))?;
    }
    let libraries = libraries(&payload).map_err(|error| unexpected(error.to_string()))?;
    Ok(Some(libraries.into_iter().map(Library::of_code).collect()))
}

/// All libraries, by FUNCTION LIST; `None` where there can't be any (before 7.0).
///
/// # Errors
///
/// As [`dumped`].
pub async fn listed(wire: &mut Wire) -> Result<Option<Vec<Library>>, LinkError> {
    let entries = match wire.call(&[b"FUNCTION", b"LIST", b"WITHCODE"]).await? {
        Reply::Array(entries) => entries,
        Reply::Error(ErrorCode::UnknownCommand, _) => return Ok(None),
        Reply::Error(code, line) => return Err(LinkError::Reply(code, line)),
        other => return Err(LinkError::Unexpected("FUNCTION LIST", format!("{other:?}"))),
    };
    let code_of = |entry: Reply| match entry {
        Reply::Array(fields) => fields.chunks(2).find_map(|pair| match pair {
            [Reply::Bulk(field), Reply::Bulk(code)] if field.as_ref() == b"library_code" => {
                Some(code.to_vec())
            }
            _ => None,
        }),
        _ => None,
    };
    let codes: Option<Vec<Vec<u8>>> = entries.into_iter().map(code_of).collect();
    match codes {
        Some(codes) => Ok(Some(codes.into_iter().map(Library::of_code).collect())),
        None => Err(LinkError::Unexpected(
            "FUNCTION LIST",
            "a library without its code".to_owned(),
        )),
    }
}

/// Whether libraries would be taken; `false` where the server knows none (before 7.0). Nothing is written.
///
/// # Errors
///
/// As [`dumped`].
pub async fn takes(wire: &mut Wire) -> Result<bool, LinkError> {
    // Not even a footer: no version of the server goes on to load something.
    match wire.call(&[b"FUNCTION", b"RESTORE", b""]).await? {
        Reply::Error(ErrorCode::BadPayloadVersion | ErrorCode::BadDataFormat, _) => Ok(true),
        Reply::Error(ErrorCode::UnknownCommand, _) => Ok(false),
        Reply::Error(code, line) => Err(LinkError::Reply(code, line)),
        other => Err(LinkError::Unexpected(
            "FUNCTION RESTORE",
            format!("{other:?}"),
        )),
    }
}

/// Gives a library to a server. `replace`: in the place of the one that has its name.
///
/// # Errors
///
/// As [`dumped`].
pub async fn restore(wire: &mut Wire, given: &Library, replace: bool) -> Result<(), LinkError> {
    let payload = library(&given.code);
    let policy: &[u8] = match replace {
        true => b"REPLACE",
        false => b"APPEND",
    };
    let command = [b"FUNCTION".as_slice(), b"RESTORE", &payload, policy];
    match wire.call(&command).await? {
        Reply::Simple(_) => Ok(()),
        Reply::Error(code, line) => Err(LinkError::Reply(code, line)),
        other => Err(LinkError::Unexpected(
            "FUNCTION RESTORE",
            format!("{other:?}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_called_what_its_first_line_says() {
        let check = |code: &str, name: &str| {
            assert_eq!(Library::of_code(code.into()).name, name, "{code:?}");
        };
        check("#!lua name=shop\nredis.log(1)", "shop");
        check("#!LUA engine=x name=a_b\r\n", "a_b");
        check("#!lua name=\u{1b}[1m\n", "\\x1b[1m");
        check("name", "");
    }
}
