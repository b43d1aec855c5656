use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;

use super::{NAME, Pair};
use crate::support::comparing::{Compared, assert_findings, compare_status, expected};
use crate::support::corrupt::{Damage, corrupt};
use crate::support::dataset::DataSet;
use crate::support::redknot::{Finished, Redknot, Running};
use crate::support::server::Server;
use crate::support::version::REDIS_7_0;
use crate::support::{repetitions, seed, wait_for};

/// Enough that a comparison is met in its middle.
const KEYS: u32 = 40_000;
const DAMAGES: usize = 300;

/// A damaged pair, what must be found, and the first comparison, which nobody disturbed.
struct Disturbed {
    pair: Pair,
    damages: Vec<Damage>,
    undisturbed: Compared,
    /// SCANs on the source that an undisturbed comparison needs.
    scans: u64,
}

impl Disturbed {
    fn new() -> Option<Self> {
        let seed = seed();
        let pair = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(KEYS, seed))?;
        let damages = corrupt(&pair.source, &pair.target, 0, DAMAGES, seed);
        let before = pair.source.calls("scan");
        let undisturbed = Compared::of(in_small_batches(&pair).run().expect_code(1));
        let scans = pair.source.calls("scan") - before;
        let disturbed = Self {
            pair,
            damages,
            undisturbed,
            scans,
        };
        disturbed.assert_result(None);
        Some(disturbed)
    }

    /// A new comparison that has come to a third of the source.
    fn at_a_third(&self) -> Running {
        let before = self.pair.source.calls("scan");
        let mut running = in_small_batches(&self.pair).start();
        wait_for("a third of the source", Duration::from_secs(60), || {
            assert!(
                running.is_running(),
                "it ended too early: {}",
                running.stderr_so_far()
            );
            (self.pair.source.calls("scan") - before >= self.scans / 3).then_some(())
        });
        running
    }

    /// The verdicts are right, and the counters those of the comparison that nobody disturbed.
    fn assert_result(&self, result: Option<&Compared>) {
        let wanted = expected(&self.damages);
        assert_findings(&self.pair.findings(), &wanted, &self.damages);
        let Some(result) = result else { return };
        for counter in [
            "keys_compared",
            "equal",
            "missing",
            "value",
            "type",
            "ttl",
            "extra",
            "undecided",
            "not_compared",
        ] {
            assert_eq!(
                result.count(counter),
                self.undisturbed.count(counter),
                "{counter}\n{}",
                result.finished
            );
        }
        assert_eq!(result.digests(), self.undisturbed.digests());
    }
}

/// So that there is much to be saved.
fn in_small_batches(pair: &Pair) -> Redknot {
    pair.compare().args(["--batch", "100"])
}

/// Whether the comparison says that it goes on where an earlier one ended.
fn resumed(finished: &Finished) -> bool {
    let lines = finished.json_lines();
    let start = lines.iter().find(|line| line["type"] == "compare_start");
    start.unwrap_or_else(|| panic!("no start\n{finished}"))["resumed"] == true
}

