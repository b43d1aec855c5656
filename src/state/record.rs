//! The on-disk format: what bincode writes into sled, and nothing that the copy computes with.
//!
//! # Invariant
//!
//! A change of any type here changes [`FORMAT_VERSION`], or old state folders would be misread.

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::progress::{Counters, Makeup};

mod audit;
mod big;
mod compare;
mod repair;

pub use audit::{Foundation, JournalSeal};
pub use big::{BigKeyId, BigRecord};
pub use compare::{
    CandidateRecord, CompareCanary, CompareEnded, CompareLane, CompareRecord, CompareRules,
    CompareStage, FindingRecord, FindingState, NAME_PIECE_BYTES, SampleRecord, SuspectId,
};
pub use repair::{Confirmed, RepairEnded, RepairRecord};

/// Version of everything in this file. A state with a higher one belongs to a newer redknot; one with a lower one was
/// made before the first release, and is refused as well.
pub const FORMAT_VERSION: u32 = 6;

/// How many of a lane's newest batches keep their key names, so that a cursor can be proven alive.
pub const CANARY_BATCHES: usize = 4;

/// How many key names each of them keeps at most.
pub const CANARY_KEYS: usize = 64;

/// How many bytes those names take at most; names that do not fit are left out. All of a lane's must fit into one record.
pub const CANARY_BYTES: usize = 1408;

/// How many bytes of a text for people are kept: reasons, errors, ends.
pub const TEXT_BYTES: usize = 512;

/// How many bytes of the name of a quarantined key are kept.
pub const QUARANTINED_NAME_BYTES: usize = 4096;

/// Who made this state and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// See [`FORMAT_VERSION`].
    pub format: u32,
    /// Name of the migration.
    pub name: String,
    /// What is moved.
    pub plan: Plan,
    /// The plan's fingerprint at the time of writing.
    pub fingerprint: [u8; 32],
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Version of redknot that created it.
    pub created_by: String,
    /// Runs so far; the current one has this number.
    pub runs: u32,
    /// Whether writing to the target has been allowed: from then on, keys on it may be ours.
    pub phase: Phase,
}

/// How far the migration has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Created; nothing has been sent to the target.
    Planned,
    /// Keys may have been sent to the target.
    Copying,
    /// Every lane is at its end.
    Copied,
}

/// Where a walk of a keyspace stands.
///
/// Redis uses the cursor 0 both to begin and to report the end; kept raw, "finished" and "not started" would be the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// Nothing scanned yet.
    #[default]
    Start,
    /// SCAN goes on with this cursor.
    At(std::num::NonZeroU64),
    /// The server returned 0.
    End,
}

/// Which server process answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerIdentity {
    /// `run_id` of INFO; `None` where it can't be known (proxies, no right to INFO).
    pub run_id: Option<String>,
    /// For people: `redis 7.0.15`, `valkey 9.1.2`; empty if unknown.
    pub version: String,
}

/// One database of a migration: everything that is needed to go on. Written in the same atomic step as the batches it counts.
///
/// On disk the canary is a record of its own ([`CanaryRecord`]), which is written less often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneCheckpoint {
    /// Current pass, from 1; 0 before the first.
    pub pass: u32,
    /// Up to here every batch of the pass is acknowledged and recorded.
    pub position: Position,
    /// Number of the next batch of this pass, from 0.
    pub next_seq: u64,
    /// The process that issued the cursors of this pass.
    pub source: ServerIdentity,
    /// The process that acknowledged the batches of this pass.
    pub target: ServerIdentity,
    /// Sums over the batches of this pass.
    pub counters: Counters,
    /// What the keys written in this pass are like. On disk a record of its own ([`MakeupRecord`]).
    #[serde(skip)]
    pub makeup: Box<Makeup>,
    /// The newest batches, oldest first, at most [`CANARY_BATCHES`]. After a crash they are some that were the newest a
    /// second before it. Never empty once the pass has a batch.
    pub canary: Vec<CanaryBatch>,
    /// Chain hash of the newest batch record over all passes; zeros before the first.
    pub chain: [u8; 32],
}

