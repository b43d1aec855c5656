//! The state of one migration, held open by this process.
//!
//! # Invariants
//!
//! - The lanes in memory are the lanes on disk: they change only after a write is durable.
//! - The first error of a write is the last write: it is remembered and returned to everybody after it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::commit::{put_canary, put_lane};
use super::compare::Compared;
use super::engine::{Engine, Writes};
use super::error::StoreError;
use super::layout::{self, Kind};
use super::lock::Lock;
use super::pulse::Pulse;
use super::record::{
    BatchRecord, Foundation, LaneCheckpoint, Meta, PassRecord, Phase, QuarantineEntry,
    QuarantineRecord, RepairRecord, RunEnd, RunRecord, ServerIdentity, TEXT_BYTES,
};
use super::recorded::RecordedFiles;
use super::{now_ms, status};
use crate::audit::entry::EndKind;
use crate::audit::journal::{Event, Journal};
use crate::endpoint::{MetNode, Side};
use crate::error::Class;
use crate::plan::Plan;

use crate::progress::{Counters, FunctionsStatus, Status};

/// What is to be opened.
#[derive(Debug, Clone, Copy)]
pub struct OpenRequest<'a> {
    /// The folder of all migrations, for example `migrations-state`.
    pub state_dir: &'a Path,
    /// Name of the migration, and of its folder.
    pub name: &'a str,
    /// What is moved. A stored plan must be equal.
    pub plan: &'a Plan,
    /// Set an existing state aside and begin anew.
    pub restart: bool,
    /// What a commit survives.
    pub durability: Durability,
    /// What whoever waits for the lock is told, without arguments: `redknot migrate`.
    pub command: &'a str,
}

/// What a commit survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A killed process and a power cut.
    Fsync,
    /// A killed process; a power cut only after the next milestone, some seconds later.
    None,
}

