//! What is kept of big keys: it survives, lane by lane, until it is forgotten.

use super::*;
use crate::state::record::{BigKeyId, BigRecord};

fn record(seq: u64, renaming: bool) -> BigRecord {
    BigRecord {
        pass: 1,
        seq,
        temporary: vec![b't'; 200],
        mark: vec![b'm'; 200],
        renaming,
    }
}

#[test]
fn big_keys_are_kept_lane_by_lane_until_they_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(2)).unwrap();
    let ids: [BigKeyId; 3] = [[0; 16], [7; 16], [0xff; 16]];
    for id in ids {
        store.put_big_key(0, id, &record(3, false)).unwrap();
    }
    store.put_big_key(1, ids[0], &record(9, false)).unwrap();
    store.put_big_key(0, ids[1], &record(4, true)).unwrap();
    drop(store);
    let mut store = open_in(folder.path(), &plan(2)).unwrap();
    let wanted = vec![
        (ids[0], record(3, false)),
        (ids[1], record(4, true)),
        (ids[2], record(3, false)),
    ];
    assert_eq!(store.big_keys(0).unwrap(), wanted);
    assert_eq!(store.big_keys(1).unwrap(), [(ids[0], record(9, false))]);
    store.forget_big_keys(0, &ids[1..]).unwrap();
    drop(store);
    let store = open_in(folder.path(), &plan(2)).unwrap();
    assert_eq!(store.big_keys(0).unwrap(), [(ids[0], record(3, false))]);
    assert_eq!(store.big_keys(1).unwrap().len(), 1);
}

/// Whichever run asks, the names are the same; those of a state that was set aside are others.
#[test]
fn temporary_names_are_those_of_the_migration() {
    let folder = tempfile::tempdir().unwrap();
    let first = open_in(folder.path(), &plan(1)).unwrap().temporary();
    let again = open_in(folder.path(), &plan(1)).unwrap().temporary();
    assert_eq!(first, again);
    std::thread::sleep(std::time::Duration::from_millis(2));
    let anew = restart_in(folder.path(), &plan(1)).unwrap().temporary();
    assert!(!anew.is_one(&first.of_value(b"key")));
}
