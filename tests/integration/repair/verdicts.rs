use super::{Pair, last_event};
use crate::support::dataset::{DataSet, fill};
use crate::support::oracle::Verdict;
use crate::support::proxy::{Proxy, Seen};
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{REDIS_6_2, REDIS_8_2, require};

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
    let seen = |server: &Server| {
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
    assert!(keys.contains("  missing    db0  missing:list  "), "{keys}");
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
}

#[test]
fn an_expiry_is_kept_and_none_is_lost_on_the_way() {
    let Some(mut pair) = Pair::new(0) else { return };
    let proxy = Proxy::start(pair.target.port(), seed());
    pair.to = proxy.url(0);
    pair.state = tempfile::tempdir().unwrap();
    pair.migrate(&[]);
    let mut connection = pair.source.connection();
    let mut source = redis::pipe();
    for n in 1..=400 {
        // Some are in their last milliseconds whenever they are read.
        source
            .cmd("SET")
            .arg(format!("short:{n}"))
            .arg(n)
            .arg("PX")
            .arg(2 * n + 100);
        source
            .cmd("SET")
            .arg(format!("long:{n}"))
            .arg(n)
            .arg("PX")
            .arg(1_000_000 + n);
    }
    source.exec(&mut connection).unwrap();
    pair.compare();
    proxy.record();
    pair.repair(&["--apply"]).run();
    let restored: Vec<Seen> = proxy
        .commands()
        .into_iter()
        .filter(|seen| seen.name == "RESTORE" && !seen.args[0].starts_with(b"redknot:"))
        .collect();
    assert!(restored.len() >= 400, "{}", restored.len());
    for seen in &restored {
        assert_ne!(seen.args[1], b"0", "a key that expires was made permanent");
        assert!(seen.args.contains(&b"ABSTTL".to_vec()));
    }
    for n in [1, 200, 400] {
        let at = |server: &Server| -> i64 {
            let mut asked = redis::cmd("PEXPIRETIME");
            asked.arg(format!("long:{n}"));
            asked.query(&mut server.connection()).unwrap()
        };
        assert_eq!(at(&pair.source), at(&pair.target));
    }
}

#[test]
fn what_an_older_target_does_not_read_is_converted_as_in_the_copy() {
    let (Some(newer), Some(older)) = (require(REDIS_8_2), require(REDIS_6_2)) else {
        return;
    };
    let pair = Pair::of(&newer, &older, 10);
    fill(
        &pair.source,
        0,
        &DataSet {
            prefix: "more:".into(),
            ..DataSet::new(600, seed())
        },
    );
    pair.compare();
    assert!(pair.findings() >= 600);
    let repaired = pair.repair(&["--apply"]).run().expect_code(0);
    assert!(
        repaired.stdout().contains("repaired: repaired 600 "),
        "{repaired}"
    );
    crate::support::oracle::assert_equal(&pair.source, &pair.target);
}

#[test]
fn after_a_repair_the_comparison_finds_nothing_any_more() {
    let Some(pair) = Pair::new(600) else { return };
    break_target(&pair);
    let compare = |code| {
        let compared = pair.redknot("compare", &["--json"]).run();
        last_event(&compared.expect_code(code), "compared")
    };
    let found = compare(1);
    assert_eq!(
        (&found["counters"]["missing"], &found["counters"]["extra"]),
        (&2.into(), &2.into()),
        "{found}"
    );
    assert_eq!(pair.findings(), 12);
    let listed = pair.redknot("keys", &["--class", "value"]).run();
    let listed = listed.expect_code(0).stdout();
    assert!(
        listed.contains("value:hash\tdb0\tvalue\thash  field \"g\" differs"),
        "{listed}"
    );
    pair.repair(&["--apply", "--delete-extra", "--yes", "2"])
        .run()
        .expect_code(0);
    let found = compare(0);
    assert_eq!(found["counters"]["equal"], pair.source.keys(0), "{found}");
    crate::support::oracle::assert_equal(&pair.source, &pair.target);
}
