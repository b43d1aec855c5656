//! Makes a state anew that was lost, emptied or damaged: from the milestones of its journal.
//!
//! Losing the state may cost time, never keys. A milestone was durable before it was told, so the cursor in it is not
//! ahead of what was acknowledged; what was made durable after it is copied again.
//!
//! # Invariants
//!
//! - A state that can be opened is not touched, and nothing is deleted: what is left of the old one is set aside.
//! - The names that could prove a cursor alive are gone. So a lane goes on only between the same two processes; anything
//!   else begins a new pass.
//! - Dying on the way leaves a state that is refused, and can be made anew again: the record without which nothing opens
//!   is written last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::engine::{Engine, Writes};
use super::error::StoreError;
use super::layout;
use super::lock::Lock;
use super::open::{Found, read_meta, refuse_other};
use super::record::{
    CanaryBatch, CanaryRecord, Foundation, LaneCheckpoint, MakeupRecord, Meta, PassRecord, Phase,
    Position, QuarantineEntry, QuarantineRecord, RunEnd, RunRecord, ServerIdentity,
};
use super::witness::journal_error;
use super::{folder, now_ms, status};
use crate::audit::entry::{Line, unhex};
use crate::audit::journal::{Event, Journal, Milestone};
use crate::audit::reader::Lines;

/// Records that are written at once.
const WRITES_AT_ONCE: usize = 256;

/// What was made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Runs that the journal knows of.
    pub runs: u32,
    /// Where each lane goes on; lanes that were never scanned are not in it.
    pub lanes: Vec<Milestone>,
    /// Quarantined keys that the journal knows of.
    pub quarantined: u64,
    /// The folder that holds what was left of the old state, if something was.
    pub set_aside: Option<PathBuf>,
}

/// Makes the state of the migration `name` anew from its journal; `None`, and nothing is changed, if it can be opened as
/// it is.
///
/// # Errors
///
/// [`StoreError::Unknown`], [`StoreError::Locked`], and [`StoreError::Damaged`] if the journal is not whole.
pub fn rebuild(state_dir: &Path, name: &str) -> Result<Option<Rebuilt>, StoreError> {
    let known_names = status::list(state_dir);
    if !known_names.iter().any(|known| known == name) {
        return Err(StoreError::Unknown {
            name: name.to_owned(),
            state_dir: state_dir.to_owned(),
            known: known_names,
        });
    }
    let dir = folder::prepare(state_dir, name)?;
    let (_lock, _) = Lock::take(&dir, "redknot audit rebuild")?;
    let path = dir.join(folder::JOURNAL);
    let (mut journal, known) = Journal::open(&path).map_err(|error| journal_error(&dir, error))?;
    refuse_other(known.format, &known.version)?;
    if known.format.is_none() {
        return Err(StoreError::damaged(
            "the journal does not tell its plan, so there is nothing to make it from",
            &dir,
        ));
    }
    if Engine::is_in(&dir) && opens(&dir, &known)? {
        return Ok(None);
    }
    let past = Past::read(&path, &dir)?;
    let set_aside = set_aside(&dir)?;
    let engine = Engine::open(&dir)?;
    past.write(&engine, name)?;
    drop(engine);
    let lanes: Vec<Milestone> = past.lanes.into_values().collect();
    let folder_name = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    journal.append(
        now_ms(),
        Event::Rebuilt {
            runs: known.runs,
            set_aside: set_aside.as_ref().map(folder_name),
            lanes: lanes.clone(),
        },
    );
    journal.sync().map_err(|error| journal_error(&dir, error))?;
    folder::sync(&dir)?;
    Ok(Some(Rebuilt {
        runs: known.runs,
        lanes,
        quarantined: past.quarantined.len() as u64,
        set_aside,
    }))
}

