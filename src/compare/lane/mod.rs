//! One database being compared: which keys are unread, what both sides are asked, which verdicts have come.
//!
//! No I/O happens here: the connections of both sides ask what to send and tell what came back.
//!
//! # Invariants
//!
//! - Both sides are asked for the same keys in the same order, and their answers are matched in that order, whichever of
//!   a cluster's nodes they come from. Of what one side has answered and the other has not, a bounded number of bytes is
//!   held ([`Lane::is_full`]).
//! - A question that a lost connection leaves unanswered is asked again; answers that were taken are not taken twice.
//! - Batches leave in the order of SCAN, each only when all its keys have verdicts.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::batch::{Batch, FinishedBatch, KeyRef};
use super::detail::first_difference;
use super::expiry::{Answer, Expiries, NO_KEY};
use super::judge::{Judge, Value, Values, judge, without_expiries};
use super::listing::Listing;
use super::named::Named;
use super::names::Names;
use super::window::Window;
use crate::cluster::{NodeAddress, Probes, SLOTS, Topology};
use crate::digest::NamesDigest;
use crate::plan::{FieldTtl, KeyType};
use crate::resp::ExpiryQuery;
use crate::state::record::{CompareStage, Position};

mod big;
mod given;
mod pace;
mod pipe;
mod question;
mod side;
#[cfg(test)]
mod tests;

use big::Big;
pub use big::{BigEnd, BigKey, BigRead};
use pipe::Asked;
use question::Question;
use side::Side;
pub use side::Trouble;

/// Number of the source among the sides.
pub const SOURCE: usize = 0;
/// Number of the target among the sides.
pub const TARGET: usize = 1;

/// Batches that are scanned and whose verdicts are not durable yet. What a crash makes redknot read again is at most this.
pub const IN_FLIGHT_BATCHES_MAX: u64 = 64;
/// Most keys that the source is asked about whether it has them, at once.
const NAMES_MAX: usize = 2048;
/// Most keys of one MGET or EXISTS: the server does nothing else while it answers.
const KEYS_AT_ONCE: usize = 128;

/// What the plan, the options and the servers' abilities make of every key.
pub struct Rules {
    /// COUNT of each SCAN.
    pub batch_keys: u32,
    /// MATCH of each side's SCAN.
    pub globs: [Option<Vec<u8>>; 2],
    /// TYPE of each side's SCAN, where one type is asked for and the side knows the option.
    pub scan_types: [Option<KeyType>; 2],
    /// Types that are asked for; empty: all.
    pub types: Vec<KeyType>,
    /// Whether the expiries of fields were kept.
    pub field_ttl: FieldTtl,
    /// Which names of each side are looked at, and what their keys are called on the other.
    pub named: [Named; 2],
    /// The target's names are listed beside the walk of the source.
    pub lists: bool,
    /// Names come from a list, and the source is not scanned.
    pub from_list: bool,
    /// Other databases have keys on the target as well: they are asked for names that this one does not have.
    pub has_rivals: bool,
    /// How expiries are compared; `None`: they are not.
    pub expiries: Option<Expiries>,
    /// The source's clock, by which fields expire.
    pub source_clock: Option<crate::client::Clock>,
    /// Strings are read by MGET where that is cheaper.
    pub strings: bool,
    /// Keys that only the target has are differences.
    pub extras: bool,
    /// Answers of one side that wait for the other, bytes.
    pub held_bytes_max: u64,
    /// Keys from this size on are compared in pieces; `None`: none is.
    pub big_key: Option<u64>,
    /// Which node has which slot, of each side that is a cluster.
    pub routes: [Option<Topology>; 2],
    /// Names to ask about slots, of each side that is a cluster.
    pub by_slot: [Option<Rc<Probes>>; 2],
}

/// The side that a stage walks: a batch has names as that side has them.
fn walked(stage: CompareStage) -> usize {
    match stage {
        CompareStage::Target => TARGET,
        CompareStage::Source | CompareStage::Recheck | CompareStage::Done => SOURCE,
    }
}

/// Names of the target that were listed beside the walk of the source.
#[derive(Debug, Clone, Copy, Default)]
pub struct Listed {
    /// Up to here.
    pub to: Position,
    /// How many SCAN returned.
    pub keys: u64,
    /// Those of them that are not looked at.
    pub unselected: u64,
    /// Those that are looked at.
    pub names: NamesDigest,
}

