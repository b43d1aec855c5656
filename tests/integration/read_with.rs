//! Strings by MGET: the same keys arrive as by DUMP, whatever is mixed, changed, refused or cut off meanwhile.

use std::time::Duration;

use ::redknot::progress::StringsBy;

use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Oracle;
use crate::support::proxy::{Cut, Proxy};
use crate::support::redknot::{Redknot, status};
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{
    Kind, REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1, require,
};
use crate::support::{seed, wait_for};

const NAME: &str = "read";

/// Sets `count` strings of `bytes` bytes each, which do not compress to nothing.
fn set_strings(server: &Server, prefix: &str, count: usize, bytes: usize) {
    let mut connection = server.connection();
    let mut random = seed() | 1;
    for number in 0..count {
        let value: Vec<u8> = (0..bytes)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        redis::cmd("SET")
            .arg(format!("{prefix}:{number}"))
            .arg(value)
            .exec(&mut connection)
            .unwrap();
    }
}

fn set_hashes(server: &Server, count: usize) {
    let mut pipe = redis::pipe();
    for number in 0..count {
        pipe.cmd("HSET")
            .arg(format!("hash:{number}"))
            .arg(&["field", "value"])
            .ignore();
    }
    pipe.exec(&mut server.connection()).unwrap();
}

/// How many keys `type` lists as strings.
fn strings_on(server: &Server) -> u64 {
    let mut connection = server.connection();
    let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    let mut pipe = redis::pipe();
    for name in &names {
        pipe.cmd("TYPE").arg(name);
    }
    let types: Vec<String> = pipe.query(&mut connection).unwrap();
    types.iter().filter(|kind| *kind == "string").count() as u64
}

#[test]
fn each_string_is_read_by_mget_and_every_other_key_by_dump() {
    for (from, to) in [(REDIS_7_0, REDIS_8_2), (REDIS_6_0, VALKEY_9_1)] {
        let (Some(from), Some(to)) = (require(from), require(to)) else {
            return;
        };
        let (source, target) = (Server::plain(&from), Server::plain(&to));
        fill(&source, 0, &DataSet::new(3_000, seed()));
        set_strings(&source, "text", 9_000, 100);
        let (keys, strings) = (source.keys(0), strings_on(&source));
        let state = tempfile::tempdir().unwrap();
        Redknot::migrate(&source.url(0), &target.url(0), state.path())
            .args(["--name", NAME])
            .run()
            .expect_code(0);
        let compared = Oracle::between(&source, &target).assert_equal();
        assert_eq!(compared as u64, keys);
        assert_eq!(source.calls("dump"), keys - strings);
        assert!(source.calls("mget") > 0);
        let status = status(NAME, state.path());
        assert_eq!(status.strings_by, Some(StringsBy::Mget));
        assert_eq!(status.counters.keys_written, keys);
    }
}

#[test]
fn with_dump_no_mget_is_asked() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let keys = fill(&source, 0, &DataSet::new(2_000, seed()));
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME, "--read-with", "dump"])
        .run()
        .expect_code(0);
    Oracle::between(&source, &target).assert_equal();
    assert_eq!((source.calls("mget"), source.calls("dump")), (0, keys));
    let status = status(NAME, state.path());
    assert_eq!(status.strings_by, Some(StringsBy::Dump));
}

/// It is a matter of speed: the same migration goes on with the other way.
#[test]
fn a_migration_may_be_continued_with_the_other_way_of_reading() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill(&source, 0, &DataSet::new(20_000, seed()));
    let state = tempfile::tempdir().unwrap();
    let migrate =
        || Redknot::migrate(&source.url(0), &target.url(0), state.path()).args(["--name", NAME]);
    let mut running = migrate().args(["--batch", "50"]).start();
    wait_for("keys on the target", Duration::from_secs(60), || {
        assert!(running.is_running(), "{}", running.stderr_so_far());
        (target.keys(0) > 1_000).then_some(())
    });
    assert!(running.kill_9().was_killed());
    migrate().args(["--read-with", "dump"]).run().expect_code(0);
    Oracle::between(&source, &target).assert_equal();
    assert_eq!(status(NAME, state.path()).passes.len(), 1);
}

