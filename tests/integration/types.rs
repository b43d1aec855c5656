//! Every type, every encoding, every kind of name, between versions: equal on both sides, read by typed commands.

use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Oracle;
use crate::support::redknot::{Redknot, status};
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{
    Kind, REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1, require,
};

const NAME: &str = "types";

fn arrives_equal(from: Kind, to: Kind, set: DataSet) {
    let (Some(from), Some(to)) = (require(from), require(to)) else {
        return;
    };
    let (source, target) = (Server::plain(&from), Server::plain(&to));
    let keys = fill(&source, 0, &set);
    let state = tempfile::tempdir().unwrap();
    let finished = Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME])
        .run()
        .expect_code(0);
    let status = status(NAME, state.path());
    assert_eq!(status.counters.keys_written, keys, "{finished}");
    assert_eq!(status.counters.keys_quarantined, 0, "{finished}");
    assert_eq!(
        Oracle::between(&source, &target).assert_equal() as u64,
        keys
    );
}

#[test]
fn redis_6_2_to_7_0() {
    arrives_equal(REDIS_6_2, REDIS_7_0, DataSet::new(5_000, seed()));
}

#[test]
fn redis_7_0_to_7_0() {
    arrives_equal(REDIS_7_0, REDIS_7_0, DataSet::new(5_000, seed()));
}

#[test]
fn redis_7_0_to_8_2() {
    arrives_equal(REDIS_7_0, REDIS_8_2, DataSet::new(5_000, seed()));
}

#[test]
fn valkey_8_1_to_9_1() {
    arrives_equal(VALKEY_8_1, VALKEY_9_1, DataSet::new(5_000, seed()));
}

#[test]
fn redis_6_0_to_valkey_8_1() {
    arrives_equal(REDIS_6_0, VALKEY_8_1, DataSet::new(5_000, seed()));
}

#[test]
fn fields_that_expire_arrive_between_equal_versions() {
    for kind in [REDIS_8_2, VALKEY_9_1] {
        arrives_equal(
            kind,
            kind,
            DataSet {
                field_ttls: true,
                ..DataSet::new(2_000, seed())
            },
        );
    }
}

/// 64 MiB + 2 x the largest payload is what a run may take, whatever the number of keys.
#[test]
fn a_string_of_64_mib_arrives_in_bounded_memory() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill(
        &source,
        0,
        &DataSet {
            big_string: true,
            ..DataSet::new(2_000, seed())
        },
    );
    // Several of them, so that more than one could be in flight.
    let mut connection = source.connection();
    let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    let mut big = None;
    for name in names {
        let kind: String = redis::cmd("TYPE")
            .arg(&name)
            .query(&mut connection)
            .unwrap();
        if kind == "string" {
            let length: u64 = redis::cmd("STRLEN")
                .arg(&name)
                .query(&mut connection)
                .unwrap();
            if length >= 64 << 20 {
                big = Some(name);
            }
        }
    }
    let big = big.expect("the data set has a string of 64 MiB");
    for copy in 0..4 {
        redis::cmd("COPY")
            .arg(&big)
            .arg(format!("big:{copy}"))
            .exec(&mut connection)
            .unwrap();
    }
    let state = tempfile::tempdir().unwrap();
    let finished = Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .run()
        .expect_code(0);
    let payload: u64 = 64 << 20;
    let limit = (64 << 20) + 2 * payload + (1 << 20);
    assert!(
        finished.rss_max_bytes <= limit,
        "{} MiB of memory\n{finished}",
        finished.rss_max_bytes >> 20
    );
    Oracle::between(&source, &target).assert_equal();
}

#[test]
fn only_what_was_asked_for_arrives() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill(&source, 0, &DataSet::new(3_000, seed()));
    let mut connection = source.connection();
    let mut of_type = |wanted: &str| -> u64 {
        let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        let kinds: Vec<String> = names
            .iter()
            .map(|name| redis::cmd("TYPE").arg(name).query(&mut connection).unwrap())
            .collect();
        kinds
            .iter()
            .filter(|kind| wanted.split(',').any(|wanted| *kind == wanted))
            .count() as u64
    };
    for (types, scanned_all) in [("hash", false), ("set,zset", true)] {
        redis::cmd("FLUSHALL")
            .exec(&mut target.connection())
            .unwrap();
        let state = tempfile::tempdir().unwrap();
        Redknot::migrate(&source.url(0), &target.url(0), state.path())
            .args(["--name", NAME, "--type", types])
            .run()
            .expect_code(0);
        let counters = status(NAME, state.path()).counters;
        assert_eq!(counters.keys_written, of_type(types), "{types}");
        assert_eq!(target.keys(0), of_type(types), "{types}");
        assert_eq!(
            counters.keys_filtered > 0,
            scanned_all,
            "one type is filtered by the server, several by us"
        );
        assert!(counters.balance());
    }
    redis::cmd("FLUSHALL")
        .exec(&mut target.connection())
        .unwrap();
    redis::cmd("MSET")
        .arg(&["only:1", "a", "only:2", "b"])
        .exec(&mut source.connection())
        .unwrap();
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--match", "only:*"])
        .run()
        .expect_code(0);
    assert_eq!(target.keys(0), 2);
}