/// See the module.
pub struct Lane {
    rules: Rules,
    stage: CompareStage,
    /// Of each side, where it is walked or its names are listed.
    listings: [Option<Listing>; 2],
    /// What was listed and not taken.
    listed: Option<Listed>,
    next_seq: u64,
    batches: VecDeque<Batch>,
    /// Keys that no question was asked about.
    unread: VecDeque<KeyRef>,
    /// Keys of the target that this lane's database does not have; others may.
    unplaced: VecDeque<KeyRef>,
    /// Keys of which DUMP has to tell, and what is known of their expiries.
    follow: VecDeque<(KeyRef, Option<[Answer; 2]>)>,
    sides: [Side; 2],
    /// Questions to both sides whose answers have not both come.
    unmatched: VecDeque<Question>,
    /// Pairs of answers that were matched of the front one.
    matched: u32,
    /// What MGET said until the expiries come, in the order of the questions for those; `None`: that DUMP has to tell.
    strings: VecDeque<Option<Values>>,
    /// What is known of the expiries of keys for which DUMP was asked, in its order.
    known: VecDeque<Option<[Answer; 2]>>,
    /// What a DUMP said until the expiry comes that was asked right behind it.
    dumped: Option<Values>,
    judge: Judge,
    big: Big,
    /// Where values differ first, by the numbers of their names; only of a page of candidates.
    details: Vec<(u32, String)>,
    window: Window,
    /// What the limits allow.
    pub pace: crate::pace::Shared,
    /// COUNT of a SCAN where no guard lowers it.
    batch_keys_max: u32,
    finished: VecDeque<FinishedBatch>,
    /// Batches handed out that are not durable.
    not_durable: u64,
    stopping: bool,
    /// Pairs of answers, ever; whoever waits for progress compares two looks.
    pub answers: [u64; 2],
}

impl Lane {
    /// A lane that goes on at `position` of its stage; while that walks the source, the target's names are listed from
    /// `listed_to` on.
    pub fn new(
        mut rules: Rules,
        stage: CompareStage,
        position: Position,
        listed_to: Position,
    ) -> Self {
        let mut judge = Judge::new(rules.types.clone(), rules.field_ttl);
        let listing = |side: usize, position| Listing::new(position, rules.by_slot[side].as_ref());
        let listings = match stage {
            CompareStage::Source => [
                Some(match rules.from_list {
                    true => Listing::List(position),
                    false => listing(SOURCE, position),
                }),
                rules.lists.then(|| listing(TARGET, listed_to)),
            ],
            CompareStage::Target => [None, Some(listing(TARGET, position))],
            CompareStage::Recheck | CompareStage::Done => [None, None],
        };
        // A list names keys that the source may have lost and the target has kept.
        let walks = listings.iter().any(Option::is_some);
        judge.extras = rules.extras && (!walks || rules.from_list);
        let sides = rules
            .routes
            .each_mut()
            .map(|routes| Side::new(routes.take()));
        let window = Window::new(rules.strings && judge.wants_strings());
        let batch_keys_max = rules.batch_keys;
        let big = Big::new(&rules, stage);
        Self {
            rules,
            stage,
            listings,
            listed: None,
            next_seq: 0,
            batches: VecDeque::new(),
            unread: VecDeque::new(),
            unplaced: VecDeque::new(),
            follow: VecDeque::new(),
            sides,
            unmatched: VecDeque::new(),
            matched: 0,
            strings: VecDeque::new(),
            known: VecDeque::new(),
            dumped: None,
            judge,
            big,
            details: Vec::new(),
            window,
            pace: crate::pace::Shared::default(),
            batch_keys_max,
            finished: VecDeque::new(),
            not_durable: 0,
            stopping: false,
            answers: [0; 2],
        }
    }

    /// Begins no further batch; those that were scanned are brought to their end.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Batches scanned and not durable.
    pub fn batches_in_flight(&self) -> u64 {
        (self.batches.len() + self.finished.len()) as u64 + self.not_durable
    }

    /// Whether nothing is left to do but to make durable what was handed out.
    pub fn is_settled(&self) -> bool {
        let walked = self
            .listings
            .iter()
            .flatten()
            .all(|listing| listing.is_over() || (self.stopping && !listing.in_flight()));
        walked && self.batches.is_empty() && self.finished.is_empty()
    }

    /// Batches whose keys all have verdicts, in order, each handed out once.
    pub fn take_finished(&mut self) -> Option<FinishedBatch> {
        let batch = self.finished.pop_front()?;
        self.not_durable += 1;
        Some(batch)
    }

    /// So many of the batches handed out have become durable.
    pub fn durable(&mut self, batches: u64) {
        self.not_durable = self
            .not_durable
            .checked_sub(batches)
            .expect("no batch is durable before it is finished");
    }

