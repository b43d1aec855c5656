//! What a repair tells: what it did about the findings of a comparison.
//!
//! # Invariant
//!
//! As for the copy: what is counted here is on disk.

use serde::{Deserialize, Serialize};

use super::limits::{HeldBy, Limits};

/// What became of findings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairCounters {
    /// Written anew, and equal on both sides afterwards.
    pub keys_repaired: u64,
    /// Deleted on the target, or gone there already when that was asked for; on neither side afterwards.
    pub keys_deleted: u64,
    /// Gone from the source meanwhile, and not on the target either.
    pub keys_vanished: u64,
    /// Payload bytes that the target acknowledged.
    pub payload_bytes_written: u64,
}

impl RepairCounters {
    /// Adds `other`, field by field.
    pub fn add(&mut self, other: &Self) {
        // Taken apart, so that a new counter does not compile until it is summed.
        let Self {
            keys_repaired,
            keys_deleted,
            keys_vanished,
            payload_bytes_written,
        } = other;
        self.keys_repaired += keys_repaired;
        self.keys_deleted += keys_deleted;
        self.keys_vanished += keys_vanished;
        self.payload_bytes_written += payload_bytes_written;
    }

    /// Findings that are none any more.
    pub fn settled(&self) -> u64 {
        self.keys_repaired + self.keys_deleted + self.keys_vanished
    }
}

/// What became of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RepairOutcome {
    /// See [`RepairCounters::keys_repaired`].
    Repaired,
    /// See [`RepairCounters::keys_deleted`].
    Deleted,
    /// See [`RepairCounters::keys_vanished`].
    Vanished,
    /// It is a finding still, perhaps another one.
    Differs,
}

/// How a repair stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RepairStatus {
    /// Number among the repairs of this migration, from 1.
    pub repair: u32,
    /// Number of the comparison whose findings it works on.
    pub compare: u32,
    /// The run that wrote this.
    pub run: u32,
    /// What it is doing, or how it ended.
    pub state: RepairState,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// When it had tried every finding, Unix milliseconds.
    pub ended_ms: Option<u64>,
    /// What it did so far, over all its runs.
    pub counters: RepairCounters,
    /// Findings that are left.
    pub findings_left: u64,
    /// Of those, keys that this run tried and that still differ.
    pub keys_differing: u64,
    /// Failures of a side that were tried again in this run.
    pub retries: u64,
    /// Why it waits, if it does.
    pub throttle: Option<String>,
    /// What it waits for, if it does.
    #[serde(default)]
    pub throttled_by: Option<HeldBy>,
    /// What its run keeps to.
    #[serde(default)]
    pub limits: Limits,
}

/// What a repair is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairState {
    /// Writing. If the lock is free, the process died.
    #[default]
    Repairing,
    /// Stopped on request, or by an error; the same command continues.
    Stopped,
    /// Every finding was tried.
    Repaired,
}
