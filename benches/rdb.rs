//! What walking one payload costs, for each way of encoding.
//!
//! The payloads are recorded ones (`tests/payloads`), or built of them; nothing here is random.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use redknot::rdb::decode::{Decoder, lzf_decompress};
use redknot::rdb::footer;
use redknot::rdb::visit::{
    Group, Idempotence, Kind, SlotValue, StreamId, StreamState, VectorElement, VectorSetState,
    Visitor,
};

/// A recorded payload of each encoding that matters.
const RECORDED: [(&str, &str); 20] = [
    ("redis-7.0", "string_text"),
    ("redis-7.0", "string_repetitive"),
    ("redis-7.0", "list_small"),
    ("redis-7.0", "list_nodes"),
    ("redis-6.2", "list_small"),
    ("redis-7.0", "set_intset16"),
    ("redis-8.2", "set_small"),
    ("redis-7.0", "set_table"),
    ("redis-7.0", "zset_small"),
    ("redis-6.2", "zset_small"),
    ("redis-7.0", "zset_table"),
    ("redis-7.0", "hash_small"),
    ("redis-6.2", "hash_small"),
    ("redis-7.0", "hash_table"),
    ("redis-7.0", "hash_compressed"),
    ("redis-8.2", "hash_expiring"),
    ("valkey-9.1", "hash_expiring"),
    ("redis-7.0", "stream_one"),
    ("redis-7.0", "stream_many"),
    ("redis-7.0", "stream_pending"),
];

/// Looks at everything that it is told, so that nothing is optimised away.
struct Looked(usize);

impl Looked {
    fn at(&mut self, bytes: &[u8]) {
        self.0 += black_box(bytes).len();
    }
}

impl Visitor for Looked {
    fn begin(&mut self, kind: Kind) {
        black_box(kind);
    }
    fn string(&mut self, bytes: &[u8]) {
        self.at(bytes);
    }
    fn element(&mut self, bytes: &[u8]) {
        self.at(bytes);
    }
    fn member(&mut self, bytes: &[u8]) {
        self.at(bytes);
    }
    fn scored(&mut self, member: &[u8], score: f64) {
        self.at(member);
        black_box(score);
    }
    fn field(&mut self, field: &[u8], value: &[u8], expires_ms: Option<i64>) {
        self.at(field);
        self.at(value);
        black_box(expires_ms);
    }
    fn entry(&mut self, id: StreamId, fields: &[&[u8]]) {
        black_box(id);
        fields.iter().for_each(|field| self.at(field));
    }
    fn stream(&mut self, stream: &StreamState) {
        black_box(stream);
    }
    fn group(&mut self, group: &Group) {
        black_box(group);
    }
    fn idempotence(&mut self, idempotence: &Idempotence) {
        black_box(idempotence);
    }
    fn array(&mut self, insert_index: Option<u64>) {
        black_box(insert_index);
    }
    fn slot(&mut self, index: u64, value: SlotValue<'_>) {
        black_box((index, value));
    }
    fn vector_set(&mut self, vector_set: &VectorSetState<'_>) {
        black_box(vector_set);
    }
    fn vector(&mut self, vector: &VectorElement<'_>) {
        black_box(vector);
    }
    fn module(&mut self, name: &str, version: u16, tokens: &[u8]) {
        self.at(tokens);
        black_box((name, version));
    }
}

fn recorded(server: &str, case: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/payloads")
        .join(server)
        .join(format!("{case}.payload"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn walk(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    let mut decoder = Decoder::new();
    for (server, case) in RECORDED {
        let payload = recorded(server, case);
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(format!("{server}/{case}"), |b| {
            b.iter(|| {
                let mut looked = Looked(0);
                let walked = decoder.walk(black_box(&payload), &mut looked);
                assert!(walked.is_ok());
                looked.0
            });
        });
    }
}

/// A table of many fields, as a large hash is dumped.
fn large(c: &mut Criterion) {
    let fields: u32 = 100_000;
    let mut payload = b"\x04\x80".to_vec();
    payload.extend(fields.to_be_bytes());
    for field in 0..fields {
        let name = format!("field:{field:08}");
        payload.push(name.len() as u8);
        payload.extend(name.as_bytes());
        payload.push(30);
        payload.extend([b'v'; 30]);
    }
    payload.extend(10u16.to_le_bytes());
    payload.extend(footer::crc64(&payload).to_le_bytes());

    let mut group = c.benchmark_group("walk");
    group.throughput(Throughput::Bytes(payload.len() as u64));
    let mut decoder = Decoder::new();
    group.bench_function("hash_of_100_000_fields", |b| {
        b.iter(|| {
            let mut looked = Looked(0);
            let walked = decoder.walk(black_box(&payload), &mut looked);
            assert!(walked.is_ok());
            looked.0
        });
    });
}

fn lzf(c: &mut Criterion) {
    let payload = recorded("redis-7.0", "string_repetitive");
    // Type, mark, two lengths of a byte and of two bytes; and the footer behind it.
    let compressed = &payload[2 + 1 + 2..payload.len() - 10];
    let len = 90 * "tag:same,".len() + "end".len();
    let mut output = Vec::new();
    let mut group = c.benchmark_group("lzf");
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function("decompress_repetitive", |b| {
        b.iter(|| lzf_decompress(black_box(compressed), len, &mut output).expect("it is LZF"));
    });
}

criterion_group!(benches, walk, large, lzf);
criterion_main!(benches);
