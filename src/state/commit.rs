//! The commit: batches become durable together with everything that counts them.
//!
//! # Invariant
//!
//! Batch records, the checkpoints of their lanes and the keys that they quarantined are one atomic write. What is kept of
//! their keys is durable before it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::engine::Writes;
use super::error::StoreError;
use super::layout;
use super::record::{
    BATCHES_PER_RECORD, BatchRecord, CanaryRecord, LaneCheckpoint, MakeupRecord,
    QUARANTINED_NAME_BYTES, QuarantineEntry, QuarantineRecord,
};
use super::store::{Durability, Store, shortened};
use crate::audit::journal::{Event, hex};
use crate::key::Escaped;
use crate::progress::{Counters, Makeup};

/// How often a lane's canary is written. An older canary of the same pass proves a cursor as well as the newest, and
/// writing it with every commit would be most of what is written.
const CANARY_EVERY: Duration = Duration::from_secs(1);

/// Batches of one lane that become durable together.
#[derive(Debug)]
pub struct Commit {
    /// Index of the lane in the plan.
    pub lane: u32,
    /// In the order of SCAN, beginning at the lane's position.
    pub batches: Vec<AcknowledgedBatch>,
}

/// A batch whose every key has its outcome.
#[derive(Debug, Clone)]
pub struct AcknowledgedBatch {
    /// Run that copied it.
    pub run: u32,
    /// Cursor that was sent; 0 at the beginning.
    pub cursor_in: u64,
    /// Cursor that came back; 0 at the end.
    pub cursor_out: u64,
    /// COUNT that was sent.
    pub count: u32,
    /// DBSIZE at the time, if known.
    pub keyspace: Option<u64>,
    /// Outcomes; they must balance.
    pub counters: Counters,
    /// What the keys written are like; as many as the outcomes say.
    pub makeup: Box<Makeup>,
    /// See [`BatchRecord::keys_digest`].
    pub keys_digest: [u8; 32],
    /// When SCAN's reply came, Unix milliseconds.
    pub scanned_ms: u64,
    /// When the last key got its outcome, Unix milliseconds.
    pub acknowledged_ms: u64,
    /// Some of its key names; as many are kept as the checkpoint has room for.
    pub canary_keys: Vec<Vec<u8>>,
    /// Keys that could not be copied.
    pub quarantined: Vec<(Vec<u8>, QuarantineRecord)>,
    /// What is kept of its keys, entry after entry ([`crate::recorded`]), if that is kept.
    pub recorded: Option<Vec<u8>>,
}

impl Store {
    /// Makes the batches of one lane durable; see [`Self::commit_all`].
    pub fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        self.commit_all(std::slice::from_ref(commit))
    }

    /// Makes batches durable: all of them, with the checkpoints that count them and the keys they quarantined, or none.
    ///
    /// # Panics
    ///
    /// If a batch does not begin where its lane stands, or has a key without an outcome.
    pub fn commit_all(&mut self, commits: &[Commit]) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        let mut advanced: Vec<(u32, LaneCheckpoint)> = Vec::new();
        for commit in commits {
            let lane = commit.lane;
            assert!(
                advanced.iter().all(|(other, _)| *other != lane),
                "lane {lane} twice in one commit"
            );
            let mut checkpoint = self.lanes[lane as usize].clone();
            for batches in commit.batches.chunks(BATCHES_PER_RECORD) {
                let key = layout::batches(lane, checkpoint.pass, checkpoint.next_seq);
                let mut records: Vec<BatchRecord> = Vec::with_capacity(batches.len());
                for batch in batches {
                    let recorded = match &batch.recorded {
                        Some(entries) => {
                            Some(self.attempt(|store| store.append_recorded(lane, entries))?)
                        }
                        None => None,
                    };
                    records.push(checkpoint.advance(lane, batch, recorded));
                }
                writes.put(key, layout::encode(&records));
            }
            put_lane(&mut writes, lane, &checkpoint);
            put_makeup(&mut writes, lane, &checkpoint);
            if self.canary_at[lane as usize].is_none_or(|at| at.elapsed() >= CANARY_EVERY) {
                put_canary(&mut writes, lane, &checkpoint);
                self.canary_at[lane as usize] = Some(Instant::now());
            }
            advanced.push((lane, checkpoint));
        }
        let (events, added) = self.attempt(|store| store.put_quarantined(&mut writes, commits))?;
        self.put_seal(&mut writes);
        self.attempt(|store| {
            store.sync_recorded()?;
            store.commit_writes(writes)
        })?;
        for (lane, checkpoint) in advanced {
            self.totals[lane as usize].add(&counted(commits, lane));
            self.lanes[lane as usize] = checkpoint;
            self.moved.insert(lane);
        }
        self.quarantine_len += added;
        self.journal_commit(events)
    }

    /// Adds the keys that `commits` quarantined. Returns their lines for the journal, and how many have no entry yet: a
    /// key that is met again, in another pass or because SCAN doubles it, keeps its one entry.
    fn put_quarantined(
        &self,
        writes: &mut Writes,
        commits: &[Commit],
    ) -> Result<(Vec<Event>, u64), StoreError> {
        let mut events = Vec::new();
        let mut added = HashSet::new();
        for commit in commits {
            let quarantined = commit.batches.iter().flat_map(|batch| &batch.quarantined);
            for (name, record) in quarantined {
                let (key, value) = quarantine_entry(commit.lane, name, record);
                if self.engine.get(&key)?.is_none() {
                    added.insert(key.clone());
                }
                writes.put(key, value);
                events.push(quarantine_event(commit.lane, name, record));
            }
        }
        Ok((events, added.len() as u64))
    }

    pub(super) fn commit_writes(&mut self, writes: Writes) -> Result<(), StoreError> {
        self.engine.apply(writes)?;
        crate::crash_point!("state_written_before_flush");
        let began = Instant::now();
        match self.durability {
            Durability::Fsync => self.engine.make_durable()?,
            Durability::None => self.engine.flush()?,
        }
        self.last_sync = began.elapsed();
        crate::crash_point!("state_fsynced");
        Ok(())
    }
}

