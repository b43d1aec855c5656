//! Between servers that don't take each other's payloads: whatever the target can hold arrives, the rest is quarantined
//! with its reason, and no server is given what it can't survive.

use std::collections::BTreeSet;

use ::redknot::progress::Counters;

use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::{Oracle, Verdict};
use crate::support::proxy::Proxy;
use crate::support::redknot::{Finished, Redknot, status, wait_for_status};
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{
    Kind, REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_9_1, require,
};

const NAME: &str = "converted";

/// A source with keys of all kinds, fields that expire among them, and an empty target.
struct Pair {
    source: Server,
    target: Server,
    keys: u64,
    state: tempfile::TempDir,
}

impl Pair {
    fn new(from: Kind, to: Kind) -> Option<Self> {
        let (from, to) = (require(from)?, require(to)?);
        let (source, target) = (Server::plain(&from), Server::plain(&to));
        let set = DataSet {
            field_ttls: true,
            ..DataSet::new(4_000, seed())
        };
        let keys = fill(&source, 0, &set);
        Some(Self {
            source,
            target,
            keys,
            state: tempfile::tempdir().unwrap(),
        })
    }

    fn migrate(&self) -> Redknot {
        Redknot::migrate(&self.source.url(0), &self.target.url(0), self.state.path())
            .args(["--name", NAME])
    }

    fn counters(&self) -> Counters {
        let counters = status(NAME, self.state.path()).counters;
        assert!(counters.balance(), "{counters:?}");
        assert!(counters.keys_reencoded <= counters.keys_written);
        counters
    }
}

/// Names of hashes of which fields expire.
fn expiring_hashes(server: &Server) -> BTreeSet<Vec<u8>> {
    let mut connection = server.connection();
    let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    let expires = |name: &Vec<u8>| {
        let kind: String = redis::cmd("TYPE").arg(name).query(&mut connection).unwrap();
        if kind != "hash" {
            return false;
        }
        let fields: Vec<Vec<u8>> = redis::cmd("HKEYS")
            .arg(name)
            .query(&mut connection)
            .unwrap();
        let expiries: Vec<i64> = redis::cmd("HPEXPIRETIME")
            .arg(name)
            .arg("FIELDS")
            .arg(fields.len())
            .arg(&fields)
            .query(&mut connection)
            .unwrap();
        expiries.into_iter().any(|expiry| expiry > 0)
    };
    names.into_iter().filter(expires).collect()
}

/// All keys arrive. Returns how many of them were re-encoded.
fn all_arrive(from: Kind, to: Kind) -> Option<u64> {
    let pair = Pair::new(from, to)?;
    let finished = pair.migrate().run().expect_code(0);
    let counters = pair.counters();
    assert_eq!(counters.keys_written, pair.keys, "{finished}");
    let compared = Oracle::between(&pair.source, &pair.target).assert_equal();
    assert_eq!(compared as u64, pair.keys);
    assert_eq!(
        finished.stdout().contains("re-encoded"),
        counters.keys_reencoded > 0,
        "{finished}"
    );
    Some(counters.keys_reencoded)
}

/// All keys arrive but hashes whose fields expire: those are quarantined, or lose the expiry on request.
fn all_but_expiring_fields_arrive(from: Kind, to: Kind) {
    let Some(pair) = Pair::new(from, to) else {
        return;
    };
    let expiring = expiring_hashes(&pair.source);
    assert!(!expiring.is_empty(), "the data set has none");
    let finished = pair.migrate().run().expect_code(1);
    let counters = pair.counters();
    assert_eq!(
        counters.keys_quarantined,
        expiring.len() as u64,
        "{finished}"
    );
    assert_eq!(counters.keys_written + counters.keys_quarantined, pair.keys);
    assert!(counters.keys_reencoded > 0, "{finished}");
    assert!(
        finished.stderr().contains("--field-ttl drop"),
        "the reason says what can be done: {finished}"
    );
    let found = Oracle::between(&pair.source, &pair.target).compare();
    let missing: BTreeSet<Vec<u8>> = found
        .differences
        .iter()
        .inspect(|difference| assert_eq!(difference.verdict, Verdict::Missing, "{difference}"))
        .map(|difference| difference.key.clone())
        .collect();
    assert_eq!(missing, expiring);

    redis::cmd("FLUSHALL")
        .exec(&mut pair.target.connection())
        .unwrap();
    let dropped = pair
        .migrate()
        .args(["--restart", "--field-ttl", "drop"])
        .run()
        .expect_code(0);
    assert_eq!(pair.counters().keys_written, pair.keys, "{dropped}");
    let found = Oracle::between(&pair.source, &pair.target).compare();
    for difference in &found.differences {
        // The oracle reads expiries of fields where the server knows any.
        assert_eq!(difference.verdict, Verdict::Value, "{difference}");
        assert!(expiring.contains(&difference.key), "{difference}");
    }
    for name in &expiring {
        let [ours, theirs] =
            [&pair.source, &pair.target].map(|server| -> BTreeSet<(Vec<u8>, Vec<u8>)> {
                let mut command = redis::cmd("HGETALL");
                let fields: Vec<(Vec<u8>, Vec<u8>)> =
                    command.arg(name).query(&mut server.connection()).unwrap();
                fields.into_iter().collect()
            });
        assert_eq!(ours, theirs, "{}", name.escape_ascii());
    }
}

