use super::{NAME, Pair};
use crate::cli::{Said, answered_on_terminal, on_terminal};
use crate::support::redknot::Redknot;

/// Keys that only the target has.
fn add_extras(pair: &Pair, names: &[&str]) {
    for name in names {
        Pair::on(&pair.target, &[&format!("SET {name} theirs")]);
    }
}

/// How often anything that changes the target was sent. The handshake's probe is a RESTORE that fails.
fn writes(pair: &Pair) -> u64 {
    ["restore", "unlink", "del"]
        .into_iter()
        .map(|command| pair.target.calls(command))
        .sum()
}

#[test]
fn nothing_is_deleted_that_was_not_confirmed_by_its_number() {
    let Some(pair) = Pair::new(50) else { return };
    add_extras(&pair, &["extra:1", "extra:2", "extra:3"]);
    pair.compare();
    let before = writes(&pair);
    let said = |args: &[&str]| {
        let finished = pair.repair(args).run();
        let said = Said::of(&finished).hide_path(pair.state.path(), "STATE");
        format!("$ redknot repair {}\n{said}\n\n", args.join(" "))
    };
    let said = [
        said(&["--apply", "--delete-extra"]),
        said(&["--apply", "--delete-extra", "--yes", "2"]),
        said(&["--apply", "--delete-extra", "--yes", "4"]),
        said(&["--apply", "--delete-extra", "--yes", "-1"]),
        said(&["--apply", "--delete-extra", "--yes", "all"]),
        said(&["--apply", "--yes", "3"]),
    ];
    insta::assert_snapshot!(said.concat(), @r"
    $ redknot repair --apply --delete-extra
    exit 2
    error: --delete-extra has to be confirmed with --yes COUNT
      the comparison found 3 keys that only the target has; nothing was sent
    hint: redknot keys shop --state-dir STATE --class extra lists them; --yes 3 confirms it

    $ redknot repair --apply --delete-extra --yes 2
    exit 2
    error: 2 is not the number of keys to delete
      the comparison found 3 keys that only the target has; nothing was sent
    hint: redknot keys shop --state-dir STATE --class extra lists them; --yes 3 confirms it

    $ redknot repair --apply --delete-extra --yes 4
    exit 2
    error: 4 is not the number of keys to delete
      the comparison found 3 keys that only the target has; nothing was sent
    hint: redknot keys shop --state-dir STATE --class extra lists them; --yes 3 confirms it

    $ redknot repair --apply --delete-extra --yes -1
    exit 2
    error: --yes can't be `-1`
      not a whole number
    hint: redknot repair --help

    $ redknot repair --apply --delete-extra --yes all
    exit 2
    error: --yes can't be `all`
      not a whole number
    hint: redknot repair --help

    $ redknot repair --apply --yes 3
    exit 2
    error: --yes confirms nothing without --delete-extra
      only deletions have to be confirmed
    hint: give --delete-extra as well, or leave --yes away
    ");
    assert_eq!(writes(&pair), before);
    // Confirmed, but without --apply.
    pair.repair(&["--delete-extra", "--yes", "3"])
        .run()
        .expect_code(1);
    assert_eq!(writes(&pair), before);
    assert_eq!(pair.target.keys(0), pair.source.keys(0) + 3);
    pair.repair(&["--apply", "--delete-extra", "--yes", "3"])
        .run()
        .expect_code(0);
    assert_eq!(pair.target.keys(0), pair.source.keys(0));
    // Nothing is left to confirm.
    pair.repair(&["--apply", "--delete-extra"])
        .run()
        .expect_code(0);
}

#[test]
fn on_a_terminal_the_number_is_asked_for() {
    let Some(pair) = Pair::new(50) else { return };
    add_extras(&pair, &["extra:1", "extra:2"]);
    pair.compare();
    let state = pair.state.path().to_str().unwrap();
    let args = [
        "repair",
        NAME,
        "--apply",
        "--delete-extra",
        "--state-dir",
        state,
    ];
    let question = "Type their number to go on: ";
    for wrong in ["yes\n", "3\n", "\n"] {
        let (code, shown) = answered_on_terminal(&args, question, wrong.as_bytes());
        assert_eq!(code, Some(2), "{shown}");
        assert!(
            shown.contains("2 keys that only the target has will be deleted there"),
            "{shown}"
        );
        assert_eq!(pair.target.calls("unlink"), 0);
    }
    let no_input = [&args[..], &["--no-input"]].concat();
    let (code, shown) = on_terminal(&no_input, &[], 80, None);
    assert_eq!(code, Some(2), "{shown}");
    let (code, shown) = answered_on_terminal(&args, question, b"2\n");
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(pair.target.calls("unlink"), 2);
    crate::support::oracle::assert_equal(&pair.source, &pair.target);
}

#[test]
fn what_changed_since_the_comparison_is_asked_once_more() {
    let Some(pair) = Pair::new(50) else { return };
    Pair::on(
        &pair.source,
        &[
            "SET gone:everywhere ours",
            "SET gone:here ours",
            "SET changed ours",
        ],
    );
    Pair::on(
        &pair.target,
        &["SET gone:here theirs", "SET changed theirs"],
    );
    add_extras(
        &pair,
        &["extra:1", "extra:came", "extra:same", "extra:went"],
    );
    pair.compare();
    assert_eq!(pair.findings(), 7);
    Pair::on(
        &pair.source,
        &[
            "DEL gone:everywhere gone:here",
            "SET changed ours-now",
            "SET extra:came ours",
            "SET extra:same theirs",
        ],
    );
    Pair::on(&pair.target, &["DEL extra:went"]);
    let repaired = pair
        .repair(&["--apply", "--delete-extra", "--yes", "4"])
        .run()
        .expect_code(1);
    let status = pair.status().repair.unwrap();
    let counters = status.counters;
    // `changed` was written; `extra:same` is equal now, whoever did it.
    assert_eq!(counters.keys_repaired, 2, "{repaired}");
    assert_eq!(counters.keys_deleted, 2, "{repaired}");
    assert_eq!(counters.keys_vanished, 1, "{repaired}");
    assert_eq!(status.findings_left, 2, "{repaired}");
    // Not counted when the number was confirmed, and on the source by now: neither is deleted.
    let left: Vec<String> = pair.differences().iter().map(ToString::to_string).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert_eq!(pair.target.calls("unlink"), 2);
    let listed = pair.redknot("keys", &["--class", "extra"]).run();
    let listed = listed.expect_code(0).stdout();
    assert!(listed.starts_with("gone:here\tdb0\textra\t"), "{listed}");
    let listed = pair.redknot("keys", &["--class", "value"]).run();
    let listed = listed.expect_code(0).stdout();
    assert!(listed.starts_with("extra:came\tdb0\tvalue\t"), "{listed}");
    pair.repair(&["--apply", "--delete-extra", "--yes", "1"])
        .run()
        .expect_code(0);
    crate::support::oracle::assert_equal(&pair.source, &pair.target);
}

#[test]
fn what_the_plan_keeps_is_not_written_over_unless_that_is_said() {
    let Some(redis) = crate::support::version::require(crate::support::version::REDIS_7_0) else {
        return;
    };
    let pair = Pair::of(&redis, &redis, 50);
    // Another migration of the same servers, into keys that are there.
    Pair::on(&pair.source, &["SET own ours", "SET lost ours"]);
    Pair::on(&pair.target, &["SET own theirs"]);
    let state = tempfile::tempdir().unwrap();
    Redknot::migrate(&pair.source.url(0), &pair.target.url(0), state.path())
        .args(["--name", NAME, "--on-conflict", "skip"])
        .run()
        .expect_code(0);
    let pair = Pair { state, ..pair };
    Pair::on(&pair.target, &["DEL lost"]);
    pair.compare();
    let shown = pair.repair(&[]).run().expect_code(1);
    assert!(
        shown.stdout().contains("--overwrite-kept writes over it"),
        "{shown}"
    );
    pair.repair(&["--apply"]).run().expect_code(1);
    let left = pair.differences();
    assert_eq!((left.len(), left[0].key.as_slice()), (1, &b"own"[..]));
    pair.repair(&["--apply", "--overwrite-kept"])
        .run()
        .expect_code(0);
    assert!(pair.differences().is_empty());
}

#[test]
fn what_can_not_be_repaired_is_refused_before_anything_is_sent() {
    let Some(pair) = Pair::new(50) else { return };
    let said = |args: &[&str]| {
        let finished = pair.repair(args).run();
        let said = Said::of(&finished)
            .hide_path(pair.state.path(), "STATE")
            .hide(&pair.source.port().to_string(), "SOURCE")
            .hide(&pair.target.port().to_string(), "TARGET");
        format!("{said}\n\n")
    };
    let never = said(&["--apply"]);
    Pair::on(&pair.source, &["SET missing one"]);
    pair.compare();
    let elsewhere = said(&["--apply", "--to", "127.0.0.1:1"]);
    let other_db = said(&["--apply", "--from", &pair.source.url(3)]);
    let before = writes(&pair);
    Pair::on(
        &pair.target,
        &[&format!("REPLICAOF 127.0.0.1 {}", pair.source.port())],
    );
    let replica = said(&["--apply"]);
    Pair::on(&pair.target, &["REPLICAOF NO ONE"]);
    assert_eq!(writes(&pair), before);
    insta::assert_snapshot!([never, elsewhere, other_db, replica].concat(), @r"
    exit 2
    error: there is nothing that could be repaired
      both sides have never been compared
    hint: redknot compare shop --state-dir STATE

    exit 26
    note: --to means redis://127.0.0.1:1/0
    error: --to names another server than the migration has
      target: previous 127.0.0.1:TARGET, now 127.0.0.1:1
    hint: --to can be left away: the address is stored, and a password can come from --to-pass-file

    exit 26
    error: --from names another database than the migration has
      databases of the source: previous 0, now 3
    hint: --from can be left away: the address is stored, and a password can come from --from-pass-file

    exit 22
      repair    shop  1: 1 finding of comparison 1
    error: target: failed to use the target
      it is a replica, and replicas refuse writes
    hint: give --to the address of its master (INFO replication, master_host)
    ");
}
