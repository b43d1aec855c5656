//! Big keys: found before they are read where that is worth its price, and put aside to be compared in pieces
//! ([`crate::compare::big`]).
//!
//! Both sides are asked for the size, as they are for everything else, and the larger one counts.
//!
//! # Invariants
//!
//! - A key that is compared in pieces is nowhere else in the lane until it has its verdict or is to be read whole.
//! - A key that is to be read whole because nothing else is possible is not put aside again.
//! - Of a value that comes unexpectedly and is larger than what may be held nothing is kept.

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use super::side::Got;
use super::{Asked, KEYS_AT_ONCE, Lane, Question, Rules, SOURCE, TARGET, walked};
use crate::client::sizes::Probing;
use crate::compare::batch::KeyRef;
use crate::compare::expiry::Answer;
use crate::compare::judge::{Seen, Value, Values};
use crate::state::record::CompareStage;

/// Where a key goes once its size is known and small.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It is read as any key.
    Readable,
    /// It is read by DUMP; what is known of its expiries.
    Whole(Option<[Answer; 2]>),
}

/// The big keys of a lane, and those of which it is being found out.
pub(super) struct Big {
    /// From which size on a key is big; `None`: nothing is.
    from: Option<u64>,
    /// Bytes from which on a value is not kept.
    skip_above: Option<usize>,
    probing: Probing,
    /// Nobody has looked yet of which keys sizes should be asked for: no value is.
    waits: bool,
    /// Sides that do not tell sizes.
    silent: [bool; 2],
    /// Keys whose sizes are asked for, in the order of the questions.
    sized: VecDeque<(KeyRef, Then)>,
    /// Unread keys that are small.
    readable: VecDeque<KeyRef>,
    /// Small keys that are to be read by DUMP.
    small: VecDeque<(KeyRef, Option<[Answer; 2]>)>,
    /// Keys whose value has come and was not kept.
    come: HashSet<KeyRef>,
    waiting: VecDeque<KeyRef>,
    /// Keys that can't be compared in pieces.
    never: HashSet<KeyRef>,
    met_bytes: [u64; 2],
    notes: Vec<String>,
}

/// A big key that is to be compared.
pub struct BigKey {
    /// Which.
    pub key: KeyRef,
    /// Its name on each side.
    pub names: [Vec<u8>; 2],
}

/// What became of a big key.
#[derive(Debug)]
pub enum BigEnd {
    /// It was read on both sides.
    Read(Box<BigRead>),
    /// It can't be compared in pieces.
    Whole,
}

/// What was read of a big key.
#[derive(Debug)]
pub struct BigRead {
    /// What each side has.
    pub sides: [Option<Seen>; 2],
    /// When it expires, if that was asked.
    pub expiries: Option<[Answer; 2]>,
    /// Where the values differ, if that can be said.
    pub first: Option<String>,
}

impl Big {
    pub(super) fn new(rules: &Rules, stage: CompareStage) -> Self {
        let kept = |from: u64| usize::try_from(from.max(rules.held_bytes_max)).ok();
        let reads = stage != CompareStage::Target;
        Self {
            from: rules.big_key,
            skip_above: rules.big_key.and_then(kept),
            probing: Probing::Nothing,
            waits: reads && rules.big_key.is_some(),
            silent: [false; 2],
            sized: VecDeque::new(),
            readable: VecDeque::new(),
            small: VecDeque::new(),
            come: HashSet::new(),
            waiting: VecDeque::new(),
            never: HashSet::new(),
            met_bytes: [0; 2],
            notes: Vec::new(),
        }
    }
}

impl Lane {
    // ---- what may be asked for

    /// Whether it is still being found out of which keys sizes should be asked for.
    pub(super) fn waits_for_survey(&self) -> bool {
        self.big.waits
    }

    /// The next key to be read by DUMP that needs no look at its size, or has had it; and what is known of its expiries.
    pub(super) fn next_whole(&mut self) -> Option<(KeyRef, Option<[Answer; 2]>)> {
        loop {
            if let Some(small) = self.big.small.pop_front() {
                return Some(small);
            }
            let (key, _) = self.follow.front()?;
            let (key, big) = (*key, &mut self.big);
            if !big.come.is_empty() && big.come.remove(&key) {
                big.waiting.push_back(key);
                self.follow.pop_front();
                continue;
            }
            // What is to be read whole in any case need not be asked about.
            let asks = big.probing == Probing::Wholes && !big.never.contains(&key);
            return match asks {
                true => None,
                false => self.follow.pop_front(),
            };
        }
    }

    /// Asks for the size of the next key that needs it. Returns whether there was one.
    pub(super) fn ask_size(&mut self) -> bool {
        let next = match self.big.probing {
            Probing::Nothing => None,
            Probing::Wholes => {
                let key = self.follow.pop_front();
                key.map(|(key, known)| (key, Then::Whole(known)))
            }
            // Enough for the next question about values.
            Probing::All if self.big.readable.len() >= KEYS_AT_ONCE => None,
            Probing::All => self.unread.pop_front().map(|key| (key, Then::Readable)),
        };
        let Some((key, then)) = next else {
            return false;
        };
        self.big.sized.push_back((key, then));
        self.unmatched.push_back(Question::Size);
        for side in [SOURCE, TARGET] {
            match self.big.silent[side] {
                true => self.sides[side].knows(Got::Size(0)),
                false => {
                    let pipe = self.pipe_of(side, key);
                    self.sides[side].ask(pipe, Asked::Size(key), 1, 1);
                }
            }
        }
        true
    }

