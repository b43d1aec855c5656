//! What the store tells the journal, its second witness.
//!
//! # Invariant
//!
//! The journal is told after the engine is durable, never before.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::StoreError;
use super::record::Position;
use super::store::{Durability, Store, shortened};
use super::{folder, now_ms};
use crate::audit::journal::{Event, JournalError, Milestone, hex};
use crate::endpoint::Side;

/// How often the journal tells how far the lanes are. What an emptied or rolled-back engine could hide is bounded by it;
/// each time costs one more fsync.
const MILESTONE_EVERY: Duration = Duration::from_secs(5);

impl Store {
    /// Tells the journal about a commit: quarantined keys at once, milestones every few seconds.
    pub(super) fn journal_commit(&mut self, events: Vec<Event>) -> Result<(), StoreError> {
        for event in events {
            self.journal.append(now_ms(), event);
        }
        if self.milestone_at.elapsed() < MILESTONE_EVERY {
            return self.attempt(|store| {
                store
                    .journal
                    .write()
                    .map_err(|error| store.journal_error(error))
            });
        }
        if self.durability == Durability::None {
            // The journal must not know more than the engine.
            self.attempt(|store| store.engine.make_durable())?;
        }
        self.append_milestone();
        self.sync_journal()
    }

    /// Adds how far the lanes are that moved since the last milestone.
    pub(super) fn append_milestone(&mut self) {
        self.milestone_at = Instant::now();
        let moved = std::mem::take(&mut self.moved);
        if moved.is_empty() {
            return;
        }
        let lanes = moved
            .into_iter()
            .map(|lane| {
                let checkpoint = &self.lanes[lane as usize];
                Milestone {
                    lane,
                    pass: checkpoint.pass,
                    next_seq: checkpoint.next_seq,
                    chain: hex(&checkpoint.chain),
                    cursor: match checkpoint.position {
                        Position::Start => None,
                        Position::At(cursor) => Some(cursor.get()),
                        Position::End => Some(0),
                    },
                    counters: checkpoint.counters,
                    makeup: checkpoint.makeup.clone(),
                    counters_of_all_passes: self.totals[lane as usize],
                }
            })
            .collect();
        self.journal.append(
            now_ms(),
            Event::Checkpoint {
                lanes,
                sample: None,
            },
        );
    }

    /// Tells the journal what a server has served in this run; `Err` says why that is not known.
    pub fn tell_served(
        &mut self,
        side: Side,
        calls: Result<BTreeMap<String, u64>, String>,
    ) -> Result<(), StoreError> {
        let (calls, unknown) = match calls {
            Ok(calls) => (calls, None),
            Err(why) => (BTreeMap::new(), Some(shortened(&why))),
        };
        let run = self.run();
        self.journal.append(
            now_ms(),
            Event::Served {
                run,
                side,
                calls,
                unknown,
            },
        );
        self.sync_journal()
    }

    pub(super) fn sync_journal(&mut self) -> Result<(), StoreError> {
        self.attempt(|store| {
            store
                .journal
                .sync()
                .map_err(|error| store.journal_error(error))
        })
    }

    fn journal_error(&self, error: JournalError) -> StoreError {
        journal_error(&self.dir, error)
    }
}

/// What the journal said, with the state's folder in it.
pub(super) fn journal_error(dir: &Path, error: JournalError) -> StoreError {
    match error {
        JournalError::Io { doing, error } => {
            StoreError::io(doing, &dir.join(folder::JOURNAL), &error)
        }
        JournalError::Damaged { line, what } => {
            StoreError::damaged(format!("line {line} of {}: {what}", folder::JOURNAL), dir)
        }
    }
}
