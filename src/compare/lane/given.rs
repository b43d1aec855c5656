//! Names as they come, from a walk or from a list, and who else has them.

use std::collections::VecDeque;

use super::{IN_FLIGHT_BATCHES_MAX, Lane, Listed, SOURCE, TARGET, walked};
use crate::compare::batch::{Batch, KeyRef};
use crate::compare::listing::Listing;
use crate::compare::named::Look;
use crate::compare::names::Names;
use crate::compare::scan::Scanned;
use crate::state::Chunk;
use crate::state::record::{CompareStage, Position};

impl Lane {
    /// What was listed of the target since the last call.
    pub fn take_listed(&mut self) -> Option<Listed> {
        self.listed.take()
    }

    /// Names of the target have come beside the walk of the source.
    pub(super) fn listed(&mut self, scanned: &Scanned) {
        let listed = self.listed.get_or_insert_default();
        listed.to = Position::after(scanned.cursor_out);
        listed.keys += scanned.names.len() as u64;
        let named = &self.rules.named[TARGET];
        let mut buffer = Vec::new();
        for name in scanned.names.iter() {
            match named.look(name, &mut buffer) {
                Look::Yes => listed.names.add(&named.on(SOURCE, name)),
                Look::Unselected => listed.unselected += 1,
                Look::Unsampled => {}
            }
        }
        self.names_listed(scanned.names.len());
    }

    /// A batch of names has come.
    pub(super) fn scanned(&mut self, scanned: Scanned) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let keys = scanned.names.len();
        let before = self.unread.len();
        let (mut unselected, mut unsampled) = (0, 0);
        let named = &self.rules.named[walked(self.stage)];
        let mut buffer = Vec::new();
        for (index, name) in (0..).zip(scanned.names.iter()) {
            match named.look(name, &mut buffer) {
                Look::Yes => self.unread.push_back(KeyRef { seq, index }),
                Look::Unselected => unselected += 1,
                Look::Unsampled => unsampled += 1,
            }
        }
        let open = self.unread.len() - before;
        self.passed_over(keys - open);
        let cursors = (scanned.cursor_in, scanned.cursor_out);
        let mut batch = Batch::scanned(seq, cursors, scanned.names, open);
        match self.stage {
            CompareStage::Target => {
                batch.counters().target_keys_scanned = keys as u64;
                batch.counters().target_keys_unselected = unselected;
            }
            _ => {
                batch.counters().keys_scanned = keys as u64;
                batch.counters().filtered = unselected;
                batch.counters().unsampled = unsampled;
            }
        }
        self.batches.push_back(batch);
        self.hand_on();
    }

    /// The source has all of these keys, or it has not this one.
    pub(super) fn existence(&mut self, first: KeyRef, count: u32, exist: bool) {
        let run = first.index..first.index + count;
        if !exist && self.rules.has_rivals {
            self.unplaced
                .extend(run.map(|index| KeyRef { index, ..first }));
            return;
        }
        for index in run {
            let key = KeyRef { index, ..first };
            match exist {
                true => self.batch(key).known(),
                false => self.unknown_to_source(key),
            }
        }
        let batch = self.batch(first);
        if batch.open() == 0 {
            self.hand_on();
        }
    }

    /// The place in the list where names are to be read next; `None` while there are enough, or if there is no list.
    pub fn wants_names(&self) -> Option<u64> {
        let few = self.unread.len() <= self.keys_ahead();
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
        *position = Position::after(cursor_out);
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

fn front(batches: &VecDeque<Batch>) -> u64 {
    batches
        .front()
        .expect("a key belongs to a batch in flight")
        .seq
}
