//! The rules of resuming, each on real servers: what is continued, what begins anew, and what is refused.

use std::path::Path;
use std::time::{Duration, Instant};

use ::redknot::progress::{LaneDecision, RunState};
use rustix::process::Signal;

use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Oracle;
use crate::support::redknot::{Finished, Redknot, Running, status};
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{Binary, REDIS_7_0, VALKEY_9_1, require};
use crate::support::{seed, wait_for};

const NAME: &str = "resumed";
/// Enough that a run is met in its middle.
const KEYS: u32 = 60_000;

struct Pair {
    source: Server,
    target: Server,
    state: tempfile::TempDir,
}

impl Pair {
    fn new(binary: &Binary) -> Self {
        Self::of(
            ServerSpec::new(binary.clone()),
            ServerSpec::new(binary.clone()),
        )
    }

    fn of(source: ServerSpec, target: ServerSpec) -> Self {
        let pair = Self {
            source: Server::start(source),
            target: Server::start(target),
            state: tempfile::tempdir().unwrap(),
        };
        fill(&pair.source, 0, &DataSet::new(KEYS, seed()));
        pair
    }

    fn migrate(&self) -> Redknot {
        migrate(&self.source.url(0), &self.target.url(0), self.state.path())
    }

    /// Waits until a third of the keys is on the target.
    fn wait_for_a_third(&self, running: &mut Running) {
        let wanted = self.source.keys(0) / 3;
        let mut connection = self.target.connection();
        wait_for("a third of the keys", Duration::from_secs(60), || {
            assert!(
                running.is_running(),
                "the run ended too early: {}",
                running.stderr_so_far()
            );
            let keys: u64 = redis::cmd("DBSIZE").query(&mut connection).unwrap();
            (keys >= wanted).then_some(())
        });
    }

    /// A run that was killed after a third.
    fn killed_at_a_third(&self) -> Finished {
        let mut running = self.migrate().start();
        self.wait_for_a_third(&mut running);
        running.kill_9()
    }

    fn assert_equal(&self) {
        let keys = Oracle::between(&self.source, &self.target).assert_equal();
        assert_eq!(keys as u64, self.source.keys(0));
    }

    /// Passes of the only lane, and the reason of the last one.
    fn passes(&self) -> (usize, String) {
        let status = status(NAME, self.state.path());
        assert!(status.counters.balance(), "{status:?}");
        (
            status.passes.len(),
            status
                .passes
                .last()
                .expect("a pass was begun")
                .reason
                .clone(),
        )
    }
}

fn migrate(from: &str, to: &str, state_dir: &Path) -> Redknot {
    Redknot::migrate(from, to, state_dir).args(["--name", NAME, "--json", "--batch", "100"])
}

/// What the run decided about its lane.
fn decision(finished: &Finished) -> LaneDecision {
    let lines = finished.json_lines();
    let line = lines
        .iter()
        .find(|line| line["type"] == "lane")
        .unwrap_or_else(|| panic!("no lane was decided\n{finished}"));
    serde_json::from_value(line["decision"].clone()).unwrap()
}

#[test]
fn the_same_process_is_continued_at_its_cursor() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let pair = Pair::new(&redis);
    pair.killed_at_a_third();
    let restored = pair.target.writes();
    let finished = pair.migrate().run().expect_code(0);
    assert_eq!(decision(&finished), LaneDecision::Continue);
    assert_eq!(pair.passes().0, 1);
    let again = pair.target.writes() - restored;
    assert!(
        again < pair.source.keys(0) * 3 / 4,
        "{again} RESTOREs after the resume: it began anew"
    );
    pair.assert_equal();
}

#[test]
fn a_run_finds_its_way_back_within_a_second() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let pair = Pair::new(&redis);
    pair.killed_at_a_third();
    let restored = pair.target.writes();
    let began = Instant::now();
    let running = pair.migrate().start();
    // More than the handshake's probe.
    wait_for("the first RESTORE", Duration::from_secs(5), || {
        (pair.target.writes() > restored + 1).then_some(())
    });
    let took = began.elapsed();
    running.wait().expect_code(0);
    assert!(
        took < Duration::from_secs(1),
        "the first RESTORE came {took:?} after the start"
    );
}

