//! One element of a string, list, set, sorted set or hash.

use rand::Rng;

use super::{Hand, Of, Way, always};
use crate::support::oracle::Verdict;

const fn of_value(
    of: &'static str,
    what: &'static str,
    damage: fn(&mut Hand, &[u8]) -> bool,
) -> Way {
    Way {
        what,
        of: Of::Type(of),
        verdict: Verdict::Value,
        possible: always,
        damage,
    }
}

pub(super) const WAYS: &[Way] = &[
    of_value("string", "one bit of a string", string_bit),
    of_value("string", "one register of a HyperLogLog", register),
    of_value("list", "one element of a list", list_element),
    of_value("list", "the order of a list", list_order),
    of_value("list", "one element less in a list", list_shorter),
    of_value("set", "one member of a set", set_member),
    of_value("set", "one member less in a set", set_smaller),
    of_value("set", "one member more in a set", set_larger),
    of_value("zset", "a score by one ulp", score_by_one_ulp),
    of_value("zset", "one member of a sorted set", zset_member),
    of_value("hash", "one field's value", field_value),
    of_value("hash", "one field less", field_removed),
    of_value("hash", "one field more", field_added),
    Way {
        what: "one field's expiry",
        of: Of::Type("hash"),
        verdict: Verdict::Value,
        possible: |kind| kind.knows_field_ttl,
        damage: field_expiry,
    },
];

fn string_bit(hand: &mut Hand, key: &[u8]) -> bool {
    let value: Vec<u8> = hand.ask(&hand.cmd("GET", key));
    // The head of a HyperLogLog says nothing about its value.
    let first = if value.starts_with(b"HYLL") { 16 } else { 0 };
    if value.len() <= first {
        return false;
    }
    let byte = hand.random.random_range(first..value.len());
    let bit = hand.random.random_range(0..8);
    let other = u8::from(value[byte] & (0x80 >> bit) == 0);
    hand.run(hand.cmd("SETBIT", key).arg(byte * 8 + bit).arg(other));
    true
}

fn register(hand: &mut Hand, key: &[u8]) -> bool {
    let registers = |hand: &mut Hand| -> Vec<u8> {
        let value: Vec<u8> = hand.ask(&hand.cmd("GET", key));
        value.get(16..).unwrap_or_default().to_vec()
    };
    let head: Vec<u8> = hand.ask(hand.cmd("GETRANGE", key).arg(0).arg(3));
    if head != b"HYLL" {
        return false;
    }
    let before = registers(hand);
    while registers(hand) == before {
        let element: u64 = hand.random.random();
        hand.run(hand.cmd("PFADD", key).arg(element));
    }
    true
}

fn list_element(hand: &mut Hand, key: &[u8]) -> bool {
    let length: u64 = hand.ask(&hand.cmd("LLEN", key));
    let at = hand.random.random_range(0..length);
    let other = hand.novelty();
    hand.run(hand.cmd("LSET", key).arg(at).arg(other));
    true
}

fn list_order(hand: &mut Hand, key: &[u8]) -> bool {
    let elements: Vec<Vec<u8>> = hand.ask(hand.cmd("LRANGE", key).arg(0).arg(-1));
    let mut turned = elements.clone();
    turned.rotate_right(1);
    turned != elements && {
        hand.run(hand.cmd("RPOPLPUSH", key).arg(key));
        true
    }
}

fn list_shorter(hand: &mut Hand, key: &[u8]) -> bool {
    let length: u64 = hand.ask(&hand.cmd("LLEN", key));
    length > 1 && {
        hand.run(&hand.cmd("LPOP", key));
        true
    }
}

/// Sorted, so that the choice does not depend on the server's order.
fn members(hand: &mut Hand, key: &[u8]) -> Vec<Vec<u8>> {
    let mut members: Vec<Vec<u8>> = hand.ask(&hand.cmd("SMEMBERS", key));
    members.sort();
    members
}

/// Not in the set, and a number beside a number, so that a set of numbers stays one.
fn neighbour(hand: &mut Hand, members: &[Vec<u8>], of: &[u8]) -> Vec<u8> {
    let number: Option<i64> = std::str::from_utf8(of)
        .ok()
        .and_then(|text| text.parse().ok());
    let Some(mut number) = number else {
        return hand.novelty().into_bytes();
    };
    loop {
        number = number.wrapping_add(1);
        let other = number.to_string().into_bytes();
        if !members.contains(&other) {
            return other;
        }
    }
}

