//! One side: the pipelines of its nodes, and which of their answers wait for the other side's.
//!
//! # Invariants
//!
//! - Answers are numbered when their questions are asked, and taken in that order, whichever connection they come on. An
//!   answer that was taken on a connection that was lost in the middle of a reply is passed over when the whole question
//!   is answered on the next one.
//! - A node that sends elsewhere has said nothing about the key: the question goes there, and its answer keeps its number.

use std::collections::VecDeque;
use std::time::Instant;

use super::pipe::{Asked, Line, Pipe};
use super::{Lane, TARGET};
use crate::client::LinkError;
use crate::cluster::{NodeAddress, Redirect, Topology, slot_of};
use crate::compare::batch::KeyRef;
use crate::compare::expiry::{Answer, NEVER};
use crate::compare::judge::Value;
use crate::key::Escaped;
use crate::resp::{ErrorCode, Retry, Token};
use crate::state::record::CompareStage;

/// Redirections that a question follows on one connection. More of them are no way but a circle.
const REDIRECTIONS_MAX: u8 = 8;

/// What ends the use of a connection, or of a cursor.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// The connection, or the server behind it, is of no use for now.
    Link(LinkError),
    /// The side that is walked does not know the cursor.
    CursorRefused(String),
    /// A slot is at a node to which there is no connection.
    UnknownNode(NodeAddress),
    /// The list of names can't be read.
    List(String),
}

impl From<LinkError> for Trouble {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

/// An answer that waits for the other side's.
#[derive(Debug)]
pub(super) enum Got {
    Value(Value),
    Expiry(Answer),
    /// Bytes of memory that a key takes; 0 where that is not told.
    Size(u64),
}

/// See the module.
pub(super) struct Side {
    /// One to each node, in the order of their numbers; a single server has one.
    pub(super) pipes: Vec<Pipe>,
    /// Which node has which slot, if it is a cluster.
    pub(super) routes: Option<Topology>,
    /// In the order of their numbers, from `first_ticket` on; `None` until they come.
    answers: VecDeque<Option<Got>>,
    first_ticket: u64,
    held_bytes: u64,
    outstanding_keys: usize,
}

impl Side {
    /// A single server, or a cluster with these nodes.
    pub(super) fn new(routes: Option<Topology>) -> Self {
        let nodes = routes.as_ref().map_or(1, |routes| routes.nodes().len());
        Self {
            pipes: (0..nodes).map(|_| Pipe::default()).collect(),
            routes,
            answers: VecDeque::new(),
            first_ticket: 0,
            held_bytes: 0,
            outstanding_keys: 0,
        }
    }

    pub(super) fn outstanding_keys(&self) -> usize {
        self.outstanding_keys
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.routes.is_some()
    }

    /// Whether so much waits for the other side that this pipe must not be read. The one that owes the answer which all
    /// others wait for is always read.
    pub(super) fn is_full(&self, pipe: usize, held_bytes_max: u64) -> bool {
        self.held_bytes >= held_bytes_max
            && (self.has_answer() || !self.pipes[pipe].is_to_answer(self.first_ticket))
    }

    pub(super) fn has_answer(&self) -> bool {
        matches!(self.answers.front(), Some(Some(_)))
    }

    /// The oldest answer that waits.
    pub(super) fn take_answer(&mut self) -> Got {
        let got = self.answers.pop_front().flatten();
        let got = got.expect("asked for one that is there");
        self.first_ticket += 1;
        if let Got::Value(value) = &got {
            self.held_bytes -= value.len() as u64;
        }
        got
    }

    /// The pipe to the node that should have a key of this name.
    pub(super) fn pipe_to(&self, name: &[u8]) -> usize {
        match &self.routes {
            None => 0,
            // A slot at nobody: any node says so, and it is waited for.
            Some(routes) => routes.owner(slot_of(name)).unwrap_or_default(),
        }
    }

