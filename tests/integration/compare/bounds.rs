use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{NAME, Pair};
use crate::support::comparing::{Compared, keys, listed};
use crate::support::dataset::{BIG_STRING_BYTES, DataSet, fill};
use crate::support::redknot::Finished;
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::REDIS_7_0;

const MIB: u64 = 1 << 20;

/// 64 MiB + 2 x the largest payload, and a page or two.
fn assert_bounded(finished: &Finished, payload: u64) {
    let limit = 64 * MIB + 2 * payload + MIB;
    assert!(
        finished.rss_max_bytes <= limit,
        "{} MiB of memory, {} are allowed\n{finished}",
        finished.rss_max_bytes / MIB,
        limit / MIB
    );
}

#[test]
fn strings_of_64_mib_are_compared_in_bounded_memory() {
    let Some(pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    let set = DataSet {
        big_string: true,
        ..DataSet::new(2_000, seed())
    };
    fill(&pair.source, 0, &set);
    let mut source = pair.source.connection();
    for copy in 0..3 {
        redis::cmd("COPY")
            .arg("big:64MiB")
            .arg(format!("big:{copy}"))
            .exec(&mut source)
            .unwrap();
    }
    pair.migrate();
    let compared = pair.compared(0);
    compared.assert_equal(2_004);
    assert_bounded(&compared.finished, BIG_STRING_BYTES as u64);
    // One bit of one of them.
    redis::cmd("SETRANGE")
        .arg("big:1")
        .arg(BIG_STRING_BYTES - 1)
        .arg("\0")
        .exec(&mut pair.target.connection())
        .unwrap();
    let compared = pair.compared(1);
    assert_bounded(&compared.finished, BIG_STRING_BYTES as u64);
    assert_eq!(pair.findings(), [(b"big:1".to_vec(), "value")].into());
    let repaired = pair.repair().arg("--apply").run().expect_code(0);
    assert_bounded(&repaired, BIG_STRING_BYTES as u64);
    pair.compared(0);
}

/// A table is never dumped in the same order on both sides, so it has to be understood, element by element.
#[test]
fn a_hash_of_100_mib_is_compared_in_bounded_memory() {
    let Some(pair) = Pair::empty(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    fill(&pair.source, 0, &DataSet::new(1_000, seed()));
    let mut source = pair.source.connection();
    let mut random = StdRng::seed_from_u64(seed());
    for part in 0..500 {
        let mut fields = redis::cmd("HSET");
        fields.arg("big:hash");
        for field in 0..1_000 {
            let mut value = [0_u8; 200];
            random.fill(&mut value);
            fields
                .arg(format!("field:{}", part * 1_000 + field))
                .arg(value.as_slice());
        }
        fields.exec(&mut source).unwrap();
    }
    let payload: Vec<u8> = redis::cmd("DUMP")
        .arg("big:hash")
        .query(&mut source)
        .unwrap();
    let payload = payload.len() as u64;
    assert!(payload > 90 * MIB, "{} MiB", payload / MIB);
    pair.migrate();
    let compared = pair.compared(0);
    compared.assert_equal(1_001);
    assert!(compared.count("equal_other_bytes") > 0);
    assert_bounded(&compared.finished, payload);
    redis::cmd("HSET")
        .arg("big:hash")
        .arg("field:4711")
        .arg("other")
        .exec(&mut pair.target.connection())
        .unwrap();
    let compared = pair.compared(1);
    assert_bounded(&compared.finished, payload);
    assert_eq!(pair.findings(), [(b"big:hash".to_vec(), "value")].into());
}

/// Promises P7 and P8: the source is only read, and a comparison writes nowhere.
#[test]
fn a_comparison_only_reads() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(3_000, seed())) else {
        return;
    };
    redis::cmd("DEL")
        .arg("user:0:profile")
        .exec(&mut pair.target.connection())
        .unwrap();
    let changes = |server: &Server| {
        let info = server.info("persistence");
        info["rdb_changes_since_last_save"].clone()
    };
    for server in [&pair.source, &pair.target] {
        redis::cmd("CONFIG")
            .arg("RESETSTAT")
            .exec(&mut server.connection())
            .unwrap();
    }
    let before = (changes(&pair.source), changes(&pair.target));
    pair.compared(1);
    assert_eq!((changes(&pair.source), changes(&pair.target)), before);
    let allowed = [
        "auth",
        "client|id",
        "client|kill",
        "client|no-touch",
        "client|setinfo",
        "client|setname",
        "config|get",
        "config|resetstat",
        "dbsize",
        "dump",
        "exists",
        "get",
        "hello",
        "info",
        // Of a sample, to see whether there is room for big keys.
        "memory|usage",
        "mget",
        "pexpiretime",
        "ping",
        "pttl",
        "role",
        "scan",
        "select",
        "strlen",
        "time",
        "type",
    ];
    for (server, side) in [(&pair.source, "source"), (&pair.target, "target")] {
        for (field, line) in server.info("commandstats") {
            let Some(command) = field.strip_prefix("cmdstat_") else {
                continue;
            };
            // The handshake learns what the target reads from a RESTORE that is refused.
            let is_probe = command == "restore"
                && side == "target"
                && line.contains("failed_calls=1")
                && line.starts_with("calls=1,");
            assert!(
                allowed.contains(&command) || is_probe,
                "the {side} was sent {command}: {line}"
            );
        }
    }
    assert_eq!(pair.source.calls("restore"), 0);
}

