//! The store as a whole: what it remembers, what it refuses, what it makes of damage.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod audit;
mod big;
mod compare;
mod damage;
mod model;
mod reader;
mod recorded;
mod recorder;
mod refusals;
mod repair;
mod space;

use std::path::Path;

use super::record::{LaneCheckpoint, Phase, Position, QuarantineRecord, ServerIdentity};
use super::*;
use crate::plan::{LanePlan, Plan};
use crate::progress::{Arrived, Counters, Makeup, RunState, Status, TlsUse};
use crate::recorded::{Entry, Outcome};

fn plan(lanes: u32) -> Plan {
    Plan {
        source: "source:6379".into(),
        target: "target:6379".into(),
        lanes: (0..lanes)
            .map(|db| LanePlan {
                source_db: db,
                target_db: db,
            })
            .collect(),
        ..Plan::default()
    }
}

fn open_in(state_dir: &Path, plan: &Plan) -> Result<Store, StoreError> {
    open(&OpenRequest {
        state_dir,
        name: "shop",
        plan,
        restart: false,
        durability: Durability::Fsync,
        command: "redknot migrate",
    })
}

fn restart_in(state_dir: &Path, plan: &Plan) -> Result<Store, StoreError> {
    open(&OpenRequest {
        state_dir,
        name: "shop",
        plan,
        restart: true,
        durability: Durability::Fsync,
        command: "redknot migrate",
    })
}

/// Batch `seq` of a pass: ten keys, one of them quarantined in every fifth.
fn batch(pass: u32, seq: u64, cursor_in: u64, cursor_out: u64) -> AcknowledgedBatch {
    let bad = seq % 5 == 4;
    AcknowledgedBatch {
        run: 1,
        cursor_in,
        cursor_out,
        count: 10,
        keyspace: Some(1_000),
        counters: Counters {
            keys_scanned: 10,
            keys_written: 10 - u64::from(bad),
            keys_quarantined: u64::from(bad),
            payload_bytes_written: 123,
            ..Counters::default()
        },
        makeup: Box::new(Makeup::of(Arrived::UNSEEN, 10 - u64::from(bad))),
        keys_digest: *blake3::hash(&seq.to_le_bytes()).as_bytes(),
        scanned_ms: 1_000 + seq,
        acknowledged_ms: 1_001 + seq,
        canary_keys: (0..10)
            .map(|n| format!("key:{seq}:{n}").into_bytes())
            .collect(),
        quarantined: match bad {
            true => vec![(format!("bad:{seq}").into_bytes(), quarantined(pass, seq))],
            false => vec![],
        },
        recorded: Some(entries(seq)),
    }
}

/// What is kept of the keys of batch `seq`.
fn entries(seq: u64) -> Vec<u8> {
    let entry = |n| Entry::new(format!("key:{seq}:{n}").as_bytes(), Outcome::Kept);
    (0..10).flat_map(|n| *entry(n).as_bytes()).collect()
}

fn quarantined(pass: u32, seq: u64) -> QuarantineRecord {
    QuarantineRecord {
        pass,
        seq,
        reason: "the target can't read its payload".into(),
        error: Some("ERR Bad data format".into()),
        payload_bytes: Some(9),
        payload_type: Some(2),
        at_ms: 5,
    }
}

fn identity(run_id: &str) -> ServerIdentity {
    ServerIdentity {
        run_id: Some(run_id.into()),
        version: "redis 7.0.15".into(),
    }
}

fn begin_pass(store: &mut Store, lane: u32) {
    let next = store.lanes()[lane as usize].next_pass(identity("abc"), identity("def"));
    store.begin_pass(lane, next, "first pass").unwrap();
}

/// Commits the next `count` batches of a lane, each on its own; cursors are 1, 2, 3, …
fn commit_some(store: &mut Store, lane: u32, count: u64) -> Result<(), StoreError> {
    for _ in 0..count {
        let LaneCheckpoint { pass, next_seq, .. } = store.lanes()[lane as usize];
        let batches = vec![batch(pass, next_seq, next_seq, next_seq + 1)];
        store.commit(&Commit { lane, batches })?;
    }
    Ok(())
}

fn status(store: &Store) -> Status {
    Status {
        v: 1,
        migration: store.name().to_owned(),
        source: "redis://source:6379/0".into(),
        target: "redis://target:6379/0".into(),
        source_tls: TlsUse::None,
        target_tls: TlsUse::None,
        plan: vec![],
        state: RunState::Running,
        end: None,
        completed_ms: None,
        run: store.run(),
        pid: std::process::id(),
        host: "here".into(),
        run_began_ms: 1,
        updated_ms: 2,
        lanes: vec![],
        counters: Counters::default(),
        batches_durable: 3,
        batches_in_flight: 0,
        big_key: None,
        keys_estimate: None,
        percent: 12.5,
        keys_per_s: 0.0,
        bytes_per_s: 0.0,
        eta_s: None,
        checkpoint_ms: None,
        retries: 0,
        source_latency_ms: None,
        strings_by: None,
        strings_written_by: None,
        expiries_by: None,
        functions: None,
        read_window: 32,
        throttle: None,
        throttled_by: None,
        limits: Default::default(),
        evicted_keys: 0,
        passes: vec![],
        compare: None,
        repair: None,
    }
}

