//! Opening a state: create it, or find out whether what lies there can be trusted, and count the run.
//!
//! # Invariant
//!
//! A cursor comes out of here only if the chain of batch records that leads to it is unbroken, its accounts add up, and
//! the journal knows of nothing later.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::compare::Compared;
use super::engine::{Engine, Writes};
use super::error::StoreError;
use super::layout::{self, Kind, RECORD_BYTES_MAX};
use super::lock::{self, Lock};
use super::pulse::Pulse;
use super::record::{
    CanaryRecord, FORMAT_VERSION, Foundation, LaneCheckpoint, MakeupRecord, Meta, PassRecord,
    Phase, QuarantineEntry, RunRecord,
};
use super::recorded::RecordedFiles;
use super::store::{Durability, OpenRequest, Store};
use super::witness::journal_error;
use super::{engine, folder, now_ms, verify};
use crate::audit::journal::{Event, Journal, Known, hex};
use crate::plan::Plan;
use crate::progress::Counters;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Creates or opens the state of a migration, takes its lock, and counts a new run; durable on return.
///
/// # Errors
///
/// Every variant of [`StoreError`] but those of reading a status. Nothing is changed then, except that an old state has
/// been set aside if `restart` asked for it.
pub fn open(request: &OpenRequest<'_>) -> Result<Store, StoreError> {
    let dir = folder::prepare(request.state_dir, request.name)?;
    let (lock, died) = Lock::take(&dir, request.command)?;
    let mut notes: Vec<String> = folder::doubts(&dir).into_iter().collect();
    if let Some(holder) = died {
        notes.push(format!(
            "the process with pid {} on {} died without releasing this migration; taken over",
            holder.pid, holder.host
        ));
    }
    let set_aside = match request.restart {
        true => folder::set_aside(&dir, now_ms())?,
        false => None,
    };
    crate::crash_point!("state_open");
    let (journal, known) =
        Journal::open(&dir.join(folder::JOURNAL)).map_err(|error| journal_error(&dir, error))?;
    if known.torn {
        notes.push(
            "the last line of the journal was torn by a crash and has been cut off".to_owned(),
        );
    }
    refuse_other(known.format, &known.version)?;
    if known.lines == 0 {
        engine::forget_unborn(&dir)?;
    }
    let engine = Engine::open(&dir)?;
    let found = Found::read(&engine, &dir, request, &known)?;
    let compared = Compared::read(&engine, &dir, found.lanes.len(), &known)?;
    let repair = read(&engine, &dir, &layout::repair())?;
    crate::crash_point!("state_open");
    let canary_at = vec![None; found.lanes.len()];
    let mut store = Store {
        engine,
        journal,
        name: request.name.to_owned(),
        this_run: this_run(found.meta.runs + 1),
        meta: found.meta,
        lanes: found.lanes,
        totals: found.totals,
        passes: found.passes,
        last_run: found.last_run,
        quarantine_len: found.quarantine_len,
        recorded_files: RecordedFiles::default(),
        durability: request.durability,
        command: request.command.to_owned(),
        notes,
        failed: None,
        moved: BTreeSet::new(),
        milestone_at: Instant::now(),
        opened: Instant::now(),
        pulse: Pulse::default(),
        sampled: Counters::default(),
        sampled_at: Instant::now(),
        to_seal: None,
        foundations: found.foundations,
        canary_at,
        compared,
        repair,
        met: known.nodes.clone(),
        last_sync: Duration::ZERO,
        dir,
        _lock: lock,
    };
    store.totals.iter().for_each(|lane| store.sampled.add(lane));
    store.begin_run(&known, set_aside.as_deref())?;
    Ok(store)
}

