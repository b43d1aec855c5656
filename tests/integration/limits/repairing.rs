//! How hard a repair presses on both servers.

use std::time::Duration;

use ::redknot::progress::{HeldBy, Status};
use serde_json::json;

use super::kept::{assert_kept_to, fill_with_noise, sent_bytes};
use super::{Pair, throttle};
use crate::support::comparing::{compare, repair};
use crate::support::redknot::{Redknot, status, wait_for_status};

impl Pair {
    /// A comparison has found so many keys missing, each of so many bytes.
    fn damaged(keys: u64, bytes: u64) -> Option<Self> {
        let pair = Self::new(400, 10)?;
        pair.migrate().run().expect_code(0);
        fill_with_noise(&pair.source, keys, bytes);
        compare("m", pair.state.path())
            .args(["--settle", "0s"])
            .run()
            .expect_code(1);
        Some(pair)
    }

    fn repair(&self) -> Redknot {
        repair("m", self.state.path()).arg("--apply")
    }

    fn wait_until_repair_is_held(&self, by: HeldBy) -> Status {
        wait_for_status(
            "m",
            self.state.path(),
            "a limit that holds back",
            |status| {
                let repair = status.repair.as_ref();
                repair.is_some_and(|repair| repair.throttled_by == Some(by))
            },
        )
    }
}

#[test]
fn a_repair_keeps_to_its_rate() {
    let Some(pair) = Pair::damaged(20_000, 10) else {
        return;
    };
    let mut running = pair.repair().args(["--rate", "500/s"]).start();
    pair.wait_until_repair_is_held(HeldBy::Rate);
    assert_kept_to(500.0, &mut running, || pair.target.calls("restore") as f64);
    running.kill_9();
}

#[test]
fn a_repair_keeps_to_its_bandwidth_by_what_it_reads_from_the_source() {
    let Some(pair) = Pair::damaged(1_200, 10_000) else {
        return;
    };
    let mut running = pair.repair().args(["--bandwidth", "500KiB/s"]).start();
    pair.wait_until_repair_is_held(HeldBy::Bandwidth);
    let source = || sent_bytes(&pair.source);
    assert_kept_to(f64::from(500 << 10), &mut running, source);
    running.kill_9();
}

#[test]
fn limits_of_a_repair_change_while_it_runs_and_are_shown_and_told() {
    let Some(pair) = Pair::damaged(6_000, 10) else {
        return;
    };
    let state = pair.state.path();
    let running = pair.repair().args(["--rate", "100/s", "--json"]).start();
    let status_then = pair.wait_until_repair_is_held(HeldBy::Rate);
    let said = "the limit of 100 keys/s";
    assert_eq!(status_then.throttle.as_deref(), Some(said));
    assert_eq!(status_then.throttled_by, Some(HeldBy::Rate));
    assert_eq!(status_then.limits.keys_per_s, Some(100));
    let shown = Redknot::new(["status", "m", "--state-dir"]).arg(state);
    let shown = shown.run().expect_code(0);
    assert!(
        shown.stdout().contains("waiting: the limit of 100 keys/s"),
        "{shown}"
    );
    throttle(&pair, &["--rate", "200/s"]).run().expect_code(0);
    wait_for_status("m", state, "the new limit to hold back", |status| {
        status.throttle.as_deref() == Some("the limit of 200 keys/s")
    });
    throttle(&pair, &["--rate", "none"]).run().expect_code(0);
    let finished = running.wait().expect_code(0);
    let lines = finished.json_lines();
    let events = |event: &'static str| lines.iter().filter(move |line| line["type"] == event);
    let rates: Vec<_> = events("limits_changed")
        .map(|line| line["limits"]["keys_per_s"].clone())
        .collect();
    assert_eq!(rates, [json!(200), json!(null)]);
    assert!(events("repair_progress").any(|line| line["throttled_by"] == "rate"));
    let told = Redknot::new(["audit", "show", "m", "--state-dir"]).arg(state);
    let told = told.run().expect_code(0);
    for said in [
        "of run 3 from now on: 200 keys/s",
        "for the source: the limit of 100 keys/s",
    ] {
        assert!(told.stdout().contains(said), "{said}: {told}");
    }
    assert_eq!(pair.target.keys(0), 6_500);
    let status = status("m", state);
    assert_eq!((status.throttle, status.throttled_by), (None, None));
}

#[test]
fn a_repair_that_keeps_to_a_rate_ends_with_its_time_and_is_continued() {
    let Some(pair) = Pair::damaged(2_000, 10) else {
        return;
    };
    let limited = pair.repair().args(["--rate", "200/s"]);
    limited.args(["--max-duration", "2s"]).run().expect_code(15);
    let written = pair.target.calls("restore");
    assert!((1..2_000).contains(&written), "{written}");
    pair.repair().run().expect_code(0);
    assert_eq!(pair.target.keys(0), 2_500);
}

#[test]
fn both_sides_of_a_repair_are_guarded() {
    let Some(pair) = Pair::damaged(2_000, 10) else {
        return;
    };
    let running = pair.repair().args(["--max-latency", "5s"]).start();
    let status = pair.wait_until_repair_is_held(HeldBy::Latency);
    assert_eq!(status.limits.latency_us, Some(5_000_000));
    let finished = running.wait().expect_code(0);
    // Both are measured alone first.
    assert!(finished.wall > Duration::from_secs(2), "{finished}");
    for server in [&pair.source, &pair.target] {
        assert!(server.calls("ping") >= 400);
    }
    assert_eq!(pair.target.keys(0), 2_500);
}
