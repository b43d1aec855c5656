//! Strings by SET: what it is told, what nil means, and what follows a refusal.

use super::*;
use crate::progress::StringsWrittenBy;

fn lane(rules: Rules) -> Lane {
    Lane::new(rules, 1, Position::Start, 0, 1, 0)
}

/// A source of strings of so many bytes, with this expiry.
fn strings(keys: usize, bytes: usize, expiry: i64) -> Source {
    let mut source = Source::new(keys);
    for key in &mut source.keys {
        key.1 = Some(payload(&vec![b'v'; bytes]));
        key.2 = expiry;
    }
    source
}

/// What is written for a source, before any answer.
fn written(rules: Rules, source: &mut Source) -> Vec<Vec<Bytes>> {
    let mut lane = lane(rules);
    let now = Instant::now();
    read_all(&mut lane, source, now);
    let mut out = BytesMut::new();
    while let Some(large) = lane.write(0, &mut out, now) {
        out.extend_from_slice(&large.bytes);
        large.encode_tail(&mut out);
    }
    commands(&mut out)
}

fn options(command: &[Bytes]) -> Vec<String> {
    let mut words = vec![String::from_utf8_lossy(&command[0]).into_owned()];
    let options = command.iter().skip(3);
    words.extend(options.map(|word| String::from_utf8_lossy(word).into_owned()));
    words
}

#[test]
fn the_policy_and_the_expiry_decide_what_set_is_told() {
    const INSTANT: i64 = 4_000_000_000_000;
    let check = |bytes: usize, expiry: i64, change: fn(&mut Rules), wanted: &[&str]| {
        let mut rules = rules();
        change(&mut rules);
        for command in written(rules, &mut strings(2, bytes, expiry)) {
            assert_eq!(options(&command), wanted);
            assert_eq!(command[2].len(), bytes);
        }
    };
    check(10, -1, |_| {}, &["SET"]);
    check(100_000, -1, |_| {}, &["SET"]);
    let skip: fn(&mut Rules) = |rules| rules.on_conflict = OnConflict::Skip;
    check(10, -1, skip, &["SET", "NX"]);
    check(100_000, -1, skip, &["SET", "NX"]);
    check(10, INSTANT, |_| {}, &["SET", "PXAT", "4000000000000"]);
    check(
        100_000,
        INSTANT,
        skip,
        &["SET", "NX", "PXAT", "4000000000000"],
    );
    // Of what it has left, no more.
    let relative: fn(&mut Rules) = |rules| (rules.expire_time, rules.absttl) = (false, false);
    for command in written(
        {
            let mut rules = rules();
            relative(&mut rules);
            rules
        },
        &mut strings(1, 40, 60_000),
    ) {
        let options = options(&command);
        assert_eq!(options[..2], ["SET", "PX"]);
        let left: i64 = options[2].parse().expect("digits");
        assert!((59_000..=60_000).contains(&left), "{left}");
    }
}

#[test]
fn what_was_dumped_is_restored() {
    let restored = |rules: Rules, source: &mut Source| {
        let written = written(rules, source);
        assert!(!written.is_empty());
        assert!(written.iter().all(|command| &command[0][..] == b"RESTORE"));
    };
    let restore = Rules {
        write_with: WriteWith::Restore,
        ..rules()
    };
    restored(restore, &mut strings(2, 4_000, -1));
    let dump = Rules {
        read_with: ReadWith::Dump,
        ..rules()
    };
    restored(dump, &mut strings(2, 4_000, -1));
    let mut hashes = strings(2, 100, -1);
    for key in &mut hashes.keys {
        key.1 = Some(hash(b"h"));
    }
    restored(rules(), &mut hashes);
}