impl Store {
    /// Counts the run: first in the engine, then in the journal, which is never ahead.
    fn begin_run(&mut self, known: &Known, set_aside: Option<&Path>) -> Result<(), StoreError> {
        let before = self.meta.runs;
        self.meta.runs = self.this_run.run;
        let mut writes = Writes::default();
        writes.put(layout::meta(), layout::encode(&self.meta));
        writes.put(
            layout::run(self.this_run.run),
            layout::encode(&self.this_run),
        );
        self.write_through(writes)?;
        if known.format.is_none() {
            self.journal.append(self.meta.created_ms, self.created());
            if before > 0 && self.lanes.iter().any(|lane| lane.pass > 0) {
                self.notes
                    .push("the journal was missing; it begins anew".to_owned());
                self.journal
                    .append(now_ms(), Event::Adopted { runs: before });
            }
        }
        if let Some(aside) = set_aside {
            let set_aside = aside
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            self.journal
                .append(now_ms(), Event::Restarted { set_aside });
        }
        self.retell(known);
        // What the run before this one made durable without being able to say so.
        self.moved = (0..)
            .zip(&self.lanes)
            .filter(|(lane, checkpoint)| {
                let told = known.lanes.get(lane);
                let told = told.map_or((0, 0), |told| (told.pass, told.next_seq));
                told != (checkpoint.pass, checkpoint.next_seq)
            })
            .map(|(lane, _)| lane)
            .collect();
        self.append_milestone();
        self.retell_results(known)?;
        let run = &self.this_run;
        self.journal.append(
            run.began_ms,
            Event::RunBegan {
                run: run.run,
                pid: run.pid,
                host: run.host.clone(),
                version: run.version.clone(),
                user: lock::user(),
                command: self.command.clone(),
                durability: match self.durability {
                    Durability::Fsync => "fsync",
                    Durability::None => "none",
                }
                .to_owned(),
            },
        );
        self.sync_journal()?;
        // The journal's own name.
        folder::sync(&self.dir)
    }

    fn created(&self) -> Event {
        Event::Created {
            format: self.meta.format,
            version: self.meta.created_by.clone(),
            migration: self.name.clone(),
            plan: Box::new(self.meta.plan.clone()),
            fingerprint: hex(&self.meta.fingerprint),
        }
    }
}

/// What lay in the engine, or what a new migration begins with.
pub(super) struct Found {
    pub(super) meta: Meta,
    lanes: Vec<LaneCheckpoint>,
    /// Sums over all passes of each lane.
    totals: Vec<Counters>,
    /// Where lanes went on after the state was lost.
    foundations: Vec<Option<Foundation>>,
    passes: Vec<PassRecord>,
    last_run: Option<RunRecord>,
    quarantine_len: u64,
}

impl Found {
    fn read(
        engine: &Engine,
        dir: &Path,
        request: &OpenRequest<'_>,
        known: &Known,
    ) -> Result<Self, StoreError> {
        let Some(meta) = read_meta(engine, dir)? else {
            return Self::new(engine, dir, request, known);
        };
        let differences = meta.plan.differences(request.plan);
        if !differences.is_empty() {
            return Err(StoreError::Foreign {
                name: request.name.to_owned(),
                differences,
            });
        }
        Self::of(engine, dir, meta, known)
    }

    /// What belongs to `meta`, unless it contradicts itself or the journal.
    pub(super) fn of(
        engine: &Engine,
        dir: &Path,
        meta: Meta,
        known: &Known,
    ) -> Result<Self, StoreError> {
        let damaged = |what: String| StoreError::damaged(what, dir);
        let lanes = read_lanes(engine, dir, &meta.plan)?;
        verify::against_journal(dir, &meta, &lanes, known)?;
        let mut totals = Vec::with_capacity(lanes.len());
        let mut foundations = Vec::with_capacity(lanes.len());
        for (lane, checkpoint) in (0..).zip(&lanes) {
            let milestone = known.lanes.get(&lane);
            let foundation: Option<Foundation> = read(engine, dir, &layout::foundation(lane))?;
            totals.push(verify::against_batches(
                engine,
                dir,
                lane,
                checkpoint,
                milestone,
                foundation.as_ref(),
            )?);
            foundations.push(foundation);
        }
        let mut passes: Vec<PassRecord> = Vec::new();
        read_each(engine, dir, Kind::Pass, |_, value| {
            passes.push(layout::decode(value)?);
            Some(())
        })?;
        let mut quarantine_len = 0;
        read_each(engine, dir, Kind::Quarantine, |_, value| {
            layout::decode::<QuarantineEntry>(value)?;
            quarantine_len += 1;
            Some(())
        })?;
        let last_run = read(engine, dir, &layout::run(meta.runs))?;
        if last_run.is_none() {
            return Err(damaged(format!(
                "the record of run {} is missing",
                meta.runs
            )));
        }
        Ok(Self {
            meta,
            lanes,
            totals,
            foundations,
            passes,
            last_run,
            quarantine_len,
        })
    }