fn set_member(hand: &mut Hand, key: &[u8]) -> bool {
    let members = members(hand, key);
    let Some(old) = hand.choose(members.clone()) else {
        return false;
    };
    let new = neighbour(hand, &members, &old);
    hand.run(hand.cmd("SADD", key).arg(new));
    hand.run(hand.cmd("SREM", key).arg(old));
    true
}

fn set_smaller(hand: &mut Hand, key: &[u8]) -> bool {
    let members = members(hand, key);
    members.len() > 1 && {
        let old = hand.choose(members);
        hand.run(hand.cmd("SREM", key).arg(old));
        true
    }
}

fn set_larger(hand: &mut Hand, key: &[u8]) -> bool {
    let members = members(hand, key);
    let new = neighbour(hand, &members, &members[0]);
    hand.run(hand.cmd("SADD", key).arg(new));
    true
}

fn scores(hand: &mut Hand, key: &[u8]) -> Vec<(Vec<u8>, f64)> {
    hand.ask(hand.cmd("ZRANGE", key).arg(0).arg(-1).arg("WITHSCORES"))
}

fn score_by_one_ulp(hand: &mut Hand, key: &[u8]) -> bool {
    let scores = scores(hand, key);
    let Some((member, score)) = hand.choose(scores) else {
        return false;
    };
    let other = if score == f64::INFINITY {
        score.next_down()
    } else {
        score.next_up()
    };
    hand.run(hand.cmd("ZADD", key).arg(format!("{other:e}")).arg(member));
    true
}

fn zset_member(hand: &mut Hand, key: &[u8]) -> bool {
    let scores = scores(hand, key);
    let Some((member, score)) = hand.choose(scores) else {
        return false;
    };
    let other = hand.novelty();
    hand.run(hand.cmd("ZADD", key).arg(format!("{score:e}")).arg(other));
    hand.run(hand.cmd("ZREM", key).arg(member));
    true
}

fn fields(hand: &mut Hand, key: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut fields: Vec<(Vec<u8>, Vec<u8>)> = hand.ask(&hand.cmd("HGETALL", key));
    fields.sort();
    fields
}

fn field_value(hand: &mut Hand, key: &[u8]) -> bool {
    let fields = fields(hand, key);
    let Some((field, value)) = hand.choose(fields) else {
        return false;
    };
    let other = [value.as_slice(), b"0"].concat();
    hand.run(hand.cmd("HSET", key).arg(field).arg(other));
    true
}

fn field_removed(hand: &mut Hand, key: &[u8]) -> bool {
    let fields = fields(hand, key);
    fields.len() > 1 && {
        let field = hand.choose(fields).map(|(field, _)| field);
        hand.run(hand.cmd("HDEL", key).arg(field));
        true
    }
}

fn field_added(hand: &mut Hand, key: &[u8]) -> bool {
    let field = hand.novelty();
    hand.run(hand.cmd("HSET", key).arg(field).arg(""));
    true
}

/// By two seconds, to none, or from none.
fn field_expiry(hand: &mut Hand, key: &[u8]) -> bool {
    const FAR_MS: i64 = 33_000_000_000_000;
    let fields = fields(hand, key);
    let Some((field, _)) = hand.choose(fields) else {
        return false;
    };
    let of_field = |hand: &mut Hand, command: &str| {
        let mut command = hand.cmd(command, key);
        command.arg("FIELDS").arg(1).arg(&field);
        command
    };
    let asked = of_field(hand, "HPEXPIRETIME");
    let expiry: Vec<i64> = hand.ask(&asked);
    if expiry[0] >= 0 && hand.random.random() {
        let persist = of_field(hand, "HPERSIST");
        hand.run(&persist);
        return true;
    }
    let other = if expiry[0] >= 0 {
        expiry[0] + 2_000
    } else {
        FAR_MS
    };
    let mut expire = hand.cmd("HPEXPIREAT", key);
    expire.arg(other).arg("FIELDS").arg(1).arg(&field);
    hand.run(&expire);
    true
}
