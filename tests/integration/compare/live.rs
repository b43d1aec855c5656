use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{NAME, Pair};
use crate::support::comparing::{Compared, assert_findings, status_json};
use crate::support::dataset::DataSet;
use crate::support::server::Server;
use crate::support::version::{REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_9_1};
use crate::support::{seed, wait_for};

const WRITES_PER_S: u32 = 1_000;

/// Writes to one server, or the same to several, one after the other, until it is told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
    began: Instant,
}

impl Writer {
    fn begin(servers: &[&Server], seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut connections: Vec<redis::Connection> =
            servers.iter().map(|server| server.connection()).collect();
        let mut names: Vec<Vec<u8>> = redis::cmd("KEYS")
            .arg("*")
            .query(&mut connections[0])
            .unwrap();
        names.sort();
        let mut random = StdRng::seed_from_u64(seed);
        let began = Instant::now();
        let thread = std::thread::spawn(move || {
            let mut writes = 0;
            while !stopped.load(Ordering::Relaxed) {
                let write = write(&mut random, &names, writes);
                for connection in &mut connections {
                    write.exec(connection).unwrap();
                }
                writes += 1;
                let due = began + Duration::from_secs(1) / WRITES_PER_S * writes;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            writes
        });
        Self {
            stop,
            thread,
            began,
        }
    }

    /// Stops it. It was as fast as was promised, or nearly so on a busy machine.
    fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let writes = self.thread.join().unwrap();
        let rate = f64::from(writes) / self.began.elapsed().as_secs_f64();
        eprintln!("{writes} writes, {rate:.0} a second");
        assert!(
            rate > f64::from(WRITES_PER_S) / 2.0,
            "{rate:.0} writes a second"
        );
        writes
    }
}

/// A transaction that changes one key: whatever it was, it is something else now. The same on every server.
fn write(random: &mut StdRng, names: &[Vec<u8>], nth: u32) -> redis::Pipeline {
    const FAR_MS: u64 = 33_000_000_000_000;
    let old = &names[random.random_range(0..names.len())];
    let hot =
        |kind: &str, random: &mut StdRng| format!("hot:{kind}:{}", random.random_range(0..50));
    let mut pipe = redis::pipe();
    pipe.atomic();
    match random.random_range(0..10) {
        0 => pipe.cmd("SET").arg(old).arg(nth),
        1 => pipe.cmd("DEL").arg(old),
        2 => pipe
            .cmd("DEL")
            .arg(old)
            .cmd("RPUSH")
            .arg(old)
            .arg(&["a", "b"])
            .arg(nth),
        3 => pipe.cmd("PEXPIREAT").arg(old).arg(FAR_MS + u64::from(nth)),
        4 => pipe.cmd("PERSIST").arg(old),
        5 => pipe
            .cmd("HSET")
            .arg(hot("hash", random))
            .arg(nth % 100)
            .arg(nth),
        6 => pipe
            .cmd("ZADD")
            .arg(hot("zset", random))
            .arg(nth)
            .arg(nth % 100),
        7 => {
            let key = hot("stream", random);
            let id = format!("{}-1", nth + 1);
            pipe.cmd("XADD")
                .arg(&key)
                .arg("MAXLEN")
                .arg(100)
                .arg(id)
                .arg("f")
                .arg(nth)
        }
        8 => pipe.cmd("INCR").arg(hot("count", random)),
        _ => pipe.cmd("SET").arg(format!("new:{nth}")).arg(nth),
    }
    .ignore();
    pipe
}

