//! What a comparison keeps: how far it is, which keys it suspects, what it found.
//!
//! # Invariants
//!
//! - A lane's checkpoint, the candidates and the findings that it counts are one atomic write.
//! - Suspects belong to the walk that met them, by its number (`epoch`). What belongs to no lane's present walk counts no
//!   more, and is removed some time later: so a walk begins anew by writing one record.
//! - However many suspects there are, only a page of them is in memory.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use super::engine::{Engine, Writes};
use super::error::StoreError;
use super::layout::{self, Kind};
use super::now_ms;
use super::open::read;
use super::record::{
    CandidateRecord, CompareCanary, CompareEnded, CompareLane, CompareRecord, CompareRules,
    FindingRecord, FindingState, NAME_PIECE_BYTES, ServerIdentity, SuspectId,
};
use super::store::{Store, shortened, tame_identity};
use crate::audit::journal::{Event, Known};
use crate::progress::{CompareState, CompareStatus};

/// Records that are removed in one write.
const PURGED_AT_ONCE: usize = 512;

/// The newest comparison and one checkpoint a lane, as they are on disk.
#[derive(Debug, Default)]
pub(super) struct Compared {
    record: Option<CompareRecord>,
    /// Empty before the first comparison.
    lanes: Vec<CompareLane>,
}

/// What becomes durable together.
#[derive(Debug)]
pub struct CompareCommit {
    /// Index of the lane in the plan.
    pub lane: u32,
    /// How far it is, with everything counted that follows.
    pub checkpoint: CompareLane,
    /// Whether the canary is worth a write of its own.
    pub canary: bool,
    /// Keys that were seen to differ: name and record. One that waits already stays as it is.
    pub candidates: Vec<(Vec<u8>, CandidateRecord)>,
    /// Candidates that were read again and still wait.
    pub reread: Vec<(SuspectId, CandidateRecord)>,
    /// Names of candidates that wait no more.
    pub settled: Vec<Vec<u8>>,
    /// Candidates that are findings from now on: name and record.
    pub findings: Vec<(Vec<u8>, FindingRecord)>,
}

/// A key that waits to be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Which one; the order of iteration.
    pub id: SuspectId,
    /// Its whole name.
    pub name: Vec<u8>,
    /// What is known of it.
    pub record: CandidateRecord,
}

/// A key that is not equal on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which one; the order of iteration.
    pub id: SuspectId,
    /// Index of its lane in the plan.
    pub lane: u32,
    /// Its whole name.
    pub name: Vec<u8>,
    /// What is known of it.
    pub record: FindingRecord,
}

impl Compared {
    /// What lies in the engine, for a plan of `lanes` lanes.
    pub(super) fn read(
        engine: &Engine,
        dir: &Path,
        lanes: usize,
        known: &Known,
    ) -> Result<Self, StoreError> {
        let record: Option<CompareRecord> = read(engine, dir, &layout::compare())?;
        let number = record.as_ref().map_or(0, |record| record.compare);
        if known.compares > number {
            return Err(StoreError::Amnesia {
                what: format!(
                    "the journal knows of comparison {}, the store of {number}",
                    known.compares
                ),
                kept: dir.to_owned(),
            });
        }
        if record.is_none() {
            return Ok(Self::default());
        }
        let read_lane = |lane| -> Result<CompareLane, StoreError> {
            let checkpoint: Option<CompareLane> = read(engine, dir, &layout::compare_lane(lane))?;
            let Some(mut checkpoint) = checkpoint else {
                let what = format!("the comparison has no record of lane {lane}");
                return Err(StoreError::damaged(what, dir));
            };
            let canary: Option<CompareCanary> = read(engine, dir, &layout::compare_canary(lane))?;
            checkpoint.canary = canary
                .filter(|canary| {
                    (canary.epoch, canary.stage) == (checkpoint.epoch, checkpoint.stage)
                })
                .map_or_else(Vec::new, |canary| canary.batches);
            Ok(checkpoint)
        };
        let lanes = (0..lanes as u32).map(read_lane).collect::<Result<_, _>>()?;
        Ok(Self { record, lanes })
    }

    pub(super) fn record(&self) -> Option<&CompareRecord> {
        self.record.as_ref()
    }

