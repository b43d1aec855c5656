//! Big keys are compared in pieces on both sides: the verdicts are those of all other keys, and nothing is dumped.

use super::*;
use crate::support::comparing::findings;
use crate::support::proxy::{Cut, Proxy, RuleId};
use crate::support::seed;
use crate::support::wait_for;

/// How long something may take that is bound to happen.
const SOON: Duration = Duration::from_secs(60);

fn comparison(state: &std::path::Path) -> Redknot {
    comparison_from(BIG, state)
}

/// Keys are big from this size on. Nobody writes, so there is nothing to wait for.
fn comparison_from(big: &str, state: &std::path::Path) -> Redknot {
    compare(NAME, state).args([
        "--big-key",
        big,
        "--max-memory",
        "1MiB",
        "--settle",
        "50ms",
        "--timeout",
        "60s",
    ])
}

fn dumps(servers: [&Server; 2]) -> u64 {
    servers.map(|server| server.calls("dump")).iter().sum()
}

fn run(server: &Server, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.exec(&mut server.connection()).unwrap();
}

/// A source with a hash, and a target to which it was copied, each behind a proxy.
struct Pair {
    source: Server,
    target: Server,
    proxies: [Proxy; 2],
    state: tempfile::TempDir,
}

impl Pair {
    fn with_a_hash() -> Option<Self> {
        let redis = require(REDIS_7_0)?;
        let (source, target) = (Server::plain(&redis), Server::plain(&redis));
        set_hash(&source, "hash", 10_000);
        let proxies = [&source, &target].map(|server| Proxy::start(server.port(), seed()));
        let urls = proxies.each_ref().map(|proxy| proxy.url(0));
        let state = tempfile::tempdir().unwrap();
        let migrate = Redknot::migrate(&urls[0], &urls[1], state.path());
        let migrated = migrate.args(["--name", NAME, "--big-key", BIG]).run();
        migrated.expect_code(0);
        Some(Self {
            source,
            target,
            proxies,
            state,
        })
    }

    fn comparison(&self) -> Redknot {
        comparison(self.state.path())
    }

    fn dumps(&self) -> u64 {
        dumps([&self.source, &self.target])
    }

    /// Waits until the source's reading is held, changes the field on both sides, and lets it go on.
    fn change_while_it_is_held(&self, held: RuleId, times: u64, value: &str) {
        let [proxy, _] = &self.proxies;
        wait_for("a reading that is held", SOON, || {
            (proxy.fired(held) == times && proxy.requests().is_stalled()).then_some(())
        });
        for server in [&self.source, &self.target] {
            run(server, &["HSET", "hash", "f1", value]);
        }
        proxy.requests().flow();
    }
}

#[test]
fn big_keys_of_all_types_are_equal_in_pieces_as_they_are_whole() {
    for (from, to) in [
        (REDIS_7_0, REDIS_8_2),
        (REDIS_8_2, REDIS_6_2),
        (REDIS_6_0, VALKEY_9_1),
        (VALKEY_8_1, REDIS_7_0),
    ] {
        let (Some(from), Some(to)) = (require(from), require(to)) else {
            return;
        };
        let (source, target) = (Server::plain(&from), Server::plain(&to));
        set_hash(&source, "hash", 5_000);
        set_list(&source, "{tag}list", 5_000);
        set_set(&source, "set}", 20_000);
        set_zset(&source, "zset", 10_000);
        set_stream(&source, "stream", 20_000);
        // Larger than what may be held: it is met only when it comes.
        set_string(&source, "string", 3 << 20);
        set_string(&source, "small", 100);
        expire_at(&source, "hash", now_ms() + 3_600_000);
        let state = tempfile::tempdir().unwrap();
        migrate(&source, &target, state.path()).run().expect_code(0);
        let before = dumps([&source, &target]);
        let pieces = Compared::of(comparison(state.path()).run().expect_code(0));
        pieces.assert_equal(7);
        assert_eq!(
            dumps([&source, &target]),
            before,
            "{from:?} {to:?}: a big key was dumped\n{}",
            pieces.finished
        );
        let whole = comparison_from("never", state.path());
        let whole = Compared::of(whole.run().expect_code(0));
        assert_eq!(pieces.digests(), whole.digests(), "{from:?} {to:?}");
        assert!(dumps([&source, &target]) > before);
    }
}

