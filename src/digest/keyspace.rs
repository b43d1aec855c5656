//! A digest of a whole database, in one line.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::KeyDigest;
use super::frame::{Frame, domain, hash, summand};
use crate::rdb::visit::Kind;

/// Sums up keys with their types and values, in any order: databases are equal if their lines are.
///
/// Only digests that were made by the same rules can be compared. A value that only a module can interpret counts with
/// its name and type alone, and [`Self::unverified`] says how many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyspaceDigest {
    keys: u64,
    unverified: u64,
    sum: u128,
}

impl KeyspaceDigest {
    /// Takes a key in.
    pub fn add(&mut self, key: &[u8], value: &KeyDigest) {
        self.keys = self.keys.wrapping_add(1);
        self.unverified = self.unverified.wrapping_add(unverified(value));
        self.sum = self.sum.wrapping_add(of_key(key, value));
    }

    /// Takes a key out that was taken in with this value before.
    pub fn remove(&mut self, key: &[u8], value: &KeyDigest) {
        self.keys = self.keys.wrapping_sub(1);
        self.unverified = self.unverified.wrapping_sub(unverified(value));
        self.sum = self.sum.wrapping_sub(of_key(key, value));
    }

    /// Takes in what another part of the same database sums up to.
    pub fn merge(&mut self, other: &Self) {
        self.keys = self.keys.wrapping_add(other.keys);
        self.unverified = self.unverified.wrapping_add(other.unverified);
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// Keys that are in it.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// How many of them are there by name and type only.
    pub fn unverified(&self) -> u64 {
        self.unverified
    }
}

/// 32 hexadecimal digits of the number of keys and their sum.
impl fmt::Display for KeyspaceDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut frame = Frame::new(domain::KEYSPACE);
        frame.put_u64(self.keys);
        frame.put_u64(self.unverified);
        frame.put(&self.sum.to_le_bytes());
        write!(f, "{:032x}", summand(frame.finish()))
    }
}

fn unverified(value: &KeyDigest) -> u64 {
    u64::from(value.digest.is_none())
}

fn of_key(key: &[u8], value: &KeyDigest) -> u128 {
    // Summed for every key that is compared: one allocation, and nothing that grows.
    let digest = value.digest.unwrap_or_default();
    let mut bytes = Vec::with_capacity(1 + digest.len() + key.len());
    bytes.push(tag(value.kind));
    bytes.extend_from_slice(&digest);
    bytes.extend_from_slice(key);
    summand(hash(domain::KEY, &bytes))
}

/// Stored, in digests and in what is recorded of keys: a number, once given, stays.
pub fn tag(kind: Kind) -> u8 {
    match kind {
        Kind::String => 0,
        Kind::List => 1,
        Kind::Set => 2,
        Kind::Zset => 3,
        Kind::Hash => 4,
        Kind::Stream => 5,
        Kind::Array => 6,
        Kind::VectorSet => 7,
        Kind::Module => 8,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::digest::of_string;

    fn module() -> KeyDigest {
        KeyDigest {
            kind: Kind::Module,
            digest: None,
            vacant: false,
        }
    }

    fn keyspace<'a>(keys: impl IntoIterator<Item = &'a (Vec<u8>, Vec<u8>)>) -> KeyspaceDigest {
        let mut digest = KeyspaceDigest::default();
        for (key, value) in keys {
            digest.add(key, &of_string(value));
        }
        digest
    }

    proptest! {
        #[test]
        fn neither_order_nor_parts_nor_what_was_taken_out_shows(
            keys in vec((vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..9)), 1..9), at in any::<prop::sample::Index>(),
        ) {
            let whole = keyspace(&keys);
            prop_assert_eq!(keyspace(keys.iter().rev()), whole);
            let (one, other) = keys.split_at(at.index(keys.len()));
            let mut parts = keyspace(one);
            parts.merge(&keyspace(other));
            prop_assert_eq!(parts, whole);
            let (key, value) = &keys[at.index(keys.len())];
            let mut without = whole;
            without.remove(key, &of_string(value));
            prop_assert_ne!(without.to_string(), whole.to_string());
            without.add(key, &of_string(value));
            prop_assert_eq!(without.to_string(), whole.to_string());
        }
    }

    #[test]
    fn a_key_a_type_and_a_value_each_change_the_line() {
        let line = |key: &[u8], value: &KeyDigest| {
            let mut digest = KeyspaceDigest::default();
            digest.add(key, value);
            digest.to_string()
        };
        let other_kind = KeyDigest {
            kind: Kind::List,
            ..of_string(b"v")
        };
        let lines = [
            KeyspaceDigest::default().to_string(),
            line(b"k", &of_string(b"v")),
            line(b"l", &of_string(b"v")),
            line(b"k", &of_string(b"w")),
            line(b"k", &other_kind),
            line(b"k", &module()),
        ];
        for (index, line) in lines.iter().enumerate() {
            assert_eq!(line.len(), 32, "{line}");
            assert!(!lines[..index].contains(line), "{index}");
        }
    }

    #[test]
    fn what_nobody_could_verify_is_counted() {
        let mut digest = KeyspaceDigest::default();
        digest.add(b"m", &module());
        digest.add(b"s", &of_string(b"v"));
        assert_eq!((digest.keys(), digest.unverified()), (2, 1));
        digest.remove(b"m", &module());
        assert_eq!((digest.keys(), digest.unverified()), (1, 0));
        assert_eq!(digest, keyspace([&(b"s".to_vec(), b"v".to_vec())]));
    }

    #[test]
    fn it_survives_being_stored() {
        let digest = keyspace(&[(b"k".to_vec(), b"v".to_vec())]);
        let stored = serde_json::to_string(&digest).expect("numbers");
        let read: KeyspaceDigest = serde_json::from_str(&stored).expect("just written");
        assert_eq!(read, digest);
    }
}
