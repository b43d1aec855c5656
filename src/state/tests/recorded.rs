//! What is kept of each key: which of it counts, and what is refused.

use super::*;
use crate::plan::OnConflict;

fn plan_with(on_conflict: OnConflict) -> Plan {
    Plan {
        on_conflict,
        ..plan(1)
    }
}

fn commit(store: &mut Store, recorded: Option<Vec<u8>>) {
    let LaneCheckpoint { pass, next_seq, .. } = store.lanes()[0];
    let batches = vec![AcknowledgedBatch {
        recorded,
        ..batch(pass, next_seq, next_seq, next_seq + 1)
    }];
    store.commit(&Commit { lane: 0, batches }).unwrap();
}

/// Entries of a large batch.
fn many() -> Vec<u8> {
    (0..100).flat_map(entries).collect()
}

fn visited(store: &Store) -> Vec<Entry> {
    let mut visited = Vec::new();
    store
        .visit_recorded(0, |entry| visited.push(entry))
        .unwrap();
    visited
}

#[test]
fn what_was_kept_comes_back_in_its_order_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan_with(OnConflict::RequireEmpty);
    let mut store = open_in(folder.path(), &plan).unwrap();
    begin_pass(&mut store, 0);
    commit(&mut store, Some(many()));
    commit(&mut store, Some(Vec::new()));
    commit(&mut store, Some(entries(7)));
    drop(store);
    let store = open_in(folder.path(), &plan).unwrap();
    let bytes: Vec<u8> = visited(&store)
        .iter()
        .flat_map(|entry| *entry.as_bytes())
        .collect();
    assert!(bytes == [many(), entries(7)].concat());
    let whole = Coverage {
        batches: 3,
        without: 0,
    };
    assert_eq!(store.recorded(0).unwrap(), whole);
    assert_eq!(store.recorded_entries(0).unwrap(), 1_010);
}

#[test]
fn a_batch_without_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    commit(&mut store, Some(entries(0)));
    commit(&mut store, None);
    let coverage = store.recorded(0).unwrap();
    assert_eq!((coverage.batches, coverage.without), (2, 1));
    // Another pass has its own.
    begin_pass(&mut store, 0);
    assert_eq!(store.recorded(0).unwrap(), Coverage::default());
}

#[test]
fn earlier_passes_are_forgotten_unless_they_say_what_is_kept() {
    let check = |on_conflict, wanted: [bool; 2]| {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open_in(folder.path(), &plan_with(on_conflict)).unwrap();
        begin_pass(&mut store, 0);
        commit(&mut store, Some(many()));
        begin_pass(&mut store, 0);
        commit(&mut store, Some(entries(1)));
        let visited = visited(&store);
        let has = |earlier: bool| visited.iter().any(|entry| entry.is_earlier() == earlier);
        assert_eq!([has(true), has(false)], wanted, "{on_conflict:?}");
    };
    check(OnConflict::RequireEmpty, [false, true]);
    check(OnConflict::Replace, [false, true]);
    check(OnConflict::Skip, [true, true]);
    check(OnConflict::Fail, [true, true]);
}

#[test]
fn entries_that_are_not_those_of_their_batch_are_refused() {
    let check = |edit: fn(&mut Vec<u8>)| {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open_in(folder.path(), &plan(1)).unwrap();
        begin_pass(&mut store, 0);
        commit(&mut store, Some(entries(0)));
        drop(store);
        let path = folder.path().join("shop/digests-0");
        let mut bytes = std::fs::read(&path).unwrap();
        edit(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let store = open_in(folder.path(), &plan(1)).unwrap();
        let error = store.visit_recorded(0, |_| {}).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    };
    check(|bytes| bytes[3] ^= 1);
    check(|bytes| bytes.truncate(32));
    check(Vec::clear);
}

/// What a run wrote that died before its commit is no batch's.
#[test]
fn what_lies_behind_the_last_batch_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    commit(&mut store, Some(entries(0)));
    drop(store);
    let path = folder.path().join("shop/digests-0");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend([0x5a; 1_000]);
    std::fs::write(&path, bytes).unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    commit(&mut store, Some(entries(1)));
    let kept: Vec<u8> = visited(&store)
        .iter()
        .flat_map(|entry| *entry.as_bytes())
        .collect();
    assert!(kept == [entries(0), entries(1)].concat());
}
