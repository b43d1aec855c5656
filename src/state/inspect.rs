//! The records of a state as they lie there, for whoever judges them: nothing is believed, and nothing is refused.
//!
//! # Invariants
//!
//! - Nothing is changed: no run is counted, no torn line is cut off.
//! - The migration's lock is held, since the engine's files can't be read beside a process that writes them.
//! - However many batches or quarantined keys there are, only a page of them is in memory.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::engine::Engine;
use super::error::StoreError;
use super::layout::{self, Kind};
use super::lock::Lock;
use super::record::{
    BatchRecord, CompareLane, CompareRecord, FindingRecord, Foundation, JournalSeal,
    LaneCheckpoint, Meta, PassRecord, QuarantineEntry, RepairRecord, RunRecord,
};
use super::{chain, folder, recorded, status};
use crate::audit::journal::hex;

/// Records that are read at once.
const PAGE_RECORDS: usize = 64;

/// An open state that is only looked at.
pub struct Inspection {
    // Dropped first: the engine closes its files before the lock is released.
    engine: Engine,
    dir: PathBuf,
    _lock: Lock,
}

/// A record that can't be read; says which one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable(pub String);

/// What comes of reading records: the engine may fail, and a record may be unreadable.
pub type Read<T> = Result<Result<T, Unreadable>, StoreError>;

/// The batches of a lane, in their order.
pub struct Batches {
    lane: u32,
    from: Vec<u8>,
    page: VecDeque<Numbered>,
    ended: bool,
}

/// A batch and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Its pass.
    pub pass: u32,
    /// Its number in the pass.
    pub seq: u64,
    /// What is stored.
    pub record: BatchRecord,
}

impl Inspection {
    /// Opens the state of the migration `name` for `command`, which whoever waits for the lock is told; `None` if there
    /// is no engine in its folder.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`], [`StoreError::Locked`], and [`StoreError::Damaged`] if the engine can't open its files.
    pub fn open(state_dir: &Path, name: &str, command: &str) -> Result<Option<Self>, StoreError> {
        let known = status::list(state_dir);
        if !known.iter().any(|known| known == name) {
            return Err(StoreError::Unknown {
                name: name.to_owned(),
                state_dir: state_dir.to_owned(),
                known,
            });
        }
        let dir = folder::prepare(state_dir, name)?;
        let lock = Lock::take_to_look(&dir, command)?;
        // Opening the engine would create what is missing.
        if !Engine::is_in(&dir) {
            return Ok(None);
        }
        Ok(Some(Self {
            engine: Engine::open(&dir)?,
            dir,
            _lock: lock,
        }))
    }

    /// The migration's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of the journal.
    pub fn journal(&self) -> PathBuf {
        self.dir.join(folder::JOURNAL)
    }

    /// Who made the state and for what.
    pub fn meta(&self) -> Read<Option<Meta>> {
        self.get(&layout::meta(), Kind::Meta)
    }

    /// How far a lane is; without its canary.
    pub fn lane(&self, lane: u32) -> Read<Option<LaneCheckpoint>> {
        self.get(&layout::lane(lane), Kind::Lane)
    }

    /// Where a lane went on after its state was lost.
    pub fn foundation(&self, lane: u32) -> Read<Option<Foundation>> {
        self.get(&layout::foundation(lane), Kind::Foundation)
    }

    /// The newest comparison.
    pub fn compare(&self) -> Read<Option<CompareRecord>> {
        self.get(&layout::compare(), Kind::Compare)
    }

    /// How far the comparison of a lane is.
    pub fn compare_lane(&self, lane: u32) -> Read<Option<CompareLane>> {
        self.get(&layout::compare_lane(lane), Kind::CompareLane)
    }

    /// The newest repair.
    pub fn repair(&self) -> Read<Option<RepairRecord>> {
        self.get(&layout::repair(), Kind::Repair)
    }

    /// All runs, by number.
    pub fn runs(&self) -> Read<BTreeMap<u32, RunRecord>> {
        self.all(Kind::Run, |key, value| {
            Some((layout::parse_run(key)?, layout::decode(value)?))
        })
    }

    /// How far the journal was in each run.
    pub fn seals(&self) -> Read<BTreeMap<u32, JournalSeal>> {
        self.all(Kind::Seal, |key, value| {
            Some((layout::parse_run(key)?, layout::decode(value)?))
        })
    }

    /// All passes, in the order in which they began.
    pub fn passes(&self) -> Read<Vec<PassRecord>> {
        self.all(Kind::Pass, |_, value| layout::decode(value))
    }

    /// The batches of a lane.
    pub fn batches(&self, lane: u32) -> Batches {
        Batches {
            lane,
            from: layout::batches(lane, 0, 0),
            page: VecDeque::new(),
            ended: false,
        }
    }

    /// The first pass of a lane of which entries are kept for its keys.
    pub fn recorded_from(&self, lane: u32) -> Result<u32, StoreError> {
        let newest = self.lane(lane)?.ok().flatten().map_or(0, |lane| lane.pass);
        let meta = self.meta()?.ok().flatten();
        Ok(meta.map_or(newest, |meta| recorded::kept_from(&meta.plan, newest)))
    }

