//! Between what the source dumps and what the target takes.
//!
//! # Invariants
//!
//! - A payload whose footer and encoding the target takes goes as it is, and costs nothing but that look.
//! - A module's value never goes to a target that has not shown the module: Redis 6.0 and older exit on it.
//! - A payload that the target refused is re-encoded once; what is refused then is quarantined.

use std::time::Instant;

use bytes::Bytes;

use super::{Lane, Sent};
use crate::client::Takes;
use crate::client::handshake::unix_ms;
use crate::copy::batch::{KeyRef, Payload};
use crate::plan::FieldTtl;
use crate::rdb::dialect::{MODULE_TYPES, Way};
use crate::rdb::encode::{self, Reencoded, reencode, restamp};
use crate::rdb::{footer, module};
use crate::resp::ErrorCode;

/// What became of a payload.
pub(super) enum Converted {
    /// The target should take it.
    Ready(Payload),
    /// Nothing of the value is left: all its fields have expired.
    Gone,
    /// The target can't get it, and why.
    Impossible(String),
}

impl Lane {
    /// Makes of a payload that has been checked what the target takes.
    pub(super) fn for_target(&self, key: KeyRef, payload: Payload, now: Instant) -> Converted {
        let dumped = match payload {
            Payload::Dumped(dumped) => dumped,
            // Made here, in a version that every server takes.
            Payload::String(_) | Payload::Reencoded(_) => return Converted::Ready(payload),
        };
        let dialect = self.rules.takes.dialect;
        let way = match (footer::payload_type(&dumped), footer::version(&dumped)) {
            _ if self.refused.contains_key(&key) => Way::Reencoded,
            (Some(kind), Some(version)) => dialect.way(kind, version),
            _ => Way::AsItIs,
        };
        match way {
            Way::AsItIs => Converted::Ready(Payload::Dumped(dumped)),
            Way::Restamped => {
                let restamped = restamp(&dumped, dialect.stamp());
                Converted::Ready(Payload::Dumped(restamped.into()))
            }
            Way::Module => self.of_module(dumped),
            Way::Reencoded => self.reencoded(key, &dumped, now),
        }
    }

    fn of_module(&self, dumped: Bytes) -> Converted {
        let Takes { dialect, .. } = self.rules.takes;
        let name = module::type_name(&dumped).unwrap_or_else(|| "of an unknown type".to_owned());
        if !self.rules.takes.has_module_of(&name) {
            return Converted::Impossible(format!(
                "it is the value of a module ({name}), and the target has not shown that module (MODULE LIST)"
            ));
        }
        let accepted = footer::version(&dumped).is_some_and(|version| dialect.accepts(version));
        Converted::Ready(Payload::Dumped(match accepted {
            true => dumped,
            false => restamp(&dumped, dialect.stamp()).into(),
        }))
    }

    fn reencoded(&self, key: KeyRef, dumped: &[u8], now: Instant) -> Converted {
        let now_ms = match self.rules.source_clock {
            Some(clock) => clock.at(now),
            None => i64::try_from(unix_ms()).unwrap_or(i64::MAX),
        };
        let rules = encode::Rules {
            dialect: self.rules.takes.dialect,
            drop_field_expiry: match self.rules.field_ttl {
                FieldTtl::Quarantine => None,
                FieldTtl::Drop => Some(now_ms),
            },
            bytes_max: self.rules.payload_bytes_max,
        };
        match reencode(dumped, &rules) {
            Ok(Reencoded::Payload(payload)) => Converted::Ready(Payload::Reencoded(payload.into())),
            Ok(Reencoded::Vacant) => Converted::Gone,
            Err(why) => Converted::Impossible(match self.refused.get(&key) {
                Some(line) => format!("the target refuses the payload (\"{line}\"), and {why}"),
                None => format!("the target can't take the value: {why}"),
            }),
        }
    }

    /// Whether another encoding may help against this answer.
    pub(super) fn may_reencode(&self, code: ErrorCode, sent: &Sent) -> bool {
        let about_the_payload = matches!(
            code,
            ErrorCode::BadPayloadVersion | ErrorCode::BadDataFormat
        );
        let of_module = sent
            .payload_type
            .is_some_and(|kind| MODULE_TYPES.contains(&kind));
        about_the_payload && sent.dumped && !of_module && !self.refused.contains_key(&sent.key)
    }

    /// Another server may take other payloads: those that wait for it are read again, and converted anew.
    pub fn set_takes(&mut self, takes: Option<Takes>) {
        let Some(takes) = takes.filter(|takes| *takes != self.rules.takes) else {
            return;
        };
        self.rules.takes = takes;
        for ready in self.ready.iter_mut().flat_map(|queue| queue.drain(..)) {
            self.ready_bytes -= ready.payload.size() as u64;
            self.unread.push_back(ready.key);
        }
    }
}