/// The payload is made by us: what a string is to its server must be the same.
#[test]
fn strings_of_every_form_arrive_on_every_server() {
    let kinds = [
        REDIS_6_0, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_8_1, VALKEY_9_1,
    ];
    let make = |kind: Kind| require(kind).map(|binary| Server::plain(&binary));
    let Some(servers) = kinds.map(make).into_iter().collect::<Option<Vec<_>>>() else {
        return;
    };
    for source in [&servers[0], &servers[5]] {
        let mut connection = source.connection();
        let texts: [&[u8]; 8] = [
            b"",
            b"0",
            b"-9223372036854775808",
            b"007",
            b"\0\xff\r\n$-1\r\n",
            &[b'x'; 63],
            &[b'x'; 64],
            &[b'\xc3'; 16_384],
        ];
        for (number, text) in texts.into_iter().enumerate() {
            let key = format!("text:{number}");
            redis::cmd("SET")
                .arg(&key)
                .arg(text)
                .exec(&mut connection)
                .unwrap();
        }
        set_strings(source, "large", 3, 100_000);
        redis::cmd("SETBIT")
            .arg("bitmap")
            .arg(70_000)
            .arg(1)
            .exec(&mut connection)
            .unwrap();
        for element in 0..2_000 {
            redis::cmd("PFADD")
                .arg("hyperloglog")
                .arg(element)
                .exec(&mut connection)
                .unwrap();
        }
        for target in servers
            .iter()
            .filter(|target| target.port() != source.port())
        {
            redis::cmd("FLUSHALL")
                .exec(&mut target.connection())
                .unwrap();
            let state = tempfile::tempdir().unwrap();
            Redknot::migrate(&source.url(0), &target.url(0), state.path())
                .run()
                .expect_code(0);
            let keys = Oracle::between(source, target).assert_equal();
            assert_eq!(keys as u64, source.keys(0));
            assert_eq!(source.calls("dump"), 0);
            let encoding: String = redis::cmd("OBJECT")
                .arg(&["ENCODING", "text:2"])
                .query(&mut target.connection())
                .unwrap();
            assert_eq!(encoding, "int", "on {}", target.kind().name);
            let counted: u64 = redis::cmd("PFCOUNT")
                .arg("hyperloglog")
                .query(&mut target.connection())
                .unwrap();
            assert!((1_900..2_100).contains(&counted), "{counted}");
        }
    }
}

#[test]
fn where_hardly_any_key_is_a_string_mget_is_given_up() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_hashes(&source, 10_000);
    set_strings(&source, "text", 300, 20);
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .args(["--name", NAME])
        .run()
        .expect_code(0);
    Oracle::between(&source, &target).assert_equal();
    let (mget, dump) = (source.calls("mget"), source.calls("dump"));
    assert!((1..=10).contains(&mget), "{mget} MGETs");
    // All of them, where none of the few keys of the first MGET happened to be a string.
    assert!((10_000..=10_300).contains(&dump), "{dump} DUMPs");
    assert_eq!(status(NAME, state.path()).strings_by, Some(StringsBy::Dump));
}

#[test]
fn the_types_that_are_asked_for_decide_how_they_are_read() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let source = Server::plain(&redis);
    set_hashes(&source, 500);
    // So large that MGET pays whatever the first keys are.
    set_strings(&source, "text", 1_000, 1_000);
    let check = |types: &str, keys: u64, mget: bool, dump: u64| {
        let target = Server::plain(&redis);
        redis::cmd("CONFIG")
            .arg("RESETSTAT")
            .exec(&mut source.connection())
            .unwrap();
        let state = tempfile::tempdir().unwrap();
        Redknot::migrate(&source.url(0), &target.url(0), state.path())
            .args(["--type", types])
            .run()
            .expect_code(0);
        assert_eq!(target.keys(0), keys, "{types}");
        assert_eq!(source.calls("mget") > 0, mget, "{types}");
        assert_eq!(source.calls("dump"), dump, "{types}");
    };
    check("string", 1_000, true, 0);
    check("hash", 500, false, 500);
    check("string,list", 1_000, true, 500);
    check("hash,list", 500, false, 1_500);
}

