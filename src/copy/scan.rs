//! The walk of one database: which cursor comes next, and the reply that brings it.
//!
//! # Invariants
//!
//! - At most one SCAN is on its way; the next one carries the cursor that the last reply brought.
//! - A reply without keys does not end the walk; only the cursor 0 does.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::batch::Batch;
use super::lane::{Rules, Trouble};
use super::list::ListWalk;
use super::slots::SlotScan;
use crate::client::LinkError;
use crate::client::handshake::unix_ms;
use crate::key::Escaped;
use crate::plan::KeyType;
use crate::resp::{ErrorCode, Token, encode_scan};
use crate::state::record::Position;

/// The walk of whatever there is to be walked.
pub enum Walk {
    /// One server's database, by SCAN.
    Keyspace(Scan),
    /// A cluster, by its slots.
    Slots(Box<SlotScan>),
    /// A list of names, of which no server is asked.
    List(ListWalk),
}

impl Walk {
    /// A walk that goes on at `position`; its next batch gets number `seq`.
    pub fn new(rules: &Rules, position: Position, seq: u64) -> Self {
        if rules.from_list {
            return Self::List(ListWalk::new(position, seq));
        }
        match &rules.by_slot {
            None => Self::Keyspace(Scan::new(position, seq)),
            Some(probes) => {
                let glob = rules.match_glob.clone();
                Self::Slots(Box::new(SlotScan::new(
                    position,
                    seq,
                    Rc::clone(probes),
                    glob,
                )))
            }
        }
    }

    /// Appends the next question to `out`; false while an answer is awaited, and after the end.
    pub fn ask(
        &mut self,
        out: &mut BytesMut,
        rules: &Rules,
        in_doubt: impl Fn(u64) -> bool,
    ) -> bool {
        let scan = match self {
            Self::Keyspace(scan) => scan,
            Self::Slots(slots) => return slots.ask(out, in_doubt),
            Self::List(_) => return false,
        };
        let Some(cursor) = scan.begin() else {
            return false;
        };
        encode_scan(
            out,
            cursor,
            rules.batch_keys,
            rules.match_glob.as_deref(),
            rules.scan_type.map(KeyType::name),
        );
        true
    }

    /// Whether an answer is awaited.
    pub fn in_flight(&self) -> bool {
        match self {
            Self::Keyspace(scan) => scan.in_flight(),
            Self::Slots(slots) => slots.in_flight(),
            Self::List(_) => false,
        }
    }

    /// Whether the walk is at its end.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Keyspace(scan) => scan.is_over(),
            Self::Slots(slots) => slots.is_over(),
            Self::List(list) => list.is_over(),
        }
    }

    /// The connection is lost: what came of an answer is forgotten, and the same is asked again.
    pub fn lost(&mut self) {
        match self {
            Self::Keyspace(scan) => scan.lost(),
            Self::Slots(slots) => slots.lost(),
            Self::List(_) => {}
        }
    }

    /// Takes one token; returns the batch once the answer is whole.
    pub fn token(
        &mut self,
        token: Token,
        rules: &Rules,
        in_doubt: impl Fn(u64) -> bool,
    ) -> Result<Option<Batch>, Trouble> {
        let slots = match self {
            Self::Keyspace(scan) => return scan.token(token, in_doubt),
            Self::Slots(slots) => slots,
            Self::List(_) => {
                return Err(LinkError::Unexpected("nothing", format!("{token:?}")).into());
            }
        };
        slots.token(token, rules.batch_keys)
    }
}

/// See the module.
pub struct Scan {
    position: Position,
    /// Cursor of the SCAN that is on its way.
    asked: Option<u64>,
    reply: Progress,
    next_seq: u64,
}

/// How much of a SCAN reply has come: `*2`, the cursor, `*n`, n names.
enum Progress {
    Nothing,
    Opened,
    Cursor(u64),
    Names { left: usize, batch: Box<Batch> },
}

impl Scan {
    /// A walk that goes on at `position`; its next batch gets number `seq`.
    pub fn new(position: Position, seq: u64) -> Self {
        Self {
            position,
            asked: None,
            reply: Progress::Nothing,
            next_seq: seq,
        }
    }

    /// The cursor to be sent now; `None` while a reply is awaited and after the end.
    pub fn begin(&mut self) -> Option<u64> {
        if self.asked.is_some() {
            return None;
        }
        self.asked = match self.position {
            Position::Start => Some(0),
            Position::At(cursor) => Some(cursor.get()),
            Position::End => None,
        };
        self.asked
    }

