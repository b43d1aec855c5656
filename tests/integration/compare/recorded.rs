use std::collections::BTreeMap;
use std::time::Duration;

use super::{NAME, Pair};
use crate::support::cluster::Cluster;
use crate::support::comparing::{self, Compared, Findings, assert_findings, expected};
use crate::support::corrupt::corrupt;
use crate::support::dataset::{DataSet, count_hyperloglogs, fill};
use crate::support::redknot::{Finished, Redknot, status};
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{Kind, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_9_1, require};

/// How many damages are to be found.
const DAMAGES: usize = 100;
/// Enough for each kind of them to find its key.
const KEYS: u32 = 6_000;

fn set(server: &Server, db: u32, key: &str, value: &str) {
    redis::cmd("SET")
        .arg(key)
        .arg(value)
        .exec(&mut server.connection_to(db))
        .unwrap();
}

/// A key of which only the digest of the name was recorded, as it is listed.
fn nameless(name: &[u8]) -> Vec<u8> {
    let hex = format!("{:032x}", xxhash_rust::xxh3::xxh3_128(name));
    format!("name-xxh128:{}", &hex[..26]).into_bytes()
}

impl Pair {
    fn recording(&self) -> Redknot {
        self.migration().arg("--record-digests")
    }

    /// A source with the keys of `set`, and a target that redknot has filled while it recorded.
    fn recorded(from: Kind, to: Kind, set: &DataSet) -> Option<Self> {
        let pair = Self::empty(from, to)?;
        fill(&pair.source, 0, set);
        pair.recording().run().expect_code(0);
        assert_eq!(
            status(NAME, pair.state.path()).counters.keys_quarantined,
            0,
            "all keys arrive"
        );
        Some(pair)
    }

    fn offline(&self) -> Redknot {
        comparing::compare(NAME, self.state.path()).arg("--recorded")
    }

    #[track_caller]
    fn proven(&self, code: i32) -> Compared {
        Compared::of(self.offline().run().expect_code(code))
    }
}

/// Nothing is found where nothing was damaged; then every damage is found with its verdict, and nothing else. The source is
/// shut down before either.
fn every_damage_is_found_without_the_source(from: Kind, to: Kind) {
    let seed = seed();
    let set = DataSet {
        field_ttls: from.knows_field_ttl && to.knows_field_ttl,
        big_collections: 2_000,
        ..DataSet::new(KEYS, seed)
    };
    let Some(mut pair) = Pair::recorded(from, to, &set) else {
        return;
    };
    let keys = pair.source.keys(0);
    let online = pair.compared(0).digests();
    // The same values in other bytes: cached cardinalities, and tables in another order.
    assert!(count_hyperloglogs(&pair.target, 0) > 0);
    pair.source.kill_9();
    let clean = pair.proven(0);
    clean.assert_equal(keys);
    assert_eq!(clean.digests(), ("not asked".to_owned(), online.1));
    assert!(pair.findings().is_empty());

    let damages = corrupt(&pair.source, &pair.target, 0, DAMAGES, seed);
    let wanted: Findings = expected(&damages)
        .into_iter()
        .map(|(key, verdict)| match verdict {
            "missing" => (nameless(&key), verdict),
            _ => (key, verdict),
        })
        .collect();
    assert_eq!(wanted.len(), DAMAGES);
    let compared = pair.proven(1);
    assert_findings(&pair.findings(), &wanted, &damages);
    for verdict in ["missing", "extra", "type", "value", "ttl"] {
        let of_it = wanted.values().filter(|found| **found == verdict).count();
        assert_eq!(compared.count(verdict), of_it as u64, "{verdict}");
        assert!(of_it > 0, "no damage is for {verdict}");
    }
    // A part of the names at a time finds the same.
    let in_parts = pair.offline().args(["--max-memory", "1MiB"]).run();
    let in_parts = Compared::of(in_parts.expect_code(1));
    assert_eq!(in_parts.findings(), DAMAGES as u64);
    assert_findings(&pair.findings(), &wanted, &damages);
}

