//! Killed, stopped, cut off: the copy of a big key goes on where it was, and nothing is left behind.

use std::time::Duration;

use super::*;
use crate::support::oracle::Oracle;
use crate::support::proxy::{Cut, Proxy};
use crate::support::wait_for;

/// Fields that were given to the target, by what its commands count: each piece is some commands.
fn writes(target: &Server) -> u64 {
    ["hmset", "hset", "rpush", "xadd", "setrange", "zadd", "sadd"]
        .iter()
        .map(|command| target.calls(command))
        .sum()
}

/// How many commands the whole key takes when nothing goes wrong.
fn writes_undisturbed(source: &Server, target: &Server) -> u64 {
    let state = tempfile::tempdir().unwrap();
    migrate(source, target, state.path()).run().expect_code(0);
    let writes = writes(target);
    for command in [&["FLUSHALL"][..], &["CONFIG", "RESETSTAT"]] {
        let mut reset = redis::cmd(command[0]);
        reset.arg(&command[1..]);
        reset.exec(&mut target.connection()).unwrap();
    }
    writes
}

#[test]
fn killed_at_any_point_it_goes_on_and_writes_nothing_twice() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_hash(&source, "hash", 20_000);
    expire_at(&source, "hash", now_ms() + 3_600_000);
    let undisturbed = writes_undisturbed(&source, &target);
    for point in [
        "big_piece_written=return",
        "big_piece_written=10*off->return",
        "big_key_before_renaming=return",
        "big_key_arrived=return",
        "acknowledged_before_state_write=return",
    ] {
        let state = tempfile::tempdir().unwrap();
        let killed = migrate(&source, &target, state.path())
            .env("FAILPOINTS", point)
            .run();
        assert!(killed.was_killed(), "{point}: {killed}");
        let finished = migrate(&source, &target, state.path()).run().expect_code(0);
        assert_eq!(writes(&target), undisturbed, "{point}: {finished}");
        assert_arrived(&target, state.path(), 1);
        let counters = status(NAME, state.path()).counters;
        assert_eq!(
            (counters.keys_written, counters.keys_in_pieces),
            (1, 1),
            "{point}"
        );
        for command in [&["FLUSHALL"][..], &["CONFIG", "RESETSTAT"]] {
            let mut reset = redis::cmd(command[0]);
            reset.arg(&command[1..]);
            reset.exec(&mut target.connection()).unwrap();
        }
    }
}

/// Lists and streams are appended to: a piece that is written twice would show.
#[test]
fn what_is_appended_to_is_appended_to_once() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_list(&source, "list", 20_000);
    set_stream(&source, "stream", 20_000);
    set_string(&source, "string", 3 << 20);
    for kill in [2, 7, 12, 25, 40] {
        let state = tempfile::tempdir().unwrap();
        let killed = migrate(&source, &target, state.path())
            .env(
                "FAILPOINTS",
                format!("big_piece_written={kill}*off->return"),
            )
            .run();
        assert!(killed.was_killed(), "{kill}: {killed}");
        migrate(&source, &target, state.path()).run().expect_code(0);
        assert_arrived(&target, state.path(), 3);
        redis::cmd("FLUSHALL")
            .exec(&mut target.connection())
            .unwrap();
    }
}

/// Between both runs the key changes: what is there of it is no beginning of what it is now.
#[test]
fn a_key_that_changed_between_two_runs_is_begun_anew() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_list(&source, "list", 20_000);
    let state = tempfile::tempdir().unwrap();
    let killed = migrate(&source, &target, state.path())
        .env("FAILPOINTS", "big_piece_written=10*off->return")
        .run();
    assert!(killed.was_killed(), "{killed}");
    let mut change = redis::cmd("LSET");
    change.arg("list").arg(3).arg("another");
    change.exec(&mut source.connection()).unwrap();
    migrate(&source, &target, state.path()).run().expect_code(0);
    assert_arrived(&target, state.path(), 1);
}

