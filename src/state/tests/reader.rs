//! Reading a state without working on it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::*;

/// A pass of one batch in which so many keys were quarantined.
fn quarantining(state_dir: &Path, keys: u64) {
    let mut store = open_in(state_dir, &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    let one = AcknowledgedBatch {
        counters: Counters {
            keys_scanned: keys,
            keys_quarantined: keys,
            ..Counters::default()
        },
        makeup: Box::default(),
        quarantined: (0..keys)
            .map(|n| (format!("bad:{n}").into_bytes(), quarantined(1, 0)))
            .collect(),
        ..batch(1, 0, 0, 0)
    };
    store
        .commit(&Commit {
            lane: 0,
            batches: vec![one],
        })
        .unwrap();
    store.end_run("complete").unwrap();
}

#[test]
fn every_key_is_shown_once_whatever_the_number_of_pages() {
    for keys in [0, 1, 255, 256, 257, 700] {
        let dir = tempfile::tempdir().unwrap();
        quarantining(dir.path(), keys);
        let reader = Reader::open(dir.path(), "shop", "test").unwrap();
        let mut names = BTreeSet::new();
        let mut shown = 0;
        reader
            .visit_quarantine(|key| {
                names.insert(key.entry.name.clone());
                shown += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!((names.len() as u64, shown), (keys, keys));
        let mut first = 0;
        reader
            .visit_quarantine(|_| {
                first += 1;
                ControlFlow::Break(())
            })
            .unwrap();
        assert_eq!(first, keys.min(1));
    }
}

#[test]
fn reading_changes_nothing_and_keeps_others_out() {
    let dir = tempfile::tempdir().unwrap();
    quarantining(dir.path(), 3);
    let reader = Reader::open(dir.path(), "shop", "redknot keys").unwrap();
    assert_eq!(reader.meta().runs, 1);
    match open_in(dir.path(), &plan(1)) {
        Err(StoreError::Locked { command, .. }) => assert_eq!(command, "redknot keys"),
        other => panic!("{other:?}"),
    }
    drop(reader);
    let store = open_in(dir.path(), &plan(1)).unwrap();
    assert_eq!(store.run(), 2);
    assert!(matches!(
        Reader::open(dir.path(), "shop", "redknot keys"),
        Err(StoreError::Locked { .. })
    ));
}

#[test]
fn what_a_run_would_refuse_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Reader::open(dir.path(), "shop", "test").map(drop);
    assert!(matches!(open(), Err(StoreError::Unknown { .. })));
    quarantining(dir.path(), 3);
    open().unwrap();
    std::fs::rename(dir.path().join("shop/db"), dir.path().join("elsewhere")).unwrap();
    assert!(matches!(open(), Err(StoreError::Amnesia { .. })));
    assert!(!dir.path().join("shop/db").exists(), "it was made anew");
}