    /// Unread keys that need no look at their size, or have had it.
    pub(super) fn readable(&mut self) -> &mut VecDeque<KeyRef> {
        match self.big.probing {
            Probing::All => &mut self.big.readable,
            Probing::Nothing | Probing::Wholes => match self.big.readable.is_empty() {
                true => &mut self.unread,
                false => &mut self.big.readable,
            },
        }
    }

    /// Both sides have told the size of the next key that was asked about.
    pub(super) fn sizes_read(&mut self, bytes: [u64; 2]) {
        let sized = self.big.sized.pop_front();
        let (key, then) = sized.expect("sizes come in the order of the questions");
        let most = bytes.into_iter().max().unwrap_or_default();
        let big = self.big.from.is_some_and(|from| most >= from);
        match then {
            _ if big && !self.big.never.contains(&key) => {
                for (met, bytes) in self.big.met_bytes.iter_mut().zip(bytes) {
                    *met += bytes;
                }
                self.big.waiting.push_back(key);
            }
            Then::Readable => self.big.readable.push_back(key),
            Then::Whole(known) => self.big.small.push_back((key, known)),
        }
    }

    /// A side does not tell sizes, in these words.
    pub(super) fn sizes_refused(&mut self, side: usize, line: &str) {
        if std::mem::replace(&mut self.big.silent[side], true) {
            return;
        }
        let name = match side {
            SOURCE => "source",
            _ => "target",
        };
        self.big.notes.push(format!(
            "the {name} does not serve MEMORY USAGE (it answers \"{line}\"): keys that are big there are found by what arrives, and DUMP of one keeps it from serving others meanwhile"
        ));
        if self.big.silent == [true; 2] {
            self.big.probing = Probing::Nothing;
        }
    }

    /// Of which keys the sizes are asked for from now on.
    pub fn probe_sizes(&mut self, probing: Probing) {
        self.big.waits = false;
        if self.may_probe_sizes() {
            self.big.probing = probing;
        }
    }

    /// Whether sizes may matter, and there is anybody to tell them.
    pub fn may_probe_sizes(&self) -> bool {
        let reads = self.stage != CompareStage::Target;
        reads && self.big.from.is_some() && self.big.silent != [true; 2]
    }

    /// Bytes of the big keys that were met, on each side.
    pub fn big_bytes_met(&self) -> [u64; 2] {
        self.big.met_bytes
    }

    /// Longer strings are not to be kept, of what a pipe answers next.
    #[inline]
    pub fn skip_above(&self, side: usize, pipe: usize) -> Option<usize> {
        if self.big.never.is_empty() {
            return self.big.skip_above;
        }
        match self.sides[side].pipes[pipe].front().map(|line| line.asked) {
            Some(Asked::Dump(key)) if self.big.never.contains(&key) => None,
            _ => self.big.skip_above,
        }
    }

    // ---- what becomes of them

    /// One of the values was too large to be kept: DUMP is not asked for, but pieces.
    pub(super) fn is_too_big(&mut self, key: KeyRef, source: &Value, target: &Value) {
        if source.is_too_big() || target.is_too_big() {
            for (met, value) in self.big.met_bytes.iter_mut().zip([source, target]) {
                if let Value::TooBig(bytes) = value {
                    *met += bytes;
                }
            }
            self.big.come.insert(key);
        }
    }

    /// Puts a key aside whose value has come by DUMP and was not kept.
    pub(super) fn put_aside(&mut self, key: KeyRef) -> bool {
        let put = !self.big.come.is_empty() && self.big.come.remove(&key);
        if put {
            self.big.waiting.push_back(key);
        }
        put
    }

    /// The next big key that is to be compared.
    pub fn take_big(&mut self) -> Option<BigKey> {
        let key = self.big.waiting.pop_front()?;
        let first = self.batches.front().map_or(0, |batch| batch.seq);
        let name = self.batches[(key.seq - first) as usize].name(key.index);
        let named = &self.rules.named[walked(self.stage)];
        let names = [SOURCE, TARGET].map(|side| named.on(side, name).into_owned());
        Some(BigKey { key, names })
    }

    /// What the operator is to be told.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.big.notes)
    }

    /// Whether a side is asked for the instant of expiry rather than for the time left; `None`: for neither.
    pub fn asks_instant(&self, side: usize) -> Option<bool> {
        let expiries = self.rules.expiries.as_ref();
        expiries.map(|expiries| expiries.asks_instant(side))
    }

    /// Whether the expiries of fields are compared.
    pub fn compares_field_expiries(&self) -> bool {
        self.judge.compares_field_expiries()
    }

    /// A big key has come to this end.
    pub fn big_ended(&mut self, key: KeyRef, end: BigEnd, now: Instant) {
        let BigRead {
            sides,
            expiries,
            first,
        } = match end {
            BigEnd::Read(read) => *read,
            BigEnd::Whole => {
                self.big.never.insert(key);
                self.follow.push_back((key, None));
                return;
            }
        };
        for side in [SOURCE, TARGET] {
            self.answers[side] += 1;
        }
        let lists = self.stage == CompareStage::Source && self.rules.lists;
        let batch = self.batch(key);
        batch.counters().bytes_read += sides[SOURCE].map_or(0, |seen| seen.len as u64);
        if lists && sides.iter().all(Option::is_some) {
            batch.on_both(key.index);
        }
        let values = self.judge.in_pieces(sides);
        if let (CompareStage::Recheck, Values::Differ { .. }, Some(first)) =
            (self.stage, &values, first)
        {
            self.details.push((key.index, first));
        }
        self.settle(key, values, expiries, now);
    }
}
