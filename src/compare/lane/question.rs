//! What both sides are asked, and which of their nodes.
//!
//! # Invariant
//!
//! A question brings as many answers from one side as from the other, in the same order, whichever of them is a cluster.

use super::pipe::Asked;
use super::{Lane, SOURCE, TARGET, walked};
use crate::compare::batch::KeyRef;

/// A question to both sides.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    /// MGET of so many unread keys in a row.
    Strings { first: KeyRef, count: u32 },
    /// PEXPIRETIME or PTTL of each of them, right behind it: what a server has just looked up it finds again at half the
    /// price.
    Expiries { first: KeyRef, count: u32 },
    /// DUMP.
    Dump(KeyRef),
    /// PEXPIRETIME or PTTL of what the DUMP right before it has.
    Expiry(KeyRef),
    /// MEMORY USAGE.
    Size,
}

impl Lane {
    /// Asks both sides.
    pub(super) fn ask(&mut self, question: Question) {
        self.unmatched.push_back(question);
        for side in [SOURCE, TARGET] {
            match question {
                Question::Strings { first, count } if self.sides[side].is_cluster() => {
                    for index in first.index..first.index + count {
                        let key = KeyRef { index, ..first };
                        let pipe = self.pipe_of(side, key);
                        self.sides[side].ask(pipe, Asked::String(key), 1, 1);
                    }
                }
                Question::Strings { first, count } => {
                    let asked = Asked::Strings { first, count };
                    self.sides[side].ask(0, asked, count as usize, count);
                }
                Question::Dump(key) => {
                    let pipe = self.pipe_of(side, key);
                    self.sides[side].ask(pipe, Asked::Dump(key), 1, 1);
                }
                Question::Expiries { first, count } if self.sides[side].is_cluster() => {
                    for index in first.index..first.index + count {
                        let key = KeyRef { index, ..first };
                        let pipe = self.pipe_of(side, key);
                        self.sides[side].ask(pipe, Asked::Expiry(key), 0, 1);
                    }
                }
                Question::Expiries { first, count } => {
                    let asked = Asked::Expiries { first, count };
                    self.sides[side].ask(0, asked, 0, count);
                }
                Question::Expiry(key) => {
                    let pipe = self.pipe_of(side, key);
                    self.sides[side].ask(pipe, Asked::Expiry(key), 0, 1);
                }
                // Of a side that tells none they are known.
                Question::Size => unreachable!("sizes are asked for by themselves"),
            }
        }
    }

    /// The pipe to the node of a side that should have the key.
    pub(super) fn pipe_of(&self, side: usize, key: KeyRef) -> usize {
        let first = self
            .batches
            .front()
            .expect("a key belongs to a batch in flight")
            .seq;
        if !self.sides[side].is_cluster() {
            return 0;
        }
        let name = self.batches[(key.seq - first) as usize].name(key.index);
        let named = &self.rules.named[walked(self.stage)];
        self.sides[side].pipe_to(&named.on(side, name))
    }
}
