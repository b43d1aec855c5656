//! What a comparison keeps: suspects, findings, and how far it is.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::progress::{CompareCounters, Verdict};
use crate::state::record::{
    CandidateRecord, CompareEnded, CompareLane, CompareRules, CompareStage, FindingRecord,
    FindingState, SuspectId,
};

fn rules() -> CompareRules {
    CompareRules {
        sample: None,
        one_way: false,
        ttl_tolerance_ms: Some(1000),
        recorded: false,
    }
}

fn candidate(rounds: u32) -> CandidateRecord {
    CandidateRecord {
        verdict: Verdict::Value,
        source_seen: [1; 16],
        target_seen: [2; 16],
        first_ms: 5,
        read_ms: 6,
        rounds,
        unchanged: 0,
        payload_bytes: 9,
        from_target: false,
    }
}

fn finding(verdict: Verdict) -> FindingRecord {
    FindingRecord {
        verdict,
        key_type: "hash".into(),
        detail: "field \"qty\" only on source".into(),
        source_digest: Some([3; 32]),
        target_digest: None,
        payload_bytes: 9,
        found_ms: 7,
        state: FindingState::Open,
    }
}

/// Nothing but how far the lane is.
fn commit(checkpoint: &CompareLane, lane: u32) -> CompareCommit {
    CompareCommit {
        lane,
        checkpoint: checkpoint.clone(),
        canary: true,
        candidates: vec![],
        reread: vec![],
        settled: vec![],
        findings: vec![],
    }
}

fn begin(store: &mut Store) {
    store.begin_compare(rules()).unwrap();
    for lane in 0..store.lanes().len() as u32 {
        store
            .begin_compare_lane(lane, identity("s"), identity("t"), "it begins")
            .unwrap();
    }
}

fn add_candidates(store: &mut Store, lane: u32, names: &[&[u8]]) -> CompareLane {
    let mut checkpoint = store.compare_lanes()[lane as usize].clone();
    checkpoint.counters.keys_scanned += names.len() as u64;
    checkpoint.counters.candidates += names.len() as u64;
    let commit = CompareCommit {
        candidates: names
            .iter()
            .map(|name| (name.to_vec(), candidate(0)))
            .collect(),
        ..commit(&checkpoint, lane)
    };
    store.commit_compare(commit).unwrap()
}

/// A comparison that found these keys in lane 0, and is over.
pub(super) fn found(store: &mut Store, names: &[&[u8]], verdict: Verdict) {
    begin(store);
    let checkpoint = add_candidates(store, 0, names);
    let commit = CompareCommit {
        findings: names
            .iter()
            .map(|name| (name.to_vec(), finding(verdict)))
            .collect(),
        ..commit(&checkpoint, 0)
    };
    store.commit_compare(commit).unwrap();
    let ended = CompareEnded {
        run: store.run(),
        at_ms: 77,
        counters: CompareCounters::default(),
        source_digest: String::new(),
        target_digest: String::new(),
        not_compared: vec![],
    };
    store.end_compare(ended).unwrap();
}

fn names(store: &Store, lane: u32, limit: usize) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut after = None;
    loop {
        let page = store.candidates(lane, after, limit).unwrap();
        after = page.last().map(|last| last.id);
        names.extend(page.iter().map(|candidate| candidate.name.clone()));
        if page.len() < limit {
            names.sort();
            return names;
        }
    }
}

#[test]
fn names_of_any_length_come_back_whole_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(2)).unwrap();
    begin(&mut store);
    let long = vec![b'x'; 100_000];
    let piece = vec![b'y'; crate::state::record::NAME_PIECE_BYTES];
    let all: [&[u8]; 5] = [b"", b"a", b"b\n\xff", &piece, &long];
    add_candidates(&mut store, 0, &all);
    add_candidates(&mut store, 1, &[b"a"]);
    drop(store);
    let store = open_in(folder.path(), &plan(2)).unwrap();
    let mut wanted: Vec<Vec<u8>> = all.iter().map(|name| name.to_vec()).collect();
    wanted.sort();
    for limit in 1..7 {
        assert_eq!(names(&store, 0, limit), wanted, "pages of {limit}");
        assert_eq!(names(&store, 1, limit), [b"a".to_vec()]);
    }
}

