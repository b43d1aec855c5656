//! The keys of one SCAN reply, from their names to their outcomes.
//!
//! # Invariant
//!
//! Every key gets exactly one outcome, and a batch is handed on only when all have theirs.

use std::time::Instant;

use bytes::Bytes;

use crate::progress::{Arrived, Counters, Makeup};
use crate::rdb::footer::{self, FooterError};
use crate::rdb::string;
use crate::recorded::{ENTRY_BYTES, Entry};
use crate::state::record::{CANARY_KEYS, QuarantineRecord};

/// What became of one key. Recorded, counted and audited; never an error of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOutcome {
    /// The target acknowledged it.
    Written(Arrived),
    /// As [`Self::Written`]; the value was re-encoded for the target.
    Reencoded(Arrived),
    /// As [`Self::Written`]; it arrived in pieces.
    InPieces {
        /// What it was like.
        arrived: Arrived,
        /// It was read more than once, because it had changed meanwhile.
        read_again: bool,
    },
    /// Deleted or expired on the source between SCAN and RESTORE.
    Vanished,
    /// Already on the target, and the plan says to keep what is there.
    Kept,
    /// Not of a type that the plan asks for.
    Filtered,
    /// Could not be copied.
    Quarantined(Box<QuarantineRecord>),
}

/// Keys scanned, read, written and acknowledged together; the unit of a checkpoint.
pub struct Batch {
    /// Position in the pass.
    pub seq: u64,
    /// Cursor that was sent.
    pub cursor_in: u64,
    /// Cursor that came back.
    pub cursor_out: u64,
    /// When SCAN's reply came, Unix milliseconds.
    pub scanned_ms: u64,
    /// A process that died, or a connection that broke, may have written these keys already: BUSYKEY may be ourselves.
    pub in_doubt: bool,
    /// All names, one after the other, so that a batch is two allocations and not one a key.
    names: Vec<u8>,
    /// End of each name in `names`.
    ends: Vec<u32>,
    with_outcome: Vec<bool>,
    open: usize,
    counters: Counters,
    makeup: Box<Makeup>,
    quarantined: Vec<(Vec<u8>, QuarantineRecord)>,
    /// Entries of its keys, in the order of their outcomes; none, if none are kept.
    recorded: Vec<u8>,
}

/// A batch whose every key has an outcome.
pub struct FinishedBatch {
    /// See [`Batch`].
    pub seq: u64,
    /// See [`Batch`].
    pub cursor_in: u64,
    /// See [`Batch`].
    pub cursor_out: u64,
    /// See [`Batch`].
    pub scanned_ms: u64,
    /// Sums of the outcomes.
    pub counters: Counters,
    /// What the keys written are like.
    pub makeup: Box<Makeup>,
    /// As [`crate::state::record::BatchRecord::keys_digest`] says.
    pub keys_digest: [u8; 32],
    /// Up to [`CANARY_KEYS`] names.
    pub canary_keys: Vec<Vec<u8>>,
    /// The keys that could not be copied.
    pub quarantined: Vec<(Vec<u8>, QuarantineRecord)>,
    /// What the target should hold because of it, entry after entry; nothing, if that is not kept.
    pub recorded: Vec<u8>,
}

/// One key of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyRef {
    /// The batch.
    pub seq: u64,
    /// Its place in the batch.
    pub index: u32,
}

impl Batch {
    /// A batch without keys yet, for the reply to SCAN `cursor_in`.
    pub fn new(seq: u64, cursor_in: u64, cursor_out: u64, scanned_ms: u64, in_doubt: bool) -> Self {
        Self {
            seq,
            cursor_in,
            cursor_out,
            scanned_ms,
            in_doubt,
            names: Vec::new(),
            ends: Vec::new(),
            with_outcome: Vec::new(),
            open: 0,
            counters: Counters::default(),
            makeup: Box::default(),
            quarantined: Vec::new(),
            recorded: Vec::new(),
        }
    }

    /// Makes room for this many keys.
    pub fn reserve(&mut self, keys: usize) {
        self.ends.reserve(keys);
        self.with_outcome.reserve(keys);
    }

