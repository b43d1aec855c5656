//! The target's keys, one part of all names at a time: what to ask next, and what the answers say. No I/O.
//!
//! # Invariants
//!
//! - A value is judged as it comes and then let go; of the answers that are on their way the window bounds the bytes.
//! - A key that differs is read again, behind all others that wait, until it has shown the same twice.
//! - A question that a lost connection leaves unanswered is asked again.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;

use super::judge::{self, Difference, Held, Judged};
use crate::client::handshake::unix_ms;
use crate::client::{Clock, LinkError};
use crate::compare::scan::Scan;
use crate::compare::window::Window;
use crate::digest::KeyDigest;
use crate::key::Escaped;
use crate::pace;
use crate::progress::Verdict;
use crate::rdb::footer;
use crate::recorded::entry::name_digest;
use crate::recorded::table::{Lookup, Part};
use crate::recorded::{Digesting, Outcome, Table};
use crate::resp::{ErrorCode, ExpiryQuery, Retry, Token, encode_dump, encode_expiry, encode_scan};
use crate::state::record::Position;

/// Times that a key is read before it is given up as undecided.
const READS_MAX: u8 = 4;

/// How the target is asked.
pub struct Asks {
    /// COUNT of each SCAN.
    pub batch_keys: u32,
    /// MATCH of each SCAN.
    pub glob: Option<Vec<u8>>,
    /// It knows PEXPIRETIME.
    pub instants: bool,
    /// Its clock.
    pub clock: Option<Clock>,
}

impl Asks {
    fn now_ms(&self, now: Instant) -> i64 {
        self.clock
            .map_or_else(|| unix_ms() as i64, |clock| clock.at(now))
    }
}

/// What is to be done with a name that nothing was recorded of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// It is a finding if it is there.
    Extra,
    /// The plan does not select it.
    Unselected,
    /// Nobody asks about it.
    Ignored,
}

/// What was recorded, and what is to be done with a name that nothing was recorded of.
pub type Expected<'a> = (&'a mut Table, &'a dyn Fn(&[u8]) -> Stranger);

/// A key of the target.
pub struct Key {
    /// Its name there.
    pub name: Vec<u8>,
    /// What was recorded of it.
    pub expected: Option<Outcome>,
    reads: u8,
    seen: Option<Difference>,
}

/// A key has its verdict.
pub struct Settled {
    /// Which.
    pub key: Key,
    /// What was found.
    pub verdict: Found,
}

/// What was found.
pub enum Found {
    /// As recorded.
    Same {
        /// Of the value.
        digest: KeyDigest,
        /// It differed when it was read before.
        settled: bool,
    },
    /// See [`Judged::Gone`].
    Gone,
    /// See [`Judged::Filtered`].
    Filtered,
    /// See [`Judged::Unknown`].
    Unknown,
    /// A finding.
    Differs(Verdict, Difference),
}

enum Asked {
    Scan,
    /// DUMP and expiry; what DUMP said.
    Key(Key, Option<Dumped>),
}

enum Dumped {
    Held(Box<Held>),
    Missing,
    Refused,
    /// On its way, or by whoever sent it.
    Damaged,
}

/// See the module.
pub struct Walk {
    part: Part,
    scan: Scan,
    unread: VecDeque<Key>,
    asked: VecDeque<Asked>,
    window: Window,
    /// What the limits allow.
    pace: pace::Shared,
    digesting: Digesting,
    /// Names that came, and those of them that the plan does not select.
    pub names: u64,
    /// See `names`.
    pub unselected: u64,
    /// Answers, ever; whoever waits for progress compares two looks.
    pub answers: u64,
    /// Payload bytes read.
    pub bytes: u64,
}

impl Walk {
    /// A walk of one server, or node, for the names of one part.
    pub fn new(part: Part, pace: pace::Shared) -> Self {
        Self {
            part,
            scan: Scan::new(Position::Start),
            unread: VecDeque::new(),
            asked: VecDeque::new(),
            window: Window::new(false),
            pace,
            digesting: Digesting::new(),
            names: 0,
            unselected: 0,
            answers: 0,
            bytes: 0,
        }
    }

    /// Whether every key has its verdict.
    pub fn is_over(&self) -> bool {
        self.scan.is_over() && self.unread.is_empty() && self.asked.is_empty()
    }

