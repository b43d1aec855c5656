//! Big keys: whose size is asked for, what becomes of those that are big, and of those that come unexpectedly.

use super::as_strings::{asked, lane, names, scanned};
use super::*;
use crate::client::sizes::Probing;
use crate::progress::{Arrived, Counters};

const BIG: u64 = 1000;

fn big_lane(probing: Probing) -> Lane {
    let mut lane = lane(Rules {
        big_key: Some(BIG),
        ..rules()
    });
    lane.probe_sizes(probing);
    lane
}

/// What the source answers to what it was asked.
fn answer(lane: &mut Lane, tokens: Vec<Token>) {
    for token in tokens {
        lane.source_token(token, Instant::now())
            .expect("a right answer");
    }
}

#[test]
fn where_nothing_big_can_be_no_size_is_asked_for() {
    let mut lane = big_lane(Probing::Nothing);
    asked(&mut lane);
    scanned(&mut lane, &["a", "b"]);
    let asked = asked(&mut lane);
    assert!(names(&asked).iter().all(|(name, _)| *name != "MEMORY"));
}

#[test]
fn what_mget_answers_nil_for_is_dumped_only_if_it_is_small() {
    let mut lane = big_lane(Probing::Wholes);
    asked(&mut lane);
    scanned(&mut lane, &["big", "small"]);
    assert_eq!(names(&asked(&mut lane))[0], ("MGET", 2));
    let nothing = vec![
        Token::Array(2),
        Token::Null,
        Token::Null,
        Token::Integer(-1),
        Token::Integer(-1),
    ];
    answer(&mut lane, nothing);
    let sizes = asked(&mut lane);
    assert_eq!(names(&sizes), [("MEMORY", 4), ("MEMORY", 4)]);
    let sizes = [BIG as i64, BIG as i64 - 1].map(Token::Integer);
    answer(&mut lane, sizes.to_vec());
    assert_eq!(
        names(&asked(&mut lane)),
        [("DUMP", 1), ("PEXPIRETIME", 1)],
        "the small one alone"
    );
    let big = lane.take_big().expect("it is put aside");
    assert_eq!((big.name.as_slice(), big.bytes), (&b"big"[..], BIG));
    assert!(lane.take_big().is_none());
    assert_eq!(lane.big_bytes_met(), BIG);
}

#[test]
fn where_something_big_has_not_been_met_every_size_is_asked_for_and_none_twice() {
    let mut lane = big_lane(Probing::All);
    asked(&mut lane);
    scanned(&mut lane, &["a", "b", "c"]);
    assert_eq!(names(&asked(&mut lane)), [("MEMORY", 4); 3]);
    answer(
        &mut lane,
        vec![Token::Integer(70), Token::Null, Token::Integer(5000)],
    );
    let strings = asked(&mut lane);
    assert_eq!(names(&strings)[0], ("MGET", 2));
    let nil = vec![Token::Array(2), Token::Null, Token::Null];
    answer(&mut lane, nil);
    answer(&mut lane, vec![Token::Integer(-1), Token::Integer(-2)]);
    let dumps = asked(&mut lane);
    let dumps = names(&dumps);
    assert_eq!(dumps.iter().filter(|(name, _)| *name == "DUMP").count(), 2);
    assert!(dumps.iter().all(|(name, _)| *name != "MEMORY"), "{dumps:?}");
    assert_eq!(lane.take_big().expect("it is put aside").name, b"c");
}

#[test]
fn a_source_that_tells_no_sizes_is_asked_once_and_the_operator_is_told() {
    let mut lane = big_lane(Probing::All);
    asked(&mut lane);
    scanned(&mut lane, &["a", "b"]);
    assert_eq!(asked(&mut lane).len(), 2);
    let refusal = "NOPERM this user has no permissions to run the 'memory|usage' command";
    answer(&mut lane, vec![error(refusal), error(refusal)]);
    assert_eq!(lane.notes.len(), 1, "{:?}", lane.notes);
    lane.probe_sizes(Probing::All);
    assert_eq!(names(&asked(&mut lane))[0], ("MGET", 2));
}

#[test]
fn a_size_that_did_not_come_is_asked_for_again() {
    let mut lane = big_lane(Probing::All);
    asked(&mut lane);
    scanned(&mut lane, &["a", "b"]);
    assert_eq!(asked(&mut lane).len(), 2);
    answer(&mut lane, vec![Token::Integer(7)]);
    lane.source_lost();
    let again = asked(&mut lane);
    assert_eq!(
        names(&again),
        [("MGET", 1), ("PEXPIRETIME", 1), ("MEMORY", 4)]
    );
}

/// It is counted as it comes, read in pieces, and what can't be read so is read whole and kept.
#[test]
fn a_value_that_is_not_kept_goes_in_pieces_and_if_it_can_not_it_is_kept_the_next_time() {
    let mut lane = big_lane(Probing::Nothing);
    asked(&mut lane);
    scanned(&mut lane, &["string"]);
    assert_eq!(names(&asked(&mut lane))[0], ("MGET", 1));
    assert_eq!(lane.skip_above(), Some(1 << 20));
    answer(&mut lane, vec![Token::Array(1), Token::Skipped(2 << 20)]);
    answer(&mut lane, vec![Token::Integer(-1)]);
    assert!(asked(&mut lane).is_empty());
    let big = lane.take_big().expect("it is put aside");
    lane.big_ended(big.key, BigEnd::Whole).expect("no trouble");
    assert_eq!(names(&asked(&mut lane))[0], ("DUMP", 1));
    assert_eq!(lane.skip_above(), None);
}

#[test]
fn each_end_of_a_big_key_is_an_outcome() {
    type Counter = fn(&Counters) -> u64;
    let ends: [(BigEnd, Counter); 4] = [
        (BigEnd::Arrived(Arrived::UNSEEN, true), |c| {
            c.keys_read_again
        }),
        (BigEnd::Vanished, |c| c.keys_vanished),
        (BigEnd::Filtered, |c| c.keys_filtered),
        (BigEnd::Refused("why".into(), None), |c| c.keys_quarantined),
    ];
    for (end, counter) in ends {
        let shown = format!("{end:?}");
        let mut lane = big_lane(Probing::All);
        asked(&mut lane);
        scanned(&mut lane, &["a"]);
        asked(&mut lane);
        answer(&mut lane, vec![Token::Integer(5000)]);
        let big = lane.take_big().expect("it is put aside");
        assert!(!lane.is_complete(), "{shown}");
        lane.big_ended(big.key, end).expect("no trouble");
        let batch = lane.take_finished().expect("it has its outcome");
        assert!(batch.counters.balance(), "{shown}");
        assert_eq!(counter(&batch.counters), 1, "{shown}");
    }
}
