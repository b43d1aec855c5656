//! A lane between a source and a target that are played here: every order of answers, losses and errors.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::plan::LanePlan;
use crate::rdb::string;
use crate::renaming::Renaming;
use crate::resp::{Decoder, Token};

mod as_strings;
mod big;
mod convert;
mod counted;
mod nodes;
mod recording;
mod sets;
mod together;

/// What DUMP answers for a string.
fn payload(value: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    string::append_payload(&mut out, value);
    out.freeze()
}

/// A DUMP payload of redis 7.0 with a right checksum around any body that is no string's.
fn hash(value: &[u8]) -> Bytes {
    let mut bytes = vec![4];
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(&10_u16.to_le_bytes());
    let checksum = crate::rdb::footer::crc64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.into()
}

/// What MGET answers for a key that DUMP answers so for.
fn string_in(payload: &Bytes) -> Option<Bytes> {
    let head = match payload[..2] {
        [0, ..0x40] => 2,
        [0, 0x40..0x80] => 3,
        [0, _] => 6,
        _ => return None,
    };
    Some(payload.slice(head..payload.len() - crate::rdb::footer::FOOTER_BYTES))
}

pub fn rules() -> Rules {
    Rules {
        batch_keys: 3,
        match_glob: None,
        scan_type: None,
        ask_types: vec![],
        selection: None,
        renaming: Renaming::default(),
        from_list: false,
        dbs: LanePlan {
            source_db: 0,
            target_db: 0,
        },
        has_rivals: false,
        by_slot: None,
        routes: None,
        read_with: ReadWith::Auto,
        write_with: WriteWith::Auto,
        counts_expiries: false,
        big_key: None,
        on_conflict: OnConflict::RequireEmpty,
        ttl: TtlPolicy::Keep,
        field_ttl: FieldTtl::Quarantine,
        takes: Takes {
            dialect: crate::rdb::dialect::Dialect::of_accepted(6..=10).expect("not empty"),
            modules: vec![],
        },
        expire_time: true,
        absttl: true,
        source_clock: None,
        target_clock: None,
        payload_bytes_max: 1 << 20,
        in_flight_bytes_max: 1 << 20,
        quarantined_max: None,
        record_digests: false,
    }
}

fn bulk(bytes: &[u8]) -> Token {
    Token::Bulk(Bytes::copy_from_slice(bytes))
}

fn error(line: &'static str) -> Token {
    Token::Error(Bytes::from_static(line.as_bytes()))
}

/// The commands in a buffer, each as its arguments.
fn commands(out: &mut BytesMut) -> Vec<Vec<Bytes>> {
    let mut decoder = Decoder::new();
    let mut commands: Vec<Vec<Bytes>> = Vec::new();
    while let Some(token) = decoder.next(out).expect("we speak RESP") {
        match token {
            Token::Array(_) => commands.push(Vec::new()),
            Token::Bulk(argument) => commands
                .last_mut()
                .expect("an array comes first")
                .push(argument),
            other => panic!("commands are arrays of bulks: {other:?}"),
        }
    }
    assert!(out.is_empty(), "half a command");
    commands
}

/// A source whose cursor is an index, answering command by command. Every third key is no string.
struct Source {
    keys: Vec<(Vec<u8>, Option<Bytes>, i64)>,
    answers: VecDeque<Token>,
    /// Keys of one answer to SCAN.
    scan_keys: usize,
    /// What came since MULTI.
    queued: Option<Vec<Vec<Bytes>>>,
}

impl Source {
    fn new(keys: usize) -> Self {
        let key = |index: usize| {
            let value = format!("value {index}").into_bytes();
            let payload = match index % 3 {
                2 => hash(&value),
                _ => payload(&value),
            };
            (format!("key:{index}").into_bytes(), Some(payload), -1)
        };
        Self {
            keys: (0..keys).map(key).collect(),
            answers: VecDeque::new(),
            scan_keys: 3,
            queued: None,
        }
    }

    fn find(&self, name: &[u8]) -> (Option<Bytes>, i64) {
        let found = self.keys.iter().find(|(key, _, _)| key == name);
        found.map_or((None, -2), |(_, value, expiry)| {
            (value.clone(), if value.is_some() { *expiry } else { -2 })
        })
    }

