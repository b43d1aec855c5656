//! What a comparison keeps on disk: where it stands, what it suspects, what it found.
//!
//! # Invariant
//!
//! A name may be longer than a record, so it is kept in pieces beside the record that is about its key.

use serde::{Deserialize, Serialize};

use super::{CanaryBatch, Position, ServerIdentity};
use crate::digest::{KeyspaceDigest, NamesDigest};
use crate::progress::{CompareCounters, ComparedLives, Verdict};

/// How many bytes of a name are kept in one record.
pub const NAME_PIECE_BYTES: usize = 6 * 1024;

/// The newest comparison of the migration. Written when it begins, when a lane begins anew, and when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareRecord {
    /// From 1.
    pub compare: u32,
    /// Run that began it.
    pub run: u32,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// How it compares: a comparison that went on under other rules would mix results.
    pub rules: CompareRules,
    /// The highest [`CompareLane::epoch`] so far, over all comparisons.
    pub epochs: u32,
    /// How far the copy was when it began, a pass and a batch for each lane: what is copied later, it has not seen.
    pub copied: Vec<(u32, u64)>,
    /// Its result, once every key has a verdict.
    pub ended: Option<CompareEnded>,
}

/// What of a command line decides a comparison's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareRules {
    /// Which part of the keys is looked at; `None`: all.
    pub sample: Option<SampleRecord>,
    /// Keys that only the target has are not looked for.
    pub one_way: bool,
    /// Instants of expiry may differ by so much, milliseconds; `None`: expiries are not compared.
    pub ttl_tolerance_ms: Option<u64>,
    /// The target alone is looked at, and what the copy has kept of each key.
    pub recorded: bool,
}

/// A part of the keys: those whose hash, by `seed`, is in the range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleRecord {
    /// As it was asked for, for people: `5%`, `100k`, `3/8`.
    pub asked: String,
    /// Chooses among the keys.
    pub seed: u64,
    /// First hash that is in.
    pub first: u64,
    /// Last hash that is in.
    pub last: u64,
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareEnded {
    /// Run that ended it.
    pub run: u32,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Sums over all lanes.
    pub counters: CompareCounters,
    /// Digest of all keys compared on the source, hex.
    pub source_digest: String,
    /// Digest of all keys compared on the target, hex.
    pub target_digest: String,
    /// What was not compared, in sentences.
    pub not_compared: Vec<String>,
}

/// One database of a comparison: everything that is needed to go on.
///
/// On disk the canary is a record of its own ([`CompareCanary`]), which is written less often.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareLane {
    /// Number of this walk among all walks of all lanes, from 1. A lane that begins anew takes the next one, and what was
    /// recorded in the old one counts no more.
    pub epoch: u32,
    /// What is being done.
    pub stage: CompareStage,
    /// Up to here the database that the stage walks was looked at.
    pub position: Position,
    /// The source process that was read.
    pub source: ServerIdentity,
    /// The target process that was read.
    pub target: ServerIdentity,
    /// Sums over this walk.
    pub counters: CompareCounters,
    /// For how long the keys live on whose values are equal, if expiries are compared.
    pub lives: ComparedLives,
    /// Of all keys compared: what the source has.
    pub source_keys: KeyspaceDigest,
    /// What the target has.
    pub target_keys: KeyspaceDigest,
    /// Names that the source's SCAN returned and that the target had when they were read.
    pub names_of_both: NamesDigest,
    /// Names that the target's SCAN returned while the source was walked.
    pub names_of_target: NamesDigest,
    /// Up to here they were. At its end, and if both sums are the same, the target has no other names.
    pub listed_to: Position,
    /// The newest batches of the stage, as for the copy.
    pub canary: Vec<CanaryBatch>,
}

impl CompareLane {
    /// Whether all names that the target has are known to be names that both sides have.
    pub fn lists_no_others(&self) -> bool {
        self.listed_to == Position::End && self.names_of_both == self.names_of_target
    }

    /// The target's names are to be listed from the beginning.
    pub fn forget_listed(&mut self) {
        self.names_of_target = NamesDigest::default();
        self.listed_to = Position::Start;
        if self.stage == CompareStage::Source {
            self.counters.target_keys_scanned = 0;
            self.counters.target_keys_unselected = 0;
        }
    }
}

/// The parts of comparing a database, in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CompareStage {
    /// Walks the source and reads both sides; lists the target's names beside it.
    #[default]
    Source,
    /// Walks the target and asks the source which of its keys it has.
    Target,
    /// Reads again what differed.
    Recheck,
    /// Every key has its verdict.
    Done,
}

/// Names by which the cursor of a comparison's walk can be proven alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompareCanary {
    /// Walk of the batches. If it is not the lane's current one, the canary is void.
    pub epoch: u32,
    /// Stage of the batches; likewise.
    pub stage: CompareStage,
    /// See [`CompareLane::canary`].
    pub batches: Vec<CanaryBatch>,
}

/// A key that a comparison keeps a record of: the walk that met it, and the first half of its name's BLAKE3. The order
/// is that of iteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SuspectId {
    /// See [`CompareLane::epoch`].
    pub epoch: u32,
    /// Of the name.
    pub digest: [u8; 16],
}

impl SuspectId {
    /// The key `name` in a walk.
    pub fn of(epoch: u32, name: &[u8]) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&blake3::hash(name).as_bytes()[..16]);
        Self { epoch, digest }
    }
}

/// A key that differed when it was read, and is read again before that is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateRecord {
    /// What the last read said.
    pub verdict: Verdict,
    /// Digest of all that the last read saw on the source: existence, type, value, expiry.
    pub source_seen: [u8; 16],
    /// See `source_seen`.
    pub target_seen: [u8; 16],
    /// When it was first seen to differ, Unix milliseconds.
    pub first_ms: u64,
    /// When it was last read, Unix milliseconds.
    pub read_ms: u64,
    /// Times that it was read again.
    pub rounds: u32,
    /// Times in a row that reading it again showed the same.
    pub unchanged: u32,
    /// Bytes of the larger payload, as far as known.
    pub payload_bytes: u64,
    /// The walk of the target met it: it is not among the keys that the source's SCAN returned.
    pub from_target: bool,
}

/// A key that is not equal on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingRecord {
    /// What is wrong with it.
    pub verdict: Verdict,
    /// Type of the value on the source; of the one on the target, if only that has it.
    pub key_type: String,
    /// Where it differs first, and the beginnings of both digests. Names of fields in it are escaped.
    pub detail: String,
    /// Digest of the value on the source, if it has one that can be digested.
    pub source_digest: Option<[u8; 32]>,
    /// See `source_digest`.
    pub target_digest: Option<[u8; 32]>,
    /// Larger payload of the two, bytes.
    pub payload_bytes: u64,
    /// Unix milliseconds.
    pub found_ms: u64,
    /// What has been done about it.
    pub state: FindingState,
}

/// What has been done about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FindingState {
    /// Nothing.
    Open,
    /// The target was made like the source, and both were equal afterwards.
    Repaired {
        /// Run that did it.
        run: u32,
        /// Unix milliseconds.
        at_ms: u64,
    },
}
