use super::{Migration, NAME};
use crate::support::cluster::Cluster;
use crate::support::comparing::{Compared, assert_findings, compare, findings};
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
