//! One connection's pipeline: what is asked on it, and how much of that was sent and has come.
//!
//! # Invariant
//!
//! Answers come in the order of the questions that were sent on the present connection. What a lost connection leaves
//! unanswered is sent on the next one.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::BytesMut;

use crate::client::sizes::SAMPLES;
use crate::compare::batch::KeyRef;
use crate::resp::{ExpiryQuery, encode_command, encode_dump, encode_expiry, encode_with_keys};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    /// The next names.
    Names,
    /// How many of these keys exist.
    Exists { first: KeyRef, count: u32 },
    /// MGET.
    Strings { first: KeyRef, count: u32 },
    /// GET, where several keys can't be asked for at once.
    String(KeyRef),
    /// DUMP.
    Dump(KeyRef),
    /// MEMORY USAGE.
    Size(KeyRef),
    /// PEXPIRETIME or PTTL.
    Expiry(KeyRef),
    /// The same for each of these keys.
    Expiries { first: KeyRef, count: u32 },
}

/// A question and where its answer belongs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) asked: Asked,
    /// Number of its answer, or of the first of them, among those of its side.
    pub(super) ticket: u64,
    /// So many keys are outstanding because of it.
    pub(super) keys: usize,
    /// The node is still receiving the slot: ASKING goes before it.
    pub(super) asking: bool,
    /// How often it was sent elsewhere.
    pub(super) redirections: u8,
}

/// See the module.
#[derive(Default)]
pub(super) struct Pipe {
    /// In the order of the answers; the first `sent` of them were sent on the present connection.
    lines: VecDeque<Line>,
    sent: usize,
    /// The ASKING before the front line was answered.
    pub(super) permitted: bool,
    /// The front MGET's array has begun on this connection.
    pub(super) opened: bool,
    /// Answers of the front line, if it asks for several, that have come on this connection.
    pub(super) come: u32,
    /// Answers of the front line that were taken, on this connection or an earlier one.
    pub(super) taken: u32,
}

impl Pipe {
    pub(super) fn owes(&self) -> bool {
        self.sent > 0
    }

    pub(super) fn front(&self) -> Option<Line> {
        self.lines.front().copied()
    }

    pub(super) fn push(&mut self, line: Line) {
        self.lines.push_back(line);
    }

    /// The front line is answered, or goes elsewhere.
    pub(super) fn pop(&mut self) -> Option<Line> {
        let line = self.lines.pop_front()?;
        self.sent -= 1;
        self.permitted = false;
        self.opened = false;
        self.come = 0;
        self.taken = 0;
        Some(line)
    }

    /// Whether the answer with this number is to come from here.
    pub(super) fn is_to_answer(&self, ticket: u64) -> bool {
        self.lines.iter().any(|line| match line.asked {
            Asked::Names | Asked::Exists { .. } => false,
            Asked::Strings { count, .. } | Asked::Expiries { count, .. } => {
                (line.ticket..line.ticket + u64::from(count)).contains(&ticket)
            }
            Asked::String(_) | Asked::Dump(_) | Asked::Size(_) | Asked::Expiry(_) => {
                line.ticket == ticket
            }
        })
    }

    /// Whether the next names are asked for here.
    pub(super) fn lists(&self) -> bool {
        self.lines
            .iter()
            .any(|line| matches!(line.asked, Asked::Names))
    }

    /// The names are not asked for here any more.
    pub(super) fn forget_names(&mut self) {
        self.lines
            .retain(|line| !matches!(line.asked, Asked::Names));
    }

    /// The connection is lost.
    pub(super) fn lost(&mut self) {
        self.sent = 0;
        self.permitted = false;
        self.opened = false;
        self.come = 0;
        for line in &mut self.lines {
            line.redirections = 0;
        }
    }

    /// Appends what was not sent yet on this connection.
    pub(super) fn encode<'a>(
        &mut self,
        expiry: ExpiryQuery,
        names: impl Fn(&mut BytesMut),
        name: impl Fn(KeyRef) -> Cow<'a, [u8]>,
        out: &mut BytesMut,
    ) {
        let run = |first: KeyRef, count: u32| {
            (first.index..first.index + count).map(move |index| KeyRef { index, ..first })
        };
        for line in self.lines.range(self.sent..) {
            if line.asking {
                encode_command(out, &[b"ASKING"]);
            }
            match line.asked {
                Asked::Names => names(out),
                Asked::Exists { first, count } => {
                    encode_with_keys(out, b"EXISTS", run(first, count).map(&name));
                }
                Asked::Strings { first, count } => {
                    encode_with_keys(out, b"MGET", run(first, count).map(&name));
                }
                Asked::String(key) => encode_command(out, &[b"GET", &name(key)]),
                Asked::Dump(key) => encode_dump(out, &name(key)),
                Asked::Size(key) => {
                    let words: [&[u8]; 5] = [b"MEMORY", b"USAGE", &name(key), b"SAMPLES", SAMPLES];
                    encode_command(out, &words);
                }
                Asked::Expiry(key) => encode_expiry(out, expiry, &name(key)),
                Asked::Expiries { first, count } => {
                    run(first, count).for_each(|key| encode_expiry(out, expiry, &name(key)));
                }
            }
        }
        self.sent = self.lines.len();
    }
}
