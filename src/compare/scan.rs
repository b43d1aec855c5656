//! The walk of one side: which cursor comes next, and the names that a reply brings.
//!
//! # Invariants
//!
//! - At most one SCAN is on its way; the next one carries the cursor that the last reply brought.
//! - A reply without keys does not end the walk; only the cursor 0 does.

use bytes::Bytes;

use super::names::Names;
use crate::client::LinkError;
use crate::key::Escaped;
use crate::resp::Token;
use crate::state::record::Position;

/// See the module.
pub struct Scan {
    position: Position,
    asked: bool,
    reply: Reply,
}

/// How much of a reply has come: `*2`, the cursor, `*n`, n names.
enum Reply {
    Nothing,
    Opened,
    Cursor(u64),
    Names {
        left: usize,
        cursor: u64,
        names: Names,
    },
}

/// A whole reply.
pub struct Scanned {
    /// Cursor that was sent.
    pub cursor_in: u64,
    /// Cursor that came back.
    pub cursor_out: u64,
    /// What it brought.
    pub names: Names,
}

impl Scan {
    /// A walk that goes on at `position`.
    pub fn new(position: Position) -> Self {
        Self {
            position,
            asked: false,
            reply: Reply::Nothing,
        }
    }

    /// The cursor to be sent; `None` at the end.
    pub fn cursor(&self) -> Option<u64> {
        self.position.cursor()
    }

    /// Whether a SCAN may be sent now; it counts as sent then.
    pub fn begin(&mut self) -> bool {
        let may = !self.asked && self.cursor().is_some();
        self.asked |= may;
        may
    }

    /// Whether a reply is awaited.
    pub fn in_flight(&self) -> bool {
        self.asked
    }

    /// Whether the server has returned 0.
    pub fn is_over(&self) -> bool {
        self.position == Position::End
    }

    /// The connection is lost: what came of a reply is forgotten. It is still to be answered, by the next connection.
    pub fn lost(&mut self) {
        self.reply = Reply::Nothing;
    }

    /// Takes one token of the reply; returns it once it is whole.
    ///
    /// # Errors
    ///
    /// What has the form of no SCAN reply. Error replies are the caller's.
    pub fn token(&mut self, token: Token) -> Result<Option<Scanned>, LinkError> {
        self.reply = match (std::mem::replace(&mut self.reply, Reply::Nothing), token) {
            (Reply::Nothing, Token::Array(2)) => Reply::Opened,
            (Reply::Opened, Token::Bulk(digits)) => Reply::Cursor(number(&digits)?),
            (Reply::Cursor(cursor), Token::Array(0)) => {
                return Ok(Some(self.take(cursor, Names::default())));
            }
            (Reply::Cursor(cursor), Token::Array(left)) => Reply::Names {
                left,
                cursor,
                names: Names::default(),
            },
            (
                Reply::Names {
                    left,
                    cursor,
                    mut names,
                },
                Token::Bulk(name),
            ) => {
                names.push(&name);
                match left - 1 {
                    0 => return Ok(Some(self.take(cursor, names))),
                    left => Reply::Names {
                        left,
                        cursor,
                        names,
                    },
                }
            }
            (_, other) => return Err(LinkError::Unexpected("SCAN", format!("{other:?}"))),
        };
        Ok(None)
    }

    fn take(&mut self, cursor_out: u64, names: Names) -> Scanned {
        let cursor_in = self
            .cursor()
            .expect("a reply comes to a SCAN that was sent");
        self.asked = false;
        self.position = Position::after(cursor_out);
        Scanned {
            cursor_in,
            cursor_out,
            names,
        }
    }
}

/// All 64 bits of a cursor: one that is cut off skips keys without a word.
fn number(digits: &Bytes) -> Result<u64, LinkError> {
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

    fn feed(scan: &mut Scan, tokens: Vec<Token>) -> Option<Scanned> {
        let mut whole = None;
        for token in tokens {
            assert!(whole.is_none(), "tokens after the whole reply");
            whole = scan.token(token).expect("a well-formed reply");
        }
        whole
    }

    #[test]
    fn walks_from_0_to_0_with_one_scan_at_a_time() {
        let mut scan = Scan::new(Position::Start);
        assert!(scan.begin());
        assert!(!scan.begin());
        // Lost in the middle of a name list, and asked again.
        feed(
            &mut scan,
            vec![Token::Array(2), bulk(b"9"), Token::Array(2), bulk(b"a")],
        );
        scan.lost();
        assert!(scan.in_flight());
        let tokens = vec![
            Token::Array(2),
            bulk(b"18446744073709551615"),
            Token::Array(1),
            bulk(b"k"),
        ];
        let scanned = feed(&mut scan, tokens).expect("whole");
        assert_eq!((scanned.cursor_in, scanned.cursor_out), (0, u64::MAX));
        assert_eq!(scanned.names.len(), 1);
        assert!(!scan.is_over());
        assert!(scan.begin());
        let tokens = vec![Token::Array(2), bulk(b"0"), Token::Array(0)];
        let scanned = feed(&mut scan, tokens).expect("whole");
        assert_eq!(scanned.cursor_in, u64::MAX);
        assert!(scan.is_over());
        assert!(!scan.begin());
    }
}
