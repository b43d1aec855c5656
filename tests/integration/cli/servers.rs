//! What servers can have that a migration can't begin with, or begins with a word about it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};

use super::Said;
use crate::support::proxy::Proxy;
use crate::support::redknot::{Finished, Redknot};
use crate::support::sentinel::Sentinel;
use crate::support::server::{Server, ServerSpec, free_port};
use crate::support::version::{Binary, REDIS_7_0, require};
use crate::support::wait_for;

/// Two servers and a folder. The source has one key.
struct Pair {
    binary: Binary,
    source: Server,
    target: Server,
    state: tempfile::TempDir,
}

impl Pair {
    fn new() -> Option<Self> {
        let binary = require(REDIS_7_0)?;
        Self::of(ServerSpec::new(binary.clone()), ServerSpec::new(binary))
    }

    fn of(source: ServerSpec, target: ServerSpec) -> Option<Self> {
        let binary = require(REDIS_7_0)?;
        let pair = Self {
            binary,
            source: Server::start(source),
            target: Server::start(target),
            state: tempfile::tempdir().unwrap(),
        };
        Some(pair)
    }

    fn key_on(server: &Server, db: u32) {
        redis::cmd("SET")
            .arg("key")
            .arg("value")
            .query::<()>(&mut server.connection_to(db))
            .unwrap();
    }

    fn migrate(&self, from: &str, to: &str) -> Redknot {
        Redknot::migrate(from, to, self.state.path()).args([
            "--name",
            "m",
            "--max-unavailable",
            "0s",
            "--timeout",
            "300ms",
        ])
    }

    /// What it said, without what differs from run to run.
    fn said(&self, finished: &Finished) -> Said {
        let said = Said::of(finished).hide_path(self.state.path(), "STATE");
        let run_id = self.source.run_id();
        said.hide(&format!(":{}", self.source.port()), ":SOURCE")
            .hide(&format!(":{}", self.target.port()), ":TARGET")
            .hide(&run_id[..12], "RUN_ID")
    }
}

#[test]
fn a_bare_host_and_port_is_taken_and_echoed() {
    let Some(pair) = Pair::new() else { return };
    Pair::key_on(&pair.source, 0);
    let (from, to) = (
        format!("127.0.0.1:{}", pair.source.port()),
        format!("localhost:{}", pair.target.port()),
    );
    let finished = pair.migrate(&from, &to).run().expect_code(0);
    let said = finished.stderr();
    assert!(
        said.contains(&format!(
            "note: --from means redis://127.0.0.1:{}/0",
            pair.source.port()
        )),
        "{finished}"
    );
    assert!(
        said.contains(&format!(
            "note: --to means redis://localhost:{}/0",
            pair.target.port()
        )),
        "{finished}"
    );
    assert_eq!(pair.target.keys(0), 1);
}