/// By how much the soak run multiplies what is repeated.
fn repeat() -> u64 {
    std::env::var("REDKNOT_REPEAT").map_or(1, |times| times.parse().unwrap())
}

/// Copies a folder with everything in it.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
}

#[test]
fn remembers_what_was_committed_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(2)).unwrap();
    assert_eq!(store.run(), 1);
    assert!(store.last_run().is_none());
    store.set_phase(Phase::Copying).unwrap();
    begin_pass(&mut store, 1);
    commit_some(&mut store, 1, 7).unwrap();
    let lanes = store.lanes().to_vec();
    assert_eq!(lanes[0], LaneCheckpoint::new());
    assert_eq!(lanes[1].position, Position::after(7));
    assert_eq!(lanes[1].counters.keys_written, 69);
    store.end_run("stopped by SIGINT").unwrap();
    drop(store);

    let store = open_in(folder.path(), &plan(2)).unwrap();
    assert_eq!(store.lanes(), lanes);
    assert_eq!(store.run(), 2);
    assert_eq!(store.meta().phase, Phase::Copying);
    let last = store.last_run().unwrap();
    assert_eq!(last.end.as_ref().unwrap().how, "stopped by SIGINT");
    assert_eq!(store.notes(), [] as [&str; 0]);
    assert_eq!(store.passes().len(), 1);
    assert_eq!(store.quarantine_len(), 1);
}

#[test]
fn a_run_that_died_has_no_end() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_in(folder.path(), &plan(1)).unwrap());
    let store = open_in(folder.path(), &plan(1)).unwrap();
    assert_eq!(store.last_run().unwrap().run, 1);
    assert_eq!(store.last_run().unwrap().end, None);
}

#[test]
fn texts_and_names_of_any_length_fit_into_their_records() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    let long = "\u{e9}".repeat(100_000);
    let server = ServerIdentity {
        run_id: Some(long.clone()),
        version: long.clone(),
    };
    let next = store.lanes()[0].next_pass(server.clone(), server);
    store.begin_pass(0, next, &long).unwrap();
    let name = vec![0xff; 1_000_000];
    let other = [&name[..], b"!"].concat();
    let record = QuarantineRecord {
        reason: long.clone(),
        error: Some(long.clone()),
        ..quarantined(1, 0)
    };
    let mut first = batch(1, 0, 0, u64::MAX);
    first.counters.keys_written -= 2;
    first.counters.keys_quarantined += 2;
    first.makeup = Box::new(Makeup::of(Arrived::UNSEEN, first.counters.keys_written));
    first.canary_keys = vec![name.clone(); 300];
    first.canary_keys.extend(vec![b"short".to_vec(); 300]);
    first.quarantined = vec![(name, record.clone()), (other, record)];
    let batches = vec![first];
    store.commit(&Commit { lane: 0, batches }).unwrap();
    store.end_run(&long).unwrap();
    assert_eq!(store.lanes()[0].canary[0].keys, vec![b"short".to_vec(); 64]);
    drop(store);

    let store = open_in(folder.path(), &plan(1)).unwrap();
    let listed: Vec<_> = store.quarantine().unwrap().collect();
    assert_eq!(listed.len(), 2, "names that differ only at their end");
    assert_eq!(listed[0].1, vec![0xff; record::QUARANTINED_NAME_BYTES]);
    assert!(listed[0].2.reason.len() <= record::TEXT_BYTES);
    assert!(long.starts_with(&listed[0].2.reason));
}

#[test]
#[should_panic(expected = "does not begin at the position")]
fn a_batch_that_skips_a_cursor_is_a_bug_and_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    let batches = vec![batch(1, 0, 0, 5), batch(1, 1, 6, 7)];
    let _ = store.commit(&Commit { lane: 0, batches });
}

#[test]
#[should_panic(expected = "has a key without an outcome")]
fn a_batch_whose_accounts_do_not_add_up_is_a_bug_and_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    let mut wrong = batch(1, 0, 0, 5);
    wrong.counters.keys_written -= 1;
    let batches = vec![wrong];
    let _ = store.commit(&Commit { lane: 0, batches });
}

#[test]
fn the_status_can_be_read_beside_an_open_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_in(folder.path(), &plan(1)).unwrap();
    assert_eq!(
        status::read(folder.path(), "shop"),
        Err(StoreError::NoStatus {
            name: "shop".into()
        })
    );
    let written = status(&store);
    store.write_status(&written).unwrap();
    let read = status::read(folder.path(), "shop").unwrap();
    assert_eq!(read.status, written);
    assert!(read.running);
    drop(store);
    assert!(!status::read(folder.path(), "shop").unwrap().running);
    assert_eq!(status::list(folder.path()), ["shop"]);

    let unknown = status::read(folder.path(), "shpo").unwrap_err();
    let known = vec!["shop".to_owned()];
    assert!(
        matches!(&unknown, StoreError::Unknown { known: found, .. } if *found == known),
        "{unknown:?}"
    );
    assert!(
        matches!(status::read(&folder.path().join("none"), "x"), Err(StoreError::Unknown { known, .. }) if known.is_empty())
    );
}
