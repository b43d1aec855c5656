//! One database on its way: which keys are to be read, which wait for the target, which have arrived.
//!
//! No I/O happens here: the source's connection and the target's ask what to send and tell what came back.
//!
//! # Invariants
//!
//! - A key that was sent and not answered, on either side, is read again. So nothing older than its last read is
//!   ever written, and a lost connection costs nothing but what was in flight on it.
//! - Batches leave in SCAN's order, each only when all its keys have an outcome: the cursor that goes to disk is
//!   never ahead of a key (promise P3).
//! - Doubles of a key (SCAN may return one twice) travel on the same target connection, so the newer read wins.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::batch::{Batch, FinishedBatch, KeyOutcome, KeyRef, Payload, Ready};
use super::scan::Walk;
use super::window::Window;
use super::{ReadWith, WriteWith};
use crate::client::handshake::unix_ms;
use crate::client::{Clock, LinkError, Takes};
use crate::cluster::{NodeAddress, Probes, Topology};
use crate::endpoint::Side;
use crate::error::{Class, Error};
use crate::pace::{self, Held};
use crate::plan::{FieldTtl, KeyType, LanePlan, OnConflict, Plan, TtlPolicy};
use crate::progress::{ExpiriesBy, HeldBy, Life, StringsBy, StringsWrittenBy};
use crate::recorded::Entry;
use crate::renaming::Renaming;
use crate::selection::Selection;
use crate::state::record::{Position, QuarantineRecord};

mod big;
mod convert;
mod keyspace;
mod names;
mod nodes;
mod recording;
mod sets;
mod source;
mod strings;
mod target;
#[cfg(test)]
mod tests;
mod together;

use big::Big;
pub use big::{BigEnd, BigKey};
use keyspace::Expiries;
use recording::Recording;
use sets::{Sets, Written};
use source::Dumped;
use strings::Strings;
pub use target::LargePayload;
use together::Due;

/// Batches that are scanned and not yet durable. What a crash makes redknot copy again is at most this.
pub const IN_FLIGHT_BATCHES_MAX: u64 = 32;
/// A payload read longer ago than this is read again instead of being written: the process may have been frozen.
const READ_AGE_MAX: Duration = Duration::from_secs(5);
/// Tries of a key whose payload is damaged or whose reply nobody knows, before it is quarantined.
const KEY_TRIES_MAX: u8 = 2;
/// Keys that the target refused in a row, with none written, until the run stops: it is not the keys then.
const REFUSED_ALIKE_MAX: u64 = 100;

/// What the plan, the options and the servers' abilities make of every key.
#[derive(Debug, Clone)]
pub struct Rules {
    /// COUNT of each SCAN.
    pub batch_keys: u32,
    /// MATCH of each SCAN.
    pub match_glob: Option<Vec<u8>>,
    /// TYPE of each SCAN, where one type is asked for and the source knows the option.
    pub scan_type: Option<KeyType>,
    /// Types that are asked for key by key; empty: all.
    pub ask_types: Vec<KeyType>,
    /// Which of the names that come are moved; `None`: all.
    pub selection: Option<Selection>,
    /// What they are called on the target.
    pub renaming: Renaming,
    /// Names come from a list, and nothing is scanned.
    pub from_list: bool,
    /// Where they come from and go to.
    pub dbs: LanePlan,
    /// Names may be taken by keys of other databases: each is asked about before it is read.
    pub has_rivals: bool,
    /// The source is a cluster: it is walked by slots, with these names to ask about them.
    pub by_slot: Option<Rc<Probes>>,
    /// The target is a cluster: which of its nodes has which slot. Each node has as many connections as every other.
    pub routes: Option<Topology>,
    /// See [`ReadWith`].
    pub read_with: ReadWith,
    /// See [`WriteWith`].
    pub write_with: WriteWith,
    /// The source is a process that says who it is, so it may be asked how many keys of its database have an expiry.
    pub counts_expiries: bool,
    /// See [`CopyOptions::big_key`](super::CopyOptions::big_key).
    pub big_key: Option<u64>,
    /// See [`OnConflict`].
    pub on_conflict: OnConflict,
    /// See [`TtlPolicy`].
    pub ttl: TtlPolicy,
    /// See [`FieldTtl`].
    pub field_ttl: FieldTtl,
    /// What the target takes.
    pub takes: Takes,
    /// Ask the source for PEXPIRETIME instead of PTTL.
    pub expire_time: bool,
    /// The target knows ABSTTL.
    pub absttl: bool,
    /// Clocks that convert an instant; absent where TIME may not be asked.
    pub source_clock: Option<Clock>,
    /// See `source_clock`.
    pub target_clock: Option<Clock>,
    /// Largest argument that the target takes.
    pub payload_bytes_max: u64,
    /// Most payload bytes held.
    pub in_flight_bytes_max: u64,
    /// More quarantined keys than this end the run.
    pub quarantined_max: Option<u64>,
    /// The digest of each key is kept.
    pub record_digests: bool,
}

