//! What a lane is given from elsewhere: names from a list, and whether other databases have a name.

use std::collections::VecDeque;

use super::{IN_FLIGHT_BATCHES_MAX, Lane, SOURCE, walked};
use crate::compare::batch::KeyRef;
use crate::compare::listing::Listing;
use crate::compare::names::Names;
use crate::compare::scan::Scanned;
use crate::state::Chunk;

impl Lane {
    /// The place in the list where names are to be read next; `None` while there are enough, or if there is no list.
    pub fn wants_names(&self) -> Option<u64> {
        let few = self.unread.len() <= self.keys_max();
        let in_flight = self.batches_in_flight();
        match &self.listings[SOURCE] {
            Some(Listing::List(position)) => position
                .cursor()
                .filter(|_| few && !self.stopping && in_flight < IN_FLIGHT_BATCHES_MAX),
            _ => None,
        }
    }

    /// Whether other databases may have names of the target that this lane's does not have.
    pub fn asks_rivals(&self) -> bool {
        self.rules.has_rivals
    }

    /// Names that were read at [`Self::wants_names`].
    pub fn take_names(&mut self, chunk: &Chunk) {
        let Some(Listing::List(position)) = &mut self.listings[SOURCE] else {
            return;
        };
        let cursor_in = position
            .cursor()
            .expect("names are read where there are some");
        let cursor_out = chunk.next.unwrap_or(0);
        *position = crate::state::record::Position::after(cursor_out);
        let mut names = Names::default();
        chunk.names().for_each(|name| names.push(name));
        self.scanned(Scanned {
            cursor_in,
            cursor_out,
            names,
        });
    }

    /// The next keys of the target that this lane's database does not have, so many at most, and their names on the source.
    pub fn take_unplaced(&mut self, keys_max: usize) -> (Vec<KeyRef>, Vec<Vec<u8>>) {
        let count = self.unplaced.len().min(keys_max);
        let keys: Vec<KeyRef> = self.unplaced.drain(..count).collect();
        let names = keys.iter().map(|key| self.source_name(*key)).collect();
        (keys, names)
    }

    /// For each of these keys another database that has it, if one has.
    pub fn placed(&mut self, keys: &[KeyRef], found: &[Option<u32>]) {
        for (key, found) in keys.iter().zip(found) {
            match found {
                Some(_) => self.batch(*key).known(),
                None => self.unknown_to_source(*key),
            }
        }
        self.hand_on();
    }

    /// A key of the target's that no database of the source has, for now.
    pub(super) fn unknown_to_source(&mut self, key: KeyRef) {
        let name = self.source_name(key);
        self.batch(key).unknown_to_source(name);
    }

    fn source_name(&mut self, key: KeyRef) -> Vec<u8> {
        let first = front(&self.batches);
        let name = self.batches[(key.seq - first) as usize].name(key.index);
        let named = &self.rules.named[walked(self.stage)];
        named.on(SOURCE, name).into_owned()
    }
}

fn front(batches: &VecDeque<crate::compare::batch::Batch>) -> u64 {
    batches
        .front()
        .expect("a key belongs to a batch in flight")
        .seq
}