    /// Asks for names, or whether keys exist: answers that wait for nobody.
    pub(super) fn ask_alone(&mut self, pipe: usize, asked: Asked) {
        let keys = match asked {
            Asked::Exists { count, .. } => count as usize,
            _ => 0,
        };
        self.push(pipe, asked, keys);
    }

    /// Asks what the other side is asked as well: `answers` of them, about so many outstanding keys.
    pub(super) fn ask(&mut self, pipe: usize, asked: Asked, keys: usize, answers: u32) {
        self.push(pipe, asked, keys);
        self.answers.extend((0..answers).map(|_| None));
    }

    /// What the other side is asked is known of this one.
    pub(super) fn knows(&mut self, got: Got) {
        self.answers.push_back(Some(got));
    }

    fn push(&mut self, pipe: usize, asked: Asked, keys: usize) {
        self.outstanding_keys += keys;
        self.pipes[pipe].push(Line {
            asked,
            ticket: self.first_ticket + self.answers.len() as u64,
            keys,
            asking: false,
            redirections: 0,
        });
    }

    fn answer(&mut self, ticket: u64, got: Got) {
        if let Got::Value(value) = &got {
            self.held_bytes += value.len() as u64;
        }
        let place = ticket - self.first_ticket;
        self.answers[place as usize] = Some(got);
    }

    /// The pipe's front line is answered.
    fn done(&mut self, pipe: usize) {
        if let Some(line) = self.pipes[pipe].pop() {
            self.outstanding_keys -= line.keys;
        }
    }

    /// Takes a token of an MGET for `count` keys; false if the server refuses the command.
    fn strings(
        &mut self,
        pipe: usize,
        ticket: u64,
        token: Token,
        count: u32,
    ) -> Result<bool, Trouble> {
        let state = &mut self.pipes[pipe];
        let value = match token {
            Token::Array(length) if !state.opened && length == count as usize => {
                state.opened = true;
                return Ok(true);
            }
            Token::Bulk(bytes) if state.opened => Value::String(bytes),
            Token::Skipped(bytes) if state.opened => Value::TooBig(bytes),
            Token::Null if state.opened => Value::Missing,
            Token::Error(line) if !state.opened && is_refusal(&line) => {
                // DUMP has to tell.
                for nth in state.taken..count {
                    self.answer(ticket + u64::from(nth), Got::Value(Value::Missing));
                }
                self.done(pipe);
                return Ok(false);
            }
            Token::Error(line) if !state.opened => return Err(side_error(&line)),
            other => return Err(unexpected("MGET", &other)),
        };
        self.answer_next(pipe, ticket, Got::Value(value), count);
        Ok(true)
    }

    /// The next of `count` answers that the pipe's front line brings. One that came on an earlier connection is passed over.
    fn answer_next(&mut self, pipe: usize, ticket: u64, got: Got, count: u32) {
        let state = &mut self.pipes[pipe];
        let nth = state.come;
        state.come += 1;
        let last = state.come == count;
        if nth == state.taken {
            state.taken += 1;
            self.answer(ticket + u64::from(nth), got);
        }
        if last {
            self.done(pipe);
        }
    }

    /// Takes the answer to a GET; false if the server refuses the command.
    fn string(&mut self, pipe: usize, ticket: u64, token: Token) -> Result<bool, Trouble> {
        let (value, served) = match token {
            Token::Bulk(bytes) => (Value::String(bytes), true),
            Token::Skipped(bytes) => (Value::TooBig(bytes), true),
            // No string, or not there: DUMP has to tell.
            Token::Null => (Value::Missing, true),
            Token::Error(line) if is_refusal(&line) => {
                let wrong_type = line.starts_with(b"WRONGTYPE");
                (Value::Missing, wrong_type || is_of_key(&line))
            }
            Token::Error(line) => return Err(side_error(&line)),
            other => return Err(unexpected("GET", &other)),
        };
        self.answer(ticket, Got::Value(value));
        self.done(pipe);
        Ok(served)
    }

