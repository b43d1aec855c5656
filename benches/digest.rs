//! What one digest costs, of strings and of payloads, and what to encode one anew costs.
//!
//! The payloads are recorded ones (`tests/payloads`); nothing here is random.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use redknot::digest::{DigestRules, Digester, KeyspaceDigest, StreamLevel, of_string};
use redknot::rdb::dialect::Dialect;
use redknot::rdb::encode::{Reencoded, Rules, reencode, restamp};

const RECORDED: [(&str, &str); 15] = [
    ("redis-7.0", "string_text"),
    ("redis-7.0", "list_small"),
    ("redis-7.0", "list_nodes"),
    ("redis-7.0", "set_intset16"),
    ("redis-8.2", "set_small"),
    ("redis-7.0", "set_table"),
    ("redis-7.0", "zset_small"),
    ("redis-7.0", "zset_table"),
    ("redis-7.0", "hash_small"),
    ("redis-7.0", "hash_many"),
    ("redis-7.0", "hash_table"),
    ("redis-8.2", "hash_expiring"),
    ("redis-7.0", "stream_one"),
    ("redis-7.0", "stream_many"),
    ("redis-7.0", "stream_pending"),
];

const RULES: DigestRules = DigestRules {
    field_expiries: true,
    now_ms: 0,
    stream_level: StreamLevel::Unowned,
};

fn recorded(server: &str, name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/payloads")
        .join(server)
        .join(format!("{name}.payload"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn strings(c: &mut Criterion) {
    let mut group = c.benchmark_group("digest_of_string");
    for bytes in [16, 100, 1024, 64 * 1024] {
        let value = vec![b'x'; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(bytes.to_string(), |b| {
            b.iter(|| of_string(black_box(&value)))
        });
    }
    group.finish();

    let mut keyspace = KeyspaceDigest::default();
    let value = of_string(b"value");
    c.bench_function("key_into_keyspace", |b| {
        b.iter(|| keyspace.add(black_box(b"user:12345:profile"), black_box(&value)));
    });
    assert!(keyspace.keys() > 0);
}

fn payloads(c: &mut Criterion) {
    let mut group = c.benchmark_group("digest_of_payload");
    let mut digester = Digester::new(RULES);
    for (server, name) in RECORDED {
        let payload = recorded(server, name);
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(format!("{server}/{name}"), |b| {
            b.iter(|| {
                digester
                    .of_payload(black_box(&payload))
                    .expect("it is whole")
            });
        });
    }
    group.finish();
}

/// For a target of Redis 6.2, which knows none of these encodings but strings; for one that knows expiring fields, 9.1.
fn reencoded(c: &mut Criterion) {
    let mut group = c.benchmark_group("reencode");
    let old = Dialect::of_accepted(6..=9).expect("not empty");
    let valkey = Dialect::of_accepted((6..=11).chain([80])).expect("not empty");
    for (server, name) in RECORDED {
        let payload = recorded(server, name);
        let rules = Rules {
            dialect: if name == "hash_expiring" { valkey } else { old },
            drop_field_expiry: None,
            bytes_max: 1 << 29,
        };
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(format!("{server}/{name}"), |b| {
            b.iter(|| match reencode(black_box(&payload), &rules) {
                Ok(Reencoded::Payload(payload)) => payload,
                other => panic!("{name}: {other:?}"),
            });
        });
    }
    group.finish();

    let payload = recorded("redis-7.0", "hash_small");
    c.bench_function("restamp/redis-7.0/hash_small", |b| {
        b.iter(|| restamp(black_box(&payload), 9));
    });
}

criterion_group!(benches, strings, payloads, reencoded);
criterion_main!(benches);
