//! Which names of a side are looked at, and what a key is called on each side.
//!
//! Names come from the side that is walked, and are kept as that side has them. Candidates and findings are named as the source
//! names them.
//!
//! # Invariant
//!
//! Where names stay what they are and all are selected, nothing is copied and nothing is asked about a name.

use std::borrow::Cow;

use super::lane::{SOURCE, TARGET};
use super::sample;
use crate::plan::Plan;
use crate::renaming::Renaming;
use crate::selection::Selection;
use crate::state::record::SampleRecord;
use crate::temporary::Temporary;

/// See the module.
pub struct Named {
    renaming: Renaming,
    selection: Option<Selection>,
    /// Which keys are looked at; `None`: all.
    sample: Option<SampleRecord>,
    /// The side that is walked.
    walked: usize,
    /// Names of the target that are no keys.
    temporary: Option<Temporary>,
}

/// What is to be done with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Compare its key.
    Yes,
    /// The plan does not select it, or no key that it moves is called so.
    Unselected,
    /// It is not in the sample.
    Unsampled,
}

impl Named {
    /// For names of the side `walked`, in the lane of the source's database `db`.
    /// The `temporary` names of the target are no keys: big ones are put together under them, and something of it may be
    /// left while the copy is not complete.
    pub fn new(
        plan: &Plan,
        db: u32,
        walked: usize,
        sample: Option<SampleRecord>,
        temporary: Option<&Temporary>,
    ) -> Self {
        let renaming = Renaming::of(plan, db);
        let selection = match matches_itself(plan, &renaming, walked) {
            true => Selection::beside_scan(plan),
            false => Selection::of(plan),
        };
        Self {
            renaming,
            selection,
            sample,
            walked,
            temporary: temporary.filter(|_| walked == TARGET).cloned(),
        }
    }

    /// The pattern that the walked side is asked for.
    pub fn glob(plan: &Plan, db: u32, walked: usize) -> Option<Vec<u8>> {
        let renaming = Renaming::of(plan, db);
        match walked == TARGET && !renaming.keeps_names() {
            true => renaming.target_glob(),
            false => plan.match_glob.clone(),
        }
    }

    /// Whether a name of the walked side is looked at.
    pub fn look(&self, name: &[u8], buffer: &mut Vec<u8>) -> Look {
        if self
            .temporary
            .as_ref()
            .is_some_and(|names| names.is_one(name))
        {
            return Look::Unselected;
        }
        let of_source = match self.walked {
            SOURCE => Some(name),
            _ => self.renaming.source_name(name, buffer),
        };
        let Some(of_source) = of_source else {
            return Look::Unselected;
        };
        let selected = self
            .selection
            .as_ref()
            .is_none_or(|selection| selection.contains(of_source));
        let sampled = || {
            let sample = self.sample.as_ref();
            sample.is_none_or(|sample| sample::contains(sample, of_source))
        };
        match selected {
            false => Look::Unselected,
            true if sampled() => Look::Yes,
            true => Look::Unsampled,
        }
    }

    /// What the key with this name of the walked side is called on a side.
    pub fn on<'a>(&self, side: usize, name: &'a [u8]) -> Cow<'a, [u8]> {
        if side == self.walked || self.renaming.keeps_names() {
            return Cow::Borrowed(name);
        }
        let mut buffer = Vec::new();
        match side {
            TARGET => self.renaming.target_name(name, &mut buffer),
            _ => self
                .renaming
                .source_name(name, &mut buffer)
                .expect("only names that keys of the source can have are looked at"),
        };
        Cow::Owned(buffer)
    }
}

/// Whether the walked side matches the plan's pattern itself.
fn matches_itself(plan: &Plan, renaming: &Renaming, walked: usize) -> bool {
    match walked {
        SOURCE => plan.keys_from.is_none(),
        _ => renaming.keeps_names(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            match_glob: Some(b"app:*".to_vec()),
            exclude: vec![b"*:tmp".to_vec()],
            strip_prefix: Some(b"app:".to_vec()),
            prefix: Some(b"new:".to_vec()),
            ..Plan::default()
        }
    }

    #[test]
    fn names_of_the_target_are_looked_at_as_those_of_the_source() {
        let check = |walked, name: &str, wanted| {
            let named = Named::new(&plan(), 0, walked, None, None);
            assert_eq!(
                named.look(name.as_bytes(), &mut Vec::new()),
                wanted,
                "{name}"
            );
        };
        check(SOURCE, "app:1", Look::Yes);
        check(SOURCE, "app:tmp", Look::Unselected);
        check(SOURCE, "app:1:tmp", Look::Unselected);
        check(SOURCE, "1", Look::Unselected);
        check(TARGET, "new:1", Look::Yes);
        check(TARGET, "new:1:tmp", Look::Unselected);
        check(TARGET, "app:1", Look::Unselected);
    }

    #[test]
    fn each_side_is_asked_for_the_name_that_it_has() {
        let check = |walked, name: &str, of_source: &str, of_target: &str| {
            let named = Named::new(&plan(), 0, walked, None, None);
            for (side, wanted) in [(SOURCE, of_source), (TARGET, of_target)] {
                assert_eq!(named.on(side, name.as_bytes()), wanted.as_bytes());
            }
        };
        check(SOURCE, "app:1", "app:1", "new:1");
        check(TARGET, "new:1", "app:1", "new:1");
    }

    #[test]
    fn the_target_is_asked_for_what_can_be_there() {
        let glob = |plan: &Plan, walked| Named::glob(plan, 0, walked);
        let plan = plan();
        assert_eq!(glob(&plan, SOURCE), plan.match_glob);
        assert_eq!(glob(&plan, TARGET).as_deref(), Some(b"new:*".as_slice()));
        let kept = Plan {
            match_glob: plan.match_glob.clone(),
            ..Plan::default()
        };
        assert_eq!(glob(&kept, TARGET), kept.match_glob);
        let stripped = Plan {
            strip_prefix: plan.strip_prefix.clone(),
            ..kept
        };
        assert_eq!(glob(&stripped, TARGET), None);
        let named = Named::new(&stripped, 0, TARGET, None, None);
        assert_eq!(named.look(b"1", &mut Vec::new()), Look::Yes);
    }

    #[test]
    fn a_temporary_name_is_no_key_of_the_target_and_may_be_one_of_the_source() {
        let temporary = Temporary::of("m", &[1; 32], 7);
        let name = temporary.of_value(b"key");
        for (walked, wanted) in [(SOURCE, Look::Yes), (TARGET, Look::Unselected)] {
            let named = Named::new(&Plan::default(), 0, walked, None, Some(&temporary));
            assert_eq!(named.look(&name, &mut Vec::new()), wanted);
            assert_eq!(named.look(b"key", &mut Vec::new()), Look::Yes);
        }
    }
}