#[test]
fn a_writer_on_the_source_leaves_no_false_finding_when_it_stops() {
    let seed = seed();
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(20_000, seed)) else {
        return;
    };
    let writer = Writer::begin(&[&pair.source], seed);
    // The target follows.
    for round in 0..3 {
        let compared = Compared::of(pair.compare_settling("200ms").run());
        assert!(
            compared.findings() > 0,
            "round {round}: nothing was written"
        );
        let repaired = pair.repair().arg("--apply").run();
        assert!(matches!(repaired.code(), Some(0 | 1)), "{repaired}");
    }
    let writes = writer.end();
    assert!(writes > 1_000);
    // What is found now is what really differs, and all of it.
    let wanted = pair.differences();
    assert!(!wanted.is_empty());
    pair.compared(1);
    assert_findings(&pair.findings(), &wanted, &[]);
    pair.repair().arg("--apply").run();
    let extras = pair.compare().run();
    let extras = Compared::of(extras).count("extra").to_string();
    pair.repair()
        .args(["--apply", "--delete-extra", "--yes", &extras])
        .run()
        .expect_code(0);
    pair.oracle().assert_equal();
    pair.compared(0);
}

/// An application that writes to both: no key is the same on both sides at every moment, and none stays different.
#[test]
fn a_writer_on_both_sides_is_never_a_finding() {
    let seed = seed();
    for (from, to) in [(REDIS_7_0, REDIS_7_0), (REDIS_6_2, VALKEY_9_1)] {
        let Some(pair) = Pair::migrated(from, to, &DataSet::new(20_000, seed)) else {
            continue;
        };
        let writer = Writer::begin(&[&pair.source, &pair.target], seed);
        for _ in 0..3 {
            let finished = pair.compare_settling("1s").run();
            Compared::of(finished.expect_code(0));
        }
        writer.end();
        pair.oracle().assert_equal();
        pair.compared(0).assert_equal(pair.source.keys(0));
    }
}

/// A key that differs all the time, each time in another way, is not judged.
#[test]
fn a_key_that_never_stands_still_is_undecided() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(1_000, seed())) else {
        return;
    };
    let stop = Arc::new(AtomicBool::new(false));
    let restless = {
        let (stop, mut connection) = (Arc::clone(&stop), pair.source.connection());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                redis::cmd("INCR")
                    .arg("restless")
                    .exec(&mut connection)
                    .unwrap();
            }
        })
    };
    redis::cmd("SET")
        .arg("restless")
        .arg(-1)
        .exec(&mut pair.target.connection())
        .unwrap();
    let finished = pair.compare_settling("100ms").run();
    stop.store(true, Ordering::Relaxed);
    restless.join().unwrap();
    let compared = Compared::of(finished.expect_code(1));
    assert_eq!(compared.count("undecided"), 1, "{}", compared.finished);
    assert_eq!(compared.findings(), 1);
    assert_eq!(
        pair.findings(),
        [(b"restless".to_vec(), "undecided")].into()
    );
    // It stands still now, and differs.
    pair.compared(1);
    assert_eq!(pair.findings(), [(b"restless".to_vec(), "value")].into());
}

/// A target that follows late is equal in the end.
#[test]
fn what_becomes_equal_while_it_settles_is_no_finding() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(1_000, seed())) else {
        return;
    };
    let set = |server: &Server, value: &str| {
        let mut pipe = redis::pipe();
        for number in 0..10 {
            pipe.cmd("SET")
                .arg(format!("late:{number}"))
                .arg(value)
                .ignore();
        }
        pipe.exec(&mut server.connection()).unwrap();
    };
    set(&pair.source, "new");
    set(&pair.target, "old");
    let mut running = pair.compare_settling("2s").start();
    wait_for(
        "ten keys that differ at first",
        Duration::from_secs(30),
        || {
            assert!(running.is_running(), "{}", running.stdout_so_far());
            let status = status_json(NAME, pair.state.path());
            (status["compare"]["counters"]["candidates"] == 10).then_some(())
        },
    );
    set(&pair.target, "new");
    let compared = Compared::of(running.wait().expect_code(0));
    compared.assert_equal(1_010);
    assert_eq!(compared.count("settled"), 10);
}

