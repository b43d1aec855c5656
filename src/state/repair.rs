//! What a repair keeps: what was confirmed, what it did, and how the findings stand after it.
//!
//! # Invariants
//!
//! - A finding and the counters that count what became of it are one atomic write.
//! - What was deleted stands in the journal, key by key.

use super::engine::Writes;
use super::error::StoreError;
use super::layout::{self, Kind};
use super::now_ms;
use super::record::{Confirmed, FindingRecord, FindingState, RepairEnded, RepairRecord, SuspectId};
use super::store::{Store, shortened};
use crate::audit::journal::{Event, hex};
use crate::key::Escaped;
use crate::progress::{RepairCounters, RepairState, RepairStatus};

/// The name of a deleted key goes into the journal up to here.
const DELETED_NAME_BYTES: usize = 4096;

/// Findings that were tried, and what became of them.
#[derive(Debug, Default)]
pub struct RepairCommit {
    /// What is added to the repair's counters.
    pub counters: RepairCounters,
    /// Findings that are none any more, with their records as they were.
    pub settled: Vec<(SuspectId, FindingRecord)>,
    /// Findings that are left, with their records as they are now.
    pub left: Vec<(SuspectId, FindingRecord)>,
    /// Keys that were deleted on the target: index of the lane in the plan, and name.
    pub deleted: Vec<(u32, Vec<u8>)>,
}

impl Store {
    /// The newest repair, if there was one.
    pub fn repair(&self) -> Option<&RepairRecord> {
        self.repair.as_ref()
    }

    /// How the newest repair stands, as far as the state tells; stopped, unless it was brought to its end. Nothing, if it was
    /// of findings that are gone.
    pub fn repair_status(&self) -> Option<RepairStatus> {
        let record = self.repair()?;
        let compare = self.compare()?;
        if record.compare != compare.compare {
            return None;
        }
        Some(RepairStatus {
            repair: record.repair,
            compare: record.compare,
            run: record.ended.map_or(record.run, |ended| ended.run),
            state: match record.ended {
                Some(_) => RepairState::Repaired,
                None => RepairState::Stopped,
            },
            began_ms: record.began_ms,
            ended_ms: record.ended.map(|ended| ended.at_ms),
            counters: record.counters,
            findings_left: record.ended.map_or(0, |ended| ended.findings_left),
            ..RepairStatus::default()
        })
    }

    /// Begins a repair of the newest comparison's findings, or goes on with one that came to no end; durable on return.
    /// `findings` of them are open. With `confirmed`, so many keys may be deleted; a repair that goes on keeps what was
    /// confirmed if it is the same number.
    ///
    /// # Panics
    ///
    /// If there was no comparison.
    pub fn begin_repair(
        &mut self,
        findings: u64,
        confirmed: Option<u64>,
    ) -> Result<RepairRecord, StoreError> {
        let compare = self.compare().expect("findings come from one").compare;
        let before = self.repair.clone();
        let number = before.as_ref().map_or(0, |record| record.repair);
        let unfinished =
            before.filter(|record| record.compare == compare && record.ended.is_none());
        let now = now_ms();
        let mut record = unfinished.unwrap_or(RepairRecord {
            repair: number + 1,
            compare,
            run: self.run(),
            began_ms: now,
            confirmed: None,
            counters: RepairCounters::default(),
            ended: None,
        });
        record.confirmed = match (confirmed, record.confirmed) {
            (Some(keys), Some(said)) if said.keys == keys => Some(said),
            (Some(keys), _) => Some(Confirmed { keys, at_ms: now }),
            (None, _) => None,
        };
        self.put_repair(record.clone())?;
        self.journal.append(
            now,
            Event::RepairStarted {
                repair: record.repair,
                compare,
                run: self.run(),
                findings,
                delete: confirmed,
            },
        );
        self.sync_journal()?;
        Ok(record)
    }

    /// Makes what became of some findings durable, all of it or nothing.
    ///
    /// # Panics
    ///
    /// If no repair is under way.
    pub fn commit_repair(&mut self, commit: RepairCommit) -> Result<(), StoreError> {
        let mut record = self.repair_under_way().clone();
        record.counters.add(&commit.counters);
        let repaired = FindingState::Repaired {
            run: self.run(),
            at_ms: now_ms(),
        };
        let mut writes = Writes::default();
        let settled = commit.settled.into_iter().map(|(id, record)| {
            let state = repaired;
            (id, FindingRecord { state, ..record })
        });
        for (id, finding) in settled.chain(commit.left) {
            let finding = FindingRecord {
                key_type: shortened(&finding.key_type),
                detail: shortened(&finding.detail),
                ..finding
            };
            writes.put(layout::suspect(Kind::Finding, id), layout::encode(&finding));
        }
        writes.put(layout::repair(), layout::encode(&record));
        self.attempt(|store| store.commit_writes(writes))?;
        self.repair = Some(record);
        if commit.deleted.is_empty() {
            return Ok(());
        }
        for (lane, name) in commit.deleted {
            let name = &name[..name.len().min(DELETED_NAME_BYTES)];
            self.journal.append(
                now_ms(),
                Event::Deleted {
                    lane,
                    key: Escaped(name).to_string(),
                    key_hex: hex(name),
                },
            );
        }
        self.sync_journal()
    }

    /// Says that every finding was tried and so many are left; durable on return.
    ///
    /// # Panics
    ///
    /// If no repair is under way.
    pub fn end_repair(&mut self, findings_left: u64) -> Result<RepairRecord, StoreError> {
        let ended = RepairEnded {
            run: self.run(),
            at_ms: now_ms(),
            findings_left,
        };
        let record = RepairRecord {
            ended: Some(ended),
            ..self.repair_under_way().clone()
        };
        self.put_repair(record.clone())?;
        self.tell_repaired(&record, ended);
        self.sync_journal()?;
        Ok(record)
    }

    fn put_repair(&mut self, record: RepairRecord) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        writes.put(layout::repair(), layout::encode(&record));
        self.write_through(writes)?;
        self.repair = Some(record);
        Ok(())
    }

    fn repair_under_way(&self) -> &RepairRecord {
        self.repair
            .as_ref()
            .filter(|record| record.ended.is_none())
            .expect("a repair is under way")
    }
}
