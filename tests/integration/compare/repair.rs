use super::{NAME, Pair};
use crate::support::comparing::{assert_findings, expected};
use crate::support::corrupt::{Damage, corrupt};
use crate::support::dataset::DataSet;
use crate::support::seed;
use crate::support::server::Server;
use crate::support::version::{Kind, REDIS_7_0, REDIS_8_2, VALKEY_9_1};

/// A pair with a thousand damages on the target, all of them found.
fn damaged(from: Kind, to: Kind) -> Option<(Pair, Vec<Damage>)> {
    let seed = seed();
    let set = DataSet {
        field_ttls: from.knows_field_ttl && to.knows_field_ttl,
        ..DataSet::new(20_000, seed)
    };
    let pair = Pair::migrated(from, to, &set)?;
    let damages = corrupt(&pair.source, &pair.target, 0, 1_000, seed);
    pair.compared(1);
    assert_findings(&pair.findings(), &expected(&damages), &damages);
    Some((pair, damages))
}

/// Changes since the server started, which no read makes.
fn changes(server: &Server) -> u64 {
    server.info("persistence")["rdb_changes_since_last_save"]
        .parse()
        .unwrap()
}

#[test]
fn repair_shows_what_it_would_do_and_changes_nothing() {
    let Some((pair, damages)) = damaged(REDIS_7_0, REDIS_7_0) else {
        return;
    };
    let before = (changes(&pair.source), changes(&pair.target));
    let finished = pair.repair().run().expect_code(1);
    assert!(
        finished.stdout().contains("--apply") || finished.stderr().contains("--apply"),
        "it says how it is done\n{finished}"
    );
    assert_eq!((changes(&pair.source), changes(&pair.target)), before);
    assert_findings(&pair.differences(), &expected(&damages), &damages);
}

fn everything_is_repaired(from: Kind, to: Kind) {
    let Some((pair, damages)) = damaged(from, to) else {
        return;
    };
    let source_changes = changes(&pair.source);
    let mut extras = expected(&damages);
    extras.retain(|_, verdict| *verdict == "extra");
    // What only the target has is left alone, and stays a finding.
    let finished = pair.repair().arg("--apply").run();
    assert_eq!(finished.code(), Some(1), "{finished}");
    assert_findings(&pair.differences(), &extras, &damages);
    pair.compared(1);
    assert_findings(&pair.findings(), &extras, &damages);
    // Only with the right number.
    let keys = pair.target.keys(0);
    let delete = |count: Option<usize>| {
        let repair = pair.repair().args(["--apply", "--delete-extra"]);
        match count {
            Some(count) => repair.arg("--yes").arg(count.to_string()).run(),
            None => repair.run(),
        }
    };
    for count in [
        None,
        Some(extras.len() - 1),
        Some(extras.len() + 1),
        Some(0),
    ] {
        let refused = delete(count).expect_code(2);
        assert!(
            refused.stderr().contains(&extras.len().to_string()),
            "it says how many there are\n{refused}"
        );
        assert_eq!(pair.target.keys(0), keys, "{refused}");
    }
    delete(Some(extras.len())).expect_code(0);
    assert_eq!(pair.target.keys(0), pair.source.keys(0));
    pair.oracle().assert_equal();
    pair.compared(0).assert_equal(pair.source.keys(0));
    assert!(pair.findings().is_empty());
    assert_eq!(changes(&pair.source), source_changes);
}

#[test]
fn everything_that_was_found_is_repaired_on_redis() {
    everything_is_repaired(REDIS_7_0, REDIS_7_0);
}

#[test]
fn everything_that_was_found_is_repaired_where_fields_expire() {
    everything_is_repaired(VALKEY_9_1, VALKEY_9_1);
    everything_is_repaired(REDIS_8_2, VALKEY_9_1);
}

#[test]
fn repair_deletes_nothing_that_the_source_has_meanwhile() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(500, seed())) else {
        return;
    };
    for key in ["stays", "goes"] {
        redis::cmd("SET")
            .arg(key)
            .arg("on the target")
            .exec(&mut pair.target.connection())
            .unwrap();
    }
    pair.compared(1);
    assert_eq!(pair.findings().len(), 2);
    redis::cmd("SET")
        .arg("stays")
        .arg("on the source")
        .exec(&mut pair.source.connection())
        .unwrap();
    let finished = pair
        .repair()
        .args(["--apply", "--delete-extra", "--yes", "2"])
        .run();
    assert!(matches!(finished.code(), Some(0 | 1)), "{finished}");
    let mut target = pair.target.connection();
    let left: (Option<String>, Option<String>) = redis::cmd("MGET")
        .arg(&["stays", "goes"])
        .query(&mut target)
        .unwrap();
    assert!(
        left.0.is_some(),
        "a key of the source was deleted\n{finished}"
    );
    assert_eq!(left.1, None, "{finished}");
}

#[test]
fn repair_reads_the_source_anew() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(500, seed())) else {
        return;
    };
    let set = |server: &Server, key: &str, value: &str| {
        redis::cmd("SET")
            .arg(key)
            .arg(value)
            .exec(&mut server.connection())
            .unwrap();
    };
    set(&pair.source, "changed", "once");
    set(&pair.source, "deleted", "once");
    pair.compared(1);
    set(&pair.source, "changed", "twice");
    redis::cmd("DEL")
        .arg("deleted")
        .exec(&mut pair.source.connection())
        .unwrap();
    pair.repair().arg("--apply").run().expect_code(0);
    let mut target = pair.target.connection();
    let value: Option<String> = redis::cmd("GET").arg("changed").query(&mut target).unwrap();
    assert_eq!(value.as_deref(), Some("twice"));
    pair.compared(0);
}

#[test]
fn repair_without_findings_has_nothing_to_do() {
    let Some(pair) = Pair::migrated(REDIS_7_0, REDIS_7_0, &DataSet::new(500, seed())) else {
        return;
    };
    // Nobody has looked yet.
    let refused = pair.repair().arg("--apply").run();
    assert!(matches!(refused.code(), Some(0 | 2)), "{refused}");
    let said = refused.stderr() + &refused.stdout();
    assert!(
        said.contains(&format!("redknot compare {NAME}")),
        "{refused}"
    );
    pair.compared(0);
    let before = pair.target.calls("restore");
    for args in [
        &[][..],
        &["--apply"],
        &["--apply", "--delete-extra", "--yes", "0"],
    ] {
        pair.repair().args(args).run().expect_code(0);
    }
    assert!(pair.target.calls("restore") - before <= 6, "only probes");
    pair.oracle().assert_equal();
}
