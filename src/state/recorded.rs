//! What is kept of each key ([`crate::recorded`]): in pieces beside the batch that counts the key, and bound into its chain.
//!
//! # Invariants
//!
//! - The entries of a batch are written with its record, in one atomic step, and its record has their BLAKE3.
//! - Those of earlier passes are removed when a pass begins that writes every key anew; where it keeps what is there, they say
//!   what that is.
//! - Only the entries of one batch are in memory.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::engine::{Engine, Writes};
use super::error::StoreError;
use super::layout::{self, Kind, RECORD_BYTES_MAX};
use super::record::BatchRecord;
use super::store::Store;
use crate::plan::OnConflict;
use crate::recorded::{ENTRY_BYTES, Entry};

/// Bytes of entries that are kept in one record: as many as fit beside its key.
const PIECE_BYTES: usize = (RECORD_BYTES_MAX - 32) / ENTRY_BYTES * ENTRY_BYTES;
/// Pieces that are removed in one write.
const PURGED_AT_ONCE: usize = 64;
/// Records of batches that are read at once.
const PAGE_RECORDS: usize = 64;

/// Where a batch is: lane, pass, number.
pub(super) type BatchAt = (u32, u32, u64);

/// How many keys of a pass have an entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Batches of the pass.
    pub batches: u64,
    /// Those of them whose keys have no entries: copied without, or lost with a state that was made anew.
    pub without: u64,
}

/// What binds the entries of a batch into its record.
pub(super) fn digest(entries: &[u8]) -> [u8; 32] {
    blake3::hash(entries).into()
}

pub(super) fn put_recorded(writes: &mut Writes, (lane, pass, seq): BatchAt, entries: &[u8]) {
    for (piece, bytes) in (0..).zip(entries.chunks(PIECE_BYTES)) {
        writes.put(layout::recorded(lane, pass, seq, piece), bytes.to_vec());
    }
}

/// The entries of a batch as they lie there; none, if there are none.
pub(super) fn of_batch(engine: &Engine, (lane, pass, seq): BatchAt) -> Result<Vec<u8>, StoreError> {
    let mut entries = Vec::new();
    let range = (
        layout::recorded(lane, pass, seq, 0),
        layout::recorded(lane, pass, seq + 1, 0),
    );
    engine.visit(range, |_, piece| {
        entries.extend_from_slice(piece);
        ControlFlow::Continue(())
    })?;
    Ok(entries)
}

/// Whether what lies there is what the batch's record says. Of an earlier pass it may have been removed.
pub(super) fn fits(record: &BatchRecord, entries: &[u8], is_newest_pass: bool) -> bool {
    let is_removed = entries.is_empty() && !is_newest_pass;
    is_removed || record.recorded.unwrap_or_else(|| digest(&[])) == digest(entries)
}

impl Store {
    /// How many batches of a lane's present pass have entries.
    pub fn recorded(&self, lane: u32) -> Result<Coverage, StoreError> {
        let pass = self.lanes[lane as usize].pass;
        let mut coverage = Coverage::default();
        let mut batches = Batches::new(lane, pass);
        while let Some((_, record)) = batches.next(self)? {
            coverage.batches += 1;
            coverage.without += u64::from(record.recorded.is_none());
        }
        // Batches that were lost have no record either.
        let batches = self.lanes[lane as usize].next_seq;
        coverage.without += batches.saturating_sub(coverage.batches);
        coverage.batches = batches;
        Ok(coverage)
    }

    /// How many entries a lane has at most, over all passes whose entries are kept.
    pub fn recorded_entries(&self, lane: u32) -> Result<u64, StoreError> {
        let from = match self.forgets_earlier_passes() {
            true => self.lanes[lane as usize].pass,
            false => 0,
        };
        let mut entries = 0;
        let mut batches = Batches::new(lane, from);
        while let Some((_, record)) = batches.next(self)? {
            if record.recorded.is_some() {
                entries += record.counters.keys_scanned - record.counters.keys_filtered;
            }
        }
        Ok(entries)
    }