/// Values of many times the expected size, among small ones, in one answer.
#[test]
fn large_strings_among_small_ones_stay_within_the_memory() {
    const LARGE: usize = 8 << 20;
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_strings(&source, "small", 5_000, 50);
    set_strings(&source, "large", 30, LARGE);
    let state = tempfile::tempdir().unwrap();
    let finished = Redknot::migrate(&source.url(0), &target.url(0), state.path())
        .run()
        .expect_code(0);
    let limit = (64 << 20) + 2 * LARGE as u64;
    assert!(
        finished.rss_max_bytes <= limit,
        "{} MiB of memory\n{finished}",
        finished.rss_max_bytes >> 20
    );
    assert_eq!(Oracle::between(&source, &target).assert_equal(), 5_030);
}

/// The server builds the whole answer in its memory and serves nobody else meanwhile.
#[test]
fn an_mget_asks_for_no_more_bytes_than_the_window_allows() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_strings(&source, "text", 1_500, 16 * 1024);
    let proxy = Proxy::start(source.port(), seed());
    proxy.record();
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&proxy.url(0), &target.url(0), state.path())
        .run()
        .expect_code(0);
    Oracle::between(&source, &target).assert_equal();
    let asked: Vec<usize> = proxy
        .commands()
        .iter()
        .filter(|seen| seen.name == "MGET")
        .map(|seen| seen.args.len())
        .collect();
    assert_eq!(asked.iter().sum::<usize>(), 1_500);
    assert!(asked.iter().all(|keys| *keys <= 32), "{asked:?}");
}

#[test]
fn a_user_without_mget_reads_by_dump_and_is_told_once() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let source =
        Server::start(ServerSpec::new(redis.clone()).user("reader", "on >pass ~* +@all -mget"));
    let target = Server::plain(&redis);
    let keys = fill(&source, 0, &DataSet::new(2_000, seed()));
    let state = tempfile::tempdir().unwrap();
    let url = source.url(0).replace("//", "//reader:pass@");
    let finished = Redknot::migrate(&url, &target.url(0), state.path())
        .args(["--name", NAME])
        .run()
        .expect_code(0);
    Oracle::between(&source, &target).assert_equal();
    let status = status(NAME, state.path());
    assert_eq!(status.counters.keys_written, keys);
    assert_eq!(status.strings_by, Some(StringsBy::Dump));
    assert_eq!(
        finished.stderr().matches("does not serve MGET").count(),
        1,
        "{finished}"
    );
    assert_eq!(status.retries, 0, "a refusal costs no connection");
}

/// One key of an MGET that the user may not read refuses all of it; the others must not suffer.
#[test]
fn keys_that_may_not_be_read_are_quarantined_alone() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let source =
        Server::start(ServerSpec::new(redis.clone()).user("reader", "on >pass ~open:* +@all"));
    let target = Server::plain(&redis);
    set_strings(&source, "open", 1_000, 50);
    set_strings(&source, "closed", 3, 50);
    let state = tempfile::tempdir().unwrap();
    let url = source.url(0).replace("//", "//reader:pass@");
    Redknot::migrate(&url, &target.url(0), state.path())
        .args(["--name", NAME])
        .run()
        .expect_code(1);
    let counters = status(NAME, state.path()).counters;
    assert_eq!(
        (counters.keys_written, counters.keys_quarantined),
        (1_000, 3)
    );
    assert_eq!(target.keys(0), 1_000);
}