/// The canary of a lane, as it stood some time ago in its pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryRecord {
    /// Pass of the batches. If it is not the lane's current one, the canary is void.
    pub pass: u32,
    /// See [`LaneCheckpoint::canary`].
    pub batches: Vec<CanaryBatch>,
}

/// What the keys of a lane are like, in one of its passes. Written in the same step as the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MakeupRecord {
    /// If it is not the lane's current pass, nothing has been written in that one.
    pub pass: u32,
    /// See [`LaneCheckpoint::makeup`].
    pub makeup: Box<Makeup>,
}

/// Names that SCAN from `cursor_in` returned; if it does not return them again, the cursor is dead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryBatch {
    /// Cursor that was sent; 0 at the beginning.
    pub cursor_in: u64,
    /// Cursor that came back; 0 at the end.
    pub cursor_out: u64,
    /// COUNT that was sent.
    pub count: u32,
    /// DBSIZE at the time, if known: growth puts more keys into the same range.
    pub keyspace: Option<u64>,
    /// Up to [`CANARY_KEYS`] names of together up to [`CANARY_BYTES`].
    pub keys: Vec<Vec<u8>>,
}

/// How many batches are kept together in one record, at most; they are those of one commit.
pub const BATCHES_PER_RECORD: usize = 32;

/// A batch whose every key has an outcome. Never changed once written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRecord {
    /// Run that copied it.
    pub run: u32,
    /// Cursor that was sent; 0 at the beginning.
    pub cursor_in: u64,
    /// Cursor that came back; 0 at the end.
    pub cursor_out: u64,
    /// Outcomes.
    pub counters: Counters,
    /// BLAKE3 over the batch's key names, each preceded by its length as u32 LE, in SCAN's order.
    pub keys_digest: [u8; 32],
    /// When SCAN's reply came, Unix milliseconds.
    pub scanned_ms: u64,
    /// When the last key got its outcome, Unix milliseconds.
    pub acknowledged_ms: u64,
    /// Where what is kept of its keys lies; absent where that is not kept.
    pub recorded: Option<RecordedAt>,
    /// BLAKE3 over the chain hash before it and the encoding of all fields above with lane, pass and seq.
    pub chain: [u8; 32],
}

/// What is kept of a batch's keys, entry after entry ([`crate::recorded`]), in the file of its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedAt {
    /// First byte.
    pub at: u64,
    /// How many.
    pub bytes: u32,
    /// Their BLAKE3.
    pub digest: [u8; 32],
}

/// A key that could not be copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineRecord {
    /// Pass in which it was met.
    pub pass: u32,
    /// Batch in which it was met.
    pub seq: u64,
    /// Why, for the operator.
    pub reason: String,
    /// The server's words, if it was a server that refused.
    pub error: Option<String>,
    /// Size of the payload, if it had one.
    pub payload_bytes: Option<u64>,
    /// RDB type byte of the payload, if it had one.
    pub payload_type: Option<u8>,
    /// Unix milliseconds.
    pub at_ms: u64,
}

/// A quarantined key as it is stored. The name is in the record, since the engine's key is its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineEntry {
    /// The key's first [`QUARANTINED_NAME_BYTES`].
    pub name: Vec<u8>,
    /// Length of the whole name.
    pub name_bytes: u64,
    /// What is known about it.
    pub record: QuarantineRecord,
}

/// A pass that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassRecord {
    /// Index of the lane in the plan.
    pub lane: u32,
    /// From 1.
    pub pass: u32,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// Run that began it.
    pub run: u32,
    /// Why.
    pub reason: String,
}

/// How a run began and, if it could still say so, ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// From 1.
    pub run: u32,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// Process id.
    pub pid: u32,
    /// Machine.
    pub host: String,
    /// Version of redknot.
    pub version: String,
    /// When and how it ended. `None`: it is running, or it died.
    pub end: Option<RunEnd>,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// `complete`, `stopped by SIGINT`, or the error.
    pub how: String,
}
