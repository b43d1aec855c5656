//! What other clients feel beside a guarded copy or comparison, measured from outside.
//!
//! A machine that does other things meanwhile is no place for it: `make soak`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::redknot::progress::HeldBy;

use super::{Pair, throttle};
use crate::support::comparing;
use crate::support::redknot::{Redknot, status_file, wait_for_status};
use crate::support::server::Server;
use crate::support::version::{REDIS_7_0, require};
use crate::support::wait_for;

/// Another client of a server: what its PINGs take, one every millisecond.
struct Neighbour {
    stop: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<Duration>>>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    fn of(server: &Server) -> Self {
        let (stop, taken) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let mut connection = server.connection();
        let (stopped, list) = (Arc::clone(&stop), Arc::clone(&taken));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                redis::cmd("PING").query::<()>(&mut connection).unwrap();
                list.lock().unwrap().push(began.elapsed());
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self {
            stop,
            taken,
            thread: Some(thread),
        }
    }

    /// What 99 of 100 of those since the last look stayed below, in milliseconds.
    fn p99_ms(&self) -> f64 {
        let mut taken = std::mem::take(&mut *self.taken.lock().unwrap());
        assert!(taken.len() > 100, "only {} PINGs", taken.len());
        taken.sort_unstable();
        taken[taken.len() * 99 / 100].as_secs_f64() * 1000.0
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
#[ignore = "a busy machine is not quiet enough to be measured: make soak"]
fn a_guard_keeps_what_other_clients_of_the_source_feel_below_its_limit() {
    let Some(pair) = Pair::new(0, 1) else { return };
    // A DUMP of one of these takes some milliseconds, and sixteen are asked for at once.
    fill_with_hashes(&pair.source, 240, 10_000);
    let neighbour = Neighbour::of(&pair.source);
    std::thread::sleep(Duration::from_secs(1));
    let alone = neighbour.p99_ms();

    pair.migrate().run().expect_code(0);
    let unguarded = neighbour.p99_ms();

    let binary = require(REDIS_7_0).unwrap();
    let target = Server::plain(&binary);
    let mut running = Redknot::migrate(&pair.source.url(0), &target.url(0), pair.state.path())
        .args(["--name", "guarded", "--max-latency", "20ms"])
        .start();
    let state = pair.state.path();
    let held = wait_for(
        "something to be taken back",
        Duration::from_secs(30),
        || {
            assert!(running.is_running(), "{}", running.stderr_so_far());
            let status = status_file("guarded", state)?;
            let throttle = status.throttle.as_deref();
            throttle
                .is_some_and(|why| why.starts_with("the source's latency, which may be "))
                .then_some(status)
        },
    );
    assert_eq!(held.limits.latency_us, Some(20_000));
    // What was asked before that does not count.
    std::thread::sleep(Duration::from_millis(200));
    neighbour.p99_ms();
    let before = target.keys(0);
    std::thread::sleep(Duration::from_secs(1));
    let (guarded, after) = (neighbour.p99_ms(), target.keys(0));
    eprintln!(
        "PING p99: {alone:.1} ms alone, {unguarded:.1} ms beside a copy, {guarded:.1} ms beside a guarded one of {} keys/s",
        after - before
    );
    assert!(after > before, "the copy goes on");
    assert!(guarded < unguarded / 2.0, "{guarded} of {unguarded} ms");
    let finished = running.wait().expect_code(0);
    eprintln!("guarded in {:?}", finished.wall);
    assert_eq!(target.keys(0), 240);
}

/// Hashes of so many fields.
fn fill_with_hashes(server: &Server, hashes: u64, fields: u64) {
    redis::cmd("EVAL")
        .arg(
            "for i = 1, ARGV[1] do for f = 1, ARGV[2], 20 do local t = {} for j = f, f + 19 do \
             t[#t + 1] = 'field:' .. j t[#t + 1] = 'v' .. j end redis.call('HSET', 'h' .. i, unpack(t)) end end",
        )
        .arg((0, hashes, fields))
        .query::<()>(&mut server.connection())
        .unwrap();
}

#[test]
#[ignore = "a busy machine is not quiet enough to be measured: make soak"]
fn a_guarded_comparison_spares_the_other_clients_of_both_sides() {
    let Some(pair) = Pair::new(0, 1) else { return };
    // Of these, hundreds are asked for at once.
    fill_with_hashes(&pair.source, 60_000, 120);
    pair.migrate().run().expect_code(0);
    let sides = [&pair.source, &pair.target];
    let neighbours = sides.map(Neighbour::of);
    let felt = || neighbours.each_ref().map(Neighbour::p99_ms);
    let compare = |flags: &[&str]| comparing::compare("m", pair.state.path()).args(flags);
    std::thread::sleep(Duration::from_secs(1));
    let alone = felt();
    compare(&[]).run().expect_code(0);
    let unguarded = felt();
    let mut running = compare(&["--max-latency", "20ms"]).start();
    let status = wait_for_status(
        "m",
        pair.state.path(),
        "something to be taken back",
        |status| {
            let throttle = status.throttle.as_deref();
            throttle.is_some_and(|why| why.contains("'s latency, which may be "))
        },
    );
    assert_eq!(status.throttled_by, Some(HeldBy::Latency));
    // What was asked before that does not count.
    std::thread::sleep(Duration::from_millis(200));
    felt();
    let before = pair.source.calls("dump");
    std::thread::sleep(Duration::from_secs(2));
    let guarded = felt();
    let read = pair.source.calls("dump") - before;
    assert!(running.is_running(), "{}", running.stderr_so_far());
    eprintln!(
        "PING p99 in ms on both sides: {alone:.1?} alone, {unguarded:.1?} beside a comparison, {guarded:.1?} beside a guarded \
         one that has read {read} keys"
    );
    assert!(read > 0, "the comparison goes on");
    for (guarded, unguarded) in guarded.into_iter().zip(unguarded) {
        assert!(guarded < unguarded, "{guarded} of {unguarded} ms");
    }
    let free = throttle(&pair, &["--max-latency", "none"]);
    free.run().expect_code(0);
    running.wait().expect_code(0);
}

/// Another client with a steady load: so many GETs in one go, every so often, whether the last ones were answered late or
/// not. What counts is the time from when they were due until the last of them is answered.
struct SteadyLoad {
    stop: Arc<AtomicBool>,
    taken: Arc<Mutex<Vec<Duration>>>,
    thread: Option<JoinHandle<()>>,
}

impl SteadyLoad {
    const EVERY: Duration = Duration::from_millis(10);
    const GETS: usize = 400;

    /// Reads keys of those that [`Pair::new`] has made.
    fn of(server: &Server) -> Self {
        let (stop, taken) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let mut connection = server.connection();
        let (stopped, list) = (Arc::clone(&stop), Arc::clone(&taken));
        let thread = std::thread::spawn(move || {
            let mut gets = redis::pipe();
            for key in 0..Self::GETS {
                gets.cmd("GET").arg(format!("key:{}", key * 7)).ignore();
            }
            let mut due = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                due += Self::EVERY;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                gets.query::<()>(&mut connection).unwrap();
                list.lock().unwrap().push(due.elapsed());
            }
        });
        Self {
            stop,
            taken,
            thread: Some(thread),
        }
    }

    /// What 99 of 100 of the next ones stay below, in milliseconds.
    fn p99_ms(&self, over: Duration) -> f64 {
        self.taken.lock().unwrap().clear();
        std::thread::sleep(over);
        let mut taken = std::mem::take(&mut *self.taken.lock().unwrap());
        taken.sort_unstable();
        taken[taken.len() * 99 / 100].as_secs_f64() * 1000.0
    }
}

impl Drop for SteadyLoad {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The source has a processor of its own, and the client with the load goes before the others, as if each were on a machine
/// of its own. Takes the right to say so (CAP_SYS_NICE).
fn keep_apart(source: &Server, others: [u32; 2]) {
    let change = |command: &str, args: &[&str]| {
        let mut command = std::process::Command::new(command);
        let done = command.args(args).output().unwrap();
        assert!(done.status.success(), "{command:?}: {done:?}");
    };
    let load = std::process::id();
    change("taskset", &["-apc", "0", &source.pid().to_string()]);
    for pid in others.iter().chain([&load]) {
        change("taskset", &["-apc", "1", &pid.to_string()]);
    }
    // What it starts afterwards is as everybody else.
    change("chrt", &["-R", "-a", "-f", "-p", "10", &load.to_string()]);
}

#[test]
#[ignore = "a busy machine is not quiet enough to be measured: make soak"]
fn a_guard_keeps_a_steady_load_close_to_what_it_has_alone() {
    let Some(pair) = Pair::new(1_000_000, 100) else {
        return;
    };
    let load = SteadyLoad::of(&pair.source);
    let over = Duration::from_secs(6);
    let mut ratios = Vec::new();
    for round in 0..5 {
        let copy = |flags: &[&str]| {
            let target = Server::plain(&require(REDIS_7_0).unwrap());
            let state = tempfile::tempdir().unwrap();
            let running = Redknot::migrate(&pair.source.url(0), &target.url(0), state.path())
                .args(["--name", "m"])
                .args(flags)
                .start();
            keep_apart(&pair.source, [target.pid(), running.pid()]);
            (target, state, running)
        };
        let (target, _state, running) = copy(&[]);
        wait_for("the first keys", Duration::from_secs(20), || {
            (target.keys(0) > 0).then_some(())
        });
        let unguarded = load.p99_ms(Duration::from_millis(1500));
        running.kill_9();
        let before = load.p99_ms(over);
        let (target, _state, running) = copy(&["--max-latency", "5ms"]);
        // It is measured alone for two seconds, and finds its pressure.
        std::thread::sleep(Duration::from_secs(5));
        let keys = target.keys(0);
        let guarded = load.p99_ms(over);
        let per_s = (target.keys(0) - keys) as f64 / over.as_secs_f64();
        running.kill_9();
        let after = load.p99_ms(over);
        let alone = (before + after) / 2.0;
        eprintln!(
            "round {round}: p99 {before:.2} and {after:.2} ms alone, {guarded:.2} ms guarded at {per_s:.0} keys/s, \
             {unguarded:.2} ms unguarded"
        );
        assert!(per_s > 0.0, "the copy goes on");
        ratios.push(guarded / alone);
    }
    ratios.sort_by(f64::total_cmp);
    eprintln!("guarded against alone: {ratios:.2?}");
    assert!(ratios[2] <= 1.2, "{ratios:?}");
}
