//! One side's pipeline: what it was asked, what it still owes, which of its answers wait for the other side's.
//!
//! # Invariant
//!
//! Answers come in the order of the questions. An answer that was taken on a connection that was lost in the middle of a
//! reply is passed over when the whole question is answered on the next one.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;

use super::{Lane, Question, Rules, TARGET};
use crate::client::LinkError;
use crate::compare::batch::KeyRef;
use crate::compare::expiry::{Answer, NEVER};
use crate::compare::judge::Value;
use crate::compare::scan::Scan;
use crate::key::Escaped;
use crate::plan::KeyType;
use crate::resp::{
    ErrorCode, ExpiryQuery, Retry, Token, encode_command, encode_dump, encode_expiry, encode_scan,
};
use crate::state::record::CompareStage;

/// What ends the use of a connection, or of a cursor.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// The connection, or the server behind it, is of no use for now.
    Link(LinkError),
    /// The side that is walked does not know the cursor.
    CursorRefused(String),
}

/// An answer that waits for the other side's.
#[derive(Debug)]
pub(super) enum Got {
    Value(Value),
    Expiry(Answer),
}

/// What a side was asked.
#[derive(Debug, Clone, Copy)]
enum Line {
    Scan,
    Exists { first: KeyRef, count: u32 },
    Both(Question, usize),
}

/// See the module.
#[derive(Default)]
pub(super) struct Side {
    /// In the order of the answers; the first `sent` of them were sent on the present connection.
    lines: VecDeque<Line>,
    sent: usize,
    /// The front MGET's array has begun on this connection.
    opened: bool,
    /// Answers of the front line that have come on this connection.
    come: u32,
    /// Answers of the front line that were taken, on this connection or an earlier one.
    taken: u32,
    answers: VecDeque<Got>,
    held_bytes: u64,
    outstanding_keys: usize,
}

impl Side {
    pub(super) fn owes(&self) -> bool {
        self.sent > 0
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    pub(super) fn outstanding_keys(&self) -> usize {
        self.outstanding_keys
    }

    pub(super) fn has_answer(&self) -> bool {
        !self.answers.is_empty()
    }

    /// The oldest answer that waits.
    pub(super) fn take_answer(&mut self) -> Got {
        let got = self
            .answers
            .pop_front()
            .expect("asked for one that is there");
        if let Got::Value(value) = &got {
            self.held_bytes -= value.len() as u64;
        }
        got
    }

    pub(super) fn ask_scan(&mut self) {
        self.lines.push_back(Line::Scan);
    }

    pub(super) fn ask_exists(&mut self, first: KeyRef, count: u32) {
        self.outstanding_keys += count as usize;
        self.lines.push_back(Line::Exists { first, count });
    }

    pub(super) fn ask(&mut self, question: Question, keys: usize) {
        self.outstanding_keys += keys;
        self.lines.push_back(Line::Both(question, keys));
    }

    pub(super) fn lost(&mut self) {
        self.sent = 0;
        self.opened = false;
        self.come = 0;
    }

    /// Appends what was not sent yet on this connection.
    pub(super) fn encode<'a>(
        &mut self,
        side: usize,
        rules: &Rules,
        scan: Option<&Scan>,
        name: impl Fn(KeyRef) -> &'a [u8],
        out: &mut BytesMut,
    ) {
        let run = |first: KeyRef, count: u32| {
            (first.index..first.index + count).map(move |index| KeyRef { index, ..first })
        };
        for line in self.lines.range(self.sent..) {
            match *line {
                Line::Scan => {
                    let cursor = scan.and_then(Scan::cursor);
                    encode_scan(
                        out,
                        cursor.expect("only a walk that is not over asks"),
                        rules.batch_keys,
                        rules.match_glob.as_deref(),
                        rules.scan_types[side].map(KeyType::name),
                    );
                }
                Line::Exists { first, count } => {
                    let mut args: Vec<&[u8]> = vec![b"EXISTS"];
                    args.extend(run(first, count).map(&name));
                    encode_command(out, &args);
                }
                Line::Both(Question::Strings { first, count }, _) => {
                    let mut args: Vec<&[u8]> = vec![b"MGET"];
                    args.extend(run(first, count).map(&name));
                    encode_command(out, &args);
                }
                Line::Both(Question::Dump(key), _) => encode_dump(out, name(key)),
                Line::Both(Question::Expiry { key, .. }, _) => {
                    let instant = rules
                        .expiries
                        .as_ref()
                        .is_some_and(|expiries| expiries.asks_instant(side));
                    let query = match instant {
                        true => ExpiryQuery::PExpireTime,
                        false => ExpiryQuery::PTtl,
                    };
                    encode_expiry(out, query, name(key));
                }
            }
        }
        self.sent = self.lines.len();
    }

    fn push(&mut self, value: Value) {
        self.held_bytes += value.len() as u64;
        self.answers.push_back(Got::Value(value));
    }

    /// The front line is answered.
    fn done(&mut self) {
        match self.lines.pop_front() {
            Some(Line::Both(_, keys)) => self.outstanding_keys -= keys,
            Some(Line::Exists { count, .. }) => self.outstanding_keys -= count as usize,
            Some(Line::Scan) | None => {}
        }
        self.sent -= 1;
        self.opened = false;
        self.come = 0;
        self.taken = 0;
    }

