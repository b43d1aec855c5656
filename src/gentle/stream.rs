//! A big stream of one side: its entries, what it says of itself, its groups.
//!
//! XREADGROUP, XACK and XCLAIM change groups, and WATCH does not see it. So all groups are read until two readings in a row
//! are equal: then there was a moment between them at which all of it was so.
//!
//! # Invariants
//!
//! - The digest has all that a payload's has: pending entries also of entries that were deleted, consumers without any, and
//!   the counters as far as both sides have them.
//! - Of pending entries an answer is in memory.

use redis::{Value, cmd};

use super::answers::{Named, array, bytes, count, id, number, parts, strings};
use super::reader::{Telling, Told};
use crate::client::LinkError;
use crate::client::control::Control;
use crate::digest::{Groups, GroupsFrame, GroupsSum, StreamLevel};
use crate::rdb::visit::{StreamCounters, StreamId, StreamState};

/// How often the groups are read before the stream is given up.
const READINGS_MAX: u32 = 8;
/// Most pending entries of an answer.
const PENDING_ELEMENTS: usize = 500;

/// What a stream says of itself.
pub(super) struct Stream {
    last_id: StreamId,
    /// Since Redis 7.0.
    counters: Option<StreamCounters>,
}

/// A group, as XINFO tells it.
struct Head {
    name: Vec<u8>,
    last_id: StreamId,
    entries_read: Option<i64>,
    pending: u64,
}

impl Stream {
    /// `Err`: it can't be read in pieces, and why.
    pub async fn look(server: &mut Control, key: &[u8]) -> Result<Result<Self, String>, LinkError> {
        let mut question = cmd("XINFO");
        question.arg("STREAM").arg(key);
        let mut info = Named::of(server.ask(&question).await?)?;
        // Redis 8.6: no command tells which ids are remembered, and of what.
        if info.has_any("idmp-") {
            let why = "what a stream remembers of idempotent producers can't be read in pieces";
            return Ok(Err(why.to_owned()));
        }
        let counters = match info.take("entries-added") {
            None => None,
            Some(added) => Some(StreamCounters {
                first_id: StreamId::default(),
                max_deleted_id: id(info.must("max-deleted-entry-id")?)?,
                entries_added: count(&added)?,
            }),
        };
        Ok(Ok(Self {
            last_id: id(info.must("last-generated-id")?)?,
            counters,
        }))
    }

    /// How much its server knows of it.
    pub fn level(&self) -> StreamLevel {
        match self.counters {
            Some(_) => StreamLevel::Counted,
            None => StreamLevel::Plain,
        }
    }

    /// Tells all of it.
    pub async fn tell(
        &self,
        telling: &mut Telling<'_>,
        length: u64,
        level: StreamLevel,
    ) -> Result<Told, LinkError> {
        let mut at = Some(StreamId::default());
        while let Some(from) = at {
            telling.next().await;
            let wanted = telling.count;
            let mut question = cmd("XRANGE");
            question.arg(telling.key).arg(shown(from)).arg("+");
            question.arg("COUNT").arg(wanted);
            let entries = array(telling.server.ask(&question).await?)?;
            let (came, mut size) = (entries.len(), 0);
            at = None;
            for entry in entries {
                let [place, fields] = parts(entry)?;
                let (place, fields) = (id(place)?, strings(fields)?);
                let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
                size += size_of::<StreamId>() + fields.iter().map(|part| part.len()).sum::<usize>();
                telling.running.entry(place, &fields);
                at = successor(place);
            }
            // There is no more behind an answer that is not full.
            at = at.filter(|_| came >= wanted);
            telling.took(came, size);
        }
        if telling.elements() != length {
            return Ok(Told::Torn);
        }
        telling.running.stream(&StreamState {
            len: length,
            last_id: self.last_id,
            since_7_0: self.counters,
        });
        let mut frame = GroupsFrame::default();
        let mut before = None;
        for _ in 0..READINGS_MAX {
            let groups = groups(telling, frame.begin(level)).await?;
            if groups.is_some() && groups == before {
                telling
                    .running
                    .groups(groups.unwrap_or_else(|| unreachable!("just looked")));
                return Ok(Told::All);
            }
            before = groups;
        }
        Ok(Told::Whole(
            "the stream's consumer groups change all the time, or have pending entries without an owner"
                .to_owned(),
        ))
    }
}