#[test]
fn a_hundred_damages_are_found_without_the_source() {
    every_damage_is_found_without_the_source(REDIS_7_0, REDIS_7_0);
}

#[test]
fn a_hundred_damages_are_found_without_the_source_where_payloads_were_encoded_anew() {
    every_damage_is_found_without_the_source(REDIS_8_2, REDIS_7_0);
    every_damage_is_found_without_the_source(REDIS_7_0, REDIS_6_2);
}

#[test]
fn a_hundred_damages_are_found_without_the_source_where_fields_expire() {
    every_damage_is_found_without_the_source(REDIS_8_2, REDIS_8_2);
    every_damage_is_found_without_the_source(VALKEY_9_1, VALKEY_9_1);
}

/// Killed until it has been killed a few times, and then to its end.
fn killed_and_resumed(pair: &Pair) -> u32 {
    let slowly = || pair.recording().args(["--batch", "100"]);
    let mut kills = 0;
    for age_ms in [60, 90, 120, 150, 200, 250] {
        let finished = slowly().start().kill_9_after(Duration::from_millis(age_ms));
        kills += u32::from(finished.was_killed());
    }
    slowly().run().expect_code(0);
    kills
}

#[test]
fn a_copy_that_was_killed_has_recorded_what_it_acknowledged() {
    let Some(mut pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    let set = DataSet::new(60_000, seed());
    fill(&pair.source, 0, &set);
    let kills = killed_and_resumed(&pair);
    assert!(kills >= 2, "it was killed {kills} times only");
    let keys = pair.source.keys(0);
    pair.source.kill_9();
    // More names than there is room for at once.
    let in_parts = pair.offline().args(["--max-memory", "1MiB"]).run();
    Compared::of(in_parts.expect_code(0)).assert_equal(keys);
    set_and_find(&pair);
}

fn set_and_find(pair: &Pair) {
    set(&pair.target, 0, "a key of its own", "x");
    pair.proven(1);
    assert_eq!(
        pair.findings(),
        [(b"a key of its own".to_vec(), "extra")].into()
    );
}

#[test]
fn a_new_pass_is_what_counts_and_what_the_source_deleted_is_only_on_the_target() {
    let Some(mut pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    fill(&pair.source, 0, &DataSet::new(2_000, seed()));
    for key in ["changed", "deleted"] {
        set(&pair.source, 0, key, "before");
    }
    pair.recording().run().expect_code(0);
    pair.source.restart();
    set(&pair.source, 0, "changed", "after");
    set(&pair.source, 0, "later", "x");
    redis::cmd("DEL")
        .arg("deleted")
        .exec(&mut pair.source.connection())
        .unwrap();
    pair.recording().arg("--new-pass").run().expect_code(0);
    assert_eq!(status(NAME, pair.state.path()).lanes[0].pass, 2);
    let keys = pair.source.keys(0);
    pair.source.kill_9();
    let compared = pair.proven(1);
    assert_eq!(compared.count("equal"), keys);
    assert_eq!(pair.findings(), [(b"deleted".to_vec(), "extra")].into());
}

#[test]
fn kept_keys_are_not_compared_unless_an_earlier_pass_wrote_them() {
    let Some(mut pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    const OURS: u64 = 400;
    for key in 0..OURS {
        set(&pair.source, 0, &format!("ours:{key}"), "1");
    }
    set(&pair.source, 0, "theirs", "source");
    set(&pair.target, 0, "theirs", "target");
    let skipping = || {
        let options = ["--on-conflict", "skip", "--batch", "1"];
        pair.recording().args(options)
    };
    skipping().run().expect_code(0);
    // Now its own keys are there as well: half of them as they are on the source, the others not any more.
    for key in 0..OURS / 2 {
        set(&pair.source, 0, &format!("ours:{key}"), "changed");
    }
    skipping().arg("--new-pass").run().expect_code(0);
    let kept = status(NAME, pair.state.path()).counters.keys_kept;
    assert_eq!(kept, OURS / 2 + 1);
    pair.source.kill_9();
    let compared = pair.proven(0);
    let counts = ["equal", "not_compared"].map(|counter| compared.count(counter));
    assert_eq!(counts, [OURS, 1]);
    for key in 0..OURS {
        set(&pair.target, 0, &format!("ours:{key}"), "2");
    }
    assert_eq!(pair.proven(1).count("value"), OURS);
}

#[test]
fn databases_and_names_are_those_of_the_target() {
    let Some(mut pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    for db in 0..3 {
        fill(&pair.source, db, &DataSet::new(300, u64::from(db)));
        set(&pair.source, db, "shared", &db.to_string());
    }
    let args = ["--all-dbs", "--db-map", "*:1", "--prefix", "new:"];
    let urls = [&pair.source, &pair.target].map(|server| server.url(0).replace("/0", ""));
    // What shares its name with a key of an earlier database is quarantined.
    Redknot::migrate(&urls[0], &urls[1], pair.state.path())
        .args(["--name", NAME, "--record-digests"])
        .args(args)
        .run()
        .expect_code(1);
    let counters = status(NAME, pair.state.path()).counters;
    assert!(counters.keys_quarantined >= 2, "{counters:?}");
    let keys = pair.target.keys(1);
    assert_eq!(keys, counters.keys_written);
    pair.source.kill_9();
    let compared = pair.proven(0);
    assert_eq!(compared.count("equal"), keys);
    set(&pair.target, 1, "new:shared", "another");
    set(&pair.target, 1, "new:stranger", "x");
    set(&pair.target, 1, "no name of ours", "x");
    let compared = pair.proven(1);
    let said = compared.finished.stdout();
    assert!(said.contains("were not looked at (--prefix"), "{said}");
    let wanted: Findings = BTreeMap::from([
        (b"new:shared".to_vec(), "value"),
        (b"new:stranger".to_vec(), "extra"),
    ]);
    assert_eq!(pair.findings(), wanted);
    let one_way = pair.offline().arg("--one-way").run().expect_code(1);
    assert_eq!(Compared::of(one_way).findings(), 1);
}

#[test]
fn keys_whose_time_is_over_are_not_missed() {
    let Some(mut pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    let mut source = pair.source.connection();
    for key in 0..50 {
        redis::cmd("SET")
            .arg(format!("short:{key}"))
            .arg("x")
            .arg("PX")
            .arg(2_500)
            .exec(&mut source)
            .unwrap();
    }
    set(&pair.source, 0, "long", "x");
    pair.recording().run().expect_code(0);
    assert_eq!(status(NAME, pair.state.path()).counters.keys_written, 51);
    pair.source.kill_9();
    // Somebody keeps one of them alive.
    redis::cmd("PERSIST")
        .arg("short:7")
        .exec(&mut pair.target.connection())
        .unwrap();
    crate::support::wait_for("their end", Duration::from_secs(20), || {
        (pair.target.keys(0) == 2).then_some(())
    });
    let compared = pair.proven(1);
    assert_eq!(
        (compared.count("equal"), compared.count("vanished")),
        (1, 49)
    );
    assert_eq!(pair.findings(), [(b"short:7".to_vec(), "ttl")].into());
}

#[track_caller]
fn refused(finished: Finished, why: &str) {
    let finished = finished.expect_code(3);
    assert!(finished.stderr().contains(why), "{finished}");
}

#[test]
fn what_was_not_recorded_is_not_proven() {
    let Some(mut pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    fill(&pair.source, 0, &DataSet::new(500, seed()));
    pair.migration().run().expect_code(0);
    let offline =
        || Redknot::new(["compare", NAME, "--recorded", "--state-dir"]).arg(pair.state.path());
    refused(offline().run(), "nothing was recorded");
    // Too late for this pass, and that is said.
    let late = pair.recording().run().expect_code(0);
    assert!(late.stderr().contains("--new-pass"), "{late}");
    refused(offline().run(), "nothing was recorded");
    pair.recording().arg("--new-pass").run().expect_code(0);
    pair.proven(0).assert_equal(500);
    // There is no source to repair from, and no name of what is missing.
    let key = pair.target.any_key(0);
    redis::cmd("DEL")
        .arg(&key)
        .exec(&mut pair.target.connection())
        .unwrap();
    pair.proven(1);
    assert_eq!(pair.findings(), [(nameless(&key), "missing")].into());
    let repair = pair.repair().arg("--apply").run().expect_code(2);
    assert!(
        repair.stderr().contains("needs one with the source"),
        "{repair}"
    );
    pair.source.kill_9();
}

#[test]
fn a_sample_of_what_was_recorded_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let offline = comparing::compare(NAME, state.path()).args(["--recorded", "--sample", "5%"]);
    let refused = offline.run().expect_code(2);
    assert!(refused.stderr().contains("contradict"), "{refused}");
}

#[test]
fn a_pass_that_is_recorded_in_part_says_so() {
    let Some(pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    fill(&pair.source, 0, &DataSet::new(60_000, seed()));
    let begun = (1..20).any(|tries| {
        let running = pair.recording().args(["--batch", "100"]).start();
        std::thread::sleep(Duration::from_millis(50 * tries));
        running.signal(rustix::process::Signal::INT);
        running.wait().expect_code(130);
        status(NAME, pair.state.path()).counters.keys_written > 0
    });
    assert!(begun, "no key was written before it was stopped");
    let without = pair.migration().run().expect_code(0);
    let stderr = without.stderr();
    assert!(stderr.contains("this run goes on without"), "{without}");
    let offline =
        Redknot::new(["compare", NAME, "--recorded", "--state-dir"]).arg(pair.state.path());
    refused(offline.run(), "nothing was recorded");
}

#[test]
fn a_comparison_that_was_left_begins_anew_and_a_target_that_came_back_is_read_anew() {
    let Some(mut pair) = Pair::recorded(REDIS_7_0, REDIS_7_0, &DataSet::new(30_000, seed())) else {
        return;
    };
    let keys = pair.source.keys(0);
    pair.source.kill_9();
    let slow = pair.offline().args(["--batch", "1"]);
    let killed = slow.start().kill_9_after(Duration::from_millis(400));
    assert!(killed.was_killed(), "{killed}");
    let stopped = slow.start();
    std::thread::sleep(Duration::from_millis(300));
    stopped.signal(rustix::process::Signal::INT);
    stopped.wait().expect_code(130);
    let again = pair.offline().run().expect_code(0);
    let said: Vec<String> = again.json_lines().iter().map(ToString::to_string).collect();
    let said = said.join("\n");
    assert!(said.contains("another one begins"), "{said}");
    Compared::of(again).assert_equal(keys);
    // Another process has the same keys under other cursors.
    let running = slow.start();
    std::thread::sleep(Duration::from_millis(300));
    pair.target.restart();
    Compared::of(running.wait().expect_code(0)).assert_equal(keys);
}

#[test]
fn a_cluster_is_proven_node_by_node() {
    let (Some(binary), Some(_)) = (require(REDIS_7_0), require(REDIS_7_0)) else {
        return;
    };
    let mut source = Server::plain(&binary);
    fill(&source, 0, &DataSet::new(2_000, seed()));
    let target = Cluster::start(&binary, 3, 0);
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(), state.path())
        .args(["--name", NAME, "--record-digests"])
        .run()
        .expect_code(0);
    let keys = source.keys(0);
    source.kill_9();
    let offline = || comparing::compare(NAME, state.path()).arg("--recorded");
    Compared::of(offline().run().expect_code(0)).assert_equal(keys);
    let key = target.any_key(0);
    target.delete(&key, 0);
    Compared::of(offline().run().expect_code(1));
    assert_eq!(
        comparing::findings(NAME, state.path()),
        [(nameless(&key), "missing")].into()
    );
}