    /// Adds a name, in SCAN's order.
    pub fn push(&mut self, name: &[u8]) {
        self.names.extend_from_slice(name);
        self.ends
            .push(u32::try_from(self.names.len()).expect("a SCAN reply stays below 4 GiB"));
        self.with_outcome.push(false);
        self.open += 1;
        self.counters.keys_scanned += 1;
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether SCAN returned no key.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Number of keys without an outcome.
    pub fn open(&self) -> usize {
        self.open
    }

    /// The name of the key at `index`.
    pub fn name(&self, index: u32) -> &[u8] {
        let index = index as usize;
        let start = match index {
            0 => 0,
            _ => self.ends[index - 1] as usize,
        };
        &self.names[start..self.ends[index] as usize]
    }

    /// Keeps what the target should hold.
    pub fn keep(&mut self, entry: &Entry) {
        if self.recorded.is_empty() {
            self.recorded.reserve_exact(self.len() * ENTRY_BYTES);
        }
        self.recorded.extend_from_slice(entry.as_bytes());
    }

    /// Records what became of a key.
    ///
    /// # Panics
    ///
    /// If the key has an outcome already: then something was acknowledged twice, and no count can be trusted.
    pub fn record(&mut self, index: u32, outcome: KeyOutcome) {
        let slot = &mut self.with_outcome[index as usize];
        assert!(!*slot, "a key got a second outcome");
        *slot = true;
        self.open -= 1;
        match outcome {
            KeyOutcome::Written(arrived) => self.arrived(arrived),
            KeyOutcome::Reencoded(arrived) => {
                self.counters.keys_reencoded += 1;
                self.arrived(arrived);
            }
            KeyOutcome::InPieces {
                arrived,
                read_again,
            } => {
                self.counters.keys_in_pieces += 1;
                self.counters.keys_read_again += u64::from(read_again);
                self.arrived(arrived);
            }
            KeyOutcome::Vanished => self.counters.keys_vanished += 1,
            KeyOutcome::Kept => self.counters.keys_kept += 1,
            KeyOutcome::Filtered => self.counters.keys_filtered += 1,
            KeyOutcome::Quarantined(record) => {
                self.counters.keys_quarantined += 1;
                let name = self.name(index).to_vec();
                self.quarantined.push((name, *record));
            }
        }
    }

    fn arrived(&mut self, arrived: Arrived) {
        self.counters.keys_written += 1;
        self.counters.payload_bytes_written += arrived.payload_bytes;
        self.makeup.count(arrived);
    }

    /// The batch as it will be recorded.
    ///
    /// # Panics
    ///
    /// If a key has no outcome, or the accounts do not add up (promise P5).
    pub fn finish(self) -> FinishedBatch {
        assert!(
            self.open == 0 && self.counters.balance(),
            "a batch was finished with keys unaccounted for"
        );
        let mut hasher = blake3::Hasher::new();
        // Names and their lengths in two runs of memory: one call a key would cost more than the hashing.
        let mut framed = Vec::with_capacity(self.names.len() + 4 * self.ends.len());
        for index in 0..self.ends.len() as u32 {
            let name = self.name(index);
            framed.extend_from_slice(&(name.len() as u32).to_le_bytes());
            framed.extend_from_slice(name);
        }
        hasher.update(&framed);
        // Spread over the batch: neighbours in a hash table prove less than keys far apart.
        let step = (self.len() / CANARY_KEYS).max(1) as u32;
        let canary_keys = (0..self.len() as u32)
            .step_by(step as usize)
            .take(CANARY_KEYS)
            .map(|index| self.name(index).to_vec())
            .collect();
        FinishedBatch {
            seq: self.seq,
            cursor_in: self.cursor_in,
            cursor_out: self.cursor_out,
            scanned_ms: self.scanned_ms,
            counters: self.counters,
            makeup: self.makeup,
            keys_digest: hasher.finalize().into(),
            canary_keys,
            quarantined: self.quarantined,
            recorded: self.recorded,
        }
    }
}

/// A value on its way, as the source gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// What DUMP returned.
    Dumped(Bytes),
    /// A string's own bytes, which MGET returned: the payload is made around them when they are sent.
    String(Bytes),
    /// The value in an encoding that the target knows.
    Reencoded(Bytes),
}