    /// A probe PING of the source took this long.
    pub fn observe_latency(&mut self, latency: Duration) {
        self.window.observe_latency(latency);
    }

    /// Where values of a page of candidates differ first, by the numbers of their names; since the last call.
    pub fn take_details(&mut self) -> Vec<(u32, String)> {
        std::mem::take(&mut self.details)
    }

    /// Pipes of a side: one to each node of a cluster, and one to a single server.
    pub fn pipes(&self, side: usize) -> usize {
        self.sides[side].pipes.len()
    }

    /// The node of a cluster to which a pipe leads.
    ///
    /// # Panics
    ///
    /// If the side is no cluster.
    pub fn node(&self, side: usize, pipe: usize) -> NodeAddress {
        let routes = self.sides[side].routes.as_ref();
        routes.expect("a cluster has routes").nodes()[pipe]
            .address
            .clone()
    }

    /// Whether a pipe of a side owes an answer.
    pub fn owes(&self, side: usize, pipe: usize) -> bool {
        self.sides[side].pipes[pipe].owes()
    }

    /// Whether so much waits for the other side that this pipe must not be read for now.
    pub fn is_full(&self, side: usize, pipe: usize) -> bool {
        self.sides[side].is_full(pipe, self.rules.held_bytes_max)
    }

    /// Whether a side that is a cluster has the masters of `topology`; then it says who has which slots by now.
    pub fn set_routes(&mut self, side: usize, topology: &Topology) -> bool {
        let routes = &mut self.sides[side].routes;
        let same = routes
            .as_ref()
            .is_some_and(|routes| routes.has_same_nodes(topology));
        if same {
            *routes = Some(topology.clone());
        }
        same
    }

    /// Puts a page of candidates on the list of what is to be read.
    pub fn push_page(&mut self, names: Names) {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.unread
            .extend((0..names.len() as u32).map(|index| KeyRef { seq, index }));
        self.batches.push_back(Batch::page(seq, names));
        self.fill();
    }

    /// Appends to `out` what should be asked next on a pipe of a side.
    pub fn request(&mut self, side: usize, pipe: usize, out: &mut bytes::BytesMut) {
        self.fill();
        let first = self.batches.front().map_or(0, |batch| batch.seq);
        let batches = &self.batches;
        let rules = &self.rules;
        let named = &rules.named[walked(self.stage)];
        let name = |key: KeyRef| {
            let name = batches[(key.seq - first) as usize].name(key.index);
            named.on(side, name)
        };
        let instant = rules.expiries.as_ref();
        let expiry = match instant.is_some_and(|expiries| expiries.asks_instant(side)) {
            true => ExpiryQuery::PExpireTime,
            false => ExpiryQuery::PTtl,
        };
        let names = |out: &mut bytes::BytesMut| {
            if let Some(listing) = &self.listings[side] {
                listing.encode(rules, side, out);
            }
        };
        self.sides[side].pipes[pipe].encode(expiry, names, name, out);
    }

    /// Asks as much as the window allows.
    fn fill(&mut self) {
        // Refill in halves: a command at a time would cost a system call each.
        if self.outstanding_keys() > self.keys_max() / 2 || self.pace.borrow().is_measuring() {
            return;
        }
        self.fill_scan();
        match self.stage {
            CompareStage::Target => self.fill_exists(),
            CompareStage::Source | CompareStage::Recheck | CompareStage::Done => self.fill_reads(),
        }
    }

    /// How many keys may be outstanding.
    fn keys_max(&self) -> usize {
        match self.stage {
            // Nothing but names and numbers travels.
            CompareStage::Target => self.names_max(),
            CompareStage::Source | CompareStage::Recheck | CompareStage::Done => self.window.keys(),
        }
    }

    fn outstanding_keys(&self) -> usize {
        self.sides[SOURCE]
            .outstanding_keys()
            .max(self.sides[TARGET].outstanding_keys())
    }

    /// SCAN goes in front of the reads: the next names are known before a side runs out of work.
    fn fill_scan(&mut self) {
        let in_flight = self.batches_in_flight();
        let few = self.unread.len() <= self.keys_ahead();
        if !few || self.stopping || in_flight >= IN_FLIGHT_BATCHES_MAX || !self.may_ask_names() {
            return;
        }
        let begun = self.begin_listing(SOURCE);
        let walked = self.listings[SOURCE].as_ref().is_none_or(Listing::is_over);
        // The target's names are listed at the pace of the source's walk, until that is over.
        if begun || walked {
            self.begin_listing(TARGET);
        }
    }