    fn serve(&mut self, out: &mut BytesMut) {
        let simple = |text: &'static [u8]| Token::Simple(Bytes::from_static(text));
        for command in commands(out) {
            match (&command[0][..], &mut self.queued) {
                (b"MULTI", _) => {
                    self.queued = Some(Vec::new());
                    self.answers.push_back(simple(b"OK"));
                }
                (b"EXEC", queued) => {
                    let queued = queued.take().expect("MULTI comes first");
                    self.answers.push_back(Token::Array(queued.len()));
                    queued.iter().for_each(|command| self.execute(command));
                }
                (_, Some(queued)) => {
                    queued.push(command);
                    self.answers.push_back(simple(b"QUEUED"));
                }
                (_, None) => self.execute(&command),
            }
        }
    }

    /// How many keys there are, and how many of them have an expiry.
    fn counts(&self) -> (usize, usize) {
        let there = || self.keys.iter().filter(|(_, value, _)| value.is_some());
        let expire = there().filter(|(_, _, expiry)| *expiry != -1);
        (there().count(), expire.count())
    }

    fn execute(&mut self, command: &[Bytes]) {
        match &command[0][..] {
            b"SCAN" => {
                let from: usize = std::str::from_utf8(&command[1])
                    .expect("digits")
                    .parse()
                    .expect("digits");
                let until = (from + self.scan_keys).min(self.keys.len());
                let next = if until == self.keys.len() { 0 } else { until };
                self.answers.push_back(Token::Array(2));
                self.answers.push_back(bulk(next.to_string().as_bytes()));
                self.answers.push_back(Token::Array(until - from));
                self.answers
                    .extend(self.keys[from..until].iter().map(|(name, _, _)| bulk(name)));
            }
            b"DUMP" => self
                .answers
                .push_back(self.find(&command[1]).0.map_or(Token::Null, Token::Bulk)),
            b"MGET" => {
                self.answers.push_back(Token::Array(command.len() - 1));
                for name in &command[1..] {
                    let value = self.find(name).0.as_ref().and_then(string_in);
                    self.answers
                        .push_back(value.map_or(Token::Null, Token::Bulk));
                }
            }
            b"PEXPIRETIME" | b"PTTL" => self
                .answers
                .push_back(Token::Integer(self.find(&command[1]).1)),
            b"TYPE" => self
                .answers
                .push_back(Token::Simple(Bytes::from_static(b"string"))),
            b"DBSIZE" => {
                let (keys, _) = self.counts();
                self.answers.push_back(Token::Integer(keys as i64));
            }
            b"INFO" => {
                let line = match self.counts() {
                    (0, _) => String::new(),
                    (keys, expires) => {
                        format!("db0:keys={keys},expires={expires},avg_ttl=0\r\n")
                    }
                };
                self.answers
                    .push_back(bulk(format!("# Keyspace\r\n{line}").as_bytes()));
            }
            other => panic!("a lane must not send {other:?}"),
        }
    }
}

/// A target that executes in order and answers later.
#[derive(Default)]
struct Target {
    keys: BTreeMap<Vec<u8>, (Bytes, i64)>,
    /// SETs and RESTOREs.
    writes: usize,
    sets: usize,
    answers: VecDeque<Token>,
}

impl Target {
    fn serve(&mut self, out: &mut BytesMut) {
        for command in commands(out) {
            let number = |argument: &Bytes| -> i64 {
                let digits = std::str::from_utf8(argument).expect("digits");
                digits.parse().expect("digits")
            };
            let has = |option: &[u8]| command.iter().skip(3).any(|argument| argument == option);
            let (value, ttl, replace, refusal) = match &command[0][..] {
                b"RESTORE" => {
                    let refusal = error("BUSYKEY Target key name already exists.");
                    let ttl = number(&command[2]);
                    (command[3].clone(), ttl, has(b"REPLACE"), refusal)
                }
                b"SET" => {
                    self.sets += 1;
                    let ttl = match has(b"PX") || has(b"PXAT") {
                        true => number(command.last().expect("an option")),
                        false => 0,
                    };
                    (payload(&command[2]), ttl, !has(b"NX"), Token::Null)
                }
                other => panic!("a lane must not send {other:?}"),
            };
            self.writes += 1;
            if !replace && self.keys.contains_key(&command[1][..]) {
                self.answers.push_back(refusal);
                continue;
            }
            self.keys.insert(command[1].to_vec(), (value, ttl));
            self.answers
                .push_back(Token::Simple(Bytes::from_static(b"OK")));
        }
    }
}

