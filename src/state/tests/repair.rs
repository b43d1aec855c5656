//! What a repair keeps: what was confirmed, what it did, how the findings stand.

use super::compare::found;
use super::*;
use crate::progress::{RepairCounters, RepairState, Verdict};
use crate::state::record::{FindingRecord, FindingState};

/// A store with a comparison that is over and found these keys missing.
fn compared(dir: &Path, names: &[&[u8]]) -> Store {
    let mut store = open_in(dir, &plan(1)).unwrap();
    found(&mut store, names, Verdict::Missing);
    store
}

fn states(store: &Store) -> Vec<(Vec<u8>, bool)> {
    let findings = store.findings(None, 100).unwrap();
    let mut states: Vec<(Vec<u8>, bool)> = findings
        .into_iter()
        .map(|finding| (finding.name, finding.record.state == FindingState::Open))
        .collect();
    states.sort();
    states
}

#[test]
fn what_became_of_findings_is_kept_with_what_counts_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = compared(folder.path(), &[b"a", b"b", b"c"]);
    store.begin_repair(3, Some(1)).unwrap();
    let all = store.findings(None, 100).unwrap();
    let of = |name: &[u8]| {
        let finding = all.iter().find(|finding| finding.name == name).unwrap();
        (finding.id, finding.record.clone())
    };
    let (id, record) = of(b"b");
    let differs = FindingRecord {
        verdict: Verdict::Value,
        detail: "x".repeat(10_000),
        ..record
    };
    let commit = RepairCommit {
        counters: RepairCounters {
            keys_repaired: 1,
            payload_bytes_written: 7,
            ..RepairCounters::default()
        },
        settled: vec![of(b"a")],
        left: vec![(id, differs)],
        deleted: vec![(0, b"gone\n".to_vec())],
    };
    store.commit_repair(commit).unwrap();
    drop(store);
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    let wanted = [(b"a", false), (b"b", true), (b"c", true)];
    assert_eq!(
        states(&store),
        wanted.map(|(name, open)| (name.to_vec(), open))
    );
    let left = store.findings(None, 100).unwrap();
    let left = left.iter().find(|finding| finding.name == b"b").unwrap();
    assert_eq!(left.record.verdict, Verdict::Value);
    assert_eq!(left.record.detail.len(), super::super::record::TEXT_BYTES);
    let status = store.repair_status().unwrap();
    assert_eq!(
        (status.state, status.counters.keys_repaired),
        (RepairState::Stopped, 1)
    );
    // It goes on, and ends.
    assert_eq!(store.begin_repair(2, None).unwrap().repair, 1);
    store.end_repair(2).unwrap();
    drop(store);
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    let status = store.repair_status().unwrap();
    assert_eq!(
        (status.state, status.findings_left),
        (RepairState::Repaired, 2)
    );
    assert_eq!(store.begin_repair(2, None).unwrap().repair, 2);
    let journal = std::fs::read_to_string(folder.path().join("shop/audit.ndjson")).unwrap();
    assert_eq!(journal.matches("\"event\":\"repair_started\"").count(), 3);
    assert_eq!(journal.matches("\"event\":\"repaired\"").count(), 1);
    assert_eq!(journal.matches("\"key\":\"gone\\\\n\"").count(), 1);
}

#[test]
fn a_number_holds_for_the_keys_that_were_found_before_it_was_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = compared(folder.path(), &[b"a"]);
    let first = store.begin_repair(1, Some(1)).unwrap().confirmed.unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
    // Said again by the command that goes on.
    let again = store.begin_repair(1, Some(1)).unwrap().confirmed.unwrap();
    assert_eq!(first, again);
    let other = store.begin_repair(1, Some(2)).unwrap().confirmed.unwrap();
    assert!(other.keys == 2 && other.at_ms > first.at_ms);
    assert_eq!(store.begin_repair(1, None).unwrap().confirmed, None);
}

#[test]
fn a_repair_ends_with_the_comparison_that_found_its_findings() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = compared(folder.path(), &[b"a"]);
    store.begin_repair(1, None).unwrap();
    assert!(store.repair_status().is_some());
    found(&mut store, &[b"b"], Verdict::Extra);
    assert!(store.repair_status().is_none());
    assert_eq!(store.begin_repair(1, None).unwrap().repair, 2);
}

#[test]
fn a_reader_sees_findings_and_an_unfinished_repair() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<Vec<u8>> = (0..600).map(|n| format!("k{n}").into_bytes()).collect();
    let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let mut store = compared(folder.path(), &names);
    store.begin_repair(600, Some(600)).unwrap();
    drop(store);
    let reader = Reader::open(folder.path(), "shop", "test").unwrap();
    let mut seen = 0;
    reader
        .visit_findings(|_| {
            seen += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, 600);
    assert_eq!(reader.repair().unwrap().confirmed.unwrap().keys, 600);
    assert_eq!(reader.compare().unwrap().compare, 1);
}
