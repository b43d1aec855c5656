//! Many strings and the proof that none of them has an expiry, in one transaction: `MULTI`, `MGET`, `INFO keyspace`,
//! `EXEC`.
//!
//! A number of the whole database stands for the answers of all its keys: if no key has an expiry, none of these has.
//! That holds for the moment of the number. Were it asked for behind the MGET without a transaction, a key might be given
//! an expiry, be read, and be gone again before the number is told, which is 0 then: such a key would arrive for ever,
//! while asked for its own expiry it would answer that it is not there. In a transaction nothing comes between.
//!
//! # Invariants
//!
//! - A value becomes ready without an expiry only if `expires=0` was said in the same transaction. All others are read
//!   again, each with its own expiry behind it.
//! - A transaction that was not executed costs no key: they are read whole.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::keyspace::Said;
use super::source::{side_error, unexpected};
use super::{Asked, Lane, PartialRead, Trouble, strings};
use crate::copy::batch::KeyRef;
use crate::plan::TtlPolicy;
use crate::resp::{ErrorCode, Token, encode_command};

/// What is due next of an answer to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Due {
    /// MULTI's.
    #[default]
    Begun,
    /// That MGET, or DBSIZE, is to be executed.
    FirstQueued,
    /// That INFO is.
    InfoQueued,
    /// EXEC's, of which the others are elements.
    Executed,
    /// MGET's, or DBSIZE's.
    First,
    /// INFO's.
    Info,
    /// So many answers of commands that were executed by themselves, since MULTI was refused.
    Alone(u8),
}

impl Lane {
    /// Asks whether any key has an expiry, if that is not known.
    pub(super) fn ask_look(&mut self, out: &mut BytesMut) {
        let matters = self.rules.ttl == TtlPolicy::Keep && self.strings.in_use();
        if !matters || !self.expiries.begin_look() {
            return;
        }
        encode_command(out, &[b"MULTI"]);
        // Of the same moment, so that it tells whether INFO speaks of these keys.
        encode_command(out, &[b"DBSIZE"]);
        encode_command(out, &[b"INFO", b"keyspace"]);
        encode_command(out, &[b"EXEC"]);
        self.asked.push_back(Asked::Look);
    }

    /// Appends what goes around the MGET that `encode` appends.
    pub(super) fn encode_together(out: &mut BytesMut, encode: impl FnOnce(&mut BytesMut)) {
        encode_command(out, &[b"MULTI"]);
        encode(out);
        encode_command(out, &[b"INFO", b"keyspace"]);
        encode_command(out, &[b"EXEC"]);
    }

    /// Takes a token of the answer to a look.
    pub(super) fn look_token(&mut self, token: Token) -> Result<(), Trouble> {
        match (self.partial.due, token) {
            (
                Due::Alone(left),
                Token::Integer(_) | Token::Bulk(_) | Token::Simple(_) | Token::Error(_),
            ) => {
                match left - 1 {
                    0 => self.transaction_over(),
                    left => self.partial.due = Due::Alone(left),
                }
                Ok(())
            }
            (due, Token::Error(line)) => self.transaction_refused(due, line, false),
            (Due::First, Token::Integer(keys)) => {
                self.partial.dbsize = u64::try_from(keys).ok();
                self.partial.due = Due::Info;
                Ok(())
            }
            (Due::Info, Token::Bulk(info)) => {
                let said = Said::of(&info, self.rules.dbs.source_db);
                match self.partial.dbsize {
                    Some(dbsize) => self.expiries.looked(said, dbsize),
                    None => self.expiries.refuse(),
                }
                self.transaction_over();
                Ok(())
            }
            (due, token) => self.transaction_goes_on(due, token),
        }
    }

    /// Takes a token of the answer to an MGET with its proof.
    pub(super) fn together_token(&mut self, token: Token, now: Instant) -> Result<(), Trouble> {
        match (self.partial.due, token) {
            (Due::First, token) if self.partial.in_array => {
                let Some(Asked::Together(keys)) = self.asked.front_mut() else {
                    return Err(unexpected("EXEC", &token));
                };
                let key = keys.pop_front();
                let key = key.expect("the array has as many elements as keys were asked for");
                if keys.is_empty() {
                    (self.partial.in_array, self.partial.due) = (false, Due::Info);
                }
                self.string_token(key, token, now)
            }
            (due, Token::Error(line)) => self.transaction_refused(due, line, true),
            (Due::First, Token::Array(elements)) if elements == self.keys_together() => {
                self.partial.in_array = true;
                Ok(())
            }
            (Due::Info, Token::Bulk(info)) => {
                let said = Said::of(&info, self.rules.dbs.source_db);
                self.transaction_over();
                self.counted(said, now);
                Ok(())
            }
            (due, token) => self.transaction_goes_on(due, token),
        }
    }

