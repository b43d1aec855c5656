use std::time::Duration;

use super::KINDS;
use super::{Migration, NAME, SOME_KEYS, Slowed, clusters, move_until_ended, reshard_until_ended};
use crate::support::cluster::Cluster;
use crate::support::comparing::{
    Compared, Findings, assert_findings, compare_urls, expected, findings, of_oracle, repair,
};
use crate::support::corrupt::{Damage, corrupt};
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::{Oracle, Servers};
use crate::support::redknot::{Finished, Redknot, status_file};
use crate::support::server::Server;
use crate::support::version::{Binary, REDIS_7_0, REDIS_8_2, VALKEY_9_1};
use crate::support::{seed, wait_for};

/// A few of each kind of damage.
const DAMAGES: usize = 150;

/// Enough for each of them to find a key.
const DAMAGED_KEYS: u32 = 8_000;

/// Two servers of which one was damaged, and what was done to it.
struct Damaged {
    whole: Server,
    damaged: Server,
    damages: Vec<Damage>,
}

impl Damaged {
    fn new(binary: &Binary, keys: u32) -> Self {
        let (whole, damaged) = (Server::plain(binary), Server::plain(binary));
        fill(&whole, 0, &DataSet::new(keys, seed()));
        let copy = Migration::new(whole.url(0), damaged.url(0));
        copy.command().run().expect_code(0);
        let damages = corrupt(&whole, &damaged, 0, DAMAGES, seed());
        Self {
            whole,
            damaged,
            damages,
        }
    }

    fn wanted(&self) -> Findings {
        expected(&self.damages)
    }
}

/// A cluster that has what a server has.
fn cluster_with(server: &Server, binary: &Binary, masters: usize, replicas: usize) -> Cluster {
    let cluster = Cluster::start(binary, masters, replicas);
    cluster.carry_from(server);
    if replicas > 0 {
        cluster.wait_until_replicated();
    }
    cluster
}