impl Rules {
    /// Takes a newer look at the source's clock; none keeps the older one.
    pub fn set_source_clock(&mut self, clock: Option<Clock>) {
        self.source_clock = clock.or(self.source_clock);
    }

    /// Takes a newer look at the target's clock; none keeps the older one.
    pub fn set_target_clock(&mut self, clock: Option<Clock>) {
        self.target_clock = clock.or(self.target_clock);
    }

    /// The part that the plan decides.
    pub fn filter(plan: &Plan, scan_type_known: bool) -> (Option<KeyType>, Vec<KeyType>) {
        match plan.types.as_slice() {
            [one] if scan_type_known => (Some(*one), Vec::new()),
            several => (None, several.to_vec()),
        }
    }
}

/// How keys are read and written. It is a matter of speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// How strings are read.
    pub strings: StringsBy,
    /// How they are written.
    pub strings_written: StringsWrittenBy,
    /// How their expiries are asked for.
    pub expiries: ExpiriesBy,
}

/// What ends the use of a connection, or the run.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// The connection, or the server behind it, is of no use for now.
    Link(LinkError),
    /// The run can't go on.
    Fatal(Box<Error>),
    /// The source does not know the cursor.
    CursorRefused(String),
    /// The next slots are at another node of the source, and nothing more is owed or to be asked here.
    NextNode,
    /// A slot is at a node of the target to which there is no connection.
    UnknownNode(NodeAddress),
}

