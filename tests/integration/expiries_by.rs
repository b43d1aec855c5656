//! Expiries where no key of the database has one: a number stands for all of them, and no expiry is lost by it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::redknot::progress::ExpiriesBy;

use crate::support::oracle::Oracle;
use crate::support::proxy::Proxy;
use crate::support::redknot::{Redknot, status};
use crate::support::seed;
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{
    Kind, REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1, require,
};

const NAME: &str = "expiries";
const STRINGS: u64 = 6_000;
const HASHES: u64 = 300;

/// Strings and a few hashes, all for ever.
fn fill_for_ever(server: &Server, db: u32) {
    let mut pipe = redis::pipe();
    for number in 0..STRINGS {
        pipe.set(format!("text:{number}"), format!("value {number}"))
            .ignore();
    }
    for number in 0..HASHES {
        pipe.cmd("HSET")
            .arg(format!("hash:{number}"))
            .arg(&["field", "value"])
            .ignore();
    }
    pipe.exec(&mut server.connection_to(db)).unwrap();
}

/// Questions for the expiry of one key.
fn asked_one_by_one(server: &Server) -> u64 {
    server.calls("pttl") + server.calls("pexpiretime")
}

#[test]
fn one_number_is_asked_for_in_place_of_all_expiries() {
    let kinds = [
        REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1,
    ];
    let check = |kind: Kind| {
        let Some(binary) = require(kind) else {
            return;
        };
        let (source, target) = (Server::plain(&binary), Server::plain(&binary));
        fill_for_ever(&source, 3);
        // What expires in another database does not count.
        redis::cmd("SET")
            .arg(&["elsewhere", "v", "EX", "1000"])
            .exec(&mut source.connection_to(0))
            .unwrap();
        let state = tempfile::tempdir().unwrap();
        Redknot::migrate(&source.url(3), &target.url(3), state.path())
            .args(["--name", NAME])
            .run()
            .expect_code(0);
        assert_eq!(target.keys(3), STRINGS + HASHES);
        let status = status(NAME, state.path());
        assert_eq!(status.expiries_by, Some(ExpiriesBy::Count), "{}", kind.name);
        assert!(source.calls("exec") > STRINGS / 256);
        // Those of the hashes, and of strings in groups that are too small for it.
        let asked = asked_one_by_one(&source);
        assert!(
            (HASHES..HASHES + 200).contains(&asked),
            "{asked} on {}",
            kind.name
        );
    };
    kinds.into_iter().for_each(check);
}

#[test]
fn a_single_key_with_an_expiry_has_all_of_them_asked() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill_for_ever(&source, 0);
    redis::cmd("PEXPIRE")
        .arg(&["text:77", "10000000"])
        .exec(&mut source.connection())
        .unwrap();
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME])
        .run()
        .expect_code(0);
    Oracle::between(&source, &target).assert_equal();
    let status = status(NAME, state.path());
    assert_eq!(status.expiries_by, Some(ExpiriesBy::Key));
    assert!(asked_one_by_one(&source) >= STRINGS + HASHES);
}