    /// Whether a pass writes every key anew.
    fn forgets_earlier_passes(&self) -> bool {
        match self.meta.plan.on_conflict {
            OnConflict::RequireEmpty | OnConflict::Replace => true,
            OnConflict::Skip | OnConflict::Fail => false,
        }
    }

    /// Shows `visit` every entry of a lane, the oldest first; those of earlier passes as such.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if a batch's entries are not those that its record is bound to.
    pub fn visit_recorded(
        &self,
        lane: u32,
        mut visit: impl FnMut(Entry),
    ) -> Result<(), StoreError> {
        let newest = self.lanes[lane as usize].pass;
        let mut batches = Batches::new(lane, 0);
        while let Some(((pass, seq), record)) = batches.next(self)? {
            let entries = of_batch(&self.engine, (lane, pass, seq))?;
            let is_newest = pass == newest;
            let damaged = || {
                let what =
                    format!("the digests of batch {seq} of pass {pass} of lane {lane} are others");
                StoreError::damaged(what, &self.dir)
            };
            if !fits(&record, &entries, is_newest) {
                return Err(damaged());
            }
            for entry in entries.chunks(ENTRY_BYTES) {
                let entry = Entry::parse(entry).ok_or_else(damaged)?;
                visit(match is_newest {
                    true => entry.of_this_pass(),
                    false => entry.of_earlier_pass(),
                });
            }
        }
        Ok(())
    }

    /// Removes the entries of a lane's passes before `pass`, unless they are needed: what such a pass wrote is what the
    /// later ones keep. Not durable by itself: what comes back is removed another time.
    pub(super) fn purge_recorded(&mut self, lane: u32, pass: u32) -> Result<(), StoreError> {
        if !self.forgets_earlier_passes() {
            return Ok(());
        }
        let range = (
            layout::recorded(lane, 0, 0, 0),
            layout::recorded(lane, pass, 0, 0),
        );
        loop {
            let mut keys = Vec::new();
            self.engine.visit(range.clone(), |key, _| {
                keys.push(key.to_vec());
                match keys.len() < PURGED_AT_ONCE {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
            if keys.is_empty() {
                return Ok(());
            }
            let mut writes = Writes::default();
            keys.into_iter().for_each(|key| writes.remove(key));
            self.attempt(|store| store.engine.apply(writes))?;
        }
    }
}

/// The batches of a lane from a pass on, in their order.
struct Batches {
    lane: u32,
    from: Vec<u8>,
    page: VecDeque<((u32, u64), BatchRecord)>,
    ended: bool,
}

impl Batches {
    fn new(lane: u32, pass: u32) -> Self {
        Self {
            lane,
            from: layout::batches(lane, pass, 0),
            page: VecDeque::new(),
            ended: false,
        }
    }

    /// Pass and number of the next one, and its record.
    fn next(&mut self, store: &Store) -> Result<Option<((u32, u64), BatchRecord)>, StoreError> {
        if self.page.is_empty() && !self.ended {
            self.fill(store)?;
        }
        Ok(self.page.pop_front())
    }

    fn fill(&mut self, store: &Store) -> Result<(), StoreError> {
        let to = layout::batches(self.lane + 1, 0, 0);
        let (mut records, mut broken) = (0, false);
        let mut last = Vec::new();
        let range = (std::mem::take(&mut self.from), to);
        store.engine.visit(range, |key, value| {
            let read = layout::parse_batches(key).zip(layout::decode::<Vec<BatchRecord>>(value));
            let Some(((_, pass, first), batches)) = read else {
                broken = true;
                return ControlFlow::Break(());
            };
            let numbered = (first..).map(|seq| (pass, seq)).zip(batches);
            self.page.extend(numbered);
            last = key.to_vec();
            records += 1;
            match records == PAGE_RECORDS {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        if broken {
            let what = format!("a {} record can't be read", Kind::Batch.name());
            return Err(StoreError::damaged(what, &store.dir));
        }
        self.ended = records < PAGE_RECORDS;
        // The first key after the last one.
        last.push(0);
        self.from = last;
        Ok(())
    }
}
