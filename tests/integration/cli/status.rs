//! `status`, beside a run, after its death, and where there is nothing.

use std::time::Duration;

use super::Said;
use crate::support::redknot::Redknot;
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};
use crate::support::wait_for;

#[test]
fn where_there_is_no_migration_the_names_there_are_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let status = |name: &[&str]| {
        let finished = Redknot::new(["status", "--state-dir"])
            .arg(folder.path().join("state"))
            .args(name)
            .run();
        Said::of(&finished)
            .hide_path(folder.path(), "FOLDER")
            .to_string()
    };
    let said = format!(
        "{}\n\n{}\n\n{}",
        status(&[]),
        status(&["nosuch"]),
        status(&["../../etc"])
    );
    insta::assert_snapshot!(said, @r#"
    exit 2
    error: there is no migration to show
      FOLDER/state has none
    hint: redknot migrate begins one; --state-dir DIR names another folder

    exit 2
    error: failed to find the migration
      there is no migration "nosuch" in FOLDER/state
    hint: there is none at all; `redknot migrate` creates one, `--state-dir` names another folder

    exit 2
    error: failed to find the migration
      there is no migration "../../etc" in FOLDER/state
    hint: there is none at all; `redknot migrate` creates one, `--state-dir` names another folder
    "#);
}

#[test]
fn a_migration_is_shown_while_it_runs_after_its_death_and_when_it_is_complete() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&binary), Server::plain(&binary));
    redis::cmd("DEBUG")
        .arg("POPULATE")
        .arg(100_000)
        .query::<()>(&mut source.connection())
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let migrate = |name: &str| {
        let redknot = Redknot::migrate(&source.url(0), &target.url(0), folder.path());
        redknot.args(["--name", name, "--on-conflict", "replace", "--batch", "1"])
    };
    let status = |args: &[&str]| {
        Redknot::new(["status", "--state-dir"])
            .arg(folder.path())
            .args(args)
            .run()
            .expect_code(0)
    };
    let running = migrate("one").start();
    let shown = wait_for("a running status", Duration::from_secs(30), || {
        let finished = Redknot::new(["status", "--state-dir"])
            .arg(folder.path())
            .run();
        (finished.code() == Some(0)).then_some(finished)
    });
    assert!(shown.stdout().contains("running (pid "), "{shown}");
    let json = &status(&["--json", "one"]).json_lines()[0];
    assert_eq!(
        (&json["state"], &json["running"]),
        (&"running".into(), &true.into()),
        "{json}"
    );
    running.kill_9();
    let shown = status(&[]);
    assert!(
        shown
            .stdout()
            .contains("interrupted (the process died: pid "),
        "{shown}"
    );
    assert!(
        shown
            .stdout()
            .contains("next        run the same command to continue"),
        "{shown}"
    );
    let json = &status(&["--json"]).json_lines()[0];
    assert_eq!(
        (&json["state"], &json["running"], &json["interrupted"]),
        (&"running".into(), &false.into(), &true.into()),
        "{json}"
    );
    migrate("one")
        .args(["--batch", "1000"])
        .arg("-q")
        .run()
        .expect_code(2);
    Redknot::migrate(&source.url(0), &target.url(0), folder.path())
        .args(["--name", "one", "--on-conflict", "replace", "-q"])
        .run()
        .expect_code(0);
    let shown = status(&["one"]);
    assert!(
        shown.stdout().contains("state       complete since "),
        "{shown}"
    );
    // Now there are two.
    Redknot::migrate(&source.url(0), &target.url(1), folder.path())
        .args(["--name", "two", "-q"])
        .run()
        .expect_code(0);
    let table = status(&[]).stdout();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(
        lines[0].starts_with("MIGRATION  FROM") && lines[1].contains("  100 000  not compared  "),
        "{table}"
    );
    let unknown = Redknot::new(["status", "three", "--state-dir"])
        .arg(folder.path())
        .run()
        .expect_code(2);
    assert!(
        unknown.stderr().contains("hint: there are: one, two"),
        "{unknown}"
    );
    // Of a complete migration there is nothing more to watch.
    status(&["two", "--watch"]);
}
