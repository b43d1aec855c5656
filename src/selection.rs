//! Which names a plan moves: by pattern, by share, by what they begin with.
//!
//! Pure: copy, compare and repair ask the same question and get the same answer. What the source's SCAN filters itself
//! (`MATCH`) is left out here wherever SCAN is what names come from.
//!
//! # Invariants
//!
//! - Whether a name is selected depends on the name and the plan alone: not on the server, the run, or the other keys.
//! - The `n` shards of a plan together are all names, and no name is in two of them.
//! - A plan that selects everything has no [`Selection`], so nothing is asked about its names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::glob;
use crate::plan::Plan;

/// Most shards: beyond it a slip of the finger is more likely than so many machines.
pub const SHARDS_MAX: u32 = 65_536;

/// One of `of` equal parts of all names.
///
/// The first eight bytes of the BLAKE3 of a name, read as a big-endian number, times `of`, divided by 2^64 and rounded
/// down, are the number of the name's shard, counted from 0. That never changes: shards are moved by different machines,
/// and perhaps by different versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// From 1.
    pub number: u32,
    /// How many there are.
    pub of: u32,
}

/// Why a text is no shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// Not of the form `k/n`.
    #[error("not a shard, such as 3/8: the third of eight parts that together are all keys")]
    Unreadable,
    /// `0/8`, `9/8`, `1/0`.
    #[error("out of range: of n parts, 1/n to n/n can be asked for, and n is at most 65536")]
    Range,
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let (number, of) = text.split_once('/').ok_or(ShardError::Unreadable)?;
        let whole = |digits: &str| {
            let digits = digits.trim();
            let are_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            match are_digits {
                true => digits.parse::<u32>().map_err(|_| ShardError::Range),
                false => Err(ShardError::Unreadable),
            }
        };
        let (number, of) = (whole(number)?, whole(of)?);
        match of <= SHARDS_MAX && (1..=of).contains(&number) {
            true => Ok(Self { number, of }),
            false => Err(ShardError::Range),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl Shard {
    /// Whether the name is in this part.
    pub fn contains(self, name: &[u8]) -> bool {
        let hash = blake3::hash(name);
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        let part = (u128::from(u64::from_be_bytes(first)) * u128::from(self.of)) >> 64;
        part == u128::from(self.number - 1)
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    match_glob: Option<Vec<u8>>,
    exclude: Vec<Vec<u8>>,
    begins_with: Vec<u8>,
    shard: Option<Shard>,
}

impl Selection {
    /// What has to be asked about each name that the source's SCAN returned; `None`: nothing.
    pub fn beside_scan(plan: &Plan) -> Option<Self> {
        Self::new(plan, None)
    }

    /// What has to be asked about each name that came by another way than the source's SCAN; `None`: nothing.
    pub fn of(plan: &Plan) -> Option<Self> {
        Self::new(plan, plan.match_glob.clone())
    }

    fn new(plan: &Plan, match_glob: Option<Vec<u8>>) -> Option<Self> {
        let selection = Self {
            match_glob,
            exclude: plan.exclude.clone(),
            begins_with: plan.strip_prefix.clone().unwrap_or_default(),
            shard: plan.shard,
        };
        let everything = Self {
            match_glob: None,
            exclude: Vec::new(),
            begins_with: Vec::new(),
            shard: None,
        };
        (selection != everything).then_some(selection)
    }

    /// Whether a key of the source with this name is moved.
    pub fn contains(&self, name: &[u8]) -> bool {
        // The cheapest first.
        name.starts_with(&self.begins_with)
            && self
                .match_glob
                .as_deref()
                .is_none_or(|glob| glob::matches(glob, name))
            && !self.exclude.iter().any(|glob| glob::matches(glob, name))
            && self.shard.is_none_or(|shard| shard.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contains(plan: &Plan, name: &str) -> bool {
        Selection::of(plan).is_none_or(|selection| selection.contains(name.as_bytes()))
    }

    #[test]
    fn nothing_is_asked_where_everything_is_selected() {
        let globbed = Plan {
            match_glob: Some(b"user:*".to_vec()),
            ..Plan::default()
        };
        assert_eq!(Selection::of(&Plan::default()), None);
        assert_eq!(Selection::beside_scan(&globbed), None);
        assert!(Selection::of(&globbed).is_some());
    }

    #[test]
    fn every_part_of_a_selection_has_to_agree() {
        let plan = Plan {
            match_glob: Some(b"app:*".to_vec()),
            exclude: vec![b"*:tmp".to_vec(), b"app:cache:*".to_vec()],
            strip_prefix: Some(b"app:".to_vec()),
            ..Plan::default()
        };
        assert!(contains(&plan, "app:user:1"));
        assert!(contains(&plan, "app:"));
        assert!(!contains(&plan, "user:1"));
        assert!(!contains(&plan, "app:user:tmp"));
        assert!(!contains(&plan, "app:cache:1"));
        let scanned = Selection::beside_scan(&plan).expect("there is more than MATCH");
        assert!(scanned.contains(b"app:user:1"));
        assert!(!scanned.contains(b"user:1"));
    }

    #[test]
    fn the_shard_of_a_name_never_changes() {
        let of_eight = |name: &[u8]| {
            (1..=8)
                .find(|number| {
                    Shard {
                        number: *number,
                        of: 8,
                    }
                    .contains(name)
                })
                .expect("a name is in one of them")
        };
        // Of BLAKE3 as it is published: the hash of "" begins with af13, that of "abc" with 6437.
        assert_eq!(of_eight(b""), 6);
        assert_eq!(of_eight(b"abc"), 4);
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        let check = |text: &str, wanted| assert_eq!(text.parse::<Shard>(), wanted, "{text}");
        check("3/8", Ok(Shard { number: 3, of: 8 }));
        check("1/1", Ok(Shard { number: 1, of: 1 }));
        for text in ["", "3", "/", "a/b", "3/", "/8", "-1/8", "1.5/8", "1/2/3"] {
            check(text, Err(ShardError::Unreadable));
        }
        for text in ["0/8", "9/8", "3/2", "1/0", "1/65537", "1/99999999999"] {
            check(text, Err(ShardError::Range));
        }
    }

    proptest! {
        #[test]
        fn a_name_is_in_exactly_one_shard(name in prop::collection::vec(any::<u8>(), 0..40), of in 1_u32..100) {
            let within = (1..=of).filter(|number| Shard { number: *number, of }.contains(&name));
            prop_assert_eq!(within.count(), 1);
        }
    }
}
