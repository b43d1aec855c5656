//! What a key of the source is called on the target, and the way back.
//!
//! A name loses what `--strip-prefix` says, and gets what `--prefix` and then `--db-prefix` say in front. Names that do not
//! begin with what is to be stripped are not moved at all ([`crate::selection`]): kept as they are, `app:x` and `x` would
//! both become `x`.
//!
//! # Invariants
//!
//! - Within a lane two names never become one: [`Renaming::source_name`] undoes [`Renaming::target_name`].
//! - With a [`DbPrefix`], names of two lanes never become one either. Without it, they become one exactly if they are the
//!   same on the source and both databases go to the same one on the target ([`rivals`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// Stands for the number of the source's database.
const DB: &[u8] = b"{db}";

/// What goes in front of the names of each database, so that those of several stay apart in one.
///
/// It has `{db}` in it once, and no digit behind that: so what two databases get differs before either is at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DbPrefix(Vec<u8>);

/// Why a text is no [`DbPrefix`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DbPrefixError {
    /// All databases would get the same.
    #[error(
        "without `{{db}}` all databases get the same prefix; `db{{db}}:` makes db0:, db1: and so on"
    )]
    NoNumber,
    /// More than one place for the number.
    #[error("`{{db}}` may stand in it once")]
    Twice,
    /// Database 1 gets a beginning of what database 12 gets.
    #[error(
        "something other than a digit has to follow `{{db}}`, or the keys of databases 1 and 12 could not be told apart"
    )]
    Open,
}

impl DbPrefix {
    /// What is meant where nothing is said: `db0:`, `db1:` and so on.
    pub const DEFAULT: &'static str = "db{db}:";

    /// Reads a template.
    ///
    /// # Errors
    ///
    /// If it would not keep databases apart.
    pub fn new(template: &[u8]) -> Result<Self, DbPrefixError> {
        let mut places = template
            .windows(DB.len())
            .enumerate()
            .filter(|(_, bytes)| *bytes == DB);
        let (at, _) = places.next().ok_or(DbPrefixError::NoNumber)?;
        if places.next().is_some() {
            return Err(DbPrefixError::Twice);
        }
        match template.get(at + DB.len()) {
            Some(byte) if !byte.is_ascii_digit() => Ok(Self(template.to_vec())),
            Some(_) | None => Err(DbPrefixError::Open),
        }
    }

    /// The template.
    pub fn template(&self) -> &[u8] {
        &self.0
    }

    /// What the keys of database `db` get.
    pub fn of(&self, db: u32) -> Vec<u8> {
        let at = self.0.windows(DB.len()).position(|bytes| bytes == DB);
        // A template from a state of ours has a place; one that has none keeps its meaning.
        let (front, rest) = self.0.split_at(at.unwrap_or(self.0.len()));
        let mut prefix = front.to_vec();
        if let Some(back) = rest.get(DB.len()..) {
            prefix.extend_from_slice(db.to_string().as_bytes());
            prefix.extend_from_slice(back);
        }
        prefix
    }
}

/// See the module. Of one lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renaming {
    strip: Vec<u8>,
    add: Vec<u8>,
}

impl Renaming {
    /// What the plan says for the keys of the source's database `db`.
    pub fn of(plan: &Plan, db: u32) -> Self {
        let mut add = plan.prefix.clone().unwrap_or_default();
        if let Some(of_db) = &plan.db_prefix {
            add.extend_from_slice(&of_db.of(db));
        }
        Self {
            strip: plan.strip_prefix.clone().unwrap_or_default(),
            add,
        }
    }

    /// Whether every name stays what it is.
    pub fn keeps_names(&self) -> bool {
        // Asked for every key: the usual answer needs no call.
        self.is_nothing() || self.strip == self.add
    }

    fn is_nothing(&self) -> bool {
        self.strip.is_empty() && self.add.is_empty()
    }