/// One element of each is another one.
#[test]
fn each_kind_of_damage_to_a_big_key_is_found_without_a_dump() {
    let Some(redis) = require(REDIS_8_2) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let damages: [(&str, &str, &[&str]); 16] = [
        (
            "hash:field",
            "value",
            &["HSET", "hash:field", "f4711", "other"],
        ),
        ("hash:less", "value", &["HDEL", "hash:less", "f0"]),
        ("hash:more", "value", &["HSET", "hash:more", "more", ""]),
        (
            "hash:expiry",
            "value",
            &[
                "HPEXPIREAT",
                "hash:expiry",
                "33000000000000",
                "FIELDS",
                "1",
                "f9",
            ],
        ),
        (
            "list:order",
            "value",
            &["LMOVE", "list:order", "list:order", "LEFT", "RIGHT"],
        ),
        (
            "list:element",
            "value",
            &["LSET", "list:element", "4999", "other"],
        ),
        ("set:less", "value", &["SREM", "set:less", "member-77"]),
        ("set:other", "value", &["SADD", "set:other", "member-20000"]),
        (
            "zset:score",
            "value",
            &["ZADD", "zset:score", "1.0000000001", "member-7"],
        ),
        (
            "string:byte",
            "value",
            &["SETRANGE", "string:byte", "3145727", "\u{1}"],
        ),
        (
            "stream:pending",
            "value",
            &["XACK", "stream:pending", "readers", "5-1"],
        ),
        ("stream:entry", "value", &["XDEL", "stream:entry", "17-1"]),
        ("stream:id", "value", &["XSETID", "stream:id", "99999-9"]),
        (
            "key:expiry",
            "ttl",
            &["PEXPIREAT", "key:expiry", "33000000000000"],
        ),
        ("key:type", "type", &["SET", "key:type", "a string"]),
        ("key:gone", "missing", &["DEL", "key:gone"]),
    ];
    for (key, ..) in damages {
        match key.split(':').next().unwrap() {
            "list" => set_list(&source, key, 5_000),
            "set" => set_set(&source, key, 20_000),
            "zset" => set_zset(&source, key, 10_000),
            "stream" => set_stream(&source, key, 5_000),
            "string" => set_string(&source, key, 3 << 20),
            _ => set_hash(&source, key, 5_000),
        }
    }
    set_hash(&source, "equal", 5_000);
    let state = tempfile::tempdir().unwrap();
    migrate(&source, &target, state.path()).run().expect_code(0);
    // Taken away on the source, with the last of the members that one set has more: both sides count the same.
    run(&source, &["SADD", "set:other", "member-20001"]);
    for (_, _, damage) in damages {
        run(&target, damage);
    }
    set_hash(&target, "key:more", 5_000);
    let before = dumps([&source, &target]);
    let compared = Compared::of(comparison(state.path()).run().expect_code(1));
    assert_eq!(dumps([&source, &target]), before, "{}", compared.finished);
    let mut wanted: crate::support::comparing::Findings = damages
        .iter()
        .map(|(key, verdict, _)| (key.as_bytes().to_vec(), *verdict))
        .collect();
    wanted.insert(b"key:more".to_vec(), "extra");
    assert_eq!(findings(NAME, state.path()), wanted);
    assert_eq!(compared.count("equal"), 1);
    let listed = crate::support::comparing::listed(NAME, "findings", state.path());
    let less = listed.iter().find(|one| one.key == b"hash:less").unwrap();
    assert!(
        less.detail
            .contains("5000 fields on source, 4999 on target"),
        "{}",
        less.detail
    );
}

/// The key changes on both sides while it is read: it is read again, and equal.
#[test]
fn a_key_that_changes_once_while_it_is_read_is_read_again() {
    let Some(pair) = Pair::with_a_hash() else {
        return;
    };
    let (before, watched) = (pair.dumps(), pair.source.calls("watch"));
    let held = pair.proxies[0].on("HSCAN").key(b"hash").skip(3).hold();
    let running = pair.comparison().start();
    pair.change_while_it_is_held(held, 1, "changed on both sides");
    let compared = Compared::of(running.wait().expect_code(0));
    compared.assert_equal(1);
    assert_eq!(compared.count("settled"), 0, "it was never a suspect");
    assert_eq!(pair.dumps(), before);
    assert_eq!(pair.source.calls("watch"), watched + 2);
}

