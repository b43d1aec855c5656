use std::time::{Duration, Instant};

use crate::support::dataset::{DataSet, count_hyperloglogs, fill};
use crate::support::oracle::{Verdict, assert_equal, differences};
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{
    Kind, REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1, require,
};

/// Copies database 0 with the `redis` crate, on servers that stand still: SCAN, DUMP, PTTL, RESTORE.
pub(super) fn copy(source: &Server, target: &Server) {
    let (mut from, mut to) = (source.connection(), target.connection());
    let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut from).unwrap();
    for names in names.chunks(1_000) {
        let mut reads = redis::pipe();
        for name in names {
            reads.cmd("DUMP").arg(name).cmd("PTTL").arg(name);
        }
        let mut values = reads
            .query::<Vec<redis::Value>>(&mut from)
            .unwrap()
            .into_iter();
        let mut writes = redis::pipe();
        for name in names {
            let payload: Vec<u8> = redis::from_redis_value(values.next().unwrap()).unwrap();
            let ttl: i64 = redis::from_redis_value(values.next().unwrap()).unwrap();
            writes
                .cmd("RESTORE")
                .arg(name)
                .arg(ttl.max(0))
                .arg(payload)
                .ignore();
        }
        writes.exec(&mut to).unwrap();
    }
}

/// Two servers with the same keys, or nothing where a binary is missing.
pub(super) fn pair(source: Kind, target: Kind, keys: u32) -> Option<(Server, Server)> {
    let (source, target) = (require(source)?, require(target)?);
    let (source, target) = (Server::plain(&source), Server::plain(&target));
    let field_ttls = source.kind().knows_field_ttl && target.kind().knows_field_ttl;
    fill(
        &source,
        0,
        &DataSet {
            field_ttls,
            ..DataSet::new(keys, seed())
        },
    );
    copy(&source, &target);
    Some((source, target))
}

#[test]
fn finds_nothing_on_a_pair_that_was_filled_alike() {
    let pairs = [
        (REDIS_6_0, REDIS_6_0),
        (REDIS_6_2, REDIS_7_0),
        (REDIS_7_0, REDIS_7_0),
        (REDIS_7_0, REDIS_8_2),
        (REDIS_8_2, REDIS_8_2),
        (VALKEY_8_1, VALKEY_9_1),
        (VALKEY_9_1, VALKEY_9_1),
    ];
    for (source, target) in pairs {
        let Some((source, target)) = pair(source, target, 3_000) else {
            continue;
        };
        assert_eq!(assert_equal(&source, &target), 3_000);
    }
}

#[test]
fn compares_twenty_thousand_keys_within_seconds() {
    let Some((source, target)) = pair(REDIS_7_0, REDIS_7_0, 20_000) else {
        return;
    };
    let began = Instant::now();
    assert_eq!(assert_equal(&source, &target), 20_000);
    eprintln!("20 000 keys compared in {:?}", began.elapsed());
    // About one on an idle machine; a busy one must not fail.
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

/// What is planted, the key it is planted in, the command that plants it on the target, and what must be said of it.
type Planted = (&'static str, &'static str, &'static [&'static str], Verdict);

