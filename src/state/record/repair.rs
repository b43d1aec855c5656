//! What a repair keeps on disk beside the findings that it works on.

use serde::{Deserialize, Serialize};

use crate::progress::RepairCounters;

/// The newest repair of the migration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairRecord {
    /// From 1.
    pub repair: u32,
    /// Number of the comparison whose findings it works on. If it is not the newest one, the repair is over.
    pub compare: u32,
    /// Run that began it.
    pub run: u32,
    /// Unix milliseconds.
    pub began_ms: u64,
    /// Keys that may be deleted, if any.
    pub confirmed: Option<Confirmed>,
    /// What it did so far.
    pub counters: RepairCounters,
    /// Present once every finding was tried.
    pub ended: Option<RepairEnded>,
}

/// How many keys were said to be deleted. Those are meant that were found before it was said, and no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// Their number.
    pub keys: u64,
    /// Unix milliseconds.
    pub at_ms: u64,
}

/// The end of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairEnded {
    /// Run that ended it.
    pub run: u32,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Findings that are left.
    pub findings_left: u64,
}