    /// What the source's key `name` is called on the target. Nothing is copied where names stay what they are.
    ///
    /// # Panics
    ///
    /// If the name does not begin with what is to be stripped: then it is not selected, and must not get here.
    pub fn target_name<'a>(&self, name: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
        if self.keeps_names() {
            return name;
        }
        let rest = name
            .strip_prefix(self.strip.as_slice())
            .expect("a name that does not begin with --strip-prefix is not selected");
        buffer.clear();
        buffer.extend_from_slice(&self.add);
        buffer.extend_from_slice(rest);
        buffer
    }

    /// As [`Self::target_name`], in memory of its own.
    pub fn to_target(&self, name: &[u8]) -> Vec<u8> {
        let mut buffer = Vec::new();
        self.target_name(name, &mut buffer).to_vec()
    }

    /// Which key of the source is called `name` on the target; `None`: none ever is.
    pub fn source_name<'a>(&self, name: &'a [u8], buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
        if self.is_nothing() {
            return Some(name);
        }
        let rest = name.strip_prefix(self.add.as_slice())?;
        if self.keeps_names() {
            return Some(name);
        }
        buffer.clear();
        buffer.extend_from_slice(&self.strip);
        buffer.extend_from_slice(rest);
        Some(buffer)
    }

    /// The pattern of the names that keys of the source can have on the target, where not every name can be one.
    pub fn target_glob(&self) -> Option<Vec<u8>> {
        if self.add.is_empty() {
            return None;
        }
        let mut glob = Vec::with_capacity(self.add.len() + 1);
        for byte in &self.add {
            if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^') {
                glob.push(b'\\');
            }
            glob.push(*byte);
        }
        glob.push(b'*');
        Some(glob)
    }
}

/// The databases of the source whose keys have the same names on the target as those of lane number `index`, in the plan's
/// order: those before it come first, and their keys are the ones that arrive.
pub fn rivals(plan: &Plan, index: usize) -> (Vec<u32>, Vec<u32>) {
    if plan.db_prefix.is_some() {
        return (Vec::new(), Vec::new());
    }
    let target_db = plan.lanes[index].target_db;
    let of = |range: std::ops::Range<usize>| -> Vec<u32> {
        plan.lanes[range]
            .iter()
            .filter(|lane| lane.target_db == target_db)
            .map(|lane| lane.source_db)
            .collect()
    };
    (of(0..index), of(index + 1..plan.lanes.len()))
}

