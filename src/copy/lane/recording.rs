//! What is kept of each key, so that the target can be proven when the source is gone ([`crate::recorded`]).
//!
//! # Invariants
//!
//! - A value is digested as it is sent, whatever was made of it on the way, and is kept only when the target has acknowledged
//!   it.
//! - Every key of a batch leaves an entry, but those that were never to be moved.

use std::time::Instant;

use super::Lane;
use crate::client::handshake::unix_ms;
use crate::copy::batch::{KeyOutcome, KeyRef, Payload};
use crate::recorded::{Digesting, Entry, Outcome, Value};

/// Digests what is sent.
#[derive(Default)]
pub(super) struct Recording {
    digesting: Digesting,
    /// What the target holds of the key in doubt that was looked at last.
    seen: Option<(KeyRef, Entry)>,
}

impl Lane {
    /// The entry of a value that is about to be sent, with RESTORE's ttl argument and whether that is an instant; `None` if
    /// nothing is kept.
    pub(super) fn entry_of(
        &mut self,
        key: KeyRef,
        payload: &Payload,
        (ttl, absttl): (u64, bool),
        now: Instant,
    ) -> Option<Entry> {
        let mut recording = self.recording.take()?;
        let rules = &self.rules;
        let clock = rules.target_clock.or(rules.source_clock);
        let now_ms = || clock.map_or_else(|| unix_ms() as i64, |clock| clock.at(now));
        let ttl_ms = i64::try_from(ttl).unwrap_or(i64::MAX);
        let expires_ms = match (ttl, absttl) {
            (0, _) => None,
            (_, true) => Some(ttl_ms),
            (_, false) => Some(now_ms().saturating_add(ttl_ms)),
        };
        let value = match payload {
            Payload::Dumped(payload) | Payload::Reencoded(payload) => Value::Payload(payload),
            Payload::String(value) => Value::String(value),
        };
        let now_ms = now_ms();
        let mut buffer = std::mem::take(&mut self.name_buffer);
        let name = self.batch(key).name(key.index);
        let name = self.rules.renaming.target_name(name, &mut buffer);
        let entry = recording.digesting.entry(name, value, expires_ms, now_ms);
        self.name_buffer = buffer;
        self.recording = Some(recording);
        Some(entry)
    }

    /// Whether entries are kept.
    pub fn records(&self) -> bool {
        self.recording.is_some()
    }

    /// The target holds this under a key in doubt, for so many milliseconds if not for ever; nothing, if it has gone. It is kept
    /// if the doubt ends so.
    pub fn seen_in_doubt(&mut self, key: KeyRef, held: Option<(Vec<u8>, Option<i64>)>) {
        let seen = held.and_then(|(payload, left_ms)| {
            let ttl = match left_ms {
                None => 0,
                // In its last millisecond it still expires.
                Some(left) => left.max(1) as u64,
            };
            let payload = Payload::Dumped(payload.into());
            self.entry_of(key, &payload, (ttl, false), Instant::now())
        });
        if let Some(recording) = &mut self.recording {
            recording.seen = seen.map(|entry| (key, entry));
        }
    }

    /// A value was acknowledged. Without an entry it was written by a run, or over a connection, that could not say so: what the
    /// target was seen to hold stands for it.
    pub(super) fn keep_written(&mut self, key: KeyRef, entry: Option<Entry>) {
        let recording = self.recording.as_mut();
        let seen = recording.and_then(|recording| recording.seen.take_if(|(of, _)| *of == key));
        match entry.or(seen.map(|(_, entry)| entry)) {
            Some(entry) => self.keep(key, entry),
            // Unless nothing is kept at all.
            None => self.keep_outcome(key, Outcome::Unseen),
        }
    }

    /// A key has an outcome; that of a written one was kept before.
    pub(super) fn keep_unwritten(&mut self, key: KeyRef, outcome: &KeyOutcome) {
        match outcome {
            KeyOutcome::Written(_)
            | KeyOutcome::Reencoded(_)
            | KeyOutcome::InPieces { .. }
            | KeyOutcome::Filtered => {}
            KeyOutcome::Vanished => self.keep_outcome(key, Outcome::Gone),
            KeyOutcome::Kept => self.keep_outcome(key, Outcome::Kept),
            KeyOutcome::Quarantined(_) => self.keep_outcome(key, Outcome::Quarantined),
        }
    }

    fn keep_outcome(&mut self, key: KeyRef, outcome: Outcome) {
        if self.recording.is_none() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.name_buffer);
        let name = self.batch(key).name(key.index);
        let name = self.rules.renaming.target_name(name, &mut buffer);
        let entry = Entry::new(name, outcome);
        self.name_buffer = buffer;
        self.keep(key, entry);
    }

    fn keep(&mut self, key: KeyRef, entry: Entry) {
        let first = self.batches[0].seq;
        self.batches[(key.seq - first) as usize].keep(&entry);
    }
}
