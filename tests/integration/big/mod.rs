//! Big keys: they arrive in pieces and equal, whatever happens meanwhile, and nothing is left of the pieces.

use std::time::Duration;

use crate::support::comparing::{Compared, compare};
use crate::support::redknot::{Redknot, status};
use crate::support::server::Server;
use crate::support::version::{
    REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1, require,
};

mod changed;
mod clusters;
mod compared;
mod conflicts;
mod interrupted;
mod limits;
mod rights;
mod soak;

const NAME: &str = "big";
/// What all temporary names begin with.
const TEMPORARY: &str = "redknot:piece:*";
/// Size of a big key in these tests.
const BIG: &str = "64KiB";

/// A value of this length that does not compress to nothing, another one for each number.
fn value(number: usize, bytes: usize) -> Vec<u8> {
    let seed = blake3_like(number as u64);
    (0..bytes as u64)
        .map(|at| (seed.wrapping_mul(at | 1).rotate_left(17) >> 8) as u8)
        .collect()
}

fn blake3_like(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

/// Fields `f0`, `f1` … of 100 bytes each.
fn set_hash(server: &Server, key: &str, fields: usize) {
    write(server, fields, |pipe, numbers| {
        let command = pipe.cmd("HSET").arg(key);
        for number in numbers {
            command.arg(format!("f{number}")).arg(value(number, 100));
        }
    });
}

fn set_list(server: &Server, key: &str, elements: usize) {
    write(server, elements, |pipe, numbers| {
        let command = pipe.cmd("RPUSH").arg(key);
        for number in numbers {
            command.arg(value(number, 100));
        }
    });
}

fn set_set(server: &Server, key: &str, members: usize) {
    write(server, members, |pipe, numbers| {
        let command = pipe.cmd("SADD").arg(key);
        for number in numbers {
            command.arg(format!("member-{number}"));
        }
    });
}

fn set_zset(server: &Server, key: &str, members: usize) {
    write(server, members, |pipe, numbers| {
        let command = pipe.cmd("ZADD").arg(key);
        for number in numbers {
            command
                .arg(number as f64 / 7.0)
                .arg(format!("member-{number}"));
        }
    });
}

fn set_stream(server: &Server, key: &str, entries: usize) {
    write(server, entries, |pipe, numbers| {
        for number in numbers {
            pipe.cmd("XADD")
                .arg(key)
                .arg(format!("{}-1", number + 1))
                .arg(&["field", "value"])
                .arg(&["number", &number.to_string()]);
        }
    });
    let mut connection = server.connection();
    for (group, last) in [("readers", "0"), ("others", "$")] {
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(key).arg(group).arg(last);
        create.exec(&mut connection).unwrap();
    }
    let mut read = redis::cmd("XREADGROUP");
    read.arg(&["GROUP", "readers", "alice", "COUNT", "100", "STREAMS"]);
    read.arg(key).arg(">").exec(&mut connection).unwrap();
}

fn set_string(server: &Server, key: &str, bytes: usize) {
    let mut connection = server.connection();
    let mut set = redis::cmd("SET");
    set.arg(key).arg(value(bytes, bytes));
    set.exec(&mut connection).unwrap();
}

fn write(
    server: &Server,
    count: usize,
    mut command: impl FnMut(&mut redis::Pipeline, std::ops::Range<usize>),
) {
    let mut connection = server.connection();
    for first in (0..count).step_by(500) {
        let mut pipe = redis::pipe();
        command(&mut pipe, first..(first + 500).min(count));
        pipe.exec(&mut connection).unwrap();
    }
}

fn expire_at(server: &Server, key: &str, instant_ms: u64) {
    let mut expire = redis::cmd("PEXPIREAT");
    expire.arg(key).arg(instant_ms);
    let set: u64 = expire.query(&mut server.connection()).unwrap();
    assert_eq!(set, 1);
}

/// Names that pieces have on the server.
fn temporary_names(server: &Server) -> Vec<String> {
    let mut keys = redis::cmd("KEYS");
    keys.arg(TEMPORARY).query(&mut server.connection()).unwrap()
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_millis() as u64
}

fn migrate(source: &Server, target: &Server, state: &std::path::Path) -> Redknot {
    Redknot::migrate(&source.url(0), &target.url(0), state).args([
        "--name",
        NAME,
        "--big-key",
        BIG,
        "--max-memory",
        "1MiB",
    ])
}

/// Both sides are equal by value and by expiry, and nothing is left of the pieces.
#[track_caller]
fn assert_arrived(target: &Server, state: &std::path::Path, keys: u64) {
    Compared::of(compare(NAME, state).run().expect_code(0)).assert_equal(keys);
    assert_eq!(temporary_names(target), Vec::<String>::new());
}

/// All types, between old and new servers: what the commands of one version say, the other understands.
#[test]
fn big_keys_of_all_types_arrive_in_pieces_and_equal() {
    for (from, to) in [
        (REDIS_7_0, REDIS_8_2),
        (REDIS_8_2, REDIS_6_2),
        (REDIS_6_0, VALKEY_9_1),
        (VALKEY_8_1, REDIS_7_0),
    ] {
        let (Some(from), Some(to)) = (require(from), require(to)) else {
            return;
        };
        let (source, target) = (Server::plain(&from), Server::plain(&to));
        set_hash(&source, "hash", 5_000);
        set_list(&source, "{tag}list", 5_000);
        set_set(&source, "set}", 20_000);
        set_zset(&source, "zset", 10_000);
        set_stream(&source, "stream", 20_000);
        // Larger than what may be held: it is met only when it comes.
        set_string(&source, "string", 3 << 20);
        set_string(&source, "small", 100);
        expire_at(&source, "hash", now_ms() + 3_600_000);
        expire_at(&source, "string", now_ms() + 7_200_000);
        let state = tempfile::tempdir().unwrap();
        migrate(&source, &target, state.path()).run().expect_code(0);
        let counters = status(NAME, state.path()).counters;
        assert_eq!(counters.keys_written, 7, "{from:?} {to:?}");
        assert_eq!(counters.keys_in_pieces, 6, "{from:?} {to:?}");
        assert_eq!(counters.keys_read_again, 0);
        assert_eq!(source.calls("dump"), 0, "{from:?}: a big key was dumped");
        assert_arrived(&target, state.path(), 7);
    }
}

/// Where nothing big can be, no size is asked for.
#[test]
fn no_size_is_asked_for_where_there_is_no_room_for_big_keys() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    for number in 0..20 {
        set_hash(&source, &format!("hash:{number}"), 10);
    }
    write(&source, 50_000, |pipe, numbers| {
        for number in numbers {
            let key = format!("small:{number}");
            pipe.cmd("HSET").arg(key).arg(&["field", "value"]);
        }
    });
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME])
        .run()
        .expect_code(0);
    assert_eq!(source.keys(0), target.keys(0));
    let asked = source.calls("memory|usage") + source.calls("memory");
    // Those of the sample, and those that were read before it was known.
    assert!(asked < 5_000, "{asked}");
}

#[test]
fn with_never_a_big_key_is_read_at_once() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_hash(&source, "hash", 5_000);
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME, "--big-key", "never"])
        .time_limit(Duration::from_secs(60))
        .run()
        .expect_code(0);
    assert_eq!((source.calls("dump"), source.calls("hscan")), (1, 0));
    assert_eq!(source.calls("memory|usage"), 0);
    assert_arrived(&target, state.path(), 1);
}
