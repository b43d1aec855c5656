use std::collections::BTreeSet;

use super::{NAME, Pair};
use crate::support::comparing::{
    self, Compared, assert_findings, compare_urls, expected, findings,
};
use crate::support::corrupt::corrupt;
use crate::support::dataset::{DataSet, fill};
use crate::support::redknot::{Redknot, status};
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, REDIS_8_2, VALKEY_9_1, require};

#[test]
fn two_servers_are_compared_without_a_migration() {
    let seed = seed();
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(3_000, seed)) else {
        return;
    };
    let state = tempfile::tempdir().unwrap();
    let compare = || compare_urls(&pair.source.url(0), &pair.target.url(0), state.path());
    Compared::of(compare().run().expect_code(0)).assert_equal(3_000);
    let damages = corrupt(&pair.source, &pair.target, 0, 100, seed);
    let compared = Compared::of(compare().run().expect_code(1));
    assert_eq!(compared.findings(), 100);
    assert_findings(
        &findings(compared.name(), state.path()),
        &expected(&damages),
        &damages,
    );
    // The other way round, missing is extra.
    let back = compare_urls(&pair.target.url(0), &pair.source.url(0), state.path());
    let back = Compared::of(back.run().expect_code(1));
    assert_eq!(back.count("missing"), compared.count("extra"));
    assert_eq!(back.count("extra"), compared.count("missing"));
    assert_eq!(back.count("value"), compared.count("value"));
}

#[test]
fn nothing_on_both_sides_is_equal() {
    let Some(pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    pair.migrate();
    let compared = pair.compared(0);
    compared.assert_equal(0);
    assert_eq!(compared.count("keys_compared"), 0);
    let (of_source, of_target) = compared.digests();
    assert_eq!(of_source, of_target);
}

#[test]
fn all_that_only_the_target_has_is_found_unless_one_way_is_enough() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(2_000, seed())) else {
        return;
    };
    let set = DataSet {
        prefix: "only here:".to_owned(),
        ..DataSet::new(1_000, seed())
    };
    fill(&pair.target, 0, &set);
    let compared = pair.compared(1);
    assert_eq!(
        (compared.count("extra"), compared.findings()),
        (1_000, 1_000)
    );
    let one_way = Compared::of(pair.compare().arg("--one-way").run().expect_code(0));
    one_way.assert_equal(2_000);
    // A source that has nothing at all.
    redis::cmd("FLUSHALL")
        .exec(&mut pair.source.connection())
        .unwrap();
    assert_eq!(pair.compared(1).count("extra"), 3_000);
    Compared::of(pair.compare().arg("--one-way").run().expect_code(0));
}

#[test]
fn expiries_may_differ_by_the_tolerance_and_no_more() {
    let Some(pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    const AT_MS: i64 = 33_000_000_000_000;
    let expire = |server: &Server, by: &dyn Fn(i64) -> i64| {
        let mut pipe = redis::pipe();
        for off in [-5_000, -1_500, -900, 0, 900, 1_500, 5_000] {
            let key = format!("off by {off}");
            pipe.cmd("SET").arg(&key).arg("v").ignore();
            pipe.cmd("PEXPIREAT")
                .arg(&key)
                .arg(AT_MS + by(off))
                .ignore();
        }
        pipe.exec(&mut server.connection()).unwrap();
    };
    expire(&pair.source, &|_| 0);
    pair.migrate();
    expire(&pair.target, &|off| off);
    for (tolerance, wanted) in [
        (None, 4),
        (Some("2s"), 2),
        (Some("10s"), 0),
        (Some("500ms"), 6),
    ] {
        let compare = match tolerance {
            Some(tolerance) => pair.compare().args(["--ttl-tolerance", tolerance]),
            None => pair.compare(),
        };
        let finished = compare.run().expect_code(i32::from(wanted > 0));
        let compared = Compared::of(finished);
        assert_eq!(compared.count("ttl"), wanted, "{tolerance:?}");
        assert_eq!(compared.findings(), wanted);
    }
}

#[test]
fn a_sample_is_of_the_size_that_was_asked_for_and_the_same_again() {
    let seed = seed();
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(20_000, seed)) else {
        return;
    };
    let damages = corrupt(&pair.source, &pair.target, 0, 1_000, seed);
    let wanted = expected(&damages);
    let sampled = |sample: &str, seed: &str| {
        let finished = pair
            .compare()
            .args(["--sample", sample, "--seed", seed])
            .run();
        let compared = Compared::of(finished);
        let found = pair.findings();
        for (key, verdict) in &found {
            assert_eq!(wanted.get(key), Some(verdict), "{}", key.escape_ascii());
        }
        (compared.count("keys_compared"), found)
    };
    for (sample, keys) in [("5%", 1_000), ("50%", 10_000), ("4k", 4_000)] {
        let (first, of_first) = sampled(sample, "1");
        let off = first.abs_diff(keys);
        assert!(off < keys / 5, "{first} keys for {sample} of 20 000");
        assert_eq!(sampled(sample, "1"), (first, of_first.clone()), "{sample}");
        assert_ne!(sampled(sample, "2").1, of_first, "{sample}");
        assert!(!of_first.is_empty());
    }
    // Parts: each key is in exactly one.
    let (mut keys, mut found) = (0, BTreeSet::new());
    for part in ["1/3", "2/3", "3/3"] {
        let (of_part, found_in_part) = sampled(part, "7");
        keys += of_part;
        for key in found_in_part.into_keys() {
            assert!(found.insert(key), "a key is in two parts");
        }
    }
    let missing = wanted
        .values()
        .filter(|verdict| **verdict == "missing")
        .count() as u64;
    let extra = wanted
        .values()
        .filter(|verdict| **verdict == "extra")
        .count() as u64;
    assert_eq!(keys, pair.target.keys(0) - extra + missing);
    assert_eq!(found, wanted.keys().cloned().collect());
}

