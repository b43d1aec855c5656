//! Are both sides equal? Every key, by type, value and expiry, in both directions.
//!
//! # Invariants
//!
//! - Nothing is written on either side.
//! - Nothing here comes from the copy: a bug of the writer must not hide itself in the verifier.
//! - A key that differs is read again, with time between, before it is a finding.

use std::path::PathBuf;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::plan::Plan;
use crate::progress::{CompareStatus, Verdict};
use crate::shutdown::StopReason;
use crate::state::Durability;

pub mod sample;

use sample::Sample;

/// All that a comparison is given.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is compared: databases, filters, and whether expiries were kept.
    pub plan: Plan,
    /// The one side, with credentials.
    pub source: Endpoint,
    /// The other side, with credentials.
    pub target: Endpoint,
    /// How.
    pub options: CompareOptions,
    /// Name of the migration whose state keeps the result.
    pub name: String,
    /// Folder of all migrations.
    pub state_dir: PathBuf,
    /// Forget a comparison that was left unfinished, and begin one.
    pub restart: bool,
}

/// How is compared.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// Keys that only the target has are not looked for.
    pub one_way: bool,
    /// Only a part of the keys is looked at.
    pub sample: Option<Sample>,
    /// Chooses the part; the same seed chooses the same keys.
    pub seed: u64,
    /// How long a key that differs is left alone before it is read again; it doubles with each time.
    pub settle: Duration,
    /// So much may instants of expiry differ.
    pub ttl_tolerance: Duration,
    /// How strings are read.
    pub compare_with: CompareWith,
    /// COUNT of each SCAN.
    pub batch_keys: u32,
    /// Bytes of values held in memory at once. One larger value a side is admitted alone.
    pub in_flight_bytes_max: u64,
    /// How long a side may be away, without progress, until the run gives up.
    pub max_unavailable: Duration,
    /// How long a connect may take, and a due answer at first.
    pub timeout: Duration,
    /// What a checkpoint survives.
    pub durability: Durability,
}

/// How strings are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareWith {
    /// By MGET where there are enough of them, which is cheaper for both servers.
    Auto,
    /// By DUMP, as everything else.
    Dump,
}

/// How a comparison ended that did not fail.
#[derive(Debug, Clone)]
pub enum CompareEnd {
    /// Every key has its verdict.
    Compared {
        /// The result.
        status: CompareStatus,
        /// The first findings, for the summary.
        findings: Vec<FoundKey>,
    },
    /// Stopped on request; a checkpoint is saved.
    Stopped {
        /// Who asked.
        reason: StopReason,
        /// How far it is.
        status: CompareStatus,
    },
}

/// A finding as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// Database on the source.
    pub db: u32,
    /// The key, escaped.
    pub key: String,
    /// What is wrong with it.
    pub verdict: Verdict,
    /// Type of the value on the source; of the one on the target, if only that has it.
    pub key_type: String,
    /// Where it differs first, and the beginnings of both digests.
    pub detail: String,
}