#[test]
fn redis_8_2_to_7_0() {
    all_but_expiring_fields_arrive(REDIS_8_2, REDIS_7_0);
}

#[test]
fn redis_8_2_to_6_2() {
    all_but_expiring_fields_arrive(REDIS_8_2, REDIS_6_2);
}

#[test]
fn redis_8_2_to_6_0() {
    all_but_expiring_fields_arrive(REDIS_8_2, REDIS_6_0);
}

#[test]
fn valkey_9_1_to_redis_7_0() {
    all_but_expiring_fields_arrive(VALKEY_9_1, REDIS_7_0);
}

#[test]
fn valkey_9_1_to_redis_8_2() {
    let reencoded = all_arrive(VALKEY_9_1, REDIS_8_2);
    assert!(
        reencoded.is_none_or(|keys| keys > 0),
        "hashes whose fields expire are"
    );
}

#[test]
fn redis_8_2_to_valkey_9_1() {
    let reencoded = all_arrive(REDIS_8_2, VALKEY_9_1);
    assert!(
        reencoded.is_none_or(|keys| keys > 0),
        "hashes whose fields expire are"
    );
}

#[test]
fn redis_7_0_to_6_2() {
    assert!(all_arrive(REDIS_7_0, REDIS_6_2).is_none_or(|keys| keys > 0));
}

#[test]
fn redis_7_0_to_6_0() {
    assert!(all_arrive(REDIS_7_0, REDIS_6_0).is_none_or(|keys| keys > 0));
}

#[test]
fn what_a_newer_server_takes_is_not_re_encoded() {
    assert!(all_arrive(REDIS_6_2, REDIS_7_0).is_none_or(|keys| keys == 0));
    assert!(all_arrive(REDIS_7_0, REDIS_8_2).is_none_or(|keys| keys == 0));
}

/// A vector set; a module's value to every other server.
fn add_vectors(server: &Server, key: &str) {
    for element in ["a", "b", "c"] {
        redis::cmd("VADD")
            .arg(key)
            .arg("VALUES")
            .arg(3)
            .arg(&[0.5, 1.5, 2.5])
            .arg(element)
            .exec(&mut server.connection())
            .unwrap();
    }
}

/// Redis 6.0 exits when it is given a value of a module that it does not have.
#[test]
fn a_modules_value_never_reaches_a_server_without_the_module() {
    let (Some(from), Some(to)) = (require(REDIS_8_2), require(REDIS_6_0)) else {
        return;
    };
    let (source, target) = (Server::plain(&from), Server::plain(&to));
    fill(&source, 0, &DataSet::new(500, seed()));
    add_vectors(&source, "vectors");
    let proxy = Proxy::start(target.port(), seed());
    proxy.record();
    let state = tempfile::tempdir().unwrap();
    let run_id = target.run_id();
    let finished = Redknot::migrate(&source.url(0), &proxy.url(0), state.path())
        .args(["--name", NAME])
        .run()
        .expect_code(1);
    assert_eq!(target.run_id(), run_id, "the target died");
    let restored = |key: &[u8]| {
        proxy
            .commands()
            .iter()
            .filter(|seen| seen.name == "RESTORE" && seen.args[0] == key)
            .count()
    };
    assert_eq!(restored(b"vectors"), 0);
    assert!(
        restored(b"redknot:probe") > 1,
        "the target was asked what it takes"
    );
    let counters = status(NAME, state.path()).counters;
    assert_eq!((counters.keys_written, counters.keys_quarantined), (500, 1));
    assert!(finished.stderr().contains("vectorset"), "{finished}");
}

#[test]
fn a_modules_value_reaches_a_server_with_the_module() {
    let Some(redis) = require(REDIS_8_2) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    add_vectors(&source, "vectors");
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .run()
        .expect_code(0);
    let [ours, theirs] = [&source, &target].map(|server| -> Vec<f64> {
        let mut command = redis::cmd("VEMB");
        command
            .arg("vectors")
            .arg("b")
            .query(&mut server.connection())
            .unwrap()
    });
    assert_eq!(ours, theirs);
}

/// A failover to an older server behind the same address: what it takes is asked again.
#[test]
fn another_target_behind_the_same_address_is_asked_again() {
    let (Some(newer), Some(older)) = (require(REDIS_7_0), require(REDIS_6_2)) else {
        return;
    };
    let (source, first, second) = (
        Server::plain(&newer),
        Server::plain(&newer),
        Server::plain(&older),
    );
    let keys = fill(&source, 0, &DataSet::new(20_000, seed()));
    let proxy = Proxy::start(first.port(), seed());
    let state = tempfile::tempdir().unwrap();
    proxy.requests().bandwidth(2 << 20);
    let running = Redknot::migrate(&source.url(0), &proxy.url(0), state.path())
        .args(["--name", NAME, "--batch", "100"])
        .start();
    wait_for_status(NAME, state.path(), "a thousand keys", |status| {
        status.counters.keys_written > 1_000
    });
    proxy.switch_upstream(second.port());
    proxy.requests().calm();
    let finished: Finished = running.wait().expect_code(0);
    assert!(first.keys(0) > 1_000, "{finished}");
    let compared = Oracle::between(&source, &second).assert_equal();
    assert_eq!(compared as u64, keys, "{finished}");
    assert!(status(NAME, state.path()).counters.keys_reencoded > 0);
}