#[test]
fn databases_go_to_the_databases_that_were_named() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    for db in [0, 3, 7] {
        fill(&source, db, &DataSet::new(500 + db, seed()));
    }
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(3), &target.url(5), state.path())
        .run()
        .expect_code(0);
    Oracle::between(&source, &target)
        .databases(3, 5)
        .assert_equal();
    assert_eq!((target.keys(0), target.keys(3)), (0, 0));
    let bare = |server: &Server| server.address().to_string();
    Redknot::migrate(&bare(&source), &bare(&target), state.path())
        .args(["--db", "0,3,7"])
        .run()
        .expect_code(0);
    for db in [0, 3, 7] {
        Oracle::between(&source, &target)
            .databases(db, db)
            .assert_equal();
    }
}

#[test]
fn several_connections_carry_the_same_keys() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill(&source, 0, &DataSet::new(10_000, seed()));
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--connections", "4"])
        .run()
        .expect_code(0);
    Oracle::between(&source, &target).assert_equal();
}

#[test]
fn what_is_on_the_target_is_treated_as_was_said() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let source = Server::plain(&redis);
    redis::cmd("MSET")
        .arg(&["both", "source", "mine", "source"])
        .exec(&mut source.connection())
        .unwrap();
    let check = |policy: Option<&str>, code: i32, both: &str, kept: u64| {
        let target = Server::plain(&redis);
        redis::cmd("SET")
            .arg("both")
            .arg("target")
            .exec(&mut target.connection())
            .unwrap();
        let state = tempfile::tempdir().unwrap();
        let migrate =
            Redknot::migrate(&source.url(0), &target.url(0), state.path()).args(["--name", NAME]);
        let migrate = match policy {
            Some(policy) => migrate.args(["--on-conflict", policy]),
            None => migrate,
        };
        let finished = migrate.run().expect_code(code);
        let there: String = redis::cmd("GET")
            .arg("both")
            .query(&mut target.connection())
            .unwrap();
        assert_eq!(there, both, "{policy:?}\n{finished}");
        if code == 0 {
            assert_eq!(
                status(NAME, state.path()).counters.keys_kept,
                kept,
                "{policy:?}"
            );
            assert_eq!(target.keys(0), 2);
        }
    };
    check(None, 27, "target", 0);
    check(Some("skip"), 0, "target", 1);
    check(Some("replace"), 0, "source", 0);
    check(Some("fail"), 27, "target", 0);
}

/// Only reading commands reach the source (promise P7), and nothing but RESTORE writes on the target (promise P8).
#[test]
fn the_servers_see_only_the_commands_that_were_promised() {
    const SOURCE: &[&str] = &[
        "scan",
        "mget",
        "dump",
        "memory|usage",
        "pexpiretime",
        "pttl",
        "multi",
        "exec",
    ];
    const TARGET: &[&str] = &["restore", "set", "module|list"];
    only(&[], SOURCE, TARGET);
    let of_hash = ["watch", "unwatch", "hlen", "hscan", "hpexpiretime"];
    let pieces = [
        "multi", "exec", "get", "hmset", "expire", "persist", "rename", "unlink",
    ];
    only(
        &["--big-key", "256KiB"],
        &[SOURCE, &of_hash].concat(),
        &[TARGET, &pieces].concat(),
    );
}

/// Migrates with `flags` what has one large hash, and looks which commands came beside those that both sides are asked.
fn only(flags: &[&str], of_source: &[&str], of_target: &[&str]) {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill(&source, 0, &DataSet::new(2_000, seed()));
    let mut large = redis::cmd("HSET");
    large.arg("large");
    for field in 0..10_000 {
        large.arg(field).arg("x".repeat(50));
    }
    large.exec(&mut source.connection()).unwrap();
    for server in [&source, &target] {
        redis::cmd("CONFIG")
            .arg("RESETSTAT")
            .exec(&mut server.connection())
            .unwrap();
    }
    let changes = source.info("persistence")["rdb_changes_since_last_save"].clone();
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(flags)
        .run()
        .expect_code(0);
    assert_eq!(
        source.info("persistence")["rdb_changes_since_last_save"],
        changes
    );
    let asked = [
        "auth",
        "client|id",
        "client|kill",
        "client|no-touch",
        "client|setinfo",
        "client|setname",
        "config|get",
        "config|resetstat",
        "dbsize",
        "exists",
        "hello",
        "info",
        "ping",
        "role",
        "select",
        "time",
        "type",
    ];
    let check = |server: &Server, side: &str, own: &[&str]| {
        for command in server
            .info("commandstats")
            .keys()
            .filter_map(|field| field.strip_prefix("cmdstat_"))
        {
            assert!(
                asked.contains(&command) || own.contains(&command),
                "the {side} was sent {command}"
            );
        }
    };
    check(&source, "source", of_source);
    check(&target, "target", of_target);
    let pieced = target.info("commandstats").contains_key("cmdstat_rename");
    assert_eq!(pieced, !flags.is_empty());
}
