//! `redknot compare` from the outside: what is equal, each verdict, both directions, and what is continued.

use std::path::Path;

use serde_json::Value;

use crate::support::dataset::{DataSet, fill};
use crate::support::proxy::Proxy;
use crate::support::redknot::{Finished, Redknot, status};
use crate::support::server::Server;
use crate::support::version::{REDIS_6_2, REDIS_7_0, require};

/// `redknot compare` of two servers.
fn compare(from: &str, to: &str, state_dir: &Path) -> Redknot {
    Redknot::new([
        "compare", "--json", "--settle", "20ms", "--from", from, "--to", to,
    ])
    .arg("--state-dir")
    .arg(state_dir)
}

/// The last `compared` line.
fn result(finished: &Finished) -> Value {
    finished
        .json_lines()
        .into_iter()
        .rfind(|line| line["type"] == "compared")
        .unwrap_or_else(|| panic!("no result: {finished}"))
}

fn counter(finished: &Finished, name: &str) -> u64 {
    result(finished)["counters"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("no counter {name}: {finished}"))
}

fn two_servers() -> Option<(Server, Server)> {
    let redis = require(REDIS_7_0)?;
    Some((Server::plain(&redis), Server::plain(&redis)))
}

/// As many keys of every type on both sides, copied by redknot.
fn copied(keys: u32, state_dir: &Path) -> Option<(Server, Server)> {
    let (source, target) = two_servers()?;
    fill(&source, 0, &DataSet::new(keys, 5));
    Redknot::migrate(&source.url(0), &target.url(0), state_dir)
        .args(["--name", "shop"])
        .run()
        .expect_code(0);
    Some((source, target))
}

fn of_migration(state_dir: &Path) -> Redknot {
    Redknot::new([
        "compare",
        "shop",
        "--json",
        "--settle",
        "20ms",
        "--state-dir",
    ])
    .arg(state_dir)
}

