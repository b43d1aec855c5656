//! Keys of the sizes that hurt, and what another client of the source feels meanwhile. `make soak` runs it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

const MIB: u64 = 1 << 20;

/// Runs a script of the server's for ranges of `step` numbers up to `count`: what it makes need not be sent.
fn fill(server: &Server, count: usize, step: usize, script: &str) {
    let mut connection = server.connection();
    for first in (0..count).step_by(step) {
        let mut eval = redis::cmd("EVAL");
        eval.arg(script).arg(0).arg(first).arg(first + step - 1);
        eval.exec(&mut connection).unwrap();
    }
}

fn allow_long_strings(server: &Server) {
    let mut set = redis::cmd("CONFIG");
    set.arg(&["SET", "proto-max-bulk-len", "1073741824"]);
    set.exec(&mut server.connection()).unwrap();
}

/// What other clients wait for, from one PING a millisecond, each counted from when it was due.
fn pings(server: &Server, ended: &AtomicBool) -> Vec<Duration> {
    let mut connection = server.connection();
    let mut felt = Vec::new();
    let mut due = Instant::now();
    while !ended.load(Ordering::Acquire) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        redis::cmd("PING").exec(&mut connection).unwrap();
        felt.push(due.elapsed());
        due += Duration::from_millis(1);
    }
    felt.sort_unstable();
    felt
}

fn at(felt: &[Duration], share: f64) -> Duration {
    felt[((felt.len() - 1) as f64 * share) as usize]
}

#[test]
#[ignore = "minutes, and gigabytes of memory"]
fn the_largest_keys_arrive_while_others_are_served() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let each = "for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do ";
    fill(
        &source,
        1_000_000,
        10_000,
        &format!(
            "{each} redis.call('HSET', 'hash', 'field:' .. i, 'value of field number ' .. i) end"
        ),
    );
    fill(
        &source,
        1_000_000,
        10_000,
        &format!("{each} redis.call('ZADD', 'zset', i / 7, 'member:' .. i) end"),
    );
    fill(
        &source,
        2_000_000,
        20_000,
        &format!("{each} redis.call('RPUSH', 'list', 'element number ' .. i) end"),
    );
    fill(
        &source,
        500_000,
        10_000,
        &format!(
            "{each} redis.call('XADD', 'stream', (i + 1) .. '-0', 'n', i, 'kind', 'entry') end"
        ),
    );
    let mut connection = source.connection();
    for group in ["first", "second"] {
        let mut create = redis::cmd("XGROUP");
        create.arg(&["CREATE", "stream", group, "0"]);
        create.exec(&mut connection).unwrap();
        let mut read = redis::cmd("XREADGROUP");
        read.arg(&["GROUP", group, "reader", "COUNT", "1000"]);
        read.arg(&["STREAMS", "stream", ">"]);
        read.exec(&mut connection).unwrap();
    }
    [&source, &target].into_iter().for_each(allow_long_strings);
    for part in 0..60 {
        let mut set = redis::cmd("SETRANGE");
        set.arg("string").arg(part * 10 * MIB);
        set.arg(value(part as usize, 10 << 20));
        set.exec(&mut connection).unwrap();
    }
    for number in 0..1_000 {
        set_string(&source, &format!("small:{number}"), 100);
    }
    let (state, ended) = (tempfile::tempdir().unwrap(), AtomicBool::new(false));
    let (finished, felt, took) = std::thread::scope(|scope| {
        let felt = scope.spawn(|| pings(&source, &ended));
        let began = Instant::now();
        let finished = Redknot::migrate(&source.url(0), &target.url(0), state.path())
            .args(["--name", NAME])
            .time_limit(Duration::from_secs(900))
            .run();
        let took = began.elapsed();
        ended.store(true, Ordering::Release);
        (finished, felt.join().unwrap(), took)
    });
    let finished = finished.expect_code(0);
    let (half, p99, most) = (at(&felt, 0.5), at(&felt, 0.99), at(&felt, 1.0));
    eprintln!(
        "{took:.1?}, {} MiB of memory; PING on the source: median {half:?}, p99 {p99:?}, longest {most:?}, of {}",
        finished.rss_max_bytes / MIB,
        felt.len()
    );
    let counters = status(NAME, state.path()).counters;
    assert_eq!(counters.keys_in_pieces, 5, "{finished}");
    assert!(p99 <= Duration::from_millis(20), "{p99:?}");
    assert!(finished.rss_max_bytes <= 66 * MIB, "{finished}");
    let compare = compare(NAME, state.path()).time_limit(Duration::from_secs(900));
    Compared::of(compare.run().expect_code(0)).assert_equal(1_005);
    assert_eq!(temporary_names(&target), Vec::<String>::new());
}