#[test]
fn a_candidate_that_waits_already_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin(&mut store);
    let lane = add_candidates(&mut store, 0, &[b"a", b"b", b"a"]);
    assert_eq!((lane.counters.candidates, lane.counters.doubled), (2, 1));
    let lane = add_candidates(&mut store, 0, &[b"b", b"c"]);
    assert_eq!((lane.counters.candidates, lane.counters.doubled), (3, 2));
    assert_eq!(store.compare_lanes()[0], lane);
    assert_eq!(names(&store, 0, 10).len(), 3);
}

#[test]
fn findings_are_listed_marked_and_removed_and_the_next_comparison_has_none_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(2)).unwrap();
    begin(&mut store);
    for lane in 0..2 {
        let checkpoint = add_candidates(&mut store, lane, &[b"a", b"b", b"c"]);
        let commit = CompareCommit {
            settled: vec![b"c".to_vec()],
            findings: vec![
                (b"a".to_vec(), finding(Verdict::Missing)),
                (b"b".to_vec(), finding(Verdict::Ttl)),
            ],
            ..commit(&checkpoint, lane)
        };
        store.commit_compare(commit).unwrap();
    }
    assert!(names(&store, 0, 10).is_empty());
    drop(store);
    let mut store = open_in(folder.path(), &plan(2)).unwrap();
    let mut all = Vec::new();
    loop {
        let page = store
            .findings(all.last().map(|last: &Finding| last.id), 3)
            .unwrap();
        let last = page.len() < 3;
        all.extend(page);
        if last {
            break;
        }
    }
    let mut listed: Vec<(u32, &[u8])> = all.iter().map(|one| (one.lane, &one.name[..])).collect();
    listed.sort();
    assert_eq!(listed, [(0, &b"a"[..]), (0, b"b"), (1, b"a"), (1, b"b")]);
    let repaired = FindingState::Repaired { run: 2, at_ms: 8 };
    store
        .mark_findings(&[(all[1].id, all[1].record.clone())], repaired)
        .unwrap();
    store
        .remove_findings(&[(all[0].id, all[0].name.clone())])
        .unwrap();
    let left = store.findings(None, 10).unwrap();
    assert_eq!(left.len(), 3);
    assert_eq!(left[0].record.state, repaired);
    assert_eq!(left[1].record.state, FindingState::Open);
    store.begin_compare(rules()).unwrap();
    assert!(store.findings(None, 10).unwrap().is_empty());
    assert_eq!(store.compare().unwrap().compare, 2);
}

#[test]
fn a_lane_that_begins_anew_forgets_what_it_found_and_the_others_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(2)).unwrap();
    begin(&mut store);
    add_candidates(&mut store, 0, &[b"a"]);
    add_candidates(&mut store, 1, &[b"b"]);
    store
        .begin_compare_lane(0, identity("s2"), identity("t"), "the source restarted")
        .unwrap();
    drop(store);
    let store = open_in(folder.path(), &plan(2)).unwrap();
    assert!(names(&store, 0, 10).is_empty());
    assert_eq!(names(&store, 1, 10), [b"b".to_vec()]);
    let fresh = &store.compare_lanes()[0];
    assert_eq!(fresh.counters, CompareCounters::default());
    assert_eq!(fresh.source, identity("s2"));
}

#[test]
fn the_canary_belongs_to_its_stage() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin(&mut store);
    let mut checkpoint = store.compare_lanes()[0].clone();
    checkpoint.canary = vec![super::super::record::CanaryBatch {
        cursor_in: 1,
        cursor_out: 2,
        count: 10,
        keyspace: None,
        keys: vec![b"a".to_vec()],
    }];
    store.commit_compare(commit(&checkpoint, 0)).unwrap();
    drop(store);
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    assert_eq!(store.compare_lanes()[0], checkpoint);
    let next = CompareLane {
        stage: CompareStage::Target,
        canary: vec![],
        ..checkpoint
    };
    let without = CompareCommit {
        canary: false,
        ..commit(&next, 0)
    };
    store.commit_compare(without).unwrap();
    drop(store);
    let store = open_in(folder.path(), &plan(1)).unwrap();
    assert_eq!(store.compare_lanes()[0], next);
}