#[test]
fn a_copy_is_equal_and_the_status_says_so() {
    let state = tempfile::tempdir().unwrap();
    let Some((source, target)) = copied(3_000, state.path()) else {
        return;
    };
    let before = status("shop", state.path());
    assert!(before.compare.is_none());
    let finished = of_migration(state.path()).run().expect_code(0);
    let line = result(&finished);
    assert_eq!(line["counters"]["equal"], source.keys(0));
    assert_eq!(line["source_digest"], line["target_digest"]);
    assert_eq!(line["counters"]["target_keys_scanned"], target.keys(0));
    // That the target has no other keys is told by the sum of its names.
    assert_eq!(source.calls("exists"), 0);
    let after = status("shop", state.path());
    let compare = after.compare.expect("it was compared");
    assert!(compare.ended_ms.is_some() && compare.counters.balance());
    assert_eq!(compare.counters.keys_compared, source.keys(0));
    assert_eq!(after.state, before.state);
    // The servers of a migration are found by its plan, too: there is no second state.
    let names: Vec<_> = std::fs::read_dir(state.path()).unwrap().collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn each_difference_has_its_verdict() {
    let Some((source, target)) = two_servers() else {
        return;
    };
    let state = tempfile::tempdir().unwrap();
    for (server, is_source) in [(&source, true), (&target, false)] {
        let mut connection = server.connection();
        let mut all = redis::pipe();
        all.cmd("SET").arg("same").arg("v").ignore();
        all.cmd("SET")
            .arg("value")
            .arg(if is_source { "a" } else { "b" })
            .ignore();
        all.cmd("HSET").arg("field").arg("a").arg("1").ignore();
        all.cmd("SET").arg("ttl").arg("v").ignore();
        match is_source {
            true => {
                all.cmd("SET").arg("missing").arg("v").ignore();
                all.cmd("SET").arg("type").arg("v").ignore();
                all.cmd("HSET").arg("field").arg("qty").arg("3").ignore();
                all.cmd("EXPIRE").arg("ttl").arg(1_000).ignore();
            }
            false => {
                all.cmd("RPUSH").arg("type").arg("v").ignore();
                all.cmd("EXPIRE").arg("ttl").arg(1_010).ignore();
                all.cmd("SET").arg("extra").arg("v").ignore();
            }
        }
        all.exec(&mut connection).unwrap();
    }
    let run = || compare(&source.url(0), &target.url(0), state.path());
    for how in ["auto", "dump"] {
        let finished = run().args(["--compare-with", how]).run().expect_code(1);
        let wanted = [
            ("equal", 1),
            ("missing", 1),
            ("value", 2),
            ("type", 1),
            ("ttl", 1),
            ("extra", 1),
            ("undecided", 0),
            ("keys_compared", 6),
        ];
        for (name, count) in wanted {
            assert_eq!(counter(&finished, name), count, "{name}: {finished}");
        }
        let mut found: Vec<(String, String, String)> = finished
            .json_lines()
            .into_iter()
            .filter(|line| line["type"] == "finding")
            .map(|line| {
                let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
                (text("key"), text("verdict"), text("detail"))
            })
            .collect();
        found.sort();
        let named: Vec<(&str, &str)> = found
            .iter()
            .map(|(key, verdict, _)| (&**key, &**verdict))
            .collect();
        assert_eq!(
            named,
            [
                ("extra", "extra"),
                ("field", "value"),
                ("missing", "missing"),
                ("ttl", "ttl"),
                ("type", "type"),
                ("value", "value"),
            ]
        );
        assert!(
            found[1].2.starts_with("field \"qty\" only on source"),
            "{found:?}"
        );
        assert!(found[3].2.contains("10.0 s later on target"), "{found:?}");
        assert_eq!(found[4].2, "string on source, list on target");
    }
    let finished = run().arg("--one-way").run().expect_code(1);
    assert_eq!(counter(&finished, "extra"), 0);
    assert!(
        result(&finished)["not_compared"][0]
            .as_str()
            .unwrap()
            .contains("--one-way")
    );
}

#[test]
fn one_key_in_the_place_of_another_is_found_on_both_ways() {
    let state = tempfile::tempdir().unwrap();
    let Some((source, target)) = copied(20_000, state.path()) else {
        return;
    };
    // As many names as before, and yet others.
    let mut connection = target.connection();
    let gone: Vec<u8> = redis::cmd("RANDOMKEY").query(&mut connection).unwrap();
    redis::cmd("RENAME")
        .arg(&gone)
        .arg("another")
        .exec(&mut connection)
        .unwrap();
    // Killed in the middle of the walk, twice.
    for _ in 0..2 {
        let finished = of_migration(state.path())
            .args(["--batch", "200"])
            .env("FAILPOINTS", "compared_before_state_write=1*off->return")
            .run();
        assert!(finished.was_killed(), "{finished}");
    }
    let finished = of_migration(state.path()).run().expect_code(1);
    assert_eq!(counter(&finished, "missing"), 1, "{finished}");
    assert_eq!(counter(&finished, "extra"), 1, "{finished}");
    assert_eq!(counter(&finished, "target_keys_scanned"), target.keys(0));
    assert!(source.calls("exists") > 0);
}

#[test]
fn a_part_of_the_keys_is_the_same_part_in_both_directions() {
    let Some((source, target)) = two_servers() else {
        return;
    };
    let state = tempfile::tempdir().unwrap();
    let fill = |server: &Server, from: u32, to: u32| {
        let mut all = redis::pipe();
        for n in from..to {
            all.cmd("SET").arg(format!("k:{n}")).arg("v").ignore();
        }
        all.exec(&mut server.connection()).unwrap();
    };
    fill(&source, 0, 2_000);
    fill(&target, 1_000, 3_000);
    let part = |sample: &str| {
        let finished = compare(&source.url(0), &target.url(0), state.path())
            .args(["--sample", sample])
            .run()
            .expect_code(1);
        ["equal", "missing", "extra", "unsampled"].map(|name| counter(&finished, name))
    };
    let mut sums = [0; 4];
    for number in 1..=4 {
        let part = part(&format!("{number}/4"));
        assert!(part[0] > 150 && part[1] > 150 && part[2] > 150, "{part:?}");
        (0..4).for_each(|at| sums[at] += part[at]);
    }
    assert_eq!(sums, [1_000, 1_000, 1_000, 3 * 2_000]);
    let about = part("500")[0] + part("500")[1];
    assert!((400..600).contains(&about), "{about} of about 500");
}

#[test]
fn what_can_not_be_meant_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let refused = |args: &[&str]| {
        Redknot::new(["compare"])
            .args(args)
            .arg("--state-dir")
            .arg(state.path())
            .run()
            .expect_code(2)
            .stderr()
    };
    let servers = ["--from", "127.0.0.1:1", "--to", "127.0.0.1:2"];
    for sample in ["0%", "120%", "9/8", "some", "-1"] {
        let text = refused(&[&servers[..], &["--sample", sample]].concat());
        assert!(text.contains("--sample"), "{text}");
    }
    refused(&["nobody"]);
    refused(&[]);
    assert!(refused(&["--from", "127.0.0.1:1"]).contains("--to"));
}

