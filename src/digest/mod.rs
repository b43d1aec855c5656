//! One digest for a value, whatever its encoding: what two servers hold is equal if the digests are.
//!
//! A payload's bytes say little: the same set is an integer set, a listpack or a table, in any order, depending on the
//! server's version, its settings and the set's history. So the value is decoded and what it *means* is hashed, by BLAKE3
//! and under a key of its own for each type.
//!
//! # Invariants
//!
//! - Memory stays bounded, whatever the value's size: sequences are hashed as they come, and of sets only a count and a sum
//!   of member hashes are kept, so nothing is sorted.
//! - A module's value is never equal to anything, since only its module can interpret it.
//! - Expiry of a key is no part of its value and is not in here; that of a hash's fields is.
//!
//! # How sure "equal" is
//!
//! Members are summed modulo 2^128, as are a keyspace and its names. That two different values have one digest by accident has a
//! probability of about 2^-128 for each pair that is compared. Somebody who chooses the members can build a collision of
//! such sums with much less work (a generalised birthday attack), so a digest finds damage and faults; it is no signature.

mod frame;
mod groups;
mod hyperloglog;
mod keyspace;
mod names;
mod running;
#[cfg(test)]
mod tests;
mod visitor;

pub use groups::{Groups, GroupsFrame, GroupsSum};
pub use keyspace::{KeyspaceDigest, tag};
pub use names::NamesDigest;
pub use running::Running;
pub use visitor::Digester;

use crate::rdb::decode::DecodeError;
use crate::rdb::visit::Kind;
use frame::domain;

/// What both sides of a comparison agree on. Digests that were made by different rules must not be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestRules {
    /// Fields of hashes that expired by then are not there: servers remove them when they please. Unix milliseconds.
    pub now_ms: i64,
    /// When fields of hashes expire is part of the value. Where it was dropped on the way, it can't be.
    pub field_expiries: bool,
    /// What both payloads know of a stream: the lower of their levels.
    pub stream_level: StreamLevel,
}

/// How much a payload knows of a stream. What only one of two sides can know is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamLevel {
    /// Entries, the last id, groups with their pending entries and consumers (type 15, Redis 5.0).
    Plain,
    /// Also the entries ever added, the highest id deleted and what each group has read (types 19 and 21, Redis 7.0).
    Counted,
    /// Also what is remembered of idempotent producers (type 26, Redis 8.6).
    Idempotent,
    /// Also pending entries without an owner (type 27, Redis 8.8).
    Unowned,
}

impl StreamLevel {
    /// What a payload of this type knows; of a type that is no stream everything, so that the lower of two is the stream's.
    pub fn of_type(payload_type: u8) -> Self {
        match payload_type {
            15 => Self::Plain,
            19 | 21 => Self::Counted,
            26 => Self::Idempotent,
            _ => Self::Unowned,
        }
    }
}

/// What a value is, in 32 bytes.
#[derive(Debug, Clone, Copy)]
pub struct KeyDigest {
    /// Its type.
    pub kind: Kind,
    /// `None`: only a module can interpret it.
    pub digest: Option<[u8; 32]>,
    /// A hash of which all fields have expired: a server that has noticed has no such key.
    pub vacant: bool,
}

/// What two digests, made by the same rules, say of the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The values are equal.
    Equal,
    /// They are not.
    Different,
    /// Both are modules' values: nobody can tell but the module.
    Unverified,
}

impl KeyDigest {
    /// What can be said of two values. This is no `==`, because of values that can't be compared.
    pub fn compare(&self, other: &Self) -> Comparison {
        match (self.digest, other.digest) {
            (Some(one), Some(other)) if one == other => Comparison::Equal,
            (None, None) => Comparison::Unverified,
            _ => Comparison::Different,
        }
    }
}

/// The digest of a payload's value. The checksum is not looked at. For many payloads, [`Digester`] is cheaper.
///
/// # Errors
///
/// The payload can't be decoded.
pub fn of_payload(payload: &[u8], rules: DigestRules) -> Result<KeyDigest, DecodeError> {
    Digester::new(rules).of_payload(payload)
}

/// The digest of a string that was read by GET: the same as of its payload.
pub fn of_string(bytes: &[u8]) -> KeyDigest {
    KeyDigest {
        kind: Kind::String,
        digest: Some(string_digest(bytes)),
        vacant: false,
    }
}

/// The digest of a key's name, as `xxh128sum` prints it. It is made for every key that is copied, so it must be cheap; whoever
/// chooses names can make two of one digest.
pub fn of_name(name: &[u8]) -> [u8; 16] {
    xxhash_rust::xxh3::xxh3_128(name).to_be_bytes()
}

/// The digest of the bytes of a value that nobody here can interpret.
pub fn of_bytes(bytes: &[u8]) -> [u8; 32] {
    frame::hash(domain::BYTES, bytes)
}

/// A HyperLogLog caches its cardinality, and PFCOUNT refreshes the cache: that is no change of the value.
fn string_digest(bytes: &[u8]) -> [u8; 32] {
    match hyperloglog::around_cache(bytes) {
        None => frame::hash(domain::STRING, bytes),
        Some((before, cache, behind)) => {
            let mut frame = frame::Frame::new(domain::STRING);
            frame.put(before);
            frame.put(&[0; hyperloglog::CACHE_BYTES][..cache.len()]);
            frame.put(behind);
            frame.finish()
        }
    }
}