#[test]
fn a_database_that_the_server_does_not_have_is_refused() {
    let binary = require(REDIS_7_0);
    let Some(binary) = binary else { return };
    let few = ServerSpec::new(binary.clone()).config("databases", "1");
    let Some(pair) = Pair::of(ServerSpec::new(binary), few) else {
        return;
    };
    let finished = pair
        .migrate(&pair.source.url(99), &pair.target.url(0))
        .run();
    insta::assert_snapshot!(pair.said(&finished), @r#"
    exit 2
      migration m  begins
      state     STATE/m
    error: source: failed to use database 99
      it has 16 databases, from 0 on
    hint: --db N, or the number behind the host, has to be one of them; --all-dbs finds those that have keys
    "#);
    let finished = pair
        .migrate(&pair.source.url(3), &pair.target.url(3))
        .arg("--restart")
        .run();
    insta::assert_snapshot!(pair.said(&finished), @r#"
    exit 3
      migration m  begins
      state     STATE/m
    error: target: failed to use database 3
      it has database 0 only
    hint: another database takes its keys (--db-map 3:0, --to-db); or raise `databases` in the configuration of the target
    "#);
}

#[test]
fn a_server_that_is_not_there_is_named_by_its_side() {
    let Some(pair) = Pair::new() else { return };
    let nobody = free_port();
    let gone = format!("redis://127.0.0.1:{nobody}");
    let refused = |from: &str, to: &str| {
        let finished = pair.migrate(from, to).arg("--restart").run();
        format!(
            "{}\n",
            pair.said(&finished).hide(&nobody.to_string(), "NOBODY")
        )
    };
    let mut said = refused(&gone, &pair.target.url(0));
    said += &refused(&pair.source.url(0), &gone);
    insta::assert_snapshot!(said, @r"
    exit 10
      migration m  begins
      state     STATE/m
    error: source: failed to reach the server
      Connection refused (os error 111) (tried once in 0.0 s)
    hint: is the server running, the port right, a firewall in between? Then run the same command again
    exit 11
      migration m  begins
      state     STATE/m
    error: target: failed to reach the server
      Connection refused (os error 111) (tried once in 0.0 s)
    hint: is the server running, the port right, a firewall in between? Then run the same command again
    ");
    // What a resolver says is its own.
    for (from, to, code) in [
        ("redis://nosuch.invalid", pair.target.url(0), 10),
        (&pair.source.url(0), "redis://nosuch.invalid".into(), 11),
    ] {
        let finished = pair
            .migrate(from, &to)
            .arg("--restart")
            .run()
            .expect_code(code);
        assert!(
            finished.stderr().contains("failed to lookup address"),
            "{finished}"
        );
    }
}

#[test]
fn who_may_not_enter_is_told_which_side_and_how() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let closed = ServerSpec::new(binary.clone())
        .password("swordfish")
        .user("off", "off >swordfish ~* +@all");
    let Some(pair) = Pair::of(closed, ServerSpec::new(binary)) else {
        return;
    };
    let without = format!("redis://127.0.0.1:{}", pair.source.port());
    let mut said = String::new();
    for (from, password) in [
        (without.clone(), None),
        (without.clone(), Some("wrong-password")),
        (without.replace("//", "//off@"), Some("swordfish")),
        (without.replace("//", "//nobody@"), Some("swordfish")),
    ] {
        let mut redknot = pair.migrate(&from, &pair.target.url(0)).arg("--restart");
        if let Some(password) = password {
            redknot = redknot.env("REDKNOT_FROM_PASSWORD", password);
        }
        let finished = redknot.run();
        let text = Said::of(&finished)
            .hide_path(pair.state.path(), "STATE")
            .hide(&pair.source.port().to_string(), "SOURCE")
            .to_string();
        assert!(
            !text.contains("swordfish") && !text.contains("wrong-password"),
            "{text}"
        );
        said += &format!("{text}\n\n");
    }
    insta::assert_snapshot!(said, @r#"
    exit 20
      migration m  begins
      state     STATE/m
    error: source: failed to log in
      the server answers "NOAUTH Authentication required."
    hint: the server wants a password: --from-pass-file FILE, or REDKNOT_FROM_PASSWORD, or --from-askpass

    exit 20
      migration m  begins
      state     STATE/m
    error: source: failed to log in
      the server answers "WRONGPASS invalid username-password pair or user is disabled."
    hint: user or password are wrong; check --from-user and where the password comes from

    exit 20
      migration m  begins
      state     STATE/m
    error: source: failed to log in
      the server answers "WRONGPASS invalid username-password pair or user is disabled."
    hint: user or password are wrong; check --from-user and where the password comes from

    exit 20
      migration m  begins
      state     STATE/m
    error: source: failed to log in
      the server answers "WRONGPASS invalid username-password pair or user is disabled."
    hint: user or password are wrong; check --from-user and where the password comes from
    "#);
}

#[test]
fn a_right_that_is_missing_is_named_with_the_line_that_gives_it() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let reader = "on >swordfish ~* +@all -dump";
    let writer = "on >swordfish ~* +@all -restore";
    let source = ServerSpec::new(binary.clone()).user("reader", reader);
    let target = ServerSpec::new(binary).user("writer", writer);
    let Some(pair) = Pair::of(source, target) else {
        return;
    };
    Pair::key_on(&pair.source, 0);
    let mut said = String::new();
    for (user_from, user_to) in [("reader", "default"), ("default", "writer")] {
        let from = pair
            .source
            .url(0)
            .replace("//", &format!("//{user_from}:swordfish@"));
        let to = pair
            .target
            .url(0)
            .replace("//", &format!("//{user_to}:swordfish@"));
        let (from, to) = (
            from.replace("default:swordfish@", ""),
            to.replace("default:swordfish@", ""),
        );
        let finished = pair
            .migrate(&from, &to)
            .args(["--restart", "-q", "--read-with", "dump"])
            .run();
        said += &format!("{}\n\n", pair.said(&finished));
    }
    insta::assert_snapshot!(said, @r#"
    exit 20
    error: source: failed to run a command
      the server answers "NOPERM this user has no permissions to run the 'dump' command"
    hint: on the source: ACL SETUSER <user> +dump   (all that is needed: redknot acl --side source)

    exit 20
    error: target: failed to run a command
      the server answers "NOPERM this user has no permissions to run the 'restore' command"
    hint: on the target: ACL SETUSER <user> +restore   (all that is needed: redknot acl --side target)
    "#);
}

#[test]
fn the_same_server_on_both_sides_is_refused_unless_the_databases_differ() {
    let Some(pair) = Pair::new() else { return };
    Pair::key_on(&pair.source, 0);
    let other_name = pair.source.url(0).replace("127.0.0.1", "localhost");
    let finished = pair.migrate(&pair.source.url(0), &other_name).run();
    insta::assert_snapshot!(pair.said(&finished), @r"
    exit 22
      migration m  begins
      state     STATE/m
    error: failed to begin
      source and target are the same server (run_id RUN_ID), and database 0 is both read and written
    hint: give another server, or another database of it (--to redis://…/1)
    ");
    let finished = pair
        .migrate(&pair.source.url(0), &pair.source.url(5))
        .arg("--restart")
        .run()
        .expect_code(0);
    assert!(
        finished
            .stderr()
            .contains("source and target are databases of the same server (run_id"),
        "{finished}"
    );
    assert_eq!(pair.source.keys(5), 1);
}

#[test]
fn a_replica_is_no_target_and_a_source_only_with_a_warning() {
    let Some(pair) = Pair::new() else { return };
    Pair::key_on(&pair.source, 0);
    let master = pair.source.port().to_string();
    let replica = Server::start(ServerSpec::new(pair.binary.clone()));
    redis::cmd("REPLICAOF")
        .arg("127.0.0.1")
        .arg(&master)
        .query::<()>(&mut replica.connection())
        .unwrap();
    wait_for(
        "the replica to be in step",
        std::time::Duration::from_secs(30),
        || (replica.keys(0) == 1).then_some(()),
    );
    let finished = pair.migrate(&pair.source.url(0), &replica.url(0)).run();
    insta::assert_snapshot!(pair.said(&finished).hide(&replica.port().to_string(), "REPLICA"), @r"
    exit 22
      migration m  begins
      state     STATE/m
    error: target: failed to use the target
      it is a replica of the source, or of the same master: replication overwrites what is written to it
    hint: the target has to be a server that replicates nobody; if it is to have the source's data, it has them already
    ");
    let finished = pair
        .migrate(&replica.url(0), &pair.target.url(0))
        .arg("--restart")
        .run()
        .expect_code(0);
    assert!(
        finished
            .stderr()
            .contains("warning: the source is a replica"),
        "{finished}"
    );
}

#[test]
fn a_cluster_and_a_sentinel_are_recognised() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let cluster = ServerSpec::new(binary.clone()).config("cluster-enabled", "yes");
    let Some(pair) = Pair::of(cluster, ServerSpec::new(binary)) else {
        return;
    };
    let mut said = String::new();
    for (from, to) in [
        (pair.source.url(0), pair.target.url(0)),
        (pair.target.url(0), pair.source.url(0)),
        (pair.source.url(3), pair.target.url(0)),
    ] {
        let finished = pair
            .migrate(&from, &to)
            .args(["--restart", "-q", "--read-with", "dump"])
            .run();
        said += &format!("{}\n\n", pair.said(&finished));
    }
    let sentinel = Sentinel::start(&pair.binary, None, "");
    let finished = pair
        .migrate(
            &format!("redis://127.0.0.1:{}", sentinel.port()),
            &pair.target.url(0),
        )
        .args(["--restart", "-q"])
        .run();
    said += &Said::of(&finished).to_string();
    insta::assert_snapshot!(said, @r#"
    exit 22
    error: source: failed to use the source
      it is a cluster in which 16384 of 16384 slots are at no node, the first of them 0
    hint: give every slot to a node (redis-cli --cluster fix), then run the same command

    exit 22
    error: target: failed to use the target
      it is a cluster in which 16384 of 16384 slots are at no node, the first of them 0
    hint: give every slot to a node (redis-cli --cluster fix), then run the same command

    exit 2
    error: source: failed to use database 3 of the source
      it is a node of a cluster, and answers "ERR SELECT is not allowed in cluster mode"
    hint: leave the number of the database away; clusters have several since Valkey 9 (cluster-databases)

    exit 2
    error: source: failed to use the source
      it is a sentinel: it watches servers and has no keys
    hint: redis-sentinel://host:26379/SERVICE is the master that it watches by that name
    "#);
}

#[test]
fn whatever_else_listens_there_is_an_unreachable_server() {
    let Some(pair) = Pair::new() else { return };
    let answering = |answer: &'static [u8]| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                if !answer.is_empty() {
                    let _ = stream.read(&mut [0; 512]);
                    let _ = stream.write_all(answer);
                }
                open.push(stream);
            }
        });
        format!("redis://127.0.0.1:{port}")
    };
    for answer in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(),
        b"",
        b"\x1b[31m\r\n",
    ] {
        let url = answering(answer);
        let finished = pair
            .migrate(&url, &pair.target.url(0))
            .args(["--restart", "-q"])
            .run()
            .expect_code(10);
        let lines = finished.stderr();
        assert!(
            lines.starts_with("error: source: failed to ") && lines.contains("\nhint: "),
            "{finished}"
        );
        if answer.starts_with(b"HTTP") {
            assert!(
                lines.contains("HTTP/1.1 400"),
                "what answered is shown: {finished}"
            );
            assert!(
                lines.contains("hint: are host and port right?"),
                "{finished}"
            );
        }
        assert!(
            !lines.contains('\x1b'),
            "what the server sent is shown raw: {finished}"
        );
        pair.migrate(&pair.source.url(0), &url)
            .args(["--restart", "-q"])
            .run()
            .expect_code(11);
    }
}

