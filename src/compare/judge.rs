//! What two reads of a key say, one from each side.
//!
//! # Invariants
//!
//! - Equal bytes are equal values; unequal bytes say nothing, and the digests decide.
//! - What only a module, or a newer redknot, can interpret is never equal by anything but its bytes.
//! - A key that is gone from both sides, or about to go, is no difference.

use std::time::Instant;

use bytes::Bytes;

use super::expiry::{Answer, Expiries, Expiry, NO_KEY};
use crate::digest::{Comparison, DigestRules, Digester, KeyDigest, StreamLevel, of_string};
use crate::plan::{FieldTtl, KeyType};
use crate::progress::{BothLive, Verdict};
use crate::rdb::decode::DecodeError;
use crate::rdb::footer::{self, FOOTER_BYTES};
use crate::rdb::visit::Kind;

/// What one side answered when it was asked for a key's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// It has no such key.
    Missing,
    /// What DUMP returned.
    Payload(Bytes),
    /// What MGET returned.
    String(Bytes),
    /// Either of them, of so many bytes that they were not kept.
    TooBig(u64),
    /// It refuses to show this key.
    Refused,
}

impl Value {
    /// Bytes that it holds in memory.
    pub fn len(&self) -> usize {
        match self {
            Self::Payload(bytes) | Self::String(bytes) => bytes.len(),
            Self::Missing | Self::TooBig(_) | Self::Refused => 0,
        }
    }

    /// Whether it was not kept.
    pub fn is_too_big(&self) -> bool {
        matches!(self, Self::TooBig(_))
    }
}

/// What the values say. The expiries have not been looked at.
#[derive(Debug, Clone)]
pub enum Values {
    /// They are equal.
    Equal {
        /// Of both.
        digest: KeyDigest,
        /// The bytes were not.
        other_bytes: bool,
    },
    /// They are not.
    Differ {
        /// Why not.
        verdict: Verdict,
        /// What each side has.
        sides: [Option<Seen>; 2],
    },
    /// Neither side has it, or only the target where that is not asked for.
    Gone,
    /// The source's value is not of a type that is asked for.
    Filtered,
    /// Nobody can tell whether they are equal.
    NotCompared,
}

/// A value as far as it matters when it differs.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Type and digest.
    pub digest: KeyDigest,
    /// Digest of the payload's bytes, for what has no digest.
    pub bytes: Option<[u8; 32]>,
    /// Length of the payload.
    pub len: usize,
}

/// Judges values; keeps the memory that it needs for that.
pub struct Judge {
    digester: Digester,
    /// Types that are asked for; empty: all.
    types: Vec<KeyType>,
    /// See [`DigestRules::field_expiries`].
    field_expiries: bool,
    /// Keys that only the target has are differences as well.
    pub extras: bool,
}

impl Judge {
    /// For keys of these types; all types, if there are none. Where the fields' expiries were dropped on the way, they are
    /// not compared.
    pub fn new(types: Vec<KeyType>, field_ttl: FieldTtl) -> Self {
        let field_expiries = field_ttl != FieldTtl::Drop;
        Self {
            digester: Digester::new(rules(0, StreamLevel::Unowned, field_expiries)),
            types,
            field_expiries,
            extras: false,
        }
    }

    /// What two values say, at `now_ms` of the source's clock.
    pub fn values(&mut self, source: &Value, target: &Value, now_ms: i64) -> Values {
        match (source, target) {
            (Value::String(one), Value::String(other)) => strings(one, other),
            (Value::Payload(one), Value::Payload(other)) => self.payloads(one, other, now_ms),
            (Value::Missing, Value::Missing) => Values::Gone,
            (Value::Missing, Value::Payload(other)) if self.extras => {
                self.one_sided(other, now_ms, Verdict::Extra)
            }
            (Value::Missing, _) => Values::Gone,
            (Value::Payload(one), Value::Missing) => self.one_sided(one, now_ms, Verdict::Missing),
            _ => Values::NotCompared,
        }
    }

    /// Both sides have the key.
    fn payloads(&mut self, source: &Bytes, target: &Bytes, now_ms: i64) -> Values {
        let level = |payload: &Bytes| {
            footer::payload_type(payload).map_or(StreamLevel::Unowned, StreamLevel::of_type)
        };
        self.digester.set_rules(rules(
            now_ms,
            level(source).min(level(target)),
            self.field_expiries,
        ));
        let of_source = self.digester.of_payload(source);
        if let Ok(digest) = &of_source
            && !self.is_wanted(digest.kind)
        {
            return Values::Filtered;
        }
        if body(source) == body(target) {
            return Values::Equal {
                // Equal bytes are equal, whether or not anybody can read them.
                digest: of_source.unwrap_or(UNREADABLE),
                other_bytes: false,
            };
        }
        let of_target = self.digester.of_payload(target);
        let (one, other) = match (of_source, of_target) {
            (Ok(one), Ok(other)) => (one, other),
            (one, other) => return unreadable(source, one, target, other),
        };
        let verdict = match one.compare(&other) {
            Comparison::Equal => {
                return Values::Equal {
                    digest: one,
                    other_bytes: true,
                };
            }
            Comparison::Unverified => return Values::NotCompared,
            Comparison::Different if one.kind != other.kind => Verdict::Type,
            Comparison::Different => Verdict::Value,
        };
        Values::Differ {
            verdict,
            sides: [Some(seen(source, one)), Some(seen(target, other))],
        }
    }