    /// Asks for the next names of a side, unless they are on their way; whether it did.
    fn begin_listing(&mut self, side: usize) -> bool {
        let Some(listing) = &mut self.listings[side] else {
            return false;
        };
        let side = &mut self.sides[side];
        // The node that should have the next slot, and how far it has those behind it as well.
        let (pipe, last) = match (&side.routes, listing.next_slot()) {
            (Some(routes), Some(next)) => {
                (routes.owner(next).unwrap_or_default(), routes.run_end(next))
            }
            _ => (0, SLOTS - 1),
        };
        let begun = listing.begin(last);
        if begun {
            side.ask_alone(pipe, Asked::Names);
        }
        begun
    }

    /// The source is asked which of the target's keys it has.
    fn fill_exists(&mut self) {
        // Keys of several slots can't be asked for at once.
        let most = match self.sides[SOURCE].is_cluster() {
            true => 1,
            false => KEYS_AT_ONCE,
        };
        while self.outstanding_keys() < self.keys_max() && self.may_ask_names() {
            let Some((first, count)) = self.take_run(most) else {
                return;
            };
            self.passed_over(count as usize);
            let pipe = self.pipe_of(SOURCE, first);
            self.sides[SOURCE].ask_alone(pipe, Asked::Exists { first, count });
        }
    }

    /// Both sides are asked for values and expiries.
    fn fill_reads(&mut self) {
        if self.waits_for_survey() {
            return;
        }
        let mut left = self.allowance();
        loop {
            let room = self.keys_max().saturating_sub(self.outstanding_keys());
            if room == 0 {
                return;
            }
            if let Some((key, known)) = self.next_whole() {
                self.ask(Question::Dump(key));
                if self.rules.expiries.is_some() && known.is_none() {
                    self.ask(Question::Expiry(key));
                }
                self.known.push_back(known);
            } else if self.ask_size() {
                // It is read once its size is known.
            } else if self.window.reads_strings() {
                let most = self.window.strings_at_once().min(KEYS_AT_ONCE);
                let Some((first, count)) = self.take_allowed(most, &mut left) else {
                    return;
                };
                self.ask(Question::Strings { first, count });
                if self.rules.expiries.is_some() {
                    self.ask(Question::Expiries { first, count });
                }
            } else {
                let Some((key, _)) = self.take_allowed(1, &mut left) else {
                    return;
                };
                self.follow.push_back((key, None));
            }
        }
    }

    /// At most `most` unread keys that follow each other within a batch.
    fn take_run(&mut self, most: usize) -> Option<(KeyRef, u32)> {
        let unread = self.readable();
        let first = unread.pop_front()?;
        let mut count = 1;
        while (count as usize) < most
            && unread
                .front()
                .is_some_and(|next| (next.seq, next.index) == (first.seq, first.index + count))
        {
            unread.pop_front();
            count += 1;
        }
        Some((first, count))
    }

    /// A pipe's connection is lost: what it still owed is asked again on the next one.
    pub fn lost(&mut self, side: usize, pipe: usize) {
        let pipe = &mut self.sides[side].pipes[pipe];
        if let Some(listing) = &mut self.listings[side]
            && pipe.lists()
        {
            listing.lost();
            // Of slots, another node may have to be asked.
            if matches!(listing, Listing::Slots(_)) {
                pipe.forget_names();
            }
        }
        pipe.lost();
    }

    /// Takes the next pairs of answers, as far as both sides have them.
    fn match_answers(&mut self, now: Instant) {
        while let Some(question) = self.unmatched.front().copied() {
            let [source, target] = &mut self.sides;
            if !source.has_answer() || !target.has_answer() {
                return;
            }
            let pair = (source.take_answer(), target.take_answer());
            match (question, pair) {
                (
                    Question::Strings { first, count },
                    (side::Got::Value(a), side::Got::Value(b)),
                ) => {
                    let key = self.next_matched(first, count);
                    self.strings_read(key, a, b, now);
                }
                (
                    Question::Expiries { first, count },
                    (side::Got::Expiry(a), side::Got::Expiry(b)),
                ) => {
                    let key = self.next_matched(first, count);
                    self.expiries_read(key, [a, b], now);
                }
                (Question::Dump(key), (side::Got::Value(a), side::Got::Value(b))) => {
                    self.unmatched.pop_front();
                    self.dump_read(key, a, b, now);
                }
                (Question::Expiry(key), (side::Got::Expiry(a), side::Got::Expiry(b))) => {
                    self.unmatched.pop_front();
                    let values = self.dumped.take();
                    let values = values.expect("a value's answer comes before its expiry's");
                    self.settle(key, values, Some([a, b]), now);
                }
                (Question::Size, (side::Got::Size(a), side::Got::Size(b))) => {
                    self.unmatched.pop_front();
                    self.sizes_read([a, b]);
                }
                _ => unreachable!("both sides answer the same questions in the same order"),
            }
        }
    }