    fn keys_together(&self) -> usize {
        match self.asked.front() {
            Some(Asked::Together(keys)) => keys.len(),
            _ => 0,
        }
    }

    /// The answers that every transaction has.
    fn transaction_goes_on(&mut self, due: Due, token: Token) -> Result<(), Trouble> {
        let queued = |said: &Bytes| said.eq_ignore_ascii_case(b"QUEUED");
        self.partial.due = match (due, token) {
            (Due::Begun, Token::Simple(_)) => Due::FirstQueued,
            (Due::FirstQueued, Token::Simple(said)) if queued(&said) => Due::InfoQueued,
            (Due::InfoQueued, Token::Simple(said)) if queued(&said) => Due::Executed,
            (Due::Executed, Token::Array(2)) => Due::First,
            // A server, or a proxy, that does not do transactions as it should. Where its answers end is not known.
            (_, other) => {
                self.expiries.refuse();
                return Err(unexpected("MULTI, INFO or EXEC", &other));
            }
        };
        Ok(())
    }

    /// An error in the place of what is due. Before EXEC's answer it says why the transaction will not be executed.
    fn transaction_refused(&mut self, due: Due, line: Bytes, of_keys: bool) -> Result<(), Trouble> {
        let code = ErrorCode::of(&line);
        let aborted = due == Due::Executed && self.partial.refused.is_some();
        if !aborted && !strings::refuses(code) {
            return Err(side_error(&line));
        }
        // A slot on its way says nothing about transactions.
        let of_slot = of_keys && self.is_about_a_slot(code);
        if !(aborted || of_slot) {
            self.expiries.refuse();
        }
        match due {
            Due::Begun if of_keys => {
                // It was served when the look was taken. What follows is another answer than this one.
                return Err(unexpected("MULTI", &Token::Error(line)));
            }
            // DBSIZE, INFO and EXEC answer for themselves.
            Due::Begun => self.partial.due = Due::Alone(3),
            Due::FirstQueued => {
                (self.partial.due, self.partial.refused) = (Due::InfoQueued, Some(line));
            }
            Due::InfoQueued => {
                (self.partial.due, self.partial.refused) = (Due::Executed, Some(line));
            }
            // INFO's element follows; it is of no use alone.
            Due::First => {
                self.partial.due = Due::Info;
                self.keys_not_read();
            }
            Due::Executed | Due::Info | Due::Alone(_) => {
                self.keys_not_read();
                self.transaction_over();
            }
        }
        Ok(())
    }

    /// Whether an error is about where a slot's keys are at present, and the source is a cluster.
    pub(super) fn is_about_a_slot(&self, code: ErrorCode) -> bool {
        self.rules.by_slot.is_some()
            && matches!(
                code,
                ErrorCode::Moved | ErrorCode::Ask | ErrorCode::TryAgain
            )
    }

    /// The keys of the transaction whose answer is being read get no values from it, or values without a proof.
    fn keys_not_read(&mut self) {
        if let Some(Asked::Together(keys)) = self.asked.front_mut() {
            let keys = std::mem::take(keys);
            self.asked_keys -= keys.len();
            self.whole.extend(keys);
        }
        self.valued_read_again();
    }

    /// The answer has come to its end.
    fn transaction_over(&mut self) {
        self.asked.pop_front();
        self.partial = PartialRead::default();
    }

    /// The values have come, and how many keys have an expiry.
    fn counted(&mut self, said: Said, now: Instant) {
        match said {
            Said::Keys { keys, expires: 0 } if keys > 0 => {
                for valued in std::mem::take(&mut self.valued).into_iter().flatten() {
                    self.valued_bytes -= valued.payload.size() as u64;
                    self.key_read(valued.key, valued.payload, -1, valued.read_at, now);
                }
            }
            // None of them was there any more.
            Said::Keys { keys: 0, .. } if self.valued.iter().all(Option::is_none) => {
                self.valued.clear();
            }
            Said::Keys { expires, .. } => {
                match expires {
                    // Values out of an empty database.
                    0 => self.expiries.refuse(),
                    _ => self.expiries.found(),
                }
                self.valued_read_again();
            }
            Said::Odd => {
                self.expiries.refuse();
                self.valued_read_again();
            }
        }
    }

    /// Values that can't be kept: whatever their keys are by now, they are read whole.
    pub(super) fn valued_read_again(&mut self) {
        let valued = std::mem::take(&mut self.valued);
        self.valued_bytes = 0;
        let keys = valued.into_iter().flatten().map(|valued| valued.key);
        let mut keys: VecDeque<KeyRef> = keys.collect();
        // In front, in their order: they were asked for before all others that wait.
        while let Some(key) = keys.pop_back() {
            self.whole.push_front(key);
        }
    }
}