#[test]
fn a_result_is_kept_and_told_to_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin(&mut store);
    assert_eq!(store.compare_status().unwrap().ended_ms, None);
    let ended = CompareEnded {
        run: store.run(),
        at_ms: 77,
        counters: CompareCounters {
            keys_scanned: 3,
            ..CompareCounters::default()
        },
        source_digest: "ab".into(),
        target_digest: "ab".into(),
        not_compared: vec![],
    };
    store.end_compare(ended).unwrap();
    drop(store);
    let store = open_in(folder.path(), &plan(1)).unwrap();
    let status = store.compare_status().unwrap();
    assert_eq!(
        (status.ended_ms, status.counters.keys_scanned),
        (Some(77), 3)
    );
    let journal = std::fs::read_to_string(folder.path().join("shop/audit.ndjson")).unwrap();
    for event in ["compare_started", "compare_lane_began", "compared"] {
        assert!(
            journal.contains(&format!("\"event\":\"{event}\"")),
            "{event}"
        );
    }
}

#[test]
fn a_store_that_forgot_a_comparison_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let before = tempfile::tempdir().unwrap();
    drop(open_in(folder.path(), &plan(1)).unwrap());
    let db = folder.path().join("shop/db");
    for entry in std::fs::read_dir(&db).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), before.path().join(entry.file_name())).unwrap();
        }
    }
    let mut store = open_in(folder.path(), &plan(1)).unwrap();
    begin(&mut store);
    drop(store);
    std::fs::remove_dir_all(&db).unwrap();
    std::fs::rename(before.path(), &db).unwrap();
    let refused = open_in(folder.path(), &plan(1)).unwrap_err();
    assert!(matches!(refused, StoreError::Amnesia { .. }), "{refused:?}");
}

#[derive(Debug, Clone)]
enum Step {
    Add(u8),
    Reread(u8),
    Settle(u8),
    Find(u8),
    Anew,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_u8).prop_map(Step::Add),
        2 => (0..12_u8).prop_map(Step::Reread),
        2 => (0..12_u8).prop_map(Step::Settle),
        2 => (0..12_u8).prop_map(Step::Find),
        1 => Just(Step::Anew),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The store is two maps that survive: candidates with their rounds, and findings.
    #[test]
    fn suspects_are_two_maps_that_survive(steps in proptest::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open_in(folder.path(), &plan(1)).unwrap();
        begin(&mut store);
        let mut waiting: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        let mut found: BTreeMap<Vec<u8>, Verdict> = BTreeMap::new();
        for step in steps {
            let checkpoint = store.compare_lanes()[0].clone();
            let mut writes = commit(&checkpoint, 0);
            match step {
                Step::Add(key) => {
                    let name = vec![key; 1 + usize::from(key) * 3000];
                    if found.contains_key(&name) { continue }
                    writes.checkpoint.counters.candidates += 1;
                    writes.candidates.push((name.clone(), candidate(0)));
                    waiting.entry(name).or_insert(0);
                }
                Step::Reread(key) => {
                    let name = vec![key; 1 + usize::from(key) * 3000];
                    let Some(rounds) = waiting.get_mut(&name) else { continue };
                    *rounds += 1;
                    writes.reread.push((SuspectId::of(checkpoint.epoch, &name), candidate(*rounds)));
                }
                Step::Settle(key) => {
                    let name = vec![key; 1 + usize::from(key) * 3000];
                    if waiting.remove(&name).is_none() { continue }
                    writes.checkpoint.counters.candidates -= 1;
                    writes.settled.push(name);
                }
                Step::Find(key) => {
                    let name = vec![key; 1 + usize::from(key) * 3000];
                    if waiting.remove(&name).is_none() { continue }
                    writes.checkpoint.counters.candidates -= 1;
                    writes.findings.push((name.clone(), finding(Verdict::Type)));
                    found.insert(name, Verdict::Type);
                }
                Step::Anew => {
                    store.begin_compare_lane(0, identity("s"), identity("t"), "anew").unwrap();
                    waiting.clear();
                    found.clear();
                    continue;
                }
                Step::Reopen => {
                    drop(store);
                    store = open_in(folder.path(), &plan(1)).unwrap();
                    continue;
                }
            }
            store.commit_compare(writes).unwrap();
        }
        let listed: BTreeMap<Vec<u8>, u32> = store
            .candidates(0, None, 1000)
            .unwrap()
            .into_iter()
            .map(|candidate| (candidate.name, candidate.record.rounds))
            .collect();
        let listed_found: BTreeMap<Vec<u8>, Verdict> = store
            .findings(None, 1000)
            .unwrap()
            .into_iter()
            .map(|finding| (finding.name, finding.record.verdict))
            .collect();
        prop_assert_eq!(&listed, &waiting);
        prop_assert_eq!(listed_found, found);
        prop_assert_eq!(store.compare_lanes()[0].counters.candidates, waiting.len() as u64);
    }
}
