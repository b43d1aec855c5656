//! What the journal is told of comparisons and repairs; and, on opening, what the run before could not tell it any more.
//!
//! # Invariant
//!
//! Once a run has begun, the journal knows of everything that the state knows of and that is not counted by milestones:
//! passes, the completion, comparisons, repairs. A process may die between the state and the journal.

use super::error::StoreError;
use super::now_ms;
use super::record::{CompareEnded, CompareRecord, FindingState, Phase, RepairEnded, RepairRecord};
use super::store::Store;
use crate::audit::entry::{FINDINGS_TOLD_MAX, NAME_TOLD_BYTES};
use crate::audit::journal::{Event, Known, hex};
use crate::key::Escaped;
use crate::progress::{ComparedLives, Counters};

impl Store {
    /// Tells the journal, of which `known` is known, what the run before this one could not tell it.
    pub(super) fn retell(&mut self, known: &Known) {
        if known.format.is_none() {
            // A journal that begins anew does not tell the past.
            return;
        }
        let missing: Vec<_> = self
            .passes
            .iter()
            .filter(|pass| {
                let told = known.lanes.get(&pass.lane);
                told.is_none_or(|told| told.pass < pass.pass)
            })
            .cloned()
            .collect();
        for pass in missing {
            let lane = &self.lanes[pass.lane as usize];
            // Who the servers of a pass were is known of the newest one only.
            let newest = (lane.pass == pass.pass).then_some(lane);
            let event = Event::PassBegan {
                lane: pass.lane,
                pass: pass.pass,
                run: pass.run,
                reason: pass.reason.clone(),
                source_run_id: newest.and_then(|lane| lane.source.run_id.clone()),
                target_run_id: newest.and_then(|lane| lane.target.run_id.clone()),
            };
            self.journal.append(now_ms(), event);
        }
    }

    /// The rest of it, after the lanes' milestone.
    pub(super) fn retell_results(&mut self, known: &Known) -> Result<(), StoreError> {
        if known.format.is_none() {
            return Ok(());
        }
        if self.meta.phase == Phase::Copied && !known.completed {
            self.tell_completed();
        }
        if let Some(record) = self.compared.record().cloned() {
            if record.compare > known.compares {
                self.tell_compare_started(&record);
            }
            if let Some(ended) = record.ended
                && record.compare > known.compared
            {
                self.tell_compared(record.compare, ended)?;
            }
        }
        if let Some(record) = self.repair.clone()
            && let Some(ended) = record.ended
            && record.repair > known.repaired
        {
            self.tell_repaired(&record, ended);
        }
        Ok(())
    }

    pub(super) fn tell_completed(&mut self) {
        let mut counters = Counters::default();
        self.lanes
            .iter()
            .for_each(|lane| counters.add(&lane.counters));
        self.journal.append(now_ms(), Event::Completed { counters });
    }

    pub(super) fn tell_compare_started(&mut self, record: &CompareRecord) {
        let sample = record.rules.sample.as_ref();
        self.journal.append(
            record.began_ms,
            Event::CompareStarted {
                compare: record.compare,
                run: record.run,
                sample: sample.map(|sample| sample.asked.clone()),
                seed: sample.map(|sample| sample.seed),
                one_way: record.rules.one_way,
                recorded: record.rules.recorded,
                copied: record.copied.clone(),
            },
        );
    }

    /// Also tells the first of its findings: the state forgets them when the next comparison begins.
    pub(super) fn tell_compared(
        &mut self,
        compare: u32,
        ended: CompareEnded,
    ) -> Result<(), StoreError> {
        let findings = self.findings(None, FINDINGS_TOLD_MAX)?;
        let open = findings
            .into_iter()
            .filter(|finding| finding.record.state == FindingState::Open);
        for finding in open {
            let name = &finding.name[..finding.name.len().min(NAME_TOLD_BYTES)];
            let event = Event::Finding {
                compare,
                lane: finding.lane,
                key: Escaped(name).to_string(),
                key_hex: hex(name),
                key_bytes: finding.name.len() as u64,
                verdict: finding.record.verdict,
                key_type: finding.record.key_type,
                detail: finding.record.detail,
            };
            self.journal.append(ended.at_ms, event);
        }
        let mut lives = Box::<ComparedLives>::default();
        for lane in self.compare_lanes() {
            lives.add(&lane.lives);
        }
        self.journal.append(
            ended.at_ms,
            Event::Compared {
                compare,
                run: ended.run,
                counters: ended.counters,
                source_digest: ended.source_digest,
                target_digest: ended.target_digest,
                not_compared: ended.not_compared,
                lives,
            },
        );
        Ok(())
    }

    pub(super) fn tell_repaired(&mut self, record: &RepairRecord, ended: RepairEnded) {
        self.journal.append(
            ended.at_ms,
            Event::Repaired {
                repair: record.repair,
                compare: record.compare,
                run: ended.run,
                counters: record.counters,
                findings_left: ended.findings_left,
            },
        );
    }
}