impl Payload {
    /// Bytes that RESTORE will be given.
    pub fn size(&self) -> usize {
        match self {
            Self::Dumped(payload) | Self::Reencoded(payload) => payload.len(),
            Self::String(value) => string::payload_len(value.len()),
        }
    }

    /// The byte that says how the value is encoded.
    pub fn kind(&self) -> Option<u8> {
        match self {
            Self::Dumped(payload) | Self::Reencoded(payload) => footer::payload_type(payload),
            Self::String(_) => Some(string::KIND),
        }
    }

    /// Whether it is as the source made it, as far as that can be seen: MGET sends no checksum along.
    ///
    /// # Errors
    ///
    /// See [`footer::check`].
    pub fn check(&self) -> Result<(), FooterError> {
        match self {
            Self::Dumped(payload) | Self::Reencoded(payload) => footer::check(payload).map(drop),
            Self::String(_) => Ok(()),
        }
    }
}

/// A payload that waits for the target.
pub struct Ready {
    /// Whose payload.
    pub key: KeyRef,
    /// Has been checked.
    pub payload: Payload,
    /// When the key expires.
    pub expiry: Expiry,
    /// When the value was read from the socket.
    pub value_read_at: Instant,
    /// When its expiry was; never before the value.
    pub expiry_read_at: Instant,
}

/// When a key expires, as the source said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// At this instant of the source's clock, Unix milliseconds.
    At(i64),
    /// This many milliseconds after it was read; above 0.
    In(i64),
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_BYTES: Arrived = Arrived {
        payload_bytes: 10,
        ..Arrived::UNSEEN
    };

    fn batch(keys: &[&[u8]]) -> Batch {
        let mut batch = Batch::new(7, 0, 42, 1, false);
        for key in keys {
            batch.push(key);
        }
        batch
    }

    #[test]
    fn names_come_back_as_they_went_in() {
        let keys: [&[u8]; 4] = [b"a", b"", b"\x00\xff", b"long name"];
        let batch = batch(&keys);
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(batch.name(index as u32), *key);
        }
    }

    #[test]
    fn a_finished_batch_accounts_for_every_key() {
        let mut batch = batch(&[b"a", b"b", b"c", b"d", b"e"]);
        batch.record(0, KeyOutcome::Written(TEN_BYTES));
        batch.record(1, KeyOutcome::Vanished);
        batch.record(2, KeyOutcome::Kept);
        batch.record(3, KeyOutcome::Filtered);
        let record = QuarantineRecord {
            pass: 1,
            seq: 7,
            reason: "why".into(),
            error: None,
            payload_bytes: None,
            payload_type: None,
            at_ms: 0,
        };
        batch.record(4, KeyOutcome::Quarantined(Box::new(record.clone())));
        assert_eq!(batch.open(), 0);
        let finished = batch.finish();
        assert!(finished.counters.balance());
        assert_eq!(finished.counters.payload_bytes_written, 10);
        assert!(finished.makeup.is_of(finished.counters.keys_written));
        assert_eq!(finished.quarantined, [(b"e".to_vec(), record)]);
    }

    #[test]
    #[should_panic(expected = "second outcome")]
    fn a_second_acknowledgement_is_our_bug() {
        let mut batch = batch(&[b"a"]);
        batch.record(0, KeyOutcome::Vanished);
        batch.record(0, KeyOutcome::Written(TEN_BYTES));
    }

    #[test]
    #[should_panic(expected = "unaccounted")]
    fn an_open_batch_can_not_be_finished() {
        batch(&[b"a"]).finish();
    }

    #[test]
    fn the_digest_tells_names_apart_that_only_their_borders_tell_apart() {
        let digest = |keys: &[&[u8]]| {
            let mut batch = batch(keys);
            for index in 0..keys.len() as u32 {
                batch.record(index, KeyOutcome::Vanished);
            }
            batch.finish().keys_digest
        };
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }
}
