//! `--keys-from`: keys that a list names, from servers that may not be scanned.

use std::path::Path;

use super::{
    Keys, NAME, Pair, compare, found, migrate, one_damage_is_found_and_mended, quarantined, said,
    set, strings, url,
};
use crate::support::cluster::Cluster;
use crate::support::comparing::{keys, repair};
use crate::support::dataset::{DataSet, fill};
use crate::support::redknot::Redknot;
use crate::support::server::{Server, ServerSpec};
use crate::support::version::{REDIS_6_2, REDIS_7_0, VALKEY_9_1, require};

const KEYS: usize = 6_000;

/// Every key, and every second one by name.
fn filled(server: &Server) -> Vec<String> {
    let name = |n: usize| format!("key:{n}");
    set(
        &mut server.connection(),
        (0..KEYS).map(|n| (name(n), format!("value {n}"))),
    );
    (0..KEYS).step_by(2).map(name).collect()
}

/// What of `source` is in the list.
fn listed(source: &Server, names: &[String]) -> Keys {
    let all = strings(&mut source.connection());
    names
        .iter()
        .filter_map(|name| all.get_key_value(name.as_bytes()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[test]
fn a_list_is_moved_without_a_scan_and_goes_on_where_it_was_killed() {
    for kind in [REDIS_6_2, VALKEY_9_1] {
        let Some(binary) = require(kind) else {
            continue;
        };
        // SCAN is not only not sent: it would be refused.
        let source = Server::start(
            ServerSpec::new(binary.clone())
                .user("mover", "on >secret ~* +@all -scan -keys -randomkey"),
        );
        let target = Server::plain(&binary);
        let state = tempfile::tempdir().unwrap();
        let names = filled(&source);
        let list = state.path().join(".names");
        std::fs::write(&list, names.join("\n")).unwrap();
        let from = format!("redis://mover:secret@{}", source.address());
        let flags = ["--keys-from", list.to_str().unwrap(), "--batch", "50"];
        for point in [
            "acknowledged_before_state_write=20*off->return",
            "acknowledged_before_state_write=15*off->return",
        ] {
            let killed = migrate(&from, &url(&target), state.path(), &flags)
                .env("FAILPOINTS", point)
                .run();
            assert!(killed.was_killed(), "{killed}");
        }
        let before = target.writes();
        let finished = migrate(&from, &url(&target), state.path(), &flags)
            .arg("--json")
            .run()
            .expect_code(0);
        assert!(
            strings(&mut target.connection()) == listed(&source, &names),
            "{finished}"
        );
        // It went on, and did not begin anew.
        assert!(
            target.writes() - before < names.len() as u64 / 2 + 2_000,
            "{finished}"
        );
        assert_eq!(source.calls("scan"), 0, "{finished}");

        // A comparison that is killed goes on in the list as well.
        let killed = Redknot::new(["compare", NAME, "--from", &from, "--batch", "10"])
            .args(["--state-dir".as_ref(), state.path().as_os_str()])
            .env("FAILPOINTS", "compared_before_state_write=1*off->return")
            .run();
        assert!(killed.was_killed(), "{killed}");
        let of_migration = |code| {
            let command = Redknot::new([
                "compare",
                NAME,
                "--json",
                "--settle",
                "10ms",
                "--from",
                &from,
                "--state-dir",
            ]);
            let finished = command.arg(state.path()).run().expect_code(code);
            crate::support::comparing::Compared::of(finished)
        };
        let compared = of_migration(0);
        assert_eq!(compared.count("equal"), names.len() as u64);
        let lines = compared.finished.json_lines();
        let start = lines
            .iter()
            .find(|line| line["type"] == "compare_start")
            .unwrap();
        assert!(
            start["resumed"] == true && start["percent"].as_f64() > Some(0.0),
            "{start}"
        );
        let mut connection = target.connection();
        set(
            &mut connection,
            [
                ("key:10".to_owned(), "damaged".to_owned()),
                ("key:11".to_owned(), "not in the list".to_owned()),
            ],
        );
        redis::cmd("DEL")
            .arg("key:20")
            .exec(&mut source.connection())
            .unwrap();
        of_migration(1);
        let finding = |name: &str, verdict: &str| (0, name.to_owned(), verdict.to_owned());
        assert_eq!(
            found(state.path()),
            [finding("key:10", "value"), finding("key:20", "extra")]
        );
        repair(NAME, state.path())
            .args(["--from", &from, "--apply", "--delete-extra", "--yes", "1"])
            .run()
            .expect_code(0);
        of_migration(0);
        assert_eq!(
            strings(&mut connection)
                .get(b"key:11".as_slice())
                .map(Vec::as_slice),
            Some(b"not in the list".as_slice())
        );
        assert_eq!(source.calls("scan"), 0);
    }
}

#[test]
fn names_of_any_bytes_come_escaped_or_with_nuls_and_are_one_list() {
    let Some(mut pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    fill(&pair.source, 0, &DataSet::new(1_500, 11));
    let odd: [&[u8]; 5] = [
        b"\xff\xfe",
        b" a\tb\n\r",
        b"\\x41\"",
        b"\x1b[31m",
        "\u{202e}\u{fc}".as_bytes(),
    ];
    for name in odd {
        redis::cmd("SET")
            .arg(name)
            .arg("odd")
            .exec(&mut pair.source.connection())
            .unwrap();
    }
    let mut names: Vec<Vec<u8>> = redis::cmd("KEYS")
        .arg("*")
        .query(&mut pair.source.connection())
        .unwrap();
    // NUL divides names in the one form only, and a line without anything is no name.
    names.retain(|name| !name.contains(&0) && !name.is_empty());
    assert!(names.len() > 1_000 && odd.iter().all(|odd| names.iter().any(|name| name == odd)));
    let escaped: Vec<String> = names
        .iter()
        .map(|name| redknot::key::Escaped(name).to_string())
        .collect();
    let lines = pair.file("lines", (escaped.join("\n") + "\n").as_bytes());
    let nuls = pair.file("nuls", &names.join(&0));
    let (lines, nuls) = (std::fs::read(lines).unwrap(), std::fs::read(nuls).unwrap());
    for (bytes, flag) in [
        (&lines, None),
        (&nuls, Some("-0")),
        (&nuls, Some("--keys-from0")),
    ] {
        pair.clear();
        let file = pair.file("list", bytes);
        let mut flags = vec!["--keys-from", file.to_str().unwrap()];
        flags.extend(flag);
        pair.migrate(&flags).run().expect_code(0);
        assert_eq!(pair.target.keys(0), names.len() as u64);
        compare(pair.state(), 0);
    }
    // The other form of the same list is the same plan; another list is not.
    let file = pair.file("lines", &lines);
    let again = pair
        .migrate(&["--keys-from", file.to_str().unwrap()])
        .run()
        .expect_code(0);
    assert!(again.stdout().contains("already complete"), "{again}");
    let other = pair.file("other", b"one\ntwo\n");
    let refused = pair
        .migrate(&["--keys-from", other.to_str().unwrap()])
        .run()
        .expect_code(26);
    let wanted = format!("--keys-from: previous {} names, blake3 ", names.len());
    assert!(
        said(&refused).contains(&wanted) && said(&refused).contains("now 2 names, blake3 "),
        "{refused}"
    );
}

#[test]
fn what_came_through_a_pipe_is_kept() {
    let Some(pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    let names = filled(&pair.source);
    let list = pair.file("names", names.join("\n").as_bytes());
    let flags = ["--keys-from", "-", "--batch", "50"];
    // The first run dies; the second one has nothing to read.
    let killed = pair
        .migrate(&flags)
        .stdin(&list)
        .env(
            "FAILPOINTS",
            "acknowledged_before_state_write=20*off->return",
        )
        .run();
    assert!(killed.was_killed(), "{killed}");
    assert!(pair.target.keys(0) > 0);
    pair.migrate(&flags).run().expect_code(0);
    assert!(strings(&mut pair.target.connection()) == listed(&pair.source, &names));
    // Nothing lies around but what is the migration's.
    let mut folder: Vec<_> = std::fs::read_dir(pair.state())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    folder.sort();
    assert_eq!(folder, [".names", NAME]);
    let mut target = pair.target.connection();
    one_damage_is_found_and_mended(&mut target, pair.state(), (0, "key:42"), "key:42");
    // Without a state there is nothing that could be meant.
    let empty = pair
        .migrate(&["--keys-from", "-", "--restart"])
        .run()
        .expect_code(2);
    assert!(
        said(&empty).contains("there is no name in standard input"),
        "{empty}"
    );
    std::fs::write(pair.state().join(NAME).join("keys-from"), "another").unwrap();
    let damaged = pair.migrate(&flags).arg("--new-pass").run().expect_code(25);
    assert!(
        said(&damaged).contains("is not the one that it began with"),
        "{damaged}"
    );
}

#[test]
fn what_was_quarantined_can_be_given_as_it_is_listed() {
    let Some(pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    for db in 0..2 {
        set(
            &mut pair.source.connection_to(db),
            (0..30).map(|n| (format!("k\\\n{n}"), format!("{db}"))),
        );
    }
    pair.migrate(&["--db-map", "0:0,1:0"]).run().expect_code(1);
    assert_eq!(quarantined(pair.state()).len(), 30);
    let list = keys(NAME, "quarantined", pair.state())
        .run()
        .expect_code(0)
        .stdout;
    let file = pair.file("quarantined", &list);
    Redknot::migrate(&url(&pair.source), &url(&pair.target), pair.state())
        .args([
            "--name",
            "rest",
            "--db-map",
            "1:0",
            "--on-conflict",
            "replace",
            "--prefix",
            "rest:",
            "--keys-from",
        ])
        .arg(&file)
        .run()
        .expect_code(0);
    let there = strings(&mut pair.target.connection());
    assert_eq!(there.len(), 60);
    assert_eq!(there["rest:k\\\n7".as_bytes()], b"1");
}

#[test]
fn a_list_is_selected_from_and_renamed_for_every_database() {
    let Some(pair) = Pair::new(REDIS_7_0) else {
        return;
    };
    for db in 0..3 {
        set(
            &mut pair.source.connection_to(db),
            (0..200).map(|n| (format!("k:{n}"), format!("{db}:{n}"))),
        );
    }
    let list = pair.file(
        "names",
        (0..300)
            .map(|n| format!("k:{n}\n"))
            .collect::<String>()
            .as_bytes(),
    );
    let flags = [
        "--all-dbs",
        "--db-map",
        "*:0",
        "--db-prefix=<{db}>",
        "--strip-prefix",
        "k:",
        "--match",
        "*[0-7]",
        "--exclude",
        "*3",
        "--keys-from",
    ];
    let command = pair.migrate(&flags).arg(&list).arg("--json");
    let finished = command.run().expect_code(0);
    let wanted: Keys = (0..3)
        .flat_map(|db| {
            (0..200)
                .filter(|n| n % 10 < 8 && n % 10 != 3)
                .map(move |n| (format!("<{db}>{n}").into(), format!("{db}:{n}").into()))
        })
        .collect();
    assert!(
        strings(&mut pair.target.connection()) == wanted,
        "{finished}"
    );
    let counters = &finished
        .json_lines()
        .into_iter()
        .rfind(|line| line["type"] == "complete")
        .unwrap()["counters"];
    // What a list names and the source does not have has vanished as far as anybody can tell.
    assert_eq!(
        (
            counters["keys_filtered"].as_u64(),
            counters["keys_vanished"].as_u64()
        ),
        (Some(3 * 90), Some(3 * 70))
    );
    let compared = compare(pair.state(), 0);
    assert_eq!(compared.count("equal"), wanted.len() as u64);
    let mut target = pair.target.connection();
    one_damage_is_found_and_mended(&mut target, pair.state(), (2, "k:40"), "<2>40");
    assert_eq!(pair.source.calls("scan"), 0);
}

#[test]
fn a_list_of_a_clusters_keys_is_read_wherever_they_are() {
    let Some(binary) = require(REDIS_7_0) else {
        return;
    };
    let cluster = Cluster::start(&binary, 3, 0);
    let target = Server::plain(&binary);
    let state = tempfile::tempdir().unwrap();
    let keys = cluster.fill(&DataSet::new(1_000, 4));
    let names: Vec<Vec<u8>> = cluster
        .masters()
        .iter()
        .flat_map(|node| -> Vec<Vec<u8>> {
            redis::cmd("KEYS")
                .arg("*")
                .query(&mut node.connection())
                .unwrap()
        })
        .collect();
    let list = state.path().join(".names");
    write_nuls(&list, &names);
    let flags = ["-0", "--keys-from", list.to_str().unwrap()];
    migrate(&cluster.url(), &url(&target), state.path(), &flags)
        .run()
        .expect_code(0);
    assert!(
        target.keys(0) > keys * 8 / 10,
        "{} of {keys}",
        target.keys(0)
    );
    compare(state.path(), 0);
    assert_eq!(cluster.calls("cluster|getkeysinslot"), 0);
}

/// Names that have no NUL in them, divided by NULs.
fn write_nuls(path: &Path, names: &[Vec<u8>]) {
    let names: Vec<&[u8]> = names
        .iter()
        .map(Vec::as_slice)
        .filter(|name| !name.contains(&0))
        .collect();
    std::fs::write(path, names.join(&0)).unwrap();
}