const PLANTED: &[Planted] = &[
    (
        "one byte of a string",
        "string",
        &["SETRANGE", "string", "3", "X"],
        Verdict::Value,
    ),
    (
        "one bit",
        "bits",
        &["SETBIT", "bits", "77", "1"],
        Verdict::Value,
    ),
    (
        "the order of a list",
        "list",
        &["LMOVE", "list", "list", "LEFT", "RIGHT"],
        Verdict::Value,
    ),
    (
        "one element of a list",
        "long list",
        &["LSET", "long list", "150", "other"],
        Verdict::Value,
    ),
    (
        "one member of a set",
        "set",
        &["SREM", "set", "b"],
        Verdict::Value,
    ),
    (
        "another member of a set",
        "numbers",
        &["SADD", "numbers", "17"],
        Verdict::Value,
    ),
    (
        "one unit in the last place of a score",
        "zset",
        &["ZADD", "zset", "1.0000000000000002", "b"],
        Verdict::Value,
    ),
    (
        "the sign of infinity",
        "zset2",
        &["ZADD", "zset2", "-inf", "a"],
        Verdict::Value,
    ),
    (
        "one field's value",
        "hash",
        &["HSET", "hash", "b", ""],
        Verdict::Value,
    ),
    (
        "one field",
        "hash2",
        &["HDEL", "hash2", "a"],
        Verdict::Value,
    ),
    (
        "a TTL by two seconds",
        "ttl",
        &["PEXPIREAT", "ttl", "33000000002000"],
        Verdict::Expiry,
    ),
    (
        "a TTL where there was none",
        "eternal",
        &["PEXPIREAT", "eternal", "33000000000000"],
        Verdict::Expiry,
    ),
    (
        "no TTL where there was one",
        "ttl2",
        &["PERSIST", "ttl2"],
        Verdict::Expiry,
    ),
    (
        "one entry of a stream",
        "stream",
        &["XDEL", "stream", "2-1"],
        Verdict::Value,
    ),
    (
        "the last id of a stream",
        "stream2",
        &["XSETID", "stream2", "9-9"],
        Verdict::Value,
    ),
    (
        "the id of an entry",
        "stream3",
        &["XADD", "stream3", "3-2", "f", "v"],
        Verdict::Value,
    ),
    (
        "a pending entry",
        "stream4",
        &["XACK", "stream4", "g", "1-1"],
        Verdict::Value,
    ),
    (
        "who has a pending entry",
        "stream5",
        &["XCLAIM", "stream5", "g", "bob", "0", "1-1", "JUSTID"],
        Verdict::Value,
    ),
    (
        "how often an entry was delivered",
        "stream6",
        &[
            "XCLAIM",
            "stream6",
            "g",
            "alice",
            "0",
            "1-1",
            "RETRYCOUNT",
            "7",
        ],
        Verdict::Value,
    ),
    (
        "where a group stands",
        "stream7",
        &["XGROUP", "SETID", "stream7", "g", "0"],
        Verdict::Value,
    ),
    (
        "a group",
        "stream8",
        &["XGROUP", "DESTROY", "stream8", "g"],
        Verdict::Value,
    ),
    (
        "a consumer",
        "stream9",
        &["XGROUP", "CREATECONSUMER", "stream9", "g", "carol"],
        Verdict::Value,
    ),
    ("a missing key", "gone", &["DEL", "gone"], Verdict::Missing),
    (
        "an extra key",
        "extra",
        &["SET", "extra", "v"],
        Verdict::Extra,
    ),
    (
        "another name",
        "\0\r\n",
        &["RENAME", "\0\r\n", "\0\r"],
        Verdict::Missing,
    ),
];

/// The keys that differences are planted in.
fn fill_for_planting(server: &Server) {
    let mut pipe = redis::pipe();
    for (key, value) in [
        ("string", "a string"),
        ("bits", "0123456789"),
        ("gone", "v"),
        ("\0\r\n", "v"),
        ("eternal", "v"),
    ] {
        pipe.cmd("SET").arg(key).arg(value).ignore();
    }
    for key in ["ttl", "ttl2"] {
        pipe.cmd("SET").arg(key).arg("v").ignore();
        pipe.cmd("PEXPIREAT")
            .arg(key)
            .arg(33_000_000_000_000_i64)
            .ignore();
    }
    pipe.cmd("RPUSH").arg("list").arg(&["a", "b", "c"]).ignore();
    pipe.cmd("RPUSH")
        .arg("long list")
        .arg((0..300).map(|n| format!("element {n}")).collect::<Vec<_>>())
        .ignore();
    pipe.cmd("SADD").arg("set").arg(&["a", "b", "c"]).ignore();
    pipe.cmd("SADD").arg("numbers").arg(&[1, 2, 3]).ignore();
    for key in ["zset", "zset2"] {
        pipe.cmd("ZADD")
            .arg(key)
            .arg("inf")
            .arg("a")
            .arg("1")
            .arg("b")
            .ignore();
    }
    for key in ["hash", "hash2"] {
        pipe.cmd("HSET")
            .arg(key)
            .arg(&["a", "1", "b", "2"])
            .ignore();
    }
    let streams = PLANTED
        .iter()
        .map(|(_, key, ..)| *key)
        .filter(|key| key.starts_with("stream"));
    for key in streams {
        for id in ["1-1", "2-1", "3-1"] {
            pipe.cmd("XADD").arg(key).arg(id).arg("f").arg("v").ignore();
        }
        pipe.cmd("XGROUP")
            .arg("CREATE")
            .arg(key)
            .arg("g")
            .arg("0")
            .ignore();
        for consumer in ["alice", "bob"] {
            pipe.cmd("XREADGROUP")
                .arg("GROUP")
                .arg("g")
                .arg(consumer)
                .arg("COUNT")
                .arg(1);
            pipe.arg("STREAMS").arg(key).arg(">").ignore();
        }
    }
    pipe.exec(&mut server.connection()).unwrap();
}

