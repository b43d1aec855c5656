//! Big keys between clusters: a temporary name has the slot of its key.

use super::*;
use crate::support::cluster::Cluster;
use crate::support::dataset::DataSet;
use crate::support::{seed, wait_for};

fn names(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| match number % 3 {
            0 => format!("hash:{number}"),
            1 => format!("{{tag{number}}}hash"),
            _ => format!("odd}}{number}{{"),
        })
        .collect()
}

#[test]
fn big_keys_arrive_from_a_cluster_and_at_a_cluster() {
    let (Some(from), Some(to)) = (require(REDIS_7_0), require(VALKEY_9_1)) else {
        return;
    };
    let source = Cluster::start(&from, 3, 0);
    let scratch = Server::plain(&from);
    for name in names(9) {
        set_hash(&scratch, &name, 3_000);
    }
    source.carry_from(&scratch);
    let keys = source.fill(&DataSet::new(500, seed())).max(source.keys());
    let target = Cluster::start(&to, 3, 0);
    let state = tempfile::tempdir().unwrap();
    let migrate = || {
        Redknot::migrate(&source.url(), &target.url(), state.path()).args([
            "--name",
            NAME,
            "--big-key",
            BIG,
        ])
    };
    let killed = migrate()
        .env("FAILPOINTS", "big_piece_written=9*off->return")
        .run();
    assert!(killed.was_killed(), "{killed}");
    migrate().run().expect_code(0);
    let counters = status(NAME, state.path()).counters;
    assert!(counters.keys_in_pieces >= 9, "{counters:?}");
    assert_eq!(counters.keys_written, keys, "{counters:?}");
    let compared = compare(NAME, state.path()).args(["--big-key", BIG]);
    Compared::of(compared.run().expect_code(0)).assert_equal(keys);
    for node in target.masters() {
        assert_eq!(temporary_names(node), Vec::<String>::new());
    }
}

/// The slot of a key that is half there moves to another node, with its pieces.
#[test]
fn a_big_key_arrives_while_its_slot_moves() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let source = Server::plain(&redis);
    set_hash(&source, "hash", 20_000);
    let target = Cluster::start(&redis, 2, 0);
    let state = tempfile::tempdir().unwrap();
    let running = Redknot::migrate(&source.url(0), &target.url(), state.path())
        .args(["--name", NAME, "--big-key", BIG, "--bandwidth", "1MiB/s"])
        .start();
    wait_for("pieces", std::time::Duration::from_secs(30), || {
        (target.keys() > 0).then_some(())
    });
    let slot = target.slot_of(b"hash");
    let first = target.owner_of(slot).port() == target.masters()[0].port();
    let (from, to) = if first { (0, 1) } else { (1, 0) };
    target.reshard(from, to, 8_192);
    running.wait().expect_code(0);
    Compared::of(compare(NAME, state.path()).run().expect_code(0)).assert_equal(1);
    for node in target.masters() {
        assert_eq!(temporary_names(node), Vec::<String>::new());
    }
}
