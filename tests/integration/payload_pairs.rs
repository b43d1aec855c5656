//! DUMP, decode, encode, RESTORE between every two servers: the value is the same, and the footers and types that the
//! encoder believes a server to take are those that it takes.

use std::collections::BTreeMap;
use std::path::Path;

use ::redknot::digest::{Comparison, DigestRules, StreamLevel, of_payload};
use ::redknot::rdb::dialect::{Dialect, PROBED, Way, probe};
use ::redknot::rdb::encode::{Reencoded, Rules, Unconvertible, reencode, restamp};
use ::redknot::rdb::footer;
use redis::{Connection, Value};

use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::{Oracle, Verdict};
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{
    REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1, require,
};

const KEYS: u32 = 500;
const KINDS: [crate::support::version::Kind; 6] = [
    REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1,
];

/// Recorded cases that differ in their encoding alone.
const SAME_VALUES: [(&str, &str); 2] = [("hash_small", "hash_table"), ("zset_small", "zset_table")];

/// Recorded cases in which servers make other values of the same commands: not all create a consumer that got nothing.
const OTHER_VALUES: [&str; 1] = ["stream_idle_consumers"];

/// A key as its source gave it.
struct Dumped {
    name: Vec<u8>,
    payload: Vec<u8>,
    ttl_ms: i64,
}

fn dump_all(server: &Server) -> Vec<Dumped> {
    let mut connection = server.connection();
    let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    let dump = |name: Vec<u8>| {
        let payload: Option<Vec<u8>> = redis::cmd("DUMP")
            .arg(&name)
            .query(&mut connection)
            .unwrap();
        let ttl_ms: i64 = redis::cmd("PTTL")
            .arg(&name)
            .query(&mut connection)
            .unwrap();
        payload.map(|payload| Dumped {
            name,
            payload,
            ttl_ms,
        })
    };
    names.into_iter().filter_map(dump).collect()
}

/// Asked as redknot asks.
fn dialect(server: &Server) -> Dialect {
    let mut connection = server.connection();
    let accepted = PROBED.into_iter().filter(|version| {
        let answer = restore(&mut connection, b"probe", &probe(*version), 0);
        let error = answer.expect_err("no server has this type");
        error.contains("Bad data format")
    });
    let dialect = Dialect::of_accepted(accepted).expect("each server accepts some");
    assert_eq!(server.keys(0), 0, "a probe made a key");
    dialect
}

fn restore(
    connection: &mut Connection,
    name: &[u8],
    payload: &[u8],
    ttl_ms: i64,
) -> Result<(), String> {
    redis::cmd("RESTORE")
        .arg(name)
        .arg(ttl_ms.max(0))
        .arg(payload)
        .arg("REPLACE")
        .exec(connection)
        .map_err(|error| error.to_string())
}

fn same_digest(one: &[u8], other: &[u8]) -> bool {
    let level = StreamLevel::of_type(one[0]).min(StreamLevel::of_type(other[0]));
    let rules = DigestRules {
        field_expiries: true,
        now_ms: 0,
        stream_level: level,
    };
    let [one, other] = [one, other].map(|payload| of_payload(payload, rules).unwrap());
    one.compare(&other) == Comparison::Equal
}

/// Whether the server itself calls the values equal; only between equal versions.
fn digest_values_agree(source: &Server, target: &Server, names: &[Vec<u8>]) {
    for name in names {
        let [ours, theirs] = [source, target].map(|server| {
            redis::cmd("DEBUG")
                .arg("DIGEST-VALUE")
                .arg(name)
                .query::<Value>(&mut server.connection())
                .unwrap()
        });
        assert_eq!(ours, theirs, "{}", name.escape_ascii());
    }
}