/// Each difference alone must be found, by its name and its kind, and nothing else with it.
#[test]
fn finds_each_planted_difference_and_nothing_else() {
    for kind in [REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_9_1] {
        let Some(binary) = require(kind) else {
            continue;
        };
        let (source, target) = (Server::plain(&binary), Server::plain(&binary));
        fill_for_planting(&source);
        copy(&source, &target);
        assert_eq!(differences(&source, &target), []);
        for (what, key, command, verdict) in PLANTED {
            let mut planting = redis::cmd(command[0]);
            planting
                .arg(&command[1..])
                .exec(&mut target.connection())
                .unwrap();
            let mut found = differences(&source, &target);
            if *key == "\0\r\n" {
                // A renamed key is missing under one name and extra under the other.
                assert_eq!(found.len(), 2, "{}: {what}: {found:?}", kind.name);
                found.retain(|difference| difference.key == key.as_bytes());
            }
            let said: Vec<_> = found
                .iter()
                .map(|difference| (difference.key.as_slice(), difference.verdict))
                .collect();
            assert_eq!(said, [(key.as_bytes(), *verdict)], "{}: {what}", kind.name);
            // Back to equal, for the next one.
            redis::cmd("FLUSHALL")
                .exec(&mut target.connection())
                .unwrap();
            copy(&source, &target);
        }
    }
}

/// PFCOUNT writes into the key without changing what it stands for.
#[test]
fn finds_nothing_where_one_side_has_counted_its_hyperloglogs() {
    let Some((source, target)) = pair(REDIS_7_0, REDIS_7_0, 3_000) else {
        return;
    };
    let values = |server: &Server| -> u64 {
        let mut connection = server.connection();
        let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        let mut pipe = redis::pipe();
        pipe.ignore_errors();
        for name in &names {
            pipe.cmd("GETRANGE").arg(name).arg(8).arg(15);
        }
        let heads: Vec<redis::Value> = pipe.query(&mut connection).unwrap();
        // The topmost bit says that nothing is cached.
        let cached = |head: &redis::Value| matches!(head, redis::Value::BulkString(bytes) if bytes.len() == 8 && bytes[7] == 0);
        heads.iter().filter(|head| cached(head)).count() as u64
    };
    let before = values(&target);
    let counted = count_hyperloglogs(&target, 0);
    assert!(counted > 10, "{counted} HyperLogLogs");
    assert_eq!(
        values(&target),
        before + counted,
        "a cardinality is cached now"
    );
    assert_eq!(differences(&source, &target), []);
}

#[test]
fn finds_a_changed_type() {
    let Some((source, target)) = pair(REDIS_7_0, REDIS_7_0, 100) else {
        return;
    };
    let key: Vec<u8> = redis::cmd("RANDOMKEY")
        .query(&mut target.connection())
        .unwrap();
    redis::pipe()
        .cmd("DEL")
        .arg(&key)
        .cmd("GEOADD")
        .arg(&key)
        .arg(13.4)
        .arg(52.5)
        .arg("Berlin")
        .cmd("LPUSH")
        .arg("was nothing")
        .arg("x")
        .exec(&mut target.connection())
        .unwrap();
    let found = differences(&source, &target);
    assert_eq!(found.len(), 2, "{found:?}");
    let of_key = found
        .iter()
        .find(|difference| difference.key == key)
        .unwrap();
    assert!(
        matches!(of_key.verdict, Verdict::Type | Verdict::Value),
        "{of_key}"
    );
}

#[test]
fn finds_a_field_that_expires_at_another_time() {
    for kind in [REDIS_8_2, VALKEY_9_1] {
        let Some((source, target)) = pair(kind, kind, 1_000) else {
            continue;
        };
        for server in [&source, &target] {
            redis::cmd("HSET")
                .arg("h")
                .arg(&["a", "1", "b", "2"])
                .exec(&mut server.connection())
                .unwrap();
        }
        assert_eq!(differences(&source, &target), []);
        redis::cmd("HEXPIRE")
            .arg("h")
            .arg(5_000)
            .arg("FIELDS")
            .arg(1)
            .arg("b")
            .exec(&mut target.connection())
            .unwrap();
        let found = differences(&source, &target);
        assert_eq!(found.len(), 1, "{}: {found:?}", kind.name);
        assert_eq!(
            (found[0].key.as_slice(), found[0].verdict),
            (b"h".as_slice(), Verdict::Value)
        );
    }
}

#[test]
fn does_not_take_a_type_that_it_cannot_read_for_equal() {
    let Some((source, target)) = pair(REDIS_8_2, REDIS_8_2, 10) else {
        return;
    };
    for server in [&source, &target] {
        let added: redis::RedisResult<i64> = redis::cmd("VADD")
            .arg("v")
            .arg("VALUES")
            .arg(2)
            .arg(1)
            .arg(2)
            .arg("e")
            .query(&mut server.connection());
        if added.is_err() {
            eprintln!("skipped: this build of redis 8.2 has no vector sets");
            return;
        }
    }
    let found = differences(&source, &target);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].verdict, Verdict::NotCompared);
}

#[test]
#[should_panic(expected = "that proves nothing")]
fn two_empty_servers_are_no_proof() {
    let Some(binary) = require(REDIS_7_0) else {
        panic!("skipped, but that proves nothing")
    };
    assert_equal(&Server::plain(&binary), &Server::plain(&binary));
}
