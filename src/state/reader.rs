//! A state that is only read, by commands that list what is in it.
//!
//! # Invariants
//!
//! - Nothing is changed: no run is counted, no folder is made, no torn line is cut off.
//! - The migration's lock is held meanwhile, since the engine's files can't be read beside a process that writes them. A
//!   list is of one moment.
//! - What a run would refuse is refused here too.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::compare::{Compared, Finding};
use super::engine::Engine;
use super::error::StoreError;
use super::layout::{self, Kind};
use super::lock::Lock;
use super::open::{Found, emptied, read, read_meta, refuse_other};
use super::record::{CompareRecord, Meta, QuarantineEntry, RepairRecord};
use super::witness::journal_error;
use super::{folder, status};
use crate::audit::journal::Journal;

/// Records that are read at once. Each of them has [`layout::RECORD_BYTES_MAX`] at most.
const PAGE_RECORDS: usize = 256;

/// See the module.
pub struct Reader {
    // Dropped first: the engine closes its files before the lock is released.
    engine: Engine,
    dir: PathBuf,
    meta: Meta,
    compared: Compared,
    repair: Option<RepairRecord>,
    _lock: Lock,
}

/// A quarantined key and the lane that met it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedKey {
    /// Index of the lane in the plan.
    pub lane: u32,
    /// What is stored.
    pub entry: QuarantineEntry,
}

impl Reader {
    /// Opens the state of the migration `name` for `command`, which whoever waits for the lock is told.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] with the names there are, [`StoreError::Locked`] while a run works on it, and whatever a
    /// run would refuse.
    pub fn open(state_dir: &Path, name: &str, command: &str) -> Result<Self, StoreError> {
        let known_names = status::list(state_dir);
        if !known_names.iter().any(|known| known == name) {
            return Err(StoreError::Unknown {
                name: name.to_owned(),
                state_dir: state_dir.to_owned(),
                known: known_names,
            });
        }
        let dir = folder::prepare(state_dir, name)?;
        let lock = Lock::take_to_look(&dir, command)?;
        let known = Journal::look(&dir.join(folder::JOURNAL))
            .map_err(|error| journal_error(&dir, error))?;
        refuse_other(known.format, &known.version)?;
        let nothing = |dir: &Path| match known.lines {
            0 => StoreError::NoStatus {
                name: name.to_owned(),
            },
            _ => emptied(dir, &known),
        };
        // Opening the engine would create what is missing.
        if !Engine::is_in(&dir) {
            return Err(nothing(&dir));
        }
        let engine = Engine::open(&dir)?;
        let Some(meta) = read_meta(&engine, &dir)? else {
            return Err(nothing(&dir));
        };
        let found = Found::of(&engine, &dir, meta, &known)?;
        let compared = Compared::read(&engine, &dir, found.meta.plan.lanes.len(), &known)?;
        let repair = read(&engine, &dir, &layout::repair())?;
        Ok(Self {
            engine,
            dir,
            meta: found.meta,
            compared,
            repair,
            _lock: lock,
        })
    }

    /// Who made this state and for what.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The newest comparison, if there was one.
    pub fn compare(&self) -> Option<&CompareRecord> {
        self.compared.record()
    }

    /// The newest repair of that comparison's findings, if there was one.
    pub fn repair(&self) -> Option<&RepairRecord> {
        let compare = self.compare()?.compare;
        self.repair
            .as_ref()
            .filter(|repair| repair.compare == compare)
    }

    /// Shows `visit` every finding of the newest comparison, repaired ones included, until it breaks; page by page as well.
    pub fn visit_findings(
        &self,
        mut visit: impl FnMut(&Finding) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self
                .compared
                .findings(&self.engine, &self.dir, after, PAGE_RECORDS)?;
            after = page.last().map(|last| last.id);
            let broken = page.iter().any(|finding| visit(finding).is_break());
            if broken || page.len() < PAGE_RECORDS {
                return Ok(());
            }
        }
    }

    /// Shows `visit` every key that could not be copied, in any pass, until it breaks. They come in no order that means
    /// anything, the same one each time, and only a page of them is in memory.
    pub fn visit_quarantine(
        &self,
        mut visit: impl FnMut(&QuarantinedKey) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.visit_pages(
            Kind::Quarantine,
            |key, value| {
                Some(QuarantinedKey {
                    lane: layout::parse_quarantine(key)?,
                    entry: layout::decode(value)?,
                })
            },
            &mut visit,
        )
    }

    /// Reads the records of a kind page by page; `visit` is called between two reads, so it may take its time.
    fn visit_pages<T>(
        &self,
        kind: Kind,
        parse: impl Fn(&[u8], &[u8]) -> Option<T>,
        visit: &mut dyn FnMut(&T) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let (mut from, to) = layout::all(kind);
        loop {
            let mut page = Vec::new();
            let mut damaged = false;
            self.engine
                .visit((from.clone(), to.clone()), |key, value| {
                    match parse(key, value) {
                        Some(record) => page.push(record),
                        None => damaged = true,
                    }
                    from.clear();
                    from.extend_from_slice(key);
                    match damaged || page.len() == PAGE_RECORDS {
                        true => ControlFlow::Break(()),
                        false => ControlFlow::Continue(()),
                    }
                })?;
            if damaged {
                let what = format!("a {} record can't be read", kind.name());
                return Err(StoreError::damaged(what, &self.dir));
            }
            if page.iter().any(|record| visit(record).is_break()) || page.len() < PAGE_RECORDS {
                return Ok(());
            }
            // The first key after the last one.
            from.push(0);
        }
    }
}
