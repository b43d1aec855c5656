//! How hard a run presses on its servers: limits that are given, kept to, and shown.

/// Those of a comparison.
mod comparing;
/// Whether a limit is kept to.
mod kept;
/// What other clients of the source feel beside a guarded copy.
mod latency;
/// Those of a repair.
mod repairing;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use ::redknot::progress::HeldBy;

use crate::support::cluster::Cluster;
use crate::support::comparing::compare;
use crate::support::redknot::{Redknot, Running, status_file, wait_for_status};
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};
use crate::support::wait_for;

struct Pair {
    source: Server,
    target: Server,
    state: tempfile::TempDir,
}

impl Pair {
    /// A source with so many strings of `bytes` bytes and a fourth as many hashes.
    fn new(strings: u64, bytes: u64) -> Option<Self> {
        let binary = require(REDIS_7_0)?;
        let pair = Self {
            source: Server::plain(&binary),
            target: Server::plain(&binary),
            state: tempfile::tempdir().unwrap(),
        };
        let mut source = pair.source.connection();
        redis::cmd("DEBUG")
            .arg(("POPULATE", strings, "key", bytes))
            .query::<()>(&mut source)
            .unwrap();
        redis::cmd("EVAL")
            .arg("for i = 1, ARGV[1] do redis.call('HSET', 'hash:' .. i, 'field', i) end")
            .arg((0, strings / 4))
            .query::<()>(&mut source)
            .unwrap();
        Some(pair)
    }

    fn migrate(&self) -> Redknot {
        Redknot::migrate(&self.source.url(0), &self.target.url(0), self.state.path())
            .args(["--name", "m"])
    }

    /// What `counted` grows by in a second, over ten of them.
    fn per_second(&self, running: &mut Running, counted: impl Fn(&Self) -> f64) -> f64 {
        wait_for("the first keys", Duration::from_secs(20), || {
            (self.target.keys(0) > 0).then_some(())
        });
        let (began, before) = (Instant::now(), counted(self));
        std::thread::sleep(Duration::from_secs(10));
        let (seconds, after) = (began.elapsed().as_secs_f64(), counted(self));
        assert!(running.is_running(), "{}", running.stderr_so_far());
        (after - before) / seconds
    }
}

/// Payload bytes of a string as DUMP answers it: its type, its length, itself, and the footer.
fn payload_bytes(string: u64) -> f64 {
    (1 + 2 + string + 10) as f64
}

#[test]
fn a_rate_is_kept_to_within_a_twentieth_over_ten_seconds() {
    let Some(pair) = Pair::new(80_000, 10) else {
        return;
    };
    let mut running = pair.migrate().args(["--rate", "3000/s"]).start();
    let per_s = pair.per_second(&mut running, |pair| pair.target.keys(0) as f64);
    eprintln!("--rate 3000/s: {per_s:.0} keys/s");
    assert!((2850.0..=3150.0).contains(&per_s), "{per_s} keys/s");
    running.kill_9();
}

#[test]
fn names_that_are_passed_over_count_a_tenth() {
    let Some(pair) = Pair::new(80_000, 10) else {
        return;
    };
    for flag in [["--match", "hash:*"], ["--exclude", "key:*"]] {
        let state = tempfile::tempdir().unwrap();
        let target = Server::plain(&require(REDIS_7_0).unwrap());
        let finished = Redknot::migrate(&pair.source.url(0), &target.url(0), state.path())
            .args(["--name", "m", "--rate", "10000/s"])
            .args(flag)
            .run()
            .expect_code(0);
        assert_eq!(target.keys(0), 20_000);
        // 20 000 keys, and 80 000 names.
        let took = finished.wall.as_secs_f64();
        eprintln!("{flag:?}: {took:.2} s");
        assert!((2.6..4.5).contains(&took), "{flag:?}: {took} s");
    }
}

