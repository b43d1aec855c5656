//! Keys that are compared together: what one SCAN returned, or a page of candidates.

use super::judge::{Difference, Judged};
use super::names::Names;
use crate::client::handshake::unix_ms;
use crate::digest::{KeyspaceDigest, NamesDigest};
use crate::progress::{CompareCounters, ComparedLives};
use crate::state::record::{CANARY_KEYS, CandidateRecord};

/// A key of a batch that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyRef {
    /// Number of its batch in this run.
    pub seq: u64,
    /// Which of the batch's names.
    pub index: u32,
}

/// A batch some of whose keys have no verdict yet.
pub struct Batch {
    /// Number in this run.
    pub seq: u64,
    /// Cursors that it lies between; absent for a page of candidates.
    pub cursors: Option<(u64, u64)>,
    /// All of them, also those that are not looked at.
    pub names: Names,
    open: usize,
    counted: Counted,
    /// Kept key by key instead of being counted, if it is a page of candidates.
    judged: Option<Vec<(u32, Judged)>>,
}

/// What the keys of a batch sum up to.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// How many came to which end.
    pub counters: CompareCounters,
    /// Of all keys compared: what the source has.
    pub source_keys: KeyspaceDigest,
    /// What the target has.
    pub target_keys: KeyspaceDigest,
    /// Names that both sides have.
    pub names_of_both: NamesDigest,
    /// For how long the equal ones live on.
    pub lives: ComparedLives,
    /// Keys that differ, to be read again.
    pub candidates: Vec<(Vec<u8>, CandidateRecord)>,
}

/// A batch whose every key has its verdict.
pub struct FinishedBatch {
    /// See [`Batch::cursors`].
    pub cursors: Option<(u64, u64)>,
    /// Sums of a batch that SCAN returned.
    pub counted: Counted,
    /// Verdicts of a page of candidates, with the numbers of their names.
    pub judged: Vec<(u32, Judged)>,
    /// Some names, to prove the cursor with.
    pub canary_keys: Vec<Vec<u8>>,
}

impl Batch {
    /// What SCAN returned; `open` of its keys are looked at.
    pub fn scanned(seq: u64, cursors: (u64, u64), names: Names, open: usize) -> Self {
        Self {
            seq,
            cursors: Some(cursors),
            names,
            open,
            counted: Counted::default(),
            judged: None,
        }
    }

    /// A page of candidates.
    pub fn page(seq: u64, names: Names) -> Self {
        Self {
            seq,
            cursors: None,
            open: names.len(),
            names,
            counted: Counted::default(),
            judged: Some(Vec::new()),
        }
    }

    /// Counters of the batch itself.
    pub fn counters(&mut self) -> &mut CompareCounters {
        &mut self.counted.counters
    }

    /// The name of a key.
    pub fn name(&self, index: u32) -> &[u8] {
        self.names.get(index as usize)
    }

    /// Both sides have a key of this name, whatever it is.
    pub fn on_both(&mut self, index: u32) {
        let name = self.names.get(index as usize);
        self.counted.names_of_both.add(name);
    }

    /// Keys without a verdict.
    pub fn open(&self) -> usize {
        self.open
    }

    /// A key has its verdict.
    pub fn settle(&mut self, index: u32, judged: Judged) {
        self.open -= 1;
        match &mut self.judged {
            Some(kept) => kept.push((index, judged)),
            None => self.counted.count(self.names.get(index as usize), judged),
        }
    }

    /// A key of the target's that the source has: nothing is to be said about it here.
    pub fn known(&mut self) {
        self.open -= 1;
    }

    /// A key of the target's that the source does not have, for now; it would be called `name` there.
    pub fn unknown_to_source(&mut self, name: Vec<u8>) {
        self.open -= 1;
        let now = unix_ms();
        let record = CandidateRecord {
            verdict: crate::progress::Verdict::Extra,
            source_seen: [0; 16],
            target_seen: [0; 16],
            first_ms: now,
            read_ms: now,
            rounds: 0,
            unchanged: 0,
            payload_bytes: 0,
            from_target: true,
        };
        self.counted.counters.candidates += 1;
        self.counted.candidates.push((name, record));
    }

    /// What is left of it when all its keys have verdicts.
    pub fn finish(self) -> FinishedBatch {
        FinishedBatch {
            cursors: self.cursors,
            canary_keys: self
                .names
                .iter()
                .take(CANARY_KEYS)
                .map(<[u8]>::to_vec)
                .collect(),
            counted: self.counted,
            judged: self.judged.unwrap_or_default(),
        }
    }
}

impl Counted {
    fn count(&mut self, name: &[u8], judged: Judged) {
        let counters = &mut self.counters;
        match judged {
            Judged::Equal {
                digest,
                other_bytes,
                lives,
            } => {
                if let Some(both) = lives {
                    self.lives.count(both);
                }
                counters.equal += 1;
                counters.keys_compared += 1;
                counters.equal_other_bytes += u64::from(other_bytes);
                let mut one = KeyspaceDigest::default();
                one.add(name, &digest);
                self.source_keys.merge(&one);
                self.target_keys.merge(&one);
            }
            Judged::Gone => counters.vanished += 1,
            Judged::Filtered => counters.filtered += 1,
            Judged::NotCompared => counters.not_compared += 1,
            Judged::Differs(difference) => {
                counters.candidates += 1;
                self.candidates
                    .push((name.to_vec(), first_seen(&difference)));
            }
        }
    }
}

fn first_seen(difference: &Difference) -> CandidateRecord {
    let now = unix_ms();
    CandidateRecord {
        verdict: difference.verdict,
        source_seen: difference.seen(0),
        target_seen: difference.seen(1),
        first_ms: now,
        read_ms: now,
        rounds: 0,
        unchanged: 0,
        payload_bytes: difference.payload_bytes(),
        from_target: false,
    }
}
