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

/// What other clients of these servers wait for while something is done, and how long that takes.
fn while_pinging<const N: usize, T>(
    servers: [&Server; N],
    work: impl FnOnce() -> T,
) -> (T, [Vec<Duration>; N], Duration) {
    let ended = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let felt = servers.map(|server| scope.spawn(move || pings(server, ended)));
        let began = Instant::now();
        let done = work();
        let took = began.elapsed();
        ended.store(true, Ordering::Release);
        (done, felt.map(|felt| felt.join().unwrap()), took)
    })
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
    let state = tempfile::tempdir().unwrap();
    let migrate = Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME])
        .time_limit(Duration::from_secs(900));
    let (finished, [felt], took) = while_pinging([&source], || migrate.run());
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
    let dumped = [source.calls("dump"), target.calls("dump")];
    let compare = compare(NAME, state.path()).time_limit(Duration::from_secs(900));
    let (compared, felt, took) = while_pinging([&source, &target], || compare.run());
    let compared = Compared::of(compared.expect_code(0));
    compared.assert_equal(1_005);
    for (felt, side) in felt.iter().zip(["source", "target"]) {
        let (half, p99, most) = (at(felt, 0.5), at(felt, 0.99), at(felt, 1.0));
        eprintln!(
            "compared in {took:.1?}, {} MiB of memory; PING on the {side}: median {half:?}, p99 {p99:?}, longest {most:?}, of {}",
            compared.finished.rss_max_bytes / MIB,
            felt.len()
        );
        assert!(p99 <= Duration::from_millis(20), "{side}: {p99:?}");
    }
    assert!(
        compared.finished.rss_max_bytes <= 66 * MIB,
        "{}",
        compared.finished
    );
    assert_eq!(
        [source.calls("dump"), target.calls("dump")],
        dumped,
        "a big key was dumped"
    );
    assert_eq!(temporary_names(&target), Vec::<String>::new());
}