#[test]
fn a_bandwidth_is_kept_to_within_a_twentieth_over_ten_seconds() {
    let Some(pair) = Pair::new(40_000, 4_000) else {
        return;
    };
    let wanted = f64::from(4 << 20);
    let mut running = pair.migrate().args(["--bandwidth", "4MiB/s"]).start();
    // Hashes have some 30 bytes, strings 4000; which is which is told by the memory that the target's values take.
    let strings = |pair: &Pair| {
        let mut target = pair.target.connection();
        let count = "local n = 0; for _, k in ipairs(redis.call('KEYS', 'key:*')) do n = n + 1 end return n";
        redis::cmd("EVAL")
            .arg((count, 0))
            .query::<u64>(&mut target)
            .unwrap() as f64
    };
    let per_s = pair.per_second(&mut running, |pair| strings(pair) * payload_bytes(4_000));
    eprintln!(
        "--bandwidth 4MiB/s: {:.3} MiB/s of strings",
        per_s / f64::from(1 << 20)
    );
    let ratio = per_s / wanted;
    assert!((0.95..=1.05).contains(&ratio), "{ratio}");
    running.kill_9();
}

#[test]
fn what_a_copy_is_held_back_by_is_shown_and_told_to_the_journal() {
    let Some(pair) = Pair::new(8_000, 10) else {
        return;
    };
    let running = pair.migrate().args(["--rate", "3000/s", "--json"]).start();
    let status = wait_for_status(
        "m",
        pair.state.path(),
        "a limit that holds back",
        |status| status.throttle.is_some(),
    );
    assert_eq!(status.throttle.as_deref(), Some("the limit of 3000 keys/s"));
    assert_eq!(status.throttled_by, Some(HeldBy::Rate));
    assert_eq!(status.limits.keys_per_s, Some(3000));
    assert_eq!(status.limits.bytes_per_s, None);
    let shown = Redknot::new(["status", "m", "--state-dir"])
        .arg(pair.state.path())
        .run()
        .expect_code(0);
    let said = "waiting: the limit of 3000 keys/s";
    assert!(shown.stdout().contains(said), "{shown}");
    running.wait().expect_code(0);
    assert_eq!(pair.target.keys(0), 10_000);
    let status = status_file("m", pair.state.path()).unwrap();
    assert_eq!(status.throttle, None);
    let told = Redknot::new(["audit", "show", "m", "--state-dir"])
        .arg(pair.state.path())
        .run()
        .expect_code(0);
    let said = "for the source: the limit of 3000 keys/s";
    assert!(told.stdout().contains(said), "{told}");
}

#[test]
fn values_larger_than_their_second_come_one_by_one() {
    let Some(pair) = Pair::new(4, 200_000) else {
        return;
    };
    let began = Instant::now();
    pair.migrate()
        .args(["--bandwidth", "200KiB/s"])
        .run()
        .expect_code(0);
    // The first is free, the others wait until the one before is paid for.
    let took = began.elapsed().as_secs_f64();
    assert!((2.5..10.0).contains(&took), "{took} s");
    assert_eq!(pair.target.keys(0), 5);
}

fn throttle(pair: &Pair, flags: &[&str]) -> Redknot {
    Redknot::new(["throttle", "m"])
        .args(flags)
        .arg("--state-dir")
        .arg(pair.state.path())
}

#[test]
fn limits_change_while_it_runs_and_end_with_the_run() {
    let Some(pair) = Pair::new(40_000, 10) else {
        return;
    };
    let state = pair.state.path();
    let running = pair.migrate().args(["--rate", "500/s", "--json"]).start();
    wait_for_status("m", state, "the first keys", |status| {
        status.throttle.is_some()
    });
    let told = throttle(&pair, &["--rate", "1500/s", "--bandwidth", "1GiB/s"])
        .run()
        .expect_code(0);
    assert_eq!(
        told.stdout(),
        "m   limits: 1500 keys/s, 1GiB/s (were: 500 keys/s)\n"
    );
    let status = wait_for_status("m", state, "the new limits", |status| {
        status.limits.keys_per_s == Some(1500)
    });
    assert_eq!(status.limits.bytes_per_s, Some(1 << 30));
    let mode = std::fs::metadata(state.join("m/control.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    wait_for_status("m", state, "the limit to hold back", |status| {
        status.throttle.as_deref() == Some("the limit of 1500 keys/s")
    });
    throttle(&pair, &["--rate", "none", "--bandwidth", "none"])
        .run()
        .expect_code(0);
    let finished = running.wait().expect_code(0);
    let changes = finished
        .json_lines()
        .into_iter()
        .filter(|line| line["type"] == "limits_changed");
    let rates: Vec<_> = changes
        .map(|line| line["limits"]["keys_per_s"].clone())
        .collect();
    assert_eq!(rates, [serde_json::json!(1500), serde_json::Value::Null]);
    let told = Redknot::new(["audit", "show", "m", "--state-dir"])
        .arg(state)
        .run()
        .expect_code(0);
    let said = "of run 1 from now on: 1500 keys/s, 1GiB/s";
    assert!(told.stdout().contains(said), "{told}");

    let refused = throttle(&pair, &["--rate", "1/s"]).run().expect_code(2);
    assert!(refused.stderr().contains("no run works on m"), "{refused}");
    assert_eq!(pair.target.keys(0), 50_000);
}

