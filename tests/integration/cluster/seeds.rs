use std::time::Duration;

use super::{Migration, NAME, SOME_KEYS, clusters};
use crate::support::cluster::Cluster;
use crate::support::comparing::{Compared, repair};
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Oracle;
use crate::support::redknot::Finished;
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, VALKEY_9_1, require};
use crate::support::{seed, wait_for};

/// What a run says that goes on by a node that was not named.
const STANDS_IN: &str = "does not answer; 127.0.0.1:";

/// `redis://host:port,host:port`
fn all_of(nodes: &[Server]) -> String {
    let places: Vec<String> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port()))
        .collect();
    format!("redis://{}", places.join(","))
}

fn said(finished: &Finished) -> String {
    format!("{}{}", finished.stdout(), finished.stderr())
}

#[test]
fn a_node_that_was_named_and_has_died_does_not_keep_the_same_command_from_going_on() {
    for binary in clusters(&[REDIS_7_0, VALKEY_9_1]) {
        let mut source = Cluster::start(&binary, 3, 1);
        source.fill(&DataSet::new(SOME_KEYS, seed()));
        source.wait_until_replicated();
        let mut target = Cluster::start(&binary, 3, 1);
        let migration = Migration::new(source.url(), target.url());
        let running = migration.started(u64::from(SOME_KEYS) / 4);
        assert!(running.release().kill_9().was_killed());
        target.wait_until_replicated();
        // The nodes that the command names.
        source.kill_master(0, 3);
        target.kill_master(0, 3);
        let finished = migration.command().run();
        assert_eq!(
            said(&finished).matches(STANDS_IN).count(),
            2,
            "one for each side\n{finished}"
        );
        let finished = finished.expect_code(0);
        let keys = Oracle::between(&source, &target).assert_equal();
        assert_eq!(keys as u64, source.keys(), "{finished}");
        // The acknowledgements of the dead master don't count.
        let passes = migration.status().passes;
        assert!(passes[1].reason.contains("suspect"), "{passes:?}");
        let compared = Compared::of(migration.compare().run().expect_code(0));
        compared.assert_equal(keys as u64);
        let damaged = target.any_key(0);
        target.delete(&damaged, 0);
        Compared::of(migration.compare().run().expect_code(1));
        let repaired = repair(NAME, migration.state.path()).arg("--apply").run();
        repaired.expect_code(0);
        Oracle::between(&source, &target).assert_equal();
    }
}

#[test]
fn a_node_that_was_named_and_dies_in_mid_run_is_not_missed() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let mut source = Cluster::start(&binary, 3, 1);
    source.fill(&DataSet::new(SOME_KEYS, seed()));
    source.wait_until_replicated();
    let mut target = Cluster::start(&binary, 3, 1);
    let migration = Migration::new(source.url(), target.url());
    let running = migration.started(u64::from(SOME_KEYS) / 10);
    target.wait_until_replicated();
    source.kill_master(0, 3);
    target.kill_master(0, 3);
    assert!(running.is_running(), "the nodes died too late");
    let finished = running.release().wait().expect_code(0);
    let keys = Oracle::between(&source, &target).assert_equal();
    assert_eq!(keys as u64, source.keys(), "{finished}");
}

#[test]
fn of_several_nodes_that_are_named_one_alive_is_enough() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let mut source = Cluster::start(&binary, 3, 1);
    let keys = source.fill(&DataSet::new(2_000, seed()));
    source.wait_until_replicated();
    source.kill_master(0, 3);
    let target = Server::plain(&binary);
    let migration = Migration::new(all_of(&source.nodes()[..2]), target.url(0));
    let finished = migration.command().run().expect_code(0);
    assert!(!said(&finished).contains(STANDS_IN), "{finished}");
    Oracle::between(&source, &target).assert_equal();
    // By the name alone: the plan has all of them, in whichever order they were given.
    Compared::of(migration.compare().run().expect_code(0)).assert_equal(keys);
    let turned = Migration {
        from: format!(
            "redis://127.0.0.1:{},127.0.0.1:{}",
            source.nodes()[1].port(),
            source.nodes()[0].port()
        ),
        ..migration
    };
    let again = turned.command().run().expect_code(0);
    assert!(again.stderr().contains("already complete"), "{again}");
}

/// Nothing may be read from a stranger who has got the address.
#[test]
fn an_address_that_is_another_clusters_by_now_is_not_read() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let mut source = Cluster::start(&binary, 2, 0);
    source.fill(&DataSet::new(SOME_KEYS, seed()));
    let target = Server::plain(&binary);
    let migration = Migration::new(source.url(), target.url(0));
    let running = migration.started(100);
    assert!(running.release().kill_9().was_killed());
    source.node_mut(0).kill_9();
    let stranger = &source.nodes()[1];
    make_a_stranger_of(stranger);
    let asked = stranger.calls("cluster|slots");
    let (read, written) = (stranger.calls("dump"), target.keys(0));
    let patience = ["--max-unavailable", "1s", "--timeout", "500ms"];
    let finished = migration.command().args(patience).run().expect_code(10);
    let asked = stranger.calls("cluster|slots") - asked;
    assert!(asked > 0, "nobody asked who it is: {finished}");
    assert_eq!(stranger.calls("dump"), read, "{finished}");
    assert_eq!(target.keys(0), written, "{finished}");
}

/// Lets a node forget its cluster and its identity, and be a cluster of its own, with some key.
fn make_a_stranger_of(node: &Server) {
    let mut connection = node.connection();
    let mut ask = |words: &str| {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.exec(&mut connection)
    };
    ask("FLUSHALL").unwrap();
    ask("CLUSTER RESET HARD").unwrap();
    ask("CLUSTER ADDSLOTSRANGE 0 16383").unwrap();
    wait_for("the slots to be served", Duration::from_secs(30), || {
        ask("SET strange 1").ok()
    });
}

#[test]
fn several_hosts_that_are_no_cluster_are_refused() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let servers = [Server::plain(&binary), Server::plain(&binary)];
    fill(&servers[0], 0, &DataSet::new(100, seed()));
    let target = Server::plain(&binary);
    for (from, to) in [
        (all_of(&servers), target.url(0)),
        (target.url(0), all_of(&servers)),
    ] {
        let migration = Migration::new(from, to);
        let finished = migration.command().run().expect_code(2);
        let why = "what answers is no node of a cluster";
        assert!(finished.stderr().contains(why), "{finished}");
    }
}