/// Whether a run would take the state as it is.
fn opens(dir: &Path, known: &crate::audit::journal::Known) -> Result<bool, StoreError> {
    let opened = Engine::open(dir).and_then(|engine| match read_meta(&engine, dir)? {
        Some(meta) => Found::of(&engine, dir, meta, known).map(|_| true),
        None => Ok(false),
    });
    match opened {
        Ok(opened) => Ok(opened),
        Err(StoreError::Damaged { .. } | StoreError::Amnesia { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Moves the engine's folder out of the way, if there is one.
fn set_aside(dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    match dir.join(folder::DB).exists() {
        true => folder::set_aside_only(dir, folder::DB, now_ms()).map(Some),
        false => Ok(None),
    }
}

/// What the journal tells of the past.
struct Past {
    created: Option<(Meta, u64)>,
    phase: Phase,
    runs: BTreeMap<u32, RunRecord>,
    passes: Vec<PassRecord>,
    /// Who the servers of each lane's current pass are.
    servers: BTreeMap<u32, (Option<String>, Option<String>)>,
    lanes: BTreeMap<u32, Milestone>,
    /// By lane and name, so that a key has one entry.
    quarantined: BTreeMap<(u32, Vec<u8>), QuarantineEntry>,
}

impl Past {
    fn read(path: &Path, dir: &Path) -> Result<Self, StoreError> {
        let mut past = Self {
            created: None,
            phase: Phase::Planned,
            runs: BTreeMap::new(),
            passes: Vec::new(),
            servers: BTreeMap::new(),
            lanes: BTreeMap::new(),
            quarantined: BTreeMap::new(),
        };
        let lines = Lines::open(path).map_err(|error| journal_error(dir, error))?;
        for line in lines.into_iter().flatten() {
            past.learn(line.map_err(|error| journal_error(dir, error))?.line);
        }
        for (lane, milestone) in &past.lanes {
            if milestone.next_seq > 0 && milestone.cursor.is_none() {
                let what = format!("the journal's milestone of lane {lane} has no cursor");
                return Err(StoreError::damaged(what, dir));
            }
        }
        Ok(past)
    }

    fn learn(&mut self, line: Line) {
        let Line { at_ms, event, .. } = line;
        match event {
            Event::Created {
                format,
                version,
                migration,
                plan,
                ..
            } => {
                let meta = Meta {
                    format,
                    name: migration,
                    fingerprint: plan.fingerprint(),
                    plan: *plan,
                    created_ms: at_ms,
                    created_by: version,
                    runs: 0,
                    phase: Phase::Planned,
                };
                self.created = Some((meta, at_ms));
            }
            Event::RunBegan {
                run,
                pid,
                host,
                version,
                ..
            } => {
                let record = RunRecord {
                    run,
                    began_ms: at_ms,
                    pid,
                    host,
                    version,
                    end: None,
                };
                self.runs.insert(run, record);
            }
            Event::RunEnded { run, how, .. } => {
                if let Some(record) = self.runs.get_mut(&run) {
                    record.end = Some(RunEnd { at_ms, how });
                }
            }
            Event::Phase { phase } => {
                self.phase = match phase.as_str() {
                    "planned" => Phase::Planned,
                    _ => Phase::Copying,
                };
            }
            Event::Completed { .. } => self.phase = Phase::Copied,
            Event::PassBegan {
                lane,
                pass,
                run,
                reason,
                source_run_id,
                target_run_id,
            } => {
                self.servers.insert(lane, (source_run_id, target_run_id));
                self.begin_pass(lane, pass);
                self.passes.push(PassRecord {
                    lane,
                    pass,
                    began_ms: at_ms,
                    run,
                    reason,
                });
            }
            Event::LaneContinued {
                lane,
                source_run_id,
                target_run_id,
                ..
            } => {
                self.servers.insert(lane, (source_run_id, target_run_id));
            }
            Event::Checkpoint { lanes, .. } | Event::Rebuilt { lanes, .. } => {
                for milestone in lanes {
                    self.lanes.insert(milestone.lane, milestone);
                }
            }
            Event::Quarantined { .. } => self.quarantine(at_ms, event),
            _ => {}
        }
    }

    fn begin_pass(&mut self, lane: u32, pass: u32) {
        let before = self.lanes.remove(&lane);
        let (chain, total) = match before {
            Some(before) => (before.chain, before.counters_of_all_passes),
            None => Default::default(),
        };
        let milestone = Milestone {
            lane,
            pass,
            next_seq: 0,
            chain,
            cursor: None,
            counters: Default::default(),
            makeup: Box::default(),
            counters_of_all_passes: total,
        };
        self.lanes.insert(lane, milestone);
    }

    fn quarantine(&mut self, at_ms: u64, event: Event) {
        let Event::Quarantined {
            lane,
            pass,
            seq,
            key_hex,
            key_bytes,
            reason,
            error,
            payload_bytes,
            payload_type,
            ..
        } = event
        else {
            return;
        };
        let Some(name) = unhex(&key_hex) else { return };
        let entry = QuarantineEntry {
            name_bytes: key_bytes.max(name.len() as u64),
            name: name.clone(),
            record: QuarantineRecord {
                pass,
                seq,
                reason,
                error,
                payload_bytes,
                payload_type,
                at_ms,
            },
        };
        self.quarantined.insert((lane, name), entry);
    }

    /// Writes it all, the record without which nothing opens last.
    fn write(&self, engine: &Engine, name: &str) -> Result<(), StoreError> {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut put = |key, value| records.push((key, value));
        for (run, record) in &self.runs {
            put(layout::run(*run), layout::encode(record));
        }
        for (ordinal, pass) in (0..).zip(&self.passes) {
            put(layout::pass(ordinal), layout::encode(pass));
        }
        for (lane, milestone) in &self.lanes {
            let foundation = foundation(milestone);
            put(layout::foundation(*lane), layout::encode(&foundation));
            let checkpoint = self.checkpoint(*lane, &foundation);
            put(layout::lane(*lane), layout::encode(&checkpoint));
            let makeup = MakeupRecord {
                pass: milestone.pass,
                makeup: milestone.makeup.clone(),
            };
            put(layout::makeup(*lane), layout::encode(&makeup));
            let canary = CanaryRecord {
                pass: foundation.pass,
                batches: vec![nameless(foundation.position)],
            };
            put(layout::canary(*lane), layout::encode(&canary));
        }
        for ((lane, name), entry) in &self.quarantined {
            put(layout::quarantine(*lane, name), layout::encode(entry));
        }
        for some in records.chunks(WRITES_AT_ONCE) {
            let mut writes = Writes::default();
            for (key, value) in some {
                writes.put(key.clone(), value.clone());
            }
            engine.apply(writes)?;
        }
        engine.make_durable()?;
        let (meta, _) = self.created.as_ref().expect("its format was read");
        let meta = Meta {
            name: name.to_owned(),
            runs: self.runs.keys().next_back().copied().unwrap_or(0),
            phase: self.phase,
            ..meta.clone()
        };
        let mut writes = Writes::default();
        writes.put(layout::meta(), layout::encode(&meta));
        engine.apply(writes)?;
        engine.make_durable()
    }

    fn checkpoint(&self, lane: u32, foundation: &Foundation) -> LaneCheckpoint {
        let (source, target) = self.servers.get(&lane).cloned().unwrap_or_default();
        let identity = |run_id| ServerIdentity {
            run_id,
            version: String::new(),
        };
        LaneCheckpoint {
            pass: foundation.pass,
            position: foundation.position,
            next_seq: foundation.next_seq,
            source: identity(source),
            target: identity(target),
            counters: foundation.counters,
            // A record of its own.
            makeup: Box::default(),
            canary: Vec::new(),
            chain: foundation.chain,
        }
    }
}

fn foundation(milestone: &Milestone) -> Foundation {
    let mut chain = [0; 32];
    if let Some(bytes) = unhex(&milestone.chain).filter(|bytes| bytes.len() == chain.len()) {
        chain.copy_from_slice(&bytes);
    }
    Foundation {
        pass: milestone.pass,
        next_seq: milestone.next_seq,
        position: milestone.cursor.map_or(Position::Start, Position::after),
        counters: milestone.counters,
        total: milestone.counters_of_all_passes,
        chain,
    }
}

/// A batch of which no name was kept: where there is one, names were lost, not never seen.
fn nameless(position: Position) -> CanaryBatch {
    let cursor = position.cursor().unwrap_or(0);
    CanaryBatch {
        cursor_in: cursor,
        cursor_out: cursor,
        count: 1,
        keyspace: None,
        keys: Vec::new(),
    }
}