    /// Whether what is kept of a batch's keys is what its record says.
    pub fn recorded_fits(&self, lane: u32, batch: &Numbered) -> Result<bool, StoreError> {
        Ok(recorded::of_batch(&self.dir, lane, &batch.record)?.is_some())
    }

    /// Shows `visit` every quarantined key with its lane.
    pub fn visit_quarantine(&self, mut visit: impl FnMut(u32, QuarantineEntry)) -> Read<()> {
        self.visit(
            layout::all(Kind::Quarantine),
            Kind::Quarantine,
            |key, value| {
                visit(layout::parse_quarantine(key)?, layout::decode(value)?);
                Some(())
            },
        )
    }

    /// Shows `visit` every finding of a walk of a comparison.
    pub fn visit_findings(&self, epoch: u32, mut visit: impl FnMut(FindingRecord)) -> Read<()> {
        let range = layout::epochs(Kind::Finding, epoch, epoch.saturating_add(1));
        self.visit(range, Kind::Finding, |_, value| {
            visit(layout::decode(value)?);
            Some(())
        })
    }

    fn get<T: DeserializeOwned>(&self, key: &[u8], kind: Kind) -> Read<Option<T>> {
        let Some(bytes) = self.engine.get(key)? else {
            return Ok(Ok(None));
        };
        Ok(match layout::decode(&bytes) {
            Some(record) => Ok(Some(record)),
            None => Err(unreadable(kind, key)),
        })
    }

    fn all<T, C: FromIterator<T>>(
        &self,
        kind: Kind,
        parse: impl Fn(&[u8], &[u8]) -> Option<T>,
    ) -> Read<C> {
        let mut records = Vec::new();
        let read = self.visit(layout::all(kind), kind, |key, value| {
            records.push(parse(key, value)?);
            Some(())
        })?;
        Ok(read.map(|()| records.into_iter().collect()))
    }

    fn visit(
        &self,
        range: (Vec<u8>, Vec<u8>),
        kind: Kind,
        mut take: impl FnMut(&[u8], &[u8]) -> Option<()>,
    ) -> Read<()> {
        let mut broken = None;
        self.engine
            .visit(range, |key, value| match take(key, value) {
                Some(()) => ControlFlow::Continue(()),
                None => {
                    broken = Some(unreadable(kind, key));
                    ControlFlow::Break(())
                }
            })?;
        Ok(broken.map_or(Ok(()), Err))
    }
}

impl Batches {
    /// The next one, without taking it.
    pub fn peek(&mut self, state: &Inspection) -> Read<Option<&Numbered>> {
        if self.page.is_empty() && !self.ended {
            let filled = self.fill(state)?;
            if let Err(unreadable) = filled {
                self.ended = true;
                return Ok(Err(unreadable));
            }
        }
        Ok(Ok(self.page.front()))
    }

    /// The next one.
    pub fn next(&mut self, state: &Inspection) -> Read<Option<Numbered>> {
        match self.peek(state)? {
            Ok(_) => Ok(Ok(self.page.pop_front())),
            Err(unreadable) => Ok(Err(unreadable)),
        }
    }

    fn fill(&mut self, state: &Inspection) -> Read<()> {
        let to = layout::batches(self.lane + 1, 0, 0);
        let mut records = 0;
        let mut broken = None;
        let mut last = Vec::new();
        state.engine.visit((self.from.clone(), to), |key, value| {
            let parsed = layout::parse_batches(key).zip(layout::decode::<Vec<BatchRecord>>(value));
            let Some(((_, pass, first), batches)) = parsed else {
                broken = Some(unreadable(Kind::Batch, key));
                return ControlFlow::Break(());
            };
            for (seq, record) in (first..).zip(batches) {
                self.page.push_back(Numbered { pass, seq, record });
            }
            last = key.to_vec();
            records += 1;
            match records == PAGE_RECORDS {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        self.ended = broken.is_none() && records < PAGE_RECORDS;
        // The first key after the last one.
        last.push(0);
        self.from = last;
        // What can be read before it is given out first.
        match broken.filter(|_| self.page.is_empty()) {
            Some(unreadable) => Ok(Err(unreadable)),
            None => Ok(Ok(())),
        }
    }
}

impl Numbered {
    /// The chain hash that it should have after the batch with `previous`.
    pub fn chain_after(&self, previous: &[u8; 32], lane: u32) -> [u8; 32] {
        chain::chain(previous, lane, self.pass, self.seq, &self.record)
    }
}

fn unreadable(kind: Kind, key: &[u8]) -> Unreadable {
    let which = match (kind, layout::parse_batches(key)) {
        (Kind::Batch, Some((lane, pass, seq))) => {
            format!("the batches from {seq} on of pass {pass} of lane {lane}")
        }
        _ => format!("the {} record at {}", kind.name(), hex(key)),
    };
    Unreadable(format!("{which} can't be read"))
}
