//! What is kept of one key, in 32 bytes.
//!
//! ```text
//!  0..13  the name's XXH3 (128 bits), cut
//! 13..25  the value's digest (BLAKE3), cut; of a hash whose fields expire 6 bytes of it, and when the first of them does
//! 25      what it is: a type and how much its digest knows of a stream, or what became of a key without a value
//! 26..32  when it expires on the target, Unix milliseconds; 0: never
//! ```
//!
//! # Invariant
//!
//! The form is on disk: a change of it changes the state's format.

use crate::digest::{StreamLevel, of_name, tag};
use crate::rdb::visit::Kind;

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 32;
/// Bytes of a name's digest that are kept.
pub const NAME_BYTES: usize = 13;
/// Bytes of a value's digest that are kept.
pub const VALUE_BYTES: usize = 12;
/// Bytes of an instant: enough for ten thousand years of milliseconds.
const INSTANT_BYTES: usize = 6;

const WHAT: usize = NAME_BYTES + VALUE_BYTES;
/// The lower bits of the byte at [`WHAT`] say which type or outcome.
const TAG: u8 = 0x0f;
/// Then two bits for the stream's level.
const LEVEL_SHIFT: u32 = 4;
/// The first instant at which a field expires takes half of the value's place.
const FIELDS_EXPIRE: u8 = 0x40;
/// Of an earlier pass; never on disk.
const EARLIER: u8 = 0x80;

/// The name's digest, as far as it is kept.
pub type NameDigest = [u8; NAME_BYTES];

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry([u8; ENTRY_BYTES]);

/// What the target should have under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A value that it acknowledged.
    Value(Recorded),
    /// A value that is ours, and that was not seen on its way: its acknowledgement was lost.
    Unseen,
    /// What was there before, which the plan said to keep.
    Kept,
    /// Nothing: the source lost the key while it was copied.
    Gone,
    /// Nothing that is known: the key could not be copied.
    Quarantined,
}

/// A value as far as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Its type; a module's, if nobody could read it.
    pub kind: Kind,
    /// How much its digest knows of a stream.
    pub level: StreamLevel,
    /// Its digest, cut. Of a module's value, of its bytes.
    pub digest: [u8; VALUE_BYTES],
    /// When the first of a hash's fields expires: the digest is cut shorter then, and is that of the hash only up to here.
    pub fields_expire_ms: Option<i64>,
    /// When the key expires.
    pub expires_ms: Option<i64>,
}

/// The digest of a name, as far as it is kept.
pub fn name_digest(name: &[u8]) -> NameDigest {
    let mut kept = [0; NAME_BYTES];
    kept.copy_from_slice(&of_name(name)[..NAME_BYTES]);
    kept
}

/// As much of a value's digest as is kept.
pub fn cut(digest: &[u8; 32]) -> [u8; VALUE_BYTES] {
    let mut kept = [0; VALUE_BYTES];
    kept.copy_from_slice(&digest[..VALUE_BYTES]);
    kept
}

impl Entry {
    /// What is kept of a key.
    pub fn new(name: &[u8], outcome: Outcome) -> Self {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..NAME_BYTES].copy_from_slice(&name_digest(name));
        bytes[WHAT] = match outcome {
            Outcome::Value(recorded) => {
                put_value(&mut bytes, &recorded);
                let fields = recorded.fields_expire_ms.map_or(0, |_| FIELDS_EXPIRE);
                tag(recorded.kind) | level_bits(recorded.level) << LEVEL_SHIFT | fields
            }
            Outcome::Unseen => 12,
            Outcome::Kept => 13,
            Outcome::Gone => 14,
            Outcome::Quarantined => 15,
        };
        Self(bytes)
    }

    /// As it is kept; `None` if that is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let entry = Self(bytes.try_into().ok()?);
        entry.read().map(|_| entry)
    }

    /// As it is to be kept.
    pub fn as_bytes(&self) -> &[u8; ENTRY_BYTES] {
        &self.0
    }

    /// The name's digest.
    pub fn name(&self) -> NameDigest {
        let mut name = [0; NAME_BYTES];
        name.copy_from_slice(&self.0[..NAME_BYTES]);
        name
    }

    /// What it says.
    ///
    /// # Panics
    ///
    /// Never for one that was made or parsed here.
    pub fn outcome(&self) -> Outcome {
        self.read().expect("entries are checked when they are made")
    }

    /// The same, as one of an earlier pass.
    #[must_use]
    pub fn of_earlier_pass(mut self) -> Self {
        self.0[WHAT] |= EARLIER;
        self
    }

    /// The same, as one of the present pass.
    #[must_use]
    pub fn of_this_pass(mut self) -> Self {
        self.0[WHAT] &= !EARLIER;
        self
    }

    /// Whether it is of an earlier pass.
    pub fn is_earlier(&self) -> bool {
        self.0[WHAT] & EARLIER != 0
    }

    fn read(&self) -> Option<Outcome> {
        let what = self.0[WHAT] & !EARLIER;
        Some(match what & TAG {
            12 => Outcome::Unseen,
            13 => Outcome::Kept,
            14 => Outcome::Gone,
            15 => Outcome::Quarantined,
            tag => Outcome::Value(self.value(kind_of(tag)?, what)),
        })
    }

    fn value(&self, kind: Kind, what: u8) -> Recorded {
        let mut digest = [0; VALUE_BYTES];
        digest.copy_from_slice(&self.0[NAME_BYTES..WHAT]);
        let fields_expire_ms = (what & FIELDS_EXPIRE != 0).then(|| {
            let ms = instant(&digest[VALUE_BYTES - INSTANT_BYTES..]);
            digest[VALUE_BYTES - INSTANT_BYTES..].fill(0);
            ms
        });
        let expires = instant(&self.0[WHAT + 1..]);
        Recorded {
            kind,
            level: match what >> LEVEL_SHIFT & 0b11 {
                0 => StreamLevel::Plain,
                1 => StreamLevel::Counted,
                2 => StreamLevel::Idempotent,
                _ => StreamLevel::Unowned,
            },
            digest,
            fields_expire_ms,
            expires_ms: (expires != 0).then_some(expires),
        }
    }
}

