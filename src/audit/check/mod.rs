//! Whether what was recorded fits together: every figure is computed again, from the batches on.
//!
//! The journal and the batches in the state are two witnesses of the same copy. The journal's lines are chained by
//! hashes, the batches of each lane are too, a milestone in the journal names the hash of the newest batch, and the state
//! names the hash of the journal's newest line at the time of writing.
//!
//! # Invariants
//!
//! - Both are read once, side by side: however long the migration, only a page of batches a lane is in memory.
//! - Nothing is changed. What does not fit is named by its place; what can't be read is a misfit as well.
//! - What is not proven: whoever can write the folder can write another, consistent history. Only a hash that was kept
//!   elsewhere, [`Checked::root`], tells the two apart.

mod batches;
mod ledger;
mod results;

use std::fmt;
use std::path::Path;

use super::entry::hex;
use super::journal::JournalError;
use super::reader::Lines;
use crate::progress::Counters;
use crate::state::StoreError;
use crate::state::inspect::{Inspection, Unreadable};

use ledger::Ledger;

/// Misfits that are listed; what follows the first is often its consequence.
const MISFITS_MAX: usize = 20;

/// What a check came to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checked {
    /// Name of the migration.
    pub migration: String,
    /// Lines of the journal that were read.
    pub lines: u64,
    /// Hash of the newest of them, hex: it binds the whole journal, and through the milestones the batches.
    pub root: String,
    /// What the batches of each lane add up to.
    pub lanes: Vec<LaneChecked>,
    /// Sums over the newest passes of all lanes.
    pub counters: Counters,
    /// Runs that the state knows of.
    pub runs: u32,
    /// Quarantined keys that are listed.
    pub quarantined: u64,
    /// Findings of the newest comparison that are listed, repaired ones included.
    pub findings: u64,
    /// What does not fit, in the order in which it was met. Empty: everything does.
    pub misfits: Vec<Misfit>,
    /// What whoever relies on this should know.
    pub notes: Vec<String>,
}

/// A lane, computed from its batches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LaneChecked {
    /// Newest pass that has a batch.
    pub pass: u32,
    /// Batches over all passes.
    pub batches: u64,
    /// Sums over that pass.
    pub counters: Counters,
    /// Chain hash of the newest batch, hex.
    pub chain: String,
}

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Where.
    pub place: Place,
    /// What is wrong with it.
    pub what: String,
}

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of the journal, from 1.
    Line(u64),
    /// A batch in the state.
    Batch {
        /// Index of its lane in the plan.
        lane: u32,
        /// Its pass.
        pass: u32,
        /// Its number in the pass.
        seq: u64,
    },
    /// Another record of the state.
    Record(String),
    /// The status file.
    Status,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, "line {number} of the journal"),
            Self::Batch { lane, pass, seq } => {
                write!(f, "batch {seq} of pass {pass} of lane {lane}")
            }
            Self::Record(which) => f.write_str(which),
            Self::Status => f.write_str("the status file"),
        }
    }
}

impl Checked {
    /// Whether everything fits.
    pub fn fits(&self) -> bool {
        self.misfits.is_empty()
    }

    fn misfit(&mut self, place: Place, what: impl Into<String>) {
        if self.misfits.len() < MISFITS_MAX {
            let what = what.into();
            self.misfits.push(Misfit { place, what });
        }
    }

    fn record(&mut self, which: impl Into<String>, what: impl Into<String>) {
        self.misfit(Place::Record(which.into()), what);
    }

    /// What was read, or nothing and a misfit.
    fn readable<T>(&mut self, read: Result<T, Unreadable>) -> Option<T> {
        read.map_err(|Unreadable(what)| self.record("the state", what))
            .ok()
    }
}

/// Checks the migration `name`.
///
/// # Errors
///
/// [`StoreError::Unknown`], [`StoreError::Locked`] while a process works on it, trouble with the disk, and
/// [`StoreError::Damaged`] if the engine can't even open its files.
pub fn check(state_dir: &Path, name: &str) -> Result<Checked, StoreError> {
    let mut checked = Checked {
        migration: name.to_owned(),
        ..Checked::default()
    };
    let Some(state) = Inspection::open(state_dir, name, "redknot audit check")? else {
        return Ok(without_state(checked, &state_dir.join(name)));
    };
    let meta = state.meta()?;
    let Some(meta) = checked.readable(meta).flatten() else {
        return Ok(match checked.fits() {
            true => without_state(checked, state.dir()),
            false => checked,
        });
    };
    if meta.plan.fingerprint() != meta.fingerprint {
        checked.record(
            "the state's first record",
            "its plan is not the one of its fingerprint",
        );
    }
    checked.runs = meta.runs;
    let mut ledger = Ledger::open(&state, meta, &mut checked)?;
    read_journal(&state, &mut ledger, &mut checked)?;
    ledger.end(&mut checked)?;
    results::check(&state, &ledger, state_dir, &mut checked)?;
    Ok(checked)
}

/// A migration that died before it had a state fits if its journal knows of none.
fn without_state(mut checked: Checked, dir: &Path) -> Checked {
    let knows = std::fs::metadata(dir.join("audit.ndjson")).is_ok_and(|file| file.len() > 0);
    match knows {
        true => checked.record(
            "the state",
            "the journal knows of a migration of which it holds nothing",
        ),
        false => checked
            .notes
            .push("it died before it had a state; there is nothing to check".to_owned()),
    }
    checked
}

fn read_journal(
    state: &Inspection,
    ledger: &mut Ledger<'_>,
    checked: &mut Checked,
) -> Result<(), StoreError> {
    let path = state.journal();
    let io = |doing, error: &std::io::Error| StoreError::io(doing, &path, error);
    let mut lines = match Lines::open(&path) {
        Ok(Some(lines)) => lines,
        Ok(None) => {
            checked.misfit(Place::Line(1), "the journal is missing");
            return Ok(());
        }
        Err(JournalError::Io { doing, error }) => return Err(io(doing, &error)),
        Err(JournalError::Damaged { line, what }) => {
            checked.misfit(Place::Line(line), what);
            return Ok(());
        }
    };
    for line in &mut lines {
        match line {
            Ok(line) => ledger.line(line, checked)?,
            Err(JournalError::Damaged { line, what }) => {
                checked.misfit(Place::Line(line), what);
                ledger.journal_broke();
            }
            Err(JournalError::Io { doing, error }) => return Err(io(doing, &error)),
        }
    }
    checked.lines = lines.number();
    checked.root = hex(&lines.head());
    if lines.is_torn() {
        checked.notes.push(
            "the journal's last line was torn by a crash; the next run cuts it off".to_owned(),
        );
    }
    Ok(())
}
