//! A lane that keeps to limits: it asks no faster, and finds the same.

use super::*;
use crate::endpoint;
use crate::pace::Pace;
use crate::progress::{HeldBy, Limits};

/// Commands that a side was sent.
#[derive(Default)]
struct Sent {
    words: Vec<Vec<Bytes>>,
}

impl Sent {
    /// Keys that these commands were about.
    fn keys_of(&self, command: &str) -> usize {
        let of = |words: &&Vec<Bytes>| words[0] == command.as_bytes();
        self.words
            .iter()
            .filter(of)
            .map(|words| words.len() - 1)
            .sum()
    }
}

fn limited(limits: Limits) -> Pace {
    let spared = &[endpoint::Side::Source, endpoint::Side::Target];
    Pace::new(endpoint::Side::Source, spared, limits)
}

fn keys_per_s(keys: u64) -> Pace {
    limited(Limits {
        keys_per_s: Some(keys),
        ..Limits::default()
    })
}

/// Both sides answer at once, every ten milliseconds for so long. Returns what each was sent, and whether all is done.
fn play_for(
    lane: &mut Lane,
    servers: &mut [Played; 2],
    time: Duration,
    counters: &mut CompareCounters,
) -> ([Sent; 2], bool) {
    let began = Instant::now();
    let mut sent = [Sent::default(), Sent::default()];
    for step in 0..time.as_millis() / 10 {
        let now = began + Duration::from_millis(10) * step as u32;
        for side in [SOURCE, TARGET] {
            lane.keep_pace(|| now);
            lane.request(side, 0, &mut servers[side].input);
            while let Some(command) = servers[side].command() {
                for token in servers[side].answer(&command) {
                    lane.token(side, 0, token, now)
                        .expect("no trouble is played");
                }
                sent[side].words.push(command);
            }
        }
        while let Some(batch) = lane.take_finished() {
            lane.durable(1);
            counters.add(&batch.counted.counters);
        }
        if lane.is_settled() {
            return (sent, true);
        }
    }
    (sent, false)
}

fn numbered(count: u32) -> Keys {
    let key = |n: u32| (format!("key:{n:05}").into_bytes(), vec![b'v'; 20]);
    (0..count).map(key).collect()
}

fn played(keys: &Keys) -> [Played; 2] {
    [SOURCE, TARGET].map(|_| Played::new(keys, true))
}

#[test]
fn both_sides_are_asked_for_no_more_keys_than_the_rate_allows() {
    for strings in [false, true] {
        let mut lane = lane(CompareStage::Source, strings);
        lane.pace = std::rc::Rc::new(keys_per_s(100).into());
        let (mut servers, mut counters) = (played(&numbered(1_000)), CompareCounters::default());
        let time = Duration::from_secs(3);
        let (sent, over) = play_for(&mut lane, &mut servers, time, &mut counters);
        assert!(!over);
        for sent in sent {
            // Each key is asked for its expiry once.
            let keys = sent.keys_of("PTTL");
            assert!((285..=315).contains(&keys), "{strings}: {keys}");
        }
        let held = lane.pace.borrow().held().map(|held| held.by);
        assert_eq!(held, Some(HeldBy::Rate));
    }
}

#[test]
fn a_lane_that_keeps_to_limits_finds_the_same() {
    let (source, mut target) = (numbered(100), numbered(90));
    target.insert(b"key:00007".to_vec(), b"another".to_vec());
    for strings in [false, true] {
        let free = lane(CompareStage::Source, strings);
        let (wanted, _) = play(free, [source.clone(), target.clone()], true, &[]);
        let mut lane = lane(CompareStage::Source, strings);
        let pace = limited(Limits {
            keys_per_s: Some(200),
            bytes_per_s: Some(2048),
            latency_us: None,
        });
        lane.pace = std::rc::Rc::new(pace.into());
        let mut servers = [Played::new(&source, true), Played::new(&target, true)];
        let mut counters = CompareCounters::default();
        let time = Duration::from_secs(20);
        let (_, over) = play_for(&mut lane, &mut servers, time, &mut counters);
        assert!(over);
        counters.target_keys_scanned = wanted.target_keys_scanned;
        assert_eq!(counters, wanted);
    }
}

#[test]
fn names_that_are_only_looked_for_count_a_tenth() {
    let mut lane = lane(CompareStage::Target, false);
    lane.pace = std::rc::Rc::new(keys_per_s(10).into());
    let (mut servers, mut counters) = (played(&numbered(1_000)), CompareCounters::default());
    let time = Duration::from_secs(3);
    let (sent, over) = play_for(&mut lane, &mut servers, time, &mut counters);
    assert!(!over);
    let names = sent[SOURCE].keys_of("EXISTS");
    assert!((250..=350).contains(&names), "{names}");
}

#[test]
fn nothing_is_asked_while_a_side_is_measured() {
    let mut lane = lane(CompareStage::Source, true);
    let pace = limited(Limits {
        latency_us: Some(5_000),
        ..Limits::default()
    });
    lane.pace = std::rc::Rc::new(pace.into());
    let (mut servers, mut counters) = (played(&numbered(100)), CompareCounters::default());
    let time = Duration::from_secs(1);
    let (sent, over) = play_for(&mut lane, &mut servers, time, &mut counters);
    assert!(!over);
    assert!(sent.iter().all(|sent| sent.words.is_empty()));
    assert!(lane.keep_pace(Instant::now), "only time is missing");
    lane.pace.borrow_mut().change(Limits::default());
    let (_, over) = play_for(&mut lane, &mut servers, time, &mut counters);
    assert!(over);
    assert_eq!(counters.equal, 100);
}