#[test]
fn a_restarted_source_is_scanned_again_and_no_key_is_missing() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let mut pair = Pair::new(&redis);
    let mut running = pair.migrate().start();
    pair.wait_for_a_third(&mut running);
    pair.source.restart();
    running.wait().expect_code(0);
    let (passes, reason) = pair.passes();
    assert_eq!(passes, 2, "{reason}");
    assert!(
        reason.contains("run_id changed") && reason.contains("canary"),
        "{reason}"
    );
    pair.assert_equal();
}

#[test]
fn a_source_restarted_between_two_runs_is_scanned_again() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let mut pair = Pair::new(&redis);
    pair.killed_at_a_third();
    pair.source.restart();
    let finished = pair.migrate().run().expect_code(0);
    assert_eq!(decision(&finished), LaneDecision::NewPass);
    assert_eq!(pair.passes().0, 2);
    pair.assert_equal();
}

#[test]
fn a_dead_cursor_ends_the_run_if_that_was_asked_for() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let mut pair = Pair::new(&redis);
    pair.killed_at_a_third();
    pair.source.restart();
    let finished = pair
        .migrate()
        .args(["--on-source-change", "fail"])
        .run()
        .expect_code(23);
    assert!(finished.stderr().contains("run_id changed"), "{finished}");
    pair.migrate().run().expect_code(0);
    pair.assert_equal();
}

#[test]
fn a_mere_reconnect_begins_no_new_pass() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let pair = Pair::new(&redis);
    let mut running = pair.migrate().start();
    for server in [&pair.source, &pair.target] {
        pair.wait_for_a_third(&mut running);
        let mut connection = server.connection();
        let killed: u64 = redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("normal")
            .arg("SKIPME")
            .arg("yes")
            .query(&mut connection)
            .unwrap();
        assert!(killed > 0, "there was a connection to kill");
    }
    let finished = running.wait().expect_code(0);
    assert!(
        finished
            .json_lines()
            .iter()
            .any(|line| line["type"] == "retry"),
        "nothing was retried\n{finished}"
    );
    assert_eq!(pair.passes().0, 1);
    pair.assert_equal();
}

#[test]
fn a_fixed_hash_seed_keeps_the_cursor_alive_over_a_restart() {
    let Some(valkey) = require(VALKEY_9_1) else {
        return;
    };
    let spec = || ServerSpec::new(valkey.clone()).config("hash-seed", "redknot");
    let mut pair = Pair::of(spec(), spec());
    pair.killed_at_a_third();
    pair.source.restart();
    let finished = pair.migrate().run().expect_code(0);
    assert_eq!(decision(&finished), LaneDecision::Continue, "{finished}");
    let (passes, _) = pair.passes();
    assert_eq!(passes, 1);
    pair.assert_equal();
}

#[test]
fn a_target_that_came_back_empty_is_written_again() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    // While it runs.
    let mut pair = Pair::new(&redis);
    let mut running = pair.migrate().start();
    pair.wait_for_a_third(&mut running);
    pair.target.restart_empty();
    running.wait().expect_code(0);
    let (passes, reason) = pair.passes();
    assert_eq!(passes, 2, "{reason}");
    assert!(reason.contains("suspect"), "{reason}");
    pair.assert_equal();

    // Between two runs.
    let mut pair = Pair::new(&redis);
    pair.killed_at_a_third();
    pair.target.restart_empty();
    let finished = pair.migrate().run().expect_code(0);
    assert_eq!(decision(&finished), LaneDecision::NewPass, "{finished}");
    pair.assert_equal();
}

