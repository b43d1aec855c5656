//! What a target can't take at once, what is not probed, and what the limits of a copy are for big keys.

use super::*;
use crate::support::oracle::Oracle;

fn limit_bulks(target: &Server, bytes: u64) {
    let mut set = redis::cmd("CONFIG");
    set.arg(&["SET", "proto-max-bulk-len"]).arg(bytes);
    set.exec(&mut target.connection()).unwrap();
}

/// The payload is too long for the target: it goes in pieces, whatever is called big. A string of that length can't be there.
#[test]
fn above_the_targets_longest_argument_a_key_goes_in_pieces() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_list(&source, "list", 15_000);
    set_string(&source, "string", 3 << 19);
    set_string(&source, "small", 10);
    limit_bulks(&target, 1 << 20);
    let state = tempfile::tempdir().unwrap();
    let finished = Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME])
        .run()
        .expect_code(1);
    assert!(
        finished.stderr().contains("proto-max-bulk-len"),
        "{finished}"
    );
    let counters = status(NAME, state.path()).counters;
    assert_eq!((counters.keys_written, counters.keys_in_pieces), (2, 1));
    assert_eq!(counters.keys_quarantined, 1);
    redis::cmd("DEL")
        .arg("string")
        .exec(&mut source.connection())
        .unwrap();
    assert_eq!(Oracle::between(&source, &target).assert_equal(), 2);
    assert_eq!(temporary_names(&target), Vec::<String>::new());
}

/// A string that nobody expected is not held: it is counted as it comes, and read again in pieces.
#[test]
fn an_unexpected_string_is_not_held_in_memory() {
    const LARGE: usize = 100 << 20;
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_string(&source, "large", LARGE);
    set_string(&source, "small", 10);
    for how in ["auto", "dump"] {
        let state = tempfile::tempdir().unwrap();
        let finished = Redknot::migrate(&source.url(0), &target.url(0), state.path())
            .args(["--name", NAME, "--read-with", how])
            .args(["--on-conflict", "replace"])
            .run()
            .expect_code(0);
        assert_eq!(
            status(NAME, state.path()).counters.keys_in_pieces,
            1,
            "{how}"
        );
        assert!(
            finished.rss_max_bytes < 66 << 20,
            "{how}: {} MiB of memory",
            finished.rss_max_bytes >> 20
        );
    }
    assert_eq!(Oracle::between(&source, &target).assert_equal(), 2);
}

#[test]
fn a_big_key_keeps_to_the_bandwidth() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    // About 4 MiB.
    set_list(&source, "list", 40_000);
    let state = tempfile::tempdir().unwrap();
    let began = std::time::Instant::now();
    migrate(&source, &target, state.path())
        .args(["--bandwidth", "2MiB/s"])
        .run()
        .expect_code(0);
    let took = began.elapsed().as_secs_f64();
    let bytes = status(NAME, state.path()).counters.payload_bytes_written;
    let wanted = bytes as f64 / f64::from(2 << 20);
    assert!(
        took > 0.9 * wanted && took < 1.3 * wanted + 1.0,
        "{took} s for {wanted}"
    );
    assert_arrived(&target, state.path(), 1);
}

/// How far it is stands in the status.
#[test]
fn the_status_says_which_big_key_is_copied_and_how_far_it_is() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_hash(&source, "the-big-one", 30_000);
    let state = tempfile::tempdir().unwrap();
    let running = migrate(&source, &target, state.path())
        .args(["--bandwidth", "1MiB/s"])
        .start();
    let found = crate::support::redknot::wait_for_status(
        NAME,
        state.path(),
        "a big key that is copied",
        |status| status.big_key.is_some(),
    );
    let big = found.big_key.unwrap();
    assert_eq!((big.key.as_str(), big.readings), ("the-big-one", 1));
    assert!(big.bytes > 3 << 20 && big.percent <= 100.0, "{big:?}");
    let shown = Redknot::new(["status", NAME, "--state-dir"])
        .arg(state.path())
        .run()
        .stdout();
    assert!(shown.contains("big key the-big-one: "), "{shown}");
    running.wait().expect_code(0);
}
