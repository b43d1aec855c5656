//! Kills the real binary, as the power of a VM does, and lets the same command go on.
//!
//! After every killing the same must hold: the command finishes, an oracle that shares no code with the copy finds both
//! servers equal, counters have never fallen, and no more keys were written twice than were in flight.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that can't go on panics, and says on stderr what it does"
)]

#[path = "integration/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use ::redknot::copy::lane::IN_FLIGHT_BATCHES_MAX;
use ::redknot::progress::{RunState, Status};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::dataset::{DataSet, fill};
use support::oracle::Oracle;
use support::redknot::{Redknot, status_file};
use support::server::Server;
use support::version::{REDIS_7_0, require};
use support::{repetitions, seed};

const NAME: &str = "killed";
const BATCH_KEYS: u64 = 50;
/// A SCAN reply may be a little larger than COUNT: by the length of a bucket's chain, more while the table is resized.
const BATCH_KEYS_MAX: u64 = BATCH_KEYS + 30;

fn migrate(source: &Server, target: &Server, state_dir: &Path) -> Redknot {
    Redknot::migrate(&source.url(0), &target.url(0), state_dir)
        .args(["--name", NAME, "--no-progress", "--batch"])
        .arg(BATCH_KEYS.to_string())
}

/// RESTOREs and SETs that the target executed with success.
fn writes(target: &Server) -> u64 {
    let stats = target.info("commandstats");
    let succeeded = |command: &str| {
        let Some(line) = stats.get(command) else {
            return 0;
        };
        let field = |name: &str| -> u64 {
            let field = line.split(',').find_map(|field| field.strip_prefix(name));
            field.unwrap_or("0").parse().unwrap()
        };
        // The handshake's probe is a RESTORE that fails.
        field("calls=") - field("failed_calls=")
    };
    succeeded("cmdstat_restore") + succeeded("cmdstat_set")
}

/// What was durable before must still be counted.
fn assert_counters_did_not_fall(before: &mut Option<Status>, state_dir: &Path) {
    let Some(now) = status_file(NAME, state_dir) else {
        return;
    };
    if let Some(before) = before {
        assert_eq!(
            now.passes.len(),
            1,
            "nobody restarted a server: {:?}",
            now.passes
        );
        assert!(
            now.counters.keys_scanned >= before.counters.keys_scanned,
            "{before:?}\n{now:?}"
        );
        assert!(
            now.counters.keys_written >= before.counters.keys_written,
            "{before:?}\n{now:?}"
        );
        assert!(
            now.batches_durable >= before.batches_durable,
            "{before:?}\n{now:?}"
        );
    }
    assert!(now.counters.balance(), "{now:?}");
    *before = Some(now);
}

fn assert_complete_and_equal(source: &Server, target: &Server, state_dir: &Path, kills: u64) {
    let status = status_file(NAME, state_dir).expect("a finished run leaves a status");
    assert_eq!(status.state, RunState::Complete, "{status:?}");
    assert!(
        status.counters.balance() && status.counters.keys_quarantined == 0,
        "{status:?}"
    );
    let keys = source.keys(0);
    assert_eq!(Oracle::between(source, target).assert_equal() as u64, keys);
    let again = writes(target) - keys;
    let window = IN_FLIGHT_BATCHES_MAX * BATCH_KEYS_MAX;
    assert!(
        again <= kills * window,
        "{again} keys written again after {kills} kills, at most {window} each are in flight"
    );
}

fn flush(server: &Server) {
    redis::cmd("FLUSHALL")
        .exec(&mut server.connection())
        .unwrap();
    redis::cmd("CONFIG")
        .arg("RESETSTAT")
        .exec(&mut server.connection())
        .unwrap();
}