    /// The page of at most `limit` findings that follow `after`, in their order; the first page without it.
    pub(super) fn findings(
        &self,
        engine: &Engine,
        dir: &Path,
        after: Option<SuspectId>,
        limit: usize,
    ) -> Result<Vec<Finding>, StoreError> {
        let mut findings = Vec::new();
        let mut epochs: Vec<(u32, u32)> = (0..)
            .zip(&self.lanes)
            .map(|(lane, checkpoint)| (checkpoint.epoch, lane))
            .collect();
        epochs.sort_unstable();
        for (epoch, lane) in epochs {
            let after = after.filter(|after| after.epoch >= epoch);
            if after.is_some_and(|after| after.epoch > epoch) {
                continue;
            }
            let room = limit - findings.len();
            let page: Vec<(SuspectId, FindingRecord)> =
                page(engine, dir, Kind::Finding, epoch, after, room)?;
            for (id, record) in page {
                findings.push(Finding {
                    id,
                    lane,
                    name: name(engine, dir, id)?,
                    record,
                });
            }
        }
        Ok(findings)
    }
}

impl Store {
    /// The newest comparison, if there was one.
    pub fn compare(&self) -> Option<&CompareRecord> {
        self.compared.record.as_ref()
    }

    /// One checkpoint a lane of the plan; empty before the first comparison. Durable.
    pub fn compare_lanes(&self) -> &[CompareLane] {
        &self.compared.lanes
    }

    /// How far the copy is, a pass and a batch for each lane.
    pub fn copied(&self) -> Vec<(u32, u64)> {
        self.lanes
            .iter()
            .map(|lane| (lane.pass, lane.next_seq))
            .collect()
    }

    /// How the newest comparison stands, as far as the state tells; stopped, unless it has its result.
    pub fn compare_status(&self) -> Option<CompareStatus> {
        let record = self.compare()?;
        let mut status = CompareStatus {
            compare: record.compare,
            state: CompareState::Stopped,
            began_ms: record.began_ms,
            sample: record
                .rules
                .sample
                .as_ref()
                .map(|sample| sample.asked.clone()),
            one_way: record.rules.one_way,
            recorded: record.rules.recorded,
            outdated: record.copied != self.copied(),
            ..CompareStatus::default()
        };
        match &record.ended {
            Some(ended) => {
                status.state = CompareState::Compared;
                status.ended_ms = Some(ended.at_ms);
                status.counters = ended.counters;
                status.source_digest = Some(ended.source_digest.clone());
                status.target_digest = Some(ended.target_digest.clone());
                status.not_compared = ended.not_compared.clone();
                status.percent = 100.0;
            }
            None => {
                for lane in &self.compared.lanes {
                    status.counters.add(&lane.counters);
                }
            }
        }
        Some(status)
    }

    /// Begins the next comparison; durable on return. The findings of the one before it are gone.
    pub fn begin_compare(&mut self, rules: CompareRules) -> Result<(), StoreError> {
        let before = self.compared.record.as_ref();
        let first_epoch = before.map_or(0, |record| record.epochs) + 1;
        let lanes: Vec<CompareLane> = (first_epoch..)
            .zip(&self.lanes)
            .map(|(epoch, _)| CompareLane {
                epoch,
                ..CompareLane::default()
            })
            .collect();
        let record = CompareRecord {
            compare: before.map_or(0, |record| record.compare) + 1,
            run: self.run(),
            began_ms: now_ms(),
            rules,
            epochs: first_epoch - 1 + lanes.len() as u32,
            copied: self.copied(),
            ended: None,
        };
        let mut writes = Writes::default();
        writes.put(layout::compare(), layout::encode(&record));
        for (lane, checkpoint) in (0..).zip(&lanes) {
            writes.put(layout::compare_lane(lane), layout::encode(checkpoint));
        }
        self.write_through(writes)?;
        self.tell_compare_started(&record);
        self.compared = Compared {
            record: Some(record),
            lanes,
        };
        self.sync_journal()?;
        self.purge_suspects()
    }

    /// Begins the walk of a lane, or begins it anew, between these two processes; durable on return. What the walk before
    /// it found is gone.
    ///
    /// # Panics
    ///
    /// If no comparison is under way.
    pub fn begin_compare_lane(
        &mut self,
        lane: u32,
        source: ServerIdentity,
        target: ServerIdentity,
        reason: &str,
    ) -> Result<(), StoreError> {
        let mut record = self.under_way().clone();
        record.epochs += 1;
        let checkpoint = CompareLane {
            epoch: record.epochs,
            source: tame_identity(source),
            target: tame_identity(target),
            ..CompareLane::default()
        };
        let mut writes = Writes::default();
        writes.put(layout::compare(), layout::encode(&record));
        writes.put(layout::compare_lane(lane), layout::encode(&checkpoint));
        self.write_through(writes)?;
        self.journal.append(
            now_ms(),
            Event::CompareLaneBegan {
                compare: record.compare,
                lane,
                reason: shortened(reason),
                source_run_id: checkpoint.source.run_id.clone(),
                target_run_id: checkpoint.target.run_id.clone(),
            },
        );
        self.compared.record = Some(record);
        self.compared.lanes[lane as usize] = checkpoint;
        self.sync_journal()?;
        self.purge_suspects()
    }

