//! Strings by MGET: nil among values, losses within an answer, refusals, memory, and the order of reads.

use super::counted::copy_counted;
use super::*;
use crate::progress::StringsBy;

pub(super) fn lane(rules: Rules) -> Lane {
    Lane::new(rules, 1, Position::Start, 0, 1, 0)
}

/// What the lane asks next, as names of commands with the number of their arguments.
pub(super) fn asked(lane: &mut Lane) -> Vec<(String, usize)> {
    let mut out = BytesMut::new();
    lane.request(&mut out);
    let named = |command: &Vec<Bytes>| {
        let name = String::from_utf8_lossy(&command[0]).into_owned();
        (name, command.len() - 1)
    };
    commands(&mut out).iter().map(named).collect()
}

pub(super) fn names(asked: &[(String, usize)]) -> Vec<(&str, usize)> {
    asked
        .iter()
        .map(|(name, arguments)| (name.as_str(), *arguments))
        .collect()
}

/// What is asked to read so many keys as strings.
pub(super) fn of_strings(keys: usize) -> Vec<(&'static str, usize)> {
    let mut asked = vec![("MGET", keys)];
    asked.extend([("PEXPIRETIME", 1)].repeat(keys));
    asked
}

/// The answer to the SCAN that was just asked: these names, and the end.
pub(super) fn scanned(lane: &mut Lane, keys: &[&str]) {
    let now = Instant::now();
    let mut tokens = vec![Token::Array(2), bulk(b"0"), Token::Array(keys.len())];
    tokens.extend(keys.iter().map(|key| bulk(key.as_bytes())));
    for token in tokens {
        lane.source_token(token, now).expect("a right answer");
    }
}

#[test]
fn one_mget_reads_the_strings_and_dump_only_what_is_none() {
    let mut source = Source::new(300);
    let mut target = Target::default();
    let mut lane = lane(Rules {
        batch_keys: 300,
        ..rules()
    });
    let counts = copy_counted(&mut lane, &mut source, &mut target);
    assert_eq!(target.keys.len(), 300);
    assert_eq!(counts["DUMP"], 100, "{counts:?}");
    assert_eq!(
        counts["PEXPIRETIME"], 400,
        "twice for what is no string: {counts:?}"
    );
    assert_eq!(lane.ways().strings, StringsBy::Mget);
}

#[test]
fn an_expiry_is_asked_right_behind_its_value() {
    let mut lane = lane(rules());
    assert_eq!(names(&asked(&mut lane)), [("SCAN", 3)]);
    scanned(&mut lane, &["a", "b", "c"]);
    assert_eq!(names(&asked(&mut lane)), of_strings(3));
    let now = Instant::now();
    for token in [Token::Array(3), bulk(b"1"), Token::Null] {
        lane.source_token(token, now).expect("a right answer");
    }
    assert_eq!(
        names(&asked(&mut lane)),
        [("DUMP", 1), ("PEXPIRETIME", 1)],
        "of what is no string"
    );
    // The third was deleted in between: what was read of it is of no use. What the second's expiry was when it was no
    // hash yet, neither.
    for token in [
        bulk(b"3"),
        Token::Integer(-1),
        Token::Integer(7),
        Token::Integer(-2),
        Token::Bulk(hash(b"of b")),
        Token::Integer(-1),
    ] {
        lane.source_token(token, now).expect("a right answer");
    }
    let mut target = Target::default();
    write(&mut lane, &mut target, now);
    let there: Vec<&[u8]> = target.keys.keys().map(Vec::as_slice).collect();
    assert_eq!(there, [b"a", b"b"]);
    let expires: Vec<bool> = target
        .keys
        .values()
        .map(|(_, expiry)| *expiry != 0)
        .collect();
    assert_eq!(expires, [false; 2]);
}

#[test]
fn a_key_that_is_gone_when_it_is_dumped_has_vanished() {
    let mut source = Source::new(3);
    source.keys[1].1 = None;
    let mut target = Target::default();
    let mut lane = lane(rules());
    let counters = total(&finish(&mut lane, &mut source, &mut target));
    assert_eq!((counters.keys_written, counters.keys_vanished), (2, 1));
}

