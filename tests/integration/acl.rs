//! Users with few rights: what `redknot acl` prints is enough, what is missing is named, and a key that may not be read
//! is quarantined and never called vanished.
//!
//! # Invariant
//!
//! Every login is with a password that is looked for afterwards, in the state and in all that was printed.

use std::collections::BTreeSet;

use crate::support::dataset::{DataSet, fill};
use crate::support::oracle;
use crate::support::redknot::{Finished, Redknot, status};
use crate::support::secrets::assert_absent;
use crate::support::server::Server;
use crate::support::version::{Kind, REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_9_1, require};

/// What the user that is printed gets as password, in place of the word.
pub const PASSWORD: &str = "swordfish-of-the-acl-tests";

/// The versions whose rules and messages differ.
const KINDS: [Kind; 4] = [REDIS_6_2, REDIS_7_0, REDIS_8_2, VALKEY_9_1];

/// Two servers of one kind, the source with keys, and a user on each.
struct Pair {
    source: Server,
    target: Server,
    folder: tempfile::TempDir,
}

impl Pair {
    fn new(kind: Kind) -> Option<Self> {
        let binary = require(kind)?;
        Some(Self {
            source: Server::plain(&binary),
            target: Server::plain(&binary),
            folder: tempfile::tempdir().unwrap(),
        })
    }

    /// Any command as these two users, each on its side.
    fn redknot(&self, command: &str, users: [&str; 2]) -> Redknot {
        // A user without a name needs no password.
        let url = |server: &Server, user: &str| {
            let login = if user.is_empty() {
                String::new()
            } else {
                format!("{user}@")
            };
            format!("redis://{login}127.0.0.1:{}", server.port())
        };
        let password = |user: &str| if user.is_empty() { "" } else { PASSWORD };
        Redknot::new([command, "--from", &url(&self.source, users[0])])
            .args(["--to", &url(&self.target, users[1])])
            .arg("--state-dir")
            .arg(self.folder.path().join("state"))
            .args(["--max-unavailable", "0s"])
            .env("REDKNOT_FROM_PASSWORD", password(users[0]))
            .env("REDKNOT_TO_PASSWORD", password(users[1]))
    }

    #[track_caller]
    fn keeps_secrets(&self, finished: &Finished) {
        let outputs = [finished.stdout.as_slice(), finished.stderr.as_slice()];
        let state = self.folder.path().join("state");
        assert_absent(&state, &outputs, &[PASSWORD.as_bytes()]);
    }
}

/// Runs one line of ACL as the operator would paste it.
pub fn paste(server: &Server, line: &str) {
    let mut words = line.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word.replace("PASSWORD", PASSWORD));
    }
    command
        .query::<()>(&mut server.connection())
        .unwrap_or_else(|error| panic!("{line}: {error}"));
}

/// Makes the user that `redknot acl` prints for this side and this kind of server, and returns its name.
pub fn least_privileged_user(server: &Server, side: &str) -> String {
    let printed = Redknot::new(["acl", "--side", side]).run().expect_code(0);
    let printed = printed.stdout();
    let head = match server.kind().knows_pexpiretime {
        true => "# Redis 7.0 and newer, Valkey",
        false => "# Redis 6.0 and 6.2",
    };
    let mut lines = printed.lines().skip_while(|line| *line != head);
    let line = lines.nth(1).expect("a line follows its head");
    paste(server, line);
    format!("redknot-{side}")
}

/// Adds what `redknot acl` says is needed for a cluster.
pub fn may_use_a_cluster(server: &Server, side: &str) {
    let printed = Redknot::new(["acl", "--side", side]).run().expect_code(0);
    let printed = printed.stdout();
    let mut lines = printed
        .lines()
        .skip_while(|line| !line.contains("for a cluster"));
    paste(server, lines.nth(1).expect("a line follows its head"));
}

/// Commands that a user was denied, by the server's own log.
pub fn denied(server: &Server) -> BTreeSet<String> {
    let log: Vec<std::collections::HashMap<String, redis::Value>> = redis::cmd("ACL")
        .arg("LOG")
        .arg(100)
        .query(&mut server.connection())
        .unwrap();
    log.iter()
        .filter_map(|entry| redis::from_redis_value_ref::<String>(&entry["object"]).ok())
        .collect()
}

