//! Expiries: exact where instants can be kept, close where only time left is known, never lost and never invented.

use crate::support::dataset::{DataSet, NearExpiry, fill};
use crate::support::oracle::Oracle;
use crate::support::proxy::Proxy;
use crate::support::redknot::{Redknot, status};
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{REDIS_6_0, REDIS_7_0, require};

const NAME: &str = "expiring";

/// RESTOREs of keys that were made with 0–3 ms to live, by their ttl argument.
#[test]
fn keys_in_their_last_milliseconds_never_become_permanent() {
    for kind in [REDIS_7_0, REDIS_6_0] {
        let Some(redis) = require(kind) else { return };
        let (source, target) = (Server::plain(&redis), Server::plain(&redis));
        fill(
            &source,
            0,
            &DataSet {
                prefix: "lasting:".into(),
                ..DataSet::new(5_000, seed())
            },
        );
        let proxy = Proxy::start(target.port(), seed());
        proxy.record();
        let dying = NearExpiry::begin(&source, 0, 2_000, seed());
        let (mut met, mut permanent) = (0, 0);
        // Whether a key is met in its last moments is chance, so scan until enough were.
        for round in 0..200 {
            let state = tempfile::tempdir().unwrap();
            Redknot::migrate(&source.url(0), &proxy.url(0), state.path())
                .args(["--name", NAME, "--on-conflict", "replace"])
                .run()
                .expect_code(0);
            let counters = status(NAME, state.path()).counters;
            assert!(counters.balance());
            met += counters.keys_vanished;
            if met >= 1_611 && round >= 2 {
                break;
            }
        }
        let made = dying.end();
        let mut restored = 0;
        for write in proxy.commands().iter() {
            let for_ever = match write.name.as_str() {
                "RESTORE" => write.args[1] == b"0",
                "SET" => !write.args.iter().any(|word| word.starts_with(b"PX")),
                _ => continue,
            };
            if write.args[0].starts_with(b"volatile:") {
                restored += 1;
                permanent += usize::from(for_ever);
            }
        }
        assert_eq!(permanent, 0, "of {restored} writes of dying keys");
        assert!(
            met >= 1_611,
            "only {met} keys were met in their last moments, of {made} made"
        );
        let left: Vec<Vec<u8>> = redis::cmd("KEYS")
            .arg("volatile:*")
            .query(&mut target.connection())
            .unwrap();
        assert!(left.is_empty(), "{} dying keys live on", left.len());
        eprintln!(
            "{}: {made} keys with 1-3 ms to live made, {met} expired in flight, {restored} restored, 0 permanent",
            kind.name
        );
    }
}

#[test]
fn instants_are_kept_to_the_millisecond_where_both_sides_know_them() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill(&source, 0, &DataSet::new(10_000, seed()));
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .run()
        .expect_code(0);
    let compared = Oracle::between(&source, &target)
        .ttl_tolerance_ms(0)
        .compare();
    assert!(
        compared.differences.is_empty(),
        "{:?}",
        compared.differences.first()
    );
    assert_eq!(compared.ttl_drift_max_ms, 0);
}

#[test]
fn time_left_is_kept_closely_where_instants_are_not_known() {
    let (Some(old), Some(new)) = (require(REDIS_6_0), require(REDIS_7_0)) else {
        return;
    };
    let (source, target) = (Server::plain(&old), Server::plain(&new));
    fill(&source, 0, &DataSet::new(10_000, seed()));
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .run()
        .expect_code(0);
    Oracle::between(&source, &target)
        .ttl_tolerance_ms(1_000)
        .assert_equal();
}

#[test]
fn a_clock_that_is_off_does_not_shift_expiries() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let mut connection = source.connection();
    for (key, ttl) in [("soon", 60_000_u64), ("later", 86_400_000)] {
        redis::cmd("SET")
            .arg(key)
            .arg("v")
            .arg("PX")
            .arg(ttl)
            .exec(&mut connection)
            .unwrap();
    }
    // The source says that it is ten minutes later than it is.
    let proxy = Proxy::start(source.port(), seed());
    let ahead = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 600;
    proxy
        .on("TIME")
        .always()
        .answer(&format!("*2\r\n$10\r\n{ahead}\r\n$1\r\n0"));
    let state = tempfile::tempdir().unwrap();
    let finished = Redknot::migrate(&proxy.url(0), &target.url(0), state.path())
        .run()
        .expect_code(0);
    assert!(
        finished.stderr().contains("clock"),
        "the operator is told\n{finished}"
    );
    for (key, ttl) in [("soon", 60_000_i64), ("later", 86_400_000)] {
        let left: i64 = redis::cmd("PTTL")
            .arg(key)
            .query(&mut target.connection())
            .unwrap();
        assert!(
            (ttl - 30_000..=ttl).contains(&left),
            "{key}: {left} ms left of {ttl}"
        );
    }
}

#[test]
fn expiries_are_dropped_only_on_request() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    redis::cmd("SET")
        .arg("k")
        .arg("v")
        .arg("EX")
        .arg(1_000)
        .exec(&mut source.connection())
        .unwrap();
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--ttl", "drop"])
        .run()
        .expect_code(0);
    let ttl: i64 = redis::cmd("PTTL")
        .arg("k")
        .query(&mut target.connection())
        .unwrap();
    assert_eq!(ttl, -1);
}