impl fmt::Display for DbPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", crate::key::Escaped(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::LanePlan;

    fn plan(strip: Option<&[u8]>, prefix: Option<&[u8]>, db_prefix: Option<&[u8]>) -> Plan {
        Plan {
            strip_prefix: strip.map(<[u8]>::to_vec),
            prefix: prefix.map(<[u8]>::to_vec),
            db_prefix: db_prefix.map(|template| DbPrefix::new(template).expect("a good one")),
            ..Plan::default()
        }
    }

    #[test]
    fn names_lose_and_get_prefixes() {
        let check = |plan: &Plan, db, name: &str, wanted: &str| {
            let renaming = Renaming::of(plan, db);
            let renamed = renaming.to_target(name.as_bytes());
            assert_eq!(String::from_utf8_lossy(&renamed), wanted);
            let mut buffer = Vec::new();
            assert_eq!(
                renaming.source_name(&renamed, &mut buffer),
                Some(name.as_bytes())
            );
        };
        check(&plan(None, None, None), 0, "x", "x");
        check(&plan(None, Some(b"new:"), None), 0, "x", "new:x");
        check(&plan(Some(b"old:"), None, None), 0, "old:x", "x");
        check(&plan(Some(b"old:"), None, None), 0, "old:", "");
        let both = plan(Some(b"old:"), Some(b"new:"), None);
        check(&both, 0, "old:x", "new:x");
        let all = plan(Some(b"old:"), Some(b"new:"), Some(b"db{db}:"));
        check(&all, 12, "old:x", "new:db12:x");
    }

    #[test]
    fn nothing_is_copied_where_names_stay() {
        let same = Renaming::of(&plan(Some(b"a:"), Some(b"a:"), None), 0);
        assert!(same.keeps_names());
        let mut buffer = Vec::new();
        assert_eq!(same.target_name(b"a:x", &mut buffer), b"a:x");
        assert_eq!(same.source_name(b"b:x", &mut buffer), None);
        assert!(buffer.is_empty() && buffer.capacity() == 0);
    }

    #[test]
    fn a_name_that_no_key_can_have_there_has_no_source() {
        let renaming = Renaming::of(&plan(None, Some(b"a*["), None), 0);
        let mut buffer = Vec::new();
        assert_eq!(renaming.source_name(b"x", &mut buffer), None);
        let glob = renaming.target_glob().expect("not every name can be one");
        assert_eq!(glob, b"a\\*\\[*");
        assert!(crate::glob::matches(&glob, b"a*[x"));
        assert!(!crate::glob::matches(&glob, b"ab[x"));
    }

    #[test]
    fn a_template_keeps_databases_apart_or_is_refused() {
        let check = |template: &str, error| {
            let read = DbPrefix::new(template.as_bytes());
            assert_eq!(read.err(), Some(error), "{template}");
        };
        check("", DbPrefixError::NoNumber);
        check("db:", DbPrefixError::NoNumber);
        check("{db}:{db}:", DbPrefixError::Twice);
        check("{db}", DbPrefixError::Open);
        check("{db}1:", DbPrefixError::Open);
        let good = DbPrefix::new(b"<{db}>").expect("it is closed");
        assert_eq!(good.of(7), b"<7>");
    }

    #[test]
    fn rivals_share_a_database_of_the_target() {
        let lane = |source_db, target_db| LanePlan {
            source_db,
            target_db,
        };
        let mut plan = Plan {
            lanes: vec![lane(0, 0), lane(1, 1), lane(2, 0), lane(3, 0)],
            ..Plan::default()
        };
        assert_eq!(rivals(&plan, 0), (vec![], vec![2, 3]));
        assert_eq!(rivals(&plan, 1), (vec![], vec![]));
        assert_eq!(rivals(&plan, 2), (vec![0], vec![3]));
        assert_eq!(rivals(&plan, 3), (vec![0, 2], vec![]));
        plan.db_prefix = DbPrefix::new(b"db{db}:").ok();
        assert_eq!(rivals(&plan, 3), (vec![], vec![]));
    }

    proptest! {
        #[test]
        fn the_way_back_leads_to_where_it_began(
            strip in prop::collection::vec(any::<u8>(), 0..4),
            prefix in prop::collection::vec(any::<u8>(), 0..4),
            per_db in any::<bool>(),
            rest in prop::collection::vec(any::<u8>(), 0..12),
            any_name in prop::collection::vec(any::<u8>(), 0..12),
        ) {
            let db_prefix = per_db.then_some(b"db{db}:".as_slice());
            let renaming = Renaming::of(&plan(Some(&strip), Some(&prefix), db_prefix), 3);
            let name = [strip.as_slice(), &rest].concat();
            let there = renaming.to_target(&name);
            let mut buffer = Vec::new();
            prop_assert_eq!(renaming.source_name(&there, &mut buffer), Some(name.as_slice()));
            if let Some(glob) = renaming.target_glob() {
                // Of the empty name servers have views of their own.
                prop_assert!(there.is_empty() || crate::glob::matches(&glob, &there));
            }
            if let Some(back) = renaming.source_name(&any_name, &mut buffer).map(<[u8]>::to_vec) {
                prop_assert!(back.starts_with(&strip));
                prop_assert_eq!(renaming.to_target(&back), any_name);
            }
        }

        #[test]
        fn names_of_two_databases_never_become_one(
            front in "[a-z0-9{}]{0,3}",
            back in "[:a-z<>]{1,3}",
            dbs in (0_u32..200, 0_u32..200),
            names in ("[0-9:a-z]{0,5}", "[0-9:a-z]{0,5}"),
        ) {
            prop_assume!(dbs.0 != dbs.1);
            let template = format!("{front}{{db}}{back}");
            let Ok(db_prefix) = DbPrefix::new(template.as_bytes()) else {
                return Ok(());
            };
            let plan = Plan { db_prefix: Some(db_prefix), ..Plan::default() };
            let one = Renaming::of(&plan, dbs.0).to_target(names.0.as_bytes());
            let other = Renaming::of(&plan, dbs.1).to_target(names.1.as_bytes());
            prop_assert_ne!(one, other);
        }
    }
}