#[test]
fn the_printed_users_suffice_and_can_do_nothing_else() {
    for kind in KINDS {
        let Some(pair) = Pair::new(kind) else {
            continue;
        };
        fill(&pair.source, 0, &DataSet::new(2_000, 7));
        let source = least_privileged_user(&pair.source, "source");
        let target = least_privileged_user(&pair.target, "target");
        let migrate = || {
            pair.redknot("migrate", [&source, &target])
                .args(["--on-conflict", "skip", "--name"])
        };
        let finished = migrate().arg("m").run().expect_code(0);
        pair.keeps_secrets(&finished);
        assert!(
            !finished.stderr().contains("NOPERM") && !finished.stderr().contains("warning"),
            "{finished}"
        );
        oracle::assert_equal(&pair.source, &pair.target);
        let compared = pair
            .redknot("compare", [&source, &target])
            .arg("m")
            .run()
            .expect_code(0);
        pair.keeps_secrets(&compared);
        assert!(!compared.stderr().contains("NOPERM"), "{compared}");
        // Every key is there already now, and may be ours: both values are read.
        let again = migrate().args(["m", "--new-pass"]).run().expect_code(0);
        assert!(again.stdout().contains("kept 0"), "{again}");
        migrate()
            .args(["typed", "--type", "string,hash"])
            .run()
            .expect_code(0);
        // What they were denied, nobody needs.
        let optional = |names: &[&str]| -> BTreeSet<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let (of_source, of_target) = (denied(&pair.source), denied(&pair.target));
        let may_lack = optional(&["client", "client|no-touch", "pexpiretime"]);
        assert!(
            of_source.is_subset(&may_lack),
            "{}: {of_source:?}",
            kind.name
        );
        let may_lack = optional(&[
            "client",
            "client|no-touch",
            "config",
            "config|get",
            "module",
            "module|list",
            "pexpiretime",
        ]);
        assert!(
            of_target.is_subset(&may_lack),
            "{}: {of_target:?}",
            kind.name
        );
        for (server, user, line) in [
            (&pair.source, &source, "SET key value"),
            (&pair.source, &source, "RESTORE key 0 x"),
            (&pair.source, &source, "KEYS *"),
            (&pair.source, &source, "CONFIG GET requirepass"),
            (&pair.source, &source, "ACL LIST"),
            (&pair.target, &target, "DEL key"),
            (&pair.target, &target, "UNLINK key"),
            (&pair.target, &target, "APPEND key value"),
            (&pair.target, &target, "FLUSHALL"),
        ] {
            let mut connection = server.connection();
            redis::cmd("AUTH")
                .arg(user)
                .arg(PASSWORD)
                .query::<()>(&mut connection)
                .unwrap();
            let mut words = line.split(' ');
            let mut command = redis::cmd(words.next().unwrap());
            words.for_each(|word| {
                command.arg(word);
            });
            let refused = command.query::<redis::Value>(&mut connection).unwrap_err();
            assert_eq!(refused.code(), Some("NOPERM"), "{}: {line}", kind.name);
        }
    }
}

#[test]
fn the_optional_lines_can_be_pasted_where_they_are_said_to_be_known() {
    for kind in KINDS {
        let Some(pair) = Pair::new(kind) else {
            continue;
        };
        for (server, side) in [(&pair.source, "source"), (&pair.target, "target")] {
            least_privileged_user(server, side);
            let printed = Redknot::new(["acl", "--side", side]).run().expect_code(0);
            let printed = printed.stdout();
            let options = printed.lines().filter(|line| !line.contains(" reset on "));
            let mut pasted = 0;
            for line in options.filter(|line| line.starts_with("ACL")) {
                if line.contains("no-touch") && [REDIS_6_2, REDIS_7_0].contains(&kind) {
                    continue;
                }
                if line.contains("+hpexpire") && !kind.knows_field_ttl {
                    continue;
                }
                paste(server, line);
                pasted += 1;
            }
            assert!(pasted > 0 || side == "source", "{printed}");
        }
    }
}

