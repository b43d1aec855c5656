//! What one reply, one command and one checksum cost.
//!
//! The data sets are named in `benches/README.md`; nothing here is random, so two runs do the same work.

use std::hint::black_box;

use bytes::{BufMut, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use redknot::rdb::footer;
use redknot::resp::{
    Decoder, ExpiryQuery, RestoreOptions, Token, encode_dump, encode_expiry, encode_restore_head,
    encode_restore_tail,
};

/// Replies are decoded by as many as fit one read of a socket.
const KEYS_PER_READ: usize = 100;

/// The payload of a string of 100 bytes: type, length, value, footer.
const SMALL_PAYLOAD_BYTES: usize = 112;

/// A bulk string of `len` bytes, none of them zero.
fn bulk(len: usize) -> BytesMut {
    let mut reply = BytesMut::from(format!("${len}\r\n").as_bytes());
    reply.put_bytes(b'x', len);
    reply.put_slice(b"\r\n");
    reply
}

/// Decodes all of `input` and returns how many tokens and payload bytes it held.
fn drain(decoder: &mut Decoder, input: &mut BytesMut) -> (usize, usize) {
    let (mut tokens, mut payload_bytes) = (0, 0);
    while let Some(token) = decoder.next(input).expect("the bench encodes RESP") {
        tokens += 1;
        if let Token::Bulk(bytes) = token {
            payload_bytes += black_box(bytes).len();
        }
    }
    (tokens, payload_bytes)
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");

    let mut replies = BytesMut::new();
    for _ in 0..KEYS_PER_READ {
        replies.extend_from_slice(&bulk(SMALL_PAYLOAD_BYTES));
        replies.put_slice(b":1767225600000\r\n");
    }
    group.throughput(Throughput::Elements(KEYS_PER_READ as u64));
    group.bench_function("dump_and_expiry_of_a_small_key", |b| {
        b.iter_batched(
            || BytesMut::from(&replies[..]),
            |mut input| {
                let drained = drain(&mut Decoder::new(), &mut input);
                assert_eq!(
                    drained,
                    (2 * KEYS_PER_READ, KEYS_PER_READ * SMALL_PAYLOAD_BYTES)
                );
                // Not measured: the buffer's release.
                input
            },
            BatchSize::SmallInput,
        );
    });

    let acknowledgements = b"+OK\r\n".repeat(KEYS_PER_READ);
    group.bench_function("acknowledgement_of_a_key", |b| {
        b.iter_batched(
            || BytesMut::from(&acknowledgements[..]),
            |mut input| {
                assert_eq!(drain(&mut Decoder::new(), &mut input), (KEYS_PER_READ, 0));
                input
            },
            BatchSize::SmallInput,
        );
    });

    let len = 64 << 20;
    let big = bulk(len);
    group.sample_size(10);
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function("64_mib_payload_in_one_piece", |b| {
        b.iter_batched(
            || big.clone(),
            |mut input| {
                assert_eq!(drain(&mut Decoder::new(), &mut input), (1, len));
                input
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("64_mib_payload_in_reads_of_4_kib", |b| {
        b.iter(|| {
            let mut decoder = Decoder::new();
            let mut input = BytesMut::new();
            let mut drained = (0, 0);
            for read in big.chunks(4096) {
                if decoder.bytes_wanted() > input.capacity() - input.len() {
                    input.reserve(decoder.bytes_wanted());
                }
                input.extend_from_slice(read);
                drained = drain(&mut decoder, &mut input);
            }
            assert_eq!(drained, (1, len));
        });
    });
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    let key = b"session:00001093";
    let payload = [b'x'; SMALL_PAYLOAD_BYTES];
    let mut out = BytesMut::with_capacity(64 * 1024);

    group.bench_function("dump_and_expiry_of_a_key", |b| {
        b.iter(|| {
            out.clear();
            encode_dump(&mut out, black_box(key));
            encode_expiry(&mut out, ExpiryQuery::PExpireTime, black_box(key));
            black_box(out.len())
        });
    });
    let options = RestoreOptions {
        replace: true,
        absttl: true,
    };
    group.bench_function("restore_of_a_small_key", |b| {
        b.iter(|| {
            out.clear();
            let payload = black_box(&payload);
            encode_restore_head(
                &mut out,
                black_box(key),
                black_box(1_767_225_600_000),
                payload.len(),
                options,
            );
            out.put_slice(payload);
            encode_restore_tail(&mut out, options);
            black_box(out.len())
        });
    });
    group.finish();
}

fn checksum(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc64");
    for (name, len) in [
        ("32_bytes", 32),
        ("112_bytes", SMALL_PAYLOAD_BYTES),
        ("1_kib", 1024),
        ("16_kib", 16 * 1024),
    ] {
        let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |b| b.iter(|| footer::crc64(black_box(&bytes))));
    }
    group.finish();
}

criterion_group!(benches, decode, encode, checksum);
criterion_main!(benches);
