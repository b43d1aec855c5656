//! The lists and the status file against what was counted.

use std::collections::BTreeMap;
use std::path::Path;

use super::ledger::{Ledger, key_id, quarantined_id};
use super::{Checked, Place};
use crate::audit::entry::{Event, hex};
use crate::progress::{Counters, RunState, Verdict};
use crate::state::inspect::Inspection;
use crate::state::record::{CompareRecord, FindingState};
use crate::state::{StoreError, status};

pub(super) fn check(
    state: &Inspection,
    ledger: &Ledger<'_>,
    state_dir: &Path,
    checked: &mut Checked,
) -> Result<(), StoreError> {
    quarantine(state, ledger, checked)?;
    compare(state, ledger, checked)?;
    status_file(state_dir, ledger, checked)
}

/// Every listed key was told, and there are no more of them than were counted.
fn quarantine(
    state: &Inspection,
    ledger: &Ledger<'_>,
    checked: &mut Checked,
) -> Result<(), StoreError> {
    let mut listed: BTreeMap<u32, u64> = BTreeMap::new();
    let mut untold: BTreeMap<u32, u64> = BTreeMap::new();
    let mut first = None;
    let mut missing = ledger.quarantined_keys.clone();
    let read = state.visit_quarantine(|lane, entry| {
        *listed.entry(lane).or_default() += 1;
        let (record, key) = (&entry.record, hex(&entry.name));
        missing.remove(&key_id(lane, &key));
        let id = quarantined_id(lane, record.pass, record.seq, &key, &record.reason);
        if !ledger.quarantined.contains(&id) {
            *untold.entry(lane).or_default() += 1;
            first.get_or_insert_with(|| crate::key::Escaped(&entry.name).to_string());
        }
    })?;
    checked.readable(read);
    checked.quarantined = listed.values().sum();
    if !missing.is_empty() {
        let what = format!(
            "{} keys that the journal tells of are not listed",
            missing.len()
        );
        checked.record("the quarantine", what);
    }
    for (lane, walk) in (0_u32..).zip(&ledger.lanes) {
        if walk.is_broken() {
            continue;
        }
        let listed = listed.get(&lane).copied().unwrap_or(0);
        let counted = walk.total.keys_quarantined;
        // A key that is met again keeps its one entry.
        if listed > counted || (listed == 0) != (counted == 0) {
            let what =
                format!("it lists {listed} keys of lane {lane}, its batches count {counted}");
            checked.record("the quarantine", what);
        }
        let untold = untold.get(&lane).copied().unwrap_or(0);
        // What came after the last milestone of a run that died is in the state alone.
        let excused = counted.saturating_sub(walk.told_quarantined);
        if untold > excused && checked.fits() {
            let key = first.as_deref().unwrap_or_default();
            let what =
                format!("the journal does not tell of {untold} of its keys, \"{key}\" among them");
            checked.record("the quarantine", what);
        }
    }
    Ok(())
}

/// The findings are as many as the comparison counted, and the journal tells the same result.
fn compare(
    state: &Inspection,
    ledger: &Ledger<'_>,
    checked: &mut Checked,
) -> Result<(), StoreError> {
    let Some(record) = checked.readable(state.compare()?).flatten() else {
        return Ok(());
    };
    let mut listed: BTreeMap<Verdict, u64> = BTreeMap::new();
    let (mut repaired, mut open, mut counted) = (0, 0, 0);
    for (lane, _) in (0..).zip(&ledger.lanes) {
        let Some(checkpoint) = checked.readable(state.compare_lane(lane)?).flatten() else {
            continue;
        };
        counted += checkpoint.counters.findings();
        let read = state.visit_findings(checkpoint.epoch, |finding| {
            *listed.entry(finding.verdict).or_default() += 1;
            match finding.state {
                FindingState::Open => open += 1,
                FindingState::Repaired { .. } => repaired += 1,
            }
        })?;
        checked.readable(read);
    }
    checked.findings = open + repaired;
    if checked.findings != counted {
        let what = format!(
            "it lists {} findings and counts {counted}",
            checked.findings
        );
        checked.record("the newest comparison", what);
    }
    let repair = checked.readable(state.repair()?).flatten();
    let repair = repair.filter(|repair| repair.compare == record.compare);
    if let Some(ended) = &record.ended {
        let by_verdict = Verdict::ALL.into_iter().all(|verdict| {
            listed.get(&verdict).copied().unwrap_or(0) == ended.counters.of(verdict)
        });
        // What is still a finding after a repair may be another one.
        if !ended.counters.balance() || (repair.is_none() && !by_verdict) {
            checked.record(
                "the newest comparison",
                "its findings are not those that it counts",
            );
        }
    }
    told(&record, ledger, checked);
    let Some(repair) = repair else { return Ok(()) };
    let left = repair.ended.map(|ended| ended.findings_left);
    if repair.counters.settled() > repaired || left.is_some_and(|left| left != open) {
        checked.record(
            "the newest repair",
            "it does not count what became of the findings",
        );
    }
    let said = ledger.repaired.get(&repair.repair);
    if let Some(Event::Repaired {
        counters,
        findings_left,
        ..
    }) = said
        && (*counters != repair.counters || left != Some(*findings_left))
    {
        checked.record(
            "the newest repair",
            "the journal tells another result of it",
        );
    }
    Ok(())
}

fn told(record: &CompareRecord, ledger: &Ledger<'_>, checked: &mut Checked) {
    let Some(ended) = &record.ended else { return };
    let Some(Event::Compared {
        compare,
        counters,
        source_digest,
        target_digest,
        not_compared,
        ..
    }) = &ledger.compare.compared
    else {
        return;
    };
    let fits = *compare != record.compare
        || (*counters == ended.counters
            && (source_digest, target_digest) == (&ended.source_digest, &ended.target_digest)
            && *not_compared == ended.not_compared);
    if !fits {
        checked.record(
            "the newest comparison",
            "the journal tells another result of it",
        );
    }
}

/// The figures that `redknot status` shows. Nothing depends on the file: it may be older than the state, never ahead of it.
fn status_file(
    state_dir: &Path,
    ledger: &Ledger<'_>,
    checked: &mut Checked,
) -> Result<(), StoreError> {
    let file = match status::read(state_dir, &checked.migration) {
        Ok(file) => file.status,
        Err(StoreError::NoStatus { .. }) => return Ok(()),
        Err(StoreError::Damaged { what, .. }) => {
            checked.misfit(Place::Status, what);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if ledger.lanes.iter().any(|walk| walk.is_broken()) {
        return Ok(());
    }
    let newest = file.run == ledger.meta.runs;
    if ledger.rebuilt && !newest {
        return Ok(());
    }
    let exact = newest && file.state != RunState::Running && ledger.has_ended(file.run);
    let mut sum = Counters::default();
    let mut wrong = file.lanes.len() != ledger.lanes.len() || file.run > ledger.meta.runs;
    for (said, walk) in file.lanes.iter().zip(&ledger.lanes) {
        sum.add(&walk.counters);
        let ahead =
            (said.pass, said.counters.keys_scanned) > (walk.pass, walk.counters.keys_scanned);
        let differs = (said.pass, said.counters) != (walk.pass, walk.counters);
        wrong |= ahead || (exact && differs);
    }
    let batches: u64 = ledger.lanes.iter().map(|walk| walk.next_seq).sum();
    wrong |= exact && (file.counters != sum || file.batches_durable != batches);
    if wrong {
        checked.misfit(Place::Status, "its figures are not those of the state");
    }
    Ok(())
}
