//! What the target evicts while a run is at work, whosever keys they were.
//!
//! # Invariant
//!
//! The count only rises: a server that restarts counts from 0 again, and what it had evicted before stays counted.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// Counted since the run began.
#[derive(Default)]
pub struct Evictions {
    count: Cell<u64>,
    /// What each node had counted when it was asked last; of a single server, there is no name.
    seen: RefCell<BTreeMap<Option<String>, u64>>,
    told: Cell<u64>,
    may_happen: Cell<bool>,
}

impl Evictions {
    /// Keys evicted since the run began.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// A node has evicted so many keys since it started. Returns whether these are the first of this run.
    pub fn see(&self, node: Option<String>, evicted: u64) -> bool {
        let more = match self.seen.borrow_mut().insert(node, evicted) {
            Some(seen) if seen <= evicted => evicted - seen,
            Some(_) => evicted,
            // How many of them were evicted before the run, nobody knows.
            None => 0,
        };
        let before = self.count.replace(self.count.get() + more);
        before == 0 && more > 0
    }

    /// A node evicts when it is full.
    pub fn expect(&self) {
        self.may_happen.set(true);
    }

    /// Whether there may be some that nobody has seen yet.
    pub fn may_happen(&self) -> bool {
        self.may_happen.get()
    }

    /// How many there are, if the journal is to be told so: of the first ones, whenever they have doubled, and when all is
    /// `over`.
    pub fn untold(&self, over: bool) -> Option<u64> {
        let (count, told) = (self.count.get(), self.told.get());
        let worth_it = count > told && (over || count >= 2 * told);
        worth_it.then(|| {
            self.told.set(count);
            count
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_evicted_since_the_first_look_counts_node_by_node() {
        let evictions = Evictions::default();
        let [one, other] = ["a:1", "b:1"].map(|node| Some(node.to_owned()));
        assert!(!evictions.see(one.clone(), 70));
        assert!(!evictions.see(other.clone(), 5));
        assert!(!evictions.see(one.clone(), 70));
        assert!(evictions.see(one.clone(), 72));
        assert!(!evictions.see(other, 6));
        assert_eq!(evictions.count(), 3);
        assert!(!evictions.see(one, 4), "it has restarted");
        assert_eq!(evictions.count(), 7);
    }

    #[test]
    fn the_journal_is_told_of_the_first_and_the_last_and_a_few_between() {
        let evictions = Evictions::default();
        assert_eq!(evictions.untold(true), None);
        let mut told = Vec::new();
        for evicted in 0..=1000 {
            evictions.see(None, evicted);
            told.extend(evictions.untold(false));
        }
        assert_eq!(told, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
        assert_eq!(evictions.untold(true), Some(1000));
        assert_eq!(evictions.untold(true), None);
    }
}
