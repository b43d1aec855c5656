//! `redknot audit report`: its figures are those of the state, of the commands and of the servers; it can be looked at
//! anywhere; and no name does harm in it.

/// How it looks in a browser.
mod browser;
/// Names that would be markup, and names that must not be in it.
mod names;

use std::path::Path;
use std::time::{Duration, Instant};

use ::redknot::audit::report::model::{Phase, Report, RunEnd};
use ::redknot::audit::report::verdict::VerdictKind;
use ::redknot::progress::SizeCount;

use crate::support::comparing::{compare, compare_status, status_json};
use crate::support::dataset::{DataSet, fill};
use crate::support::redknot::{Finished, Redknot, Running};
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};
use crate::support::{seed, wait_for};

const NAME: &str = "told";

/// `redknot audit report`, of one form.
fn report(state_dir: &Path, args: &[&str]) -> Redknot {
    Redknot::new(["audit", "report", NAME, "--state-dir"])
        .arg(state_dir)
        .args(args)
}

/// The report as a program reads it.
fn parsed(state_dir: &Path) -> Report {
    let finished = report(state_dir, &["--json"]).run().expect_code(0);
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}\n{finished}"))
}

/// Waits until the target has so many keys, while the run is at work.
fn wait_for_keys(target: &Server, keys: u64, running: &mut Running) {
    wait_for("keys on the target", Duration::from_secs(60), || {
        assert!(
            running.is_running(),
            "the run ended too early: {}",
            running.stderr_so_far()
        );
        (target.keys(0) >= keys).then_some(())
    });
}

/// A migration that was killed, went on, and was compared.
struct Story {
    source: Server,
    target: Server,
    state: tempfile::TempDir,
    compared: Finished,
}

impl Story {
    /// Kills the first run when so many keys are durable. `None` where no server is here.
    fn of(fill_source: impl FnOnce(&Server), killed_at: u64, batch: &str) -> Option<Self> {
        let redis = require(REDIS_7_0)?;
        let (source, target) = (Server::plain(&redis), Server::plain(&redis));
        fill_source(&source);
        let state = tempfile::tempdir().unwrap();
        let migrate = Redknot::migrate(&source.url(0), &target.url(0), state.path())
            .args(["--name", NAME, "--batch", batch]);
        let mut running = migrate.start();
        wait_for_keys(&target, killed_at, &mut running);
        let killed = running.kill_9();
        assert!(killed.was_killed(), "{killed}");
        migrate.run().expect_code(0);
        let compared = compare(NAME, state.path())
            .args(["--settle", "50ms"])
            .run()
            .expect_code(0);
        Some(Self {
            source,
            target,
            state,
            compared,
        })
    }
}

#[test]
fn its_figures_are_those_of_status_compare_and_both_servers() {
    let fill_source = |source: &Server| {
        fill(source, 0, &DataSet::new(30_000, seed()));
    };
    let Some(story) = Story::of(fill_source, 5_000, "100") else {
        return;
    };
    let dir = story.state.path();
    let told = parsed(dir);
    assert_agrees(&told, &story);

    assert_eq!(told.runs.len(), 3, "{:?}", told.runs);
    assert_eq!(told.runs[0].end, RunEnd::Died, "{:?}", told.runs);
    assert_eq!(told.passes.len(), 1);
    assert_eq!(told.verdict.kind, VerdictKind::Equal, "{:?}", told.verdict);
    assert!(!told.running && told.phase == Phase::Copied);
    assert_eq!(told.quarantined.total, Some(0));
    assert_eq!(told.findings.total, Some(0));

    // The servers' own counters: the runs that could tell, and no other client has written.
    let served = &told.target.served;
    assert_eq!(served.runs, [2, 3]);
    let [(first, _)] = served.unknown.as_slice() else {
        panic!("only the run that died is not known: {served:?}");
    };
    assert_eq!(*first, 1);
    let calls = |name: &str| {
        let mut commands = served.commands.iter();
        commands
            .find(|(command, _)| command == name)
            .map_or(0, |(_, calls)| *calls)
    };
    assert!(calls("restore") > 0 && calls("restore") < story.target.calls("restore"));

    // What lies in the folder since the comparison ended says the same.
    let written = std::fs::read_to_string(dir.join(NAME).join("report.json")).unwrap();
    let mut written: Report = serde_json::from_str(&written).unwrap();
    written.made_ms = told.made_ms;
    assert_eq!(written, told);
    assert!(dir.join(NAME).join("report.html").is_file());
}