impl From<LinkError> for Trouble {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

/// What the source owes an answer to, in the order in which it was asked.
enum Asked {
    Scan,
    /// MEMORY USAGE of a key, and what is to be asked of it if it is not big.
    Size(KeyRef, big::Then),
    /// DUMP and expiry of a key.
    Whole(KeyRef),
    /// MGET of these keys; those whose values have come are gone from it.
    Strings(VecDeque<KeyRef>),
    /// The expiry of each of the keys that the MGET before was about; so many are owed.
    Expiries(usize),
    /// MGET of these keys, likewise, together with how many keys of the database have an expiry.
    Together(VecDeque<KeyRef>),
    /// How many have, alone.
    Look,
}

/// What has come of the answer that is being read.
#[derive(Default)]
struct PartialRead {
    /// What TYPE said, where it is asked.
    wanted: Option<bool>,
    /// What DUMP said, and when.
    dumped: Option<(Dumped, Instant)>,
    /// One of the answers was that the key is at another node.
    elsewhere: bool,
    /// The elements of MGET's answer follow.
    in_array: bool,
    /// Where in the answers to a transaction.
    due: Due,
    /// Why it will not be executed.
    refused: Option<Bytes>,
    /// What DBSIZE said.
    dbsize: Option<u64>,
}

/// A value whose expiry is not known yet.
struct Valued {
    key: KeyRef,
    payload: Payload,
    read_at: Instant,
}

struct Sent {
    key: KeyRef,
    /// The answer to the ASKING in front of it is still to come.
    asking: bool,
    payload_bytes: u64,
    payload_type: Option<u8>,
    life: Life,
    /// As the source encoded it.
    dumped: bool,
    /// As it was encoded here, for this target.
    reencoded: bool,
    written: Written,
    /// What is kept of it once it is acknowledged.
    entry: Option<Entry>,
}

/// See the module.
pub struct Lane {
    /// May be exchanged when a connection is made anew.
    pub rules: Rules,
    /// Number of the pass, for what is quarantined.
    pass: u32,
    /// BUSYKEY may be our own write, in batches before this number.
    in_doubt_before: u64,
    scan: Walk,
    batches: VecDeque<Batch>,
    unread: VecDeque<KeyRef>,
    /// Unread keys that are to be read whole: MGET answered with nil, or their values found no room or were lost on their
    /// way.
    whole: VecDeque<KeyRef>,
    big: Big,
    /// Keys that are at another node of the source than their batch came from.
    strays: VecDeque<KeyRef>,
    /// Keys of which it is not known yet whether their names are free.
    unchecked: VecDeque<KeyRef>,
    /// Those of them that somebody asks about.
    being_checked: usize,
    /// Where a key's name on the target is put together.
    name_buffer: Vec<u8>,
    /// Boxed: it is taken out and put back for each key.
    recording: Option<Box<Recording>>,
    /// Keys whose slot is on its way on the target, and the connection on which they may be written.
    asking: HashMap<KeyRef, usize>,
    /// How often the target has sent a key elsewhere, since a connection was last made anew because of that.
    redirections: HashMap<KeyRef, u8>,
    asked: VecDeque<Asked>,
    /// Keys whose values are asked for.
    asked_keys: usize,
    partial: PartialRead,
    strings: Strings,
    expiries: Expiries,
    sets: Sets,
    /// What MGET said of the keys whose expiries come next; `None`: nothing that the expiry is needed for.
    valued: VecDeque<Option<Valued>>,
    valued_bytes: u64,
    ready: Vec<VecDeque<Ready>>,
    ready_bytes: u64,
    sent: Vec<VecDeque<Sent>>,
    tries: HashMap<KeyRef, u8>,
    /// Keys whose payloads the target refused, with its words: they are re-encoded.
    refused: HashMap<KeyRef, String>,
    /// Keys that the target already has and that may be ours: value against value decides.
    doubtful: VecDeque<KeyRef>,
    finished: VecDeque<FinishedBatch>,
    /// How many finished batches are durable, told by the engine.
    not_durable: u64,
    stopping: bool,
    /// See [`Window`].
    pub window: Window,
    /// What the limits allow.
    pub pace: pace::Shared,
    /// COUNT of a SCAN where no guard lowers it.
    batch_keys_max: u32,
    /// Why nothing may be read because the target has no room, if it has none.
    pub full: Option<String>,
    /// Bytes that may wait for the target: what it takes in about a second.
    ready_bytes_max: u64,
    /// Answers that brought something forward, ever; whoever waits for progress compares two looks.
    pub source_answers: u64,
    /// See `source_answers`.
    pub target_answers: u64,
    /// Payload bytes that the target acknowledged, ever.
    pub bytes_acknowledged: u64,
    refused_in_a_row: u64,
    quarantined: u64,
    /// A limit was passed; the engine ends the run.
    pub fatal: Option<Box<Error>>,
    /// Quarantined since the engine last looked, for the operator.
    pub quarantined_news: Vec<(Vec<u8>, String)>,
    /// What the operator should know since the engine last looked.
    pub notes: Vec<String>,
}

impl Lane {
    /// A lane that goes on at `position`, whose next batch is number `seq`.
    ///
    /// `in_doubt_batches`: that many batches from here on may have been written by a run that died before it could
    /// record them.
    pub fn new(
        rules: Rules,
        pass: u32,
        position: Position,
        seq: u64,
        connections: usize,
        in_doubt_batches: u64,
    ) -> Self {
        let in_flight_bytes_max = rules.in_flight_bytes_max;
        let batch_keys_max = rules.batch_keys;
        let strings = Strings::new(&rules);
        let expiries = Expiries::new(rules.counts_expiries);
        let sets = Sets::new(rules.write_with);
        let scan = Walk::new(&rules, position, seq);
        let big = Big::new(&rules);
        let recording = rules.record_digests.then(Box::default);
        Self {
            rules,
            pass,
            in_doubt_before: seq.saturating_add(in_doubt_batches),
            scan,
            batches: VecDeque::new(),
            unread: VecDeque::new(),
            whole: VecDeque::new(),
            big,
            strays: VecDeque::new(),
            unchecked: VecDeque::new(),
            being_checked: 0,
            name_buffer: Vec::new(),
            recording,
            asking: HashMap::new(),
            redirections: HashMap::new(),
            asked: VecDeque::new(),
            asked_keys: 0,
            partial: PartialRead::default(),
            strings,
            expiries,
            sets,
            valued: VecDeque::new(),
            valued_bytes: 0,
            ready: (0..connections).map(|_| VecDeque::new()).collect(),
            ready_bytes: 0,
            sent: (0..connections).map(|_| VecDeque::new()).collect(),
            tries: HashMap::new(),
            refused: HashMap::new(),
            doubtful: VecDeque::new(),
            finished: VecDeque::new(),
            not_durable: 0,
            stopping: false,
            window: Window::default(),
            pace: pace::Shared::default(),
            batch_keys_max,
            full: None,
            ready_bytes_max: in_flight_bytes_max,
            source_answers: 0,
            target_answers: 0,
            bytes_acknowledged: 0,
            refused_in_a_row: 0,
            quarantined: 0,
            fatal: None,
            quarantined_news: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Begins no further batch; those that were scanned are brought to their end.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Whether nothing is left to do: the scan is over, or was stopped, and every scanned key has its outcome, which was
    /// handed out.
    pub fn is_settled(&self) -> bool {
        self.batches.is_empty()
            && self.finished.is_empty()
            && (self.scan.is_over() || (self.stopping && !self.scan.in_flight()))
    }

    /// Whether the scan returned to 0 and every key has its outcome.
    pub fn is_complete(&self) -> bool {
        self.batches.is_empty() && self.scan.is_over()
    }

    /// Batches scanned and not durable.
    pub fn batches_in_flight(&self) -> u64 {
        // A finished batch that nobody has taken yet is one of them: without it a lane could be taken for complete
        // before its last batch was handed to the state store.
        (self.batches.len() + self.finished.len()) as u64 + self.not_durable
    }

    /// Whether the source owes an answer.
    pub fn source_owes(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether the target owes connection `connection` an answer.
    pub fn target_owes(&self, connection: usize) -> bool {
        !self.sent[connection].is_empty()
    }

    /// Batches that are finished, in SCAN's order, each handed out once.
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

    /// The target took `bytes_per_s` lately: what waits for it is kept to about a second's worth, so that nothing
    /// grows old while it waits.
    pub fn pace(&mut self, bytes_per_s: f64) {
        const LEAST: u64 = 64 * 1024;
        self.ready_bytes_max = (bytes_per_s as u64).clamp(
            LEAST.min(self.rules.in_flight_bytes_max),
            self.rules.in_flight_bytes_max,
        );
    }

    /// It is `now`, which decides how much the limits allow. Returns whether there are any.
    pub fn keep_pace(&mut self, now: impl FnOnce() -> Instant) -> bool {
        let mut pace = self.pace.borrow_mut();
        self.window.guard(pace.pressure());
        self.rules.batch_keys = pace.scan_keys(self.batch_keys_max);
        pace.window(self.window.times_smallest());
        pace.fill(now, self.asked_keys, self.window.payload_bytes())
    }

    /// Which limit holds the copy back at present.
    pub fn held(&self) -> Option<Held> {
        let full = self.full.clone().map(|reason| Held {
            by: HeldBy::Memory,
            side: Side::Target,
            reason,
        });
        full.or_else(|| self.pace.borrow().held())
    }

    /// Whether so much waits that the source must not be read for now. What waits for its expiry goes on only if it is read,
    /// so something must be there that the target can take.
    pub fn is_full(&self) -> bool {
        self.ready_bytes > 0 && self.held_bytes() >= self.ready_bytes_max
    }

    /// Bytes that wait for the target.
    pub fn ready_bytes(&self) -> u64 {
        self.ready_bytes
    }

    /// Bytes that wait for the target, or for their expiry.
    fn held_bytes(&self) -> u64 {
        self.ready_bytes + self.valued_bytes
    }

    /// Payload bytes that will be read because they were asked for, as far as can be told.
    pub fn bytes_asked(&self) -> u64 {
        self.asked_keys as u64 * self.window.payload_bytes()
    }

    /// Payload bytes that were read and that the target has not taken.
    pub fn bytes_on_their_way(&self) -> u64 {
        let sent: u64 = self
            .sent
            .iter()
            .flatten()
            .map(|sent| sent.payload_bytes)
            .sum();
        self.held_bytes() + sent
    }

    /// How keys are read and written at present.
    pub fn ways(&self) -> Ways {
        Ways {
            strings: self.strings.by(),
            strings_written: self.sets.by(self.strings.by()),
            expiries: match self.rules.ttl {
                TtlPolicy::Drop => ExpiriesBy::None,
                TtlPolicy::Keep => self.expiries.by(),
            },
        }
    }

    // ---- what becomes of a key

    fn batch(&self, key: KeyRef) -> &Batch {
        let first = self
            .batches
            .front()
            .expect("a key belongs to a batch in flight")
            .seq;
        &self.batches[(key.seq - first) as usize]
    }

    fn settle(&mut self, key: KeyRef, outcome: KeyOutcome) {
        if self.recording.is_some() {
            self.keep_unwritten(key, &outcome);
        }
        let first = self
            .batches
            .front()
            .expect("a key belongs to a batch in flight")
            .seq;
        let batch = &mut self.batches[(key.seq - first) as usize];
        batch.record(key.index, outcome);
        if batch.open() == 0 {
            self.hand_on();
        }
    }

    /// Moves finished batches out, as far as no older one is open.
    fn hand_on(&mut self) {
        while self.batches.front().is_some_and(|batch| batch.open() == 0) {
            let batch = self.batches.pop_front().expect("just looked at it");
            if !self.tries.is_empty() {
                self.tries.retain(|key, _| key.seq != batch.seq);
            }
            if !self.asking.is_empty() {
                self.asking.retain(|key, _| key.seq != batch.seq);
            }
            if !self.redirections.is_empty() {
                self.redirections.retain(|key, _| key.seq != batch.seq);
            }
            if !self.refused.is_empty() {
                self.refused.retain(|key, _| key.seq != batch.seq);
            }
            self.big.forget(batch.seq);
            self.finished.push_back(batch.finish());
        }
    }

    /// Reads the key once more, or gives it up if that has been tried.
    fn try_again_or_quarantine(
        &mut self,
        key: KeyRef,
        reason: &str,
        error: Option<String>,
        payload: Option<(u64, Option<u8>)>,
    ) {
        let tries = self.tries.entry(key).or_insert(0);
        *tries += 1;
        if *tries < KEY_TRIES_MAX {
            self.unread.push_back(key);
        } else {
            self.quarantine(key, reason.to_owned(), error, payload);
        }
    }

    fn quarantine(
        &mut self,
        key: KeyRef,
        reason: String,
        error: Option<String>,
        payload: Option<(u64, Option<u8>)>,
    ) {
        let name = self.batch(key).name(key.index).to_vec();
        let shown = match &error {
            Some(error) => format!("{reason}: {error}"),
            None => reason.clone(),
        };
        self.quarantined_news.push((name, shown));
        self.quarantined += 1;
        if self
            .rules
            .quarantined_max
            .is_some_and(|max| self.quarantined > max)
        {
            let cause = format!(
                "{} keys could not be copied, more than --max-quarantine allows",
                self.quarantined
            );
            self.fatal = Some(Box::new(
                Error::new(Class::Incompatible, "copy the keys", cause)
                    .hint("look at the reasons above; run the same command with a higher --max-quarantine to go on"),
            ));
        }
        let record = QuarantineRecord {
            pass: self.pass,
            seq: key.seq,
            reason,
            error,
            payload_bytes: payload.map(|(bytes, _)| bytes),
            payload_type: payload.and_then(|(_, kind)| kind),
            at_ms: unix_ms(),
        };
        self.settle(key, KeyOutcome::Quarantined(Box::new(record)));
    }
}
