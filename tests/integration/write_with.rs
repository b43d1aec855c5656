//! Strings by SET: the same keys arrive as by RESTORE, whatever is there, may not be used, or is not known.

use ::redknot::progress::StringsWrittenBy;

use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Oracle;
use crate::support::redknot::{Redknot, status};
use crate::support::seed;
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{
    Kind, REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1, require,
};

const NAME: &str = "write";

/// Runs commands, each as a line.
fn run(server: &Server, lines: &[&str]) {
    for line in lines {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.exec(&mut server.connection()).unwrap();
    }
}

fn ask<T: redis::FromRedisValue>(server: &Server, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(&mut server.connection()).unwrap()
}

/// How many keys SCAN lists as strings.
fn strings_on(server: &Server) -> u64 {
    let found: (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
        .arg(0)
        .arg(&["TYPE", "string", "COUNT", "1000000"])
        .query(&mut server.connection())
        .unwrap();
    found.1.len() as u64
}

/// Keys of all types, and enough strings beside them that MGET pays; every fourth of those expires.
fn fill_mostly_strings(server: &Server) -> u64 {
    const STRINGS: u64 = 9_000;
    let keys = fill(server, 0, &DataSet::new(3_000, seed()));
    let mut pipe = redis::pipe();
    for number in 0..STRINGS {
        let set = pipe.cmd("SET").arg(format!("more:{number}")).arg(number);
        if number % 4 == 0 {
            set.arg("PX").arg(100_000_000 + number);
        }
        pipe.ignore();
    }
    pipe.exec(&mut server.connection()).unwrap();
    keys + STRINGS
}

#[test]
fn strings_are_set_and_everything_else_is_restored() {
    let kinds: [[Kind; 2]; 6] = [
        [REDIS_6_0, REDIS_6_2],
        [REDIS_6_2, REDIS_7_0],
        [REDIS_7_0, REDIS_6_0],
        [REDIS_7_0, REDIS_8_2],
        [REDIS_8_2, VALKEY_8_1],
        [VALKEY_8_1, VALKEY_9_1],
    ];
    for kinds in kinds {
        let [Some(source), Some(target)] = kinds.map(require) else {
            continue;
        };
        let (source, target) = (Server::plain(&source), Server::plain(&target));
        let keys = fill_mostly_strings(&source);
        let strings = strings_on(&source);
        let state = tempfile::tempdir().unwrap();
        let finished = Redknot::migrate(&source.url(0), &target.url(0), state.path())
            .args(["--name", NAME])
            .run()
            .expect_code(0);
        Oracle::between(&source, &target)
            .ttl_tolerance_ms(1_000)
            .assert_equal();
        let status = status(NAME, state.path());
        assert_eq!(status.counters.keys_written, keys);
        assert_eq!(status.strings_written_by, Some(StringsWrittenBy::Set));
        assert_eq!(status.retries, 0, "{finished}");
        assert!(!finished.stderr().contains("SET"), "{finished}");
        let set = target.calls("set");
        match kinds {
            // It does not know PXAT: those with an expiry are restored, and some were tried.
            [_, REDIS_6_0] => assert!(set > strings / 2, "{set} of {strings}"),
            _ => assert_eq!(set, strings, "{} to {}", kinds[0].name, kinds[1].name),
        }
    }
}

#[test]
fn with_restore_nothing_is_set() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let keys = fill_mostly_strings(&source);
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME, "--write-with", "restore"])
        .run()
        .expect_code(0);
    Oracle::between(&source, &target).assert_equal();
    assert_eq!(target.calls("set"), 0);
    assert!(target.calls("restore") >= keys);
    let status = status(NAME, state.path());
    assert_eq!(status.strings_written_by, Some(StringsWrittenBy::Restore));
}

/// Whatever was there, and however long it was to live.
#[test]
fn what_is_on_the_target_is_replaced_or_kept_as_was_said() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let large = "x".repeat(100_000);
    let source = Server::plain(&redis);
    run(
        &source,
        &[
            "SET of-another-type new",
            "SET mortal new",
            "SET immortal new PX 100000000",
            &format!("SET large {large}"),
            "SET free new",
        ],
    );
    let there = [
        "HSET of-another-type f v",
        "SET mortal old PX 100000000",
        "SET immortal old",
        "SET large old",
    ];
    let migrated = |policy: &str| {
        let target = Server::plain(&redis);
        run(&target, &there);
        let state = tempfile::tempdir().unwrap();
        Redknot::migrate(&source.url(0), &target.url(0), state.path())
            .args(["--name", NAME, "--on-conflict", policy])
            .run()
            .expect_code(0);
        (target, status(NAME, state.path()).counters)
    };
    let (target, counters) = migrated("replace");
    assert_eq!((counters.keys_written, counters.keys_kept), (5, 0));
    assert_eq!(Oracle::between(&source, &target).assert_equal(), 5);

    let (target, counters) = migrated("skip");
    assert_eq!((counters.keys_written, counters.keys_kept), (1, 4));
    let kind: String = ask(&target, &["TYPE", "of-another-type"]);
    assert_eq!(kind, "hash");
    let value: String = ask(&target, &["GET", "large"]);
    assert_eq!(value, "old");
    let lives: i64 = ask(&target, &["PTTL", "immortal"]);
    assert_eq!(lives, -1);

    let target = Server::plain(&redis);
    run(&target, &there[..1]);
    let state = tempfile::tempdir().unwrap();
    let refused = Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--on-conflict", "fail"])
        .run();
    assert!(
        refused.stderr().contains("already has this key"),
        "{refused}"
    );
}

/// As users were made before strings were set.
#[test]
fn a_user_without_set_restores_and_is_told_once() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let source = Server::plain(&redis);
    let target =
        Server::start(ServerSpec::new(redis.clone()).user("writer", "on >pass ~* +@all -set"));
    let keys = fill_mostly_strings(&source);
    let state = tempfile::tempdir().unwrap();
    let url = target.url(0).replace("//", "//writer:pass@");
    let finished = Redknot::migrate(&source.url(0), &url, state.path())
        .args(["--name", NAME])
        .run()
        .expect_code(0);
    Oracle::between(&source, &target).assert_equal();
    let status = status(NAME, state.path());
    assert_eq!(status.counters.keys_written, keys);
    assert_eq!(status.strings_written_by, Some(StringsWrittenBy::Restore));
    assert_eq!(status.retries, 0, "a refusal costs no connection");
    assert_eq!(
        finished.stderr().matches("does not serve SET").count(),
        1,
        "{finished}"
    );
}