/// The figures of `told` are those of the commands and of both servers.
#[track_caller]
fn assert_agrees(told: &Report, story: &Story) {
    let dir = story.state.path();
    let status = status_json(NAME, dir);
    let said = |value: &serde_json::Value| serde_json::to_value(value).unwrap();
    assert_eq!(
        serde_json::to_value(told.counters).unwrap(),
        said(&status["counters"])
    );
    let newest = told.compares.last().expect("there was one comparison");
    let compared = compare_status(NAME, dir);
    assert_eq!(
        serde_json::to_value(newest.counters).unwrap(),
        said(&compared["counters"])
    );
    let lines = story.compared.json_lines();
    let event = lines.iter().rfind(|line| line["type"] == "compared");
    let event = event.unwrap_or_else(|| panic!("no result\n{}", story.compared));
    assert_eq!(event["counters"]["equal"], newest.counters.equal);
    assert_eq!(event["source_digest"], newest.source_digest.as_str());
    assert_eq!(newest.counters.equal, story.target.keys(0));
    assert_eq!(newest.counters.equal, story.source.keys(0));

    assert!(told.counters.balance(), "{:?}", told.counters);
    assert!(
        told.makeup.is_of(told.counters.keys_written),
        "{:?}",
        told.makeup
    );
    let lives = newest.lives.as_ref().expect("expiries were compared");
    assert_eq!(lives.keys(), newest.counters.equal);
    assert_eq!(
        lives.drifts().map(|(_, keys)| keys).sum::<u64>(),
        lives.keys()
    );
}

#[test]
fn types_sizes_and_times_to_live_are_those_of_the_keys() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let mut connection = source.connection();
    for n in 0..10 {
        redis::cmd("SET")
            .arg(format!("s{n}"))
            .arg("x".repeat(1000))
            .exec(&mut connection)
            .unwrap();
        redis::cmd("RPUSH")
            .arg(format!("l{n}"))
            .arg("x")
            .exec(&mut connection)
            .unwrap();
    }
    for (key, ms) in [("s0", 5_000_000), ("s1", 5_000_000), ("l0", 100_000_000)] {
        redis::cmd("PEXPIRE")
            .arg(key)
            .arg(ms)
            .exec(&mut connection)
            .unwrap();
    }
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME, "--compare"])
        .run()
        .expect_code(0);
    let told = parsed(state.path());
    let sizes: Vec<String> = told
        .makeup
        .sizes()
        .map(|SizeCount(kind, class, keys)| format!("{} {class} {keys}", kind.name()))
        .collect();
    // A list of one small element is a listpack of some ten bytes; 1000 bytes and the footer are more than 512.
    assert_eq!(sizes, ["string 10 10", "list 5 10"], "{:?}", told.makeup);
    let copied: Vec<(&str, u64)> = told
        .makeup
        .lives()
        .map(|count| (count.0.name(), count.1))
        .collect();
    let wanted = [("under 6 h", 2), ("under 7 days", 1), ("never expire", 17)];
    assert_eq!(copied, wanted);
    let lives = told.compares[0]
        .lives
        .clone()
        .expect("expiries were compared");
    for side in [0, 1] {
        let seen: Vec<(&str, u64)> = lives
            .lives(side)
            .map(|count| (count.0.name(), count.1))
            .collect();
        assert_eq!(seen, wanted, "side {side}");
    }
}

#[test]
fn beside_a_run_that_is_at_work_it_tells_what_is_known_until_now() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill(&source, 0, &DataSet::new(20_000, seed()));
    let state = tempfile::tempdir().unwrap();
    let mut running = Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME, "--batch", "100"])
        .start();
    wait_for_keys(&target, 1, &mut running);
    source.pause();
    let told = parsed(state.path());
    source.unpause();
    assert!(told.running, "{told:?}");
    assert_eq!(told.verdict.kind, VerdictKind::Incomplete);
    assert_eq!(told.runs.last().map(|run| run.end), Some(RunEnd::Running));
    running.wait().expect_code(0);
    assert!(!parsed(state.path()).running);
}

#[test]
fn what_is_asked_for_wrongly_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let unknown = report(state.path(), &[]).run();
    assert_eq!(unknown.code(), Some(2), "{unknown}");
    let both = report(state.path(), &["--html", "--md"])
        .run()
        .expect_code(2);
    assert!(both.stderr().contains("contradict"), "{both}");
}

/// Bounds of the promise, on a million keys.
const MILLION: u64 = 1_000_000;

#[test]
#[ignore = "a million keys take a minute; `make soak` runs it"]
fn a_million_keys_are_told_in_two_seconds_and_a_mebibyte() {
    let populate = |source: &Server| {
        let mut connection = source.connection();
        redis::cmd("DEBUG")
            .arg("POPULATE")
            .arg(MILLION)
            .arg("key")
            .arg(64)
            .exec(&mut connection)
            .unwrap();
    };
    let Some(story) = Story::of(populate, MILLION / 3, "500") else {
        return;
    };
    let page = story.state.path().join("told.html");
    let began = Instant::now();
    report(story.state.path(), &["--html", "--out"])
        .arg(&page)
        .run()
        .expect_code(0);
    let took = began.elapsed();
    let bytes = std::fs::metadata(&page).unwrap().len();
    eprintln!("report of a million keys: {took:?}, {bytes} bytes");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(bytes < 1024 * 1024, "{bytes} bytes");
    let told = parsed(story.state.path());
    assert_agrees(&told, &story);
    assert_eq!(told.counters.keys_written, MILLION);
    if let Some(chromium) = crate::support::chromium::require() {
        browser::assert_looks_right(&chromium, &std::fs::read_to_string(&page).unwrap());
    }
}
