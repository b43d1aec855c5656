//! What can't arrive in pieces, and why.

use redis::Value;
use redknot::client::control::Control;
use redknot::copy::pieces::{Begun, Limits, Next, Obstacle, Reader};
use redknot::endpoint::Endpoint;
use redknot::plan::FieldTtl;

use super::{Ended, SMALL, Sides, TIMEOUT, block_on, endpoint, tell};
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{Kind, REDIS_7_0, REDIS_8_2, VALKEY_9_1, require};

/// A server of each kind.
fn servers(source: Kind, target: Kind) -> Option<[Server; 2]> {
    let (source, target) = (require(source)?, require(target)?);
    Some([Server::plain(&source), Server::plain(&target)])
}

fn entries(connection: &mut redis::Connection, name: &[u8], len: u64) {
    for number in 1..=len {
        let id = format!("{number}-1");
        tell(connection, &[b"XADD", name, id.as_bytes(), b"f", b"value"]);
    }
}

fn read_group(connection: &mut redis::Connection, name: &[u8], consumer: &[u8], count: &[u8]) {
    tell(
        connection,
        &[
            b"XREADGROUP",
            b"GROUP",
            b"g",
            consumer,
            b"COUNT",
            count,
            b"STREAMS",
            name,
            b">",
        ],
    );
}

/// Trimmed, deleted at the end, and the very last: each is noticed.
#[test]
fn a_pending_entry_that_was_deleted_is_a_reason() {
    let Some([source, target]) = servers(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    block_on(async {
        let mut sides = Sides::between(&source, &target).await;
        for deleted in [&b"1-1"[..], b"150-1", b"200-1", b"400-1"] {
            let connection = &mut sides.servers[0];
            tell(connection, &[b"DEL", b"s"]);
            entries(connection, b"s", 400);
            tell(connection, &[b"XGROUP", b"CREATE", b"s", b"g", b"0"]);
            read_group(connection, b"s", b"c", b"400");
            tell(connection, &[b"XDEL", b"s", deleted]);
            let Ended::Whole(why) = sides.carry(b"s", SMALL).await else {
                panic!("{} was not missed", deleted.escape_ascii());
            };
            assert!(why.contains("still pending"), "{why}");
            // Once it is acknowledged there is nothing in the way.
            tell(&mut sides.servers[0], &[b"XACK", b"s", b"g", deleted]);
            sides.target.ask(redis::cmd("DEL").arg("s")).await.unwrap();
            let ended = sides.carry(b"s", SMALL).await;
            assert!(matches!(ended, Ended::Written(_)), "{ended:?}");
            sides.assert_equal(b"s");
        }
    });
}

#[test]
fn fields_that_expire_go_only_where_they_can_or_where_that_may_be_dropped() {
    for source in [REDIS_8_2, VALKEY_9_1] {
        let Some([source, target]) = servers(source, REDIS_7_0) else {
            return;
        };
        block_on(async {
            let mut sides = Sides::between(&source, &target).await;
            let connection = &mut sides.servers[0];
            for number in 0..500 {
                let field = format!("field {number}").into_bytes();
                tell(connection, &[b"HSET", b"h", &field, b"value"]);
            }
            let expire: [&[u8]; 6] = [b"HEXPIRE", b"h", b"5000", b"FIELDS", b"1", b"field 499"];
            tell(connection, &expire);
            let ended = sides.carry(b"h", SMALL).await;
            assert_eq!(ended, Ended::Impossible(Obstacle::FieldsExpire));
            assert!(Obstacle::FieldsExpire.to_string().contains("--field-ttl"));
            sides.abilities.field_ttl = FieldTtl::Drop;
            let ended = sides.carry(b"h", SMALL).await;
            assert!(matches!(ended, Ended::Written(_)), "{ended:?}");
            sides.assert_equal_with(b"h", false);
        });
    }
}

#[test]
fn a_string_that_the_target_can_not_hold_is_not_begun() {
    let Some([source, target]) = servers(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    block_on(async {
        let mut sides = Sides::between(&source, &target).await;
        let connection = &mut sides.servers[0];
        tell(connection, &[b"SET", b"s", &[b'x'; 9000]]);
        tell(connection, &[b"RPUSH", b"l", b"short", &[b'x'; 9000]]);
        sides.abilities.bulk_bytes_max = 8999;
        let too_long = Obstacle::TooLong {
            bytes: 9000,
            bytes_max: 8999,
        };
        for key in [b"s", b"l"] {
            let ended = sides.carry(key, SMALL).await;
            assert_eq!(ended, Ended::Impossible(too_long.clone()));
        }
        assert_eq!(target.keys(0), 0);
        sides.abilities.bulk_bytes_max = 9000;
        for key in [b"s", b"l"] {
            let ended = sides.carry(key, SMALL).await;
            assert!(matches!(ended, Ended::Written(_)), "{ended:?}");
            sides.assert_equal(key);
        }
    });
}

#[test]
fn a_type_that_has_no_pieces_is_a_reason_and_no_key_is_none() {
    let Some(redis) = require(REDIS_8_2) else {
        return;
    };
    let source = Server::plain(&redis);
    let mut connection = source.connection();
    let vector: [&[u8]; 6] = [b"VADD", b"v", b"VALUES", b"1", b"0.5", b"element"];
    tell(&mut connection, &vector);
    block_on(async {
        let mut source = super::control(&source).await;
        let begun = Reader::begin(&mut source, b"v", SMALL).await.unwrap();
        let Begun::Whole(why) = begun else {
            panic!("{begun:?}");
        };
        assert!(why.contains("vectorset"), "{why}");
        let begun = Reader::begin(&mut source, b"none", SMALL).await.unwrap();
        assert!(matches!(begun, Begun::Gone), "{begun:?}");
    });
}

/// Whoever may dump, but not scan, still gets the key: as a whole.
#[test]
fn what_a_user_may_not_ask_is_a_reason() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let rules = "on nopass ~* +type +hlen +ping +select +llen +dump";
    let source = Server::start(
        ServerSpec::new(redis)
            .user("default", rules)
            .user("all", "on >x ~* +@all"),
    );
    let client =
        redis::Client::open(format!("redis://all:x@127.0.0.1:{}/", source.port())).unwrap();
    let mut connection = client.get_connection().unwrap();
    tell(&mut connection, &[b"HSET", b"h", b"f", b"v"]);
    tell(&mut connection, &[b"RPUSH", b"l", b"e"]);
    let refused = |why: &str| assert!(why.contains("NOPERM"), "{why}");
    block_on(async {
        let endpoint: Endpoint = endpoint(&source);
        let mut source = Control::connect(&endpoint, 0, TIMEOUT).await.unwrap();
        match Reader::begin(&mut source, b"h", SMALL).await.unwrap() {
            Begun::Whole(why) => refused(&why),
            // Whether fields expire is not known to this server, so nothing was refused yet.
            Begun::Reader(mut reader) => match reader.next(&mut source).await.unwrap() {
                Next::Whole(why) => refused(&why),
                other => panic!("{other:?}"),
            },
            Begun::Gone => panic!("it is there"),
        }
        let begun = Reader::begin(&mut source, b"l", SMALL).await.unwrap();
        let Begun::Reader(mut reader) = begun else {
            panic!("{begun:?}");
        };
        match reader.next(&mut source).await.unwrap() {
            Next::Whole(why) => refused(&why),
            other => panic!("{other:?}"),
        }
        assert!(matches!(reader.next(&mut source).await, Ok(Next::End)));
    });
}

/// Whoever has read a part of a key can tell whether it reads the same again.
#[test]
fn the_same_value_has_the_same_pieces_and_another_has_others() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let server = Server::plain(&redis);
    let names = super::values::fill(&server, 7);
    let mut connection = server.connection();
    block_on(async {
        let mut source = super::control(&server).await;
        for limits in [SMALL, Limits::default()] {
            for name in &names {
                let first = digests(&mut source, name, limits).await;
                let again = digests(&mut source, name, limits).await;
                assert_eq!(first, again, "{}", name.escape_ascii());
                assert!(!first.is_empty());
            }
        }
        // A field that was written last is told somewhere.
        let name = names
            .iter()
            .find(|name| name.starts_with(b"hash 700"))
            .unwrap();
        let before = digests(&mut source, name, SMALL).await;
        tell(&mut connection, &[b"HSET", name, b"", b"another"]);
        let after = digests(&mut source, name, SMALL).await;
        let differ = before
            .iter()
            .zip(&after)
            .filter(|(one, other)| one != other);
        assert_eq!((before.len(), differ.count()), (after.len(), 1));
    });
}

