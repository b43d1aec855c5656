//! The digest of a stream's consumer groups, told part by part: a group's pending entries need not be in memory.
//!
//! # Invariant
//!
//! When entries were delivered and consumers were seen is left out: reading the stream changes it.

use super::StreamLevel;
use super::frame::{Frame, domain, summand};
use super::visitor::{ABSENT, PRESENT};
use crate::rdb::visit::{Consumer, Group, StreamId};

/// Sums up groups. For each of them comes its head, its pending entries, ascending, and then its consumers by name, each
/// with the ids of its entries.
pub struct Groups<'a> {
    frame: &'a mut Frame,
    level: StreamLevel,
    pub(super) count: u64,
    pub(super) sum: u128,
}

/// What some groups sum up to: equal if they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupsSum {
    pub(super) count: u64,
    pub(super) sum: u128,
}

/// Memory in which groups are digested.
pub struct GroupsFrame(Frame);

impl Default for GroupsFrame {
    fn default() -> Self {
        Self(Frame::new(domain::GROUP))
    }
}

impl GroupsFrame {
    /// Begins with no group.
    pub fn begin(&mut self, level: StreamLevel) -> Groups<'_> {
        Groups::in_frame(&mut self.0, level)
    }
}

impl<'a> Groups<'a> {
    pub(super) fn in_frame(frame: &'a mut Frame, level: StreamLevel) -> Self {
        Self {
            frame,
            level,
            count: 0,
            sum: 0,
        }
    }

    /// A group begins that has so many pending entries. `entries_read` as in [`Group::entries_read`].
    pub fn head(
        &mut self,
        name: &[u8],
        last_id: StreamId,
        entries_read: Option<i64>,
        pending: u64,
    ) {
        self.frame.restart(domain::GROUP);
        self.frame.put_framed(name);
        put_id(self.frame, last_id);
        if self.level >= StreamLevel::Counted {
            match entries_read {
                Some(read) => {
                    self.frame.put(PRESENT);
                    self.frame.put(&read.to_le_bytes());
                }
                None => self.frame.put(ABSENT),
            }
        }
        self.frame.put_u64(pending);
    }

    /// The next pending entry.
    pub fn pending(&mut self, id: StreamId, deliveries: u64) {
        put_id(self.frame, id);
        self.frame.put_u64(deliveries);
    }

    /// So many consumers follow.
    pub fn consumers(&mut self, count: u64) {
        self.frame.put_u64(count);
    }

    /// The next consumer, which has so many pending entries.
    pub fn consumer(&mut self, name: &[u8], pending: u64) {
        self.frame.put_framed(name);
        self.frame.put_u64(pending);
    }

    /// The next of a consumer's entries.
    pub fn owned(&mut self, id: StreamId) {
        put_id(self.frame, id);
    }

    /// The group is told; these entries have no owner.
    pub fn end(&mut self, unowned: &[StreamId]) {
        if self.level >= StreamLevel::Unowned {
            self.frame.put_u64(unowned.len() as u64);
            unowned.iter().for_each(|id| put_id(self.frame, *id));
        }
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(summand(self.frame.finish()));
    }

    /// A group that is in memory.
    pub(super) fn whole(&mut self, group: &Group) {
        let pending = group.pending.len() as u64;
        self.head(&group.name, group.last_id, group.entries_read, pending);
        for pending in &group.pending {
            self.pending(pending.id, pending.deliveries);
        }
        let mut consumers: Vec<&Consumer> = group.consumers.iter().collect();
        consumers.sort_unstable_by_key(|consumer| &consumer.name);
        self.consumers(consumers.len() as u64);
        for consumer in consumers {
            self.consumer(&consumer.name, consumer.pending.len() as u64);
            consumer.pending.iter().for_each(|id| self.owned(*id));
        }
        self.end(&group.unowned);
    }

    /// What they sum up to.
    pub fn sum(&self) -> GroupsSum {
        GroupsSum {
            count: self.count,
            sum: self.sum,
        }
    }
}

pub(super) fn put_id(frame: &mut Frame, id: StreamId) {
    frame.put_u64(id.ms);
    frame.put_u64(id.seq);
}