#[test]
fn kills_at_random_moments_lose_no_key() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    fill(&source, 0, &DataSet::new(20_000, seed));
    let wanted = u64::from(repetitions(100));
    let (mut kills, mut migrations, mut again_in_all) = (0, 0, 0);
    // As long as an undisturbed run takes, measured below; kills later than that would hit nothing.
    let mut run_takes = Duration::from_millis(800);
    while kills < wanted {
        flush(&target);
        let state = tempfile::tempdir().unwrap();
        let mut kills_here = 0;
        let mut before = None;
        loop {
            let age = Duration::from_micros(
                random.random_range(5_000..run_takes.as_micros().max(10_000) as u64),
            );
            let running = migrate(&source, &target, state.path()).start();
            // After ten kills one run may finish, or a slow machine would never get on.
            let finished = match kills_here < 10 && kills < wanted {
                true => running.kill_9_after(age),
                false => running.wait(),
            };
            assert_counters_did_not_fall(&mut before, state.path());
            if finished.was_killed() {
                kills_here += 1;
                kills += 1;
                continue;
            }
            let finished = finished.expect_code(0);
            if kills_here == 0 {
                run_takes = finished.wall;
            }
            break;
        }
        assert_complete_and_equal(&source, &target, state.path(), kills_here);
        again_in_all += writes(&target) - source.keys(0);
        migrations += 1;
    }
    eprintln!(
        "{kills} kills in {migrations} migrations of {} keys: 0 lost, {again_in_all} written again",
        source.keys(0)
    );
    assert!(kills >= wanted && migrations > 1);
}

/// Kills at `point` for the `times`-th time it is passed, and finishes by the same command.
fn killed_at(point: &str, times: u32) {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill(&source, 0, &DataSet::new(30_000, seed()));
    let state = tempfile::tempdir().unwrap();
    let mut before = None;
    for kill in 1..=3 {
        let fail_points = match times {
            0 => format!("{point}=return"),
            times => format!("{point}={times}*off->return"),
        };
        let killed = migrate(&source, &target, state.path())
            .env("FAILPOINTS", fail_points)
            .run();
        assert!(
            killed.was_killed(),
            "kill {kill} at {point} did not happen\n{killed}"
        );
        assert_counters_did_not_fall(&mut before, state.path());
    }
    migrate(&source, &target, state.path()).run().expect_code(0);
    assert_complete_and_equal(&source, &target, state.path(), 3);
}

#[test]
fn killed_after_the_targets_ok_and_before_the_state_is_written() {
    killed_at("acknowledged_before_state_write", 20);
}

#[test]
fn killed_after_the_state_is_written_and_before_it_is_flushed() {
    killed_at("state_written_before_flush", 2);
}

#[test]
fn killed_after_the_state_is_flushed_and_before_it_is_fsynced() {
    killed_at("state_flushed_before_fsync", 2);
}

#[test]
fn killed_right_after_the_fsync() {
    killed_at("state_fsynced", 2);
}

#[test]
fn killed_while_the_state_is_opened() {
    killed_at("state_open", 0);
}

/// The main job at its real size: minutes, so only `make soak` runs it.
#[test]
#[ignore = "takes minutes; make soak runs it"]
fn a_million_keys_of_every_type_survive_ten_kills() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    fill(&source, 0, &DataSet::new(1_000_000, seed));
    let state = tempfile::tempdir().unwrap();
    let mut before = None;
    let mut kills = 0;
    let finished = loop {
        let running = Redknot::migrate(&source.url(0), &target.url(0), state.path())
            .args(["--name", NAME])
            .time_limit(Duration::from_secs(600))
            .start();
        let finished = match kills < 10 {
            true => running.kill_9_after(Duration::from_millis(random.random_range(100..2_000))),
            false => running.wait(),
        };
        assert_counters_did_not_fall(&mut before, state.path());
        if !finished.was_killed() {
            break finished.expect_code(0);
        }
        kills += 1;
    };
    let keys = source.keys(0);
    let again = writes(&target) - keys;
    assert_eq!(
        kills, 10,
        "the run ended before it could be killed ten times\n{finished}"
    );
    assert!(
        again <= kills * IN_FLIGHT_BATCHES_MAX * 530,
        "{again} keys written again"
    );
    assert_eq!(
        Oracle::between(&source, &target).assert_equal() as u64,
        keys
    );
    eprintln!(
        "{keys} keys, {kills} kills, {again} written again, {} KiB at most",
        finished.rss_max_bytes / 1024
    );
}
