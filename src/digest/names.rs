//! Which names a database has, as one sum.
//!
//! It is summed for each name on both sides, so it must be cheap, and it can be: that two databases have as many names,
//! each of one among those of the other, is what counts; the hashes only tell when a name went while another came.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// Sums up names, in any order: two lists of names are the same, doubles included, if their sums are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesDigest {
    names: u64,
    sum: u128,
}

impl NamesDigest {
    /// Takes a name in.
    pub fn add(&mut self, name: &[u8]) {
        self.names = self.names.wrapping_add(1);
        self.sum = self.sum.wrapping_add(xxh3_128(name));
    }

    /// Takes in what another part of the same list sums up to.
    pub fn merge(&mut self, other: &Self) {
        self.names = self.names.wrapping_add(other.names);
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// Names that are in it, doubles included.
    pub fn names(&self) -> u64 {
        self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(names: &[&str]) -> NamesDigest {
        let mut sum = NamesDigest::default();
        names.iter().for_each(|name| sum.add(name.as_bytes()));
        sum
    }

    #[test]
    fn order_and_parts_do_not_show_but_names_and_doubles_do() {
        let whole = sum(&["a", "b", ""]);
        assert_eq!(sum(&["", "b", "a"]), whole);
        let mut parts = sum(&["b"]);
        parts.merge(&sum(&["a", ""]));
        assert_eq!(parts, whole);
        assert_eq!(whole.names(), 3);
        for other in [
            &["a", "b"][..],
            &["a", "b", "c"],
            &["a", "b", "", ""],
            &["ab", "", ""],
        ] {
            assert_ne!(sum(other), whole, "{other:?}");
        }
    }
}
