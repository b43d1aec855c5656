//! What is done about a finding.
//!
//! # Invariants
//!
//! - A key is deleted only if it was among those whose number was confirmed (promise P8).
//! - A key that the plan keeps is not written over, unless that was asked for.

use crate::plan::{OnConflict, Plan};
use crate::progress::Verdict;

/// What the command line and the plan allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// When the number of keys to delete was confirmed, Unix milliseconds; `None`: none are to be deleted.
    pub confirmed_ms: Option<u64>,
    /// Keys that differ may be the target's own, and stay.
    pub keep: bool,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is read anew on the source and written to the target.
    Write,
    /// It is deleted on the target, if the source still does not have it.
    Delete,
    /// It stays as it is.
    Leave,
}

impl Rules {
    /// Of a plan, with nothing confirmed.
    pub fn new(plan: &Plan, overwrite_kept: bool) -> Self {
        Self {
            confirmed_ms: None,
            keep: plan.on_conflict == OnConflict::Skip && !overwrite_kept,
        }
    }

    /// What is done about a key with `verdict`, which was found at `found_ms`.
    pub fn action(&self, verdict: Verdict, found_ms: u64) -> Action {
        match verdict {
            // A key that turned out to be extra later is not among those that were counted.
            Verdict::Extra => match self.confirmed_ms {
                Some(confirmed_ms) if found_ms <= confirmed_ms => Action::Delete,
                Some(_) | None => Action::Leave,
            },
            Verdict::Missing => Action::Write,
            // It may have come to rest by now; if not, it stays a finding.
            Verdict::Value | Verdict::Type | Verdict::Ttl | Verdict::Undecided => match self.keep {
                true => Action::Leave,
                false => Action::Write,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_deleted_that_was_not_counted_and_nothing_kept_is_overwritten() {
        let check = |confirmed_ms, keep, wanted: [Action; 6]| {
            let rules = Rules { confirmed_ms, keep };
            let verdicts = [
                Verdict::Missing,
                Verdict::Value,
                Verdict::Type,
                Verdict::Ttl,
                Verdict::Undecided,
                Verdict::Extra,
            ];
            assert_eq!(verdicts.map(|verdict| rules.action(verdict, 100)), wanted);
        };
        use Action::{Delete, Leave, Write};
        check(None, false, [Write, Write, Write, Write, Write, Leave]);
        check(Some(99), false, [Write, Write, Write, Write, Write, Leave]);
        check(
            Some(100),
            false,
            [Write, Write, Write, Write, Write, Delete],
        );
        check(Some(100), true, [Write, Leave, Leave, Leave, Leave, Delete]);
    }
}