/// No byte of a key reaches a terminal, and none is lost to a program.
#[test]
fn names_are_printed_escaped_and_listed_exactly() {
    // Without the key that has no name.
    let set = DataSet {
        prefix: "equal:".to_owned(),
        ..DataSet::new(10, seed())
    };
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &set) else {
        return;
    };
    let names: [&[u8]; 8] = [
        b"",
        b"nul\0in",
        b"line\r\nbreak",
        b"\x1b[2J\x1b]0;title\x07",
        b"\xff\xfe\x80",
        "ключ\u{202e}".as_bytes(),
        b"tab\tand \"quotes\" and \\",
        b"-option",
    ];
    let mut pipe = redis::pipe();
    for name in names {
        pipe.cmd("SET").arg(name).arg("v").ignore();
    }
    pipe.exec(&mut pair.source.connection()).unwrap();
    let compared = pair.compared(1);
    assert_eq!(compared.count("missing"), 8);
    let shown = crate::support::redknot::Redknot::new(["compare", NAME, "--state-dir"])
        .arg(pair.state.path())
        .run()
        .expect_code(1);
    let list = keys(NAME, "missing", pair.state.path())
        .run()
        .expect_code(0);
    let shown_by_repair = pair.repair().run();
    for (what, finished) in [
        ("compare", &shown),
        ("compare --json", &compared.finished),
        ("keys", &list),
        ("repair", &shown_by_repair),
    ] {
        for output in [finished.stdout(), finished.stderr()] {
            let raw = output
                .chars()
                .find(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || *c == '\u{202e}');
            assert_eq!(raw, None, "{what}\n{finished}");
        }
    }
    assert_eq!(list.stdout().lines().count(), 8, "{list}");
    let mut wanted: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
    wanted.sort();
    let mut as_json: Vec<Vec<u8>> = listed(NAME, "missing", pair.state.path())
        .into_iter()
        .map(|one| one.key)
        .collect();
    as_json.sort();
    assert_eq!(as_json, wanted);
    let raw = keys(NAME, "missing", pair.state.path())
        .arg("-0")
        .run()
        .expect_code(0);
    let raw = raw.stdout.strip_suffix(b"\0").expect("a NUL at the end");
    // A name with a NUL in it can't be told from two by this form.
    let mut parts: Vec<&[u8]> = raw.split(|byte| *byte == 0).collect();
    let mut wanted: Vec<&[u8]> = names
        .iter()
        .flat_map(|name| name.split(|byte| *byte == 0))
        .collect();
    parts.sort();
    wanted.sort();
    assert_eq!(parts, wanted);
}

/// Promise P9, and P5 for comparisons: what is said is in the accounts, in the report and in the status.
#[test]
fn every_key_is_in_the_accounts() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(5_000, seed())) else {
        return;
    };
    // A table that shrinks while it is scanned returns names twice; filters and samples leave names out.
    let half: Vec<Vec<u8>> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut pair.source.connection())
        .unwrap();
    for server in [&pair.source, &pair.target] {
        redis::cmd("DEL")
            .arg(&half[..4_500])
            .exec(&mut server.connection())
            .unwrap();
    }
    for options in [&[][..], &["--sample", "30%"], &["--one-way"]] {
        let finished = pair.compare().args(options).run().expect_code(0);
        let compared = Compared::of(finished);
        crate::support::comparing::assert_status_agrees(&compared, NAME, pair.state.path());
        assert!(compared.count("keys_scanned") >= 500, "{options:?}");
    }
}
