use std::time::{Duration, Instant};

use crate::support::dataset::{BIG_STRING_BYTES, DataSet, NearExpiry, fill};
use crate::support::redknot::{Redknot, peak_rss_bytes};
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{
    ALL, REDIS_6_2, REDIS_7_0, REDIS_8_0, REDIS_8_2, VALKEY_9_1, require,
};
use crate::support::{secrets, seed, wait_for};

#[test]
fn servers_of_every_kind_start_and_report_their_version() {
    for kind in ALL {
        let Some(binary) = require(kind) else {
            continue;
        };
        let server = Server::plain(&binary);
        assert!(
            server.version().starts_with(kind.version),
            "{} says {}",
            kind.name,
            server.version()
        );
        assert_eq!(server.run_id().len(), 40);
        assert_eq!(server.keys(0), 0);
        let answer: redis::RedisResult<()> = redis::cmd("PEXPIRETIME")
            .arg("none")
            .query(&mut server.connection());
        let known = !answer.is_err_and(|error| error.to_string().contains("unknown command"));
        assert_eq!(
            known, kind.knows_pexpiretime,
            "PEXPIRETIME on {}",
            kind.name
        );
        let debug: redis::RedisResult<String> = redis::cmd("DEBUG")
            .arg("SLEEP")
            .arg(0)
            .query(&mut server.connection());
        assert_eq!(debug.unwrap(), "OK", "DEBUG on {}", kind.name);
    }
}

#[test]
fn a_restart_keeps_the_data_on_the_same_port_and_an_empty_one_loses_it() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let mut server = Server::plain(&redis);
    redis::cmd("SET")
        .arg("key")
        .arg("value")
        .exec(&mut server.connection())
        .unwrap();
    let (port, run_id, pid) = (server.port(), server.run_id(), server.pid());

    server.restart();
    assert_eq!((server.port(), server.keys(0)), (port, 1));
    assert_ne!(server.run_id(), run_id);
    assert_ne!(server.pid(), pid);

    server.restart_empty();
    assert_eq!((server.port(), server.keys(0)), (port, 0));

    server.kill_9();
    assert!(std::net::TcpStream::connect(server.address()).is_err());
    server.launch_again();
    assert_eq!(server.keys(0), 0);
}

#[test]
fn a_server_dies_with_its_value() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let server = Server::plain(&redis);
    let pid = server.pid();
    assert!(peak_rss_bytes(pid).is_some());
    drop(server);
    assert_eq!(peak_rss_bytes(pid), None);
}

#[test]
fn passwords_and_users_and_settings_reach_the_server() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let spec = ServerSpec::new(redis)
        .password("open-sesame")
        .user("reader", "on >odd\"pass ~* -@all +ping")
        .config("maxmemory", "64mb");
    let server = Server::start(spec);
    assert_eq!(server.info("memory")["maxmemory"], (64 << 20).to_string());

    let without = redis::Client::open(format!("redis://{}", server.address())).unwrap();
    let refused = redis::cmd("PING")
        .exec(&mut without.get_connection().unwrap())
        .unwrap_err();
    assert_eq!(refused.code(), Some("NOAUTH"));
    let allowed: String = redis::cmd("ACL")
        .arg("LIST")
        .query::<Vec<String>>(&mut server.connection())
        .unwrap()
        .join(" ");
    assert!(allowed.contains("user reader on"), "{allowed}");
}

#[test]
fn a_paused_server_keeps_its_connections_and_says_nothing() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let server = Server::plain(&redis);
    let mut connection = server.connection();
    connection
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    server.pause();
    assert!(
        redis::cmd("PING")
            .exec(&mut connection)
            .unwrap_err()
            .is_timeout()
    );
    server.unpause();
    redis::cmd("PING").exec(&mut server.connection()).unwrap();
}

#[test]
fn the_data_set_has_every_type_and_every_encoding() {
    const COMMON: [&str; 8] = [
        "string/int",
        "string/embstr",
        "string/raw",
        "list/quicklist",
        "set/intset",
        "set/hashtable",
        "zset/skiplist",
        "hash/hashtable",
    ];
    let listpacks = ["zset/listpack", "hash/listpack", "stream/stream"].as_slice();
    let newest = [listpacks, &["list/listpack", "set/listpack"]].concat();
    let with_expiries = [newest.as_slice(), &["hash/listpackex"]].concat();
    let cases = [
        (
            REDIS_6_2,
            ["zset/ziplist", "hash/ziplist", "stream/stream"].to_vec(),
        ),
        (REDIS_7_0, listpacks.to_vec()),
        (REDIS_8_0, with_expiries.clone()),
        (REDIS_8_2, with_expiries),
        (VALKEY_9_1, newest),
    ];
    for (kind, expected) in cases {
        let Some(binary) = require(kind) else {
            continue;
        };
        let server = Server::plain(&binary);
        let set = DataSet {
            field_ttls: true,
            ..DataSet::new(2_000, seed())
        };
        fill(&server, 0, &set);
        let mut connection = server.connection();
        let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        let mut found = std::collections::BTreeSet::new();
        for name in &names {
            let (kind, encoding): (String, String) = redis::pipe()
                .cmd("TYPE")
                .arg(name)
                .cmd("OBJECT")
                .arg("ENCODING")
                .arg(name)
                .query(&mut connection)
                .unwrap();
            found.insert(format!("{kind}/{encoding}"));
        }
        for encoding in COMMON.iter().chain(&expected) {
            assert!(
                found.contains(*encoding),
                "{}: no {encoding} in {found:?}",
                kind.name
            );
        }
        // Names that break careless tools.
        for part in [b"\0".as_slice(), b"\r\n", b"\xff\xfe", b"\x1b[", b"{tag"] {
            assert!(
                names
                    .iter()
                    .any(|name| name.windows(part.len()).any(|window| window == part)),
                "no name with {}",
                part.escape_ascii()
            );
        }
        assert!(names.iter().any(|name| name.len() > 10_000), "no long name");
        assert!(names.iter().any(Vec::is_empty), "no empty name");
    }
}

