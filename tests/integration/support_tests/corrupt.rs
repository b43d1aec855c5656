use std::collections::BTreeMap;

use super::oracle::pair;
use crate::support::corrupt::{Damage, corrupt};
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::{Verdict, assert_equal, differences};
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{
    Kind, REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1, require,
};

const DAMAGES: usize = 400;

fn finds_every_damage(source: Kind, target: Kind) {
    let Some((source, target)) = pair(source, target, 5_000) else {
        return;
    };
    assert_equal(&source, &target);
    let damages = corrupt(&source, &target, 0, DAMAGES, seed());
    let expected = Damage::expected(&damages);
    assert_eq!(expected.len(), DAMAGES, "no key is damaged twice");
    let found: BTreeMap<Vec<u8>, Verdict> = differences(&source, &target)
        .into_iter()
        .map(|difference| (difference.key, difference.verdict))
        .collect();
    for damage in &damages {
        assert_eq!(found.get(&damage.key), Some(&damage.verdict), "{damage:?}");
    }
    assert_eq!(found.len(), DAMAGES, "nothing else is found");
}

#[test]
fn every_damage_is_found_between_old_versions() {
    finds_every_damage(REDIS_6_0, REDIS_6_0);
    finds_every_damage(REDIS_6_2, REDIS_7_0);
}

#[test]
fn every_damage_is_found_on_redis() {
    finds_every_damage(REDIS_7_0, REDIS_7_0);
    finds_every_damage(REDIS_8_0, REDIS_8_2);
}

#[test]
fn every_damage_is_found_on_valkey() {
    finds_every_damage(VALKEY_8_1, VALKEY_9_1);
    finds_every_damage(VALKEY_9_1, VALKEY_9_1);
}

#[test]
fn the_same_seed_does_the_same_damage() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let seed = seed();
    let damaged = |with: u64| {
        let server = Server::plain(&redis);
        fill(&server, 0, &DataSet::new(2_000, seed));
        corrupt(&server, &server, 0, 100, with)
    };
    let done = damaged(seed);
    assert_eq!(done, damaged(seed));
    assert_ne!(done, damaged(seed + 1));
}