/// What it decided about its place on the source, in this order.
fn decisions(finished: &Finished) -> Vec<String> {
    let lines = finished.json_lines();
    let lanes = lines.iter().filter(|line| line["type"] == "compare_lane");
    lanes
        .map(|lane| lane["decision"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn killed_stopped_or_cut_off_a_comparison_goes_on_and_finds_the_same() {
    let Some(disturbed) = Disturbed::new() else {
        return;
    };
    killed(&disturbed);
    stopped(&disturbed);
    cut_off(&disturbed);
    begun_anew(&disturbed);
}

fn killed(disturbed: &Disturbed) {
    let killed = disturbed.at_a_third().kill_9();
    assert!(killed.was_killed(), "{killed}");
    let before = disturbed.pair.source.calls("scan");
    let result = Compared::of(in_small_batches(&disturbed.pair).run().expect_code(1));
    let again = disturbed.pair.source.calls("scan") - before;
    assert!(resumed(&result.finished), "{}", result.finished);
    let lines = result.finished.json_lines();
    let start = lines.iter().find(|line| line["type"] == "compare_start");
    let percent = start.unwrap()["percent"].as_f64().unwrap();
    assert!(percent > 5.0, "{percent} % was saved\n{}", lines[0]);
    assert_eq!(decisions(&result.finished), ["continue"]);
    assert!(
        again < disturbed.scans * 9 / 10,
        "{again} SCANs of {}: it began anew",
        disturbed.scans
    );
    let status = compare_status(NAME, disturbed.pair.state.path());
    assert_eq!(status["compare"], 2, "it is the same comparison: {status}");
    disturbed.assert_result(Some(&result));
}

#[test]
fn kills_at_random_moments_change_no_verdict() {
    let Some(disturbed) = Disturbed::new() else {
        return;
    };
    let mut random = StdRng::seed_from_u64(seed());
    let run_takes = disturbed.undisturbed.finished.wall.as_micros() as u64;
    let wanted = repetitions(8);
    let (mut kills, mut resumes) = (0, 0);
    while kills < wanted {
        let age = Duration::from_micros(random.random_range(20_000..run_takes));
        let finished = in_small_batches(&disturbed.pair).start().kill_9_after(age);
        if finished.was_killed() {
            kills += 1;
            continue;
        }
        // Killed at other moments, it would have come to its end as well.
        resumes += u32::from(resumed(&finished));
        disturbed.assert_result(Some(&Compared::of(finished.expect_code(1))));
    }
    let result = Compared::of(in_small_batches(&disturbed.pair).run().expect_code(1));
    resumes += u32::from(resumed(&result.finished));
    disturbed.assert_result(Some(&result));
    assert!(resumes > 0, "{kills} kills left nothing to go on with");
}

fn stopped(disturbed: &Disturbed) {
    let running = disturbed.at_a_third();
    running.signal(Signal::INT);
    let stopped = running.wait().expect_code(130);
    assert!(
        stopped.stderr().contains("same command"),
        "it says how to go on\n{stopped}"
    );
    let result = Compared::of(in_small_batches(&disturbed.pair).run().expect_code(1));
    assert!(resumed(&result.finished));
    disturbed.assert_result(Some(&result));
}

fn begun_anew(disturbed: &Disturbed) {
    disturbed.at_a_third().kill_9();
    let before = disturbed.pair.source.calls("scan");
    let finished = in_small_batches(&disturbed.pair).arg("--restart").run();
    let result = Compared::of(finished.expect_code(1));
    assert!(!resumed(&result.finished), "{}", result.finished);
    assert!(disturbed.pair.source.calls("scan") - before >= disturbed.scans);
    disturbed.assert_result(Some(&result));
}

/// The cursor of a source that was restarted means nothing any more: a quarter of the keys would not be looked at.
#[test]
fn a_source_that_restarts_is_scanned_anew() {
    let Some(mut disturbed) = Disturbed::new() else {
        return;
    };
    let running = disturbed.at_a_third();
    disturbed.pair.source.restart();
    let finished = running.wait().expect_code(1);
    assert!(
        decisions(&finished).contains(&"new_pass".to_owned()),
        "{finished}"
    );
    disturbed.assert_result(Some(&Compared::of(finished)));
    // And between two runs.
    disturbed.at_a_third().kill_9();
    disturbed.pair.source.restart();
    let result = Compared::of(in_small_batches(&disturbed.pair).run().expect_code(1));
    assert!(
        decisions(&result.finished).contains(&"new_pass".to_owned()),
        "{}",
        result.finished
    );
    disturbed.assert_result(Some(&result));
}

fn cut_off(disturbed: &Disturbed) {
    let mut running = disturbed.at_a_third();
    let kill = |server: &Server| -> u64 {
        redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("normal")
            .arg("SKIPME")
            .arg("yes")
            .query(&mut server.connection())
            .unwrap()
    };
    let killed = kill(&disturbed.pair.source);
    assert!(killed > 0 && running.is_running());
    kill(&disturbed.pair.target);
    let finished = running.wait().expect_code(1);
    assert!(
        !decisions(&finished).contains(&"new_pass".to_owned()),
        "{finished}"
    );
    disturbed.assert_result(Some(&Compared::of(finished)));
}

#[test]
fn a_killed_repair_goes_on_with_what_is_left() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(40_000, seed())) else {
        return;
    };
    let names: Vec<Vec<u8>> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut pair.target.connection())
        .unwrap();
    let missing = &names[..names.len() / 2];
    for names in missing.chunks(1_000) {
        redis::cmd("DEL")
            .arg(names)
            .exec(&mut pair.target.connection())
            .unwrap();
    }
    let compared = pair.compared(1);
    let missing = missing.len() as u64;
    assert_eq!(compared.count("missing"), missing);
    let keys = || pair.target.keys(0);
    let (before, restored) = (keys(), pair.target.calls("restore"));
    let mut running = pair.repair().arg("--apply").start();
    wait_for("a third of the repairs", Duration::from_secs(60), || {
        assert!(
            running.is_running(),
            "it ended too early: {}",
            running.stderr_so_far()
        );
        (keys() >= before + missing / 3).then_some(())
    });
    assert!(running.kill_9().was_killed());
    let done = pair.target.calls("restore") - restored;
    let finished = pair.repair().arg("--apply").run().expect_code(0);
    let again = pair.target.calls("restore") - restored - done;
    assert!(
        again < missing - done / 2,
        "{again} RESTOREs after {done} of {missing}: it began anew\n{finished}"
    );
    assert_eq!(pair.oracle().assert_equal() as u64, pair.source.keys(0));
    assert!(pair.findings().is_empty());
    pair.compared(0);
}

#[test]
fn kills_of_repair_at_random_moments_leave_nothing_wrong() {
    let seed = seed();
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(20_000, seed)) else {
        return;
    };
    let mut random = StdRng::seed_from_u64(seed);
    let mut kills = 0;
    for _ in 0..repetitions(3) {
        let damages = corrupt(&pair.source, &pair.target, 0, 1_000, random.random());
        pair.compared(1);
        assert_findings(&pair.findings(), &expected(&damages), &damages);
        let extras = damages
            .iter()
            .filter(|damage| {
                expected(std::slice::from_ref(damage)).values().next() == Some(&"extra")
            })
            .count()
            .to_string();
        let repair = pair
            .repair()
            .args(["--apply", "--delete-extra", "--yes", &extras]);
        for _ in 0..6 {
            let age = Duration::from_millis(random.random_range(10..100));
            let finished = repair.start().kill_9_after(age);
            if !finished.was_killed() {
                break;
            }
            kills += 1;
        }
        // Of extra keys that are gone already, none is left to be confirmed.
        pair.repair().arg("--apply").run();
        pair.compare().run();
        let left = pair.findings().len().to_string();
        pair.repair()
            .args(["--apply", "--delete-extra", "--yes", &left])
            .run()
            .expect_code(0);
        pair.oracle().assert_equal();
        pair.compared(0);
    }
    assert!(kills > 0, "no repair was killed");
}