#[test]
fn killed_anywhere_it_goes_on_and_finds_the_same() {
    let state = tempfile::tempdir().unwrap();
    let Some((source, target)) = copied(20_000, state.path()) else {
        return;
    };
    let mut connection = target.connection();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS")
        .arg("*1*")
        .query(&mut connection)
        .unwrap();
    for key in keys.iter().take(50) {
        redis::cmd("DEL").arg(key).exec(&mut connection).unwrap();
    }
    // In the middle of the walk, before the first candidates are read again, and between two rounds.
    for point in [
        "compared_before_state_write=1*off->return",
        "rechecked_before_state_write=return",
        "rechecked_before_state_write=1*off->return",
    ] {
        let finished = of_migration(state.path())
            .args(["--batch", "200"])
            .env("FAILPOINTS", point)
            .run();
        assert!(finished.was_killed(), "{point}: {finished}");
    }
    let finished = of_migration(state.path()).run().expect_code(1);
    assert_eq!(counter(&finished, "missing"), 50, "{finished}");
    assert_eq!(counter(&finished, "keys_compared"), source.keys(0));
    let journal = std::fs::read_to_string(state.path().join("shop/audit.ndjson")).unwrap();
    let begun = journal.matches("\"event\":\"compare_started\"").count();
    assert_eq!(begun, 1, "a run that was killed is continued");
}

#[test]
fn a_source_that_restarts_is_compared_anew_and_a_mere_reconnect_is_not() {
    let state = tempfile::tempdir().unwrap();
    let Some((mut source, target)) = copied(5_000, state.path()) else {
        return;
    };
    let proxy = Proxy::start(target.port(), 1);
    let through = || {
        compare(&source.url(0), &proxy.url(0), state.path()).args([
            "--batch",
            "100",
            "--max-unavailable",
            "20s",
        ])
    };
    let cut = proxy
        .on("DUMP")
        .skip(500)
        .times(1)
        .cut_before(crate::support::proxy::Cut::Reset);
    let finished = through().run().expect_code(0);
    assert_eq!(proxy.fired(cut), 1);
    assert_eq!(counter(&finished, "equal"), source.keys(0));
    let lanes = |finished: &Finished| {
        let lines = finished.json_lines().into_iter();
        lines.filter(|line| line["type"] == "compare_lane").count()
    };
    assert_eq!(lanes(&finished), 1, "a mere reconnect begins nothing anew");
    let finished = through()
        .env("FAILPOINTS", "compared_before_state_write=1*off->return")
        .run();
    assert!(finished.was_killed(), "{finished}");
    source.restart();
    let finished = compare(&source.url(0), &proxy.url(0), state.path())
        .run()
        .expect_code(0);
    let anew = finished
        .json_lines()
        .into_iter()
        .find(|line| line["type"] == "compare_lane")
        .expect("it says how it goes on");
    assert_eq!(anew["decision"], "new_pass", "{anew}");
    assert_eq!(counter(&finished, "equal"), source.keys(0));
}

#[test]
fn older_servers_and_their_other_encodings_are_equal() {
    let (Some(old), Some(new)) = (require(REDIS_6_2), require(REDIS_7_0)) else {
        return;
    };
    let (source, target) = (Server::plain(&old), Server::plain(&new));
    let state = tempfile::tempdir().unwrap();
    fill(&source, 0, &DataSet::new(2_000, 9));
    let finished = Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", "shop", "--compare", "--json"])
        .run()
        .expect_code(0);
    assert_eq!(counter(&finished, "equal"), source.keys(0));
    assert!(counter(&finished, "equal_other_bytes") > 0);
}
