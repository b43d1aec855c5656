//! The walk of a cluster as batches: which slots the connected node has, and the keys that it lists.
//!
//! # Invariant
//!
//! A batch has all keys of its slots that the plan asks for by name, and its cursors are slots.

use std::rc::Rc;

use bytes::BytesMut;

use super::batch::Batch;
use super::lane::Trouble;
use crate::client::LinkError;
use crate::client::handshake::unix_ms;
use crate::cluster::{Probes, SLOTS, Slot, SlotWalk};
use crate::glob;
use crate::key::Escaped;
use crate::resp::{ErrorCode, Token};
use crate::state::record::Position;

/// See the module.
pub struct SlotScan {
    walk: SlotWalk,
    /// The last of the slots from the next one on that the connected node has; `None`: none of them.
    served_to: Option<Slot>,
    /// What has come of the answer to the question that is on its way.
    batch: Option<Batch>,
    next_seq: u64,
    match_glob: Option<Vec<u8>>,
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
            walk: SlotWalk::new(next, probes),
            served_to: None,
            batch: None,
            next_seq: seq,
            match_glob,
        }
    }

    /// The next slot to be listed, if there is one.
    pub fn next_slot(&self) -> Option<Slot> {
        self.walk.next_slot()
    }

    /// The connected node has all slots from the next one to this; or not even that.
    pub fn serve_to(&mut self, last: Option<Slot>) {
        self.served_to = last;
    }

    /// Whether another node has to be asked for the next slot.
    pub fn is_served_out(&self) -> bool {
        !self.walk.in_flight()
            && self
                .next_slot()
                .is_some_and(|next| self.served_to.is_none_or(|last| last < next))
    }

    /// Appends the question for the next slots, unless there is one on its way or none to be asked here.
    pub fn ask(&mut self, out: &mut BytesMut, in_doubt: impl Fn(u64) -> bool) -> bool {
        let Some((first, behind)) = self.served_to.and_then(|last| self.walk.begin(last)) else {
            return false;
        };
        self.walk.encode(out);
        let cursor_out = match behind {
            SLOTS => 0,
            next => u64::from(next),
        };
        let seq = self.next_seq;
        let batch = Batch::new(seq, u64::from(first), cursor_out, unix_ms(), in_doubt(seq));
        self.batch = Some(batch);
        true
    }

    /// Whether an answer is awaited.
    pub fn in_flight(&self) -> bool {
        self.walk.in_flight()
    }

    /// Whether the last slot was listed.
    pub fn is_over(&self) -> bool {
        self.walk.is_over()
    }

    /// The connection is lost: what came of an answer is forgotten, and the same slots are asked for again.
    pub fn lost(&mut self) {
        self.walk.lost();
        self.batch = None;
    }

    /// Takes one token; returns the batch, which should have about `batch_keys` keys, once its slots are listed.
    pub fn token(&mut self, token: Token, batch_keys: u32) -> Result<Option<Batch>, Trouble> {
        let glob = self.match_glob.as_deref();
        let mut batch = self.batch.as_mut();
        let taken = self.walk.token(token, |name| {
            if let Some(batch) = &mut batch
                && glob.is_none_or(|glob| glob::matches(glob, name))
            {
                batch.push(name);
            }
        });
        match taken {
            Ok(None) => Ok(None),
            Ok(Some(listed)) => {
                self.walk.pace(batch_keys, &listed);
                self.next_seq += 1;
                Ok(self.batch.take())
            }
            Err(Token::Error(line)) => {
                let shown = Escaped(&line).to_string();
                Err(LinkError::Reply(ErrorCode::of(&line), shown).into())
            }
            Err(other) => {
                Err(LinkError::Unexpected("CLUSTER GETKEYSINSLOT", format!("{other:?}")).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use bytes::Bytes;

    use super::*;

    fn walk(slot: u64, glob: Option<&str>) -> SlotScan {
        let position = NonZeroU64::new(slot).map_or(Position::Start, Position::At);
        let glob = glob.map(|glob| glob.as_bytes().to_vec());
        SlotScan::new(position, 0, Rc::new(Probes::find()), glob)
    }

    fn answer(walk: &mut SlotScan, names: &[&'static [u8]]) -> Batch {
        let mut tokens = vec![Token::Integer(-2), Token::Array(names.len())];
        tokens.extend(
            names
                .iter()
                .map(|name| Token::Bulk(Bytes::from_static(name))),
        );
        for token in tokens {
            assert!(walk.token(token, 100).expect("well-formed").is_none());
        }
        let batch = walk.token(Token::Integer(-2), 1).expect("well-formed");
        batch.expect("whole")
    }

    #[test]
    fn the_walk_stops_where_the_node_ends_and_is_over_behind_the_last_slot() {
        let mut walk = walk(16_382, None);
        walk.serve_to(Some(16_382));
        let mut cursors = Vec::new();
        while !walk.is_over() {
            if walk.is_served_out() {
                assert_eq!(walk.next_slot(), Some(16_383));
                walk.serve_to(Some(16_383));
            }
            let mut out = BytesMut::new();
            assert!(walk.ask(&mut out, |_| false));
            let batch = answer(&mut walk, &[]);
            cursors.push((batch.cursor_in, batch.cursor_out, batch.seq));
        }
        assert_eq!(cursors, [(16_382, 16_383, 0), (16_383, 0, 1)]);
        assert!(!walk.is_served_out());
    }

    #[test]
    fn names_are_filtered_and_what_a_lost_connection_had_brought_is_forgotten() {
        let mut walk = walk(7, Some("a*"));
        walk.serve_to(Some(7));
        let mut out = BytesMut::new();
        assert!(walk.ask(&mut out, |_| false));
        let begun = [Token::Integer(-2), Token::Array(2)];
        for token in begun.into_iter().chain([Token::Bulk("ab".into())]) {
            assert!(walk.token(token, 100).expect("well-formed").is_none());
        }
        let moved = Token::Error(Bytes::from_static(b"MOVED 7 10.0.0.1:2"));
        assert!(walk.token(moved, 100).is_err());
        walk.lost();
        assert!(walk.ask(&mut out, |_| false));
        assert_eq!(answer(&mut walk, &[b"ab", b"b", b"a"]).len(), 2);
    }
}