#[test]
fn the_data_set_fits_every_kind_and_is_made_within_seconds() {
    for kind in ALL {
        let Some(binary) = require(kind) else {
            continue;
        };
        let server = Server::plain(&binary);
        let began = Instant::now();
        assert_eq!(fill(&server, 0, &DataSet::new(20_000, 1)), 20_000);
        eprintln!("{}: 20 000 keys in {:?}", kind.name, began.elapsed());
        // Ten times what it takes on an idle machine.
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{}: {:?}",
            kind.name,
            began.elapsed()
        );
    }
}

/// Large data sets are made in parts, by several threads.
#[test]
fn a_data_set_of_several_parts_is_the_same_every_time() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let digest = |seed| -> String {
        let server = Server::plain(&redis);
        let set = DataSet {
            streams: false,
            big_collections: 1_000,
            ..DataSet::new(110_000, seed)
        };
        assert_eq!(fill(&server, 0, &set), 110_005);
        // Expiries are counted from when the key is made.
        let mut connection = server.connection();
        let names: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        let mut persist = redis::pipe();
        for name in &names {
            persist.cmd("PERSIST").arg(name).ignore();
        }
        persist.exec(&mut connection).unwrap();
        for (kind, size) in [
            ("list", "LLEN"),
            ("hash", "HLEN"),
            ("set", "SCARD"),
            ("zset", "ZCARD"),
            ("stream", "XLEN"),
        ] {
            let elements: u32 = redis::cmd(size)
                .arg(format!("big:{kind}"))
                .query(&mut connection)
                .unwrap();
            assert_eq!(elements, 1_000, "of the big {kind}");
        }
        redis::cmd("DEBUG")
            .arg("DIGEST")
            .query(&mut connection)
            .unwrap()
    };
    let seed = seed();
    let first = digest(seed);
    assert_eq!(first, digest(seed));
    assert_ne!(first, digest(seed + 1));
}

#[test]
#[ignore = "a million keys: for `make soak`"]
fn a_million_keys_of_all_kinds_are_made_within_a_minute() {
    let Some(redis) = require(REDIS_8_2) else {
        return;
    };
    let server = Server::plain(&redis);
    let began = Instant::now();
    fill(&server, 0, &DataSet::new(1_000_000, seed()));
    let took = began.elapsed();
    let bytes = server.info("memory")["used_memory_human"].clone();
    eprintln!("a million keys, {bytes}, made in {took:?}");
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn the_big_string_is_big_and_does_not_compress() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let server = Server::plain(&redis);
    let set = DataSet {
        big_string: true,
        prefix: "p:".to_owned(),
        ..DataSet::new(0, 1)
    };
    assert_eq!(fill(&server, 0, &set), 1);
    let payload: Vec<u8> = redis::cmd("DUMP")
        .arg("p:big:64MiB")
        .query(&mut server.connection())
        .unwrap();
    assert!(payload.len() > BIG_STRING_BYTES);
}

#[test]
fn dying_keys_are_met_in_their_last_millisecond() {
    let Some(redis) = require(REDIS_7_0) else {
        return;
    };
    let server = Server::plain(&redis);
    let dying = NearExpiry::begin(&server, 0, 1_000, seed());
    let mut connection = server.connection();
    wait_for(
        "a key that lives and has a PTTL of 0",
        Duration::from_secs(30),
        || {
            let mut pipe = redis::pipe();
            for key in 0..1_000 {
                pipe.cmd("PTTL").arg(format!("volatile:{key}"));
            }
            let ttls: Vec<i64> = pipe.query(&mut connection).unwrap();
            assert!(ttls.iter().all(|ttl| (-2..=3).contains(ttl)), "{ttls:?}");
            ttls.contains(&0).then_some(())
        },
    );
    assert!(dying.end() > 0);
    wait_for("all of them to expire", Duration::from_secs(30), || {
        (server.keys(0) == 0).then_some(())
    });
}

#[test]
fn the_binary_runs_and_its_end_is_reported() {
    let finished = Redknot::new(["--version"]).run();
    assert!(finished.status.code().is_some(), "{finished}");
    assert!(finished.to_string().contains("redknot --version"));
}

#[test]
fn a_secret_is_found_in_files_and_in_outputs() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("db")).unwrap();
    std::fs::write(folder.path().join("db/log"), b"\0\0hunter2-hunter2\0").unwrap();
    let found = secrets::search(
        folder.path(),
        &[b"nothing", b"pass=swordfish!"],
        &[b"hunter2-hunter2", b"swordfish!"],
    );
    let of: Vec<usize> = found.places.iter().map(|(_, secret)| *secret).collect();
    assert_eq!(of, [1, 0]);
    secrets::assert_absent(folder.path(), &[b"nothing"], &[b"another secret"]);
}
