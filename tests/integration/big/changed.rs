//! A key that changes while it is read: it is read again, and never arrives torn.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::support::oracle::Oracle;
use crate::support::wait_for;

/// Waits until pieces of a key are on the target.
fn wait_for_pieces(target: &Server) {
    wait_for("pieces on the target", Duration::from_secs(30), || {
        (!temporary_names(target).is_empty()).then_some(())
    });
}

fn increment(connection: &mut redis::Connection, key: &str, fields: [&str; 2]) {
    let mut pipe = redis::pipe();
    pipe.atomic();
    for field in fields {
        pipe.cmd("HINCRBY").arg(key).arg(field).arg(1);
    }
    pipe.exec(connection).unwrap();
}

fn counted(server: &Server, key: &str, fields: [&str; 2]) -> Vec<u64> {
    let mut get = redis::cmd("HMGET");
    get.arg(key).arg(&fields);
    get.query(&mut server.connection()).unwrap()
}

/// Two fields that are always changed together: the target never has one without the other.
#[test]
fn a_key_that_changes_once_is_read_again_and_never_torn() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_hash(&source, "hash", 20_000);
    let fields = ["first", "last"];
    increment(&mut source.connection(), "hash", fields);
    let state = tempfile::tempdir().unwrap();
    let running = migrate(&source, &target, state.path())
        .args(["--bandwidth", "2MiB/s"])
        .start();
    wait_for_pieces(&target);
    increment(&mut source.connection(), "hash", fields);
    running.wait().expect_code(0);
    let counters = status(NAME, state.path()).counters;
    assert_eq!((counters.keys_in_pieces, counters.keys_read_again), (1, 1));
    assert_eq!(counted(&target, "hash", fields), [2, 2]);
    assert_arrived(&target, state.path(), 1);
}

/// It changes all the time: at last it is read by one DUMP, which can't be torn either.
#[test]
fn a_key_that_never_rests_is_dumped_at_last() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_hash(&source, "hash", 20_000);
    let fields = ["first", "last"];
    increment(&mut source.connection(), "hash", fields);
    let (state, rests) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = source.connection();
            while !rests.load(Ordering::Acquire) {
                increment(&mut connection, "hash", fields);
            }
        });
        let finished = migrate(&source, &target, state.path()).run();
        rests.store(true, Ordering::Release);
        let finished = finished.expect_code(0);
        assert!(
            finished.stderr().contains("changed each of the 5 times"),
            "{finished}"
        );
    });
    let values = counted(&target, "hash", fields);
    assert_eq!(values[0], values[1], "torn");
    let counters = status(NAME, state.path()).counters;
    assert_eq!((counters.keys_written, counters.keys_in_pieces), (1, 0));
    assert_eq!(temporary_names(&target), Vec::<String>::new());
    assert!(source.calls("dump") > 0);
}

/// It is gone, or has become another, when its last piece is read.
#[test]
fn a_key_that_goes_meanwhile_has_vanished_and_one_that_comes_instead_arrives() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    for replaced in [false, true] {
        set_hash(&source, "hash", 20_000);
        let state = tempfile::tempdir().unwrap();
        let running = migrate(&source, &target, state.path())
            .args(["--bandwidth", "2MiB/s"])
            .start();
        wait_for_pieces(&target);
        redis::cmd("DEL")
            .arg("hash")
            .exec(&mut source.connection())
            .unwrap();
        if replaced {
            set_string(&source, "hash", 10);
        }
        running.wait().expect_code(0);
        let counters = status(NAME, state.path()).counters;
        assert_eq!(counters.keys_vanished, u64::from(!replaced));
        assert_eq!(counters.keys_written, u64::from(replaced));
        assert_eq!(temporary_names(&target), Vec::<String>::new());
    }
    assert_eq!(Oracle::between(&source, &target).assert_equal(), 1);
}