/// One exchange with the source: what the lane asks is answered, all of it. Whether it asked anything.
fn ask(lane: &mut Lane, source: &mut Source, now: Instant) -> bool {
    let mut out = BytesMut::new();
    lane.request(&mut out);
    let asked = !out.is_empty();
    source.serve(&mut out);
    while let Some(token) = source.answers.pop_front() {
        lane.source_token(token, now).expect("a right answer");
    }
    asked
}

/// Asks as long as the lane wants to know something.
fn read_all(lane: &mut Lane, source: &mut Source, now: Instant) {
    while ask(lane, source, now) {}
}

fn write(lane: &mut Lane, target: &mut Target, now: Instant) {
    let mut out = BytesMut::new();
    while let Some(large) = lane.write(0, &mut out, now) {
        out.extend_from_slice(&large.bytes);
        large.encode_tail(&mut out);
    }
    target.serve(&mut out);
}

/// Runs to the end without any trouble; returns the finished batches.
fn finish(lane: &mut Lane, source: &mut Source, target: &mut Target) -> Vec<FinishedBatch> {
    let mut finished = Vec::new();
    for _ in 0..10_000 {
        let now = Instant::now();
        ask(lane, source, now);
        write(lane, target, now);
        while let Some(token) = target.answers.pop_front() {
            lane.target_token(0, token).expect("no trouble is played");
        }
        while let Some(batch) = lane.take_finished() {
            lane.durable(1);
            finished.push(batch);
        }
        if lane.is_complete() {
            return finished;
        }
    }
    panic!("the lane does not come to its end");
}

fn total(batches: &[FinishedBatch]) -> crate::progress::Counters {
    let mut total = crate::progress::Counters::default();
    batches.iter().for_each(|batch| total.add(&batch.counters));
    total
}

