//! The walk of a cluster: slot after slot, each listed by the node that has it.
//!
//! A cursor of SCAN means something to one process only, and a cluster has many that come, go, and pass slots to each
//! other. A slot means the same to all of them for ever. So the position in a cluster is the next slot, and a slot is
//! listed as a whole: by CLUSTER GETKEYSINSLOT, which every version has and which is one atomic step of the node.
//! Nothing has to be proven about it after a restart, a failover, or a resharding.
//!
//! SCAN would do as well where its cursor carries the slot (Redis 7.4, Valkey 8), and list a huge slot in pieces; but
//! then there would be two ways, and one of them with cursors that die.
//!
//! # Invariants
//!
//! - A list counts only if the node had the whole slot before and after it. The node itself says so, on the same
//!   connection: asked about a name that nobody uses, it answers MOVED if it has not the slot, and ASK if it is on its
//!   way to somebody else. So a slot is listed when it is at rest, and a key that is moved later was listed before.
//! - Slots are walked in ascending order, none is left out, and at most one question is on its way.

use std::rc::Rc;

use bytes::BytesMut;

use super::batch::Batch;
use super::lane::Trouble;
use crate::client::LinkError;
use crate::client::handshake::unix_ms;
use crate::cluster::{Probes, SLOTS, Slot};
use crate::glob;
use crate::key::Escaped;
use crate::resp::{ErrorCode, Token, encode_command};
use crate::state::record::Position;

/// Most slots in one question. Slots with few keys are asked for together, so that a batch has some keys.
const SLOTS_AT_ONCE_MAX: u16 = 128;
/// As many keys as there are: what is left out of a list can't be asked for.
const ALL_KEYS: &[u8] = b"2147483647";

/// See the module.
pub struct SlotScan {
    /// The next slot to be listed; [`SLOTS`] when all are.
    next: u16,
    /// The last of the slots from `next` on that the connected node has; `None`: none of them.
    served_to: Option<Slot>,
    at_once: u16,
    question: Option<Question>,
    next_seq: u64,
    probes: Rc<Probes>,
    match_glob: Option<Vec<u8>>,
}

/// What was asked, and how much of the answer has come.
struct Question {
    slots: u16,
    batch: Batch,
    listed: u64,
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

impl SlotScan {
    /// A walk that goes on at `position`; its next batch gets number `seq`.
    pub fn new(
        position: Position,
        seq: u64,
        probes: Rc<Probes>,
        match_glob: Option<Vec<u8>>,
    ) -> Self {
        let next = match position {
            Position::Start => 0,
            Position::At(slot) => u16::try_from(slot.get())
                .ok()
                .filter(|slot| *slot < SLOTS)
                .expect("a position is a slot, or the walk begins anew"),
            Position::End => SLOTS,
        };
        Self {
            next,
            served_to: None,
            at_once: 1,
            question: None,
            next_seq: seq,
            probes,
            match_glob,
        }
    }

    /// The next slot to be listed, if there is one.
    pub fn next_slot(&self) -> Option<Slot> {
        (self.next < SLOTS).then_some(self.next)
    }

    /// The connected node has all slots from the next one to this; or not even that.
    pub fn serve_to(&mut self, last: Option<Slot>) {
        self.served_to = last;
    }

    /// Whether another node has to be asked for the next slot.
    pub fn is_served_out(&self) -> bool {
        self.question.is_none()
            && self.next < SLOTS
            && self.served_to.is_none_or(|last| last < self.next)
    }

    /// Appends the question for the next slots, unless there is one on its way or none to be asked here.
    pub fn ask(&mut self, out: &mut BytesMut, in_doubt: impl Fn(u64) -> bool) -> bool {
        if self.question.is_some() || self.next >= SLOTS || self.is_served_out() {
            return false;
        }
        let last = self.served_to.unwrap_or(self.next).min(SLOTS - 1);
        let slots = self.at_once.min(last - self.next + 1);
        let asked = self.next..self.next + slots;
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
        let cursor_out = match asked.end {
            SLOTS => 0,
            next => u64::from(next),
        };
        let seq = self.next_seq;
        self.question = Some(Question {
            slots,
            batch: Batch::new(
                seq,
                u64::from(self.next),
                cursor_out,
                unix_ms(),
                in_doubt(seq),
            ),
            listed: 0,
            awaited: Awaited::Before { left: slots },
        });
        true
    }

