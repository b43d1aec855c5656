//! The walk of a cluster: slot after slot, each listed by the node that has it.
//!
//! A cursor of SCAN means something to one process only, and a cluster has many that come, go, and pass slots to each
//! other. A slot means the same to all of them for ever. So the position in a cluster is the next slot, and a slot is
//! listed as a whole: by CLUSTER GETKEYSINSLOT, which every version has and which is one atomic step of the node.
//! Nothing has to be proven about it after a restart, a failover, or a resharding.
//!
//! SCAN would do as well where its cursor carries the slot (Redis 7.4, Valkey 8), or CLUSTERSCAN (Valkey 9.1), and list a
//! huge slot in pieces; but then there would be two ways, and one of them with cursors that die.
//!
//! The price: the names of one slot are in memory together, here and in the node's answer, and a slot is one checkpoint. That
//! matters only where one hash tag has very many keys: a million names of 24 bytes in one slot cost a copy about 85 MiB, and
//! a run that is killed within that slot lists it once more.
//!
//! # Invariants
//!
//! - A list counts only if the node had the whole slot before and after it. The node itself says so, on the same
//!   connection: asked about a name that nobody uses, it answers MOVED if it has not the slot, and ASK if it is on its
//!   way to somebody else. So a slot is listed when it is at rest, and a key that is moved later was listed before.
//! - Slots are walked in ascending order, none is left out, and at most one question is on its way.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::slot::{Probes, SLOTS, Slot};
use crate::resp::{Token, encode_command};

/// Most slots in one question. Slots with few keys are asked for together, so that a batch has some keys.
const SLOTS_AT_ONCE_MAX: u16 = 128;
/// As many keys as there are: what is left out of a list can't be asked for.
const ALL_KEYS: &[u8] = b"2147483647";

/// See the module.
pub struct SlotWalk {
    /// The next slot to be listed; [`SLOTS`] when all are.
    next: u16,
    at_once: u16,
    question: Option<Question>,
    probes: Rc<Probes>,
}

/// Slots whose names have all come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The first of them.
    pub first: Slot,
    /// How many there are.
    pub slots: u16,
    /// How many names they have together.
    pub names: u64,
}

/// What was asked, and how much of the answer has come.
struct Question {
    slots: u16,
    names: u64,
    awaited: Awaited,
}

/// The next token is one of these.
#[derive(Clone, Copy)]
enum Awaited {
    Before { left: u16 },
    List { left: u16 },
    Name { left: usize, lists: u16 },
    After { left: u16 },
}

impl SlotWalk {
    /// A walk that goes on at slot `next`; with [`SLOTS`] it is over.
    pub fn new(next: u16, probes: Rc<Probes>) -> Self {
        Self {
            next: next.min(SLOTS),
            at_once: 1,
            question: None,
            probes,
        }
    }

    /// The next slot to be listed, if there is one.
    pub fn next_slot(&self) -> Option<Slot> {
        (self.next < SLOTS).then_some(self.next)
    }

    /// Whether an answer is awaited.
    pub fn in_flight(&self) -> bool {
        self.question.is_some()
    }

    /// Whether the last slot was listed.
    pub fn is_over(&self) -> bool {
        self.next >= SLOTS
    }

    /// Begins a question for the next slots, none behind `last`; the first of them and the one behind them. `None` if a
    /// question is on its way, or there is none to be asked.
    pub fn begin(&mut self, last: Slot) -> Option<(Slot, u16)> {
        if self.question.is_some() || self.is_over() || last < self.next {
            return None;
        }
        let slots = self.at_once.min(last.min(SLOTS - 1) - self.next + 1);
        self.question = Some(Question {
            slots,
            names: 0,
            awaited: Awaited::Before { left: slots },
        });
        Some((self.next, self.next + slots))
    }

    /// Appends the question that was begun.
    pub fn encode(&self, out: &mut BytesMut) {
        let Some(question) = &self.question else {
            return;
        };
        let asked = self.next..self.next + question.slots;
        let probes = |out: &mut BytesMut| {
            for slot in asked.clone() {
                encode_command(out, &[b"PTTL", self.probes.name(slot).as_bytes()]);
            }
        };
        probes(out);
        for slot in asked.clone() {
            let slot = slot.to_string();
            encode_command(
                out,
                &[b"CLUSTER", b"GETKEYSINSLOT", slot.as_bytes(), ALL_KEYS],
            );
        }
        probes(out);
    }

    /// The connection is lost: what came of an answer is forgotten, and the same slots are asked for again.
    pub fn lost(&mut self) {
        self.question = None;
    }

    /// Takes one token, and gives names to `name`; tells what was listed once all lists and all confirmations have come.
    ///
    /// # Errors
    ///
    /// The token, if it is none that is due: an error reply, most of all.
    pub fn token(
        &mut self,
        token: Token,
        mut name: impl FnMut(&Bytes),
    ) -> Result<Option<Listed>, Token> {
        let Some(question) = &mut self.question else {
            return Err(token);
        };
        question.awaited = match (question.awaited, token) {
            (Awaited::Before { left }, Token::Integer(_)) => match left - 1 {
                0 => Awaited::List {
                    left: question.slots,
                },
                left => Awaited::Before { left },
            },
            (Awaited::List { left: lists }, Token::Array(names)) => {
                question.names += names as u64;
                match names {
                    0 => question.after_list(lists),
                    left => Awaited::Name { left, lists },
                }
            }
            (Awaited::Name { left, lists }, Token::Bulk(bytes)) => {
                name(&bytes);
                match left - 1 {
                    0 => question.after_list(lists),
                    left => Awaited::Name { left, lists },
                }
            }
            (Awaited::After { left }, Token::Integer(_)) => match left - 1 {
                0 => return Ok(self.take()),
                left => Awaited::After { left },
            },
            (_, other) => return Err(other),
        };
        Ok(None)
    }

