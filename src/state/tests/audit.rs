//! What a check finds, and what can be made anew from the journal.

use std::fs;
use std::ops::ControlFlow;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::*;
use crate::audit::check::{Checked, Place, check};
use crate::audit::entry::EndKind;
use crate::progress::{CompareCounters, Verdict};
use crate::recorded::ENTRY_BYTES;
use crate::state::engine::{Engine, Writes};
use crate::state::layout::{self, Kind};
use crate::state::record::{
    BatchRecord, CandidateRecord, CompareEnded, CompareRules, FindingRecord, FindingState,
    PassRecord, QuarantineEntry, RunRecord,
};

/// How many edits of the journal, and as many of the records, are tried.
const EDITS: u64 = 100;

/// The next `count` batches of a lane, of the run that is under way.
fn copy(store: &mut Store, lane: u32, count: u64) {
    for _ in 0..count {
        let LaneCheckpoint { pass, next_seq, .. } = store.lanes()[lane as usize];
        let next = batch(pass, next_seq, next_seq, next_seq + 1);
        let batches = vec![AcknowledgedBatch {
            run: store.run(),
            ..next
        }];
        store.commit(&Commit { lane, batches }).unwrap();
        if next_seq % 7 == 6 {
            milestone(store);
        }
    }
}

/// The last batch of a pass.
fn copy_to_the_end(store: &mut Store, lane: u32) {
    let LaneCheckpoint { pass, next_seq, .. } = store.lanes()[lane as usize];
    let next = batch(pass, next_seq, next_seq, 0);
    let batches = vec![AcknowledgedBatch {
        run: store.run(),
        ..next
    }];
    store.commit(&Commit { lane, batches }).unwrap();
}

fn milestone(store: &mut Store) {
    store.append_milestone();
    store.sync_journal().unwrap();
}

/// Two lanes, two passes, three runs of which one died, quarantined keys, a comparison with findings.
fn specimen(state_dir: &Path) {
    let mut store = open_in(state_dir, &plan(2)).unwrap();
    store.pulse().begin();
    store.set_phase(Phase::Copying).unwrap();
    begin_pass(&mut store, 0);
    copy(&mut store, 0, 30);
    store
        .end_run_as("stopped by SIGINT", EndKind::Stopped, None)
        .unwrap();
    drop(store);
    let mut store = open_in(state_dir, &plan(2)).unwrap();
    store.pulse().begin();
    copy(&mut store, 0, 10);
    begin_pass(&mut store, 0);
    copy(&mut store, 0, 25);
    // It dies here.
    drop(store);
    let mut store = open_in(state_dir, &plan(2)).unwrap();
    store.pulse().begin();
    copy(&mut store, 0, 20);
    copy_to_the_end(&mut store, 0);
    begin_pass(&mut store, 1);
    copy(&mut store, 1, 40);
    copy_to_the_end(&mut store, 1);
    store.set_phase(Phase::Copied).unwrap();
    compare(&mut store, &[b"<script>", b"\x1b[2J", b"=cmd", b"\xff\xfe"]);
    store
        .end_run_as("complete", EndKind::Complete, None)
        .unwrap();
}

