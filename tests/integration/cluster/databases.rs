use super::{Migration, NAME};
use crate::support::cluster::Cluster;
use crate::support::comparing::{Compared, assert_findings, compare, findings, keys};
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Oracle;
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{VALKEY_9_1, require};

#[test]
fn a_cluster_that_has_several_databases_is_read_and_written_in_each() {
    let Some(binary) = require(VALKEY_9_1) else {
        return;
    };
    let single = Server::plain(&binary);
    fill(&single, 5, &DataSet::new(3_000, seed()));
    fill(&single, 0, &DataSet::new(1_000, seed() + 1));
    let with_databases =
        || Cluster::of(&binary, 3, 0, |spec| spec.config("cluster-databases", "16"));
    let (first, second) = (with_databases(), with_databases());
    for (from, from_db, to, to_db) in [
        (single.url(5), 5, first.url_of(3), 3),
        (single.url(0), 0, first.url_of(0), 0),
        (first.url_of(3), 3, second.url_of(7), 7),
    ] {
        let migration = Migration::new(from, to);
        migration.command().run().expect_code(0);
        let oracle = match from_db {
            3 => Oracle::between(&first, &second),
            _ => Oracle::between(&single, &first),
        };
        let keys = oracle.databases(from_db, to_db).assert_equal();
        let compare = || compare(NAME, migration.state.path()).args(["--settle", "50ms"]);
        Compared::of(compare().run().expect_code(0)).assert_equal(keys as u64);
        // What another database has under the same name is no answer.
        let target = match from_db {
            3 => &second,
            _ => &first,
        };
        let damaged = target.any_key(to_db);
        target.delete(&damaged, to_db);
        Compared::of(compare().run().expect_code(1));
        let found = findings(NAME, migration.state.path());
        assert_findings(&found, &[(damaged, "missing")].into_iter().collect(), &[]);
        crate::support::comparing::repair(NAME, migration.state.path())
            .arg("--apply")
            .run()
            .expect_code(0);
        Compared::of(compare().run().expect_code(0)).assert_equal(keys as u64);
    }
}

/// The values of a database of a single server whose keys are strings.
fn values(server: &Server, db: u32) -> Vec<(String, String)> {
    let mut connection = server.connection_to(db);
    let mut names: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    names.sort();
    let value = |name: String| {
        let value = redis::cmd("GET").arg(&name).query(&mut connection).unwrap();
        (name, value)
    };
    names.into_iter().map(value).collect()
}

#[test]
fn of_keys_with_one_name_in_two_databases_of_a_cluster_one_arrives_unless_prefixes_keep_them_apart()
{
    const EACH: u32 = 60;
    const BOTH: u32 = 20;
    let Some(binary) = require(VALKEY_9_1) else {
        return;
    };
    let source = Cluster::of(&binary, 3, 0, |spec| spec.config("cluster-databases", "16"));
    // Made on a single server and migrated, which routes them.
    let single = Server::plain(&binary);
    for db in [0, 3] {
        let mut pipe = redis::pipe();
        for n in 0..EACH {
            pipe.set(format!("only:{db}:{n}"), format!("of {db}"))
                .ignore();
        }
        for n in 0..BOTH {
            pipe.set(format!("both:{n}"), format!("of {db}")).ignore();
        }
        pipe.exec(&mut single.connection_to(db)).unwrap();
        let made = Migration::new(single.url(db), source.url_of(db));
        made.command().run().expect_code(0);
    }
    let from = source.url().trim_end_matches("/0").to_owned();
    let together = ["--db", "0,3", "--db-map", "*:0"];

    let target = Server::plain(&binary);
    let to = target.url(0).trim_end_matches("/0").to_owned();
    let migration = Migration::new(from.clone(), to);
    migration.command().args(together).run().expect_code(1);
    let counters = migration.status().counters;
    assert_eq!(counters.keys_quarantined, u64::from(BOTH));
    let there = values(&target, 0);
    assert_eq!(there.len() as u32, 2 * EACH + BOTH);
    let of_both = there.iter().filter(|(name, _)| name.starts_with("both:"));
    assert!(
        of_both.clone().all(|(_, value)| value == "of 0"),
        "{there:?}"
    );
    let listed = keys(NAME, "quarantined", migration.state.path()).run();
    let listed = listed.expect_code(0).stdout();
    assert_eq!(listed.matches("both:").count() as u32, BOTH, "{listed}");
    let compared = Compared::of(migration.compare().run().expect_code(0));
    assert_eq!(compared.count("collided"), u64::from(BOTH));
    assert_eq!(compared.count("equal"), u64::from(2 * EACH + BOTH));

    let target = Server::plain(&binary);
    let to = target.url(0).trim_end_matches("/0").to_owned();
    let migration = Migration::new(from, to);
    let apart = migration.command().args(together).arg("--db-prefix");
    apart.run().expect_code(0);
    let there = values(&target, 0);
    assert_eq!(there.len() as u32, 2 * (EACH + BOTH));
    for db in [0, 3] {
        let prefix = format!("db{db}:");
        let mut of_db = there.iter().filter(|(name, _)| name.starts_with(&prefix));
        assert!(
            of_db.all(|(_, value)| *value == format!("of {db}")),
            "{there:?}"
        );
    }
    let compared = Compared::of(migration.compare().run().expect_code(0));
    compared.assert_equal(u64::from(2 * (EACH + BOTH)));
}