/// SCAN may return a key twice. Whatever it is in between, the value that was read last is written last.
#[test]
fn doubles_are_written_in_the_order_in_which_they_were_read() {
    let mut lane = lane(rules());
    asked(&mut lane);
    scanned(&mut lane, &["double", "double"]);
    assert_eq!(names(&asked(&mut lane)), of_strings(2));
    let now = Instant::now();
    // No string yet, and a string a moment later.
    for token in [Token::Array(2), Token::Null, bulk(b"older")] {
        lane.source_token(token, now).expect("a right answer");
    }
    assert_eq!(names(&asked(&mut lane)), [("DUMP", 1), ("PEXPIRETIME", 1)]);
    for token in [
        Token::Integer(-2),
        Token::Integer(-1),
        Token::Bulk(payload(b"newer")),
        Token::Integer(-1),
    ] {
        lane.source_token(token, now).expect("a right answer");
    }
    let mut target = Target::default();
    write(&mut lane, &mut target, now);
    assert_eq!(target.writes, 2);
    assert_eq!(target.keys[&b"double"[..]].0, payload(b"newer"));
}

/// What was lost on its way is read whole, so that a connection which breaks in each large answer gets somewhere.
#[test]
fn an_answer_that_breaks_off_is_asked_again_key_by_key() {
    let mut lane = lane(rules());
    asked(&mut lane);
    scanned(&mut lane, &["a", "b", "c"]);
    assert_eq!(names(&asked(&mut lane)), of_strings(3));
    let now = Instant::now();
    for token in [Token::Array(3), bulk(b"1")] {
        lane.source_token(token, now).expect("a right answer");
    }
    lane.source_lost();
    assert_eq!(
        names(&asked(&mut lane)),
        [("DUMP", 1), ("PEXPIRETIME", 1)].repeat(3)
    );
    for value in [b"1", b"2", b"3"] {
        lane.source_token(Token::Bulk(payload(value)), now)
            .expect("right");
        lane.source_token(Token::Integer(-1), now).expect("right");
    }
    let mut target = Target::default();
    write(&mut lane, &mut target, now);
    assert_eq!(target.writes, 3);
    assert_eq!(target.keys[&b"a"[..]].0, payload(b"1"));
}

#[test]
fn where_mget_is_refused_everything_is_dumped_and_it_is_said_once() {
    for line in [
        "NOPERM this user has no permissions to run the 'mget' command",
        "NOPERM this user has no permissions to access one of the keys used as arguments",
        "ERR unknown command 'MGET'",
        "CROSSSLOT Keys in request don't hash to the same slot",
        "MOVED 3999 127.0.0.1:6381",
        "ERR internal error",
    ] {
        let mut source = Source::new(30);
        let mut target = Target::default();
        let mut lane = lane(Rules {
            batch_keys: 30,
            ..rules()
        });
        let now = Instant::now();
        let mut refused = 0;
        for _ in 0..6 {
            let mut out = BytesMut::new();
            lane.request(&mut out);
            for command in commands(&mut out.clone()) {
                if &command[0][..] == b"MGET" {
                    refused += 1;
                }
            }
            source.serve(&mut out);
            let mut elements = 0;
            while let Some(token) = source.answers.pop_front() {
                if elements > 0 {
                    elements -= 1;
                    continue;
                }
                let token = match (lane.asked.front(), token) {
                    (Some(Asked::Strings(_)), Token::Array(of)) => {
                        elements = of;
                        error(line)
                    }
                    (_, token) => token,
                };
                lane.source_token(token, now).expect("no trouble");
            }
        }
        assert!(refused > 0);
        assert_eq!(lane.ways().strings, StringsBy::Dump, "{line}");
        let counters = total(&finish(&mut lane, &mut source, &mut target));
        assert_eq!(counters.keys_written, 30, "{line}");
        assert_eq!(lane.notes.len(), 1, "{:?}", lane.notes);
        assert!(lane.notes[0].contains("MGET"), "{:?}", lane.notes);
    }
}

#[test]
fn a_server_that_is_not_well_is_no_reason_to_give_mget_up() {
    let mut lane = lane(rules());
    asked(&mut lane);
    scanned(&mut lane, &["a"]);
    asked(&mut lane);
    let trouble = lane.source_token(error("LOADING Redis is loading"), Instant::now());
    assert!(matches!(trouble, Err(Trouble::Link(_))), "{trouble:?}");
    lane.source_lost();
    assert_eq!(lane.ways().strings, StringsBy::Mget);
    assert!(lane.notes.is_empty());
}