#[test]
fn an_answer_that_is_cut_off_is_never_half_a_value() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    fill(&source, 0, &DataSet::new(2_000, seed()));
    set_strings(&source, "text", 6_000, 200);
    let proxy = Proxy::start(source.port(), seed());
    // Before anything, within the array's head, and after some of the values.
    let rules = [(2, 0), (6, 2), (10, 1_000), (14, 20_000)]
        .map(|(skip, bytes)| proxy.on("MGET").skip(skip).cut_in_reply(bytes, Cut::Reset));
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&proxy.url(0), &target.url(0), state.path())
        .args(["--name", NAME, "--batch", "200"])
        .run()
        .expect_code(0);
    for rule in rules {
        assert_eq!(proxy.fired(rule), 1);
    }
    let keys = Oracle::between(&source, &target).assert_equal();
    assert_eq!(keys as u64, source.keys(0));
    let status = status(NAME, state.path());
    assert!(status.retries >= 4 && status.counters.balance());
    assert_eq!(status.strings_by, Some(StringsBy::Mget));
}

/// Such a connection never carries a whole MGET of this size; key by key it gets somewhere.
#[test]
fn a_connection_that_breaks_in_every_large_answer_gets_to_the_end() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    set_strings(&source, "text", 200, 16 * 1024);
    let proxy = Proxy::start(source.port(), seed());
    proxy.replies().cut_each_after(150_000..250_000, Cut::Close);
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&proxy.url(0), &target.url(0), state.path())
        .args(["--name", NAME])
        .time_limit(Duration::from_secs(180))
        .run()
        .expect_code(0);
    assert_eq!(Oracle::between(&source, &target).assert_equal(), 200);
    assert!(status(NAME, state.path()).retries >= 10);
}

/// Between a value and its expiry anything may happen to the key: what arrives has the expiry that it has now, and at
/// worst an older value, which the next pass mends.
#[test]
fn a_key_that_changes_between_value_and_expiry_keeps_the_newer_expiry() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let (source, target) = (Server::plain(&redis), Server::plain(&redis));
    let run = |server: &Server, line: &str| {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        command.exec(&mut server.connection()).unwrap();
    };
    for line in [
        "SET persisted v PX 100000",
        "SET dying v",
        "SET deleted v",
        "SET replaced v PX 100000",
        "SET overwritten old PX 100000",
    ] {
        run(&source, line);
    }
    let proxy = Proxy::start(source.port(), seed());
    // The first is the question whether the server knows the command; from then on they follow the MGET.
    let rule = proxy.on("PEXPIRETIME").skip(1).hold();
    let state = tempfile::tempdir().unwrap();
    let running = Redknot::migrate(&proxy.url(0), &target.url(0), state.path())
        .args(["--name", NAME, "--on-conflict", "replace"])
        .start();
    wait_for("the MGET", Duration::from_secs(20), || {
        let held = proxy.fired(rule) == 1 && proxy.requests().is_stalled();
        (held && source.calls("mget") == 1).then_some(())
    });
    for line in [
        "PERSIST persisted",
        "PEXPIRE dying 100000",
        "DEL deleted",
        "DEL replaced",
        "HSET replaced f v",
        "SET overwritten new",
    ] {
        run(&source, line);
    }
    proxy.requests().flow();
    running.wait().expect_code(0);
    let mut connection = target.connection();
    let mut lives =
        |key: &str| -> i64 { redis::cmd("PTTL").arg(key).query(&mut connection).unwrap() };
    assert_eq!(
        lives("persisted"),
        -1,
        "it lost its expiry before it was asked"
    );
    assert!(lives("dying") > 0, "an expiry may never be missed");
    assert_eq!(lives("deleted"), -2);
    assert_eq!(lives("replaced"), -1);
    assert_eq!(lives("overwritten"), -1);
    let old: String = redis::cmd("GET")
        .arg("overwritten")
        .query(&mut target.connection())
        .unwrap();
    assert_eq!(old, "old", "it was read before it was overwritten");
    Redknot::migrate(&proxy.url(0), &target.url(0), state.path())
        .args(["--name", NAME, "--on-conflict", "replace", "--new-pass"])
        .run()
        .expect_code(0);
    Oracle::between(&source, &target).assert_equal();
}