/// What is left of a key that is gone when the next run begins is taken away.
#[test]
fn nothing_is_left_of_a_key_that_is_gone_when_the_copy_goes_on() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_list(&source, "list", 20_000);
    set_string(&source, "small", 10);
    let state = tempfile::tempdir().unwrap();
    let killed = migrate(&source, &target, state.path())
        .env("FAILPOINTS", "big_piece_written=5*off->return")
        .run();
    assert!(killed.was_killed(), "{killed}");
    assert_eq!(temporary_names(&target).len(), 2);
    redis::cmd("DEL")
        .arg("list")
        .exec(&mut source.connection())
        .unwrap();
    migrate(&source, &target, state.path()).run().expect_code(0);
    assert_arrived(&target, state.path(), 1);
}

/// A comparison while a key is half there: its pieces are no key that only the target has. They go by themselves if nobody
/// comes back.
#[test]
fn pieces_are_no_keys_to_a_comparison_and_expire() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_list(&source, "list", 20_000);
    let state = tempfile::tempdir().unwrap();
    let killed = migrate(&source, &target, state.path())
        .env("FAILPOINTS", "big_piece_written=5*off->return")
        .run();
    assert!(killed.was_killed(), "{killed}");
    let names = temporary_names(&target);
    assert_eq!(names.len(), 2, "{names:?}");
    for name in &names {
        let left: i64 = redis::cmd("TTL")
            .arg(name)
            .query(&mut target.connection())
            .unwrap();
        assert!((80_000..=86_400).contains(&left), "{name}: {left}");
    }
    let compared = Compared::of(compare(NAME, state.path()).run());
    assert_eq!(compared.count("extra"), 0);
    assert_eq!(compared.count("missing"), 1);
}

#[test]
fn a_stopped_run_leaves_a_key_that_the_next_one_goes_on_with() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_hash(&source, "hash", 20_000);
    let undisturbed = writes_undisturbed(&source, &target);
    let state = tempfile::tempdir().unwrap();
    let running = migrate(&source, &target, state.path())
        .args(["--bandwidth", "1MiB/s", "--grace", "100ms"])
        .start();
    wait_for("some pieces", Duration::from_secs(30), || {
        (writes(&target) > undisturbed / 8).then_some(())
    });
    running.signal(rustix::process::Signal::TERM);
    let stopped = running.wait();
    assert_eq!(stopped.code(), Some(143), "{stopped}");
    assert_eq!(target.keys(0), 2, "the key is not there yet");
    migrate(&source, &target, state.path()).run().expect_code(0);
    // The piece that was on its way may have arrived unseen: its mark says so.
    assert_eq!(writes(&target), undisturbed);
    assert_arrived(&target, state.path(), 1);
}

/// A target that keeps nothing: what it had acknowledged is gone, the pieces with it.
#[test]
fn a_target_that_restarts_empty_gets_the_key_from_its_beginning() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, mut target) = (Server::plain(&redis), Server::plain(&redis));
    set_list(&source, "list", 20_000);
    let state = tempfile::tempdir().unwrap();
    let running = migrate(&source, &target, state.path())
        .args(["--bandwidth", "1MiB/s"])
        .start();
    wait_for("some pieces", Duration::from_secs(30), || {
        (writes(&target) > 5).then_some(())
    });
    target.restart_empty();
    running.wait().expect_code(0);
    assert_arrived(&target, state.path(), 1);
}

/// Connections of both sides break again and again.
#[test]
fn over_connections_that_break_a_key_arrives_all_the_same() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_list(&source, "list", 10_000);
    set_stream(&source, "stream", 10_000);
    let (from, to) = (
        Proxy::start(source.port(), 1),
        Proxy::start(target.port(), 2),
    );
    let state = tempfile::tempdir().unwrap();
    let mut running = Redknot::migrate(&from.url(0), &to.url(0), state.path())
        .args(["--name", NAME, "--big-key", BIG, "--bandwidth", "1MiB/s"])
        .start();
    for cut in 0..6 {
        wait_for("more pieces", Duration::from_secs(30), || {
            let enough = writes(&target) > 3 * (cut + 1);
            (enough || !running.is_running()).then_some(())
        });
        match cut % 2 {
            0 => from.cut_now(Cut::Reset),
            _ => to.cut_now(Cut::Reset),
        }
    }
    running.wait().expect_code(0);
    assert_eq!(Oracle::between(&source, &target).assert_equal(), 2);
    assert_eq!(temporary_names(&target), Vec::<String>::new());
}