#[test]
fn what_one_run_was_told_does_not_concern_the_next() {
    let Some(pair) = Pair::new(8_000, 10) else {
        return;
    };
    let state = pair.state.path();
    let running = pair.migrate().args(["--rate", "200/s"]).start();
    wait_for_status("m", state, "the first keys", |status| {
        status.throttle.is_some()
    });
    throttle(&pair, &["--rate", "100/s"]).run().expect_code(0);
    wait_for_status("m", state, "the new limit", |status| {
        status.limits.keys_per_s == Some(100)
    });
    running.signal(rustix::process::Signal::INT);
    running.wait().expect_code(130);
    assert!(pair.target.keys(0) < 9_000);
    let finished = pair.migrate().arg("--json").run().expect_code(0);
    assert!(finished.wall < Duration::from_secs(10), "{finished}");
    let limited = finished
        .json_lines()
        .into_iter()
        .any(|line| line["type"] == "limits_changed");
    assert!(!limited, "{finished}");
    assert_eq!(pair.target.keys(0), 10_000);
}

fn set(server: &Server, name: &str, value: &str) {
    redis::cmd("CONFIG")
        .arg(("SET", name, value))
        .query::<()>(&mut server.connection())
        .unwrap();
}

/// Whether the server has refused a write for want of memory.
fn has_refused(server: &Server) -> bool {
    server.info("errorstats").contains_key("errorstat_OOM")
}

fn waits_for_memory(flags: &[&str]) {
    let Some(pair) = Pair::new(40_000, 1_000) else {
        return;
    };
    set(&pair.target, "maxmemory", "20mb");
    let state = pair.state.path();
    let running = pair.migrate().args(flags).start();
    let status = wait_for_status("m", state, "the wait for memory", |status| {
        let throttle = status.throttle.as_deref();
        throttle.is_some_and(|why| why.starts_with("the target's memory: "))
    });
    let written = status.counters.keys_written;
    assert!((1..50_000).contains(&written), "{written}");
    assert_eq!(status.throttled_by, Some(HeldBy::Memory));
    assert!(!has_refused(&pair.target), "it waited too late");
    set(&pair.target, "maxmemory", "0");
    let finished = running.wait().expect_code(0);
    let said = "the target has memory again, after ";
    assert!(finished.stderr().contains(said), "{finished}");
    assert!(!has_refused(&pair.target));
    assert_eq!(pair.target.keys(0), 50_000);
}

#[test]
fn a_target_that_is_nearly_full_is_waited_for_before_it_refuses() {
    waits_for_memory(&["--rate", "5000/s"]);
    waits_for_memory(&[]);
}

#[test]
fn one_node_of_a_cluster_without_room_is_waited_for_by_its_name() {
    let Some(pair) = Pair::new(40_000, 1_000) else {
        return;
    };
    let cluster = Cluster::start(&require(REDIS_7_0).unwrap(), 3, 0);
    let node = cluster.masters()[1];
    set(node, "maxmemory", "10mb");
    let state = pair.state.path();
    let running = Redknot::migrate(&pair.source.url(0), &cluster.url(), state)
        .args(["--name", "m"])
        .start();
    let of_node = format!("the target's memory at {}: ", node.address());
    let status = wait_for_status("m", state, "the wait for memory", |status| {
        let throttle = status.throttle.as_deref();
        throttle.is_some_and(|why| why.starts_with(&of_node))
    });
    assert!(status.counters.keys_written > 0);
    set(node, "maxmemory", "0");
    running.wait().expect_code(0);
    assert!(!has_refused(node));
    assert_eq!(cluster.keys(), 50_000);
}

