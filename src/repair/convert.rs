//! Between what the source dumps and what the target takes: the rules of the copy, for one payload at a time.
//!
//! # Invariants
//!
//! - A payload whose footer and encoding the target takes goes as it is.
//! - A module's value never goes to a target that has not shown the module: Redis 6.0 and older exit on it.

use bytes::Bytes;

use crate::client::Takes;
use crate::plan::FieldTtl;
use crate::rdb::dialect::{MODULE_TYPES, Way};
use crate::rdb::encode::{self, Reencoded, reencode, restamp};
use crate::rdb::{footer, module};
use crate::resp::ErrorCode;

/// What the target takes.
#[derive(Debug, Clone)]
pub struct ConvertRules {
    /// Versions, encodings and modules.
    pub takes: Takes,
    /// See [`FieldTtl`].
    pub field_ttl: FieldTtl,
    /// Largest payload.
    pub bytes_max: u64,
}

/// What became of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Converted {
    /// The target should take it.
    Ready(Bytes),
    /// Nothing of the value is left: all its fields have expired.
    Gone,
    /// The target can't get it, and why.
    Impossible(String),
}

impl ConvertRules {
    /// Makes of a payload that has been checked what the target takes, at `now_ms` of the source's clock. `refused`: what
    /// the target said when it was sent the payload as it is.
    pub fn for_target(&self, payload: Bytes, now_ms: i64, refused: Option<&str>) -> Converted {
        let dialect = self.takes.dialect;
        let way = match (footer::payload_type(&payload), footer::version(&payload)) {
            _ if refused.is_some() => Way::Reencoded,
            (Some(kind), Some(version)) => dialect.way(kind, version),
            _ => Way::AsItIs,
        };
        match way {
            Way::AsItIs => Converted::Ready(payload),
            Way::Restamped => Converted::Ready(restamp(&payload, dialect.stamp()).into()),
            Way::Module => self.of_module(payload),
            Way::Reencoded => self.reencoded(&payload, now_ms, refused),
        }
    }

    fn of_module(&self, payload: Bytes) -> Converted {
        let name = module::type_name(&payload).unwrap_or_else(|| "of an unknown type".to_owned());
        if !self.takes.has_module_of(&name) {
            return Converted::Impossible(format!(
                "it is the value of a module ({name}), and the target has not shown that module (MODULE LIST)"
            ));
        }
        let dialect = self.takes.dialect;
        let accepted = footer::version(&payload).is_some_and(|version| dialect.accepts(version));
        Converted::Ready(match accepted {
            true => payload,
            false => restamp(&payload, dialect.stamp()).into(),
        })
    }

    fn reencoded(&self, payload: &[u8], now_ms: i64, refused: Option<&str>) -> Converted {
        let rules = encode::Rules {
            dialect: self.takes.dialect,
            drop_field_expiry: match self.field_ttl {
                FieldTtl::Quarantine => None,
                FieldTtl::Drop => Some(now_ms),
            },
            bytes_max: self.bytes_max,
        };
        match reencode(payload, &rules) {
            Ok(Reencoded::Payload(payload)) => Converted::Ready(payload.into()),
            Ok(Reencoded::Vacant) => Converted::Gone,
            Err(why) => Converted::Impossible(match refused {
                Some(line) => format!("the target refuses the payload (\"{line}\"), and {why}"),
                None => format!("the target can't take the value: {why}"),
            }),
        }
    }
}

/// Whether another encoding may help where the target answered so to a payload of this type.
pub fn may_reencode(code: ErrorCode, payload_type: Option<u8>) -> bool {
    let about_the_payload = matches!(
        code,
        ErrorCode::BadPayloadVersion | ErrorCode::BadDataFormat
    );
    about_the_payload && !payload_type.is_some_and(|kind| MODULE_TYPES.contains(&kind))
}
