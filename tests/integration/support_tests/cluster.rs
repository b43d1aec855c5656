//! A cluster that is what tests take it for.

use crate::support::cluster::Cluster;
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::{Oracle, Verdict};
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, REDIS_8_2, VALKEY_9_1, require};

const KEYS: u32 = 2_000;

#[test]
fn a_cluster_has_the_keys_that_a_single_server_has_wherever_its_slots_are() {
    for kind in [REDIS_7_0, REDIS_8_2, VALKEY_9_1] {
        let Some(binary) = require(kind) else {
            continue;
        };
        let set = DataSet::new(KEYS, seed());
        let single = Server::plain(&binary);
        fill(&single, 0, &set);
        let cluster = Cluster::start(&binary, 3, 0);
        assert_eq!(cluster.carry_from(&single), u64::from(KEYS));
        assert_eq!(
            Oracle::between(&cluster, &single).assert_equal(),
            KEYS as usize
        );

        cluster.reshard(0, 2, 700);
        assert_eq!(cluster.keys(), u64::from(KEYS));
        assert_eq!(
            Oracle::between(&single, &cluster).assert_equal(),
            KEYS as usize
        );
    }
}

#[test]
fn a_key_that_a_cluster_lacks_is_found() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let set = DataSet::new(200, seed());
    let single = Server::plain(&binary);
    fill(&single, 0, &set);
    let cluster = Cluster::start(&binary, 3, 0);
    cluster.carry_from(&single);
    redis::cmd("SET")
        .arg("one more")
        .arg("1")
        .exec(&mut single.connection())
        .unwrap();
    let found = Oracle::between(&cluster, &single).compare().differences;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].key.as_slice(), found[0].verdict),
        (b"one more".as_slice(), Verdict::Extra)
    );
}

#[test]
fn a_replica_takes_over_from_its_master_asked_or_not() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let mut cluster = Cluster::start(&binary, 3, 1);
    cluster.fill(&DataSet::new(500, seed()));
    let slots = cluster.slots_of(&cluster.nodes()[0]);
    cluster.fail_over_to(3);
    assert_eq!(cluster.slots_of(&cluster.nodes()[3]), slots);
    assert_eq!(cluster.keys(), 500);
    let slots = cluster.slots_of(&cluster.nodes()[1]);
    cluster.kill_master(1, 4);
    assert_eq!(cluster.slots_of(&cluster.nodes()[4]), slots);
}