/// As a server before 2.8 answers, or a proxy that does not pass everything on.
#[test]
fn a_server_without_the_commands_that_are_needed_is_no_go() {
    let Some(pair) = Pair::new() else { return };
    Pair::key_on(&pair.source, 0);
    let mut said = String::new();
    let (source, target) = (
        Proxy::start(pair.source.port(), 1),
        Proxy::start(pair.target.port(), 1),
    );
    let rule = source
        .on("SCAN")
        .always()
        .answer("-ERR unknown command 'SCAN'");
    let finished = pair
        .migrate(&source.url(0), &pair.target.url(0))
        .args(["--restart", "-q"])
        .run();
    assert!(source.fired(rule) > 0);
    said += &format!("{}\n\n", pair.said(&finished));
    let rule = target
        .on("RESTORE")
        .always()
        .answer("-ERR unknown command 'RESTORE'");
    let finished = pair
        .migrate(&pair.source.url(0), &target.url(0))
        .args(["--restart", "-q"])
        .run();
    assert!(target.fired(rule) > 0);
    said += &format!("{}\n", pair.said(&finished));
    insta::assert_snapshot!(said, @r#"
    exit 3
    error: source: failed to use the server
      the server answers "ERR unknown command 'SCAN'"
    hint: redknot needs SCAN, DUMP and PTTL on the source and RESTORE on the target

    exit 3
    error: target: failed to use the server
      the server answers "ERR unknown command 'RESTORE'"
    hint: redknot needs SCAN, DUMP and PTTL on the source and RESTORE on the target
    "#);
}

#[test]
fn a_target_with_keys_is_written_only_as_was_said() {
    let Some(pair) = Pair::new() else { return };
    Pair::key_on(&pair.source, 0);
    redis::cmd("SET")
        .arg("key")
        .arg("older")
        .query::<()>(&mut pair.target.connection())
        .unwrap();
    let migrate = || pair.migrate(&pair.source.url(0), &pair.target.url(0));
    let finished = migrate().run();
    insta::assert_snapshot!(pair.said(&finished), @r"
    exit 27
      migration m  begins
      state     STATE/m
    error: target: failed to begin
      database 0 has 1 key, and nothing was said about keys that are there already
    hint: --on-conflict skip keeps the target's keys, replace overwrites them, fail stops at the first
    ");
    let value = || -> String {
        redis::cmd("GET")
            .arg("key")
            .query(&mut pair.target.connection())
            .unwrap()
    };
    migrate()
        .args(["--restart", "--on-conflict", "fail"])
        .run()
        .expect_code(27);
    assert_eq!(value(), "older");
    let finished = migrate()
        .args(["--restart", "--on-conflict", "skip"])
        .run()
        .expect_code(0);
    assert!(
        finished
            .stdout()
            .contains("scanned 1 = written 0 + vanished 0 + kept 1 +"),
        "{finished}"
    );
    assert_eq!(value(), "older");
    migrate()
        .args(["--restart", "--on-conflict", "replace"])
        .run()
        .expect_code(0);
    assert_eq!(value(), "value");
}

#[test]
fn an_empty_source_is_complete_at_once() {
    let Some(pair) = Pair::new() else { return };
    let finished = pair.migrate(&pair.source.url(0), &pair.target.url(0)).run();
    insta::assert_snapshot!(pair.said(&finished), @r"
    exit 0
      migration m  begins
      state     STATE/m
      db0 begins, pass 1: database 0 has not been scanned yet
    --- stdout
      complete: nothing to migrate, no key was found
      accounts  scanned 0 = written 0 + vanished 0 + kept 0 + quarantined 0 + filtered 0
      state     STATE/m
      next      redknot status m
    ");
}

#[test]
fn names_of_keys_arrive_exactly_and_are_shown_escaped() {
    let Some(pair) = Pair::new() else { return };
    let names: [&[u8]; 8] = [
        b"",
        b"a\0b",
        b"\xff\xfe",
        b"two\nlines",
        b"\x1b[31mred",
        "\u{1f426}".as_bytes(),
        b"{tag}:1",
        b"100%",
    ];
    for name in names {
        redis::cmd("SET")
            .arg(name)
            .arg(name)
            .query::<()>(&mut pair.source.connection())
            .unwrap();
        redis::cmd("SET")
            .arg(name)
            .arg("older")
            .query::<()>(&mut pair.target.connection())
            .unwrap();
    }
    let migrate = || pair.migrate(&pair.source.url(0), &pair.target.url(0));
    // `fail` names the key that it met.
    let finished = migrate()
        .args(["--on-conflict", "fail"])
        .run()
        .expect_code(27);
    assert!(
        !finished.stderr().contains('\x1b') && !finished.stderr().contains('\0'),
        "{finished}"
    );
    migrate()
        .args(["--restart", "--on-conflict", "replace"])
        .run()
        .expect_code(0);
    for name in names {
        let value: Vec<u8> = redis::cmd("GET")
            .arg(name)
            .query(&mut pair.target.connection())
            .unwrap();
        assert_eq!(value, name);
    }
}

#[test]
fn too_few_open_files_are_named_with_the_number_that_is_needed() {
    let line = format!(
        "ulimit -n 20; exec '{}' migrate --from redis://h --to redis://g",
        env!("CARGO_BIN_EXE_redknot")
    );
    let output = super::command("sh").args(["-c", &line]).output().unwrap();
    let said = format!(
        "exit {}\n{}",
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stderr)
    );
    insta::assert_snapshot!(said, @r"
    exit 2
    error: too few open files are allowed
      redknot needs 64, the limit is 20
    hint: ulimit -n 1024, or LimitNOFILE= of the systemd unit
    ");
}