    fn take(&mut self) -> Option<Listed> {
        let question = self.question.take()?;
        let listed = Listed {
            first: self.next,
            slots: question.slots,
            names: question.names,
        };
        self.next += question.slots;
        Some(listed)
    }

    /// Asks for as many slots at once from now on as have about `batch_keys` keys, going by what was listed last.
    pub fn pace(&mut self, batch_keys: u32, listed: &Listed) {
        let keys_per_slot = listed.names as f64 / f64::from(listed.slots);
        let wanted = f64::from(batch_keys) / keys_per_slot.max(1.0 / f64::from(SLOTS));
        let twice = f64::from(self.at_once.saturating_mul(2).min(SLOTS_AT_ONCE_MAX));
        self.at_once = wanted.clamp(1.0, twice) as u16;
    }
}

impl Question {
    fn after_list(&self, lists: u16) -> Awaited {
        match lists - 1 {
            0 => Awaited::After { left: self.slots },
            left => Awaited::List { left },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUS_TWO: Token = Token::Integer(-2);

    fn walk(next: u16) -> SlotWalk {
        SlotWalk::new(next, Rc::new(Probes::find()))
    }

    fn ask(walk: &mut SlotWalk, last: Slot) -> String {
        let mut out = BytesMut::new();
        if walk.begin(last).is_some() {
            walk.encode(&mut out);
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    fn bulk(bytes: &'static [u8]) -> Token {
        Token::Bulk(Bytes::from_static(bytes))
    }

    fn feed(walk: &mut SlotWalk, tokens: Vec<Token>) -> (Option<Listed>, Vec<Bytes>) {
        let mut names = Vec::new();
        let mut listed = None;
        for token in tokens {
            assert_eq!(listed, None, "tokens behind the last one");
            let sink = |name: &Bytes| names.push(name.clone());
            listed = walk.token(token, sink).expect("a token that is due");
        }
        (listed, names)
    }

    #[test]
    fn a_list_counts_when_the_node_has_the_slot_before_and_after_it() {
        let mut walk = walk(0);
        let asked = ask(&mut walk, 5);
        assert_eq!(asked.matches("PTTL").count(), 2);
        assert_eq!(asked.matches("GETKEYSINSLOT").count(), 1);
        assert_eq!(ask(&mut walk, 5), "", "one question at a time");
        let list = vec![MINUS_TWO, Token::Array(2), bulk(b"a"), bulk(b"b")];
        let (none, names) = feed(&mut walk, list);
        assert_eq!((none, names.len()), (None, 2));
        let (listed, _) = feed(&mut walk, vec![MINUS_TWO]);
        let wanted = Listed {
            first: 0,
            slots: 1,
            names: 2,
        };
        assert_eq!(listed, Some(wanted));
        assert_eq!(walk.next_slot(), Some(1));
    }

    #[test]
    fn a_slot_that_moves_meanwhile_is_asked_for_again() {
        let ask_reply = || Token::Error(Bytes::from_static(b"ASK 7 10.0.0.1:2"));
        for before in [true, false] {
            let mut walk = walk(7);
            ask(&mut walk, 7);
            if !before {
                feed(&mut walk, vec![MINUS_TWO, Token::Array(1), bulk(b"a")]);
            }
            assert_eq!(walk.token(ask_reply(), |_| {}), Err(ask_reply()));
            walk.lost();
            assert_eq!(walk.next_slot(), Some(7));
            assert!(ask(&mut walk, 7).contains("GETKEYSINSLOT"));
        }
    }

    #[test]
    fn slots_with_few_keys_are_asked_for_together_but_never_beyond_the_node() {
        let mut walk = walk(100);
        let empty = Listed {
            first: 99,
            slots: 1,
            names: 0,
        };
        for _ in 0..10 {
            walk.pace(500, &empty);
        }
        assert_eq!(ask(&mut walk, 104).matches("GETKEYSINSLOT").count(), 5);
        let mut tokens = vec![MINUS_TWO; 5];
        tokens.extend([Token::Array(2), bulk(b"a"), bulk(b"b")]);
        tokens.extend(vec![Token::Array(0); 3]);
        tokens.extend([Token::Array(1), bulk(b"ab")]);
        tokens.extend(vec![MINUS_TWO; 5]);
        let (listed, names) = feed(&mut walk, tokens);
        let listed = listed.expect("whole");
        assert_eq!((listed.slots, listed.names, names.len()), (5, 3, 3));
        assert_eq!(walk.next_slot(), Some(105));
        walk.pace(
            500,
            &Listed {
                names: 5_000,
                ..listed
            },
        );
        assert_eq!(ask(&mut walk, 16_383).matches("GETKEYSINSLOT").count(), 1);
    }

    #[test]
    fn the_walk_is_over_behind_the_last_slot() {
        let mut walk = walk(16_383);
        assert!(ask(&mut walk, SLOTS - 1).contains("16383"));
        feed(&mut walk, vec![MINUS_TWO, Token::Array(0), MINUS_TWO]);
        assert!(walk.is_over());
        assert_eq!(ask(&mut walk, SLOTS - 1), "");
    }
}