    /// Whether an answer is awaited.
    pub fn in_flight(&self) -> bool {
        self.question.is_some()
    }

    /// Whether the last slot was listed.
    pub fn is_over(&self) -> bool {
        self.next >= SLOTS
    }

    /// The connection is lost: what came of an answer is forgotten, and the same slots are asked for again.
    pub fn lost(&mut self) {
        self.question = None;
    }

    /// Takes one token; returns the batch once all lists and all confirmations have come.
    pub fn token(&mut self, token: Token) -> Result<Option<Batch>, Trouble> {
        let Some(question) = &mut self.question else {
            return Err(unexpected(&token));
        };
        question.awaited = match (question.awaited, token) {
            (_, Token::Error(line)) => {
                let shown = Escaped(&line).to_string();
                return Err(LinkError::Reply(ErrorCode::of(&line), shown).into());
            }
            (Awaited::Before { left }, Token::Integer(_)) => match left - 1 {
                0 => Awaited::List {
                    left: question.slots,
                },
                left => Awaited::Before { left },
            },
            (Awaited::List { left: lists }, Token::Array(names)) => {
                question.listed += names as u64;
                // A claimed length is not yet memory: the names themselves make room for the rest.
                question.batch.reserve(names.min(4096));
                match names {
                    0 => question.after_list(lists),
                    left => Awaited::Name { left, lists },
                }
            }
            (Awaited::Name { left, lists }, Token::Bulk(name)) => {
                let glob = self.match_glob.as_deref();
                if glob.is_none_or(|glob| glob::matches(glob, &name)) {
                    question.batch.push(&name);
                }
                match left - 1 {
                    0 => question.after_list(lists),
                    left => Awaited::Name { left, lists },
                }
            }
            (Awaited::After { left }, Token::Integer(_)) => match left - 1 {
                0 => return Ok(self.take()),
                left => Awaited::After { left },
            },
            (_, other) => return Err(unexpected(&other)),
        };
        Ok(None)
    }

    fn take(&mut self) -> Option<Batch> {
        let question = self.question.take()?;
        self.next += question.slots;
        self.next_seq += 1;
        Some(question.batch)
    }

    /// Asks for as many slots at once from now on as have about so many keys, going by the last batch.
    pub fn pace(&mut self, batch_keys: u32, slots: u16, listed: u64) {
        let keys_per_slot = listed as f64 / f64::from(slots);
        let wanted = f64::from(batch_keys) / keys_per_slot.max(1.0 / f64::from(SLOTS));
        let twice = f64::from(self.at_once.saturating_mul(2).min(SLOTS_AT_ONCE_MAX));
        self.at_once = wanted.clamp(1.0, twice) as u16;
    }

