//! Keys that change while they are read.

use super::{Ended, SMALL, Sides, block_on, tell};
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, REDIS_8_2, VALKEY_9_1, require};
use crate::support::wait_for;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

fn fill(connection: &mut redis::Connection) {
    for number in 0..1000 {
        let element = format!("element {number}").into_bytes();
        tell(connection, &[b"RPUSH", b"list", &element]);
        tell(connection, &[b"SADD", b"set", &element]);
        tell(connection, &[b"ZADD", b"zset", b"1", &element]);
        tell(connection, &[b"HSET", b"hash", &element, b"value"]);
        tell(connection, &[b"XADD", b"stream", b"*", b"f", &element]);
        tell(connection, &[b"APPEND", b"string", &element]);
    }
}

/// Whatever happens to a key in the middle: it is never taken for read.
#[test]
fn a_key_that_changes_meanwhile_is_not_taken() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let writes: [&[&[u8]]; 6] = [
        &[b"RPUSH", b"list", b"more"],
        &[b"SADD", b"set", b"more"],
        &[b"ZADD", b"zset", b"2", b"element 3"],
        &[b"HSET", b"hash", b"element 3", b"other"],
        &[b"XADD", b"stream", b"*", b"f", b"more"],
        &[b"SETRANGE", b"string", b"0", b"E"],
    ];
    block_on(async {
        let mut sides = Sides::between(&source, &target).await;
        fill(&mut sides.servers[0]);
        for write in writes {
            let key = write[1];
            let others: [&[&[u8]]; 3] = [
                write,
                &[b"DEL", key],
                &[b"SET", key, b"of another type, and short"],
            ];
            for (number, change) in others.into_iter().enumerate() {
                for at in [0, 1, 2] {
                    tell(&mut sides.servers[0], &[b"FLUSHALL"]);
                    fill(&mut sides.servers[0]);
                    let meanwhile = |piece, connection: &mut redis::Connection| {
                        if piece == at {
                            tell(connection, change);
                        }
                    };
                    let ended = sides.carry_while(key, SMALL, meanwhile).await;
                    let shown = key.escape_ascii();
                    assert_eq!(ended, Ended::Changed, "{shown}, change {number} at {at}");
                    tell(&mut sides.servers[1], &[b"FLUSHALL"]);
                }
            }
        }
    });
}

fn stream_with_group(connection: &mut redis::Connection) {
    for number in 1..=600 {
        let id = format!("{number}-1").into_bytes();
        tell(connection, &[b"XADD", b"s", &id, b"f", b"value"]);
    }
    tell(connection, &[b"XGROUP", b"CREATE", b"s", b"g", b"0"]);
    read(connection, b"c", b"300");
}

fn read(connection: &mut redis::Connection, consumer: &[u8], count: &[u8]) {
    let words: [&[u8]; 9] = [
        b"XREADGROUP",
        b"GROUP",
        b"g",
        consumer,
        b"COUNT",
        count,
        b"STREAMS",
        b"s",
        b">",
    ];
    tell(connection, &words);
}

/// WATCH does not see what consumers do.
#[test]
fn groups_that_change_meanwhile_arrive_as_they_are_in_the_end() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    block_on(async {
        let mut sides = Sides::between(&source, &target).await;
        stream_with_group(&mut sides.servers[0]);
        let Ended::Written(quiet) = sides.carry(b"s", SMALL).await else {
            panic!("nothing happens");
        };
        sides.assert_equal(b"s");
        tell(&mut sides.servers[1], &[b"DEL", b"s"]);
        let ended = sides
            .carry_while(b"s", SMALL, |piece, connection| {
                let id = format!("{}-1", piece + 1).into_bytes();
                match piece {
                    // The first pieces are of the entries, the last ones of the group.
                    1 => read(connection, b"another", b"20"),
                    2 => drop(tell(connection, &[b"XACK", b"s", b"g", &id])),
                    _ if piece + 1 == quiet => {
                        // Behind what has been told of it, and before it.
                        tell(connection, &[b"XACK", b"s", b"g", b"300-1", b"5-1"]);
                        let claim: [&[u8]; 6] = [b"XCLAIM", b"s", b"g", b"third", b"0", b"100-1"];
                        tell(connection, &claim);
                        read(connection, b"c", b"10");
                    }
                    _ => {}
                }
            })
            .await;
        let Ended::Written(pieces) = ended else {
            panic!("{ended:?}");
        };
        assert!(pieces > quiet, "{pieces}, {quiet} where nothing changes");
        sides.assert_equal(b"s");
    });
}

