use super::{FEW_KEYS, Migration, clusters};
use crate::support::cluster::Cluster;
use crate::support::comparing::{Compared, compare_urls};
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Oracle;
use crate::support::redknot::Finished;
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, VALKEY_9_1, require};

/// Which side, and which of its nodes, is said to be in trouble.
#[track_caller]
fn assert_names(finished: Finished, side: &str, what: &str) {
    let code = if side == "source" { 10 } else { 11 };
    let finished = finished.expect_code(code);
    let said = finished.stderr();
    let error = format!("error: {side}: failed to reach the server");
    assert!(
        said.contains(&error) && said.contains(what),
        "{side}, {what}: {finished}"
    );
}

#[test]
fn a_node_that_never_comes_back_ends_the_run_and_is_named() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let single = Server::plain(&binary);
    fill(&single, 0, &DataSet::new(FEW_KEYS, seed()));
    let patience = ["--max-unavailable", "2s"];
    for of_source in [true, false] {
        let mut cluster = Cluster::start(&binary, 3, 0);
        let empty = Server::plain(&binary);
        let (migration, side) = match of_source {
            true => {
                cluster.carry_from(&single);
                (Migration::new(cluster.url(), empty.url(0)), "source")
            }
            false => (Migration::new(single.url(0), cluster.url()), "target"),
        };
        let running = super::Slowed::new(migration.command().args(patience).start());
        super::wait_until_begun(&migration, &running, 100);
        let port = cluster.nodes()[2].port();
        cluster.node_mut(2).kill_9();
        assert!(running.is_running(), "it was killed too late");
        let finished = running.release().wait();
        assert_names(finished, side, &port.to_string());
    }
}

/// Half of a slot has arrived at another node, and the rest does not follow.
#[test]
fn a_slot_that_is_half_moved_is_written_where_it_goes_and_waited_for_where_it_is_read() {
    for binary in clusters(&[REDIS_7_0, VALKEY_9_1]) {
        let single = Server::plain(&binary);
        fill(&single, 0, &DataSet::new(2_000, seed()));
        let cluster = Cluster::start(&binary, 3, 0);
        let slot = cluster.slot_of(&single.any_key(0));
        cluster.begin_to_move(slot);
        let migration = Migration::new(single.url(0), cluster.url());
        migration.command().run().expect_code(0);
        // Each of its keys is at the new node, and was asked for there.
        assert!(cluster.calls("asking") > 0, "nobody asked");
        let state = tempfile::tempdir().unwrap();
        let one_way = compare_urls(&single.url(0), &cluster.url(), state.path())
            .args(["--settle", "50ms", "--one-way"])
            .run()
            .expect_code(0);
        Compared::of(one_way).assert_equal(single.keys(0));
        // To list it, it has to be at rest.
        let patience = ["--max-unavailable", "1s"];
        let finished = migration.compare().args(patience).run();
        assert_names(finished, "target", &format!("ASK {slot} "));
        cluster.end_to_move(slot);
        let compared = Compared::of(migration.compare().run().expect_code(0));
        compared.assert_equal(single.keys(0));
        Oracle::between(&single, &cluster).assert_equal();
    }
}

#[test]
fn nodes_that_do_not_agree_who_has_a_slot_end_the_run_with_its_number() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let single = Server::plain(&binary);
    fill(&single, 0, &DataSet::new(2_000, seed()));
    let cluster = Cluster::start(&binary, 3, 0);
    let slot = cluster.slot_of(&single.any_key(0));
    cluster.begin_to_move(slot);
    cluster.forget_to_import(slot);
    let migration = Migration::new(single.url(0), cluster.url());
    let finished = migration.command().args(["--max-unavailable", "1s"]).run();
    assert_names(finished, "target", &format!("slot {slot}"));
    cluster.end_to_move(slot);
    let finished = migration.command().run();
    let oracle = Oracle::between(&single, &cluster);
    migration.expect_complete(finished, || single.keys(0), oracle);
}

#[test]
fn slots_at_nobody_are_refused_before_a_key_is_read() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let partial = |spec: crate::support::server::ServerSpec| {
        spec.config("cluster-require-full-coverage", "no")
    };
    let cluster = Cluster::of(&binary, 3, 0, partial);
    cluster.give_to_nobody(7);
    let single = Server::plain(&binary);
    fill(&single, 0, &DataSet::new(100, seed()));
    let said = "1 of 16384 slots are at no node, the first of them 7";
    for (from, to) in [
        (single.url(0), cluster.url()),
        (cluster.url(), single.url(0)),
    ] {
        let migration = Migration::new(from.clone(), to.clone());
        let finished = migration.command().run().expect_code(22);
        assert!(finished.stderr().contains(said), "{finished}");
        let state = tempfile::tempdir().unwrap();
        let finished = compare_urls(&from, &to, state.path()).run().expect_code(22);
        assert!(finished.stderr().contains(said), "{finished}");
    }
}