/// Whoever begins with nothing and pastes what each refusal says arrives at a user that works.
#[test]
fn each_missing_right_is_named_with_the_line_that_grants_it() {
    for kind in KINDS {
        let Some(pair) = Pair::new(kind) else {
            continue;
        };
        fill(&pair.source, 0, &DataSet::new(200, 7));
        for server in [&pair.source, &pair.target] {
            paste(server, "ACL SETUSER mover reset on >PASSWORD ~*");
        }
        let mut granted = Vec::new();
        loop {
            let finished = pair
                .redknot("migrate", ["mover", "mover"])
                .args(["--name", "m", "--on-conflict", "replace", "--restart"])
                .args(["--type", "string,hash,list,set,zset,stream"])
                .run();
            pair.keeps_secrets(&finished);
            if finished.code() == Some(0) {
                break;
            }
            let finished = finished.expect_code(20);
            let said = finished.stderr();
            let hint = said
                .lines()
                .find_map(|line| line.strip_prefix("hint: on the "))
                .unwrap_or_else(|| panic!("{finished}"));
            let (side, line) = hint.split_once(": ").unwrap();
            let (line, _) = line.split_once("   (").unwrap();
            assert!(said.contains(&format!("error: {side}: failed to run a command")));
            let line = line.replace("<user>", "mover");
            let words: Vec<&str> = line.split(' ').collect();
            assert!(
                matches!(words[..], ["ACL", "SETUSER", "mover", command] if command.starts_with('+')),
                "{line}"
            );
            let server = if side == "source" {
                &pair.source
            } else {
                &pair.target
            };
            paste(server, &line);
            let grant = format!("{side} {}", words[3]);
            assert!(!granted.contains(&grant), "{grant} again: {finished}");
            granted.push(grant);
        }
        for needed in [
            "source +ping",
            "source +scan",
            "source +type",
            "source +dump",
            "source +pttl",
            "target +ping",
            "target +restore",
        ] {
            assert!(
                granted.iter().any(|grant| grant == needed),
                "{}: {needed} is missing in {granted:?}",
                kind.name
            );
        }
        oracle::assert_equal(&pair.source, &pair.target);
    }
}

/// SCAN names every key, whoever asks.
#[test]
fn keys_that_may_not_be_read_are_quarantined_and_not_called_vanished() {
    for kind in KINDS {
        let Some(pair) = Pair::new(kind) else {
            continue;
        };
        let mut pipe = redis::pipe();
        for number in 0..300 {
            pipe.set(format!("app:{number}"), "value").ignore();
            pipe.rpush(format!("list:app:{number}"), "value").ignore();
        }
        for number in 0..20 {
            pipe.set(format!("other:{number}"), "secret").ignore();
            pipe.cmd("HSET")
                .arg(format!("hidden:{number}"))
                .arg("a")
                .arg("b")
                .ignore();
        }
        pipe.query::<()>(&mut pair.source.connection()).unwrap();
        paste(
            &pair.source,
            "ACL SETUSER reader reset on >PASSWORD ~app:* ~list:* +@all",
        );
        for (name, flags) in [
            ("all", vec![]),
            ("typed", vec!["--type", "string,hash"]),
            ("dumped", vec!["--read-with", "dump", "--ttl", "drop"]),
        ] {
            let finished = pair
                .redknot("migrate", ["reader", ""])
                .args(["--name", name, "--on-conflict", "replace"])
                .args(&flags)
                .run()
                .expect_code(1);
            pair.keeps_secrets(&finished);
            let counters = status(name, &pair.folder.path().join("state")).counters;
            assert_eq!(counters.keys_scanned, 640, "{name} on {}", kind.name);
            assert_eq!(counters.keys_vanished, 0, "{name} on {}", kind.name);
            assert_eq!(counters.keys_quarantined, 40, "{name} on {}", kind.name);
            let written = if name == "typed" { 300 } else { 600 };
            assert_eq!(counters.keys_written, written, "{name} on {}", kind.name);
            let said = finished.stderr();
            assert!(
                said.contains("hidden:") && said.contains("the source refuses to dump it: NOPERM"),
                "{finished}"
            );
        }
        assert_eq!(pair.target.keys(0), 600, "{}", kind.name);
    }
}