async fn digests(source: &mut Control, name: &[u8], limits: Limits) -> Vec<[u8; 16]> {
    let begun = Reader::begin(source, name, limits).await.unwrap();
    let Begun::Reader(mut reader) = begun else {
        panic!("{begun:?}");
    };
    let mut digests = Vec::new();
    loop {
        match reader.next(source).await.unwrap() {
            Next::Piece(piece) => {
                // Small elements come in small pieces; some of the data set's are larger than all of a piece.
                assert!(
                    piece.bytes() <= limits.piece_bytes + 8 * 6000,
                    "{}",
                    piece.bytes()
                );
                digests.push(piece.digest());
            }
            Next::End => return digests,
            other => panic!("{other:?}"),
        }
    }
}

/// Commands that answer something but errors are all there is on a connection.
#[test]
fn nothing_is_left_on_the_connection() {
    let Some([source, target]) = servers(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    block_on(async {
        let mut sides = Sides::between(&source, &target).await;
        entries(&mut sides.servers[0], b"s", 300);
        assert!(matches!(sides.carry(b"s", SMALL).await, Ended::Written(_)));
        // Written again, over what is there.
        assert!(matches!(sides.carry(b"s", SMALL).await, Ended::Written(_)));
        sides.assert_equal(b"s");
        for control in [&mut sides.source, &mut sides.target] {
            let echo = control.ask(redis::cmd("ECHO").arg("x")).await.unwrap();
            assert_eq!(echo, Value::BulkString(b"x".to_vec()));
        }
    });
}