    /// How far the walk is, 0–1.
    pub fn share(&self) -> f64 {
        match self.scan.cursor() {
            None => 1.0,
            // A cursor counts in reversed bits.
            Some(cursor) => cursor.reverse_bits() as f64 / 2_f64.powi(64),
        }
    }

    /// It is `now`, which decides how much the limits allow. Returns whether only time is missing until something is asked.
    pub fn keep_pace(&mut self, now: Instant) -> bool {
        let mut pace = self.pace.borrow_mut();
        self.window.guard(pace.pressure());
        pace.window(self.window.times_smallest());
        let is_limited = pace.fill(|| now, self.asked.len(), self.value_bytes());
        is_limited && self.asked.is_empty()
    }

    fn value_bytes(&self) -> u64 {
        self.window.value_bytes().map_or(1024, |bytes| bytes as u64)
    }

    /// Appends what is to be asked next.
    pub fn request(&mut self, asks: &Asks, out: &mut BytesMut) {
        let window = self.window.keys();
        if self.asked.len() > window / 2 || self.pace.borrow().is_measuring() {
            return;
        }
        let ahead = self.pace.borrow().names_ahead(window);
        if self.unread.len() <= ahead && self.pace.borrow_mut().may_scan() && self.scan.begin() {
            self.ask_scan(asks, out);
        }
        let query = match asks.instants {
            true => ExpiryQuery::PExpireTime,
            false => ExpiryQuery::PTtl,
        };
        let mut pace = self.pace.borrow_mut();
        let allowed = pace.allowance(self.asked.len(), self.value_bytes());
        let room = window.saturating_sub(self.asked.len());
        let count = room.min(self.unread.len());
        if allowed == 0 && count > 0 {
            pace.hold();
        }
        for key in self.unread.drain(..count.min(allowed)) {
            encode_dump(out, &key.name);
            encode_expiry(out, query, &key.name);
            self.asked.push_back(Asked::Key(key, None));
            pace.asked(1);
        }
    }

    fn ask_scan(&mut self, asks: &Asks, out: &mut BytesMut) {
        let cursor = self
            .scan
            .cursor()
            .expect("only a walk that is not over asks");
        let count = self.pace.borrow().scan_keys(asks.batch_keys);
        encode_scan(out, cursor, count, asks.glob.as_deref(), None);
        self.asked.push_back(Asked::Scan);
    }

    /// The connection is lost: what it owed is asked again on the next one, by these commands first of all.
    pub fn lost(&mut self, asks: &Asks, out: &mut BytesMut) {
        self.scan.lost();
        while let Some(asked) = self.asked.pop_back() {
            if let Asked::Key(key, _) = asked {
                self.unread.push_front(key);
            }
        }
        if self.scan.in_flight() {
            self.ask_scan(asks, out);
        }
    }

    /// Takes the next token; returns a key that has its verdict.
    pub fn token(
        &mut self,
        token: Token,
        rules: &judge::Rules,
        asks: &Asks,
        now: Instant,
        named: Expected<'_>,
    ) -> Result<Option<Settled>, LinkError> {
        match self.asked.pop_front() {
            None => Err(LinkError::Unexpected("nothing", format!("{token:?}"))),
            Some(Asked::Scan) => {
                self.asked.push_front(Asked::Scan);
                self.scan_token(token, named).map(|()| None)
            }
            Some(Asked::Key(key, None)) => {
                let dumped = self.dump_token(&key, token, asks, now);
                // Whatever is wrong with the answer, the key is not forgotten.
                let (dumped, error) = match dumped {
                    Ok(dumped) => (Some(dumped), None),
                    Err(error) => (None, Some(error)),
                };
                self.asked.push_front(Asked::Key(key, dumped));
                error.map_or(Ok(None), Err)
            }
            Some(Asked::Key(key, Some(dumped))) => {
                let answer = match token {
                    Token::Integer(ms) => Some(ms),
                    Token::Error(_) if matches!(dumped, Dumped::Refused) => None,
                    token => {
                        self.asked.push_front(Asked::Key(key, None));
                        return Err(match token {
                            Token::Error(line) => reply_error(&line),
                            other => LinkError::Unexpected("PTTL", format!("{other:?}")),
                        });
                    }
                };
                self.answers += 1;
                Ok(self.judged(key, dumped, answer, rules, asks, now))
            }
        }
    }