#[test]
fn nil_is_a_key_that_is_there() {
    let mut target = Target::default();
    target
        .keys
        .insert(b"key:1".to_vec(), (payload(b"theirs"), 0));
    let skip = Rules {
        on_conflict: OnConflict::Skip,
        ..rules()
    };
    let mut source = strings(3, 10, -1);
    let mut lane = lane(skip);
    let counters = total(&finish(&mut lane, &mut source, &mut target));
    assert_eq!((counters.keys_written, counters.keys_kept), (2, 1));
    assert_eq!(target.sets, 3);
    assert_eq!(target.keys[&b"key:1"[..]].0, payload(b"theirs"));
}

#[test]
fn what_set_is_refused_for_is_restored_and_it_is_said_once() {
    for line in [
        "NOPERM this user has no permissions to run the 'set' command",
        "NOPERM User redknot-target has no permissions to run the 'set' command",
        "ERR unknown command 'SET'",
        "ERR SET is disabled",
    ] {
        let mut source = strings(30, 10, -1);
        let mut target = Target::default();
        let mut lane = lane(Rules {
            batch_keys: 30,
            ..rules()
        });
        let now = Instant::now();
        read_all(&mut lane, &mut source, now);
        let mut out = BytesMut::new();
        while lane.write(0, &mut out, now).is_some() {}
        for _ in commands(&mut out) {
            lane.target_token(0, error(line)).expect("no trouble");
        }
        assert_eq!(lane.ways().strings_written, StringsWrittenBy::Restore);
        let counters = total(&finish(&mut lane, &mut source, &mut target));
        assert_eq!((counters.keys_written, target.sets), (30, 0), "{line}");
        assert_eq!(lane.notes.len(), 1, "{:?}", lane.notes);
        assert!(lane.notes[0].contains("SET"), "{:?}", lane.notes);
    }
}

/// Servers before 6.2 do not know PXAT; all else they take by SET.
#[test]
fn an_unknown_option_ends_that_option_alone() {
    let mut source = strings(2, 4_000, 4_000_000_000_000);
    let mut target = Target::default();
    let mut lane = lane(rules());
    let now = Instant::now();
    read_all(&mut lane, &mut source, now);
    let mut out = BytesMut::new();
    while lane.write(0, &mut out, now).is_some() {}
    for _ in commands(&mut out) {
        lane.target_token(0, error("ERR syntax error"))
            .expect("no trouble");
    }
    assert_eq!(lane.ways().strings_written, StringsWrittenBy::Set);
    let counters = total(&finish(&mut lane, &mut source, &mut target));
    assert_eq!((counters.keys_written, target.sets), (2, 0));
    assert!(lane.notes.is_empty(), "{:?}", lane.notes);
}

#[test]
fn a_target_that_is_not_well_is_no_reason_to_give_set_up() {
    for line in [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "READONLY You can't write against a read only replica.",
        "MISCONF Redis is configured to save RDB snapshots",
    ] {
        let mut source = strings(3, 10, -1);
        let mut target = Target::default();
        let mut lane = lane(rules());
        let now = Instant::now();
        read_all(&mut lane, &mut source, now);
        write(&mut lane, &mut target, now);
        let trouble = lane.target_token(0, error(line));
        assert!(matches!(trouble, Err(Trouble::Link(_))), "{line}");
        target.answers.clear();
        lane.target_lost(0);
        assert_eq!(lane.ways().strings_written, StringsWrittenBy::Set);
        let counters = total(&finish(&mut lane, &mut source, &mut target));
        assert_eq!(counters.keys_written, 3);
    }
}

#[test]
fn a_key_that_may_not_be_written_is_quarantined_alone() {
    let mut source = strings(3, 10, -1);
    let mut target = Target::default();
    let mut lane = lane(rules());
    let now = Instant::now();
    read_all(&mut lane, &mut source, now);
    write(&mut lane, &mut target, now);
    target.answers[1] = error("NOPERM No permissions to access a key");
    let counters = total(&finish(&mut lane, &mut source, &mut target));
    assert_eq!((counters.keys_written, counters.keys_quarantined), (2, 1));
    assert_eq!(lane.ways().strings_written, StringsWrittenBy::Set);
}
