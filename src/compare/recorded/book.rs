//! What became of the keys of one database of the target: counted, and the findings made durable a page at a time.
//!
//! # Invariant
//!
//! A key is counted once, also if SCAN returns it twice: a recorded one is met once, and a finding is looked for before it is
//! added.

use std::collections::HashSet;

use super::judge::{Difference, Judged, Rules};
use super::read::Group;
use super::walk::{Found, Settled};
use super::{Context, DONE, commit_of};
use crate::client::handshake::unix_ms;
use crate::compare::FoundKey;
use crate::error::Error;
use crate::key::Escaped;
use crate::progress::Verdict;
use crate::recorded::entry::NameDigest;
use crate::recorded::{Outcome, Table};
use crate::state::record::{CandidateRecord, CompareLane, FindingRecord, FindingState};

/// Findings that are made durable together.
const PAGE_FINDINGS: usize = 256;

/// See the module.
pub(super) struct Book {
    /// The lane that has the counters.
    lane: usize,
    /// The other lanes of the database.
    others: Vec<usize>,
    db: u32,
    checkpoint: CompareLane,
    pending: Vec<(Vec<u8>, FindingRecord)>,
    pending_names: HashSet<Vec<u8>>,
}

impl Book {
    pub(super) fn new(context: &Context, group: &Group) -> Self {
        let lane = group.first();
        Self {
            lane,
            others: group.lanes[1..].to_vec(),
            db: context.env.request.plan.lanes[lane].source_db,
            checkpoint: context.lanes[lane].clone(),
            pending: Vec::new(),
            pending_names: HashSet::new(),
        }
    }

    /// What was listed and read since the last call.
    pub(super) fn listed(&mut self, names: u64, unselected: u64, bytes: u64) {
        let counters = &mut self.checkpoint.counters;
        counters.target_keys_scanned += names;
        counters.target_keys_unselected += unselected;
        counters.bytes_read += bytes;
    }

    /// A key has its verdict.
    pub(super) fn settle(&mut self, context: &mut Context, settled: Settled) -> Result<(), Error> {
        let Settled { key, verdict } = settled;
        let counters = &mut self.checkpoint.counters;
        if key.expected.is_some() {
            counters.keys_scanned += 1;
        }
        let recorded = u64::from(key.expected.is_some());
        match verdict {
            Found::Same { digest, settled } => {
                counters.keys_compared += 1;
                counters.equal += 1;
                counters.settled += u64::from(settled);
                self.checkpoint.target_keys.add(&key.name, &digest);
            }
            Found::Gone => counters.vanished += recorded,
            Found::Filtered => counters.filtered += recorded,
            Found::Unknown => counters.not_compared += recorded,
            Found::Differs(verdict, difference) => {
                let is_new = recorded > 0 || !self.is_known(context, &key.name)?;
                if is_new {
                    return self.finding(context, key.name, verdict, difference);
                }
            }
        }
        Ok(())
    }

    /// Whether a key that only the target has is a finding already.
    fn is_known(&self, context: &Context, name: &[u8]) -> Result<bool, Error> {
        Ok(self.pending_names.contains(name)
            || context.store.has_finding(self.lane as u32, name)?)
    }

    /// The target's names are all listed: what was recorded and not met is not there.
    pub(super) fn unmet(
        &mut self,
        context: &mut Context,
        table: &Table,
        rules: &Rules,
        now_ms: i64,
    ) -> Result<(), Error> {
        for (name, outcome) in table.unmet() {
            let counters = &mut self.checkpoint.counters;
            counters.keys_scanned += 1;
            let judged = match outcome {
                Outcome::Value(recorded) => rules.missing(&recorded, now_ms),
                _ => Judged::Unknown,
            };
            match judged {
                Judged::Gone => counters.vanished += 1,
                Judged::Differs(difference) => {
                    self.finding(context, shown(&name), Verdict::Missing, *difference)?;
                }
                Judged::Unknown | Judged::Same(_) | Judged::Filtered => counters.not_compared += 1,
            }
        }
        Ok(())
    }

    fn finding(
        &mut self,
        context: &mut Context,
        name: Vec<u8>,
        verdict: Verdict,
        difference: Difference,
    ) -> Result<(), Error> {
        self.checkpoint.counters.count(verdict);
        let record = FindingRecord {
            verdict,
            key_type: difference.key_type.to_owned(),
            detail: difference.detail,
            source_digest: None,
            target_digest: difference.target_digest,
            payload_bytes: difference.payload_bytes,
            found_ms: unix_ms(),
            state: FindingState::Open,
        };
        self.pending_names.insert(name.clone());
        self.pending.push((name, record));
        match self.pending.len() >= PAGE_FINDINGS {
            true => self.flush(context),
            false => Ok(()),
        }
    }

    /// Makes durable what was found.
    pub(super) fn flush(&mut self, context: &mut Context) -> Result<(), Error> {
        self.pending_names.clear();
        let findings = std::mem::take(&mut self.pending);
        let found = findings.iter().map(|(name, record)| FoundKey {
            db: self.db,
            key: Escaped(name).to_string(),
            verdict: record.verdict,
            key_type: record.key_type.clone(),
            detail: record.detail.clone(),
        });
        let found: Vec<FoundKey> = found.collect();
        let mut commit = commit_of(self.lane as u32, self.checkpoint.clone());
        // A finding has been a candidate, under whose record its name is.
        commit.candidates = findings.iter().map(candidate).collect();
        commit.findings = findings;
        context.commit(commit)?;
        found.into_iter().for_each(|found| context.found(found));
        Ok(())
    }

    /// Everything of this database has its verdict.
    pub(super) fn close(mut self, context: &mut Context) -> Result<(), Error> {
        self.checkpoint.stage = DONE;
        self.flush(context)?;
        for lane in std::mem::take(&mut self.others) {
            let done = CompareLane {
                stage: DONE,
                ..context.lanes[lane].clone()
            };
            context.commit(commit_of(lane as u32, done))?;
        }
        Ok(())
    }
}

fn candidate((name, record): &(Vec<u8>, FindingRecord)) -> (Vec<u8>, CandidateRecord) {
    let record = CandidateRecord {
        verdict: record.verdict,
        source_seen: [0; 16],
        target_seen: [0; 16],
        first_ms: record.found_ms,
        read_ms: record.found_ms,
        rounds: 0,
        unchanged: 0,
        payload_bytes: record.payload_bytes,
        from_target: record.verdict == Verdict::Extra,
    };
    (name.clone(), record)
}

/// What stands for a name of which only the digest was recorded.
fn shown(name: &NameDigest) -> Vec<u8> {
    let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("name-xxh128:{hex}").into_bytes()
}