#[test]
fn a_complete_migration_is_not_called_complete_on_a_target_that_came_back_empty() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let mut pair = Pair::new(&redis);
    pair.migrate().run().expect_code(0);
    pair.target.restart_empty();
    let finished = pair.migrate().run().expect_code(1);
    assert!(finished.stderr().contains("suspect"), "{finished}");
    assert_eq!(
        pair.target.keys(0),
        0,
        "nothing is written without being asked for"
    );
    pair.migrate().arg("--new-pass").run().expect_code(0);
    pair.assert_equal();
}

#[test]
fn a_complete_migration_started_again_sends_nothing() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let pair = Pair::new(&redis);
    pair.migrate().run().expect_code(0);
    let restored = pair.target.writes();
    let scanned = pair.source.calls("scan");
    let finished = pair.migrate().run().expect_code(0);
    assert_eq!(
        (pair.target.writes(), pair.source.calls("scan")),
        (restored, scanned)
    );
    assert!(finished.stderr().contains("already complete"), "{finished}");
}

#[test]
fn another_plan_under_the_same_name_is_refused_with_both_values() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let pair = Pair::new(&redis);
    pair.killed_at_a_third();
    let finished = pair
        .migrate()
        .args(["--match", "user:*"])
        .run()
        .expect_code(26);
    let said = finished.stderr();
    assert!(
        said.contains("--match") && said.contains("user:*") && said.contains("(none)"),
        "{finished}"
    );
    pair.migrate().run().expect_code(0);
    pair.assert_equal();
}

#[test]
fn a_stop_saves_a_checkpoint_and_the_same_command_goes_on() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let pair = Pair::new(&redis);
        let mut running = pair.migrate().start();
        pair.wait_for_a_third(&mut running);
        running.signal(signal);
        let finished = running.wait().expect_code(code);
        assert!(
            finished
                .stderr()
                .contains("Run the same command to continue"),
            "{finished}"
        );
        let stopped = status(NAME, pair.state.path());
        assert_eq!(stopped.state, RunState::Stopped);
        // A stop brings what is in flight to its end: nothing of it is copied again.
        let written = pair.target.keys(0);
        assert_eq!(stopped.counters.keys_scanned, written, "{stopped:?}");
        let finished = pair.migrate().run().expect_code(0);
        assert_eq!(decision(&finished), LaneDecision::Continue);
        pair.assert_equal();
    }
}

#[test]
fn two_runs_on_one_state_do_not_meet() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let pair = Pair::new(&redis);
    let mut running = pair.migrate().start();
    pair.wait_for_a_third(&mut running);
    let refused = pair.migrate().run().expect_code(14);
    assert!(
        refused.stderr().contains(&running.pid().to_string()),
        "the holder is named\n{refused}"
    );
    running.wait().expect_code(0);
    pair.assert_equal();
}

/// After a restart of the source every key is met again, and what the first pass wrote must not look like somebody's.
#[test]
fn a_new_pass_knows_our_own_writes_from_somebody_elses() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    for policy in ["skip", "fail"] {
        let mut pair = Pair::new(&redis);
        let theirs = if policy == "skip" { 50 } else { 0 };
        for key in 0..theirs {
            let name = format!("theirs:{key}");
            redis::cmd("SET")
                .arg(&name)
                .arg("source")
                .exec(&mut pair.source.connection())
                .unwrap();
            redis::cmd("SET")
                .arg(&name)
                .arg("target")
                .exec(&mut pair.target.connection())
                .unwrap();
        }
        let migrate = pair.migrate().args(["--on-conflict", policy]);
        let mut running = migrate.start();
        pair.wait_for_a_third(&mut running);
        pair.source.restart();
        running.wait().expect_code(0);
        let status = status(NAME, pair.state.path());
        assert_eq!(status.passes.len(), 2, "{:?}", status.passes);
        assert_eq!(status.counters.keys_kept, theirs, "{policy}: {status:?}");
        let differences = Oracle::between(&pair.source, &pair.target)
            .compare()
            .differences;
        assert_eq!(
            differences.len() as u64,
            theirs,
            "{policy}: {:?}",
            differences.first()
        );
        assert!(
            differences
                .iter()
                .all(|difference| difference.key.starts_with(b"theirs:"))
        );
    }
}
