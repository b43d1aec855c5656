//! What the store tells the journal, its second witness.
//!
//! # Invariant
//!
//! The journal is told after the engine is durable, never before.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::engine::Writes;
use super::error::StoreError;
use super::layout;
use super::record::{JournalSeal, Position};
use super::store::{Durability, Store, shortened};
use super::{folder, now_ms};
use crate::audit::entry::{Sample, Setting};
use crate::audit::journal::{Event, JournalError, Milestone, hex};
use crate::client::served::Calls;
use crate::progress::Counters;

/// How often the journal tells how far the lanes are. What an emptied or rolled-back engine could hide is bounded by it;
/// each time costs one more fsync.
const MILESTONE_EVERY: Duration = Duration::from_secs(5);

/// At a run's beginning they come more often, so that the curve of a short run has a shape.
const MILESTONE_FIRST: Duration = Duration::from_millis(500);

/// How long after a milestone the next one is due in a run of this age.
fn milestone_every(age: Duration) -> Duration {
    (age / 10).clamp(MILESTONE_FIRST, MILESTONE_EVERY)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Store {
    /// Tells the journal about a commit: quarantined keys at once, milestones every few seconds.
    pub(super) fn journal_commit(&mut self, events: Vec<Event>) -> Result<(), StoreError> {
        for event in events {
            self.journal.append(now_ms(), event);
        }
        if self.milestone_at.elapsed() < milestone_every(self.opened.elapsed()) {
            return self.attempt(|store| {
                store
                    .journal
                    .write()
                    .map_err(|error| store.journal_error(error))
            });
        }
        self.tell_waits(false);
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
        let sample = self.sample();
        self.journal
            .append(now_ms(), Event::Checkpoint { lanes, sample });
    }

    /// How fast the copy was since the last sample, if one is under way.
    fn sample(&mut self) -> Option<Sample> {
        let since = self.pulse.take();
        let over = self.sampled_at.elapsed();
        let mut total = Counters::default();
        self.totals.iter().for_each(|lane| total.add(lane));
        let before = std::mem::replace(&mut self.sampled, total);
        self.sampled_at = Instant::now();
        let per_second = |now: u64, before: u64| match over.as_secs_f64() {
            // Too short to be a rate.
            0.0..0.001 => 0.0,
            seconds => ((now - before) as f64 / seconds).round(),
        };
        since.copying.then(|| Sample {
            run: self.run(),
            over_ms: millis(over),
            keys_scanned: total.keys_scanned,
            keys_written: total.keys_written,
            payload_bytes_written: total.payload_bytes_written,
            keys_per_s: per_second(total.keys_scanned, before.keys_scanned),
            bytes_per_s: per_second(total.payload_bytes_written, before.payload_bytes_written),
            source_latency: since.source,
            target_latency: since.target,
            fsync_us: u64::try_from(self.last_sync.as_micros()).unwrap_or(u64::MAX),
            throttled_ms: millis(since.waited.min(over)),
            throttle: since.throttle,
        })
    }

    /// Tells the journal about waits for a side that it has not been told of; with `all`, they are at their end.
    pub(super) fn tell_waits(&mut self, all: bool) {
        for line in self.pulse.lines(all) {
            self.journal.append(now_ms(), line);
        }
    }

    /// As [`Self::tell_waits`], when it can be seen that the copy waits: no milestone comes meanwhile.
    pub(super) fn tell_new_waits(&mut self) {
        self.tell_waits(false);
        if let Err(error) = self.attempt(|store| {
            store
                .journal
                .write()
                .map_err(|error| store.journal_error(error))
        }) {
            tracing::warn!(%error, "the journal could not be written");
        }
    }

    /// Tells the journal something that happened outside of the state; durable with the next milestone.
    pub fn tell(&mut self, event: Event) -> Result<(), StoreError> {
        self.journal.append(now_ms(), event);
        self.attempt(|store| {
            store
                .journal
                .write()
                .map_err(|error| store.journal_error(error))
        })
    }

    /// Binds the state to the journal as it stands, with the next thing that is written.
    pub(super) fn put_seal(&mut self, writes: &mut Writes) {
        if let Some((lines, head)) = self.to_seal.take() {
            let seal = JournalSeal { lines, head };
            writes.put(layout::seal(self.run()), layout::encode(&seal));
        }
    }

    /// Tells the journal what this run was told, if that is known.
    pub fn tell_settings(&mut self, settings: &[Setting]) -> Result<(), StoreError> {
        if settings.is_empty() {
            return Ok(());
        }
        let (run, settings) = (self.run(), settings.to_vec());
        self.tell(Event::Settings { run, settings })
    }

    /// Tells the journal what each server has served in this run.
    pub fn tell_served(&mut self, served: Vec<Calls>) -> Result<(), StoreError> {
        let run = self.run();
        for Calls { side, node, calls } in served {
            let (calls, unknown) = match calls {
                Ok(calls) => (calls, None),
                Err(why) => (BTreeMap::new(), Some(shortened(&why))),
            };
            self.journal.append(
                now_ms(),
                Event::Served {
                    run,
                    side,
                    node,
                    calls,
                    unknown,
                },
            );
        }
        self.sync_journal()
    }

    pub(super) fn sync_journal(&mut self) -> Result<(), StoreError> {
        self.attempt(|store| {
            store
                .journal
                .sync()
                .map_err(|error| store.journal_error(error))
        })?;
        self.to_seal = Some(self.journal.head());
        Ok(())
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
