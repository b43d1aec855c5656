//! What binds the state to its journal, and what stands in for batches that were lost.

use serde::{Deserialize, Serialize};

use super::Position;
use crate::progress::Counters;

/// How far the journal was, and what its newest line was, when this was written: whoever changes a line up to there, or
/// takes it away, has to change the state as well. One a run, its newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalSeal {
    /// Lines up to that one.
    pub lines: u64,
    /// BLAKE3 of that line, which binds all before it.
    pub head: [u8; 32],
}

/// Where a lane went on after its state was lost and made anew from the journal: its batches before it are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foundation {
    /// Pass of the milestone.
    pub pass: u32,
    /// First batch that may be found.
    pub next_seq: u64,
    /// Where that one begins.
    pub position: Position,
    /// Sums over the lost batches of this pass.
    pub counters: Counters,
    /// Sums over the lost batches of all passes.
    pub total: Counters,
    /// Chain hash of the last lost batch.
    pub chain: [u8; 32],
}