#[derive(Debug, Clone)]
enum Step {
    Request,
    SourceAnswers(usize),
    Write,
    TargetAnswers(usize),
    LoseSource,
    /// The target executes everything; its answers are lost.
    LoseTarget,
    /// The next answer of the target is this error instead.
    TargetSays(&'static str),
    SourceSays(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Request),
        4 => (1..20_usize).prop_map(Step::SourceAnswers),
        4 => Just(Step::Write),
        4 => (1..20_usize).prop_map(Step::TargetAnswers),
        1 => Just(Step::LoseSource),
        1 => Just(Step::LoseTarget),
        1 => prop_oneof![Just("OOM command not allowed"), Just("LOADING Redis is loading"), Just("READONLY You can't")].prop_map(Step::TargetSays),
        1 => Just(Step::SourceSays("LOADING Redis is loading")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is lost on the way: cursors leave in order and only behind their keys, each key gets one outcome,
    /// and the target ends up equal to the source.
    #[test]
    fn nothing_is_lost_and_no_cursor_runs_ahead(
        keys in 0..60_usize,
        read_with in prop_oneof![Just(ReadWith::Auto), Just(ReadWith::Dump)],
        write_with in prop_oneof![Just(WriteWith::Auto), Just(WriteWith::Restore)],
        counts_expiries in any::<bool>(),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut source = Source::new(keys);
        let mut target = Target::default();
        let rules = Rules { read_with, write_with, counts_expiries, record_digests: true, ..rules() };
        let mut lane = Lane::new(rules, 1, Position::Start, 0, 1, 0);
        let mut finished = Vec::new();
        for step in steps {
            let now = Instant::now();
            let mut trouble = false;
            match step {
                Step::Request => {
                    let mut out = BytesMut::new();
                    lane.request(&mut out);
                    source.serve(&mut out);
                }
                Step::SourceAnswers(count) => {
                    for _ in 0..count {
                        let Some(token) = source.answers.pop_front() else { break };
                        lane.source_token(token, now).expect("a right answer");
                    }
                }
                Step::Write => write(&mut lane, &mut target, now),
                Step::TargetAnswers(count) => {
                    for _ in 0..count {
                        let Some(token) = target.answers.pop_front() else { break };
                        lane.target_token(0, token).expect("a right answer");
                    }
                }
                Step::LoseSource => {
                    source.answers.clear();
                    lane.source_lost();
                }
                Step::LoseTarget => trouble = true,
                Step::TargetSays(line) => {
                    if target.answers.pop_front().is_some() {
                        prop_assert!(matches!(lane.target_token(0, error(line)), Err(Trouble::Link(_))));
                        trouble = true;
                    }
                }
                Step::SourceSays(line) => {
                    // Among the elements of an array an error would be one of them; between replies it is not.
                    let between = !lane.partial.in_array
                        && matches!(source.answers.front(), Some(Token::Array(_) | Token::Null | Token::Integer(_)));
                    if between {
                        prop_assert!(matches!(lane.source_token(error(line), now), Err(Trouble::Link(_))));
                        source.answers.clear();
                        lane.source_lost();
                    }
                }
            }
            if trouble {
                target.answers.clear();
                lane.target_lost(0);
            }
            while let Some(batch) = lane.take_finished() {
                for index in batch.cursor_in as usize..if batch.cursor_out == 0 { keys } else { batch.cursor_out as usize } {
                    prop_assert!(target.keys.contains_key(&source.keys[index].0), "the cursor is ahead of a key");
                }
                finished.push(batch);
            }
        }
        finished.extend(finish(&mut lane, &mut source, &mut target));
        let cursors: Vec<(u64, u64)> = finished.iter().map(|batch| (batch.cursor_in, batch.cursor_out)).collect();
        prop_assert_eq!(cursors[0].0, 0);
        prop_assert_eq!(cursors.last().map(|last| last.1), Some(0));
        prop_assert!(cursors.windows(2).all(|pair| pair[0].1 == pair[1].0), "a broken chain: {:?}", cursors);
        prop_assert!(total(&finished).balance());
        prop_assert_eq!(total(&finished).keys_written, keys as u64);
        prop_assert_eq!(target.keys.len(), keys);
        for (name, value, _) in &source.keys {
            prop_assert_eq!(Some(&target.keys[name].0), value.as_ref());
        }
        prop_assert_eq!(recording::kept(&finished), recording::held(&target));
    }
}

#[test]
fn a_key_with_an_expiry_never_becomes_permanent() {
    let now = Instant::now();
    let clock = |unix_ms| {
        Some(Clock {
            read_at: now,
            unix_ms,
            uncertainty_ms: 1,
        })
    };
    let check = |answer: i64, change: fn(&mut Rules), wanted: Option<i64>| {
        let mut rules = Rules {
            source_clock: clock(1_000_000),
            target_clock: clock(5_000_000),
            ..rules()
        };
        change(&mut rules);
        let mut source = Source::new(1);
        source.keys[0].2 = answer;
        let mut target = Target::default();
        let mut lane = Lane::new(rules, 1, Position::Start, 0, 1, 0);
        let counters = total(&finish(&mut lane, &mut source, &mut target));
        let written = target.keys.values().next().map(|(_, ttl)| *ttl);
        match wanted {
            // The played clocks go on with ours, so an instant made from time left may be a little later.
            Some(wanted) => assert!(
                written.is_some_and(|ttl| (wanted..wanted + 2000).contains(&ttl)),
                "{answer}: {written:?}"
            ),
            None => assert_eq!((written, counters.keys_vanished), (None, 1), "{answer}"),
        }
    };
    // PEXPIRETIME: an instant of the source's clock.
    check(-1, |_| {}, Some(0));
    check(1_100_000, |_| {}, Some(1_100_000));
    check(999_999, |_| {}, None);
    // PTTL onto the target's clock.
    let relative: fn(&mut Rules) = |rules| rules.expire_time = false;
    check(-1, relative, Some(0));
    check(60_000, relative, Some(5_060_000));
    check(0, relative, None);
    // PTTL as time left, for a target without ABSTTL: never more than was left.
    let mut lane = Lane::new(
        Rules {
            expire_time: false,
            absttl: false,
            ..rules()
        },
        1,
        Position::Start,
        0,
        1,
        0,
    );
    let mut source = Source::new(1);
    source.keys[0].2 = 60_000;
    let mut target = Target::default();
    finish(&mut lane, &mut source, &mut target);
    let ttl = target.keys.values().next().expect("written").1;
    assert!((59_000..=60_000).contains(&ttl), "{ttl}");
}

#[test]
fn what_waited_too_long_is_read_again() {
    let mut source = Source::new(1);
    let mut target = Target::default();
    let mut lane = Lane::new(rules(), 1, Position::Start, 0, 1, 0);
    let long_ago = Instant::now();
    read_all(&mut lane, &mut source, long_ago);
    write(
        &mut lane,
        &mut target,
        long_ago + READ_AGE_MAX + Duration::from_millis(1),
    );
    assert_eq!(target.writes, 0);
    source.keys[0].1 = Some(payload(b"newer"));
    finish(&mut lane, &mut source, &mut target);
    assert_eq!(
        target.keys.values().next().expect("written").0,
        payload(b"newer")
    );
}

#[test]
fn a_damaged_payload_is_read_again_and_then_quarantined_alone() {
    let mut source = Source::new(5);
    let mut damaged = source.keys[2].1.clone().expect("has a value").to_vec();
    damaged[1] ^= 1;
    source.keys[2].1 = Some(damaged.into());
    let mut target = Target::default();
    let mut lane = Lane::new(rules(), 1, Position::Start, 0, 1, 0);
    let counters = total(&finish(&mut lane, &mut source, &mut target));
    assert_eq!((counters.keys_written, counters.keys_quarantined), (4, 1));
    assert_eq!(lane.quarantined_news.len(), 1);
}

#[test]
fn a_refused_key_does_not_keep_its_neighbours_back() {
    let mut source = Source::new(3);
    let mut target = Target::default();
    let mut lane = Lane::new(rules(), 1, Position::Start, 0, 1, 0);
    let now = Instant::now();
    read_all(&mut lane, &mut source, now);
    write(&mut lane, &mut target, now);
    // Not only this encoding: another is tried.
    target.answers[1] = error("ERR Bad data format");
    while let Some(token) = target.answers.pop_front() {
        lane.target_token(0, token).expect("no trouble");
    }
    read_all(&mut lane, &mut source, now);
    write(&mut lane, &mut target, now);
    if let Some(again) = target.answers.front_mut() {
        *again = error("ERR Bad data format");
    }
    let batches = finish(&mut lane, &mut source, &mut target);
    assert_eq!(
        (
            total(&batches).keys_written,
            total(&batches).keys_quarantined
        ),
        (2, 1)
    );
    let (name, record) = &batches[0].quarantined[0];
    assert_eq!(name, b"key:1");
    assert_eq!(record.error.as_deref(), Some("ERR Bad data format"));
}

#[test]
fn a_hundred_refusals_without_one_key_written_are_not_about_the_keys() {
    let mut lane = Lane::new(
        Rules {
            batch_keys: 3,
            ..rules()
        },
        1,
        Position::Start,
        0,
        1,
        0,
    );
    let mut source = Source::new(300);
    let mut target = Target::default();
    for _ in 0..1000 {
        let now = Instant::now();
        ask(&mut lane, &mut source, now);
        write(&mut lane, &mut target, now);
        while target.answers.pop_front().is_some() {
            match lane.target_token(0, error("ERR DUMP payload version or checksum are wrong")) {
                Ok(()) => {}
                Err(Trouble::Fatal(error)) => {
                    assert_eq!(error.class, Class::Incompatible);
                    return;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        while lane.take_finished().is_some() {
            lane.durable(1);
        }
    }
    panic!("the run goes on although nothing can be written");
}

#[test]
fn conflicts_follow_the_policy_and_our_own_writes_are_none() {
    let mut source = Source::new(3);
    let mut target = Target::default();
    target
        .keys
        .insert(b"key:1".to_vec(), (payload(b"theirs"), 0));
    let skip = Rules {
        on_conflict: OnConflict::Skip,
        ..rules()
    };
    let mut lane = Lane::new(skip.clone(), 1, Position::Start, 0, 1, 0);
    let counters = total(&finish(&mut lane, &mut source, &mut target));
    assert_eq!((counters.keys_written, counters.keys_kept), (2, 1));
    assert_eq!(target.keys[&b"key:1"[..]].0, payload(b"theirs"));

    // The same again by a run that can't know what the one before it wrote: value against value decides.
    let mut lane = Lane::new(skip, 1, Position::Start, 0, 1, 64);
    let now = Instant::now();
    read_all(&mut lane, &mut source, now);
    write(&mut lane, &mut target, now);
    while let Some(token) = target.answers.pop_front() {
        lane.target_token(0, token).expect("no trouble yet");
    }
    assert!(lane.take_finished().is_none(), "nothing is decided yet");
    while let Some((key, name)) = lane.take_doubtful() {
        lane.doubt_settled(key, name != b"key:1")
            .expect("no trouble under skip");
    }
    let counters = lane.take_finished().expect("all are decided").counters;
    assert_eq!((counters.keys_written, counters.keys_kept), (2, 1));
}

/// The state store is told by whoever takes the batch; a clock that ticks in between must not find the lane complete.
#[test]
fn a_finished_batch_is_in_flight_until_it_was_taken_and_is_durable() {
    let mut source = Source::new(0);
    let mut lane = Lane::new(rules(), 1, Position::Start, 0, 1, 0);
    let mut out = BytesMut::new();
    lane.request(&mut out);
    source.serve(&mut out);
    while let Some(token) = source.answers.pop_front() {
        lane.source_token(token, Instant::now())
            .expect("a right answer");
    }
    assert!(lane.is_complete(), "an empty database is one empty batch");
    assert_eq!(lane.batches_in_flight(), 1);
    assert!(!lane.is_settled());
    lane.take_finished().expect("one batch");
    assert_eq!(lane.batches_in_flight(), 1);
    lane.durable(1);
    assert_eq!(lane.batches_in_flight(), 0);
}

#[test]
fn types_that_nobody_asked_for_are_filtered() {
    let mut source = Source::new(4);
    let mut target = Target::default();
    let mut lane = Lane::new(
        Rules {
            ask_types: vec![KeyType::Hash],
            ..rules()
        },
        1,
        Position::Start,
        0,
        1,
        0,
    );
    let counters = total(&finish(&mut lane, &mut source, &mut target));
    assert_eq!(
        (counters.keys_filtered, counters.keys_written, target.writes),
        (4, 0, 0)
    );
}

#[test]
fn no_more_than_the_allowed_bytes_are_asked_for() {
    let mut lane = Lane::new(
        Rules {
            in_flight_bytes_max: 4096,
            ..rules()
        },
        1,
        Position::Start,
        0,
        1,
        0,
    );
    let mut source = Source::new(100);
    for key in &mut source.keys {
        key.1 = Some(payload(&[7; 1000]));
    }
    let now = Instant::now();
    for _ in 0..100 {
        ask(&mut lane, &mut source, now);
    }
    assert!(
        lane.is_full() || lane.ready_bytes() + 1100 > 4096,
        "{}",
        lane.ready_bytes()
    );
    assert!(lane.ready_bytes() < 3 * 4096, "{}", lane.ready_bytes());
}

#[test]
fn batches_in_flight_are_bounded_until_they_are_durable() {
    let mut lane = Lane::new(rules(), 1, Position::Start, 0, 1, 0);
    let mut source = Source::new(3000);
    let mut target = Target::default();
    let mut handed_out = 0;
    for _ in 0..3000 {
        let now = Instant::now();
        ask(&mut lane, &mut source, now);
        write(&mut lane, &mut target, now);
        while let Some(token) = target.answers.pop_front() {
            lane.target_token(0, token).expect("a right answer");
        }
        while lane.take_finished().is_some() {
            handed_out += 1;
        }
    }
    assert_eq!(handed_out, IN_FLIGHT_BATCHES_MAX);
}
