use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Pair;
use crate::support::comparing::{assert_findings, expected};
use crate::support::corrupt::corrupt;
use crate::support::dataset::{DataSet, count_hyperloglogs, fill};
use crate::support::seed;
use crate::support::version::{
    Kind, REDIS_6_2, REDIS_7_0, REDIS_8_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1,
};

/// Whatever was damaged is found, with its verdict, and nothing else.
fn every_damage_is_found(from: Kind, to: Kind, keys: u32, damages: usize) {
    let seed = seed();
    let set = DataSet {
        field_ttls: from.knows_field_ttl && to.knows_field_ttl,
        ..DataSet::new(keys, seed)
    };
    let Some(pair) = Pair::migrated(from, to, &set) else {
        return;
    };
    count_hyperloglogs(&pair.target, 0);
    let damages = corrupt(&pair.source, &pair.target, 0, damages, seed);
    let wanted = expected(&damages);
    assert_findings(&pair.differences(), &wanted, &damages);
    let compared = pair.compared(1);
    assert_findings(&pair.findings(), &wanted, &damages);
    for verdict in ["missing", "extra", "type", "value", "ttl"] {
        let of_it = wanted.values().filter(|found| **found == verdict).count();
        assert_eq!(compared.count(verdict), of_it as u64, "{verdict}");
        assert!(of_it > 0, "no damage is for {verdict}");
    }
    assert_eq!(compared.count("undecided"), 0);
    let (of_source, of_target) = compared.digests();
    assert_ne!(of_source, of_target);
}

#[test]
fn a_thousand_damages_are_found_and_nothing_else() {
    every_damage_is_found(REDIS_7_0, REDIS_7_0, 20_000, 1_000);
}

#[test]
fn a_thousand_damages_are_found_where_fields_expire() {
    every_damage_is_found(REDIS_8_2, REDIS_8_2, 20_000, 1_000);
    every_damage_is_found(VALKEY_9_1, VALKEY_9_1, 20_000, 1_000);
}

#[test]
fn a_thousand_damages_are_found_between_versions() {
    every_damage_is_found(REDIS_6_2, REDIS_7_0, 20_000, 1_000);
    every_damage_is_found(VALKEY_8_1, VALKEY_9_1, 20_000, 1_000);
}

#[test]
fn a_thousand_damages_are_found_where_payloads_were_encoded_anew() {
    every_damage_is_found(REDIS_7_0, REDIS_6_2, 20_000, 1_000);
    every_damage_is_found(REDIS_8_2, VALKEY_9_1, 20_000, 1_000);
}

#[test]
#[ignore = "a million keys: for `make soak`"]
fn a_thousand_damages_are_found_in_a_million_keys() {
    every_damage_is_found(REDIS_7_0, REDIS_7_0, 1_000_000, 1_000);
}

/// One key of each verdict, small enough to say exactly what is printed.
#[test]
fn a_finding_says_where_it_differs() {
    let Some(pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    let mut source = pair.source.connection();
    redis::pipe()
        .cmd("HSET")
        .arg("cart")
        .arg(&["name", "value", "qty", "3"])
        .cmd("SET")
        .arg("gone")
        .arg("v")
        .cmd("SET")
        .arg("ttl")
        .arg("v")
        .cmd("SET")
        .arg("other type")
        .arg("v")
        .exec(&mut source)
        .unwrap();
    pair.migrate();
    redis::pipe()
        .cmd("HDEL")
        .arg("cart")
        .arg("qty")
        .cmd("DEL")
        .arg("gone")
        .cmd("EXPIRE")
        .arg("ttl")
        .arg(1_000)
        .cmd("DEL")
        .arg("other type")
        .cmd("RPUSH")
        .arg("other type")
        .arg("v")
        .cmd("SET")
        .arg("more")
        .arg("v")
        .exec(&mut pair.target.connection())
        .unwrap();
    pair.compared(1);
    let listed = crate::support::comparing::listed(super::NAME, "findings", pair.state.path());
    let of = |key: &str| {
        listed
            .iter()
            .find(|one| one.key == key.as_bytes())
            .unwrap_or_else(|| panic!("{key} is not in {listed:?}"))
    };
    assert_eq!(of("cart").verdict, "value");
    assert!(of("cart").detail.contains("qty"), "{:?}", of("cart"));
    assert_eq!(of("gone").verdict, "missing");
    assert_eq!(of("ttl").verdict, "ttl");
    assert_eq!(of("other type").verdict, "type");
    let types = &of("other type").detail;
    assert!(
        types.contains("string") && types.contains("list"),
        "{types}"
    );
    assert_eq!(of("more").verdict, "extra");
    assert_eq!(listed.len(), 5);
    // Each class by its name.
    for one in &listed {
        let of_class =
            crate::support::comparing::listed(super::NAME, &one.verdict, pair.state.path());
        assert_eq!(of_class.len(), 1, "{of_class:?}");
        assert_eq!(of_class[0].key, one.key);
    }
}

/// A vector set is a graph that every server builds anew: its payload is never the same twice.
#[test]
fn vector_sets_are_compared_by_their_elements() {
    for (from, to) in [(REDIS_8_0, REDIS_8_0), (REDIS_8_0, REDIS_8_2)] {
        let seed = seed();
        let mut random = StdRng::seed_from_u64(seed);
        let Some(pair) = Pair::empty(from, to) else {
            continue;
        };
        fill(&pair.source, 0, &DataSet::new(500, seed));
        let mut pipe = redis::pipe();
        let quantizations = ["NOQUANT", "Q8", "BIN"];
        for (key, quantization) in quantizations.iter().enumerate() {
            for element in 0..200 {
                pipe.cmd("VADD")
                    .arg(format!("vectors:{key}"))
                    .arg("VALUES")
                    .arg(16);
                for _ in 0..16 {
                    pipe.arg(random.random_range(-1.0..1.0_f64));
                }
                pipe.arg(format!("element:{element}")).arg(*quantization);
                if element % 3 == 0 {
                    pipe.arg("SETATTR").arg(format!("{{\"n\":{element}}}"));
                }
                pipe.ignore();
            }
        }
        pipe.exec(&mut pair.source.connection()).unwrap();
        pair.migrate();
        let compared = pair.compared(0);
        compared.assert_equal(503);
        assert!(
            compared.count("equal_other_bytes") >= 3,
            "as graphs they differ"
        );
        redis::pipe()
            .cmd("VSETATTR")
            .arg("vectors:0")
            .arg("element:3")
            .arg("{\"n\":4}")
            .cmd("VREM")
            .arg("vectors:1")
            .arg("element:7")
            .cmd("VADD")
            .arg("vectors:2")
            .arg("VALUES")
            .arg(16)
            .arg(&[-1; 16])
            .arg("element:9")
            .arg("BIN")
            .exec(&mut pair.target.connection())
            .unwrap();
        assert_eq!(pair.compared(1).count("value"), 3);
        let found: Vec<Vec<u8>> = pair.findings().into_keys().collect();
        assert_eq!(found, [b"vectors:0", b"vectors:1", b"vectors:2"]);
    }
}