fn compare(store: &mut Store, names: &[&[u8]]) {
    store
        .begin_compare(CompareRules {
            sample: None,
            one_way: false,
            ttl_tolerance_ms: None,
            recorded: false,
        })
        .unwrap();
    let mut checkpoint = store.compare_lanes()[0].clone();
    let found = names.len() as u64;
    checkpoint.counters = CompareCounters {
        keys_scanned: 10 + found,
        keys_compared: 10 + found,
        equal: 10,
        value: found,
        ..CompareCounters::default()
    };
    let counters = checkpoint.counters;
    let record = FindingRecord {
        verdict: Verdict::Value,
        key_type: "hash".into(),
        detail: "differs".into(),
        source_digest: None,
        target_digest: None,
        payload_bytes: 9,
        found_ms: 7,
        state: FindingState::Open,
    };
    let candidate = CandidateRecord {
        verdict: Verdict::Value,
        source_seen: [1; 16],
        target_seen: [2; 16],
        first_ms: 5,
        read_ms: 6,
        rounds: 2,
        unchanged: 2,
        payload_bytes: 9,
        from_target: false,
    };
    let mut commit = CompareCommit {
        lane: 0,
        checkpoint: checkpoint.clone(),
        canary: false,
        candidates: names
            .iter()
            .map(|name| (name.to_vec(), candidate.clone()))
            .collect(),
        reread: vec![],
        settled: vec![],
        findings: vec![],
    };
    commit.checkpoint.counters.candidates = found;
    let stored = store.commit_compare(commit).unwrap();
    checkpoint.epoch = stored.epoch;
    store
        .commit_compare(CompareCommit {
            lane: 0,
            checkpoint,
            canary: false,
            candidates: vec![],
            reread: vec![],
            settled: vec![],
            findings: names
                .iter()
                .map(|name| (name.to_vec(), record.clone()))
                .collect(),
        })
        .unwrap();
    let ended = CompareEnded {
        run: store.run(),
        at_ms: 77,
        counters,
        source_digest: "aa".into(),
        target_digest: "bb".into(),
        not_compared: vec![],
    };
    store.end_compare(ended).unwrap();
}

fn fits(state_dir: &Path) -> Checked {
    let checked = check(state_dir, "shop").unwrap();
    assert!(checked.fits(), "{:#?}", checked.misfits);
    checked
}

#[test]
fn what_was_recorded_fits_together_and_is_counted_again() {
    let folder = tempfile::tempdir().unwrap();
    specimen(folder.path());
    let checked = fits(folder.path());
    assert_eq!(
        (checked.lanes[0].pass, checked.lanes[0].batches),
        (2, 40 + 46)
    );
    assert_eq!(checked.lanes[1].batches, 41);
    assert_eq!(checked.counters.keys_scanned, 10 * (46 + 41));
    assert_eq!((checked.runs, checked.findings), (3, 4));
    assert!(checked.quarantined > 8, "{checked:?}");
    assert_eq!(checked.root.len(), 64);
    assert!(checked.notes.is_empty(), "{:?}", checked.notes);
}

#[test]
fn a_run_that_died_is_no_misfit() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    fits_while_closed(&mut store, folder.path());
    store.set_phase(Phase::Copying).unwrap();
    begin_pass(&mut store, 0);
    copy(&mut store, 0, 5);
    fits_while_closed(&mut store, folder.path());
    copy(&mut store, 0, 10);
    drop(store);
    let checked = fits(folder.path());
    assert!(
        checked
            .notes
            .iter()
            .any(|note| note.contains("after its last milestone")),
        "{:?}",
        checked.notes
    );
}

/// Checks a copy of the files, as a crash would leave them.
fn fits_while_closed(store: &mut Store, state_dir: &Path) {
    let copied = tempfile::tempdir().unwrap();
    copy_folder(&state_dir.join("shop"), &copied.path().join("shop"));
    assert_eq!(store.name(), "shop");
    fits(copied.path());
}

#[test]
fn every_edit_of_the_journal_is_named() {
    let whole = tempfile::tempdir().unwrap();
    specimen(whole.path());
    let bytes = fs::read(whole.path().join("shop/audit.ndjson")).unwrap();
    let seed = 0x5eed;
    for edit in 0..EDITS * repeat() {
        let mut random = StdRng::seed_from_u64(seed + edit);
        let folder = tempfile::tempdir().unwrap();
        copy_folder(whole.path(), folder.path());
        let (edited, how, line, forged) = edit_journal(&bytes, &mut random);
        if edited == bytes {
            continue;
        }
        fs::write(folder.path().join("shop/audit.ndjson"), &edited).unwrap();
        let checked = check(folder.path(), "shop").unwrap();
        let first = checked.misfits.first();
        let Some(first) = first else {
            panic!("edit {edit}, {how}: nothing was found");
        };
        // The line itself or the one after it; if its hashes were made to fit, a line that the state knows, or a record that
        // the journal has to know.
        let named = match first.place {
            Place::Line(named) if forged => named >= line,
            Place::Line(named) => named == line || named == line + 1,
            Place::Batch { .. } | Place::Record(_) => forged,
            Place::Status => false,
        };
        assert!(named, "edit {edit}, {how} of line {line}: {first:?}");
    }
}

