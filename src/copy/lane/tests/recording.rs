//! What is kept of each key, whatever became of it.

use super::*;
use crate::recorded::{Digesting, ENTRY_BYTES, Entry, Outcome, Value};

fn recording() -> Rules {
    Rules {
        record_digests: true,
        ..rules()
    }
}

/// The entries of all batches, in the order of names.
pub fn kept(batches: &[FinishedBatch]) -> Vec<[u8; ENTRY_BYTES]> {
    let entries = batches
        .iter()
        .flat_map(|batch| batch.recorded.chunks(ENTRY_BYTES))
        .map(|entry| *Entry::parse(entry).expect("a whole entry").as_bytes());
    sorted(entries.collect())
}

/// The entries of what a target holds, whose instants are absolute.
pub fn held(target: &Target) -> Vec<[u8; ENTRY_BYTES]> {
    let entries = target.keys.iter().map(|(name, (value, ttl))| {
        let expires = (*ttl != 0).then_some(*ttl);
        *Digesting::new()
            .entry(name, Value::Payload(value), expires, 0)
            .as_bytes()
    });
    sorted(entries.collect())
}

fn sorted(mut entries: Vec<[u8; ENTRY_BYTES]>) -> Vec<[u8; ENTRY_BYTES]> {
    entries.sort_unstable();
    entries
}

fn copied(rules: Rules, source: &mut Source, target: &mut Target) -> Vec<FinishedBatch> {
    let mut lane = Lane::new(rules, 1, Position::Start, 0, 1, 0);
    finish(&mut lane, source, target)
}

#[test]
fn nothing_is_kept_unless_it_was_asked_for() {
    let batches = copied(rules(), &mut Source::new(5), &mut Target::default());
    assert!(batches.iter().all(|batch| batch.recorded.is_empty()));
}

#[test]
fn an_entry_says_what_the_target_was_given_under_its_name_there() {
    let mut source = Source::new(6);
    for (number, key) in source.keys.iter_mut().enumerate() {
        key.2 = [-1, 4_000_000_000_000][number % 2];
    }
    let rules = Rules {
        renaming: Renaming::of(
            &Plan {
                prefix: Some(b"new:".to_vec()),
                ..Plan::default()
            },
            0,
        ),
        ..recording()
    };
    let mut target = Target::default();
    let batches = copied(rules, &mut source, &mut target);
    assert!(target.keys.contains_key(&b"new:key:1"[..]));
    assert_eq!(kept(&batches), held(&target));
}

#[test]
fn time_left_is_kept_as_an_instant_of_the_targets_clock() {
    let clock = crate::client::Clock {
        read_at: Instant::now(),
        unix_ms: 5_000_000,
        uncertainty_ms: 0,
    };
    for absttl in [false, true] {
        let rules = Rules {
            expire_time: false,
            absttl,
            target_clock: Some(clock),
            ..recording()
        };
        let mut source = Source::new(1);
        source.keys[0].2 = 60_000;
        let batches = copied(rules, &mut source, &mut Target::default());
        let entry = Entry::parse(&batches[0].recorded).expect("one entry");
        let Outcome::Value(recorded) = entry.outcome() else {
            panic!("{entry:?}")
        };
        let expires = recorded.expires_ms.expect("it expires");
        assert!((5_059_900..5_070_000).contains(&expires), "{expires}");
    }
}

#[test]
fn what_has_no_value_of_ours_is_said() {
    let mut source = Source::new(4);
    // Gone, damaged, and on the target already.
    source.keys[0].1 = None;
    let mut damaged = source.keys[2].1.as_ref().map(|payload| payload.to_vec());
    damaged.iter_mut().for_each(|payload| payload[2] ^= 1);
    source.keys[2].1 = damaged.map(Bytes::from);
    let mut target = Target::default();
    target
        .keys
        .insert(b"key:1".to_vec(), (payload(b"theirs"), 0));
    let rules = Rules {
        on_conflict: OnConflict::Skip,
        ..recording()
    };
    let batches = copied(rules, &mut source, &mut target);
    let value = Digesting::new().entry(b"key:3", Value::String(b"value 3"), None, 0);
    let wanted = [
        Entry::new(b"key:0", Outcome::Gone),
        Entry::new(b"key:1", Outcome::Kept),
        Entry::new(b"key:2", Outcome::Quarantined),
        value,
    ];
    let wanted = wanted.iter().map(|entry| *entry.as_bytes()).collect();
    assert_eq!(kept(&batches), sorted(wanted));
}

/// What is kept of a key of which it was in doubt whether the target's value is ours.
fn kept_of_doubtful(held: Option<(Vec<u8>, Option<i64>)>) -> Vec<[u8; ENTRY_BYTES]> {
    let rules = Rules {
        on_conflict: OnConflict::Skip,
        ..recording()
    };
    let mut source = Source::new(1);
    let mut target = Target::default();
    copied(rules.clone(), &mut source, &mut target);
    let mut lane = Lane::new(rules, 1, Position::Start, 0, 1, 64);
    let now = Instant::now();
    read_all(&mut lane, &mut source, now);
    write(&mut lane, &mut target, now);
    while let Some(token) = target.answers.pop_front() {
        lane.target_token(0, token).expect("no trouble");
    }
    let (key, _) = lane.take_doubtful().expect("it may be ours");
    assert!(lane.records());
    lane.seen_in_doubt(key, held);
    lane.doubt_settled(key, true).expect("it is ours");
    kept(&[lane.take_finished().expect("all have outcomes")])
}

#[test]
fn a_write_of_ours_that_nobody_saw_is_what_the_target_holds() {
    let held = Some((payload(b"value 0").to_vec(), None));
    let value = Digesting::new().entry(b"key:0", Value::String(b"value 0"), None, 0);
    assert_eq!(kept_of_doubtful(held), [*value.as_bytes()]);
    let unseen = Entry::new(b"key:0", Outcome::Unseen);
    assert_eq!(kept_of_doubtful(None), [*unseen.as_bytes()]);
}