#[test]
fn only_what_was_asked_for_is_compared() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(3_000, seed())) else {
        return;
    };
    let run = |server: &Server, command: &[&str]| {
        redis::cmd(command[0])
            .arg(&command[1..])
            .exec(&mut server.connection())
            .unwrap();
    };
    run(&pair.source, &["SET", "asked:string", "a"]);
    run(&pair.source, &["RPUSH", "asked:list", "a"]);
    run(&pair.target, &["SET", "asked:extra", "a"]);
    run(&pair.target, &["SET", "other:extra", "a"]);
    let compare = |options: &[&str]| {
        let state = tempfile::tempdir().unwrap();
        let compare = compare_urls(&pair.source.url(0), &pair.target.url(0), state.path());
        let compared = Compared::of(compare.args(options).run().expect_code(1));
        let found = findings(compared.name(), state.path()).into_keys();
        let found: BTreeSet<String> = found.map(|key| String::from_utf8(key).unwrap()).collect();
        (compared, found)
    };
    let set = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    let (compared, found) = compare(&["--match", "asked:*"]);
    assert_eq!(compared.count("keys_compared"), 2);
    assert_eq!(found, set(&["asked:string", "asked:list", "asked:extra"]));
    let (compared, found) = compare(&["--type", "list"]);
    assert!(compared.count("keys_compared") < 1_000);
    assert_eq!(found, set(&["asked:list"]));
}

#[test]
fn databases_are_compared_with_those_they_were_copied_to() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    for db in [0, 3, 7] {
        fill(&source, db, &DataSet::new(500, seed()));
    }
    let state = tempfile::tempdir().unwrap();
    let bare = |server: &Server| server.address().to_string();
    Redknot::migrate(&bare(&source), &bare(&target), state.path())
        .args(["--db", "0,3,7", "--name", NAME])
        .run()
        .expect_code(0);
    let compare = || {
        let compare = comparing::compare(NAME, state.path());
        compare.args(["--settle", "50ms"]).run()
    };
    Compared::of(compare().expect_code(0)).assert_equal(1_500);
    for (db, key) in [(3, "in three"), (7, "in seven")] {
        redis::cmd("SET")
            .arg(key)
            .arg("v")
            .exec(&mut source.connection_to(db))
            .unwrap();
    }
    assert_eq!(Compared::of(compare().expect_code(1)).count("missing"), 2);
    let mut listed: Vec<(u64, Vec<u8>)> = comparing::listed(NAME, "missing", state.path())
        .into_iter()
        .map(|one| (one.db, one.key))
        .collect();
    listed.sort();
    assert_eq!(
        listed,
        [(3, b"in three".to_vec()), (7, b"in seven".to_vec())]
    );
    comparing::repair(NAME, state.path())
        .arg("--apply")
        .run()
        .expect_code(0);
    let there = |db, key: &str| -> u64 {
        redis::cmd("EXISTS")
            .arg(key)
            .query(&mut target.connection_to(db))
            .unwrap()
    };
    assert_eq!((there(3, "in three"), there(0, "in three")), (1, 0));
    Compared::of(compare().expect_code(0));
}

/// A target that can't hold the expiries of fields gets such hashes only if that was said.
#[test]
fn expiries_of_fields_are_dropped_only_if_that_was_said() {
    for from in [REDIS_8_2, VALKEY_9_1] {
        let set = DataSet {
            field_ttls: true,
            ..DataSet::new(2_000, seed())
        };
        let Some(pair) = Pair::empty(from, REDIS_7_0) else {
            continue;
        };
        fill(&pair.source, 0, &set);
        pair.migration().run().expect_code(1);
        let quarantined = status(NAME, pair.state.path()).counters.keys_quarantined;
        assert!(quarantined > 50, "{quarantined} hashes have such fields");
        let listed = comparing::listed(NAME, "quarantined", pair.state.path());
        assert_eq!(listed.len() as u64, quarantined);
        let compared = pair.compared(1);
        assert_eq!(compared.count("missing"), quarantined);
        assert_eq!(compared.findings(), quarantined);
        let missing: BTreeSet<Vec<u8>> = pair.findings().into_keys().collect();
        assert_eq!(missing, listed.into_iter().map(|one| one.key).collect());

        let Some(pair) = Pair::empty(from, REDIS_7_0) else {
            continue;
        };
        fill(&pair.source, 0, &set);
        pair.migration()
            .args(["--field-ttl", "drop"])
            .run()
            .expect_code(0);
        pair.oracle().without_field_expiries().assert_equal();
        // The plan says so.
        pair.compared(0).assert_equal(2_000);
    }
}

#[test]
fn a_name_that_nobody_knows_is_answered_with_those_there_are() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(10, seed())) else {
        return;
    };
    let commands = [
        comparing::compare("another", pair.state.path()),
        comparing::repair("another", pair.state.path()),
        comparing::keys("another", "findings", pair.state.path()),
    ];
    for command in commands {
        let refused = command.run().expect_code(2);
        assert!(refused.stderr().contains(NAME), "{refused}");
    }
    let refused = comparing::keys(NAME, "beautiful", pair.state.path()).run();
    assert!(
        refused.expect_code(2).stderr().contains("findings"),
        "it says which classes there are"
    );
}
