//! Big keys in a lane: whoever finds that they are big, and whether they can be compared in pieces or not, the verdicts
//! are the same.

use super::*;
use crate::client::sizes::Probing;
use crate::compare::judge::Seen;
use crate::compare::lane::{BigEnd, BigKey, BigRead};
use crate::digest::of_string;

/// From this size on keys are big.
const BIG: u64 = 15;

/// As the decoder hands it out.
pub(super) fn as_kept(token: Token, skip_above: Option<usize>) -> Token {
    match token {
        Token::Bulk(bytes) if skip_above.is_some_and(|most| bytes.len() > most) => {
            Token::Skipped(bytes.len() as u64)
        }
        token => token,
    }
}

/// Compares what was put aside as the task beside the lane does. Some keys can't be compared so.
pub(super) fn compare_in_pieces(lane: &mut Lane, played: &[Played; 2], now: Instant) {
    while let Some(big) = lane.take_big() {
        let end = match big.names[SOURCE].len() % 3 {
            2 => BigEnd::Whole,
            _ => read(&big, played, now),
        };
        lane.big_ended(big.key, end, now);
    }
}

fn read(big: &BigKey, played: &[Played; 2], now: Instant) -> BigEnd {
    let value = |side: usize| played[side].keys.get(&big.names[side]);
    let seen = |side: usize| {
        value(side).map(|value| Seen {
            digest: of_string(value),
            bytes: None,
            len: value.len(),
        })
    };
    let expiry = |side: usize| Answer {
        ms: value(side).map_or(NO_KEY, |_| -1),
        at: now,
    };
    BigEnd::Read(Box::new(BigRead {
        sides: [SOURCE, TARGET].map(seen),
        expiries: Some([SOURCE, TARGET].map(expiry)),
        first: None,
    }))
}

fn big_lane(stage: CompareStage, strings: bool) -> Lane {
    let rules = Rules {
        big_key: Some(BIG),
        // What has more is not kept.
        held_bytes_max: 20,
        ..rules(strings)
    };
    Lane::new(rules, stage, Position::Start, Position::Start)
}

proptest! {
    #[test]
    fn big_keys_get_the_verdicts_that_all_keys_get(
        source in keys(),
        target in keys(),
        strings: bool,
        mget: bool,
        silent: [bool; 2],
        probing in prop_oneof![Just(Probing::Nothing), Just(Probing::Wholes), Just(Probing::All)],
        turns in proptest::collection::vec(turn(), 0..200),
    ) {
        let wanted: Vec<Vec<u8>> = source
            .iter()
            .filter(|(name, value)| target.get(*name) != Some(value))
            .map(|(name, _)| name.clone())
            .collect();
        let all = source.len() as u64;
        let has_others = target.keys().any(|name| !source.contains_key(name));
        let mut lane = big_lane(CompareStage::Source, strings);
        lane.probe_sizes(probing);
        let mut played = [source, target].map(|keys| Played::new(&keys, mget));
        for (played, silent) in played.iter_mut().zip(silent) {
            played.silent = silent;
        }
        let (counters, candidates, [of_both, of_target]) = play_with(lane, played, &turns);
        prop_assert_eq!(&candidates, &wanted);
        prop_assert_eq!(counters.keys_scanned, all);
        prop_assert_eq!(counters.equal, all - wanted.len() as u64);
        // Each name that both have is summed up once, however often its value came.
        let none_missing = wanted.is_empty() && !has_others;
        prop_assert!(!none_missing || of_both == of_target);
    }
}

/// What one turn of both sides brings.
fn turn_both(lane: &mut Lane, played: &mut [Played; 2], now: Instant) -> Vec<Vec<u8>> {
    let mut asked = Vec::new();
    for (side, played) in played.iter_mut().enumerate() {
        lane.request(side, 0, &mut played.input);
        while let Some(command) = played.command() {
            if side == SOURCE {
                asked.push(command[0].to_vec());
            }
            for token in played.answer(&command) {
                let token = as_kept(token, lane.skip_above(side, 0));
                lane.token(side, 0, token, now)
                    .expect("no trouble is played");
            }
        }
    }
    asked
}

fn asked_of(value: usize, probing: Option<Probing>) -> (Vec<Vec<u8>>, bool) {
    let keys: Keys = [(b"key".to_vec(), vec![b'x'; value])].into();
    let mut played = [&keys, &keys].map(|keys| Played::new(keys, true));
    let mut lane = big_lane(CompareStage::Source, false);
    if let Some(probing) = probing {
        lane.probe_sizes(probing);
    }
    let now = Instant::now();
    let turns = (0..6).flat_map(|_| turn_both(&mut lane, &mut played, now));
    let mut asked: Vec<Vec<u8>> = turns.collect();
    asked.retain(|command| command != b"SCAN");
    (asked, lane.take_big().is_some())
}

#[test]
fn a_big_key_is_never_dumped_where_sizes_are_asked_for() {
    let words = |words: &[&str]| -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    };
    // Until somebody has looked, nothing is asked.
    assert_eq!(asked_of(15, None), (words(&[]), false));
    for probing in [Some(Probing::All), Some(Probing::Wholes)] {
        assert_eq!(asked_of(15, probing), (words(&["MEMORY"]), true));
        let small = words(&["MEMORY", "DUMP", "PTTL"]);
        assert_eq!(asked_of(5, probing), (small, false));
    }
    let nothing = Some(Probing::Nothing);
    assert_eq!(asked_of(5, nothing), (words(&["DUMP", "PTTL"]), false));
    // It is larger than what may be held, and is not kept.
    assert_eq!(asked_of(15, nothing), (words(&["DUMP", "PTTL"]), true));
}

#[test]
fn a_side_that_tells_no_sizes_is_asked_once_and_that_is_said_once() {
    let keys: Keys = (0..9_u8).map(|n| (vec![b'a', n], vec![b'x'; 3])).collect();
    let mut played = [&keys, &keys].map(|keys| Played::new(keys, true));
    played[TARGET].silent = true;
    let mut lane = big_lane(CompareStage::Source, false);
    lane.probe_sizes(Probing::All);
    let now = Instant::now();
    for _ in 0..20 {
        turn_both(&mut lane, &mut played, now);
    }
    let notes = lane.take_notes();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].starts_with("the target does not serve"),
        "{notes:?}"
    );
    assert!(lane.may_probe_sizes(), "the source still tells them");
}