#[test]
fn a_node_of_a_cluster_that_evicts_is_named_before_it_begins_and_counted() {
    let Some(pair) = Pair::new(20_000, 1_000) else {
        return;
    };
    let cluster = Cluster::start(&require(REDIS_7_0).unwrap(), 3, 0);
    let node = cluster.masters()[2];
    set(node, "maxmemory-policy", "allkeys-random");
    set(node, "maxmemory", "5mb");
    let state = pair.state.path();
    let finished = Redknot::migrate(&pair.source.url(0), &cluster.url(), state)
        .args(["--name", "m"])
        .run()
        .expect_code(0);
    let said = format!(
        "{}, a node of the target, evicts keys when it is full (allkeys-random)",
        node.address()
    );
    assert!(finished.stderr().contains(&said), "{finished}");
    let evicted = status_file("m", state).unwrap().evicted_keys;
    let missing = 25_000 - cluster.keys();
    // To serve a connection takes memory too.
    assert!((0..1000).contains(&(missing - evicted)), "{missing}");
}

#[test]
fn a_target_into_which_everything_just_fits_is_not_waited_for() {
    let Some(pair) = Pair::new(40_000, 1_000) else {
        return;
    };
    let memory = |server: &Server| -> u64 { server.info("memory")["used_memory"].parse().unwrap() };
    let needed = memory(&pair.source);
    redis::cmd("CONFIG")
        .arg(("SET", "maxmemory", needed + needed / 12))
        .query::<()>(&mut pair.target.connection())
        .unwrap();
    // As fast as it goes: the memory shrinks in leaps.
    let finished = pair
        .migrate()
        .args(["--max-unavailable", "3s"])
        .run()
        .expect_code(0);
    eprintln!(
        "{} of {} bytes; {}",
        memory(&pair.target),
        needed + needed / 12,
        finished.stderr()
    );
    assert_eq!(pair.target.keys(0), 50_000);
}

#[test]
fn a_run_that_waits_for_memory_for_too_long_ends() {
    let Some(pair) = Pair::new(40_000, 1_000) else {
        return;
    };
    redis::cmd("CONFIG")
        .arg(("SET", "maxmemory", "20mb"))
        .query::<()>(&mut pair.target.connection())
        .unwrap();
    let finished = pair
        .migrate()
        .args(["--rate", "5000/s", "--max-unavailable", "1s"])
        .run()
        .expect_code(12);
    let said = "waited for longer than 1s for the target's memory: ";
    assert!(finished.stderr().contains(said), "{finished}");
}

#[test]
fn what_a_target_evicts_is_counted_and_said() {
    let Some(pair) = Pair::new(40_000, 1_000) else {
        return;
    };
    set(&pair.target, "maxmemory-policy", "allkeys-lru");
    set(&pair.target, "maxmemory", "20mb");
    let state = pair.state.path();
    let finished = pair.migrate().arg("--json").run().expect_code(0);
    for said in [
        "the target evicts keys when it is full (allkeys-lru)",
        "the target evicts keys, as it is full",
    ] {
        assert!(finished.stdout().contains(said), "{finished}");
    }
    let evicted = status_file("m", state).unwrap().evicted_keys;
    assert!(evicted > 0);
    let mut lines = finished.json_lines().into_iter();
    let end = lines.rfind(|line| line["type"] == "complete").unwrap();
    assert_eq!(end["evicted_keys"], evicted);
    let missing = 50_000 - pair.target.keys(0);
    // To serve a connection takes memory too.
    assert!((0..1000).contains(&(missing - evicted)), "{missing}");
    let about = |command: &[&str]| {
        let told = Redknot::new(command).args(["m", "--state-dir"]).arg(state);
        told.run().expect_code(0).stdout()
    };
    let shown = about(&["status"]);
    let counted = shown.replace(' ', "");
    let said = format!("keysevictedonthetargetduringtherun:{evicted}");
    assert!(counted.contains(&said), "{shown}");
    let shown = about(&["audit", "show"]);
    let said = format!("keysevictedonthetargetduringrun1:{evicted}");
    assert!(shown.replace(' ', "").contains(&said), "{shown}");

    let report = about(&["audit", "report", "--md"]);
    let said = "Keys evicted on the target during run 1";
    assert!(report.contains(said), "{report}");

    // Whoever compares sees each of them, and what was evicted to make room for its questions.
    let compared = compare("m", state)
        .args(["--from", &pair.source.url(0), "--to", &pair.target.url(0)])
        .run()
        .expect_code(1);
    let mut lines = compared.json_lines().into_iter();
    let result = lines.rfind(|line| line["type"] == "compared").unwrap();
    let missing = result["counters"]["missing"].as_u64().unwrap();
    assert!(missing >= evicted, "{missing} of {evicted}");
}