/// Compares two URLs: finds exactly what is wanted, repairs it, and finds nothing more.
fn found_and_repaired(from: &str, to: &str, damaged: &Damaged, sides: [Servers<'_>; 2]) {
    let state = tempfile::tempdir().unwrap();
    let compare = || compare_urls(from, to, state.path()).args(["--settle", "50ms"]);
    let wanted = damaged.wanted();
    let [source, target] = sides;
    let oracle = Oracle::between(source, target);
    let differences = of_oracle(&oracle.compare().differences);
    assert_findings(&differences, &wanted, &damaged.damages);
    let found = Compared::of(compare().run().expect_code(1));
    let name = found.name();
    assert_findings(&findings(name, state.path()), &wanted, &damaged.damages);
    let extra = wanted.values().filter(|verdict| **verdict == "extra");
    let extra = extra.count().to_string();
    repair(name, state.path())
        .args(["--apply", "--delete-extra", "--yes", &extra])
        .run()
        .expect_code(0);
    let keys = oracle.assert_equal() as u64;
    Compared::of(compare().run().expect_code(0)).assert_equal(keys);
}

#[test]
fn damage_is_found_and_repaired_whichever_sides_are_clusters() {
    for binary in clusters(&KINDS) {
        let damaged = Damaged::new(&binary, DAMAGED_KEYS);
        let source = cluster_with(&damaged.whole, &binary, 3, 0);
        let target = cluster_with(&damaged.damaged, &binary, 2, 0);
        found_and_repaired(
            &source.url(),
            &target.url(),
            &damaged,
            [(&source).into(), (&target).into()],
        );
        let target = cluster_with(&damaged.damaged, &binary, 3, 0);
        found_and_repaired(
            &damaged.whole.url(0),
            &target.url(),
            &damaged,
            [(&damaged.whole).into(), (&target).into()],
        );
        found_and_repaired(
            &source.url(),
            &damaged.damaged.url(0),
            &damaged,
            [(&source).into(), (&damaged.damaged).into()],
        );
    }
}

/// A comparison that is met in its middle.
fn started(migration: &Migration) -> Slowed {
    met(migration, migration.compare(), 500)
}

/// Starts a comparison slowly, and waits until more than so many keys are durable.
fn met(migration: &Migration, compare: Redknot, keys: u64) -> Slowed {
    let running = Slowed::new(compare.start());
    wait_for(
        "the comparison to be in its middle",
        Duration::from_secs(60),
        || {
            let said = running.running.stderr_so_far();
            assert!(running.is_running(), "it ended too early: {said}");
            let status = status_file(NAME, migration.state.path())?;
            let scanned = status.compare?.counters.keys_scanned;
            (scanned > keys).then_some(())
        },
    );
    running
}

/// What it decided about each side's past, in this order.
fn decisions(finished: &Finished) -> Vec<String> {
    let lines = finished.json_lines();
    let lanes = lines.iter().filter(|line| line["type"] == "compare_lane");
    lanes
        .map(|lane| lane["decision"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn slots_that_move_on_both_sides_while_they_are_compared_are_no_findings() {
    for binary in clusters(&KINDS) {
        let scratch = Server::plain(&binary);
        // Groups do not survive whole where a slot is handed over at once.
        let streams = binary.kind != VALKEY_9_1;
        let set = DataSet {
            streams,
            ..DataSet::new(SOME_KEYS, seed())
        };
        fill(&scratch, 0, &set);
        let source = cluster_with(&scratch, &binary, 3, 0);
        let target = Cluster::start(&binary, 3, 0);
        let migration = Migration::new(source.url(), target.url());
        migration.command().run().expect_code(0);
        let before = [source.redirections(), target.redirections()];
        let running = started(&migration);
        let moved = std::thread::scope(|scope| {
            let on_source = scope.spawn(|| reshard_until_ended(&source, &running));
            let on_target = match binary.kind == VALKEY_9_1 {
                true => move_until_ended(&target, &running),
                false => reshard_until_ended(&target, &running),
            };
            on_target.min(on_source.join().unwrap())
        });
        assert!(moved > 0, "no slot moved while it was compared");
        let compared = Compared::of(running.release().wait().expect_code(0));
        compared.assert_equal(scratch.keys(0));
        assert_eq!(decisions(&compared.finished), ["begin"]);
        let after = [source.redirections(), target.redirections()];
        assert!(
            after[0] > before[0] && after[1] > before[1],
            "nobody was sent elsewhere: {before:?} {after:?}"
        );
    }
}

#[test]
fn a_master_that_is_replaced_while_it_is_compared_is_compared_anew() {
    for (kind, of_source, killed) in [
        (REDIS_7_0, true, true),
        (REDIS_8_2, false, false),
        (VALKEY_9_1, true, false),
        (VALKEY_9_1, false, true),
    ] {
        for binary in clusters(&[kind]) {
            let scratch = Server::plain(&binary);
            fill(&scratch, 0, &DataSet::new(SOME_KEYS, seed()));
            let mut cluster = cluster_with(&scratch, &binary, 3, 1);
            let migration = match of_source {
                true => Migration::new(cluster.url(), scratch.url(0)),
                false => Migration::new(scratch.url(0), cluster.url()),
            };
            let skip = ["--on-conflict", "skip"];
            migration.command().args(skip).run().expect_code(0);
            let running = started(&migration);
            match killed {
                true => cluster.kill_master(1, 4),
                false => cluster.fail_over_to(3),
            }
            assert!(running.is_running(), "the master was replaced too late");
            let compared = Compared::of(running.release().wait().expect_code(0));
            compared.assert_equal(scratch.keys(0));
            let decisions = decisions(&compared.finished);
            let anew = decisions.iter().any(|decision| decision == "new_pass");
            assert!(anew, "what was read of it counted: {decisions:?}");
        }
    }
}

#[test]
fn a_comparison_of_clusters_that_was_killed_goes_on_at_its_slot() {
    for binary in clusters(&[REDIS_7_0, VALKEY_9_1]) {
        let damaged = Damaged::new(&binary, SOME_KEYS);
        let source = cluster_with(&damaged.whole, &binary, 3, 0);
        let target = cluster_with(&damaged.damaged, &binary, 3, 0);
        let migration = Migration::new(source.url(), target.url());
        let skip = ["--on-conflict", "skip"];
        migration.command().args(skip).run().expect_code(0);
        // What was missing has been copied.
        let mut wanted = damaged.wanted();
        wanted.retain(|_, verdict| *verdict != "missing");
        // A sixth of them, in as many of its slots.
        let compare = migration.compare().args(["--rate", "8000/s"]);
        let running = met(&migration, compare, u64::from(SOME_KEYS / 6));
        assert!(running.release().kill_9().was_killed());
        let listed = source.calls("cluster|getkeysinslot");
        let compared = Compared::of(migration.compare().run().expect_code(1));
        assert_eq!(decisions(&compared.finished), ["continue"]);
        let again = source.calls("cluster|getkeysinslot") - listed;
        assert!(
            (1..16_000).contains(&again),
            "{again} slots were listed again: it began anew"
        );
        assert_findings(
            &findings(NAME, migration.state.path()),
            &wanted,
            &damaged.damages,
        );
    }
}
