//! Databases: all that hold keys, each into its own, into another, several into one.

use std::collections::BTreeSet;

use super::{
    Keys, NAME, Pair, compare, found, migrate, one_damage_is_found_and_mended, quarantined, said,
    set, strings, url,
};
use crate::support::cluster::Cluster;
use crate::support::comparing::repair;
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Oracle;
use crate::support::redknot::Redknot;
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_9_1, require};

/// Keys in each database, but for those that share a name.
const EACH: u32 = 300;

/// `only:N:…` in each database, and `both:…` in all of them, with values that tell where they come from.
fn in_sixteen(server: &Server, dbs: std::ops::Range<u32>) {
    for db in dbs {
        let own = (0..EACH).map(|n| (format!("only:{db}:{n}"), format!("{db} {n}")));
        let shared = (0..20).map(|n| (format!("both:{n}"), format!("of {db}")));
        set(&mut server.connection_to(db), own.chain(shared));
    }
}

#[test]
fn sixteen_databases_go_into_sixteen_and_those_that_came_later_are_said() {
    for kind in [REDIS_6_2, VALKEY_9_1] {
        let Some(pair) = Pair::new(kind) else {
            continue;
        };
        for db in 0..15 {
            fill(&pair.source, db, &DataSet::new(150, u64::from(db)));
        }
        let finished = pair.migrate(&["--all-dbs"]).run().expect_code(0);
        assert!(
            !said(&finished).contains("only after this migration"),
            "{finished}"
        );
        for db in 0..15 {
            Oracle::between(&pair.source, &pair.target)
                .databases(db, db)
                .assert_equal();
        }
        let compared = compare(pair.state(), 0);
        assert!(
            compared.count("keys_compared") > 15 * 140,
            "{}",
            compared.finished
        );
        // A database that gets keys later is no part of it, and that is said each time.
        set(
            &mut pair.source.connection_to(15),
            [("late".to_owned(), "x".to_owned())],
        );
        let again = pair
            .migrate(&["--all-dbs", "--new-pass"])
            .run()
            .expect_code(0);
        let wanted = "database 15 of the source got keys only after this migration was created and is not in its plan";
        assert!(said(&again).contains(wanted), "{again}");
        assert_eq!(pair.target.keys(15), 0);
        let compared = compare(pair.state(), 0);
        assert!(
            compared.finished.stdout().contains(wanted),
            "{}",
            compared.finished
        );
        let mut target = pair.target.connection_to(7);
        let name: String = {
            let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut target).unwrap();
            let plain = |name: &Vec<u8>| {
                name.iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || *byte == b':')
            };
            let name = names
                .into_iter()
                .find(plain)
                .expect("a name that needs no escape");
            String::from_utf8(name).unwrap()
        };
        one_damage_is_found_and_mended(&mut target, pair.state(), (7, &name), &name);
    }
}