    /// The next key of the front question, which is about several.
    fn next_matched(&mut self, first: KeyRef, count: u32) -> KeyRef {
        let index = first.index + self.matched;
        self.matched += 1;
        if self.matched == count {
            self.matched = 0;
            self.unmatched.pop_front();
        }
        KeyRef { index, ..first }
    }

    /// MGET's answers for a key: both have a string, or DUMP must tell.
    fn strings_read(&mut self, key: KeyRef, source: Value, target: Value, now: Instant) {
        let both = matches!((&source, &target), (Value::String(_), Value::String(_)));
        self.window
            .observe_string(both, source.len().max(target.len()));
        self.is_too_big(key, &source, &target);
        let values = both.then(|| {
            self.read(key, &source, &target);
            self.judge.values(&source, &target, self.now_ms(now))
        });
        match (&self.rules.expiries, values) {
            (Some(_), values) => self.strings.push_back(values),
            (None, Some(values)) => self.settle(key, values, None, now),
            (None, None) => self.follow.push_back((key, None)),
        }
    }

    /// The expiries of a key for which MGET has asked.
    fn expiries_read(&mut self, key: KeyRef, answers: [Answer; 2], now: Instant) {
        let values = self.strings.pop_front();
        match values.expect("MGET's answer comes before the expiries'") {
            Some(values) => self.settle(key, values, Some(answers), now),
            None => {
                // A key that was not there may be there when DUMP looks: then its expiry is not known.
                let there = answers.iter().all(|answer| answer.ms != NO_KEY);
                self.follow.push_back((key, there.then_some(answers)));
            }
        }
    }

    fn dump_read(&mut self, key: KeyRef, source: Value, target: Value, now: Instant) {
        self.is_too_big(key, &source, &target);
        self.window.observe_payload(source.len().max(target.len()));
        self.read(key, &source, &target);
        let values = self.judge.values(&source, &target, self.now_ms(now));
        if self.stage == CompareStage::Recheck
            && let (Values::Differ { .. }, Value::Payload(source), Value::Payload(target)) =
                (&values, &source, &target)
            && let Some(detail) = first_difference(source, target)
        {
            self.details.push((key.index, detail));
        }
        let known = self.known.pop_front().flatten();
        match (&self.rules.expiries, known) {
            (Some(_), None) => self.dumped = Some(values),
            (_, known) => self.settle(key, values, known, now),
        }
    }

    fn settle(&mut self, key: KeyRef, values: Values, answers: Option<[Answer; 2]>, now: Instant) {
        if self.put_aside(key) {
            return;
        }
        let judged = match (&self.rules.expiries, answers) {
            (Some(expiries), Some(answers)) => judge(values, answers, expiries, now),
            _ => without_expiries(values),
        };
        let batch = self.batch(key);
        batch.settle(key.index, judged);
        if batch.open() == 0 {
            self.hand_on();
        }
    }

    /// Notes what was read, whatever it says. What was not kept is read again.
    fn read(&mut self, key: KeyRef, source: &Value, target: &Value) {
        if [source, target].iter().any(|value| value.is_too_big()) {
            return;
        }
        let lists = self.stage == CompareStage::Source && self.rules.lists;
        let batch = self.batch(key);
        batch.counters().bytes_read += source.len() as u64;
        if lists && *source != Value::Missing && *target != Value::Missing {
            batch.on_both(key.index);
        }
    }

    /// The source's wall clock, Unix milliseconds; ours, where that is not known.
    pub fn now_ms(&self, now: Instant) -> i64 {
        match self.rules.source_clock {
            Some(clock) => clock.at(now),
            None => crate::client::handshake::unix_ms() as i64,
        }
    }

    fn batch(&mut self, key: KeyRef) -> &mut Batch {
        let first = self
            .batches
            .front()
            .expect("a key belongs to a batch in flight")
            .seq;
        &mut self.batches[(key.seq - first) as usize]
    }

    /// Moves finished batches out, as far as no older one is open.
    fn hand_on(&mut self) {
        while self.batches.front().is_some_and(|batch| batch.open() == 0) {
            let batch = self.batches.pop_front().expect("just looked at it");
            self.finished.push_back(batch.finish());
        }
    }
}