    /// Only one side has the key.
    fn one_sided(&mut self, payload: &Bytes, now_ms: i64, verdict: Verdict) -> Values {
        self.digester
            .set_rules(rules(now_ms, StreamLevel::Unowned, self.field_expiries));
        let digest = self.digester.of_payload(payload).unwrap_or(UNREADABLE);
        self.alone(seen(payload, digest), verdict)
    }

    fn alone(&self, seen: Seen, verdict: Verdict) -> Values {
        if seen.digest.vacant {
            return Values::Gone;
        }
        if !self.is_wanted(seen.digest.kind) {
            return Values::Filtered;
        }
        let seen = Some(seen);
        Values::Differ {
            verdict,
            sides: match verdict {
                Verdict::Extra => [None, seen],
                _ => [seen, None],
            },
        }
    }

    /// What two values say that were read and digested in pieces.
    pub fn in_pieces(&self, sides: [Option<Seen>; 2]) -> Values {
        let (one, other) = match sides {
            [None, Some(other)] if self.extras => return self.alone(other, Verdict::Extra),
            [None, _] => return Values::Gone,
            [Some(one), None] => return self.alone(one, Verdict::Missing),
            [Some(one), Some(other)] => (one.digest, other.digest),
        };
        if !self.is_wanted(one.kind) {
            return Values::Filtered;
        }
        let verdict = match one.compare(&other) {
            Comparison::Equal => {
                return Values::Equal {
                    digest: one,
                    other_bytes: false,
                };
            }
            Comparison::Unverified => return Values::NotCompared,
            Comparison::Different if one.kind != other.kind => Verdict::Type,
            Comparison::Different => Verdict::Value,
        };
        Values::Differ { verdict, sides }
    }

    /// Whether the expiries of fields are compared.
    pub fn compares_field_expiries(&self) -> bool {
        self.field_expiries
    }

    fn is_wanted(&self, kind: Kind) -> bool {
        self.types.is_empty() || self.types.iter().any(|wanted| kind_of(*wanted) == kind)
    }

    /// Whether strings are asked for.
    pub fn wants_strings(&self) -> bool {
        self.is_wanted(Kind::String)
    }
}

/// What is said of a value that can't be read, and so is compared by its bytes alone.
const UNREADABLE: KeyDigest = KeyDigest {
    kind: Kind::Module,
    digest: None,
    vacant: false,
};

fn rules(now_ms: i64, stream_level: StreamLevel, field_expiries: bool) -> DigestRules {
    DigestRules {
        now_ms,
        field_expiries,
        stream_level,
    }
}

/// A payload without its footer: two servers stamp other versions on the same value.
fn body(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().saturating_sub(FOOTER_BYTES)]
}

fn strings(source: &Bytes, target: &Bytes) -> Values {
    let digest = of_string(source);
    if source == target {
        return Values::Equal {
            digest,
            other_bytes: false,
        };
    }
    let other = of_string(target);
    match digest.compare(&other) {
        Comparison::Equal => Values::Equal {
            digest,
            other_bytes: true,
        },
        Comparison::Different | Comparison::Unverified => Values::Differ {
            verdict: Verdict::Value,
            sides: [Some(seen(source, digest)), Some(seen(target, other))],
        },
    }
}

/// At least one of two unequal payloads can't be decoded: damaged on its way, and then it is read again; or of a type
/// that this redknot has not learnt.
fn unreadable(
    source: &Bytes,
    of_source: Result<KeyDigest, DecodeError>,
    target: &Bytes,
    of_target: Result<KeyDigest, DecodeError>,
) -> Values {
    let intact = footer::check(source).is_ok() && footer::check(target).is_ok();
    if intact {
        return Values::NotCompared;
    }
    let side =
        |payload, digest: Result<KeyDigest, _>| Some(seen(payload, digest.unwrap_or(UNREADABLE)));
    Values::Differ {
        verdict: Verdict::Value,
        sides: [side(source, of_source), side(target, of_target)],
    }
}

fn seen(payload: &Bytes, digest: KeyDigest) -> Seen {
    Seen {
        digest,
        bytes: match digest.digest {
            Some(_) => None,
            None => Some(blake3::hash(body(payload)).into()),
        },
        len: payload.len(),
    }
}

/// The kind that the decoder calls a type by.
pub fn kind_of(key_type: KeyType) -> Kind {
    match key_type {
        KeyType::String => Kind::String,
        KeyType::List => Kind::List,
        KeyType::Set => Kind::Set,
        KeyType::Zset => Kind::Zset,
        KeyType::Hash => Kind::Hash,
        KeyType::Stream => Kind::Stream,
    }
}