/// What the target can't hold is left out, and nothing else.
fn check(source: &Server, dumped: &[Dumped], target: &Server) {
    let pair = format!("{} to {}", source.kind().name, target.kind().name);
    let dialect = dialect(target);
    let rules = Rules {
        dialect,
        drop_field_expiry: None,
        bytes_max: 1 << 29,
    };
    let mut connection = target.connection();
    let mut left_out = Vec::new();
    for key in dumped {
        let shown = key.name.escape_ascii();
        let version = footer::check(&key.payload).unwrap().version;
        // The cheap way has to be open where the dialect says so.
        let cheap = match dialect.way(key.payload[0], version) {
            Way::AsItIs => Some(key.payload.clone()),
            Way::Restamped => Some(restamp(&key.payload, dialect.stamp())),
            Way::Reencoded => None,
            Way::Module => panic!("{pair}: the data set has no modules"),
        };
        if let Some(payload) = cheap {
            let answer = restore(&mut connection, &key.name, &payload, key.ttl_ms);
            assert_eq!(answer, Ok(()), "{pair}: {shown}, type {}", payload[0]);
        }
        match reencode(&key.payload, &rules) {
            Ok(Reencoded::Payload(payload)) => {
                let answer = restore(&mut connection, &key.name, &payload, key.ttl_ms);
                assert_eq!(answer, Ok(()), "{pair}: {shown}, type {}", payload[0]);
            }
            Ok(Reencoded::Vacant) => panic!("{pair}: {shown}: nothing is dropped"),
            Err(Unconvertible::FieldsExpire) => {
                assert!(!target.kind().knows_field_ttl, "{pair}: {shown}");
                left_out.push(key.name.clone());
            }
            Err(why) => panic!("{pair}: {shown}: {why}"),
        }
    }
    let found = Oracle::between(source, target)
        .ttl_tolerance_ms(60_000)
        .compare();
    let missing: Vec<_> = found
        .differences
        .iter()
        .filter(|difference| difference.verdict == Verdict::Missing)
        .map(|difference| difference.key.clone())
        .collect();
    left_out.sort();
    assert_eq!(missing, left_out, "{pair}");
    assert_eq!(
        found.differences.len(),
        left_out.len(),
        "{pair}: {:?}",
        found.differences
    );
    assert!(found.keys > left_out.len());
    let arrived = dump_all(target);
    for key in &arrived {
        let original = dumped
            .iter()
            .find(|original| original.name == key.name)
            .unwrap();
        assert!(
            same_digest(&original.payload, &key.payload),
            "{pair}: {}",
            key.name.escape_ascii()
        );
    }
    if source.kind() == target.kind() {
        assert!(left_out.is_empty());
        let names: Vec<Vec<u8>> = arrived.into_iter().map(|key| key.name).collect();
        digest_values_agree(source, target, &names);
    }
    redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
}

/// What the same commands made on several servers: other encodings, other orders, one digest. Of other commands, another.
#[test]
fn one_value_has_one_digest_in_the_encoding_of_every_server() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads");
    let mut cases: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for kind in KINDS {
        for file in std::fs::read_dir(folder.join(kind.name)).unwrap() {
            let path = file.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "payload")
            {
                let case = path.file_stem().unwrap().to_string_lossy().into_owned();
                cases
                    .entry(case)
                    .or_default()
                    .push(std::fs::read(path).unwrap());
            }
        }
    }
    let mut encodings = 0;
    let mut digests: BTreeMap<[u8; 32], &String> = BTreeMap::new();
    let (mut same, mut different) = (Vec::new(), Vec::new());
    for (case, payloads) in &cases {
        for (one, other) in payloads.iter().zip(payloads.iter().skip(1)) {
            if !same_digest(one, other) && !different.contains(&case.as_str()) {
                different.push(case.as_str());
            }
            encodings += usize::from(one[0] != other[0]);
        }
        let rules = DigestRules {
            field_expiries: true,
            now_ms: 0,
            stream_level: StreamLevel::Plain,
        };
        let digest = of_payload(&payloads[0], rules).unwrap().digest;
        if let Some(earlier) = digest.and_then(|digest| digests.insert(digest, case)) {
            same.push((earlier.as_str(), case.as_str()));
        }
    }
    assert_eq!(
        (&same[..], &different[..]),
        (&SAME_VALUES[..], &OTHER_VALUES[..])
    );
    assert!(cases.len() > 50, "{}", cases.len());
    assert!(encodings > 20, "{encodings} pairs of different types");
}

fn from_each_to(index: usize) {
    let Some(target) = require(KINDS[index]) else {
        return;
    };
    let target = Server::plain(&target);
    for kind in KINDS {
        let Some(source) = require(kind) else {
            return;
        };
        let source = Server::plain(&source);
        let set = DataSet {
            field_ttls: true,
            ..DataSet::new(KEYS, seed())
        };
        fill(&source, 0, &set);
        let dumped = dump_all(&source);
        assert!(dumped.len() > KEYS as usize / 2, "most keys live");
        check(&source, &dumped, &target);
    }
}

#[test]
fn values_of_every_server_are_the_same_on_redis_6_0() {
    from_each_to(0);
}

#[test]
fn values_of_every_server_are_the_same_on_redis_6_2() {
    from_each_to(1);
}

#[test]
fn values_of_every_server_are_the_same_on_redis_7_0() {
    from_each_to(2);
}

#[test]
fn values_of_every_server_are_the_same_on_redis_8_2() {
    from_each_to(3);
}

#[test]
fn values_of_every_server_are_the_same_on_valkey_8_1() {
    from_each_to(4);
}

#[test]
fn values_of_every_server_are_the_same_on_valkey_9_1() {
    from_each_to(5);
}
