//! The same arrives, between versions.

use redknot::copy::pieces::Limits;
use redknot::plan::FieldTtl;

use super::values::fill;
use super::{Ended, SMALL, Sides, block_on, tell};
use crate::support::server::Server;
use crate::support::version::{
    Kind, REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1, require,
};
use crate::support::{repetitions, seed};

/// Every value arrives, in many small pieces and in pieces of the usual size.
fn all_arrives(source: Kind, target: Kind) {
    let (Some(source), Some(target)) = (require(source), require(target)) else {
        return;
    };
    let (source, target) = (Server::plain(&source), Server::plain(&target));
    let seed = seed();
    for round in 0..repetitions(1) {
        let names = fill(&source, seed.wrapping_add(round.into()));
        for limits in [SMALL, Limits::default()] {
            block_on(carry_all(&source, &target, &names, limits));
        }
        for server in [&source, &target] {
            redis::cmd("FLUSHALL")
                .exec(&mut server.connection())
                .unwrap();
        }
    }
}

async fn carry_all(source: &Server, target: &Server, names: &[Vec<u8>], limits: Limits) {
    let mut sides = Sides::between(source, target).await;
    let drops = source.kind().knows_field_ttl && !target.kind().knows_field_ttl;
    if drops {
        sides.abilities.field_ttl = FieldTtl::Drop;
    }
    redis::cmd("FLUSHALL")
        .exec(&mut target.connection())
        .unwrap();
    let mut most = 0;
    for name in names {
        let shown = name.escape_ascii();
        let Ended::Written(pieces) = sides.carry(name, limits).await else {
            panic!("{shown} was not written");
        };
        assert!(pieces > 0, "{shown}");
        most = most.max(pieces);
        sides.assert_equal_with(name, !drops);
    }
    assert_eq!(target.keys(0) as usize, names.len());
    assert!(limits != SMALL || most > 10, "{most} pieces");
}

#[test]
fn all_arrives_from_redis_6_0_on_redis_7_0() {
    all_arrives(REDIS_6_0, REDIS_7_0);
}

#[test]
fn all_arrives_from_redis_6_2_on_redis_6_2() {
    all_arrives(REDIS_6_2, REDIS_6_2);
}

#[test]
fn all_arrives_from_redis_7_0_on_redis_8_2() {
    all_arrives(REDIS_7_0, REDIS_8_2);
}

#[test]
fn all_arrives_from_redis_7_0_on_valkey_9_1() {
    all_arrives(REDIS_7_0, VALKEY_9_1);
}

#[test]
fn all_arrives_from_valkey_9_1_on_valkey_9_1() {
    all_arrives(VALKEY_9_1, VALKEY_9_1);
}

#[test]
fn all_arrives_from_redis_8_2_on_redis_8_2() {
    all_arrives(REDIS_8_2, REDIS_8_2);
}

#[test]
fn all_arrives_from_valkey_9_1_on_redis_8_2() {
    all_arrives(VALKEY_9_1, REDIS_8_2);
}

#[test]
fn all_but_the_expiry_of_fields_arrives_from_redis_8_2_on_redis_6_0() {
    all_arrives(REDIS_8_2, REDIS_6_0);
}

#[test]
fn all_but_the_expiry_of_fields_arrives_from_valkey_9_1_on_valkey_8_1() {
    all_arrives(VALKEY_9_1, VALKEY_8_1);
}

const SOURCE_COMMANDS: &str = "+type +strlen +llen +scard +zcard +hlen +xlen +getrange +lrange +zrange +sscan +hscan \
    +xinfo|stream +xinfo|groups +xinfo|consumers +xpending +xrange +time";
const TARGET_COMMANDS: &str = "+set +setrange +ltrim +rpush +sadd +zadd +hmset +xadd +xsetid +xgroup|create \
    +xgroup|destroy +xreadgroup +xclaim";
/// What the test itself sends.
const OTHER_COMMANDS: &str = "+acl +watch +multi +exec +dump +flushall +dbsize +select +ping +info +client +restore +module +time";

/// `redknot acl` can name what is asked of whom. Where keys can be opened for reading alone, the source's are.
#[test]
fn no_more_rights_are_needed_than_these() {
    for (kind, keys) in [(REDIS_6_0, "~*"), (REDIS_7_0, "%R~*"), (REDIS_8_2, "%R~*")] {
        let Some(binary) = require(kind) else {
            return;
        };
        let (source, target) = (Server::plain(&binary), Server::plain(&binary));
        let names = fill(&source, seed());
        let fields = |command| match kind.knows_field_ttl {
            true => command,
            false => "",
        };
        let limit = |server: &Server, keys, commands, of_fields| {
            let rules = format!(
                "ACL SETUSER default resetkeys {keys} -@all {commands} {OTHER_COMMANDS} {}",
                fields(of_fields)
            );
            let words: Vec<&[u8]> = rules.split_whitespace().map(str::as_bytes).collect();
            tell(&mut server.connection(), &words);
        };
        limit(&source, keys, SOURCE_COMMANDS, "+hpexpiretime");
        limit(&target, "~*", TARGET_COMMANDS, "+hpexpireat");
        block_on(carry_all(&source, &target, &names, SMALL));
    }
}
