//! Names before they are keys to be read: which of them are moved, and whether their places on the target are free.
//!
//! # Invariant
//!
//! Where a plan selects everything and gives every database its own place, a name costs nothing here.

use super::Lane;
use crate::copy::batch::{Batch, KeyOutcome, KeyRef};
use crate::copy::scan::Walk;
use crate::state::Chunk;

impl Lane {
    /// A batch of names has come, by whichever way.
    pub(super) fn names_came(&mut self, mut batch: Batch) {
        let seq = batch.seq;
        let keys = 0..batch.len() as u32;
        let queue = match (self.rules.has_rivals, self.reads_anywhere()) {
            (true, _) => &mut self.unchecked,
            (false, true) => &mut self.strays,
            (false, false) => &mut self.unread,
        };
        match &self.rules.selection {
            None => queue.extend(keys.map(|index| KeyRef { seq, index })),
            Some(selection) => {
                for index in keys {
                    match selection.contains(batch.name(index)) {
                        true => queue.push_back(KeyRef { seq, index }),
                        false => batch.record(index, KeyOutcome::Filtered),
                    }
                }
            }
        }
        let kept = batch.open();
        if !self.rules.from_list {
            // Those that MATCH or TYPE kept back were looked at too.
            let looked_at = (self.rules.batch_keys as usize).max(batch.len());
            self.pace.borrow_mut().passed_over(looked_at - kept);
        }
        self.batches.push_back(batch);
        self.hand_on();
    }

    /// Whether the names that come may be those of keys of any node.
    fn reads_anywhere(&self) -> bool {
        self.rules.from_list && self.rules.by_slot.is_some()
    }

    // ---- from a list

    /// The place in the list where names are to be read next; `None` while there are enough, or if there is no list.
    pub fn wants_names(&self) -> Option<u64> {
        let Walk::List(list) = &self.scan else {
            return None;
        };
        list.next()
            .filter(|_| self.has_room_for_names() && self.strays.len() <= self.window.keys())
    }

    /// Names that were read at [`Self::wants_names`].
    pub fn take_names(&mut self, chunk: &Chunk) {
        let in_doubt_before = self.in_doubt_before;
        let Walk::List(list) = &mut self.scan else {
            return;
        };
        let batch = list.take(chunk, |seq| seq < in_doubt_before);
        self.names_came(batch);
    }

    // ---- taken names

    /// The next keys whose names may be taken, so many at most.
    pub fn take_unchecked(&mut self, keys_max: usize) -> Vec<KeyRef> {
        let count = self.unchecked.len().min(keys_max);
        self.being_checked += count;
        self.unchecked.drain(..count).collect()
    }

    /// The names of these keys on the source.
    pub fn names_of(&self, keys: &[KeyRef]) -> Vec<Vec<u8>> {
        keys.iter()
            .map(|key| self.batch(*key).name(key.index).to_vec())
            .collect()
    }

    /// For each of these keys the database whose key has its name on the target, if one has.
    pub fn names_checked(&mut self, keys: &[KeyRef], taken_by: &[Option<u32>]) {
        self.being_checked -= keys.len();
        for (key, taken_by) in keys.iter().zip(taken_by) {
            match taken_by {
                Some(db) => {
                    let reason = format!(
                        "database {db} has a key of this name too, and both would go to database {} of the target; the one of database {db} is moved, and not the one of database {}",
                        self.rules.dbs.target_db, self.rules.dbs.source_db
                    );
                    self.quarantine(*key, reason, None, None);
                }
                None if self.reads_anywhere() => self.strays.push_back(*key),
                None => self.unread.push_back(*key),
            }
        }
    }
}