    fn dump(&mut self, pipe: usize, ticket: u64, token: Token) -> Result<(), Trouble> {
        let value = match token {
            Token::Bulk(payload) => Value::Payload(payload),
            Token::Skipped(bytes) => Value::TooBig(bytes),
            Token::Null => Value::Missing,
            Token::Error(line) if concerns_key(&line) => Value::Refused,
            Token::Error(line) => return Err(side_error(&line)),
            other => return Err(unexpected("DUMP", &other)),
        };
        self.answer(ticket, Got::Value(value));
        self.done(pipe);
        Ok(())
    }

    /// Takes a size; `Some`: the server does not tell it, in these words, to this user or at all.
    fn size(&mut self, pipe: usize, ticket: u64, token: Token) -> Result<Option<String>, Trouble> {
        let (bytes, refused) = match token {
            Token::Integer(bytes) => (u64::try_from(bytes).unwrap_or_default(), None),
            // Its value will tell that it is gone.
            Token::Null => (0, None),
            Token::Error(line) if is_of_key(&line) => (0, None),
            Token::Error(line) => match ErrorCode::of(&line) {
                ErrorCode::NoPerm | ErrorCode::UnknownCommand | ErrorCode::Other => {
                    (0, Some(Escaped(&line).to_string()))
                }
                _ => return Err(side_error(&line)),
            },
            other => return Err(unexpected("MEMORY USAGE", &other)),
        };
        self.answer(ticket, Got::Size(bytes));
        self.done(pipe);
        Ok(refused)
    }

    fn expiry(
        &mut self,
        pipe: usize,
        ticket: u64,
        token: Token,
        now: Instant,
    ) -> Result<(), Trouble> {
        let got = expiry_of(token, now)?;
        self.answer(ticket, got);
        self.done(pipe);
        Ok(())
    }

    /// Takes one of `count` answers about keys in a row.
    fn expiries(
        &mut self,
        pipe: usize,
        ticket: u64,
        token: Token,
        count: u32,
        now: Instant,
    ) -> Result<(), Trouble> {
        let got = expiry_of(token, now)?;
        self.answer_next(pipe, ticket, got, count);
        Ok(())
    }

    /// A node says where the key of the pipe's front line is. The question goes there.
    fn redirected(&mut self, pipe: usize, line: &[u8]) -> Result<(), Trouble> {
        let Some(routes) = &mut self.routes else {
            return Err(side_error(line));
        };
        let asked = &routes.nodes()[pipe].address;
        let Some(redirect) = Redirect::parse(line, asked) else {
            return Err(side_error(line));
        };
        let moved = ErrorCode::of(line) == ErrorCode::Moved;
        let there = match moved {
            true => routes.moved(redirect.slot, &redirect.to),
            false => routes.number_of(&redirect.to),
        };
        let Some(there) = there else {
            return Err(Trouble::UnknownNode(redirect.to));
        };
        let front = self.pipes[pipe].front();
        if front.is_some_and(|front| front.redirections >= REDIRECTIONS_MAX) {
            let slot = redirect.slot;
            let what = format!("the nodes do not agree who has slot {slot}");
            return Err(LinkError::Elsewhere(what).into());
        }
        if let Some(front) = self.pipes[pipe].pop() {
            self.pipes[there].push(Line {
                asking: !moved,
                redirections: front.redirections + 1,
                ..front
            });
        }
        Ok(())
    }
}

impl Lane {
    /// Takes the next token of the answers on one pipe of a side, read from the socket at `now`.
    pub fn token(
        &mut self,
        side: usize,
        pipe: usize,
        token: Token,
        now: Instant,
    ) -> Result<(), Trouble> {
        let Some(line) = self.sides[side].pipes[pipe].front() else {
            return Err(unexpected("nothing", &token));
        };
        if !matches!(line.asked, Asked::Names) {
            self.came(side, &token);
        }
        let this = &mut self.sides[side];
        if line.asking && !this.pipes[pipe].permitted {
            return match token {
                Token::Simple(_) => {
                    this.pipes[pipe].permitted = true;
                    Ok(())
                }
                Token::Error(line) => Err(side_error(&line)),
                other => Err(unexpected("ASKING", &other)),
            };
        }
        let ticket = line.ticket;
        match (line.asked, token) {
            (Asked::Names, token) => return self.names_token(side, pipe, token),
            (_, Token::Error(line)) if this.is_cluster() && is_redirect(&line) => {
                return this.redirected(pipe, &line);
            }
            (Asked::Exists { first, count }, token) => {
                return self.exists_token(side, pipe, first, count, token);
            }
            (Asked::Strings { count, .. }, token) => {
                if !this.strings(pipe, ticket, token, count)? {
                    self.window.strings_refused();
                }
            }
            (Asked::String(_), token) => {
                if !this.string(pipe, ticket, token)? {
                    self.window.strings_refused();
                }
            }
            (Asked::Dump(_), token) => this.dump(pipe, ticket, token)?,
            (Asked::Size(_), token) => {
                if let Some(line) = this.size(pipe, ticket, token)? {
                    self.sizes_refused(side, &line);
                }
            }
            (Asked::Expiry(_), token) => this.expiry(pipe, ticket, token, now)?,
            (Asked::Expiries { count, .. }, token) => {
                this.expiries(pipe, ticket, token, count, now)?;
            }
        }
        self.answers[side] += 1;
        self.match_answers(now);
        Ok(())
    }

