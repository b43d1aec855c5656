//! Makes entries of values, and holds values against them.
//!
//! # Invariants
//!
//! - What a payload that was recorded knows of a stream, and what the target's payload does, is brought to the lower of
//!   their levels; where the entry knows more than the target tells, nobody can say.
//! - What only a module can interpret is as recorded if its bytes are, and otherwise nobody can say.
//! - A hash of which a field has expired since it was recorded can be found as it was, but not found wrong.

use super::entry::{Entry, Outcome, Recorded, cut};
use crate::digest::{DigestRules, Digester, KeyDigest, StreamLevel, of_bytes, of_string};
use crate::rdb::footer::{self, FOOTER_BYTES};
use crate::rdb::string;
use crate::rdb::visit::Kind;

/// Keeps the memory that digesting needs.
pub struct Digesting {
    digester: Digester,
}

/// A value, as it travels.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// What DUMP returns and RESTORE takes.
    Payload(&'a [u8]),
    /// A string's own bytes.
    String(&'a [u8]),
}

/// What a value of the target is to the entry of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// The value is the one that was recorded.
    Same,
    /// It is of another type.
    OtherType,
    /// It is another one.
    OtherValue,
    /// Nobody can tell.
    Unknown,
}

/// What a value of the target is by itself, for whoever reports it.
#[derive(Debug, Clone, Copy)]
pub struct Digested {
    /// Type and digest.
    pub key: KeyDigest,
    /// The digest that entries are made of: of a module's value, that of its bytes.
    pub whole: [u8; 32],
}

impl Digesting {
    /// With nothing digested yet.
    pub fn new() -> Self {
        Self {
            digester: Digester::new(rules(0, StreamLevel::Unowned)),
        }
    }

    /// What is kept of a value that was written under `name` and expires at `expires_ms`; both instants by the target's clock.
    pub fn entry(
        &mut self,
        name: &[u8],
        value: Value<'_>,
        expires_ms: Option<i64>,
        now_ms: i64,
    ) -> Entry {
        let level = level_of(value);
        let digested = self.digest(value, level, now_ms);
        let fields_expire_ms = match (value, digested.key.kind) {
            // Of all its fields: the target may have no such key by now.
            (Value::Payload(_), Kind::Hash) if digested.key.vacant => Some(now_ms),
            (Value::Payload(_), Kind::Hash) => self.digester.first_field_expiry(),
            _ => None,
        };
        Entry::new(
            name,
            Outcome::Value(Recorded {
                kind: digested.key.kind,
                level,
                digest: cut(&digested.whole),
                fields_expire_ms,
                expires_ms,
            }),
        )
    }

    /// What the target's value is, digested as far as `recorded` knows.
    pub fn digested(
        &mut self,
        value: Value<'_>,
        recorded: Option<&Recorded>,
        now_ms: i64,
    ) -> Digested {
        let level = recorded.map_or(StreamLevel::Unowned, |recorded| recorded.level);
        self.digest(value, level.min(level_of(value)), now_ms)
    }

    fn digest(&mut self, value: Value<'_>, level: StreamLevel, now_ms: i64) -> Digested {
        let payload = match value {
            Value::String(bytes) => return of(of_string(bytes), bytes),
            Value::Payload(payload) => payload,
        };
        self.digester.set_rules(rules(now_ms, level));
        let body = &payload[..payload.len().saturating_sub(FOOTER_BYTES)];
        match self.digester.of_payload(payload) {
            Ok(key) => of(key, body),
            // Of a type that this redknot has not learnt: as a module's.
            Err(_) => of(UNREADABLE, body),
        }
    }
}

impl Default for Digesting {
    fn default() -> Self {
        Self::new()
    }
}

/// What `digested`, a value of the target that was digested for `recorded`, is to it.
pub fn likeness(
    recorded: &Recorded,
    digested: &Digested,
    value: Value<'_>,
    now_ms: i64,
) -> Likeness {
    let is_stream = recorded.kind == Kind::Stream && digested.key.kind == Kind::Stream;
    if recorded.has_digest(&digested.whole) && recorded.kind == digested.key.kind {
        return Likeness::Same;
    }
    if digested.key.kind != recorded.kind {
        return Likeness::OtherType;
    }
    if recorded.kind == Kind::Module || (is_stream && level_of(value) < recorded.level) {
        return Likeness::Unknown;
    }
    match has_lost_fields(recorded, now_ms) {
        true => Likeness::Unknown,
        false => Likeness::OtherValue,
    }
}

/// Whether a field of the hash has expired since it was recorded, so that it may be another one by now, or gone.
pub fn has_lost_fields(recorded: &Recorded, now_ms: i64) -> bool {
    recorded
        .fields_expire_ms
        .is_some_and(|first| first <= now_ms)
}

const UNREADABLE: KeyDigest = KeyDigest {
    kind: Kind::Module,
    digest: None,
    vacant: false,
};

