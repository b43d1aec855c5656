//! What a naive tool gets wrong, on real servers. Two rules of redknot rest on these measurements, so they are repeated.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::dataset::{DataSet, fill};
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{REDIS_7_0, VALKEY_9_1, require};
use crate::support::{seed, wait_for};

const KEYS: u32 = 20_000;

/// One SCAN from `cursor`: the next cursor and the names.
fn scan(connection: &mut redis::Connection, cursor: u64) -> (u64, Vec<Vec<u8>>) {
    redis::cmd("SCAN")
        .arg(cursor)
        .arg("COUNT")
        .arg(500)
        .query(connection)
        .unwrap()
}

/// Scans half of the keys, restarts the server with its data, goes on with the cursor as if nothing had happened, and
/// returns how many keys were never seen.
fn keys_missed_with_the_cursor_of_a_dead_process(server: &mut Server) -> usize {
    let keys = fill(server, 0, &DataSet::new(KEYS, seed())) as usize;
    let mut seen = BTreeSet::new();
    let mut cursor = 0;
    let mut connection = server.connection();
    while seen.len() < keys / 2 {
        let (next, names) = scan(&mut connection, cursor);
        seen.extend(names);
        cursor = next;
    }
    let run_id = server.run_id();
    server.restart();
    assert_ne!(
        server.run_id(),
        run_id,
        "a restarted server is another process"
    );

    let mut connection = server.connection();
    while cursor != 0 {
        let (next, names) = scan(&mut connection, cursor);
        seen.extend(names);
        cursor = next;
    }
    assert_eq!(server.keys(0) as usize, keys, "the restart kept the data");
    keys - seen.len()
}

/// The rule: a cursor is used only on the server process that issued it (promise P4).
#[test]
fn a_cursor_that_outlives_its_server_process_loses_a_quarter_of_the_keys() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let missed = keys_missed_with_the_cursor_of_a_dead_process(&mut Server::plain(&redis));
    let share = missed as f64 / f64::from(KEYS);
    assert!(
        (0.22..0.28).contains(&share),
        "{missed} of {KEYS} keys missed"
    );
}

/// The exception, which only the canary can know: the same hash seed gives the same cursors.
#[test]
fn a_cursor_survives_a_restart_where_the_hash_seed_is_fixed() {
    let Some(valkey) = require(VALKEY_9_1) else {
        return;
    };
    let spec = ServerSpec::new(valkey).config("hash-seed", "redknot");
    assert_eq!(
        keys_missed_with_the_cursor_of_a_dead_process(&mut Server::start(spec)),
        0
    );
}

/// The rule: never `RESTORE key 0` for a key that has a TTL (promise P6).
#[test]
fn a_key_in_its_last_millisecond_becomes_immortal_if_its_ttl_is_passed_on() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let (mut from, mut to) = (source.connection(), target.connection());

    let mut immortal = 0;
    wait_for(
        "100 keys whose PTTL is 0 although they are alive",
        Duration::from_secs(60),
        || {
            let mut pipe = redis::pipe();
            for key in 0..200 {
                pipe.cmd("SET")
                    .arg(key)
                    .arg("dying")
                    .arg("PX")
                    .arg(1)
                    .ignore();
            }
            for key in 0..200 {
                pipe.cmd("DUMP").arg(key).cmd("PTTL").arg(key);
            }
            let replies: Vec<redis::Value> = pipe.query(&mut from).unwrap();
            for (key, reply) in replies.chunks(2).enumerate() {
                let (redis::Value::BulkString(payload), redis::Value::Int(0)) =
                    (&reply[0], &reply[1])
                else {
                    continue;
                };
                redis::cmd("RESTORE")
                    .arg(key)
                    .arg(0)
                    .arg(payload)
                    .arg("REPLACE")
                    .exec(&mut to)
                    .unwrap();
                let ttl: i64 = redis::cmd("PTTL").arg(key).query(&mut to).unwrap();
                assert_eq!(ttl, -1, "the target keeps it for ever");
                immortal += 1;
            }
            (immortal >= 100).then_some(())
        },
    );
    assert_eq!(
        source.keys(0),
        0,
        "on the source every one of them has expired"
    );
}
