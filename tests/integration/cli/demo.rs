//! The demonstration shows what it says: a kill half-way, a resume, and every key compared.

use std::time::Duration;

use rustix::process::Signal;

use super::children;
use crate::support::redknot::Redknot;
use crate::support::version::{REDIS_7_0, require};
use crate::support::wait_for;

#[test]
fn the_demonstration_is_killed_resumes_and_finds_every_key() {
    if require(REDIS_7_0).is_none() {
        return;
    }
    let finished = Redknot::new(["demo", "--keys", "30000"])
        .run()
        .expect_code(0);
    let shown = finished.stdout();
    for line in [
        "killed with SIGKILL",
        "interrupted (the process died",
        "The same command again",
        "0 differ, none is missing",
    ] {
        assert!(shown.contains(line), "{line} is missing\n{finished}");
    }
    assert!(finished.stderr().contains("resumed at"), "{finished}");
    let figures = Redknot::new(["demo", "--keys", "30000", "--json"])
        .run()
        .expect_code(0);
    let lines = figures.json_lines();
    assert_eq!(lines.len(), 1, "{figures}");
    assert_eq!(lines[0]["equal"], true, "{figures}");
    assert_eq!(lines[0]["keys_differing"], 0, "{figures}");
    let compared = lines[0]["keys_compared"].as_u64().unwrap();
    assert!((29_800..=30_000).contains(&compared), "{figures}");
}

#[test]
fn a_demonstration_that_is_stopped_leaves_no_server_and_no_file() {
    if require(REDIS_7_0).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let running = Redknot::new(["demo", "--keys", "200000"])
        .env("TMPDIR", folder.path())
        .start();
    let pids = wait_for("two servers", Duration::from_secs(60), || {
        let pids = children(running.pid());
        (pids.len() == 2).then_some(pids)
    });
    running.signal(Signal::INT);
    let finished = running.wait().expect_code(130);
    assert!(
        finished.stderr().contains("stopped; the servers are gone"),
        "{finished}"
    );
    for pid in pids {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} is still there"
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn without_a_server_in_the_path_the_demonstration_says_how_to_get_one() {
    let finished = Redknot::new(["demo"]).env("PATH", "/nowhere").run();
    insta::assert_snapshot!(super::Said::of(&finished), @r"
    exit 2
    error: the demonstration needs redis-server, which is not in the path
      it starts two servers of its own, so that nothing of yours is touched
    hint: apt-get install redis-server, brew install redis, dnf install redis, or https://redis.io/download
    ");
}
