//! What durability costs: commits per second with and without fsync, and how long a long migration's state takes to open.
//!
//! Beside criterion's times, it prints what criterion can't see: CPU and disk space.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that can't go on has failed, and its numbers are its purpose"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use redknot::plan::{LanePlan, Plan};
use redknot::progress::{Arrived, Counters, Makeup};
use redknot::state::record::ServerIdentity;
use redknot::state::{AcknowledgedBatch, Commit, Durability, OpenRequest, Store, open};

/// Batches of one commit, as a fast migration has them.
const GROUP: u64 = 4;

/// Keys of one batch.
const KEYS: u64 = 500;

/// Batches of the state that is opened: fifty million keys.
fn long_migration() -> u64 {
    match is_test() {
        true => 1_000,
        false => 100_000,
    }
}

/// Whether this is `cargo test`: everything runs once and small. `cargo bench` says that it is one.
fn is_test() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    group.throughput(Throughput::Elements(GROUP));
    for (name, durability) in [("fsync", Durability::Fsync), ("none", Durability::None)] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = begin(folder.path(), durability);
        group.bench_function(name, |bencher| {
            bencher.iter(|| commit_group(&mut store, GROUP));
        });
        let (began, cpu) = (Instant::now(), cpu_time());
        let commits = if is_test() { 5 } else { 2_000 };
        (0..commits).for_each(|_| commit_group(&mut store, GROUP));
        println!(
            "commit/{name}: {:?} and {:?} of CPU a commit of {GROUP} batches, over {commits} commits",
            began.elapsed() / commits,
            (cpu_time() - cpu) / commits
        );
    }
}

fn open_long(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = begin(folder.path(), Durability::None);
    while store.lanes()[0].next_seq < long_migration() {
        commit_group(&mut store, GROUP);
    }
    let chain = store.lanes()[0].chain;
    store.end_run("stopped").unwrap();
    drop(store);
    println!(
        "open: {} batches of {KEYS} keys take {} KiB on disk, last chain hash {:02x}{:02x}…",
        long_migration(),
        disk_bytes(folder.path()) / 1024,
        chain[0],
        chain[1],
    );
    let mut group = criterion.benchmark_group("open");
    group.sample_size(10);
    group.bench_function(format!("{} batches", long_migration()), |bencher| {
        bencher.iter_custom(|times| {
            let mut total = Duration::ZERO;
            for _ in 0..times {
                let began = Instant::now();
                let store = open_in(folder.path(), Durability::Fsync);
                total += began.elapsed();
                assert_eq!(store.lanes()[0].chain, chain);
            }
            total
        });
    });
}

fn begin(state_dir: &Path, durability: Durability) -> Store {
    let mut store = open_in(state_dir, durability);
    let server = ServerIdentity {
        run_id: Some("8867557519e1aabbccddeeff00112233445566aa".into()),
        version: "redis 7.0.15".into(),
    };
    let next = store.lanes()[0].next_pass(server.clone(), server);
    store.begin_pass(0, next, "first pass").unwrap();
    store
}

fn open_in(state_dir: &Path, durability: Durability) -> Store {
    let plan = Plan {
        source: "cache.prod:6379".into(),
        target: "10.0.0.9:6379".into(),
        lanes: vec![LanePlan {
            source_db: 0,
            target_db: 0,
        }],
        ..Plan::default()
    };
    open(&OpenRequest {
        state_dir,
        name: "bench",
        plan: &plan,
        restart: false,
        durability,
        command: "bench",
    })
    .unwrap()
}

fn commit_group(store: &mut Store, batches: u64) {
    let first = store.lanes()[0].next_seq;
    let batches = (first..first + batches)
        .map(|seq| AcknowledgedBatch {
            run: 1,
            cursor_in: cursor(seq),
            cursor_out: cursor(seq + 1),
            count: KEYS as u32,
            keyspace: Some(50_000_000),
            counters: Counters {
                keys_scanned: KEYS,
                keys_written: KEYS - 2,
                keys_vanished: 2,
                payload_bytes_written: 1_234_567,
                ..Counters::default()
            },
            makeup: Box::new(Makeup::of(Arrived::UNSEEN, KEYS - 2)),
            keys_digest: *blake3::hash(&seq.to_le_bytes()).as_bytes(),
            scanned_ms: 1_700_000_000_000 + 3 * seq,
            acknowledged_ms: 1_700_000_000_005 + 3 * seq,
            canary_keys: (0..64)
                .map(|n| format!("user:{:08}:profile", seq * KEYS + n).into_bytes())
                .collect(),
            quarantined: vec![],
            recorded: None,
        })
        .collect();
    store.commit(&Commit { lane: 0, batches }).unwrap();
}

/// Cursors that are as incompressible as real ones.
fn cursor(seq: u64) -> u64 {
    match seq {
        0 => 0,
        seq => seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
    }
}

fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => disk_bytes(&entry.path()),
            false => entry.metadata().unwrap().blocks() * 512,
        })
        .sum()
}

/// CPU time of this process, all threads, in user and in kernel mode; in steps of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.map(|ticks| 10 * ticks.parse::<u64>().unwrap()).sum())
}

criterion_group!(benches, commit, open_long);
criterion_main!(benches);
