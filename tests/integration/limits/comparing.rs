//! How hard a comparison presses on both servers.

use std::time::Duration;

use ::redknot::progress::{HeldBy, Status};
use rustix::process::Signal;
use serde_json::json;

use super::kept::{assert_kept_to, fill_with_noise, sent_bytes};
use super::{Pair, throttle};
use crate::support::cluster::Cluster;
use crate::support::comparing::{Compared, compare};
use crate::support::redknot::{Finished, Redknot, status as status_of, wait_for_status};
use crate::support::version::{REDIS_7_0, require};

impl Pair {
    /// Both sides have the same keys.
    fn migrated(strings: u64, bytes: u64) -> Option<Self> {
        let pair = Self::new(strings, bytes)?;
        pair.migrate().run().expect_code(0);
        Some(pair)
    }

    fn compare(&self) -> Redknot {
        compare("m", self.state.path())
    }

    /// Waits until the comparison says that it is held back by this.
    fn wait_until_held(&self, by: HeldBy) -> Status {
        wait_for_status(
            "m",
            self.state.path(),
            "a limit that holds back",
            |status| {
                let compare = status.compare.as_ref();
                compare.is_some_and(|compare| compare.throttled_by == Some(by))
            },
        )
    }
}

/// What the report's journal says.
fn journal(pair: &Pair) -> String {
    let told = Redknot::new(["audit", "show", "m", "--state-dir"]).arg(pair.state.path());
    told.run().expect_code(0).stdout()
}

/// The values of a field of all events of a type.
fn all(
    finished: &Finished,
    event: &str,
    field: impl Fn(&serde_json::Value) -> serde_json::Value,
) -> Vec<serde_json::Value> {
    let lines = finished.json_lines().into_iter();
    let events = lines.filter(|line| line["type"] == event);
    events.map(|line| field(&line)).collect()
}

#[test]
fn a_rate_is_kept_to_within_a_twentieth() {
    let Some(pair) = Pair::migrated(80_000, 10) else {
        return;
    };
    let mut running = pair
        .compare()
        .args(["--rate", "3000/s", "--compare-with", "dump"])
        .start();
    pair.wait_until_held(HeldBy::Rate);
    assert_kept_to(3000.0, &mut running, || pair.source.calls("dump") as f64);
    running.kill_9();
}

#[test]
fn strings_that_are_read_many_at_once_keep_to_the_rate_as_well() {
    let Some(pair) = Pair::migrated(80_000, 10) else {
        return;
    };
    let mut running = pair.compare().args(["--rate", "3000/s"]).start();
    pair.wait_until_held(HeldBy::Rate);
    assert!(pair.source.calls("mget") > 0);
    // Each key is asked for its expiry once.
    let keys = || pair.target.calls("pexpiretime") as f64;
    assert_kept_to(3000.0, &mut running, keys);
    running.kill_9();
}

#[test]
fn a_bandwidth_is_kept_to_within_a_twentieth() {
    let Some(pair) = Pair::migrated(16_000, 4_000) else {
        return;
    };
    let mut running = pair.compare().args(["--bandwidth", "2MiB/s"]).start();
    pair.wait_until_held(HeldBy::Bandwidth);
    let source = || sent_bytes(&pair.source);
    assert_kept_to(f64::from(2 << 20), &mut running, source);
    running.kill_9();
}

