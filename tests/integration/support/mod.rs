//! What tests, crash tests and benches share. Other binaries take it in through `#[path]`.

#![allow(
    dead_code,
    reason = "each binary that takes this in uses another part of it"
)]
#![allow(
    clippy::print_stderr,
    reason = "seeds, skips and logs are said where cargo shows them when a test fails"
)]

/// Authorities and certificates, good and bad.
pub mod certificates;
/// A browser without a window, to look at pages.
pub mod chromium;
/// Real clusters: masters and their replicas, resharded and failed over while a test runs.
pub mod cluster;
/// `compare`, `repair` and `keys`: command lines and what they print.
pub mod comparing;
/// What `--json` prints, held against its contract.
pub mod contract;
/// Seeded damage to single elements of keys, and what must be found of it.
pub mod corrupt;
/// Seeded keys of every type, encoding and TTL shape.
pub mod dataset;
/// Are two servers equal? Answered by the `redis` crate and typed reads, never by code under test.
pub mod oracle;
/// A TCP proxy that cuts, delays, flips, or answers instead of the server.
pub mod proxy;
/// The real binary: its command lines, its end, its memory.
pub mod redknot;
/// Whether secrets lie around in files or outputs.
pub mod secrets;
/// Masters that sentinels watch, with their replicas, failed over while a test runs.
pub mod sentinel;
/// Real servers on free ports.
pub mod server;
/// Named versions of servers, and where they are.
pub mod version;

use std::time::{Duration, Instant};

/// How often a repeated test repeats: `base` times, or `REDKNOT_REPEAT` times as often (`make soak`).
pub fn repetitions(base: u32) -> u32 {
    base * number_from_env("REDKNOT_REPEAT").map_or(1, |factor| factor as u32)
}

/// The seed of a test's random decisions: `REDKNOT_SEED`, else one from the clock. Always printed, and cargo shows it
/// when the test fails.
pub fn seed() -> u64 {
    let seed = number_from_env("REDKNOT_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.expect("the clock stands after 1970")
            .subsec_nanos()
            .into()
    });
    eprintln!("seed: REDKNOT_SEED={seed}");
    seed
}

fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, it is {text:?}")),
    )
}

/// Polls `condition` until it gives a value. Panics with what was `awaited` when the deadline passes: there is no
/// sleeping and hoping in tests.
pub fn wait_for<T>(
    awaited: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            began.elapsed() < deadline,
            "waited {deadline:?} in vain for {awaited}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}