/// An edit of the journal, how it was made, the first line that it concerns, and whether hashes were made to fit.
fn edit_journal(bytes: &[u8], random: &mut StdRng) -> (Vec<u8>, String, u64, bool) {
    let mut lines: Vec<Vec<u8>> = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line[..line.len() - 1].to_vec())
        .collect();
    let count = lines.len();
    let at = random.random_range(0..count);
    let rehash = random.random_bool(0.5);
    let how = match random.random_range(0..6) {
        0 => {
            let byte = random.random_range(0..lines[at].len());
            lines[at][byte] ^= 1 << random.random_range(0..7);
            return (joined(&lines), "a bit flipped".into(), at as u64 + 1, false);
        }
        1 | 2 => {
            change_number(&mut lines[at], random);
            "a number changed"
        }
        3 => {
            lines.remove(at);
            "a line removed"
        }
        4 => {
            let other = (at + 1).min(count - 1);
            lines.swap(at, other);
            "lines swapped"
        }
        _ => {
            lines.truncate(at);
            "cut"
        }
    };
    if rehash {
        chain_anew(&mut lines);
    }
    let how = format!("{how}{}", if rehash { ", hashes made to fit" } else { "" });
    (joined(&lines), how, at as u64 + 1, rehash)
}

fn joined(lines: &[Vec<u8>]) -> Vec<u8> {
    lines
        .iter()
        .flat_map(|line| [line, &b"\n"[..]].concat())
        .collect()
}

/// Changes one number somewhere in a line.
fn change_number(line: &mut Vec<u8>, random: &mut StdRng) {
    let mut value: Value = serde_json::from_slice(line).unwrap();
    let mut numbers = 0;
    walk(&mut value, &mut |_| numbers += 1);
    let chosen = random.random_range(0..numbers);
    let mut seen = 0;
    walk(&mut value, &mut |number| {
        if seen == chosen {
            *number = json!(number.as_f64().unwrap() as u64 + 1);
        }
        seen += 1;
    });
    *line = serde_json::to_vec(&value).unwrap();
}

fn walk(value: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Number(_) => visit(value),
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, visit)),
        Value::Object(fields) => fields.values_mut().for_each(|field| walk(field, visit)),
        _ => {}
    }
}

/// Gives every line the hash of the one before it, as a forger would; a line whose hash fits stays as it is.
fn chain_anew(lines: &mut [Vec<u8>]) {
    let mut prev = "0".repeat(64);
    for line in lines {
        let text = String::from_utf8(line.clone()).unwrap();
        let (_, rest) = text.split_once("\"prev\":\"").unwrap();
        *line = text.replace(&rest[..64], &prev).into_bytes();
        prev = blake3::hash(line).to_hex().to_string();
    }
}

#[test]
fn every_edit_of_the_records_is_named() {
    let whole = tempfile::tempdir().unwrap();
    specimen(whole.path());
    for edit in 0..EDITS * repeat() {
        let mut random = StdRng::seed_from_u64(0xba7c + edit);
        let folder = tempfile::tempdir().unwrap();
        copy_folder(whole.path(), folder.path());
        let dir = folder.path().join("shop");
        let (how, lane) = match random.random_range(0..9) {
            0 => edit_digests(&dir, &mut random),
            _ => edit_record(&dir, &mut random),
        };
        let checked = check(folder.path(), "shop").unwrap();
        let Some(first) = checked.misfits.first() else {
            panic!("edit {edit}, {how}: nothing was found");
        };
        if let Some(edited) = lane {
            let named = match &first.place {
                Place::Batch { lane, .. } => *lane == edited,
                // What follows a missing last batch is told by whoever counted it.
                Place::Line(_) => first.what.contains(&format!("lane {edited}")),
                Place::Record(which) => which.contains(&format!("lane {edited}")),
                Place::Status => false,
            };
            assert!(named, "edit {edit}, {how}: {first:?}");
        }
    }
}

