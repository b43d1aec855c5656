use std::time::Instant;

use super::{NAME, Pair};
use crate::support::comparing::Compared;
use crate::support::dataset::{DataSet, count_hyperloglogs};
use crate::support::redknot::status;
use crate::support::seed;
use crate::support::version::{
    Kind, REDIS_6_2, REDIS_7_0, REDIS_8_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1,
};

/// Enough for every kind of key in many sizes.
const KEYS: u32 = 20_000;

/// All that a migration and the comparison after it must show where nobody writes.
fn nothing_is_found(from: Kind, to: Kind, keys: u32) {
    let set = DataSet {
        field_ttls: from.knows_field_ttl && to.knows_field_ttl,
        big_collections: 5_000,
        ..DataSet::new(keys, seed())
    };
    let began = Instant::now();
    let Some(pair) = Pair::migrated(from, to, &set) else {
        return;
    };
    let keys = pair.source.keys(0);
    assert_eq!(
        status(NAME, pair.state.path()).counters.keys_written,
        keys,
        "all keys arrive"
    );
    let migrated = began.elapsed();
    let began = Instant::now();
    assert_eq!(pair.oracle().assert_equal() as u64, keys);
    let judged = began.elapsed();
    eprintln!(
        "{} to {}: {keys} keys, filled and migrated in {migrated:?}, read by the oracle in {judged:?}",
        from.name, to.name
    );
    // The same values in other bytes: cached cardinalities, and tables in another order.
    assert!(count_hyperloglogs(&pair.target, 0) > 0);
    let compared = pair.compared(0);
    compared.assert_equal(keys);
    assert!(compared.count("equal_other_bytes") > 0);
    let (of_source, of_target) = compared.digests();
    assert_eq!(of_source, of_target);
    assert!(pair.findings().is_empty());
    eprintln!("compared in {:?}", compared.finished.wall);
}

/// A test of 20 000 keys, and one of a million for `make soak`.
macro_rules! clean_pair {
    ($few:ident, $many:ident, $from:expr, $to:expr) => {
        #[test]
        fn $few() {
            nothing_is_found($from, $to, KEYS);
        }

        #[test]
        #[ignore = "a million keys: for `make soak`"]
        fn $many() {
            nothing_is_found($from, $to, 1_000_000);
        }
    };
}

clean_pair!(
    nothing_is_found_from_redis_7_0_to_7_0,
    nothing_is_found_in_a_million_keys_from_redis_7_0_to_7_0,
    REDIS_7_0,
    REDIS_7_0
);
clean_pair!(
    nothing_is_found_from_redis_6_2_to_7_0,
    nothing_is_found_in_a_million_keys_from_redis_6_2_to_7_0,
    REDIS_6_2,
    REDIS_7_0
);
clean_pair!(
    nothing_is_found_from_redis_7_0_to_6_2,
    nothing_is_found_in_a_million_keys_from_redis_7_0_to_6_2,
    REDIS_7_0,
    REDIS_6_2
);
clean_pair!(
    nothing_is_found_from_redis_8_2_to_7_0,
    nothing_is_found_in_a_million_keys_from_redis_8_2_to_7_0,
    REDIS_8_2,
    REDIS_7_0
);
clean_pair!(
    nothing_is_found_from_redis_8_0_to_valkey_8_1,
    nothing_is_found_in_a_million_keys_from_redis_8_0_to_valkey_8_1,
    REDIS_8_0,
    VALKEY_8_1
);
clean_pair!(
    nothing_is_found_from_valkey_9_1_to_redis_7_0,
    nothing_is_found_in_a_million_keys_from_valkey_9_1_to_redis_7_0,
    VALKEY_9_1,
    REDIS_7_0
);
clean_pair!(
    nothing_is_found_from_redis_8_2_to_valkey_9_1,
    nothing_is_found_in_a_million_keys_from_redis_8_2_to_valkey_9_1,
    REDIS_8_2,
    VALKEY_9_1
);

/// The digest of a keyspace says what is in it, not where it lies.
#[test]
fn one_digest_stands_for_one_content_on_every_version() {
    let set = DataSet::new(2_000, seed());
    let mut of_source = None;
    for to in [REDIS_7_0, REDIS_8_2, VALKEY_9_1] {
        let Some(pair) = Pair::migrated(REDIS_7_0, to, &set) else {
            return;
        };
        let (source, target) = pair.compared(0).digests();
        assert_eq!(source, target, "{}", to.name);
        // Pending entries carry the time of their delivery, so two fillings are not the same streams.
        let again = pair.compared(0).digests();
        assert_eq!(again, (source.clone(), target), "{}", to.name);
        redis::cmd("SET")
            .arg("one more")
            .arg("")
            .exec(&mut pair.source.connection())
            .unwrap();
        assert_ne!(pair.compared(1).digests().0, source);
        of_source = Some(source);
    }
    assert!(of_source.is_some());
}

#[test]
fn a_migration_compares_at_its_end_if_it_was_asked_to() {
    let Some(pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    crate::support::dataset::fill(&pair.source, 0, &DataSet::new(3_000, seed()));
    let migrate = pair.migration().args(["--compare", "--json"]);
    let finished = migrate.run().expect_code(0);
    Compared::of(finished).assert_equal(3_000);
    // A key that was kept, and differs, is what the copy itself can't see.
    let Some(pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    for (server, value) in [(&pair.source, "new"), (&pair.target, "old")] {
        redis::cmd("SET")
            .arg("kept")
            .arg(value)
            .exec(&mut server.connection())
            .unwrap();
    }
    let finished = pair
        .migration()
        .args(["--compare", "--json", "--on-conflict", "skip"])
        .run()
        .expect_code(1);
    assert_eq!(Compared::of(finished).count("value"), 1);
    assert_eq!(pair.findings(), [(b"kept".to_vec(), "value")].into());
}
