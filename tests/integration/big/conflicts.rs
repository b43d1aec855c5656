//! Keys that the target already has.

use super::*;
use crate::support::oracle::Oracle;

#[test]
fn each_policy_holds_for_big_keys_too() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let source = Server::plain(&redis);
    set_hash(&source, "hash", 5_000);
    set_list(&source, "list", 5_000);
    for (policy, code) in [("skip", 0), ("replace", 0), ("fail", 27)] {
        let target = Server::plain(&redis);
        set_string(&target, "hash", 10);
        let state = tempfile::tempdir().unwrap();
        let finished = migrate(&source, &target, state.path())
            .args(["--on-conflict", policy])
            .run()
            .expect_code(code);
        let kind: String = redis::cmd("TYPE")
            .arg("hash")
            .query(&mut target.connection())
            .unwrap();
        match policy {
            "skip" => {
                let counters = status(NAME, state.path()).counters;
                assert_eq!((counters.keys_kept, counters.keys_in_pieces), (1, 1));
                assert_eq!(kind, "string");
                assert_eq!(temporary_names(&target), Vec::<String>::new());
            }
            "replace" => {
                assert_eq!(Oracle::between(&source, &target).assert_equal(), 2);
                assert_eq!(temporary_names(&target), Vec::<String>::new());
            }
            _ => {
                assert!(
                    finished.stderr().contains("already has this key"),
                    "{finished}"
                );
                assert_eq!(kind, "string");
            }
        }
    }
}

/// A run that dies between the renaming and its record finds a key that it has written itself.
#[test]
fn our_own_key_is_no_conflict() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_hash(&source, "hash", 5_000);
    for policy in ["skip", "fail"] {
        let state = tempfile::tempdir().unwrap();
        let migrate = || migrate(&source, &target, state.path()).args(["--on-conflict", policy]);
        let killed = migrate().env("FAILPOINTS", "big_key_arrived=return").run();
        assert!(killed.was_killed(), "{killed}");
        let writes = target.calls("hmset");
        migrate().run().expect_code(0);
        assert_eq!(target.calls("hmset"), writes);
        assert_eq!(status(NAME, state.path()).counters.keys_in_pieces, 1);
        assert_arrived(&target, state.path(), 1);
        redis::cmd("FLUSHALL")
            .exec(&mut target.connection())
            .unwrap();
    }
}

/// After a new pass every key may be our own, and both sides are asked.
#[test]
fn a_new_pass_knows_its_own_big_keys_without_a_dump() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_hash(&source, "hash", 5_000);
    set_zset(&source, "zset", 10_000);
    let state = tempfile::tempdir().unwrap();
    let migrate = || migrate(&source, &target, state.path()).args(["--on-conflict", "skip"]);
    migrate().run().expect_code(0);
    redis::cmd("ZADD")
        .arg("zset")
        .arg(1)
        .arg("somebody else's")
        .exec(&mut target.connection())
        .unwrap();
    migrate().arg("--new-pass").run().expect_code(0);
    let counters = status(NAME, state.path()).counters;
    assert_eq!((counters.keys_written, counters.keys_kept), (1, 1));
    for server in [&source, &target] {
        assert_eq!((server.calls("dump"), server.calls("hgetall")), (0, 0));
    }
}

#[test]
fn renamed_keys_and_digests_are_as_with_any_other_key() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_hash(&source, "old:{a}hash", 5_000);
    set_list(&source, "old:list", 5_000);
    let state = tempfile::tempdir().unwrap();
    migrate(&source, &target, state.path())
        .args([
            "--strip-prefix",
            "old:",
            "--prefix",
            "new:",
            "--record-digests",
        ])
        .run()
        .expect_code(0);
    assert_arrived(&target, state.path(), 2);
    let length: u64 = redis::cmd("HLEN")
        .arg("new:{a}hash")
        .query(&mut target.connection())
        .unwrap();
    assert_eq!(length, 5_000);
}