/// Changes what is kept of the keys of a lane.
fn edit_digests(dir: &Path, random: &mut StdRng) -> (String, Option<u32>) {
    let lane = random.random_range(0..2);
    let path = dir.join(format!("digests-{lane}"));
    let mut bytes = fs::read(&path).unwrap();
    let at = random.random_range(0..bytes.len());
    let how = match random.random_range(0..4) {
        0 => {
            bytes[at] ^= 1 << random.random_range(0..8);
            "a bit of the digests flipped"
        }
        1 => {
            bytes.truncate(at);
            "the digests cut"
        }
        2 => {
            let forged = Entry::new(b"forged", Outcome::Kept);
            let at = at / ENTRY_BYTES * ENTRY_BYTES;
            bytes[at..at + ENTRY_BYTES].copy_from_slice(forged.as_bytes());
            "a digest exchanged"
        }
        _ => {
            fs::remove_file(&path).unwrap();
            return ("the digests removed".to_owned(), Some(lane));
        }
    };
    fs::write(&path, bytes).unwrap();
    (how.to_owned(), Some(lane))
}

/// Changes a record and says how, and of which lane it was if it was about batches.
fn edit_record(dir: &Path, random: &mut StdRng) -> (String, Option<u32>) {
    let engine = Engine::open(dir).unwrap();
    let kinds = [
        Kind::Batch,
        Kind::Batch,
        Kind::Batch,
        Kind::Lane,
        Kind::Run,
        Kind::Pass,
        Kind::Quarantine,
        Kind::Finding,
    ];
    let kind = kinds[random.random_range(0..kinds.len())];
    let mut records = Vec::new();
    engine
        .visit(layout::all(kind), |key, value| {
            records.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    let (key, value) = records[random.random_range(0..records.len())].clone();
    let lane = match kind {
        Kind::Batch => layout::parse_batches(&key).map(|(lane, _, _)| lane),
        _ => None,
    };
    let mut writes = Writes::default();
    let name = kind.name();
    let how = match random.random_range(0..4) {
        0 => {
            writes.remove(key);
            format!("a {name} record removed")
        }
        1 if kind == Kind::Batch => {
            let mut value = value;
            let at = random.random_range(0..value.len());
            value[at] ^= 1 << random.random_range(0..8);
            writes.put(key, value);
            format!("a bit of a {name} record flipped")
        }
        _ => {
            writes.put(key, changed(kind, &value, random));
            format!("a {name} record changed")
        }
    };
    engine.apply(writes).unwrap();
    engine.make_durable().unwrap();
    (how, lane)
}

/// The record with one field changed, so that it can still be read.
fn changed(kind: Kind, value: &[u8], random: &mut StdRng) -> Vec<u8> {
    match kind {
        Kind::Batch => {
            let mut records: Vec<BatchRecord> = layout::decode(value).unwrap();
            let at = random.random_range(0..records.len());
            let record = &mut records[at];
            match random.random_range(0..6) {
                0 => record.cursor_out += 1,
                1 => record.keys_digest[3] ^= 1,
                2 => record.acknowledged_ms += 1,
                3 => record.run += 1,
                4 => {
                    record.counters.keys_written += 1;
                    record.counters.keys_scanned += 1;
                }
                _ => record.chain[7] ^= 1,
            }
            layout::encode(&records)
        }
        Kind::Lane => {
            let mut record: LaneCheckpoint = layout::decode(value).unwrap();
            match random.random_range(0..4) {
                0 => record.next_seq += 1,
                1 => record.counters.keys_written += 1,
                2 => record.chain[0] ^= 1,
                _ => record.pass += 1,
            }
            layout::encode(&record)
        }
        Kind::Run => {
            let mut record: RunRecord = layout::decode(value).unwrap();
            match random.random_range(0..3) {
                0 => record.host.push('x'),
                1 => record.began_ms += 1,
                _ => record.pid += 1,
            }
            layout::encode(&record)
        }
        Kind::Pass => {
            let mut record: PassRecord = layout::decode(value).unwrap();
            record.reason.push('x');
            layout::encode(&record)
        }
        Kind::Quarantine => {
            let mut record: QuarantineEntry = layout::decode(value).unwrap();
            record.record.reason.push('x');
            layout::encode(&record)
        }
        Kind::Finding => {
            let mut record: FindingRecord = layout::decode(value).unwrap();
            record.verdict = Verdict::Missing;
            layout::encode(&record)
        }
        _ => unreachable!("none of the kinds that are edited"),
    }
}

#[test]
fn a_lost_state_is_made_anew_from_the_journal_and_goes_on() {
    let check = |lose: fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open_in(folder.path(), &plan(2)).unwrap();
        store.set_phase(Phase::Copying).unwrap();
        begin_pass(&mut store, 0);
        copy(&mut store, 0, 26);
        milestone(&mut store);
        let told = store.lanes()[0].clone();
        // So far it never told.
        copy(&mut store, 0, 1);
        drop(store);
        lose(&folder.path().join("shop"));
        assert!(open_in(folder.path(), &plan(2)).is_err());

        let rebuilt = rebuild(folder.path(), "shop").unwrap().unwrap();
        assert_eq!((rebuilt.runs, rebuilt.lanes.len()), (1, 1));
        assert_eq!(rebuilt.quarantined, 5);
        assert_eq!(
            rebuild(folder.path(), "shop").unwrap(),
            None,
            "it is whole now"
        );
        fits(folder.path());

        let mut store = open_in(folder.path(), &plan(2)).unwrap();
        assert_eq!((store.run(), store.meta().phase), (2, Phase::Copying));
        let lane = &store.lanes()[0];
        assert_eq!(
            (
                lane.pass,
                lane.position,
                lane.next_seq,
                lane.counters,
                lane.chain
            ),
            (
                told.pass,
                told.position,
                told.next_seq,
                told.counters,
                told.chain
            )
        );
        assert_eq!(lane.source.run_id, told.source.run_id);
        assert_eq!(lane.target.run_id, told.target.run_id);
        assert!(lane.canary[0].keys.is_empty());
        assert_eq!(store.rebuilt_pass(0), Some(1));
        assert_eq!(store.quarantine_len(), 5);
        copy(&mut store, 0, 10);
        copy_to_the_end(&mut store, 0);
        begin_pass(&mut store, 0);
        copy(&mut store, 0, 3);
        store.end_run("stopped").unwrap();
        drop(store);
        let checked = fits(folder.path());
        assert_eq!(checked.lanes[0].batches, 14);
        open_in(folder.path(), &plan(2)).unwrap();
    };
    check(|dir| fs::remove_dir_all(dir.join("db")).unwrap());
    check(|dir| {
        // Emptied, as a power cut can leave it.
        fs::remove_dir_all(dir.join("db")).unwrap();
        drop(Engine::open(dir).unwrap());
    });
    check(|dir| {
        let data = dir.join("db/db");
        let length = fs::metadata(&data).unwrap().len();
        fs::write(&data, vec![0x5a; length as usize]).unwrap();
    });
}

#[test]
fn a_state_that_can_be_opened_or_a_journal_that_is_not_whole_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    specimen(folder.path());
    assert_eq!(rebuild(folder.path(), "shop").unwrap(), None);
    let path = folder.path().join("shop/audit.ndjson");
    let mut bytes = fs::read(&path).unwrap();
    bytes[300] ^= 1;
    fs::write(&path, &bytes).unwrap();
    fs::remove_dir_all(folder.path().join("shop/db")).unwrap();
    let error = rebuild(folder.path(), "shop").unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    assert!(!folder.path().join("shop/db").exists());
}
