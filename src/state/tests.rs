//! The store as a whole: what it remembers, what it refuses.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::Path;

use super::record::{LaneCheckpoint, Phase, Position, QuarantineRecord, ServerIdentity};
use super::*;
use crate::plan::{LanePlan, OnConflict, Plan, TtlPolicy};
use crate::progress::Counters;

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
        match_glob: None,
        types: vec![],
        on_conflict: OnConflict::RequireEmpty,
        ttl: TtlPolicy::Keep,
    }
}

fn open_in(state_dir: &Path, plan: &Plan) -> Result<Store, StoreError> {
    open(&OpenRequest {
        state_dir,
        name: "shop",
        plan,
        restart: false,
        durability: Durability::Fsync,
    })
}

/// A batch of ten keys, one of them quarantined in every fifth.
fn batch(run: u32, pass: u32, seq: u64, cursor_in: u64, cursor_out: u64) -> AcknowledgedBatch {
    let bad = seq % 5 == 4;
    AcknowledgedBatch {
        run,
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
        keys_digest: [seq as u8; 32],
        scanned_ms: 1_000 + seq,
        acknowledged_ms: 1_001 + seq,
        canary_keys: (0..10)
            .map(|n| format!("key:{seq}:{n}").into_bytes())
            .collect(),
        quarantined: match bad {
            true => vec![(
                format!("bad:{seq}").into_bytes(),
                QuarantineRecord {
                    pass,
                    seq,
                    reason: "the target can't read its payload".into(),
                    error: Some("ERR Bad data format".into()),
                    payload_bytes: Some(9),
                    payload_type: Some(2),
                    at_ms: 5,
                },
            )],
            false => vec![],
        },
    }
}

fn begin_pass(store: &mut Store, lane: u32) {
    let source = ServerIdentity {
        run_id: Some("abc".into()),
        version: "redis 7.0.15".into(),
    };
    let next = store.lanes()[lane as usize].next_pass(source.clone(), source);
    store.begin_pass(lane, next, "first pass").unwrap();
}

#[test]
fn remembers_what_was_committed_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(2)).unwrap();
    assert_eq!(store.run(), 1);
    assert!(store.last_run().is_none());
    store.set_phase(Phase::Copying).unwrap();
    begin_pass(&mut store, 1);
    let batches = vec![batch(1, 1, 0, 0, 77), batch(1, 1, 1, 77, 5)];
    store.commit(&Commit { lane: 1, batches }).unwrap();
    let lanes = store.lanes().to_vec();
    assert_eq!(lanes[0], LaneCheckpoint::new());
    assert_eq!(lanes[1].position, Position::after(5));
    assert_eq!(lanes[1].counters.keys_written, 20);
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
}

#[tokio::test]
async fn a_recorder_makes_everything_durable_that_was_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin_pass(&mut store, 0);
    let recorder = Recorder::start(store);
    let mut durable = recorder.durable();
    for seq in 0..100 {
        recorder.submit(
            0,
            batch(1, 1, seq, seq, if seq == 99 { 0 } else { seq + 1 }),
        );
    }
    let all = durable
        .wait_for(|durable| durable.batches_durable_total == 100)
        .await
        .unwrap()
        .clone();
    assert_eq!(all.lanes[0].position, Position::End);
    assert!(all.commits < 100, "{} commits", all.commits);
    let run = recorder.with_store(|store| store.run()).await.unwrap();
    assert_eq!(run, 1);
    let store = recorder.finish().unwrap();
    assert_eq!(store.quarantine_len(), 20);
    assert_eq!(store.quarantine().unwrap().count(), 20);
    drop(store);
    let store = open_in(folder.path(), &plan(1)).unwrap();
    assert_eq!(store.lanes()[..], all.lanes[..]);
    assert_eq!(store.quarantine_len(), 20);
}