    /// Makes a part of a lane's comparison durable, all of it or nothing. Returns the lane as it stands then: of the
    /// candidates those that waited already are not counted as such again.
    ///
    /// # Panics
    ///
    /// If the commit belongs to another walk than the lane's present one.
    pub fn commit_compare(&mut self, commit: CompareCommit) -> Result<CompareLane, StoreError> {
        let lane = commit.lane;
        let mut checkpoint = commit.checkpoint;
        let epoch = checkpoint.epoch;
        assert_eq!(
            epoch, self.compared.lanes[lane as usize].epoch,
            "lane {lane}: a commit of a walk that counts no more"
        );
        let mut writes = Writes::default();
        let mut added = HashSet::new();
        for (name, record) in &commit.candidates {
            let id = SuspectId::of(epoch, name);
            let key = layout::suspect(Kind::Candidate, id);
            let waits =
                added.contains(&id) || self.attempt(|store| store.engine.get(&key))?.is_some();
            if waits {
                checkpoint.counters.candidates -= 1;
                checkpoint.counters.doubled += u64::from(!record.from_target);
                continue;
            }
            added.insert(id);
            writes.put(key, layout::encode(record));
            put_name(&mut writes, id, name);
        }
        for (id, record) in &commit.reread {
            writes.put(
                layout::suspect(Kind::Candidate, *id),
                layout::encode(record),
            );
        }
        for name in &commit.settled {
            let id = SuspectId::of(epoch, name);
            writes.remove(layout::suspect(Kind::Candidate, id));
            remove_name(&mut writes, id, name);
        }
        for (name, record) in &commit.findings {
            let id = SuspectId::of(epoch, name);
            let record = FindingRecord {
                key_type: shortened(&record.key_type),
                detail: shortened(&record.detail),
                ..record.clone()
            };
            writes.remove(layout::suspect(Kind::Candidate, id));
            writes.put(layout::suspect(Kind::Finding, id), layout::encode(&record));
        }
        let canary = std::mem::take(&mut checkpoint.canary);
        writes.put(layout::compare_lane(lane), layout::encode(&checkpoint));
        checkpoint.canary = canary;
        if commit.canary {
            let canary = CompareCanary {
                epoch,
                stage: checkpoint.stage,
                batches: checkpoint.canary.clone(),
            };
            writes.put(layout::compare_canary(lane), layout::encode(&canary));
        }
        self.attempt(|store| store.commit_writes(writes))?;
        self.compared.lanes[lane as usize] = checkpoint.clone();
        Ok(checkpoint)
    }

    /// Gives the comparison its result; durable on return.
    ///
    /// # Panics
    ///
    /// If no comparison is under way.
    pub fn end_compare(&mut self, ended: CompareEnded) -> Result<(), StoreError> {
        let record = CompareRecord {
            ended: Some(ended.clone()),
            ..self.under_way().clone()
        };
        let mut writes = Writes::default();
        writes.put(layout::compare(), layout::encode(&record));
        self.write_through(writes)?;
        self.tell_compared(record.compare, ended)?;
        self.compared.record = Some(record);
        self.sync_journal()
    }

    /// The page of at most `limit` candidates of a lane that follow `after`, in their order; the first page without it.
    pub fn candidates(
        &self,
        lane: u32,
        after: Option<SuspectId>,
        limit: usize,
    ) -> Result<Vec<Candidate>, StoreError> {
        let epoch = self.compared.lanes[lane as usize].epoch;
        let records: Vec<(SuspectId, CandidateRecord)> = page(
            &self.engine,
            &self.dir,
            Kind::Candidate,
            epoch,
            after,
            limit,
        )?;
        records
            .into_iter()
            .map(|(id, record)| {
                Ok(Candidate {
                    id,
                    name: name(&self.engine, &self.dir, id)?,
                    record,
                })
            })
            .collect()
    }

    /// The page of at most `limit` findings of all lanes that follow `after`, in their order; the first page without it.
    /// A page that is not full is the last one.
    pub fn findings(
        &self,
        after: Option<SuspectId>,
        limit: usize,
    ) -> Result<Vec<Finding>, StoreError> {
        self.compared
            .findings(&self.engine, &self.dir, after, limit)
    }