    fn names_token(&mut self, side: usize, pipe: usize, token: Token) -> Result<(), Trouble> {
        let listing = self.listings[side].as_mut().expect("a walk asked for it");
        let scanned = match listing.token(token, &self.rules, side) {
            Ok(scanned) => scanned,
            Err(LinkError::Reply(ErrorCode::InvalidCursor, line)) => {
                return Err(Trouble::CursorRefused(line));
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(scanned) = scanned {
            self.sides[side].done(pipe);
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
        pipe: usize,
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
        self.sides[side].done(pipe);
        self.answers[side] += 1;
        if found == i64::from(count) {
            self.existence(first, count, true);
        } else if count == 1 || found == 0 {
            self.existence(first, count, false);
        } else {
            // Which ones, has to be asked one by one.
            for index in first.index..first.index + count {
                let first = KeyRef { index, ..first };
                self.sides[side].ask_alone(pipe, Asked::Exists { first, count: 1 });
            }
        }
        Ok(())
    }
}

fn expiry_of(token: Token, now: Instant) -> Result<Got, Trouble> {
    let ms = match token {
        Token::Integer(ms) => ms,
        Token::Error(line) if concerns_key(&line) => NEVER,
        Token::Error(line) => return Err(side_error(&line)),
        other => return Err(unexpected("PTTL", &other)),
    };
    Ok(Got::Expiry(Answer { ms, at: now }))
}

fn is_redirect(line: &[u8]) -> bool {
    matches!(ErrorCode::of(line), ErrorCode::Moved | ErrorCode::Ask)
}

/// Whether a read of strings is refused, for these keys or for all.
fn is_refusal(line: &[u8]) -> bool {
    let code = ErrorCode::of(line);
    matches!(code, ErrorCode::NoPerm | ErrorCode::UnknownCommand) || concerns_key(line)
}

fn is_of_key(line: &[u8]) -> bool {
    ErrorCode::of(line) == ErrorCode::NoPermKey
}

fn concerns_key(line: &[u8]) -> bool {
    is_of_key(line) || matches!(ErrorCode::of(line).retry(), Retry::Key | Retry::Unknown)
}

fn side_error(line: &[u8]) -> Trouble {
    LinkError::Reply(ErrorCode::of(line), Escaped(line).to_string()).into()
}

fn unexpected(command: &'static str, token: &Token) -> Trouble {
    LinkError::Unexpected(command, format!("{token:?}")).into()
}
