//! The digest of a value that is told in pieces, over time: the same as of its payload.
//!
//! # Invariants
//!
//! - Memory stays bounded by [`SOON_MAX`] fields, whatever the value's size.
//! - Which fields of a hash have expired is decided at its end. What went while it was read, and was met before it went, is
//!   not in the digest.

use super::frame::{Frame, domain, summand};
use super::groups::GroupsSum;
use super::visitor::Pieces;
use super::{DigestRules, KeyDigest};
use crate::rdb::visit::{Kind, StreamId, StreamState, Visitor};

/// Most fields of which it is open whether they will have expired at the end, of 32 bytes each.
const SOON_MAX: usize = 200_000;

/// See the module.
pub struct Running {
    pieces: Pieces,
    /// What has come of a string that is not told at once.
    text: Option<Frame>,
    /// Fields that expire up to here are kept apart. Unix milliseconds.
    horizon_ms: i64,
    /// When they expire, and their hashes as they are summed.
    soon: Vec<(i64, u128)>,
}

impl Running {
    /// For a value of this kind. `rules.now_ms` is not used; fields that expire up to `horizon_ms` may have, at the end.
    pub fn new(kind: Kind, rules: DigestRules, horizon_ms: i64) -> Self {
        let mut pieces = Pieces::new(DigestRules {
            now_ms: i64::MIN,
            ..rules
        });
        pieces.begin(kind);
        Self {
            pieces,
            text: None,
            horizon_ms,
            soon: Vec::new(),
        }
    }

    /// The whole string.
    pub fn string(&mut self, bytes: &[u8]) {
        self.pieces.string(bytes);
    }

    /// More of a string that is longer than any HyperLogLog.
    pub fn text(&mut self, bytes: &[u8]) {
        let text = self.text.get_or_insert_with(|| Frame::new(domain::STRING));
        text.put(bytes);
    }

    /// The next element of a list.
    pub fn element(&mut self, bytes: &[u8]) {
        self.pieces.element(bytes);
    }

    /// A member of a set.
    pub fn member(&mut self, bytes: &[u8]) {
        self.pieces.member(bytes);
    }

    /// A member of a sorted set.
    pub fn scored(&mut self, member: &[u8], score: f64) {
        self.pieces.scored(member, score);
    }

    /// A field of a hash; false: too many of them expire soon.
    #[must_use]
    pub fn field(&mut self, field: &[u8], value: &[u8], expires_ms: Option<i64>) -> bool {
        match expires_ms {
            Some(ms) if ms <= self.horizon_ms => {
                let hash = self.pieces.field_hash(field, value, expires_ms);
                self.soon.push((ms, summand(hash)));
                self.soon.len() <= SOON_MAX
            }
            _ => {
                self.pieces.field(field, value, expires_ms);
                true
            }
        }
    }

    /// The next entry of a stream.
    pub fn entry(&mut self, id: StreamId, fields: &[&[u8]]) {
        self.pieces.entry(id, fields);
    }

    /// What a stream says of itself, behind its entries.
    pub fn stream(&mut self, stream: &StreamState) {
        self.pieces.stream(stream);
    }

    /// All its groups.
    pub fn groups(&mut self, groups: GroupsSum) {
        self.pieces.take_all(groups.count, groups.sum);
    }

    /// The digest at this time; `None`: fields have expired that were to last.
    pub fn finish(mut self, now_ms: i64) -> Option<KeyDigest> {
        if self.pieces.first_expiry().is_some_and(|ms| ms <= now_ms) {
            return None;
        }
        for (ms, sum) in self.soon {
            match ms > now_ms {
                true => self.pieces.take_all(1, sum),
                false => self.pieces.take_expired(),
            }
        }
        if let Some(mut text) = self.text {
            self.pieces.take_string(text.finish());
        }
        Some(self.pieces.finish())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::digest::{StreamLevel, of_string};

    fn rules(now_ms: i64) -> DigestRules {
        DigestRules {
            now_ms,
            field_expiries: true,
            stream_level: StreamLevel::Unowned,
        }
    }

    fn digest(running: Running) -> Option<[u8; 32]> {
        running.finish(0).expect("nothing expires").digest
    }

    proptest! {
        #[test]
        fn where_a_string_is_cut_does_not_show(bytes in vec(any::<u8>(), 0..70_000), cut in 1..30_000_usize) {
            let mut running = Running::new(Kind::String, rules(0), 0);
            bytes.chunks(cut).for_each(|piece| running.text(piece));
            if bytes.is_empty() {
                running.string(b"");
            }
            prop_assert_eq!(digest(running), of_string(&bytes).digest);
        }

        /// As if the payload had been read when all had come.
        #[test]
        fn what_has_expired_is_decided_at_the_end(
            fields in vec((any::<u8>(), prop::option::of(0..100_i64)), 0..40), horizon in 0..100_i64, now in 0..100_i64,
        ) {
            let mut running = Running::new(Kind::Hash, rules(0), horizon);
            let mut whole = Pieces::new(rules(now));
            whole.begin(Kind::Hash);
            for (number, (value, expires)) in fields.iter().enumerate() {
                let name = number.to_string();
                prop_assert!(running.field(name.as_bytes(), &[*value], *expires));
                whole.field(name.as_bytes(), &[*value], *expires);
            }
            let late = fields.iter().any(|(_, ms)| ms.is_some_and(|ms| ms > horizon && ms <= now));
            match running.finish(now) {
                None => prop_assert!(late),
                Some(digest) => {
                    prop_assert!(!late);
                    let wanted = whole.finish();
                    prop_assert_eq!((digest.digest, digest.vacant), (wanted.digest, wanted.vacant));
                }
            }
        }
    }

    #[test]
    fn memory_is_bounded_however_many_fields_expire() {
        let mut running = Running::new(Kind::Hash, rules(0), 10);
        let fits = (0..=SOON_MAX).filter(|_| running.field(b"f", b"v", Some(5)));
        assert_eq!(fits.count(), SOON_MAX);
    }
}