/// Reads all groups; `None`: one of them changed meanwhile, or has more than its consumers have.
async fn groups(
    telling: &mut Telling<'_>,
    mut groups: Groups<'_>,
) -> Result<Option<GroupsSum>, LinkError> {
    let mut question = cmd("XINFO");
    question.arg("GROUPS").arg(telling.key);
    for group in array(telling.server.ask(&question).await?)? {
        let mut group = Named::of(group)?;
        let head = Head {
            name: bytes(group.must("name")?)?,
            last_id: id(group.must("last-delivered-id")?)?,
            entries_read: match group.take("entries-read") {
                None => None,
                // The server does not know.
                Some(Value::Nil) => Some(-1),
                Some(read) => Some(number(&read)?),
            },
            pending: count(&group.must("pending")?)?,
        };
        if !one_group(telling, &mut groups, &head).await? {
            return Ok(None);
        }
    }
    Ok(Some(groups.sum()))
}

/// Reads a group; false: what was told is not as much as there should be.
async fn one_group(
    telling: &mut Telling<'_>,
    groups: &mut Groups<'_>,
    head: &Head,
) -> Result<bool, LinkError> {
    groups.head(&head.name, head.last_id, head.entries_read, head.pending);
    let told = pending(telling, &head.name, None, |id, deliveries| {
        groups.pending(id, deliveries);
    });
    if told.await? != head.pending {
        return Ok(false);
    }
    let mut question = cmd("XINFO");
    question
        .arg("CONSUMERS")
        .arg(telling.key)
        .arg(head.name.as_slice());
    let mut consumers = Vec::new();
    for consumer in array(telling.server.ask(&question).await?)? {
        let mut consumer = Named::of(consumer)?;
        consumers.push((
            bytes(consumer.must("name")?)?,
            count(&consumer.must("pending")?)?,
        ));
    }
    consumers.sort_unstable();
    groups.consumers(consumers.len() as u64);
    let mut owned = 0;
    for (name, wanted) in &consumers {
        groups.consumer(name, *wanted);
        if *wanted > 0 {
            let told = pending(telling, &head.name, Some(name), |id, _| groups.owned(id));
            if told.await? != *wanted {
                return Ok(false);
            }
        }
        owned += wanted;
    }
    groups.end(&[]);
    Ok(owned == head.pending)
}

/// Tells the pending entries of a group, or of one consumer of it, ascending, and returns how many they were.
async fn pending(
    telling: &mut Telling<'_>,
    group: &[u8],
    consumer: Option<&[u8]>,
    mut tell: impl FnMut(StreamId, u64),
) -> Result<u64, LinkError> {
    let mut told = 0;
    let mut at = Some(StreamId::default());
    while let Some(from) = at {
        telling.next().await;
        let mut question = cmd("XPENDING");
        question.arg(telling.key).arg(group);
        question.arg(shown(from)).arg("+").arg(PENDING_ELEMENTS);
        if let Some(consumer) = consumer {
            question.arg(consumer);
        }
        let page = array(telling.server.ask(&question).await?)?;
        let came = page.len();
        at = None;
        for entry in page {
            let [place, _consumer, _idle, deliveries] = parts(entry)?;
            let place = id(place)?;
            tell(place, count(&deliveries)?);
            told += 1;
            at = successor(place);
        }
        at = at.filter(|_| came >= PENDING_ELEMENTS);
    }
    Ok(told)
}

/// An id as commands take it.
fn shown(id: StreamId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

/// The id behind it. Ranges that exclude their first id are known only since Redis 6.2.
fn successor(id: StreamId) -> Option<StreamId> {
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