/// It changes each time that it is read: at last one DUMP of each side shows it at one moment.
#[test]
fn a_key_that_changes_each_time_is_dumped_at_last() {
    let Some(pair) = Pair::with_a_hash() else {
        return;
    };
    let before = pair.dumps();
    // Each reading ends with it.
    let held = pair.proxies[0].on("EXEC").times(5).hold();
    let running = pair.comparison().start();
    for nth in 1..=5 {
        pair.change_while_it_is_held(held, nth, &format!("change {nth}"));
    }
    let compared = Compared::of(running.wait().expect_code(0));
    compared.assert_equal(1);
    let said = compared.finished.stdout();
    assert!(said.contains("changed each of the 5 times"), "{said}");
    assert_eq!(pair.dumps(), before + 2);
}

/// Both connections are lost in the middle of the key, each once.
#[test]
fn a_connection_that_is_lost_in_the_middle_of_a_key_costs_a_reading() {
    let Some(pair) = Pair::with_a_hash() else {
        return;
    };
    let before = pair.dumps();
    for (proxy, commands) in pair.proxies.iter().zip([5, 15]) {
        let cut = proxy.on("HSCAN").key(b"hash").skip(commands);
        let cut = cut.cut_before(Cut::Reset);
        Compared::of(pair.comparison().run().expect_code(0)).assert_equal(1);
        assert_eq!(proxy.fired(cut), 1);
    }
    assert_eq!(pair.dumps(), before);
}

#[test]
fn a_comparison_that_is_killed_at_a_big_key_goes_on() {
    let Some(pair) = Pair::with_a_hash() else {
        return;
    };
    set_list(&pair.source, "list", 5_000);
    run(&pair.target, &["HDEL", "hash", "f7"]);
    let before = pair.dumps();
    for point in ["big_key_read", "big_key_compared"] {
        for nth in ["", "1*off->"] {
            let failpoint = format!("{point}={nth}return");
            let killed = pair.comparison().env("FAILPOINTS", failpoint).run();
            assert!(killed.was_killed(), "{killed}");
        }
    }
    let compared = Compared::of(pair.comparison().run().expect_code(1));
    assert_eq!(compared.findings(), 2);
    let wanted = [(b"hash".to_vec(), "value"), (b"list".to_vec(), "missing")];
    assert_eq!(findings(NAME, pair.state.path()), wanted.into());
    assert_eq!(pair.dumps(), before);
}

/// What only DUMP can show is dumped, and that is said.
#[test]
fn what_cant_be_read_in_pieces_is_dumped() {
    let Some(redis) = require(REDIS_8_2) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let mut pipe = redis::pipe();
    for element in 0..2_000 {
        pipe.cmd("VADD").arg(&["vectors", "VALUES", "16"]);
        for part in 0..16 {
            pipe.arg((element * 31 + part * 17) % 101);
        }
        pipe.arg(element).arg("NOQUANT").ignore();
    }
    if pipe.exec(&mut source.connection()).is_err() {
        eprintln!("skipped: this server has no vector sets");
        return;
    }
    let state = tempfile::tempdir().unwrap();
    migrate(&source, &target, state.path()).run().expect_code(0);
    let before = dumps([&source, &target]);
    let compared = Compared::of(comparison(state.path()).run().expect_code(0));
    compared.assert_equal(1);
    let said = format!(
        "{}{}",
        compared.finished.stdout(),
        compared.finished.stderr()
    );
    assert!(said.contains("can't be read in pieces"), "{said}");
    assert_eq!(dumps([&source, &target]), before + 2);
}

/// A server that does not know a command repeats its arguments in the error, and these are no text.
#[test]
fn a_hash_whose_name_is_no_text_is_copied_and_compared_in_pieces() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    for part in 0..20 {
        let mut set = redis::cmd("HSET");
        set.arg(b"\xff\xfe{\x80}\r\n");
        for field in 0..100 {
            set.arg(part * 100 + field).arg(value(field, 100));
        }
        set.exec(&mut source.connection()).unwrap();
    }
    let state = tempfile::tempdir().unwrap();
    migrate(&source, &target, state.path())
        .time_limit(SOON)
        .run()
        .expect_code(0);
    assert_eq!(status(NAME, state.path()).counters.keys_in_pieces, 1);
    let compared = comparison(state.path()).time_limit(SOON).run();
    Compared::of(compared.expect_code(0)).assert_equal(1);
    assert_eq!(dumps([&source, &target]), 0);
}
