use super::Pair;
use crate::support::comparing::{Compared, assert_findings, expected};
use crate::support::corrupt::corrupt;
use crate::support::dataset::{DataSet, count_hyperloglogs};
use crate::support::redknot::Redknot;
use crate::support::seed;
use crate::support::version::{
    Kind, REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1,
};

/// Every key is big.
fn in_pieces(pair: &Pair) -> Redknot {
    pair.compare()
        .args(["--big-key", "1B", "--compare-with", "dump"])
}

fn dumps(pair: &Pair) -> u64 {
    pair.source.calls("dump") + pair.target.calls("dump")
}

/// All keys of a data set are compared in pieces: the result is as if all had been dumped, and nothing was.
fn every_damage_is_found_in_pieces(from: Kind, to: Kind) {
    let seed = seed();
    let set = DataSet {
        field_ttls: from.knows_field_ttl && to.knows_field_ttl,
        ..DataSet::new(1_500, seed)
    };
    let Some(pair) = Pair::migrated(from, to, &set) else {
        return;
    };
    count_hyperloglogs(&pair.target, 0);
    let before = dumps(&pair);
    let clean = Compared::of(in_pieces(&pair).run().expect_code(0));
    clean.assert_equal(1_500);
    assert_eq!(dumps(&pair), before, "{}", clean.finished);
    let dumped = Compared::of(pair.compare().args(["--big-key", "never"]).run());
    assert_eq!(clean.digests(), dumped.digests(), "{from:?} {to:?}");

    let damages = corrupt(&pair.source, &pair.target, 0, 150, seed);
    let wanted = expected(&damages);
    let before = dumps(&pair);
    let found = Compared::of(in_pieces(&pair).run().expect_code(1));
    assert_findings(&pair.findings(), &wanted, &damages);
    assert_eq!(dumps(&pair), before, "{}", found.finished);
    let dumped = Compared::of(pair.compare().args(["--big-key", "never"]).run());
    assert_eq!(found.digests(), dumped.digests(), "{from:?} {to:?}");
}

#[test]
fn every_damage_is_found_in_pieces_and_nothing_else() {
    every_damage_is_found_in_pieces(REDIS_7_0, REDIS_7_0);
    every_damage_is_found_in_pieces(VALKEY_8_1, VALKEY_8_1);
}

#[test]
fn every_damage_is_found_in_pieces_where_fields_expire() {
    every_damage_is_found_in_pieces(REDIS_8_2, REDIS_8_2);
    every_damage_is_found_in_pieces(VALKEY_9_1, VALKEY_9_1);
}

#[test]
fn every_damage_is_found_in_pieces_between_versions() {
    every_damage_is_found_in_pieces(REDIS_6_0, REDIS_7_0);
    every_damage_is_found_in_pieces(REDIS_7_0, REDIS_6_2);
    every_damage_is_found_in_pieces(REDIS_8_2, VALKEY_9_1);
}