/// An answer of another form leaves nobody knowing where the next one begins.
#[test]
fn an_answer_that_is_none_costs_the_connection_and_no_key() {
    for tokens in [
        vec![Token::Array(2)],
        vec![Token::Null],
        vec![Token::Array(3), Token::Integer(7)],
        vec![Token::Array(3), Token::Null, bulk(b"x"), Token::Array(0)],
    ] {
        let mut source = Source::new(3);
        let mut lane = lane(rules());
        ask(&mut lane, &mut source, Instant::now());
        assert_eq!(names(&asked(&mut lane)), of_strings(3));
        let mut answers = tokens.clone().into_iter();
        let trouble = answers.find_map(|token| lane.source_token(token, Instant::now()).err());
        assert!(matches!(trouble, Some(Trouble::Link(_))), "{tokens:?}");
        lane.source_lost();
        let mut target = Target::default();
        let counters = total(&finish(&mut lane, &mut source, &mut target));
        assert_eq!(counters.keys_written, 3, "{tokens:?}");
        assert_eq!(lane.ways().strings, StringsBy::Dump, "{tokens:?}");
    }
}

#[test]
fn values_larger_than_was_expected_do_not_pile_up() {
    const LIMIT: u64 = 64 * 1024;
    let mut source = Source::new(60);
    for (_, value, _) in &mut source.keys {
        *value = Some(payload(&[7; 48 * 1024]));
    }
    let mut target = Target::default();
    let mut lane = lane(Rules {
        batch_keys: 60,
        in_flight_bytes_max: LIMIT,
        ..rules()
    });
    let mut most = 0;
    let mut out = BytesMut::new();
    for _ in 0..10_000 {
        let now = Instant::now();
        lane.request(&mut out);
        source.serve(&mut out);
        // As the engine does: nothing is read while too much waits for the target.
        while !lane.is_full()
            && let Some(token) = source.answers.pop_front()
        {
            lane.source_token(token, now).expect("a right answer");
            most = most.max(lane.held_bytes());
        }
        write(&mut lane, &mut target, now);
        while let Some(token) = target.answers.pop_front() {
            lane.target_token(0, token).expect("no trouble is played");
        }
        while lane.take_finished().is_some() {
            lane.durable(1);
        }
        if lane.is_complete() {
            break;
        }
    }
    assert!(lane.is_complete());
    assert_eq!(target.keys.len(), 60);
    assert!(most <= LIMIT + 49 * 1024, "{most} bytes were held");
}

#[test]
fn few_strings_end_mget_and_many_begin_it_again() {
    let mut source = Source::new(9000);
    for (index, (_, value, _)) in source.keys.iter_mut().enumerate() {
        *value = Some(match index {
            3000..6000 => hash(b"h"),
            _ => payload(b"s"),
        });
    }
    let mut target = Target::default();
    let mut lane = lane(rules());
    let mut seen = vec![lane.ways().strings];
    for _ in 0..100_000 {
        let now = Instant::now();
        ask(&mut lane, &mut source, now);
        write(&mut lane, &mut target, now);
        while let Some(token) = target.answers.pop_front() {
            lane.target_token(0, token).expect("no trouble is played");
        }
        while lane.take_finished().is_some() {
            lane.durable(1);
        }
        if seen.last() != Some(&lane.ways().strings) {
            seen.push(lane.ways().strings);
        }
        if lane.is_complete() {
            break;
        }
    }
    assert_eq!(seen, [StringsBy::Mget, StringsBy::Dump, StringsBy::Mget]);
    assert_eq!(target.keys.len(), 9000);
    for (name, value, _) in &source.keys {
        assert_eq!(Some(&target.keys[name].0), value.as_ref());
    }
}

#[test]
fn a_large_string_is_written_from_where_it_was_read() {
    let mut lane = lane(rules());
    asked(&mut lane);
    scanned(&mut lane, &["large"]);
    asked(&mut lane);
    let value = Bytes::from(vec![b'x'; 100_000]);
    let now = Instant::now();
    for token in [Token::Array(1), Token::Bulk(value.clone())] {
        lane.source_token(token, now).expect("a right answer");
    }
    asked(&mut lane);
    lane.source_token(Token::Integer(-1), now).expect("right");
    let mut out = BytesMut::new();
    let large = lane.write(0, &mut out, now).expect("it is large");
    assert_eq!(large.bytes.as_ptr(), value.as_ptr(), "it was copied");
    out.extend_from_slice(&large.bytes);
    large.encode_tail(&mut out);
    let mut target = Target::default();
    target.serve(&mut out);
    assert_eq!(target.keys[&b"large"[..]].0, payload(&value));
}