    /// A new migration, unless there is reason to think that it is an emptied old one.
    fn new(
        engine: &Engine,
        dir: &Path,
        request: &OpenRequest<'_>,
        known: &Known,
    ) -> Result<Self, StoreError> {
        if known.lines > 0 {
            return Err(emptied(dir, known));
        }
        if !engine.is_empty()? {
            return Err(StoreError::damaged("its first record is missing", dir));
        }
        let meta = Meta {
            format: FORMAT_VERSION,
            name: request.name.to_owned(),
            plan: request.plan.clone(),
            fingerprint: request.plan.fingerprint(),
            created_ms: now_ms(),
            created_by: VERSION.to_owned(),
            runs: 0,
            phase: Phase::Planned,
        };
        let bytes = layout::encode(&meta).len() + 8;
        if bytes > RECORD_BYTES_MAX {
            return Err(StoreError::PlanTooBig { bytes });
        }
        Ok(Self {
            lanes: vec![LaneCheckpoint::new(); meta.plan.lanes.len()],
            totals: vec![Counters::default(); meta.plan.lanes.len()],
            foundations: vec![None; meta.plan.lanes.len()],
            meta,
            passes: Vec::new(),
            last_run: None,
            quarantine_len: 0,
        })
    }
}

/// Who made the state and for what; `None` in an empty store.
pub(super) fn read_meta(engine: &Engine, dir: &Path) -> Result<Option<Meta>, StoreError> {
    let damaged = |what: &str| StoreError::damaged(what, dir);
    let Some(bytes) = engine.get(&layout::meta())? else {
        return Ok(None);
    };
    refuse_other(layout::decode_first_u32(&bytes), "")?;
    let meta: Meta =
        layout::decode(&bytes).ok_or_else(|| damaged("its first record can't be read"))?;
    if meta.plan.fingerprint() != meta.fingerprint {
        return Err(damaged(
            "the plan is not the one whose fingerprint was stored",
        ));
    }
    Ok(Some(meta))
}

/// The journal knows of a migration of which the store has nothing.
pub(super) fn emptied(dir: &Path, known: &Known) -> StoreError {
    StoreError::Amnesia {
        what: format!(
            "the journal knows of {} runs, the store is empty",
            known.runs
        ),
        kept: dir.to_owned(),
    }
}

fn this_run(run: u32) -> RunRecord {
    RunRecord {
        run,
        began_ms: now_ms(),
        pid: std::process::id(),
        host: lock::host(),
        version: VERSION.to_owned(),
        end: None,
    }
}

pub(super) fn refuse_other(format: Option<u32>, by: &str) -> Result<(), StoreError> {
    match format {
        Some(format) if format > FORMAT_VERSION => Err(StoreError::Newer {
            format,
            by: by.to_owned(),
        }),
        Some(format) if format < FORMAT_VERSION => Err(StoreError::Older {
            format,
            by: by.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn read_lanes(engine: &Engine, dir: &Path, plan: &Plan) -> Result<Vec<LaneCheckpoint>, StoreError> {
    (0..)
        .zip(&plan.lanes)
        .map(|(lane, _)| {
            let Some(mut checkpoint) = read::<LaneCheckpoint>(engine, dir, &layout::lane(lane))?
            else {
                return Ok(LaneCheckpoint::new());
            };
            let canary: Option<CanaryRecord> = read(engine, dir, &layout::canary(lane))?;
            if let Some(canary) = canary.filter(|canary| canary.pass == checkpoint.pass) {
                checkpoint.canary = canary.batches;
            }
            let makeup: Option<MakeupRecord> = read(engine, dir, &layout::makeup(lane))?;
            if let Some(makeup) = makeup.filter(|makeup| makeup.pass == checkpoint.pass) {
                checkpoint.makeup = makeup.makeup;
            }
            if !checkpoint.makeup.is_of(checkpoint.counters.keys_written) {
                let what = format!("lane {lane}: types and sizes are not of the keys written");
                return Err(StoreError::damaged(what, dir));
            }
            Ok(checkpoint)
        })
        .collect()
}

/// The record at `key`, if there is one.
pub(super) fn read<T: DeserializeOwned>(
    engine: &Engine,
    dir: &Path,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    let Some(bytes) = engine.get(key)? else {
        return Ok(None);
    };
    match layout::decode(&bytes) {
        Some(record) => Ok(Some(record)),
        None => Err(StoreError::damaged(
            format!("the record at {} can't be read", hex(key)),
            dir,
        )),
    }
}

/// Shows `parse` every record of a kind; damaged if it can't read one.
pub(super) fn read_each(
    engine: &Engine,
    dir: &Path,
    kind: Kind,
    mut parse: impl FnMut(&[u8], &[u8]) -> Option<()>,
) -> Result<(), StoreError> {
    let mut broken = false;
    engine.visit(layout::all(kind), |key, value| match parse(key, value) {
        Some(()) => ControlFlow::Continue(()),
        None => {
            broken = true;
            ControlFlow::Break(())
        }
    })?;
    match broken {
        false => Ok(()),
        true => Err(StoreError::damaged(
            format!("a {} record can't be read", kind.name()),
            dir,
        )),
    }
}