#[test]
fn a_copy_of_all_databases_that_is_killed_keeps_those_that_it_began_with() {
    let Some(pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    in_sixteen(&pair.source, 0..12);
    let flags = ["--all-dbs", "--batch", "50"];
    for point in [
        "acknowledged_before_state_write=9*off->return",
        "acknowledged_before_state_write=25*off->return",
    ] {
        let killed = pair.migrate(&flags).env("FAILPOINTS", point).run();
        assert!(killed.was_killed(), "{killed}");
        // What comes now is too late, also for a run that has not begun.
        in_sixteen(&pair.source, 14..15);
    }
    let finished = pair.migrate(&flags).run().expect_code(0);
    assert!(
        said(&finished).contains("database 14 of the source got keys only after"),
        "{finished}"
    );
    for db in 0..12 {
        assert_eq!(
            strings(&mut pair.target.connection_to(db)),
            strings(&mut pair.source.connection_to(db))
        );
    }
    assert_eq!(pair.target.keys(14), 0);
    compare(pair.state(), 0).assert_equal(12 * u64::from(EACH));
    // All is another thing than those numbers.
    let other = pair.migrate(&["--db", "0,1"]).run().expect_code(26);
    assert!(
        said(&other).contains("--all-dbs: previous *:*, now (none)"),
        "{other}"
    );
}

#[test]
fn sixteen_databases_go_into_a_cluster_each_with_its_prefix() {
    for kind in [REDIS_7_0, REDIS_8_2] {
        let Some(binary) = require(kind) else {
            continue;
        };
        let source = Server::plain(&binary);
        let cluster = Cluster::start(&binary, 3, 0);
        let state = tempfile::tempdir().unwrap();
        in_sixteen(&source, 0..16);
        let to = cluster.url().trim_end_matches("/0").to_owned();
        let refused = migrate(&url(&source), &to, state.path(), &["--all-dbs"])
            .run()
            .expect_code(2);
        assert!(
            said(&refused).contains("SELECT is not allowed in cluster mode"),
            "{refused}"
        );
        assert!(said(&refused).contains("--db-map"), "{refused}");
        let flags = [
            "--restart",
            "--all-dbs",
            "--db-map",
            "*:0",
            "--db-prefix",
            "--batch",
            "100",
        ];
        let killed = migrate(&url(&source), &to, state.path(), &flags)
            .env(
                "FAILPOINTS",
                "acknowledged_before_state_write=20*off->return",
            )
            .run();
        assert!(killed.was_killed(), "{killed}");
        migrate(&url(&source), &to, state.path(), &flags[1..])
            .run()
            .expect_code(0);
        let mut there = BTreeSet::new();
        for node in cluster.masters() {
            let names: Vec<String> = redis::cmd("KEYS")
                .arg("*")
                .query(&mut node.connection())
                .unwrap();
            there.extend(names);
        }
        let wanted: BTreeSet<String> = (0..16)
            .flat_map(|db| {
                let own = (0..EACH).map(move |n| format!("db{db}:only:{db}:{n}"));
                own.chain((0..20).map(move |n| format!("db{db}:both:{n}")))
            })
            .collect();
        assert!(
            there == wanted,
            "{} names instead of {}",
            there.len(),
            wanted.len()
        );
        let compared = compare(state.path(), 0);
        compared.assert_equal(16 * u64::from(EACH + 20));
        // One that is changed, one that is too many for one database, one that is of none of them.
        let mut connection = cluster_connection(&cluster);
        for (name, value) in [
            ("db3:both:7", "damaged"),
            ("db11:extra", "x"),
            ("db16:foreign", "x"),
            ("foreign", "x"),
        ] {
            connection(&["SET", name, value]);
        }
        compare(state.path(), 1);
        assert_eq!(
            found(state.path()),
            [
                (3, "both:7".to_owned(), "value".to_owned()),
                (11, "extra".to_owned(), "extra".to_owned()),
            ]
        );
        repair(NAME, state.path())
            .args(["--apply", "--delete-extra", "--yes", "1"])
            .run()
            .expect_code(0);
        compare(state.path(), 0);
        assert_eq!(connection(&["GET", "db3:both:7"]), "of 3");
        assert_eq!(connection(&["EXISTS", "foreign"]), "1");
    }
}

/// Sends commands to whichever node has the key.
fn cluster_connection(cluster: &Cluster) -> impl FnMut(&[&str]) -> String {
    let addresses: Vec<(u16, redis::Connection)> = cluster
        .masters()
        .iter()
        .map(|node| (node.port(), node.connection()))
        .collect();
    let mut connections = addresses;
    move |command: &[&str]| {
        for (_, connection) in &mut connections {
            let answer: redis::RedisResult<redis::Value> =
                redis::cmd(command[0]).arg(&command[1..]).query(connection);
            match answer {
                Ok(value) => return redis::from_redis_value(value).unwrap_or_default(),
                Err(error) if error.code() == Some("MOVED") => {}
                Err(error) => panic!("{command:?}: {error}"),
            }
        }
        panic!("no node has {command:?}")
    }
}

/// Databases 0 to 4 into database 0, without anything that keeps them apart.
const MERGED: [&str; 4] = ["--all-dbs", "--db-map", "*:0", "--batch"];

/// What has to be in the one database: of names that several have, the first one's.
fn merged(source: &Server, dbs: std::ops::Range<u32>) -> Keys {
    let mut all = Keys::new();
    for db in dbs.rev() {
        all.extend(strings(&mut source.connection_to(db)));
    }
    all
}

#[test]
fn of_keys_with_one_name_the_first_arrives_and_the_others_are_said_whatever_happens_meanwhile() {
    for (policy, kind) in [
        (None, REDIS_7_0),
        (Some("replace"), REDIS_6_2),
        (Some("skip"), VALKEY_9_1),
    ] {
        let Some(pair) = Pair::new(kind) else {
            continue;
        };
        in_sixteen(&pair.source, 0..5);
        let mut flags: Vec<&str> = MERGED.to_vec();
        flags.push("60");
        flags.extend(
            policy
                .into_iter()
                .flat_map(|policy| ["--on-conflict", policy]),
        );
        // Killed in the first database, in a later one, and when keys were written that nobody has recorded.
        for point in [
            "acknowledged_before_state_write=3*off->return",
            "acknowledged_before_state_write=8*off->return",
            "acknowledged_before_state_write=2*off->return",
        ] {
            let killed = pair.migrate(&flags).env("FAILPOINTS", point).run();
            assert!(killed.was_killed(), "{killed}");
        }
        let finished = pair.migrate(&flags).arg("--json").run().expect_code(1);
        let wanted = merged(&pair.source, 0..5);
        let mut target = pair.target.connection();
        assert!(strings(&mut target) == wanted, "{policy:?}");
        let taken = quarantined(pair.state());
        assert_eq!(taken.len(), 4 * 20, "{policy:?}\n{finished}");
        let (db, name, reason) = &taken[0];
        assert_eq!((*db, name.as_str()), (1, "both:0"));
        assert_eq!(
            reason,
            "database 0 has a key of this name too, and both would go to database 0 of the target; the one of database 0 is moved, and not the one of database 1"
        );
        // A new pass comes to the same.
        pair.migrate(&flags).arg("--new-pass").run().expect_code(1);
        assert!(strings(&mut target) == wanted, "{policy:?}");
        assert_eq!(quarantined(pair.state()).len(), 4 * 20);

        let compared = compare(pair.state(), 0);
        assert_eq!(compared.count("collided"), 4 * 20);
        assert_eq!(compared.count("equal"), wanted.len() as u64);
        // One is damaged, one is gone, one is of none of them.
        for command in [
            ["SET", "only:4:7", "damaged"].as_slice(),
            &["SET", "both:3", "of 2"],
            &["DEL", "only:1:1"],
            &["SET", "only:extra", "x"],
        ] {
            redis::cmd(command[0])
                .arg(&command[1..])
                .exec(&mut target)
                .unwrap();
        }
        compare(pair.state(), 1);
        let finding = |db, name: &str, verdict: &str| (db, name.to_owned(), verdict.to_owned());
        assert_eq!(
            found(pair.state()),
            [
                finding(0, "both:3", "value"),
                finding(1, "only:1:1", "missing"),
                finding(4, "only:4:7", "value"),
                finding(4, "only:extra", "extra"),
            ]
        );
        repair(NAME, pair.state())
            .args([
                "--apply",
                "--overwrite-kept",
                "--delete-extra",
                "--yes",
                "1",
            ])
            .run()
            .expect_code(0);
        assert!(strings(&mut target) == wanted, "{policy:?}");
        compare(pair.state(), 0);
    }
}

#[test]
fn of_keys_with_one_name_the_first_arrives_in_a_cluster_too() {
    let Some(binary) = require(VALKEY_9_1) else {
        return;
    };
    let source = Server::plain(&binary);
    let cluster = Cluster::start(&binary, 3, 0);
    let to = cluster.url().trim_end_matches("/0").to_owned();
    let state = tempfile::tempdir().unwrap();
    in_sixteen(&source, 0..4);
    let mut flags: Vec<&str> = MERGED.to_vec();
    flags.push("60");
    let killed = migrate(&url(&source), &to, state.path(), &flags)
        .env(
            "FAILPOINTS",
            "acknowledged_before_state_write=10*off->return",
        )
        .run();
    assert!(killed.was_killed(), "{killed}");
    migrate(&url(&source), &to, state.path(), &flags)
        .run()
        .expect_code(1);
    let mut there = Keys::new();
    for node in cluster.masters() {
        let mut connection = node.connection();
        let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        for name in names {
            let value = redis::cmd("GET").arg(&name).query(&mut connection).unwrap();
            there.insert(name, value);
        }
    }
    assert!(there == merged(&source, 0..4), "{} keys", there.len());
    assert_eq!(quarantined(state.path()).len(), 3 * 20);
    let compared = compare(state.path(), 0);
    assert_eq!(compared.count("collided"), 3 * 20);
    let mut connection = cluster_connection(&cluster);
    connection(&["SET", "only:2:5", "damaged"]);
    connection(&["SET", "nobodys", "x"]);
    compare(state.path(), 1);
    assert_eq!(
        found(state.path()),
        [
            (2, "only:2:5".to_owned(), "value".to_owned()),
            (3, "nobodys".to_owned(), "extra".to_owned()),
        ]
    );
}

#[test]
fn a_name_that_is_given_up_goes_to_the_next_in_the_next_pass() {
    let Some(pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    in_sixteen(&pair.source, 0..3);
    let flags = ["--db", "0,1,2", "--db-map", "*:5"];
    pair.migrate(&flags).run().expect_code(1);
    let mut target = pair.target.connection_to(5);
    let value = |target: &mut redis::Connection| -> String {
        redis::cmd("GET").arg("both:4").query(target).unwrap()
    };
    assert_eq!(value(&mut target), "of 0");
    redis::cmd("DEL")
        .arg("both:4")
        .exec(&mut pair.source.connection())
        .unwrap();
    // What the target has is of nobody now, and the next one's is found to differ.
    compare(pair.state(), 1);
    assert_eq!(
        found(pair.state()),
        [(1, "both:4".to_owned(), "value".to_owned())]
    );
    // Before it is repaired, the first has it again: then it is not written over.
    set(
        &mut pair.source.connection(),
        [("both:4".to_owned(), "of 0".to_owned())],
    );
    repair(NAME, pair.state())
        .arg("--apply")
        .run()
        .expect_code(1);
    assert_eq!(value(&mut target), "of 0");
    redis::cmd("DEL")
        .arg("both:4")
        .exec(&mut pair.source.connection())
        .unwrap();
    pair.migrate(&flags).arg("--new-pass").run().expect_code(1);
    assert_eq!(value(&mut target), "of 1");
    compare(pair.state(), 0);
}

#[test]
fn only_keys_of_a_type_that_is_moved_are_in_each_others_way() {
    let Some(pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    set(
        &mut pair.source.connection_to(1),
        [
            ("k".to_owned(), "v".to_owned()),
            ("l".to_owned(), "v".to_owned()),
        ],
    );
    let mut first = pair.source.connection();
    redis::cmd("RPUSH")
        .arg("k")
        .arg("x")
        .exec(&mut first)
        .unwrap();
    set(&mut first, [("l".to_owned(), "first".to_owned())]);
    let flags = ["--db-map", "0:0,1:0", "--type", "string,hash"];
    pair.migrate(&flags).run().expect_code(1);
    assert_eq!(quarantined(pair.state()).len(), 1);
    let wanted: Keys = [("k", "v"), ("l", "first")]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
    assert_eq!(strings(&mut pair.target.connection()), wanted);
    compare(pair.state(), 0);
}

#[test]
fn a_target_with_fewer_databases_is_a_no_go_and_a_map_helps() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let source = Server::plain(&binary);
    let target = Server::start(ServerSpec::new(binary).config("databases", "4"));
    let state = tempfile::tempdir().unwrap();
    in_sixteen(&source, 2..3);
    in_sixteen(&source, 9..10);
    let refused = migrate(&url(&source), &url(&target), state.path(), &["--all-dbs"])
        .run()
        .expect_code(3);
    let lines = said(&refused);
    let wanted = "error: target: failed to use database 9\n  it has 4 databases, from 0 on\nhint: another database takes its keys (--db-map 9:0, --to-db); or raise `databases` in the configuration of the target\n";
    assert!(lines.ends_with(wanted), "{lines}");
    let flags = ["--restart", "--all-dbs", "--db-map", "9:3"];
    migrate(&url(&source), &url(&target), state.path(), &flags)
        .run()
        .expect_code(0);
    for (from, to) in [(2, 2), (9, 3)] {
        assert_eq!(
            strings(&mut target.connection_to(to)),
            strings(&mut source.connection_to(from))
        );
    }
    compare(state.path(), 0).assert_equal(u64::from(2 * EACH));
    // Two servers alone lead to the same migration.
    let by_servers = Redknot::new([
        "compare",
        "--from",
        &url(&source),
        "--to",
        &url(&target),
        "--state-dir",
    ])
    .arg(state.path())
    .args(["--all-dbs", "--db-map", "9:3", "--settle", "10ms"]);
    let finished = by_servers.run().expect_code(0);
    assert!(
        finished
            .stdout()
            .contains(&format!("redknot status {NAME}")),
        "{finished}"
    );
}

#[test]
fn an_empty_source_has_nothing_to_be_moved() {
    let Some(pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    pair.migrate(&["--all-dbs"]).run().expect_code(0);
    assert_eq!(pair.target.keys(0), 0);
}