    /// Slots and names of the question on its way.
    pub fn asked(&self) -> Option<(u16, u64)> {
        let question = self.question.as_ref()?;
        Some((question.slots, question.listed))
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

fn unexpected(token: &Token) -> Trouble {
    LinkError::Unexpected("CLUSTER GETKEYSINSLOT", format!("{token:?}")).into()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use bytes::Bytes;

    use super::*;

    fn walk(position: Position, glob: Option<&str>) -> SlotScan {
        let glob = glob.map(|glob| glob.as_bytes().to_vec());
        SlotScan::new(position, 0, Rc::new(Probes::find()), glob)
    }

    fn ask(walk: &mut SlotScan) -> String {
        let mut out = BytesMut::new();
        walk.ask(&mut out, |_| false);
        String::from_utf8_lossy(&out).into_owned()
    }

    fn bulk(bytes: &'static [u8]) -> Token {
        Token::Bulk(Bytes::from_static(bytes))
    }

    fn at(slot: u64) -> Position {
        NonZeroU64::new(slot).map_or(Position::Start, Position::At)
    }

    #[test]
    fn a_list_counts_when_the_node_has_the_slot_before_and_after_it() {
        let mut walk = walk(Position::Start, None);
        assert!(walk.is_served_out());
        walk.serve_to(Some(5));
        let asked = ask(&mut walk);
        assert_eq!(asked.matches("PTTL").count(), 2);
        assert_eq!(asked.matches("GETKEYSINSLOT").count(), 1);
        assert_eq!(ask(&mut walk), "", "one question at a time");
        for token in [Token::Integer(-2), Token::Array(2), bulk(b"a"), bulk(b"b")] {
            assert!(walk.token(token).expect("well-formed").is_none());
        }
        let batch = walk.token(Token::Integer(-2)).expect("well-formed");
        let batch = batch.expect("whole");
        assert_eq!((batch.cursor_in, batch.cursor_out, batch.len()), (0, 1, 2));
        assert_eq!(walk.next_slot(), Some(1));
    }

    #[test]
    fn a_slot_that_moves_meanwhile_is_asked_for_again() {
        let ask_reply = || Token::Error(Bytes::from_static(b"ASK 7 10.0.0.1:2"));
        for before in [true, false] {
            let mut walk = walk(at(7), None);
            walk.serve_to(Some(7));
            ask(&mut walk);
            if !before {
                for token in [Token::Integer(-2), Token::Array(1), bulk(b"a")] {
                    assert!(walk.token(token).expect("well-formed").is_none());
                }
            }
            assert!(walk.token(ask_reply()).is_err());
            walk.lost();
            assert_eq!(walk.next_slot(), Some(7));
            assert!(ask(&mut walk).contains("GETKEYSINSLOT"));
        }
    }

    #[test]
    fn the_walk_stops_where_the_node_ends_and_is_over_behind_the_last_slot() {
        let mut walk = walk(at(16_382), None);
        walk.serve_to(Some(16_382));
        let mut batches = Vec::new();
        while !walk.is_over() {
            if walk.is_served_out() {
                assert_eq!(walk.next_slot(), Some(16_383));
                walk.serve_to(Some(16_383));
            }
            ask(&mut walk);
            for token in [Token::Integer(-2), Token::Array(0)] {
                assert!(walk.token(token).expect("well-formed").is_none());
            }
            batches.extend(walk.token(Token::Integer(-2)).expect("well-formed"));
        }
        let cursors: Vec<_> = batches
            .iter()
            .map(|batch| (batch.cursor_in, batch.cursor_out, batch.seq))
            .collect();
        assert_eq!(cursors, [(16_382, 16_383, 0), (16_383, 0, 1)]);
        assert!(!walk.is_served_out());
    }

    #[test]
    fn slots_with_few_keys_are_asked_for_together_but_never_beyond_the_node() {
        let mut walk = walk(at(100), Some("a*"));
        walk.serve_to(Some(104));
        for _ in 0..10 {
            walk.pace(500, 1, 0);
        }
        assert_eq!(ask(&mut walk).matches("GETKEYSINSLOT").count(), 5);
        let mut tokens = vec![Token::Integer(-2); 5];
        tokens.extend([Token::Array(2), bulk(b"a"), bulk(b"b")]);
        tokens.extend(vec![Token::Array(0); 3]);
        tokens.extend([Token::Array(1), bulk(b"ab")]);
        tokens.extend(vec![Token::Integer(-2); 4]);
        for token in tokens {
            assert!(walk.token(token).expect("well-formed").is_none());
        }
        assert_eq!(walk.asked(), Some((5, 3)));
        let batch = walk.token(Token::Integer(-2)).expect("well-formed");
        let batch = batch.expect("whole");
        assert_eq!((batch.cursor_out, batch.len()), (105, 2));
        walk.pace(500, 1, 5_000);
        walk.serve_to(Some(16_383));
        assert_eq!(ask(&mut walk).matches("GETKEYSINSLOT").count(), 1);
    }
}
