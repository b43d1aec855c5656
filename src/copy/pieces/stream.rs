//! A stream, read in pieces: its entries, what it says of itself, its groups.
//!
//! # Invariant
//!
//! A pending entry that is not in the stream any more is a reason to read the stream whole: no command makes such an
//! entry again. It is found as soon as the walk has passed its place. What is delivered while the stream is read is in it:
//! servers deliver, and let claim, nothing else, and a deletion is a change that WATCH sees.

use redis::Value;

use super::answers::{Named, array, id, strings};
use super::collections::{Count, strings_size};
use super::groups::{Groups, pending_ids};
use super::piece::{Content, Entry, StreamState, shown};
use super::{Limits, Next, Piece};
use crate::client::LinkError;
use crate::client::control::Control;
use crate::rdb::visit::StreamId;

/// What a stream of Redis 8.6 shows of idempotent producers, and what it shows where there were none.
const IDEMPOTENCE: [(&str, u64); 4] = [
    ("idmp-duration", 100),
    ("idmp-maxsize", 100),
    ("pids-tracked", 0),
    ("iids-added", 0),
];

/// A place in a stream.
#[derive(Debug)]
pub(super) struct Walk {
    /// The first id that has not been read; `None`: behind the last one.
    at: Option<StreamId>,
    count: Count,
    /// Entries that it says it has, and that have been read.
    length: u64,
    read: u64,
    /// `None`: it has been told.
    state: Option<StreamState>,
    /// Ids that were pending at the beginning, ascending.
    pending: Vec<StreamId>,
    /// How many of them have been met.
    met: usize,
    groups: Groups,
}

impl Walk {
    /// Reads what the stream says of itself, and which ids are pending; `Err`: it can't be read in pieces, and why.
    pub(super) async fn begin(
        source: &mut Control,
        key: &[u8],
        length: u64,
        limits: Limits,
    ) -> Result<Result<Self, String>, LinkError> {
        let info = source
            .ask(redis::cmd("XINFO").arg("STREAM").arg(key))
            .await?;
        let mut info = Named::of(info)?;
        for (name, unused) in IDEMPOTENCE {
            if info.count(name)?.is_some_and(|count| count != unused) {
                return Ok(Err(
                    "what a stream remembers of idempotent producers can't be read in pieces"
                        .to_owned(),
                ));
            }
        }
        let counters = match info.count("entries-added")? {
            Some(added) => Some((added, id(info.take("max-deleted-entry-id"))?)),
            None => None,
        };
        let state = StreamState {
            is_empty: length == 0,
            last_id: id(info.take("last-generated-id"))?,
            counters,
        };
        let pending = match pending_ids(source, key, limits).await? {
            Ok(pending) => pending,
            Err(why) => return Ok(Err(why)),
        };
        Ok(Ok(Self {
            at: Some(StreamId::default()),
            count: Count::new(limits),
            length,
            read: 0,
            state: Some(state),
            pending,
            met: 0,
            groups: Groups::default(),
        }))
    }

    pub(super) async fn next(
        &mut self,
        source: &mut Control,
        key: &[u8],
        limits: Limits,
    ) -> Result<Next, LinkError> {
        let (entries, bytes) = self.entries(source, key, limits).await?;
        if self.passed_a_pending_one(&entries) {
            return Ok(Next::Whole(
                "entries that were deleted from the stream are still pending in a consumer group"
                    .to_owned(),
            ));
        }
        if !entries.is_empty() {
            self.read += entries.len() as u64;
            return Ok(Next::Piece(Piece {
                content: Content::Entries(entries),
                bytes,
            }));
        }
        if self.read != self.length {
            return Ok(Next::Changed);
        }
        if let Some(state) = self.state.take() {
            return Ok(Next::Piece(Piece {
                content: Content::Stream(state),
                bytes: size_of::<StreamState>(),
            }));
        }
        self.groups.next(source, key, limits).await
    }

    /// The entries of the next piece; none at the end.
    async fn entries(
        &mut self,
        source: &mut Control,
        key: &[u8],
        limits: Limits,
    ) -> Result<(Vec<Entry>, usize), LinkError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        while let Some(at) = self.at.filter(|_| bytes < limits.piece_bytes) {
            let mut command = redis::cmd("XRANGE");
            command.arg(key).arg(shown(at)).arg("+");
            command.arg("COUNT").arg(self.count.get());
            let answer = array(source.ask(&command).await?)?;
            let found: Result<Vec<Entry>, LinkError> = answer.into_iter().map(entry).collect();
            let found = found?;
            let size = found
                .iter()
                .map(|entry| size_of_val(entry) + strings_size(&entry.parts))
                .sum();
            self.at = match found.last() {
                Some(last) if found.len() >= self.count.get() => successor(last.id),
                _ => None,
            };
            self.count.learn(found.len(), size, limits);
            bytes += size;
            entries.extend(found);
        }
        Ok((entries, bytes))
    }

    /// Goes on in the pending ids by what was read; whether there is one that the stream does not have.
    fn passed_a_pending_one(&mut self, entries: &[Entry]) -> bool {
        for entry in entries {
            match self.pending.get(self.met) {
                Some(next) if *next < entry.id => return true,
                Some(next) if *next == entry.id => self.met += 1,
                _ => {}
            }
        }
        self.at.is_none() && self.met < self.pending.len()
    }
}

fn entry(value: Value) -> Result<Entry, LinkError> {
    let mut parts = array(value)?.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    Ok(Entry {
        id: id(next())?,
        parts: strings(next())?,
    })
}

/// The id behind it. Ranges that exclude their first id are known only since Redis 6.2.
pub(super) fn successor(id: StreamId) -> Option<StreamId> {
    let StreamId { ms, seq } = id;
    match seq.checked_add(1) {
        Some(seq) => Some(StreamId { ms, seq }),
        None => ms.checked_add(1).map(|ms| StreamId { ms, seq: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_each_other_to_the_last_one() {
        let check = |(ms, seq), next: Option<(u64, u64)>| {
            let next = next.map(|(ms, seq)| StreamId { ms, seq });
            assert_eq!(successor(StreamId { ms, seq }), next);
        };
        check((0, 0), Some((0, 1)));
        check((7, u64::MAX), Some((8, 0)));
        check((u64::MAX, 3), Some((u64::MAX, 4)));
        check((u64::MAX, u64::MAX), None);
    }
}