impl Recorded {
    /// Whether this is the digest of the value, as far as it is kept.
    pub fn has_digest(&self, digest: &[u8; 32]) -> bool {
        let kept = match self.fields_expire_ms {
            Some(_) => VALUE_BYTES - INSTANT_BYTES,
            None => VALUE_BYTES,
        };
        self.digest[..kept] == digest[..kept]
    }
}

fn put_value(bytes: &mut [u8; ENTRY_BYTES], recorded: &Recorded) {
    bytes[NAME_BYTES..WHAT].copy_from_slice(&recorded.digest);
    if let Some(ms) = recorded.fields_expire_ms {
        put_instant(&mut bytes[WHAT - INSTANT_BYTES..WHAT], ms);
    }
    if let Some(ms) = recorded.expires_ms {
        // 0 is "never".
        put_instant(&mut bytes[WHAT + 1..], ms.max(1));
    }
}

fn put_instant(place: &mut [u8], ms: i64) {
    let last = (1 << (8 * INSTANT_BYTES)) - 1;
    let ms = ms.clamp(0, last) as u64;
    place.copy_from_slice(&ms.to_be_bytes()[8 - INSTANT_BYTES..]);
}

fn instant(place: &[u8]) -> i64 {
    let ms = place
        .iter()
        .fold(0_u64, |ms, byte| ms << 8 | u64::from(*byte));
    ms as i64
}

/// The way back from [`tag`].
fn kind_of(tag: u8) -> Option<Kind> {
    Some(match tag {
        0 => Kind::String,
        1 => Kind::List,
        2 => Kind::Set,
        3 => Kind::Zset,
        4 => Kind::Hash,
        5 => Kind::Stream,
        6 => Kind::Array,
        7 => Kind::VectorSet,
        8 => Kind::Module,
        _ => return None,
    })
}

fn level_bits(level: StreamLevel) -> u8 {
    match level {
        StreamLevel::Plain => 0,
        StreamLevel::Counted => 1,
        StreamLevel::Idempotent => 2,
        StreamLevel::Unowned => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> Recorded {
        Recorded {
            kind: Kind::Stream,
            level: StreamLevel::Counted,
            digest: [7; VALUE_BYTES],
            fields_expire_ms: None,
            expires_ms: Some(1_764_000_000_123),
        }
    }

    #[test]
    fn what_is_kept_comes_back() {
        let outcomes = [
            Outcome::Value(recorded()),
            Outcome::Value(Recorded {
                expires_ms: None,
                level: StreamLevel::Unowned,
                kind: Kind::Module,
                ..recorded()
            }),
            Outcome::Unseen,
            Outcome::Kept,
            Outcome::Gone,
            Outcome::Quarantined,
        ];
        for outcome in outcomes {
            let entry = Entry::new(b"name", outcome);
            let read = Entry::parse(entry.as_bytes()).expect("just made");
            assert_eq!(read.outcome(), outcome);
            assert_eq!(read.name(), name_digest(b"name"));
            let earlier = read.of_earlier_pass();
            assert!(earlier.is_earlier() && !read.is_earlier());
            assert_eq!(earlier.outcome(), outcome);
            assert_eq!(earlier.of_this_pass(), read);
        }
    }

    #[test]
    fn a_hash_whose_fields_expire_keeps_half_a_digest_and_the_instant() {
        let entry = Entry::new(
            b"name",
            Outcome::Value(Recorded {
                kind: Kind::Hash,
                fields_expire_ms: Some(1_764_000_000_123),
                ..recorded()
            }),
        );
        let Outcome::Value(read) = entry.outcome() else {
            panic!("it is a value")
        };
        assert_eq!(read.fields_expire_ms, Some(1_764_000_000_123));
        let mut digest = [7; 32];
        digest[6..].fill(1);
        assert!(read.has_digest(&digest));
        digest[5] = 1;
        assert!(!read.has_digest(&digest));
    }

    #[test]
    fn an_instant_beyond_what_fits_is_the_last_one_and_none_is_never() {
        let check = |ms: i64, wanted: i64| {
            let expiring = Recorded {
                expires_ms: Some(ms),
                ..recorded()
            };
            let Outcome::Value(read) = Entry::new(b"", Outcome::Value(expiring)).outcome() else {
                panic!("it is a value")
            };
            assert_eq!(read.expires_ms, Some(wanted));
        };
        check(i64::MAX, (1 << 48) - 1);
        check(0, 1);
        check(5, 5);
    }

    #[test]
    fn other_bytes_are_no_entry() {
        assert_eq!(Entry::parse(&[0; ENTRY_BYTES - 1]), None);
        let mut bytes = *Entry::new(b"", Outcome::Kept).as_bytes();
        bytes[WHAT] = 10;
        assert_eq!(Entry::parse(&bytes), None);
    }
}