fn of(key: KeyDigest, body: &[u8]) -> Digested {
    Digested {
        whole: key.digest.unwrap_or_else(|| of_bytes(body)),
        key,
    }
}

fn rules(now_ms: i64, stream_level: StreamLevel) -> DigestRules {
    DigestRules {
        now_ms,
        // Of what is written: fields whose expiries were dropped on the way have none.
        field_expiries: true,
        stream_level,
    }
}

fn level_of(value: Value<'_>) -> StreamLevel {
    let kind = match value {
        Value::Payload(payload) => footer::payload_type(payload).unwrap_or(string::KIND),
        Value::String(_) => string::KIND,
    };
    StreamLevel::of_type(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string_payload(value: &[u8]) -> Vec<u8> {
        let mut payload = bytes::BytesMut::new();
        string::append_payload(&mut payload, value);
        payload.to_vec()
    }

    fn recorded(entry: &Entry) -> Recorded {
        match entry.outcome() {
            Outcome::Value(recorded) => recorded,
            other => panic!("{other:?}"),
        }
    }

    fn like(entry: &Entry, value: Value<'_>, now_ms: i64) -> Likeness {
        let recorded = recorded(entry);
        let digested = Digesting::new().digested(value, Some(&recorded), now_ms);
        likeness(&recorded, &digested, value, now_ms)
    }

    /// A hash of the type that carries expiries of its fields (24): first expiry, then count and (expiry, field, value).
    fn hash_with_ttl(fields: &[(u64, &str, &str)]) -> Vec<u8> {
        let first = fields.iter().map(|(at, ..)| *at).min().expect("some");
        let mut payload = vec![24];
        payload.extend(first.to_le_bytes());
        payload.push(fields.len() as u8);
        for (at, field, value) in fields {
            // Relative to the first, plus one, as a length of one byte; 0 would be "never".
            payload.push((at - first + 1) as u8);
            for text in [field, value] {
                payload.push(text.len() as u8);
                payload.extend(text.as_bytes());
            }
        }
        payload.extend([12, 0]);
        let crc = footer::crc64(&payload);
        payload.extend(crc.to_le_bytes());
        payload
    }

    #[test]
    fn a_string_is_one_value_however_it_travels() {
        let payload = string_payload(b"value");
        let entry = Digesting::new().entry(b"k", Value::String(b"value"), Some(5_000), 0);
        assert_eq!(
            entry,
            Digesting::new().entry(b"k", Value::Payload(&payload), Some(5_000), 0)
        );
        assert_eq!(like(&entry, Value::Payload(&payload), 0), Likeness::Same);
        let other = string_payload(b"valuE");
        assert_eq!(
            like(&entry, Value::Payload(&other), 0),
            Likeness::OtherValue
        );
        assert_eq!(recorded(&entry).expires_ms, Some(5_000));
    }

    #[test]
    fn another_type_is_told_from_another_value() {
        let entry = Digesting::new().entry(b"k", Value::String(b"value"), None, 0);
        let hash = hash_with_ttl(&[(100, "f", "v")]);
        assert_eq!(like(&entry, Value::Payload(&hash), 0), Likeness::OtherType);
    }

    #[test]
    fn a_hash_is_judged_until_its_first_field_expires() {
        let payload = hash_with_ttl(&[(100, "f", "v"), (120, "g", "w")]);
        let other = hash_with_ttl(&[(100, "f", "v"), (120, "g", "x")]);
        let entry = Digesting::new().entry(b"k", Value::Payload(&payload), None, 50);
        assert_eq!(recorded(&entry).fields_expire_ms, Some(100));
        assert_eq!(like(&entry, Value::Payload(&payload), 60), Likeness::Same);
        assert_eq!(
            like(&entry, Value::Payload(&other), 60),
            Likeness::OtherValue
        );
        assert_eq!(like(&entry, Value::Payload(&other), 100), Likeness::Unknown);
        assert!(has_lost_fields(&recorded(&entry), 100));
        // A field that was gone when it was recorded is none that will go.
        let later = Digesting::new().entry(b"k", Value::Payload(&payload), None, 110);
        assert_eq!(recorded(&later).fields_expire_ms, Some(120));
    }

    #[test]
    fn what_nobody_can_read_is_known_by_its_bytes() {
        let unreadable = |content: &[u8]| {
            let mut payload = vec![250];
            payload.extend(content);
            payload.extend([12, 0]);
            let crc = footer::crc64(&payload);
            payload.extend(crc.to_le_bytes());
            payload
        };
        let one = unreadable(b"one");
        let entry = Digesting::new().entry(b"k", Value::Payload(&one), None, 0);
        assert_eq!(recorded(&entry).kind, Kind::Module);
        assert_eq!(like(&entry, Value::Payload(&one), 0), Likeness::Same);
        let two = unreadable(b"two");
        assert_eq!(like(&entry, Value::Payload(&two), 0), Likeness::Unknown);
    }
}