    /// Takes a token of an MGET for `count` keys; false if the server refuses the command.
    fn string(&mut self, token: Token, count: u32) -> Result<bool, Trouble> {
        let value = match token {
            Token::Array(length) if !self.opened && length == count as usize => {
                self.opened = true;
                return Ok(true);
            }
            Token::Bulk(bytes) if self.opened => Value::String(bytes),
            Token::Null if self.opened => Value::Missing,
            Token::Error(line) if !self.opened => {
                let code = ErrorCode::of(&line);
                let refused = matches!(
                    code,
                    ErrorCode::NoPerm | ErrorCode::NoPermKey | ErrorCode::UnknownCommand
                ) || matches!(code.retry(), Retry::Key | Retry::Unknown);
                if !refused {
                    return Err(side_error(&line));
                }
                // DUMP has to tell.
                for _ in self.taken..count {
                    self.push(Value::Missing);
                }
                self.done();
                return Ok(false);
            }
            other => return Err(unexpected("MGET", &other)),
        };
        if self.come == self.taken {
            self.push(value);
            self.taken += 1;
        }
        self.come += 1;
        if self.come == count {
            self.done();
        }
        Ok(true)
    }

    fn dump(&mut self, token: Token) -> Result<(), Trouble> {
        let value = match token {
            Token::Bulk(payload) => Value::Payload(payload),
            Token::Null => Value::Missing,
            Token::Error(line) if concerns_key(&line) => Value::Refused,
            Token::Error(line) => return Err(side_error(&line)),
            other => return Err(unexpected("DUMP", &other)),
        };
        self.push(value);
        self.done();
        Ok(())
    }

    fn expiry(&mut self, token: Token, now: Instant) -> Result<(), Trouble> {
        let ms = match token {
            Token::Integer(ms) => ms,
            Token::Error(line) if concerns_key(&line) => NEVER,
            Token::Error(line) => return Err(side_error(&line)),
            other => return Err(unexpected("PTTL", &other)),
        };
        self.answers.push_back(Got::Expiry(Answer { ms, at: now }));
        self.done();
        Ok(())
    }
}

impl Lane {
    /// Takes the next token of a side's answers, read from the socket at `now`.
    pub fn token(&mut self, side: usize, token: Token, now: Instant) -> Result<(), Trouble> {
        let Some(line) = self.sides[side].lines.front().copied() else {
            return Err(unexpected("nothing", &token));
        };
        match line {
            Line::Scan => return self.scan_token(side, token),
            Line::Exists { first, count } => return self.exists_token(side, first, count, token),
            Line::Both(Question::Strings { count, .. }, _) => {
                if !self.sides[side].string(token, count)? {
                    self.window.strings_refused();
                }
            }
            Line::Both(Question::Dump(_), _) => self.sides[side].dump(token)?,
            Line::Both(Question::Expiry { .. }, _) => self.sides[side].expiry(token, now)?,
        }
        self.answers[side] += 1;
        self.match_answers(now);
        Ok(())
    }

    fn scan_token(&mut self, side: usize, token: Token) -> Result<(), Trouble> {
        let scan = self.scans[side].as_mut().expect("a walk asked for it");
        if let Token::Error(line) = &token {
            return Err(match ErrorCode::of(line) {
                ErrorCode::InvalidCursor => Trouble::CursorRefused(Escaped(line).to_string()),
                _ => side_error(line),
            });
        }
        if let Some(scanned) = scan.token(token)? {
            self.sides[side].done();
            self.answers[side] += 1;
            match (self.stage, side) {
                (CompareStage::Source, TARGET) => self.listed(&scanned),
                _ => self.scanned(scanned),
            }
        }
        Ok(())
    }

    fn exists_token(
        &mut self,
        side: usize,
        first: KeyRef,
        count: u32,
        token: Token,
    ) -> Result<(), Trouble> {
        let found = match token {
            Token::Integer(found) => found,
            Token::Error(line) if concerns_key(&line) => i64::from(count),
            Token::Error(line) => return Err(side_error(&line)),
            other => return Err(unexpected("EXISTS", &other)),
        };
        self.sides[side].done();
        self.answers[side] += 1;
        if found == i64::from(count) {
            self.existence(first, count, true);
        } else if count == 1 || found == 0 {
            self.existence(first, count, false);
        } else {
            // Which ones, has to be asked one by one.
            for index in first.index..first.index + count {
                self.sides[side].ask_exists(KeyRef { index, ..first }, 1);
            }
        }
        Ok(())
    }
}

fn concerns_key(line: &[u8]) -> bool {
    let code = ErrorCode::of(line);
    code == ErrorCode::NoPermKey || matches!(code.retry(), Retry::Key | Retry::Unknown)
}

fn side_error(line: &[u8]) -> Trouble {
    LinkError::Reply(ErrorCode::of(line), Escaped(line).to_string()).into()
}

fn unexpected(command: &'static str, token: &Token) -> Trouble {
    LinkError::Unexpected(command, format!("{token:?}")).into()
}