/// What the commit of `lane` among `commits` counts.
fn counted(commits: &[Commit], lane: u32) -> Counters {
    let mut sum = Counters::default();
    let commits = commits.iter().filter(|commit| commit.lane == lane);
    commits
        .flat_map(|commit| &commit.batches)
        .for_each(|batch| sum.add(&batch.counters));
    sum
}

pub(super) fn put_lane(writes: &mut Writes, lane: u32, checkpoint: &LaneCheckpoint) {
    let without_canary = LaneCheckpoint {
        canary: Vec::new(),
        makeup: Box::default(),
        source: checkpoint.source.clone(),
        target: checkpoint.target.clone(),
        ..*checkpoint
    };
    writes.put(layout::lane(lane), layout::encode(&without_canary));
}

pub(super) fn put_makeup(writes: &mut Writes, lane: u32, checkpoint: &LaneCheckpoint) {
    let makeup = MakeupRecord {
        pass: checkpoint.pass,
        makeup: checkpoint.makeup.clone(),
    };
    writes.put(layout::makeup(lane), layout::encode(&makeup));
}

pub(super) fn put_canary(writes: &mut Writes, lane: u32, checkpoint: &LaneCheckpoint) {
    let canary = CanaryRecord {
        pass: checkpoint.pass,
        batches: checkpoint.canary.clone(),
    };
    writes.put(layout::canary(lane), layout::encode(&canary));
}

fn quarantine_entry(lane: u32, name: &[u8], record: &QuarantineRecord) -> (Vec<u8>, Vec<u8>) {
    let entry = QuarantineEntry {
        name: name[..name.len().min(QUARANTINED_NAME_BYTES)].to_vec(),
        name_bytes: name.len() as u64,
        record: QuarantineRecord {
            reason: shortened(&record.reason),
            error: record.error.as_deref().map(shortened),
            ..record.clone()
        },
    };
    (layout::quarantine(lane, name), layout::encode(&entry))
}

fn quarantine_event(lane: u32, name: &[u8], record: &QuarantineRecord) -> Event {
    let key_bytes = name.len() as u64;
    let name = &name[..name.len().min(QUARANTINED_NAME_BYTES)];
    Event::Quarantined {
        lane,
        pass: record.pass,
        seq: record.seq,
        key: Escaped(name).to_string(),
        key_hex: hex(name),
        key_bytes,
        payload_bytes: record.payload_bytes,
        payload_type: record.payload_type,
        reason: shortened(&record.reason),
        error: record.error.as_deref().map(shortened),
    }
}