/// Keys that are given an expiry, and are gone a moment later, so that the number is 0 again: whoever reads such a key and
/// asks for the number later would take it for one that lives for ever.
#[test]
fn keys_that_come_and_go_never_become_permanent() {
    const AT_ONCE: u64 = 60;
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill_for_ever(&source, 0);
    let proxy = Proxy::start(target.port(), seed());
    proxy.record();
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut met, mut counted) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = source.connection();
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                let (mut set, mut delete) = (redis::pipe(), redis::pipe());
                for _ in 0..AT_ONCE {
                    let key = format!("volatile:{number}");
                    set.cmd("SET").arg(&key).arg("v").arg(&["EX", "1000"]);
                    delete.cmd("DEL").arg(&key);
                    number += 1;
                }
                set.exec(&mut connection).unwrap();
                std::thread::sleep(Duration::from_micros(number * 37 % 900));
                delete.exec(&mut connection).unwrap();
                std::thread::sleep(Duration::from_micros(number * 53 % 3_000));
            }
            made.store(number, Ordering::Relaxed);
        });
        // Whether such a key is met is chance, so scan until enough were.
        for _ in 0..150 {
            let before = source.calls("exec");
            let state = tempfile::tempdir().unwrap();
            Redknot::migrate(&source.url(0), &proxy.url(0), state.path())
                .args(["--name", NAME, "--on-conflict", "replace"])
                .run()
                .expect_code(0);
            // One is the look.
            counted += u64::from(source.calls("exec") > before + 1);
            met += status(NAME, state.path()).counters.keys_vanished;
            if met >= 200 && counted >= 20 {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let made = made.load(Ordering::Relaxed);
    assert!(met >= 200, "only {met} of {made} keys were met");
    assert!(counted >= 20, "the number was counted on in {counted} runs");
    let mut written = 0;
    for write in proxy.commands() {
        let for_ever = match write.name.as_str() {
            "RESTORE" => write.args[1] == b"0",
            "SET" => !write.args.iter().any(|word| word.starts_with(b"PX")),
            _ => continue,
        };
        if write.args[0].starts_with(b"volatile:") {
            written += 1;
            assert!(!for_ever, "{write:?}");
        }
    }
    eprintln!("{made} keys made, {met} vanished and {written} written, none for ever");
}

/// Expiries that are set in the middle, on keys that were there before and stay.
#[test]
fn keys_that_are_given_an_expiry_while_they_are_read_arrive_with_it() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill_for_ever(&source, 0);
    let state = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(source.port(), seed());
    // The first is the look, so the number is 0 and counted on; before a later one is executed all keys get an expiry.
    let rule = proxy.on("MULTI").skip(4).hold();
    let running = Redknot::migrate(&proxy.url(0), &target.url(0), state.path())
        .args(["--name", NAME])
        .start();
    crate::support::wait_for("the MULTI", Duration::from_secs(20), || {
        (proxy.fired(rule) == 1 && proxy.requests().is_stalled()).then_some(())
    });
    let reached = target.keys(0);
    let mut pipe = redis::pipe();
    for number in 0..STRINGS {
        pipe.cmd("PEXPIRE")
            .arg(format!("text:{number}"))
            .arg(100_000_000)
            .ignore();
    }
    pipe.exec(&mut source.connection()).unwrap();
    proxy.requests().flow();
    running.wait().expect_code(0);
    let status = status(NAME, state.path());
    assert_eq!(status.expiries_by, Some(ExpiriesBy::Key));
    let mut connection = target.connection();
    let mut lives = redis::pipe();
    for number in 0..STRINGS {
        lives.cmd("PTTL").arg(format!("text:{number}"));
    }
    let lives: Vec<i64> = lives.query(&mut connection).unwrap();
    let permanent = lives.iter().filter(|left| **left == -1).count() as u64;
    // Those that were read before; their answers may still have been on their way.
    assert!(
        permanent <= reached + 1_200 && permanent < STRINGS / 2,
        "{permanent} live for ever, {reached} had arrived"
    );
    assert!(lives.iter().all(|left| *left == -1 || *left > 0));
}

#[test]
fn where_transactions_may_not_be_used_every_key_is_asked() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    for rights in ["-multi", "-exec", "-info", "-dbsize"] {
        let spec = ServerSpec::new(redis.clone());
        let source = Server::start(spec.user("reader", &format!("on >pass ~* +@all {rights}")));
        let target = Server::plain(&redis);
        fill_for_ever(&source, 0);
        let state = tempfile::tempdir().unwrap();
        let url = source.url(0).replace("//", "//reader:pass@");
        let finished = Redknot::migrate(&url, &target.url(0), state.path())
            .args(["--name", NAME])
            .run();
        let finished = finished.expect_code(0);
        Oracle::between(&source, &target).assert_equal();
        let status = status(NAME, state.path());
        assert_eq!(status.expiries_by, Some(ExpiriesBy::Key), "{rights}");
        assert_eq!(status.retries, 0, "{rights}: {finished}");
    }
}
