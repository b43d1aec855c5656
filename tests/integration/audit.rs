//! What is recorded of a migration: shown, checked, exported, and good enough to make a lost state anew.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Oracle;
use crate::support::redknot::{Finished, Redknot, status};
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};
use crate::support::{seed, wait_for};

const NAME: &str = "audited";

fn migrate(source: &Server, target: &Server, state_dir: &Path) -> Redknot {
    Redknot::migrate(&source.url(0), &target.url(0), state_dir).args(["--name", NAME])
}

fn audit(words: &[&str], state_dir: &Path) -> Finished {
    Redknot::new(["audit"])
        .args(words)
        .args([NAME, "--state-dir"])
        .arg(state_dir)
        .run()
}

#[test]
fn a_lost_state_is_made_anew_from_the_journal_and_the_migration_completes() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let state = tempfile::tempdir().unwrap();
    fill(&source, 0, &DataSet::new(60_000, seed()));
    let mut running = migrate(&source, &target, state.path())
        .args(["--batch", "50"])
        .start();
    let wanted = source.keys(0) / 3;
    wait_for("a third of the keys", Duration::from_secs(60), || {
        assert!(running.is_running(), "{}", running.stderr_so_far());
        (target.keys(0) >= wanted).then_some(())
    });
    running.signal(Signal::INT);
    running.wait().expect_code(130);
    let before = status(NAME, state.path());
    fs::remove_dir_all(state.path().join(NAME).join("db")).unwrap();

    let refused = migrate(&source, &target, state.path())
        .run()
        .expect_code(25);
    let hint = format!("redknot audit rebuild {NAME}");
    assert!(refused.stderr().contains(&hint), "{refused}");
    let checked = audit(&["check"], state.path()).expect_code(1);
    assert!(checked.stdout().contains("does not fit"), "{checked}");

    let rebuilt = audit(&["rebuild"], state.path()).expect_code(0);
    assert!(rebuilt.stdout().contains("made anew"), "{rebuilt}");
    let finished = migrate(&source, &target, state.path())
        .arg("--json")
        .run()
        .expect_code(0);
    let lines = finished.json_lines();
    let lane = lines.iter().find(|line| line["type"] == "lane");
    let lane = lane.unwrap_or_else(|| panic!("no lane was decided\n{finished}"));
    assert_eq!(lane["decision"], "continue", "{finished}");
    let keys = Oracle::between(&source, &target).assert_equal() as u64;
    assert_eq!(keys, source.keys(0));
    let after = status(NAME, state.path());
    assert!(after.counters.balance() && after.counters.keys_scanned >= keys);
    // What was told before the loss was not copied again.
    let copied = target.writes();
    assert!(
        before.counters.keys_written > 0 && copied < keys + 20_000,
        "{copied} restores for {keys} keys"
    );
    audit(&["check"], state.path()).expect_code(0);
    let again = audit(&["rebuild"], state.path()).expect_code(0);
    assert!(again.stdout().contains("nothing was changed"), "{again}");
}

#[test]
fn names_that_speak_to_terminals_and_spreadsheets_are_harmless() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let state = tempfile::tempdir().unwrap();
    let names: [&[u8]; 4] = [
        b"<script>alert(1)</script>",
        b"\x1b[2J\n",
        b"=cmd|' /C calc'!A0",
        b"\xff\xfe",
    ];
    for name in names {
        redis::cmd("SET")
            .arg(name)
            .arg("v")
            .exec(&mut source.connection())
            .unwrap();
    }
    migrate(&source, &target, state.path()).run().expect_code(0);
    for name in names {
        redis::cmd("SET")
            .arg(name)
            .arg("other")
            .exec(&mut target.connection())
            .unwrap();
    }
    Redknot::new(["compare", NAME, "--state-dir"])
        .arg(state.path())
        .run()
        .expect_code(1);

    let csv = audit(&["export", "--findings"], state.path()).expect_code(0);
    let text = csv.stdout();
    assert_eq!(text.lines().count(), 5, "{csv}");
    assert!(text.contains("value,0,\"'=cmd|' /C calc'!A0\","), "{csv}");
    assert!(text.contains("value,0,\\xff\\xfe,fffe,2,"), "{csv}");
    let shown = audit(&["show"], state.path()).expect_code(0);
    assert!(
        shown.stdout().contains("\\x1b[2J\\n  lane 0: value"),
        "{shown}"
    );
    let checked = audit(&["check"], state.path()).expect_code(0);
    let json = audit(&["show", "--json"], state.path()).expect_code(0);
    let lines = json.json_lines();
    let findings = lines.iter().filter(|line| line["event"] == "finding");
    assert_eq!(findings.count(), 4, "{json}");
    for finished in [&csv, &shown, &checked, &json] {
        assert!(!finished.stdout.contains(&0x1b), "{finished}");
        assert!(std::str::from_utf8(&finished.stdout).is_ok(), "{finished}");
    }
    let batches = audit(&["export"], state.path()).expect_code(0).json_lines();
    let sum = |field: &str| {
        batches
            .iter()
            .filter_map(|batch| batch[field].as_u64())
            .sum::<u64>()
    };
    assert_eq!((sum("keys_scanned"), sum("keys_written")), (4, 4));
}

#[test]
fn a_run_says_by_whose_word_it_does_what_between_which_servers() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let state = tempfile::tempdir().unwrap();
    fill(&source, 0, &DataSet::new(500, seed()));
    migrate(&source, &target, state.path())
        .args(["--batch", "70"])
        .env("REDKNOT_TIMEOUT", "9s")
        .run()
        .expect_code(0);
    let lines = audit(&["show", "--json"], state.path())
        .expect_code(0)
        .json_lines();
    let one = |event: &str| {
        let found = lines.iter().find(|line| line["event"] == event);
        found.unwrap_or_else(|| panic!("no line of {event}"))
    };
    let settings = one("settings")["settings"].as_array().unwrap();
    let of = |name: &str| {
        let setting = settings.iter().find(|setting| setting["name"] == name);
        let setting = setting.unwrap_or_else(|| panic!("{name} is missing"));
        (setting["value"].clone(), setting["origin"].clone())
    };
    assert_eq!(of("batch"), ("70".into(), "flag".into()));
    assert_eq!(of("timeout"), ("9s".into(), "environment".into()));
    assert_eq!(of("grace"), ("10s".into(), "default".into()));
    assert!(!one("run_began")["user"].as_str().unwrap().is_empty());
    assert_eq!(one("run_ended")["end"], "complete");
    let servers: Vec<_> = lines
        .iter()
        .filter(|line| line["event"] == "server")
        .collect();
    assert_eq!(servers.len(), 2);
    for (server, side) in servers.iter().zip(["source", "target"]) {
        assert_eq!(
            (&server["side"], &server["role"]),
            (&side.into(), &"master".into())
        );
        assert_eq!(server["version"], "redis 7.0.15");
        assert!(
            server["clock_ahead_ms"].as_i64().unwrap().abs() < 1000,
            "{server}"
        );
    }
    let sample = &one("checkpoint")["sample"];
    assert_eq!(sample["keys_scanned"], 500, "{sample}");
}