#[test]
fn groups_that_change_all_the_time_are_a_reason() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    block_on(async {
        let mut sides = Sides::between(&source, &target).await;
        stream_with_group(&mut sides.servers[0]);
        let ended = sides
            .carry_while(b"s", SMALL, |piece, connection| {
                let id = format!("{}-1", piece + 1).into_bytes();
                assert_eq!(
                    tell(connection, &[b"XACK", b"s", b"g", &id]),
                    redis::Value::Int(1)
                );
            })
            .await;
        let Ended::Whole(why) = ended else {
            panic!("{ended:?}");
        };
        assert!(why.contains("change all the time"), "{why}");
    });
}

/// A field whose time comes while its piece is on the way is not there afterwards, and never for ever.
#[test]
fn a_field_that_expires_meanwhile_does_not_stay() {
    for kind in [REDIS_8_2, VALKEY_9_1] {
        let Some(redis) = require(kind) else {
            return;
        };
        let (source, target) = (Server::plain(&redis), Server::plain(&redis));
        block_on(async {
            let mut sides = Sides::between(&source, &target).await;
            for number in 0..300 {
                let field = format!("{number}").into_bytes();
                tell(&mut sides.servers[0], &[b"HSET", b"h", &field, b"value"]);
            }
            for number in 0..100 {
                let field = format!("{number}").into_bytes();
                let expire: [&[u8]; 6] = [b"HPEXPIRE", b"h", b"300", b"FIELDS", b"1", &field];
                tell(&mut sides.servers[0], &expire);
            }
            let alive = |connection: &mut redis::Connection| -> usize {
                let values: Vec<Vec<u8>> = redis::cmd("HVALS").arg("h").query(connection).unwrap();
                values.len()
            };
            let began = std::time::Instant::now();
            let ended = sides
                .carry_while(b"h", SMALL, |piece, connection| {
                    if piece == 0 {
                        wait_for("the fields to expire", PATIENCE, || {
                            (alive(connection) == 200).then_some(())
                        });
                    }
                })
                .await;
            assert!(began.elapsed().as_millis() < 10_000);
            // Whether their end counts as a change is the server's matter.
            assert!(
                matches!(ended, Ended::Written(_) | Ended::Changed),
                "{ended:?}"
            );
            let fields: Vec<Vec<u8>> = redis::cmd("HKEYS")
                .arg("h")
                .query(&mut sides.servers[1])
                .unwrap();
            assert!(!fields.is_empty());
            for field in &fields {
                let number: u32 = std::str::from_utf8(field).unwrap().parse().unwrap();
                assert!(number >= 100, "{} is still there", field.escape_ascii());
            }
            if matches!(ended, Ended::Written(_)) {
                assert_eq!(alive(&mut sides.servers[1]), 200);
            }
        });
    }
}

/// When entries were delivered and how often is kept, to the millisecond or nearly.
#[test]
fn deliveries_keep_their_time_and_number() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    block_on(async {
        let mut sides = Sides::between(&source, &target).await;
        stream_with_group(&mut sides.servers[0]);
        let claim: [&[u8]; 10] = [
            b"XCLAIM",
            b"s",
            b"g",
            b"late",
            b"0",
            b"7-1",
            b"TIME",
            b"1700000000123",
            b"RETRYCOUNT",
            b"4",
        ];
        tell(&mut sides.servers[0], &claim);
        assert!(matches!(sides.carry(b"s", SMALL).await, Ended::Written(_)));
        let full: [&[u8]; 5] = [b"XINFO", b"STREAM", b"s", b"FULL", b"COUNT"];
        let [here, there] = sides.servers.each_mut().map(|server| {
            let full = [&full[..], &[b"0"]].concat();
            deliveries(tell(server, &full))
        });
        assert_eq!(here.len(), 300);
        assert_eq!(here[6], (b"7-1".to_vec(), 1_700_000_000_123, 4));
        for (one, other) in here.iter().zip(&there) {
            assert_eq!((&one.0, one.2), (&other.0, other.2));
            assert!((one.1 - other.1).abs() <= 2, "{one:?} {other:?}");
        }
        assert_eq!(there[6], here[6]);
    });
}

/// Ids, instants and numbers of the only group's pending entries.
fn deliveries(info: redis::Value) -> Vec<(Vec<u8>, i64, i64)> {
    let group = named(
        named(info, "groups").into_sequence().unwrap().remove(0),
        "pending",
    );
    let entries: Vec<(Vec<u8>, Vec<u8>, i64, i64)> = redis::from_redis_value(group).unwrap();
    let entries = entries.into_iter();
    entries
        .map(|(id, _, delivered, deliveries)| (id, delivered, deliveries))
        .collect()
}

fn named(info: redis::Value, name: &str) -> redis::Value {
    let mut parts = info.into_sequence().unwrap().into_iter();
    while let (Some(known), Some(value)) = (parts.next(), parts.next()) {
        if known == redis::Value::BulkString(name.as_bytes().to_vec()) {
            return value;
        }
    }
    panic!("XINFO does not tell {name}");
}