#[test]
fn keys_that_expire_meanwhile_are_no_findings() {
    for (from, to) in [(REDIS_7_0, REDIS_7_0), (REDIS_6_2, REDIS_7_0)] {
        let seed = seed();
        let Some(pair) = Pair::empty(from, to) else {
            continue;
        };
        crate::support::dataset::fill(&pair.source, 0, &DataSet::new(5_000, seed));
        let mut random = StdRng::seed_from_u64(seed);
        let mut pipe = redis::pipe();
        const DYING: u64 = 20_000;
        for number in 0..DYING {
            pipe.cmd("SET")
                .arg(format!("dying:{number}"))
                .arg("v")
                .arg("PX")
                .arg(random.random_range(2_500..7_000))
                .ignore();
        }
        pipe.exec(&mut pair.source.connection()).unwrap();
        let all = pair.source.keys(0);
        pair.migrate();
        let mut met = 0;
        while pair.source.keys(0) > 5_000 {
            let before = pair.source.keys(0);
            Compared::of(pair.compare_settling("1s").run().expect_code(0));
            met += before - pair.source.keys(0);
        }
        assert!(
            met > DYING / 4,
            "only {met} of {all} keys expired while they were compared"
        );
        pair.compared(0).assert_equal(5_000);
    }
}

/// Payloads hold fields that have expired and have not been removed yet: what matters is whether they are still there.
#[test]
fn fields_that_expire_meanwhile_are_no_findings() {
    for (from, to) in [
        (REDIS_8_2, REDIS_8_2),
        (VALKEY_9_1, VALKEY_9_1),
        (REDIS_8_2, VALKEY_9_1),
    ] {
        let Some(pair) = Pair::migrated(from, to, &DataSet::new(1_000, seed())) else {
            continue;
        };
        const HASHES: u32 = 200;
        let now_ms: Vec<i64> = redis::cmd("TIME")
            .query(&mut pair.source.connection())
            .unwrap();
        let now_ms = now_ms[0] * 1_000 + now_ms[1] / 1_000;
        for server in [&pair.source, &pair.target] {
            let mut pipe = redis::pipe();
            for hash in 0..HASHES {
                let key = format!("fading:{hash}");
                pipe.cmd("HSET").arg(&key).arg("stays").arg("v");
                // Some are tables.
                let fields = if hash % 4 == 0 { 200 } else { 20 };
                for field in 0..fields {
                    pipe.arg(field).arg("v");
                }
                pipe.ignore();
                for field in 0..fields {
                    let at = now_ms + 500 + i64::from(hash % 40 + field) * 25;
                    pipe.cmd("HPEXPIREAT")
                        .arg(&key)
                        .arg(at)
                        .arg("FIELDS")
                        .arg(1)
                        .arg(field)
                        .ignore();
                }
            }
            pipe.exec(&mut server.connection()).unwrap();
        }
        let fields = |server: &Server| -> u64 {
            let mut pipe = redis::pipe();
            for hash in 0..HASHES {
                pipe.cmd("HLEN").arg(format!("fading:{hash}"));
            }
            let lengths: Vec<u64> = pipe.query(&mut server.connection()).unwrap();
            lengths.iter().sum()
        };
        let all = fields(&pair.source);
        let mut compared_while_some_were_left = 0;
        while fields(&pair.source) > u64::from(HASHES) {
            Compared::of(pair.compare_settling("1s").run().expect_code(0));
            compared_while_some_were_left += 1;
        }
        assert!(
            compared_while_some_were_left > 1,
            "{all} fields were gone too soon"
        );
        pair.compared(0).assert_equal(1_000 + u64::from(HASHES));
    }
}

/// What a server still holds though its time has come is not there.
#[test]
fn keys_that_expired_unnoticed_on_one_side_are_no_findings() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(1_000, seed())) else {
        return;
    };
    redis::cmd("DEBUG")
        .arg("SET-ACTIVE-EXPIRE")
        .arg(0)
        .exec(&mut pair.target.connection())
        .unwrap();
    let mut pipe = redis::pipe();
    for number in 0..500 {
        pipe.cmd("SET")
            .arg(format!("expired:{number}"))
            .arg("v")
            .arg("PX")
            .arg(1)
            .ignore();
    }
    pipe.exec(&mut pair.target.connection()).unwrap();
    assert_eq!(pair.target.keys(0), 1_500, "they are still in the table");
    pair.compared(0).assert_equal(1_000);
}
