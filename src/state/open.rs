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

use super::chain::chain;
use super::engine::{Engine, Writes};
use super::error::StoreError;
use super::layout::{self, Kind, RECORD_BYTES_MAX};
use super::lock::{self, Lock};
use super::record::{
    BatchRecord, FORMAT_VERSION, LaneCheckpoint, Meta, PassRecord, Phase, QuarantineEntry,
    RunRecord,
};
use super::store::{OpenRequest, Store, journal_error, standing, stands_after};
use super::{folder, now_ms};
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
    let (lock, died) = Lock::take(&dir)?;
    let mut notes = Vec::new();
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
    refuse_newer(known.format, &known.version)?;
    let engine = Engine::open(&dir)?;
    let found = Found::read(&engine, &dir, request, &known)?;
    crate::crash_point!("state_open");
    let mut store = Store {
        engine,
        journal,
        name: request.name.to_owned(),
        this_run: this_run(found.meta.runs + 1),
        meta: found.meta,
        lanes: found.lanes,
        passes: found.passes,
        last_run: found.last_run,
        quarantine_len: found.quarantine_len,
        durability: request.durability,
        notes,
        failed: None,
        moved: BTreeSet::new(),
        milestone_at: Instant::now(),
        last_sync: Duration::ZERO,
        dir,
        _lock: lock,
    };
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
        let run = &self.this_run;
        self.journal.append(
            run.began_ms,
            Event::RunBegan {
                run: run.run,
                pid: run.pid,
                host: run.host.clone(),
                version: run.version.clone(),
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
struct Found {
    meta: Meta,
    lanes: Vec<LaneCheckpoint>,
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
        let damaged = |what: String| StoreError::damaged(what, dir);
        let Some(bytes) = engine.get(&layout::meta())? else {
            return Self::new(engine, dir, request, known);
        };
        refuse_newer(layout::decode_first_u32(&bytes), "")?;
        let meta: Meta = layout::decode(&bytes)
            .ok_or_else(|| damaged("its first record can't be read".to_owned()))?;
        if meta.plan.fingerprint() != meta.fingerprint {
            return Err(damaged(
                "the plan is not the one whose fingerprint was stored".to_owned(),
            ));
        }
        let differences = meta.plan.differences(request.plan);
        if !differences.is_empty() {
            return Err(StoreError::Foreign {
                name: request.name.to_owned(),
                differences,
            });
        }
        let lanes = read_lanes(engine, dir, &meta.plan)?;
        for (lane, checkpoint) in (0..).zip(&lanes) {
            verify(engine, dir, lane, checkpoint)?;
        }
        check_memory(engine, dir, &meta, &lanes, known)?;
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
        let last_run = match engine.get(&layout::run(meta.runs))? {
            Some(bytes) => Some(layout::decode(&bytes).ok_or_else(|| {
                damaged(format!("the record of run {} can't be read", meta.runs))
            })?),
            None => {
                return Err(damaged(format!(
                    "the record of run {} is missing",
                    meta.runs
                )));
            }
        };
        Ok(Self {
            meta,
            lanes,
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
            return Err(StoreError::Amnesia {
                what: format!(
                    "the journal knows of {} runs, the store is empty",
                    known.runs
                ),
                kept: dir.to_owned(),
            });
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
            meta,
            passes: Vec::new(),
            last_run: None,
            quarantine_len: 0,
        })
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

fn refuse_newer(format: Option<u32>, by: &str) -> Result<(), StoreError> {
    match format {
        Some(format) if format > FORMAT_VERSION => Err(StoreError::Newer {
            format,
            by: by.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn read_lanes(engine: &Engine, dir: &Path, plan: &Plan) -> Result<Vec<LaneCheckpoint>, StoreError> {
    (0..)
        .zip(&plan.lanes)
        .map(|(lane, _)| match engine.get(&layout::lane(lane))? {
            None => Ok(LaneCheckpoint::new()),
            Some(bytes) => layout::decode(&bytes).ok_or_else(|| {
                StoreError::damaged(format!("the checkpoint of lane {lane} can't be read"), dir)
            }),
        })
        .collect()
}

/// Walks all batches of a lane and checks that they lead to its checkpoint.
fn verify(
    engine: &Engine,
    dir: &Path,
    lane: u32,
    checkpoint: &LaneCheckpoint,
) -> Result<(), StoreError> {
    let mut walk = Walk::default();
    let mut broken = None;
    let range = (layout::batch(lane, 0, 0), layout::batch(lane + 1, 0, 0));
    engine.visit(range, |key, value| match walk.step(key, value) {
        Ok(()) => ControlFlow::Continue(()),
        Err(what) => {
            broken = Some(what);
            ControlFlow::Break(())
        }
    })?;
    let end = || walk.end(checkpoint);
    match broken.or_else(end) {
        None => Ok(()),
        Some(what) => Err(StoreError::damaged(format!("lane {lane}: {what}"), dir)),
    }
}

/// What is known after the batches so far.
#[derive(Default)]
struct Walk {
    pass: u32,
    next_seq: u64,
    /// `None` at the beginning of a pass.
    cursor: Option<u64>,
    counters: Counters,
    chain: [u8; 32],
}

impl Walk {
    /// Takes one batch; says what is wrong with it.
    fn step(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let (lane, pass, seq) = layout::parse_batch(key).ok_or("a batch has no number")?;
        let record: BatchRecord = layout::decode(value)
            .ok_or_else(|| format!("batch {seq} of pass {pass} can't be read"))?;
        if pass != self.pass {
            *self = Self {
                pass,
                chain: self.chain,
                ..Self::default()
            };
        }
        if seq != self.next_seq {
            return Err(format!("batch {} of pass {pass} is missing", self.next_seq));
        }
        if record.cursor_in != self.cursor.unwrap_or(0) {
            return Err(format!(
                "batch {seq} of pass {pass} does not begin where the one before it ends"
            ));
        }
        if record.chain != chain(&self.chain, lane, pass, seq, &record) {
            return Err(format!("batch {seq} of pass {pass} breaks the chain"));
        }
        self.next_seq += 1;
        self.cursor = Some(record.cursor_out);
        self.counters.add(&record.counters);
        self.chain = record.chain;
        Ok(())
    }

    /// Says what in `checkpoint` is not what the batches lead to.
    fn end(&self, checkpoint: &LaneCheckpoint) -> Option<String> {
        // A pass that has just begun has no batches yet.
        let walked = match self.pass == checkpoint.pass {
            true => (self.next_seq, self.cursor, self.counters),
            false => (0, None, Counters::default()),
        };
        let (next_seq, cursor, counters) = walked;
        let fits = self.pass <= checkpoint.pass
            && next_seq == checkpoint.next_seq
            && stands_after(checkpoint.position, cursor)
            && counters == checkpoint.counters
            && self.chain == checkpoint.chain;
        (!fits).then(|| {
            format!(
                "its checkpoint says {}, its batches lead to {}",
                standing(checkpoint.pass, checkpoint.next_seq),
                standing(self.pass, self.next_seq)
            )
        })
    }
}

/// Refuses a store that holds less than the journal knows of.
fn check_memory(
    engine: &Engine,
    dir: &Path,
    meta: &Meta,
    lanes: &[LaneCheckpoint],
    known: &Known,
) -> Result<(), StoreError> {
    let amnesia = |what: String| {
        Err(StoreError::Amnesia {
            what,
            kept: dir.to_owned(),
        })
    };
    if known.runs > meta.runs {
        return amnesia(format!(
            "the journal knows of run {}, the store of {}",
            known.runs, meta.runs
        ));
    }
    for (lane, milestone) in &known.lanes {
        let Some(checkpoint) = lanes.get(*lane as usize) else {
            return Err(StoreError::damaged(
                format!("the journal knows of a lane {lane} that the plan has not"),
                dir,
            ));
        };
        if (milestone.pass, milestone.next_seq) > (checkpoint.pass, checkpoint.next_seq) {
            return amnesia(format!(
                "lane {lane}: the journal knows of {}, the store of {}",
                standing(milestone.pass, milestone.next_seq),
                standing(checkpoint.pass, checkpoint.next_seq)
            ));
        }
        let Some(last) = milestone.next_seq.checked_sub(1) else {
            continue;
        };
        let record: Option<BatchRecord> = engine
            .get(&layout::batch(*lane, milestone.pass, last))?
            .and_then(|bytes| layout::decode(&bytes));
        if record.is_none_or(|record| hex(&record.chain) != milestone.chain) {
            let what = format!(
                "lane {lane}: batch {last} of pass {} is not the one that the journal knows",
                milestone.pass
            );
            return Err(StoreError::damaged(what, dir));
        }
    }
    Ok(())
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
