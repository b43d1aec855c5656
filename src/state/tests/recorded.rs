//! What is kept of each key: which of it counts, and what is refused.

use super::*;
use crate::plan::OnConflict;
use crate::state::engine::{Engine, Writes};
use crate::state::layout;

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

/// More entries than fit into one record.
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
    // As many as its batches count, which here have more.
    assert_eq!(store.recorded_entries(0).unwrap(), 30);
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
        let engine = Engine::open(&folder.path().join("shop")).unwrap();
        let key = layout::recorded(0, 1, 0, 0);
        let mut value = engine.get(&key).unwrap().unwrap();
        edit(&mut value);
        let mut writes = Writes::default();
        match value.is_empty() {
            true => writes.remove(key),
            false => writes.put(key, value),
        }
        engine.apply(writes).unwrap();
        drop(engine);
        let store = open_in(folder.path(), &plan(1)).unwrap();
        let error = store.visit_recorded(0, |_| {}).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    };
    check(|value| value[3] ^= 1);
    check(|value| value.truncate(32));
    check(Vec::clear);
}