/// An open state.
pub struct Store {
    // In the order in which they must be dropped: the engine closes its files before the lock is released.
    pub(super) engine: Engine,
    pub(super) journal: Journal,
    pub(super) name: String,
    pub(super) dir: PathBuf,
    pub(super) meta: Meta,
    pub(super) lanes: Vec<LaneCheckpoint>,
    /// Sums over all passes of each lane.
    pub(super) totals: Vec<Counters>,
    pub(super) passes: Vec<PassRecord>,
    pub(super) this_run: RunRecord,
    pub(super) last_run: Option<RunRecord>,
    pub(super) quarantine_len: u64,
    pub(super) durability: Durability,
    /// What this process runs, for the journal.
    pub(super) command: String,
    pub(super) notes: Vec<String>,
    /// The first error of a write.
    pub(super) failed: Option<StoreError>,
    /// Lanes that moved since the last milestone.
    pub(super) moved: BTreeSet<u32>,
    pub(super) milestone_at: Instant,
    /// When this process opened it.
    pub(super) opened: Instant,
    /// What the copy feels.
    pub(super) pulse: Pulse,
    /// Sums over everything at the last sample, and when that was.
    pub(super) sampled: Counters,
    pub(super) sampled_at: Instant,
    /// Durable lines of the journal that the state is not bound to yet: how many there are, and the newest one's hash.
    pub(super) to_seal: Option<(u64, [u8; 32])>,
    /// Where lanes went on after the state was lost.
    pub(super) foundations: Vec<Option<Foundation>>,
    /// When the canary of each lane was written, if it was in this run and pass.
    pub(super) canary_at: Vec<Option<Instant>>,
    pub(super) compared: Compared,
    pub(super) repair: Option<RepairRecord>,
    /// The nodes of source and target that the journal knows, where these are clusters.
    pub(super) met: [Vec<MetNode>; 2],
    pub(super) last_sync: Duration,
    pub(super) recorded_files: RecordedFiles,
    pub(super) _lock: Lock,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.dir)
            .field("meta", &self.meta)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Name of the migration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Who made this state and for what.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// One checkpoint a lane of the plan; durable.
    pub fn lanes(&self) -> &[LaneCheckpoint] {
        &self.lanes
    }

    /// Number of the current run, counted durably when the state was opened.
    pub fn run(&self) -> u32 {
        self.meta.runs
    }

    /// The run before this one. Without an end, it died.
    pub fn last_run(&self) -> Option<&RunRecord> {
        self.last_run.as_ref()
    }

    /// The passes that were begun, oldest first.
    pub fn passes(&self) -> Vec<PassRecord> {
        self.passes.clone()
    }

    /// How many keys [`Self::quarantine`] lists.
    pub fn quarantine_len(&self) -> u64 {
        self.quarantine_len
    }

    /// What the operator should know about the opening: a lock left by a dead process, a torn journal line.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The nodes of a side that an earlier run has met, if it was a cluster.
    pub fn met(&self, side: Side) -> &[MetNode] {
        &self.met[side as usize]
    }

    /// How long the last commit took to become durable.
    pub fn last_sync(&self) -> Duration {
        self.last_sync
    }

    /// Every key that could not be copied, in any pass: lane, name (its first [`QUARANTINED_NAME_BYTES`](super::record::QUARANTINED_NAME_BYTES)), record.
    pub fn quarantine(
        &self,
    ) -> Result<impl Iterator<Item = (u32, Vec<u8>, QuarantineRecord)>, StoreError> {
        let entries = self.read_all(Kind::Quarantine, |key, value| {
            let entry: QuarantineEntry = layout::decode(value)?;
            Some((layout::parse_quarantine(key)?, entry.name, entry.record))
        })?;
        Ok(entries.into_iter())
    }

    /// Shows `visit` every batch record of every lane and pass: lane, pass, seq, record.
    pub fn visit_batches(
        &self,
        mut visit: impl FnMut(u32, u32, u64, BatchRecord),
    ) -> Result<(), StoreError> {
        self.read_each(Kind::Batch, |key, value| {
            let (lane, pass, first) = layout::parse_batches(key)?;
            let records: Vec<BatchRecord> = layout::decode(value)?;
            for (seq, record) in (first..).zip(records) {
                visit(lane, pass, seq, record);
            }
            Some(())
        })
    }

    /// Notes in the journal what became of the libraries of functions.
    pub fn note_functions(&mut self, functions: FunctionsStatus) -> Result<(), StoreError> {
        let FunctionsStatus {
            libraries,
            written,
            kept,
        } = functions;
        self.journal.append(
            now_ms(),
            Event::Functions {
                libraries,
                written,
                kept,
            },
        );
        self.sync_journal()
    }

    /// Moves on to `phase`; durable on return.
    pub fn set_phase(&mut self, phase: Phase) -> Result<(), StoreError> {
        let meta = Meta {
            phase,
            ..self.meta.clone()
        };
        let mut writes = Writes::default();
        writes.put(layout::meta(), layout::encode(&meta));
        self.write_through(writes)?;
        self.meta = meta;
        if phase == Phase::Copied {
            self.append_milestone();
            self.tell_completed();
        } else {
            let phase = match phase {
                Phase::Planned => "planned",
                Phase::Copying => "copying",
                Phase::Copied => "copied",
            };
            self.journal.append(
                now_ms(),
                Event::Phase {
                    phase: phase.to_owned(),
                },
            );
        }
        self.sync_journal()
    }

    /// Begins the next pass of a lane at `checkpoint`, which is [`LaneCheckpoint::next_pass`] of the present one; durable
    /// on return. The batches of earlier passes stay.
    ///
    /// # Panics
    ///
    /// If `checkpoint` is anything else.
    pub fn begin_pass(
        &mut self,
        lane: u32,
        checkpoint: LaneCheckpoint,
        reason: &str,
    ) -> Result<(), StoreError> {
        let present = &self.lanes[lane as usize];
        let fresh = present.next_pass(checkpoint.source.clone(), checkpoint.target.clone());
        assert_eq!(
            checkpoint, fresh,
            "lane {lane}: a pass begins at the start, with nothing counted"
        );
        let checkpoint = tame(checkpoint);
        let pass = PassRecord {
            lane,
            pass: checkpoint.pass,
            began_ms: now_ms(),
            run: self.run(),
            reason: shortened(reason),
        };
        let ordinal = u32::try_from(self.passes.len()).expect("fewer passes than 2^32");
        let mut writes = Writes::default();
        put_lane(&mut writes, lane, &checkpoint);
        writes.put(layout::pass(ordinal), layout::encode(&pass));
        self.write_through(writes)?;
        // What the pass before it has come to belongs to the audit.
        self.append_milestone();
        self.journal.append(
            pass.began_ms,
            Event::PassBegan {
                lane,
                pass: pass.pass,
                run: pass.run,
                reason: pass.reason.clone(),
                source_run_id: checkpoint.source.run_id.clone(),
                target_run_id: checkpoint.target.run_id.clone(),
            },
        );
        self.lanes[lane as usize] = checkpoint;
        self.canary_at[lane as usize] = None;
        self.passes.push(pass);
        self.sync_journal()?;
        self.forget_recorded(lane)
    }

    /// Stores who the servers of a lane's current pass are, after a reconnect or a resume found them changed yet
    /// trustworthy; durable on return.
    pub fn update_identity(
        &mut self,
        lane: u32,
        source: ServerIdentity,
        target: ServerIdentity,
        reason: &str,
    ) -> Result<(), StoreError> {
        let checkpoint = tame(LaneCheckpoint {
            source,
            target,
            ..self.lanes[lane as usize].clone()
        });
        let mut writes = Writes::default();
        put_lane(&mut writes, lane, &checkpoint);
        self.write_through(writes)?;
        self.journal.append(
            now_ms(),
            Event::LaneContinued {
                lane,
                pass: checkpoint.pass,
                run: self.run(),
                reason: shortened(reason),
                source_run_id: checkpoint.source.run_id.clone(),
                target_run_id: checkpoint.target.run_id.clone(),
            },
        );
        self.lanes[lane as usize] = checkpoint;
        self.sync_journal()
    }

    /// The pass of a lane that was made anew from the journal, if one was: of its keys, more than were in flight may
    /// have been written without being counted.
    pub fn rebuilt_pass(&self, lane: u32) -> Option<u32> {
        let foundation = self.foundations.get(lane as usize)?.as_ref()?;
        Some(foundation.pass)
    }

    /// What the copy feels, to be told with the milestones.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Says how this run ended; durable on return.
    pub fn end_run(&mut self, how: &str) -> Result<(), StoreError> {
        self.end_run_as(how, EndKind::Unknown, None)
    }

    /// As [`Self::end_run`], with what programs make of it; of a failure its class.
    ///
    /// The journal is told first: where the state says that a run has ended, the journal is whole.
    pub fn end_run_as(
        &mut self,
        how: &str,
        kind: EndKind,
        class: Option<Class>,
    ) -> Result<(), StoreError> {
        let end = RunEnd {
            at_ms: now_ms(),
            how: shortened(how),
        };
        let record = RunRecord {
            end: Some(end.clone()),
            ..self.this_run.clone()
        };
        // The journal must not know more than the engine.
        self.attempt(|store| store.engine.make_durable())?;
        self.tell_waits(true);
        self.append_milestone();
        self.journal.append(
            end.at_ms,
            Event::RunEnded {
                run: record.run,
                how: end.how,
                end: kind,
                class: class.and_then(name_of),
            },
        );
        self.sync_journal()?;
        let mut writes = Writes::default();
        writes.put(layout::run(record.run), layout::encode(&record));
        for (lane, checkpoint) in (0..).zip(&self.lanes) {
            if self.canary_at[lane as usize].is_some() {
                put_canary(&mut writes, lane, checkpoint);
            }
        }
        self.put_seal(&mut writes);
        self.write_through(writes)?;
        self.this_run = record;
        Ok(())
    }

    /// Replaces the status file, and tells the journal of waits that have begun or ended since.
    pub fn tell_status(&mut self, status: &Status) -> Result<(), StoreError> {
        self.tell_new_waits();
        self.write_status(status)
    }

    /// Replaces the status file.
    pub fn write_status(&self, status: &Status) -> Result<(), StoreError> {
        status::write(&self.dir, status)
    }

    /// Writes and makes durable whatever the durability asked for: for what happens a few times a run.
    pub(super) fn write_through(&mut self, writes: Writes) -> Result<(), StoreError> {
        self.attempt(|store| {
            store.engine.apply(writes)?;
            store.engine.make_durable()
        })
    }

    /// Does a write, unless one has failed before; remembers if this one does.
    pub(super) fn attempt<R>(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.check()?;
        let result = write(self);
        if let Err(error) = &result {
            self.failed = Some(error.clone());
        }
        result
    }

    fn check(&self) -> Result<(), StoreError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Every record of a kind, read by `parse`; damaged if it can't read one.
    pub(super) fn read_all<T>(
        &self,
        kind: Kind,
        mut parse: impl FnMut(&[u8], &[u8]) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut records = Vec::new();
        self.read_each(kind, |key, value| {
            records.push(parse(key, value)?);
            Some(())
        })?;
        Ok(records)
    }

    fn read_each(
        &self,
        kind: Kind,
        parse: impl FnMut(&[u8], &[u8]) -> Option<()>,
    ) -> Result<(), StoreError> {
        super::open::read_each(&self.engine, &self.dir, kind, parse)
    }
}

/// As it stands in JSON.
fn name_of(class: Class) -> Option<String> {
    let value = serde_json::to_value(class).ok()?;
    value.as_str().map(str::to_owned)
}

/// Cuts what servers said about themselves to what a record has room for.
fn tame(checkpoint: LaneCheckpoint) -> LaneCheckpoint {
    LaneCheckpoint {
        source: tame_identity(checkpoint.source),
        target: tame_identity(checkpoint.target),
        ..checkpoint
    }
}

pub(super) fn tame_identity(mut identity: ServerIdentity) -> ServerIdentity {
    if let Some(run_id) = &mut identity.run_id {
        // Those of a cluster are many.
        truncate(run_id, 3000);
    }
    truncate(&mut identity.version, 128);
    identity
}

/// At most [`TEXT_BYTES`] of `text`.
pub(super) fn shortened(text: &str) -> String {
    let mut text = text.to_owned();
    truncate(&mut text, TEXT_BYTES);
    text
}

fn truncate(text: &mut String, bytes: usize) {
    let end = (0..=bytes.min(text.len()))
        .rev()
        .find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
}
