//! What a target takes, asked on the connection that will write to it.
//!
//! # Invariant
//!
//! Nothing is created: no server has the type of the payloads that are offered.

use super::wire::{LinkError, Reply, Wire};
use crate::rdb::dialect::{Dialect, PROBED, probe};
use crate::rdb::module;
use crate::resp::{ErrorCode, Retry};

/// What a target takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takes {
    /// Versions and encodings.
    pub dialect: Dialect,
    /// Modules that it has shown. None, where it may not be asked.
    pub modules: Vec<String>,
}

impl Takes {
    /// Whether it has shown the module of this type.
    pub fn has_module_of(&self, type_name: &str) -> bool {
        self.modules
            .iter()
            .any(|module| module::provides(module, type_name))
    }
}

/// Finds out what the server behind `wire` takes. `version`: what it says of itself, for what it does not answer.
///
/// # Errors
///
/// The connection's, and what the server answers to RESTORE for reasons of its own: OOM, READONLY.
pub async fn ask(wire: &mut Wire, key: &[u8], version: &str) -> Result<Takes, LinkError> {
    let probes = PROBED.map(probe);
    let probes: Vec<[&[u8]; 5]> = probes
        .iter()
        .map(|payload| [b"RESTORE", key, b"0", &payload[..], b"REPLACE"])
        .collect();
    let mut commands: Vec<&[&[u8]]> = probes.iter().map(|probe| &probe[..]).collect();
    commands.push(&[b"MODULE", b"LIST"]);
    let mut replies = wire.call_all(&commands).await?;
    let modules = replies.pop().map(module_names).unwrap_or_default();
    let mut accepted = Vec::new();
    for (version, reply) in PROBED.into_iter().zip(replies) {
        if accepts(reply)? {
            accepted.push(version);
        }
    }
    Ok(Takes {
        dialect: Dialect::of_accepted(accepted).unwrap_or_else(|| Dialect::of_server(version)),
        modules,
    })
}

/// Whether the footer of a probe was accepted: then the server goes on to its type, which it refuses.
fn accepts(reply: Reply) -> Result<bool, LinkError> {
    match reply {
        Reply::Error(ErrorCode::BadDataFormat, _) => Ok(true),
        // Other servers may have words of their own for a type that they don't know.
        Reply::Error(code, _) if code.retry() == Retry::Unknown => Ok(true),
        Reply::Error(code, _) if code.retry() == Retry::Key => Ok(false),
        Reply::Error(code, line) => Err(LinkError::Reply(code, line)),
        other => Err(LinkError::Unexpected("RESTORE", format!("{other:?}"))),
    }
}

/// The names in what MODULE LIST answers; whatever else it answers shows no module.
fn module_names(reply: Reply) -> Vec<String> {
    let Reply::Array(modules) = reply else {
        return Vec::new();
    };
    let text = |reply: &Reply| match reply {
        Reply::Bulk(bytes) | Reply::Simple(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        Reply::Error(..) | Reply::Integer(_) | Reply::Null | Reply::Array(_) => None,
    };
    let name_of = |module: &Reply| match module {
        Reply::Array(fields) => fields.chunks(2).find_map(|pair| match pair {
            [field, value] if text(field).as_deref() == Some("name") => text(value),
            _ => None,
        }),
        _ => None,
    };
    modules.iter().filter_map(name_of).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn names_of_modules_are_found_among_their_fields() {
        let bulk = |text: &'static str| Reply::Bulk(Bytes::from_static(text.as_bytes()));
        let reply = Reply::Array(vec![
            Reply::Array(vec![
                bulk("name"),
                bulk("vectorset"),
                bulk("ver"),
                Reply::Integer(1),
                bulk("args"),
                Reply::Array(vec![]),
            ]),
            Reply::Array(vec![
                bulk("ver"),
                Reply::Integer(2),
                bulk("name"),
                bulk("bf"),
            ]),
        ]);
        assert_eq!(module_names(reply), ["vectorset", "bf"]);
        let refused = Reply::Error(ErrorCode::NoPermKey, "NOPERM".into());
        assert!(module_names(refused).is_empty());
    }

    #[test]
    fn only_a_refused_type_means_that_the_version_is_accepted() {
        let answer = |line: &str| {
            accepts(Reply::Error(
                ErrorCode::of(line.as_bytes()),
                line.to_owned(),
            ))
        };
        assert_eq!(answer("ERR Bad data format"), Ok(true));
        assert_eq!(
            answer("ERR DUMP payload version or checksum are wrong"),
            Ok(false)
        );
        assert_eq!(answer("NOPERM No permissions to access a key"), Ok(false));
        assert_eq!(answer("ERR the type is not known here"), Ok(true));
        assert!(answer("OOM command not allowed").is_err());
        assert!(accepts(Reply::Simple(Bytes::from_static(b"OK"))).is_err());
    }
}
