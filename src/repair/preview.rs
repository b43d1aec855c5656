//! What a repair would do, from the state alone: no server is asked.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use super::decide::{Action, Rules};
use super::refuse_recorded;
use crate::error::Error;
use crate::plan::Plan;
use crate::progress::Verdict;
use crate::state::record::{CompareRecord, FindingState, RepairRecord};
use crate::state::{Finding, Reader};

/// Of each verdict so many keys are shown.
const SHOWN_OF_EACH: u64 = 4;

/// The findings of the newest comparison, counted.
#[derive(Debug, Clone)]
pub struct Preview {
    /// What the migration moves.
    pub plan: Plan,
    /// The comparison, if there was one.
    pub compare: Option<CompareRecord>,
    /// A repair of its findings that came to no end.
    pub unfinished: Option<RepairRecord>,
    /// Findings about which nothing was done yet, by what is wrong with them.
    pub open: BTreeMap<Verdict, u64>,
    /// Findings that an earlier repair has settled.
    pub settled: u64,
    /// Of the open ones those that stay because the plan keeps what the target had.
    pub kept: u64,
    /// Some of the open ones.
    pub shown: Vec<Finding>,
}

impl Preview {
    /// Findings about which nothing was done yet.
    pub fn findings(&self) -> u64 {
        self.open.values().sum()
    }

    /// Keys that only the target has.
    pub fn extra(&self) -> u64 {
        self.open.get(&Verdict::Extra).copied().unwrap_or(0)
    }

    /// The numbers that confirm a deletion: of the keys that there are to delete now, and the one that was confirmed for a
    /// repair which did not come to its end.
    pub fn confirmations(&self) -> Vec<u64> {
        let earlier = self.unfinished.as_ref().and_then(|repair| repair.confirmed);
        let mut numbers = vec![self.extra()];
        numbers.extend(earlier.map(|confirmed| confirmed.keys));
        numbers
    }
}

/// Looks at the state of the migration `name` for `command`.
///
/// # Errors
///
/// If there is none, a run works on it, or it can't be trusted.
pub fn preview(
    state_dir: &Path,
    name: &str,
    command: &str,
    overwrite_kept: bool,
) -> Result<Preview, Error> {
    let reader = Reader::open(state_dir, name, command)?;
    let plan = reader.meta().plan.clone();
    let rules = Rules::new(&plan, overwrite_kept);
    refuse_recorded(reader.compare(), name)?;
    let unfinished = reader.repair().filter(|repair| repair.ended.is_none());
    let mut preview = Preview {
        compare: reader.compare().cloned(),
        unfinished: unfinished.cloned(),
        open: BTreeMap::new(),
        settled: 0,
        kept: 0,
        shown: Vec::new(),
        plan,
    };
    reader.visit_findings(|finding| {
        if finding.record.state != FindingState::Open {
            preview.settled += 1;
            return ControlFlow::Continue(());
        }
        let verdict = finding.record.verdict;
        let count = preview.open.entry(verdict).or_default();
        *count += 1;
        if *count <= SHOWN_OF_EACH {
            preview.shown.push(finding.clone());
        }
        let stays = rules.action(verdict, finding.record.found_ms) == Action::Leave;
        preview.kept += u64::from(stays && verdict != Verdict::Extra);
        ControlFlow::Continue(())
    })?;
    preview.shown.sort_by_key(|finding| finding.record.verdict);
    Ok(preview)
}