    /// Whether a reply is awaited.
    pub fn in_flight(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether the server has returned 0.
    pub fn is_over(&self) -> bool {
        self.position == Position::End
    }

    /// The connection is lost: what came of a reply is forgotten, and the same cursor is sent again.
    pub fn lost(&mut self) {
        self.asked = None;
        self.reply = Progress::Nothing;
    }

    /// Takes one token; returns the batch once the reply is whole.
    pub fn token(
        &mut self,
        token: Token,
        in_doubt: impl Fn(u64) -> bool,
    ) -> Result<Option<Batch>, Trouble> {
        self.reply = match (std::mem::replace(&mut self.reply, Progress::Nothing), token) {
            (Progress::Nothing, Token::Array(2)) => Progress::Opened,
            (Progress::Nothing, Token::Error(line)) => {
                return Err(
                    LinkError::Reply(ErrorCode::of(&line), Escaped(&line).to_string()).into(),
                );
            }
            (Progress::Opened, Token::Bulk(digits)) => Progress::Cursor(cursor(&digits)?),
            (Progress::Cursor(cursor_out), Token::Array(keys)) => {
                let cursor_in = self.asked.expect("a reply comes to a SCAN that was sent");
                let seq = self.next_seq;
                let mut batch = Batch::new(seq, cursor_in, cursor_out, unix_ms(), in_doubt(seq));
                // A claimed length is not yet memory: the names themselves make room for the rest.
                batch.reserve(keys.min(4096));
                match keys {
                    0 => return Ok(Some(self.take(batch))),
                    left => Progress::Names {
                        left,
                        batch: Box::new(batch),
                    },
                }
            }
            (Progress::Names { left, mut batch }, Token::Bulk(name)) => {
                batch.push(&name);
                match left - 1 {
                    0 => return Ok(Some(self.take(*batch))),
                    left => Progress::Names { left, batch },
                }
            }
            (_, other) => return Err(LinkError::Unexpected("SCAN", format!("{other:?}")).into()),
        };
        Ok(None)
    }

    fn take(&mut self, batch: Batch) -> Batch {
        self.asked = None;
        self.next_seq += 1;
        self.position = match std::num::NonZeroU64::new(batch.cursor_out) {
            Some(cursor) => Position::At(cursor),
            None => Position::End,
        };
        batch
    }
}

/// The cursor as a number, all 64 bits of it: a cursor that is cut off skips keys without a word.
fn cursor(digits: &Bytes) -> Result<u64, LinkError> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| LinkError::Unexpected("SCAN", format!("the cursor \"{}\"", Escaped(digits))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(bytes: &'static [u8]) -> Token {
        Token::Bulk(Bytes::from_static(bytes))
    }

    fn feed(scan: &mut Scan, tokens: Vec<Token>) -> Option<Batch> {
        let mut whole = None;
        for token in tokens {
            assert!(whole.is_none(), "tokens after the whole reply");
            whole = scan.token(token, |_| false).expect("a well-formed reply");
        }
        whole
    }

    #[test]
    fn walks_from_0_to_0_with_one_scan_at_a_time() {
        let mut scan = Scan::new(Position::Start, 0);
        assert_eq!(scan.begin(), Some(0));
        assert_eq!(scan.begin(), None);
        let batch = feed(
            &mut scan,
            vec![
                Token::Array(2),
                bulk(b"18446744073709551615"),
                Token::Array(1),
                bulk(b"k"),
            ],
        )
        .expect("whole");
        assert_eq!(
            (batch.cursor_in, batch.cursor_out, batch.seq, batch.len()),
            (0, u64::MAX, 0, 1)
        );
        assert_eq!(scan.begin(), Some(u64::MAX));
        let batch = feed(
            &mut scan,
            vec![Token::Array(2), bulk(b"0"), Token::Array(0)],
        )
        .expect("whole");
        assert_eq!((batch.cursor_in, batch.seq, batch.len()), (u64::MAX, 1, 0));
        assert!(scan.is_over());
        assert_eq!(scan.begin(), None);
    }

    #[test]
    fn an_empty_reply_is_not_the_end() {
        let mut scan = Scan::new(Position::Start, 0);
        scan.begin();
        let batch = feed(
            &mut scan,
            vec![Token::Array(2), bulk(b"7"), Token::Array(0)],
        )
        .expect("whole");
        assert!(batch.is_empty());
        assert!(!scan.is_over());
    }

    #[test]
    fn a_lost_reply_is_asked_for_again_with_the_same_cursor() {
        let mut scan = Scan::new(Position::Start, 3);
        scan.begin();
        feed(
            &mut scan,
            vec![Token::Array(2), bulk(b"9"), Token::Array(2), bulk(b"a")],
        );
        scan.lost();
        assert_eq!(scan.begin(), Some(0));
        let batch = feed(
            &mut scan,
            vec![
                Token::Array(2),
                bulk(b"9"),
                Token::Array(2),
                bulk(b"a"),
                bulk(b"b"),
            ],
        )
        .expect("whole");
        assert_eq!((batch.seq, batch.len()), (3, 2));
    }
}
