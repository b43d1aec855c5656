use super::{NAME, Pair, last_event};
use crate::support::oracle::Verdict;

/// Breaks the target in every way there is.
fn break_target(pair: &Pair) {
    Pair::on(
        &pair.source,
        &[
            "SET missing:string one",
            "RPUSH missing:list a b c",
            "SADD value:set a b c",
            "ZADD value:zset 1 a 2 b",
            "HSET value:hash f 1 g 2",
            "XADD value:stream 1-1 f v",
            "SET type one",
            "SET ttl:shifted one PX 5000000",
            "SET ttl:lost one PX 5000000",
            "SET ttl:invented one",
        ],
    );
    Pair::on(
        &pair.target,
        &[
            "SADD value:set a b d",
            "ZADD value:zset 1 a 2.0000000000000004 b",
            "HSET value:hash f 1 g 3",
            "XADD value:stream 1-2 f v",
            "RPUSH type one",
            "SET ttl:shifted one PX 4990000",
            "SET ttl:lost one",
            "SET ttl:invented one PX 5000000",
            "SET extra:1 one",
            "RPUSH extra:2 one",
        ],
    );
}

#[test]
fn every_verdict_is_shown_first_and_repaired_on_request() {
    let Some(pair) = Pair::new(600) else { return };
    break_target(&pair);
    pair.compare();
    let seen = |server: &crate::support::server::Server| {
        (
            server.calls("restore"),
            server.info("stats")["total_connections_received"].clone(),
            server.info("stats")["total_commands_processed"].clone(),
        )
    };
    // Asking is a connection and two commands of its own; what redknot adds to them is nothing.
    let (first, second) = (seen(&pair.target), seen(&pair.target));
    let shown = pair.repair(&[]).run().expect_code(1);
    let third = seen(&pair.target);
    let asked = |a: &str, b: &str| b.parse::<u64>().unwrap() - a.parse::<u64>().unwrap();
    assert_eq!(first.0, third.0);
    assert_eq!(asked(&first.1, &second.1), asked(&second.1, &third.1));
    assert_eq!(asked(&first.2, &second.2), asked(&second.2, &third.2));
    let state = pair.state.path().display().to_string();
    let text = shown.stdout().replace(&state, "STATE");
    let text = text.split_once('\n').unwrap().1;
    let (table, keys) = text.split_once("\n\n").unwrap();
    insta::assert_snapshot!(table, @r"
    verdict          keys  with --apply
    missing             2  is written
    value               4  is written over
    type                1  is written over
    ttl                 3  is written over, with its expiry
    extra               2  stays; --delete-extra deletes it
    ");
    assert!(
        keys.contains("\"") || keys.contains("missing    db0  missing:"),
        "{keys}"
    );
    let next = keys.split_once("  next").unwrap().1;
    insta::assert_snapshot!(next, @r"
    redknot repair shop --state-dir STATE --apply
          redknot repair shop --state-dir STATE --apply --delete-extra --yes 2
    ");

    let applied = pair.repair(&["--apply", "--json"]).run().expect_code(1);
    let end = last_event(&applied, "repaired");
    assert_eq!(
        (&end["counters"]["keys_repaired"], &end["findings_left"]),
        (&10.into(), &2.into()),
        "{applied}"
    );
    let left = pair.differences();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|left| left.verdict == Verdict::Extra));
    assert_eq!(pair.target.calls("unlink") + pair.target.calls("del"), 0);
    assert_eq!(pair.findings(), 2);

    let deleted = pair
        .repair(&["--apply", "--delete-extra", "--yes", "2"])
        .run()
        .expect_code(0);
    assert!(
        deleted
            .stdout()
            .contains("repaired 0 + deleted 2 + vanished 0"),
        "{deleted}"
    );
    crate::support::oracle::assert_equal(&pair.source, &pair.target);
    assert_eq!(pair.target.calls("unlink"), 2);
    let mut names: Vec<String> = pair
        .journal("deleted")
        .iter()
        .map(|line| line["key"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["extra:1", "extra:2"]);
    assert_eq!(pair.journal("repaired").len(), 2);
    assert_eq!(pair.findings(), 0);

    let again = pair.repair(&["--apply"]).run().expect_code(0);
    assert!(again.stdout().starts_with("nothing to repair: "), "{again}");
    let status = pair.status();
    let repair = status.repair.expect("a repair");
    assert_eq!((repair.repair, repair.findings_left), (2, 0));
    assert_eq!(status.state, ::redknot::progress::RunState::Complete);
    let block = pair.redknot("status", &[]).run().expect_code(0).stdout();
    assert!(
        block.contains("\nrepair      of comparison 1 at "),
        "{block}"
    );
    // The migration goes on as it was.
    pair.migrate(&["--new-pass"]);
    assert_eq!(pair.status().repair.unwrap().repair, 2);
    crate::support::oracle::assert_equal(&pair.source, &pair.target);
    let _ = NAME;
}