    fn scan_token(
        &mut self,
        token: Token,
        (table, stranger): Expected<'_>,
    ) -> Result<(), LinkError> {
        if let Token::Error(line) = &token {
            return Err(reply_error(line));
        }
        let Some(scanned) = self.scan.token(token)? else {
            return Ok(());
        };
        self.asked.pop_front();
        self.answers += 1;
        let waiting = self.unread.len();
        for name in scanned.names.iter() {
            let digest = name_digest(name);
            if !self.part.contains(&digest) {
                continue;
            }
            self.names += 1;
            let expected = match table.meet(&digest) {
                Lookup::Entry(outcome) => Some(outcome),
                Lookup::Again => continue,
                Lookup::Nothing => match stranger(name) {
                    Stranger::Extra => None,
                    Stranger::Unselected => {
                        self.unselected += 1;
                        continue;
                    }
                    Stranger::Ignored => continue,
                },
            };
            self.unread.push_back(Key {
                name: name.to_vec(),
                expected,
                reads: 0,
                seen: None,
            });
        }
        let passed_over = scanned.names.len() - (self.unread.len() - waiting);
        self.pace.borrow_mut().passed_over(passed_over);
        Ok(())
    }

    fn dump_token(
        &mut self,
        key: &Key,
        token: Token,
        asks: &Asks,
        now: Instant,
    ) -> Result<Dumped, LinkError> {
        match token {
            Token::Null => Ok(Dumped::Missing),
            Token::Bulk(payload) => {
                self.window.observe_payload(payload.len());
                self.bytes += payload.len() as u64;
                self.pace.borrow_mut().came(payload.len());
                if footer::check(&payload).is_err() {
                    return Ok(Dumped::Damaged);
                }
                let now_ms = asks.now_ms(now);
                let held = judge::digest(&mut self.digesting, &payload, key.expected, now_ms);
                Ok(Dumped::Held(Box::new(held)))
            }
            Token::Error(line) => match ErrorCode::of(&line).retry() {
                Retry::Key | Retry::Unknown => Ok(Dumped::Refused),
                _ if ErrorCode::of(&line) == ErrorCode::NoPermKey => Ok(Dumped::Refused),
                _ => Err(reply_error(&line)),
            },
            other => Err(LinkError::Unexpected("DUMP", format!("{other:?}"))),
        }
    }

    fn judged(
        &mut self,
        mut key: Key,
        dumped: Dumped,
        answer: Option<i64>,
        rules: &judge::Rules,
        asks: &Asks,
        now: Instant,
    ) -> Option<Settled> {
        let now_ms = asks.now_ms(now);
        let judged = match (dumped, answer) {
            (Dumped::Damaged, _) if key.reads + 1 < READS_MAX => {
                key.reads += 1;
                self.unread.push_back(key);
                return None;
            }
            (Dumped::Damaged, _) => Judged::Unknown,
            (Dumped::Refused, _) | (_, None) => Judged::Unknown,
            // It went while it was read, if not before.
            (Dumped::Missing, _) | (_, Some(-2)) => rules.judge(key.expected, None, now_ms),
            (Dumped::Held(held), Some(ms)) => {
                let held = Held {
                    expires_ms: match (ms, asks.instants) {
                        (-1, _) => None,
                        (instant, true) => Some(instant),
                        (left, false) => Some(now_ms.saturating_add(left)),
                    },
                    ..*held
                };
                rules.judge(key.expected, Some(&held), now_ms)
            }
        };
        let verdict = match judged {
            Judged::Same(digest) => Found::Same {
                digest,
                settled: key.seen.is_some(),
            },
            Judged::Gone => Found::Gone,
            Judged::Filtered => Found::Filtered,
            Judged::Unknown => Found::Unknown,
            Judged::Differs(difference) => {
                key.reads += 1;
                let shows = |seen: &Difference| {
                    (seen.verdict, seen.target_digest)
                        == (difference.verdict, difference.target_digest)
                };
                if key.seen.as_ref().is_some_and(shows) {
                    Found::Differs(difference.verdict, *difference)
                } else if key.reads >= READS_MAX {
                    Found::Differs(Verdict::Undecided, *difference)
                } else {
                    key.seen = Some(*difference);
                    self.unread.push_back(key);
                    return None;
                }
            }
        };
        Some(Settled { key, verdict })
    }
}

fn reply_error(line: &[u8]) -> LinkError {
    LinkError::Reply(ErrorCode::of(line), Escaped(line).to_string())
}