    /// Whether a key is a finding of a lane's present walk.
    pub fn has_finding(&self, lane: u32, name: &[u8]) -> Result<bool, StoreError> {
        let epoch = self.compared.lanes[lane as usize].epoch;
        let key = layout::suspect(Kind::Finding, SuspectId::of(epoch, name));
        Ok(self.engine.get(&key)?.is_some())
    }

    /// Says what has been done about findings, each named with its record as it was read; durable on return.
    pub fn mark_findings(
        &mut self,
        findings: &[(SuspectId, FindingRecord)],
        state: FindingState,
    ) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        for (id, record) in findings {
            let record = FindingRecord {
                state,
                ..record.clone()
            };
            writes.put(layout::suspect(Kind::Finding, *id), layout::encode(&record));
        }
        self.attempt(|store| store.commit_writes(writes))
    }

    /// Takes findings away, each named with its key's whole name; durable on return.
    pub fn remove_findings(&mut self, findings: &[(SuspectId, Vec<u8>)]) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        for (id, name) in findings {
            writes.remove(layout::suspect(Kind::Finding, *id));
            remove_name(&mut writes, *id, name);
        }
        self.attempt(|store| store.commit_writes(writes))
    }

    fn under_way(&self) -> &CompareRecord {
        self.compared
            .record
            .as_ref()
            .filter(|record| record.ended.is_none())
            .expect("a comparison is under way")
    }

    /// Removes what belongs to no lane's present walk. Not durable by itself: what comes back is removed another time.
    fn purge_suspects(&mut self) -> Result<(), StoreError> {
        let live: BTreeSet<u32> = self.compared.lanes.iter().map(|lane| lane.epoch).collect();
        for kind in [Kind::Candidate, Kind::Finding, Kind::Name] {
            let mut from = 0;
            for next in live.iter().copied() {
                self.purge(layout::epochs(kind, from, next))?;
                from = next + 1;
            }
        }
        Ok(())
    }

    fn purge(&mut self, range: (Vec<u8>, Vec<u8>)) -> Result<(), StoreError> {
        loop {
            let mut keys = Vec::new();
            self.engine.visit(range.clone(), |key, _| {
                keys.push(key.to_vec());
                match keys.len() < PURGED_AT_ONCE {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
            if keys.is_empty() {
                return Ok(());
            }
            let mut writes = Writes::default();
            keys.into_iter().for_each(|key| writes.remove(key));
            self.attempt(|store| store.engine.apply(writes))?;
        }
    }
}

fn put_name(writes: &mut Writes, id: SuspectId, name: &[u8]) {
    for (piece, bytes) in (0..).zip(name.chunks(NAME_PIECE_BYTES)) {
        writes.put(layout::name(id, piece), bytes.to_vec());
    }
}

fn remove_name(writes: &mut Writes, id: SuspectId, name: &[u8]) {
    for (piece, _) in (0..).zip(name.chunks(NAME_PIECE_BYTES)) {
        writes.remove(layout::name(id, piece));
    }
}

/// The whole name of a suspect; damaged if it is not the one that the suspect is known by.
fn name(engine: &Engine, dir: &Path, id: SuspectId) -> Result<Vec<u8>, StoreError> {
    let mut name = Vec::new();
    let mut end = layout::suspect(Kind::Name, id);
    end.extend([0xff; 5]);
    engine.visit((layout::name(id, 0), end), |_, piece| {
        name.extend_from_slice(piece);
        ControlFlow::Continue(())
    })?;
    match SuspectId::of(id.epoch, &name) == id {
        true => Ok(name),
        false => Err(StoreError::damaged(
            "the name of a suspect is not whole",
            dir,
        )),
    }
}

/// At most `limit` records of a walk, from the first one after `after` on.
fn page<T: serde::de::DeserializeOwned>(
    engine: &Engine,
    dir: &Path,
    kind: Kind,
    epoch: u32,
    after: Option<SuspectId>,
    limit: usize,
) -> Result<Vec<(SuspectId, T)>, StoreError> {
    let (mut from, to) = layout::epochs(kind, epoch, epoch + 1);
    if let Some(after) = after {
        from = layout::suspect(kind, after);
        // The first key after it.
        from.push(0);
    }
    let mut records = Vec::new();
    let mut broken = false;
    if limit == 0 {
        return Ok(records);
    }
    engine.visit((from, to), |key, value| {
        match layout::parse_suspect(key).zip(layout::decode(value)) {
            Some(record) => records.push(record),
            None => broken = true,
        }
        match broken || records.len() == limit {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    match broken {
        false => Ok(records),
        true => Err(StoreError::damaged(
            format!("a {} record can't be read", kind.name()),
            dir,
        )),
    }
}