#[test]
fn limits_of_a_comparison_change_while_it_runs_and_are_shown_and_told() {
    let Some(pair) = Pair::migrated(24_000, 10) else {
        return;
    };
    let state = pair.state.path();
    let running = pair.compare().args(["--rate", "300/s"]).start();
    let status = pair.wait_until_held(HeldBy::Rate);
    assert_eq!(status.throttle.as_deref(), Some("the limit of 300 keys/s"));
    assert_eq!(status.throttled_by, Some(HeldBy::Rate));
    assert_eq!(status.limits.keys_per_s, Some(300));
    let compare = status.compare.unwrap();
    assert_eq!(compare.throttle, status.throttle);
    assert_eq!(compare.limits, status.limits);
    let shown = Redknot::new(["status", "m", "--state-dir"]).arg(state);
    let shown = shown.run().expect_code(0);
    let said = "waiting: the limit of 300 keys/s";
    assert!(shown.stdout().contains(said), "{shown}");

    let told = throttle(&pair, &["--rate", "400/s", "--bandwidth", "1GiB/s"]).run();
    let told = told.expect_code(0).stdout();
    let said = "m   limits: 400 keys/s, 1GiB/s (were: 300 keys/s)\n";
    assert_eq!(told, said);
    wait_for_status("m", state, "the new limit to hold back", |status| {
        status.throttle.as_deref() == Some("the limit of 400 keys/s")
    });
    let free = throttle(&pair, &["--rate", "none", "--bandwidth", "none"]);
    free.run().expect_code(0);
    let compared = Compared::of(running.wait().expect_code(0));
    compared.assert_equal(30_000);
    let finished = &compared.finished;
    let rates = all(finished, "limits_changed", |line| {
        line["limits"]["keys_per_s"].clone()
    });
    assert_eq!(rates, [json!(400), json!(null)]);
    let held = all(finished, "compare_progress", |line| {
        line["throttled_by"].clone()
    });
    assert!(held.contains(&json!("rate")), "{held:?}");
    let told = journal(&pair);
    for said in [
        "of run 2 from now on: 400 keys/s, 1GiB/s",
        "for the source: the limit of 300 keys/s",
        "for the source: the limit of 400 keys/s",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    let ended = status_of("m", state);
    assert_eq!((ended.throttle, ended.throttled_by), (None, None));
}

#[test]
fn a_comparison_with_what_was_recorded_presses_on_the_target_alone() {
    let Some(mut pair) = Pair::new(24_000, 400) else {
        return;
    };
    pair.migrate().arg("--record-digests").run().expect_code(0);
    pair.source.kill_9();
    let recorded = pair.compare().arg("--recorded");
    let mut running = recorded.args(["--rate", "1000/s"]).start();
    let status = pair.wait_until_held(HeldBy::Rate);
    assert_eq!(status.throttle.as_deref(), Some("the limit of 1000 keys/s"));
    assert_kept_to(1000.0, &mut running, || pair.target.calls("dump") as f64);
    running.signal(Signal::INT);
    running.wait().expect_code(130);
    let told = journal(&pair);
    let said = "for the target: the limit of 1000 keys/s";
    assert!(told.contains(said), "{told}");
}

#[test]
fn a_comparison_with_what_was_recorded_keeps_to_a_bandwidth_of_the_target() {
    let Some(mut pair) = Pair::new(400, 10) else {
        return;
    };
    fill_with_noise(&pair.source, 7_000, 1_000);
    pair.migrate().arg("--record-digests").run().expect_code(0);
    pair.source.kill_9();
    let recorded = pair.compare().arg("--recorded");
    let mut running = recorded.args(["--bandwidth", "200KiB/s"]).start();
    pair.wait_until_held(HeldBy::Bandwidth);
    let target = || sent_bytes(&pair.target) / (1.0 + AROUND_A_THOUSAND);
    assert_kept_to(f64::from(200 << 10), &mut running, target);
    throttle(&pair, &["--bandwidth", "none"])
        .run()
        .expect_code(0);
    Compared::of(running.wait().expect_code(0)).assert_equal(7_500);
}

/// Bytes beside a payload of a thousand, as a share of it: a name, an expiry, and what frames the three.
const AROUND_A_THOUSAND: f64 = 0.03;

#[test]
fn the_comparison_after_a_migration_keeps_to_what_that_kept_to_last() {
    let Some(pair) = Pair::new(8_000, 10) else {
        return;
    };
    let state = pair.state.path();
    let running = pair
        .migrate()
        .args(["--compare", "--rate", "500/s", "--json"])
        .start();
    wait_for_status("m", state, "a limit of the copy", |status| {
        status.throttled_by == Some(HeldBy::Rate)
    });
    throttle(&pair, &["--rate", "2000/s"]).run().expect_code(0);
    let status = pair.wait_until_held(HeldBy::Rate);
    assert_eq!(status.limits.keys_per_s, Some(2000));
    assert_eq!(status.throttle.as_deref(), Some("the limit of 2000 keys/s"));
    let finished = running.wait().expect_code(0);
    // Twice all keys, at the rate that was given last.
    assert!(finished.wall > Duration::from_secs(9), "{finished}");
    Compared::of(finished).assert_equal(10_000);
}

#[test]
fn a_comparison_that_keeps_to_a_rate_ends_with_its_time_and_is_continued() {
    let Some(pair) = Pair::migrated(16_000, 10) else {
        return;
    };
    let limited = pair.compare().args(["--rate", "1000/s", "--batch", "100"]);
    let finished = limited.args(["--max-duration", "5s"]).run().expect_code(15);
    let percent = status_of("m", pair.state.path()).compare.unwrap().percent;
    assert!(percent < 90.0, "{percent} %\n{finished}");
    let read = pair.target.calls("pexpiretime");
    assert!(read < 16_000, "{read}");
    let finished = pair.compare().run().expect_code(0);
    let resumed = all(&finished, "compare_start", |line| line["resumed"].clone());
    assert_eq!(resumed, [json!(true)]);
    let read_again = pair.target.calls("pexpiretime") - read;
    assert!(read_again < 20_000, "{read_again}");
    Compared::of(finished).assert_equal(20_000);
}

#[test]
fn both_sides_of_a_comparison_are_guarded() {
    let Some(pair) = Pair::migrated(8_000, 10) else {
        return;
    };
    let pings = [pair.source.calls("ping"), pair.target.calls("ping")];
    let running = pair.compare().args(["--max-latency", "5s"]).start();
    let status = pair.wait_until_held(HeldBy::Latency);
    assert_eq!(status.limits.latency_us, Some(5_000_000));
    let why = status.throttle.unwrap_or_default();
    assert!(why.contains("'s latency"), "{why}");
    let finished = running.wait().expect_code(0);
    for (server, before) in [&pair.source, &pair.target].into_iter().zip(pings) {
        // Each is measured alone first, by hundreds of them.
        let pings = server.calls("ping") - before;
        assert!(pings >= 400, "{pings}\n{finished}");
    }
    Compared::of(finished).assert_equal(10_000);
}

#[test]
fn every_node_of_a_cluster_is_guarded_and_the_rate_is_that_of_all_of_them() {
    let Some(pair) = Pair::new(24_000, 10) else {
        return;
    };
    let cluster = Cluster::start(&require(REDIS_7_0).unwrap(), 3, 0);
    let state = pair.state.path();
    let copy = Redknot::migrate(&pair.source.url(0), &cluster.url(), state);
    copy.args(["--name", "m"]).run().expect_code(0);
    let pings = || cluster.masters().into_iter().map(|node| node.calls("ping"));
    let before: Vec<u64> = pings().collect();
    let mut running = pair
        .compare()
        .args(["--rate", "1000/s", "--max-latency", "5s"])
        .start();
    let status = pair.wait_until_held(HeldBy::Latency);
    assert_eq!(status.limits.keys_per_s, Some(1000));
    pair.wait_until_held(HeldBy::Rate);
    for (now, before) in pings().zip(before) {
        assert!(now - before >= 400, "{now} {before}");
    }
    let keys = || -> f64 {
        let nodes = cluster.masters().into_iter();
        nodes.map(|node| node.calls("pexpiretime") as f64).sum()
    };
    assert_kept_to(1000.0, &mut running, keys);
    throttle(&pair, &["--rate", "none", "--max-latency", "none"])
        .run()
        .expect_code(0);
    Compared::of(running.wait().expect_code(0)).assert_equal(30_000);
}

#[test]
fn the_file_of_a_migration_limits_its_comparison_too() {
    let Some(pair) = Pair::migrated(1_600, 10) else {
        return;
    };
    let file = pair.state.path().join("flags.toml");
    std::fs::write(&file, "rate = \"1000/s\"\nbandwidth = \"1GiB/s\"\n").unwrap();
    let finished = pair.compare().arg("--config").arg(&file).run();
    let finished = finished.expect_code(0);
    assert!(finished.wall > Duration::from_millis(1_800), "{finished}");
    let limits = all(&finished, "compare_progress", |line| line["limits"].clone());
    let limit = json!({"keys_per_s": 1000, "bytes_per_s": 1 << 30, "latency_us": null});
    assert!(limits.contains(&limit), "{limits:?}");
}

#[test]
fn names_that_are_looked_for_count_a_tenth_and_what_differs_is_read_at_the_rate() {
    let Some(pair) = Pair::migrated(400, 10) else {
        return;
    };
    redis::cmd("EVAL")
        .arg("for i = 1, 4000 do redis.call('SET', 'extra:' .. i, i) end")
        .arg(0)
        .query::<()>(&mut pair.target.connection())
        .unwrap();
    let finished = pair
        .compare()
        .args(["--rate", "1000/s", "--settle", "50ms"])
        .run()
        .expect_code(1);
    // 500 keys, 4500 names listed and looked for, and 4000 keys that are read twice to be sure.
    assert!(finished.wall > Duration::from_secs(8), "{finished}");
    let compared = Compared::of(finished);
    assert_eq!(
        (compared.count("extra"), compared.findings()),
        (4_000, 4_000)
    );
}
