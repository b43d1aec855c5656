//! How a checkpoint moves: one batch after the other, each bound to the one before it by a hash.
//!
//! # Invariants
//!
//! - A lane's position is the `cursor_out` of its newest batch, and each batch's `cursor_in` is the position before it.
//! - The chain hash of a batch covers every batch of the lane before it, over all passes.

use std::num::NonZeroU64;

use super::commit::AcknowledgedBatch;
use super::layout;
use super::record::{
    BatchRecord, CANARY_BATCHES, CANARY_BYTES, CANARY_KEYS, CanaryBatch, LaneCheckpoint, Position,
    RecordedAt, ServerIdentity,
};
use crate::progress::Counters;

impl LaneCheckpoint {
    /// A lane that was never scanned: pass 0, nothing known.
    pub fn new() -> Self {
        Self {
            pass: 0,
            position: Position::Start,
            next_seq: 0,
            source: ServerIdentity::default(),
            target: ServerIdentity::default(),
            counters: Counters::default(),
            makeup: Box::default(),
            canary: Vec::new(),
            chain: [0; 32],
        }
    }

    /// The beginning of the pass after this one, on these servers. The chain goes on.
    #[must_use]
    pub fn next_pass(&self, source: ServerIdentity, target: ServerIdentity) -> Self {
        Self {
            pass: self.pass + 1,
            source,
            target,
            chain: self.chain,
            ..Self::new()
        }
    }

    /// Counts `batch` as the next one and returns its record. `recorded`: where what is kept of its keys lies.
    ///
    /// # Panics
    ///
    /// If the batch does not begin where the checkpoint stands, its accounts do not add up, or the pass has not begun:
    /// a cursor that was never acknowledged must not reach the disk.
    pub(super) fn advance(
        &mut self,
        lane: u32,
        batch: &AcknowledgedBatch,
        recorded: Option<RecordedAt>,
    ) -> BatchRecord {
        assert!(self.pass > 0, "lane {lane}: a batch before its pass began");
        assert_eq!(
            self.position.cursor(),
            Some(batch.cursor_in),
            "lane {lane}: batch {} does not begin at the position",
            self.next_seq
        );
        assert!(
            batch.counters.balance(),
            "lane {lane}: batch {} has a key without an outcome: {:?}",
            self.next_seq,
            batch.counters
        );
        assert!(
            batch.makeup.is_of(batch.counters.keys_written),
            "lane {lane}: batch {} has other keys written than it counts",
            self.next_seq
        );
        let mut record = BatchRecord {
            run: batch.run,
            cursor_in: batch.cursor_in,
            cursor_out: batch.cursor_out,
            counters: batch.counters,
            keys_digest: batch.keys_digest,
            scanned_ms: batch.scanned_ms,
            acknowledged_ms: batch.acknowledged_ms,
            recorded,
            chain: [0; 32],
        };
        record.chain = chain(&self.chain, lane, self.pass, self.next_seq, &record);
        self.chain = record.chain;
        self.position = Position::after(batch.cursor_out);
        self.next_seq += 1;
        self.counters.add(&batch.counters);
        self.makeup.add(&batch.makeup);
        self.remember(batch);
        record
    }

    /// Keeps the names of `batch` and forgets those of the oldest.
    fn remember(&mut self, batch: &AcknowledgedBatch) {
        if self.canary.len() == CANARY_BATCHES {
            self.canary.remove(0);
        }
        let mut bytes = 0;
        let keys = batch
            .canary_keys
            .iter()
            .filter(|name| {
                let fits = bytes + name.len() <= CANARY_BYTES;
                if fits {
                    bytes += name.len();
                }
                fits
            })
            .take(CANARY_KEYS)
            .cloned()
            .collect();
        self.canary.push(CanaryBatch {
            cursor_in: batch.cursor_in,
            cursor_out: batch.cursor_out,
            count: batch.count,
            keyspace: batch.keyspace,
            keys,
        });
    }
}

impl Default for LaneCheckpoint {
    fn default() -> Self {
        Self::new()
    }
}

impl Position {
    /// Where a walk stands after SCAN returned `cursor`.
    pub fn after(cursor: u64) -> Self {
        NonZeroU64::new(cursor).map_or(Self::End, Self::At)
    }

    /// The cursor to send next; `None` at the end.
    pub fn cursor(self) -> Option<u64> {
        match self {
            Self::Start => Some(0),
            Self::At(cursor) => Some(cursor.get()),
            Self::End => None,
        }
    }
}

/// The chain hash of `record`, whose own field `chain` is left out.
pub(super) fn chain(
    previous: &[u8; 32],
    lane: u32,
    pass: u32,
    seq: u64,
    record: &BatchRecord,
) -> [u8; 32] {
    let encoded = layout::encode(record);
    // `chain` is the last field and has a fixed width.
    let fields = &encoded[..encoded.len() - record.chain.len()];
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(&lane.to_le_bytes());
    hasher.update(&pass.to_le_bytes());
    hasher.update(&seq.to_le_bytes());
    hasher.update(fields);
    hasher.finalize().into()
}