/// What the TYPE command calls a kind, where it has a word of its own.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "string",
        Kind::List => "list",
        Kind::Set => "set",
        Kind::Zset => "zset",
        Kind::Hash => "hash",
        Kind::Stream => "stream",
        Kind::Array => "array",
        Kind::VectorSet => "vectorset",
        Kind::Module => "module",
    }
}

/// What becomes of a key.
#[derive(Debug, Clone)]
pub enum Judged {
    /// Both sides have the same.
    Equal {
        /// Of both.
        digest: KeyDigest,
        /// The bytes were not the same.
        other_bytes: bool,
        /// For how long it lives on, if that was asked.
        lives: Option<BothLive>,
    },
    /// It is not on the source, or soon will not be.
    Gone,
    /// Not of a type that is asked for.
    Filtered,
    /// Nobody can tell.
    NotCompared,
    /// It differs.
    Differs(Box<Difference>),
}

/// How a key differs.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Why.
    pub verdict: Verdict,
    /// What each side has.
    pub sides: [Option<Seen>; 2],
    /// When it expires there, if that was asked.
    pub expiries: [Option<Expiry>; 2],
    /// Whether the expiries are instants that stay the same each time that they are read.
    pub exact: bool,
    /// For how long it lives on, if both sides have it with the same value and that was asked.
    pub lives: Option<BothLive>,
}

impl Difference {
    /// Digest of all that was seen on a side: the same if nothing has changed there.
    pub fn seen(&self, side: usize) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new();
        if let Some(seen) = &self.sides[side] {
            hasher.update(kind_name(seen.digest.kind).as_bytes());
            hasher.update(&seen.digest.digest.or(seen.bytes).unwrap_or_default());
        }
        match self.expiries[side] {
            None => {}
            Some(Expiry::Never) => {
                hasher.update(b"never");
            }
            Some(Expiry::At(ms)) if self.exact => {
                hasher.update(&ms.to_le_bytes());
            }
            Some(Expiry::At(_)) => {
                hasher.update(b"some time");
            }
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        digest
    }

    /// Bytes of the larger payload.
    pub fn payload_bytes(&self) -> u64 {
        self.sides
            .iter()
            .flatten()
            .map(|seen| seen.len as u64)
            .max()
            .unwrap_or(0)
    }
}

/// What the values and then the expiries say.
pub fn judge(values: Values, answers: [Answer; 2], expiries: &Expiries, now: Instant) -> Judged {
    let [source, target] = answers;
    let expiry = |side: usize| match answers[side].ms {
        NO_KEY => None,
        _ => Some(expiries.of(side, answers[side])),
    };
    let differs = |verdict, sides| {
        Judged::Differs(Box::new(Difference {
            verdict,
            sides,
            expiries: [expiry(0), expiry(1)],
            exact: expiries.is_exact(),
            lives: (verdict == Verdict::Ttl).then(|| expiries.lives(answers, now)),
        }))
    };
    let ending = |side: usize| expiries.is_ending(side, answers[side], now);
    match values {
        Values::Gone => Judged::Gone,
        Values::Filtered => Judged::Filtered,
        Values::NotCompared => Judged::NotCompared,
        Values::Differ { verdict, sides } => match verdict {
            Verdict::Missing if source.ms == NO_KEY || ending(0) => Judged::Gone,
            Verdict::Extra if target.ms == NO_KEY || ending(1) => Judged::Gone,
            _ => differs(verdict, sides),
        },
        Values::Equal {
            digest,
            other_bytes,
        } => {
            let seen = Some(Seen {
                digest,
                bytes: None,
                len: 0,
            });
            match (source.ms, target.ms) {
                // It went while it was read.
                (NO_KEY, _) => Judged::Gone,
                (_, NO_KEY) if ending(0) => Judged::Gone,
                (_, NO_KEY) => differs(Verdict::Missing, [seen, None]),
                _ if expiries.equal(expiries.of(0, source), expiries.of(1, target)) => {
                    Judged::Equal {
                        digest,
                        other_bytes,
                        lives: Some(expiries.lives(answers, now)),
                    }
                }
                _ => differs(Verdict::Ttl, [seen, seen]),
            }
        }
    }
}

/// What the values say, where expiries were not asked.
pub fn without_expiries(values: Values) -> Judged {
    match values {
        Values::Gone => Judged::Gone,
        Values::Filtered => Judged::Filtered,
        Values::NotCompared => Judged::NotCompared,
        Values::Equal {
            digest,
            other_bytes,
        } => Judged::Equal {
            digest,
            other_bytes,
            lives: None,
        },
        Values::Differ { verdict, sides } => Judged::Differs(Box::new(Difference {
            verdict,
            sides,
            expiries: [None; 2],
            exact: false,
            lives: None,
        })),
    }
}

#[cfg(test)]
mod tests;
