//! The journal, line by line, against the batches and the other records of the state.
//!
//! # Invariant
//!
//! A run that died may have known more than it could tell: then the state is ahead of the journal, up to the lines with
//! which the next run begins. Nowhere else may it be, and the journal never is.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::RangeInclusive;

use super::batches::Walk;
use super::{Checked, Place};
use crate::audit::entry::{Event, Milestone, Sample, hex};
use crate::audit::reader::Numbered;
use crate::progress::Counters;
use crate::state::StoreError;
use crate::state::inspect::Inspection;
use crate::state::record::{JournalSeal, LaneCheckpoint, Meta, PassRecord, Phase, RunRecord};

/// So many quarantined keys are compared one by one; of more, only their number is.
const QUARANTINED_KNOWN_MAX: usize = 1 << 20;

pub(super) struct Ledger<'a> {
    state: &'a Inspection,
    pub meta: Meta,
    pub lanes: Vec<Walk>,
    checkpoints: Vec<LaneCheckpoint>,
    runs: BTreeMap<u32, RunRecord>,
    passes: Vec<PassRecord>,
    passes_told: BTreeSet<(u32, u32)>,
    seals: BTreeMap<u32, JournalSeal>,
    /// Runs whose batches the next milestone may count.
    section: RangeInclusive<u32>,
    /// The run that is under way on this line, and how durable its commits were.
    under_way: Option<(u32, String)>,
    ended: BTreeSet<u32>,
    /// Runs before this one were not told, since the journal was lost.
    adopted: Option<u32>,
    pub rebuilt: bool,
    broke: bool,
    /// What was told of quarantined keys.
    pub quarantined: HashSet<[u8; 16]>,
    /// Which keys that were.
    pub quarantined_keys: HashSet<[u8; 16]>,
    pub compare: Comparing,
    pub repaired: BTreeMap<u32, Event>,
}

/// The comparison that was told last.
#[derive(Default)]
pub(super) struct Comparing {
    pub number: u32,
    /// Findings that were told of it, by verdict.
    told: BTreeMap<crate::progress::Verdict, u64>,
    /// Its result.
    pub compared: Option<Event>,
}

impl<'a> Ledger<'a> {
    pub(super) fn open(
        state: &'a Inspection,
        meta: Meta,
        checked: &mut Checked,
    ) -> Result<Self, StoreError> {
        let mut lanes = Vec::new();
        let mut checkpoints = Vec::new();
        for (lane, _) in (0..).zip(&meta.plan.lanes) {
            let foundation = checked.readable(state.foundation(lane)?).flatten();
            lanes.push(Walk::new(state, lane, foundation));
            let checkpoint = checked.readable(state.lane(lane)?).flatten();
            checkpoints.push(checkpoint.unwrap_or_default());
        }
        Ok(Self {
            state,
            lanes,
            checkpoints,
            runs: checked.readable(state.runs()?).unwrap_or_default(),
            passes: checked.readable(state.passes()?).unwrap_or_default(),
            passes_told: BTreeSet::new(),
            seals: checked.readable(state.seals()?).unwrap_or_default(),
            section: 0..=0,
            under_way: None,
            ended: BTreeSet::new(),
            adopted: None,
            rebuilt: false,
            broke: false,
            quarantined: HashSet::new(),
            quarantined_keys: HashSet::new(),
            compare: Comparing::default(),
            repaired: BTreeMap::new(),
            meta,
        })
    }

    /// A line can't be read, so nothing after it is known.
    pub(super) fn journal_broke(&mut self) {
        self.broke = true;
    }

    pub(super) fn line(
        &mut self,
        numbered: Numbered,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        let Numbered { number, hash, line } = numbered;
        let mut wrong = |what: String| checked.misfit(Place::Line(number), what);
        if (number == 1) != matches!(line.event, Event::Created { .. }) {
            wrong("the first line, and no other, tells the plan".to_owned());
        }
        for (run, seal) in self.seals.iter().filter(|(_, seal)| seal.lines == number) {
            if seal.head != hash {
                wrong(format!(
                    "it is not the one that the state knew in run {run}"
                ));
            }
        }
        match line.event {
            Event::Created {
                format,
                migration,
                plan,
                fingerprint,
                ..
            } => {
                let stored = &self.meta;
                let fits = plan.fingerprint() == stored.fingerprint
                    && *plan == stored.plan
                    && fingerprint == hex(&stored.fingerprint);
                if !fits {
                    wrong("its plan is not the one of the state".to_owned());
                }
                if format != stored.format || migration != stored.name {
                    wrong("its format or its name is not that of the state".to_owned());
                }
            }
            Event::Adopted { runs } => {
                self.adopted = Some(runs);
                self.section = 0..=runs;
                checked.notes.push(format!(
                    "the journal was lost after run {runs} and begun anew: what happened before is in the batches alone"
                ));
            }
            Event::Rebuilt { lanes, .. } => self.rebuilt(&lanes, number, checked),
            event @ (Event::RunBegan { .. } | Event::RunEnded { .. }) => {
                self.run(&event, line.at_ms, number, checked)?;
            }
            Event::PassBegan {
                lane, pass, reason, ..
            } => self.pass(lane, pass, &reason, number, checked)?,
            Event::Checkpoint { lanes, sample } => {
                self.milestone(&lanes, sample.as_ref(), number, checked)?;
            }
            event @ Event::Quarantined { .. } => self.quarantined(&event, number, checked),
            Event::Completed { counters } => self.completed(counters, number, checked),
            event => self.result(event, number, checked),
        }
        Ok(())
    }

    /// A line that belongs to a run names the one that is under way.
    fn must_be_under_way(&self, run: u32, number: u64, checked: &mut Checked) {
        if self.under_way.as_ref().is_none_or(|(now, _)| *now != run) {
            checked.misfit(
                Place::Line(number),
                format!("it is of run {run}, which was not under way"),
            );
        }
    }

    fn run(
        &mut self,
        event: &Event,
        at_ms: u64,
        number: u64,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        match event {
            Event::RunBegan {
                run,
                pid,
                host,
                version,
                durability,
                ..
            } => {
                if *run <= *self.section.end() && self.adopted != Some(*run) {
                    let what = format!("run {run} begins after run {}", self.section.end());
                    checked.misfit(Place::Line(number), what);
                }
                let stored = self.runs.get(run);
                let fits = stored.is_some_and(|stored| {
                    (stored.pid, stored.began_ms) == (*pid, at_ms)
                        && (&stored.host, &stored.version) == (host, version)
                });
                if !fits {
                    let what = format!("it does not tell of run {run} what the state does");
                    checked.misfit(Place::Line(number), what);
                }
                self.all_told(*run, number, checked)?;
                self.section = *run..=*run;
                self.under_way = Some((*run, durability.clone()));
            }
            Event::RunEnded { run, how, .. } => {
                self.must_be_under_way(*run, number, checked);
                let stored = self.runs.get(run).and_then(|stored| stored.end.as_ref());
                // A run that died right after this line has no end in the state.
                if stored.is_some_and(|end| end.how != *how || end.at_ms != at_ms) {
                    let what = format!("run {run} did not end as the state says");
                    checked.misfit(Place::Line(number), what);
                }
                self.all_told(run.saturating_add(1), number, checked)?;
                self.ended.insert(*run);
                self.under_way = None;
            }
            _ => unreachable!("only lines about runs"),
        }
        Ok(())
    }

    /// Every batch of the runs before `run` must have been counted by a milestone by now.
    fn all_told(&mut self, run: u32, number: u64, checked: &mut Checked) -> Result<(), StoreError> {
        for (lane, walk) in (0_u32..).zip(&mut self.lanes) {
            if walk.next_run(self.state)?.is_some_and(|next| next < run) {
                let what = format!(
                    "the milestone before it leaves out batches of lane {lane}, from {} of pass {} on",
                    walk.next_seq, walk.pass
                );
                checked.misfit(Place::Line(number), what);
            }
        }
        Ok(())
    }

    fn pass(
        &mut self,
        lane: u32,
        pass: u32,
        reason: &str,
        number: u64,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        let here = Place::Line(number);
        let stored = self
            .passes
            .iter()
            .find(|stored| (stored.lane, stored.pass) == (lane, pass));
        if stored.is_none_or(|stored| stored.reason != reason) {
            let what = format!("pass {pass} of lane {lane} is not as the state tells it");
            checked.misfit(here.clone(), what);
        }
        self.passes_told.insert((lane, pass));
        let section = self.section.clone();
        let Some(walk) = self.lanes.get_mut(lane as usize) else {
            checked.misfit(here, format!("the plan has no lane {lane}"));
            return Ok(());
        };
        if walk.is_broken() {
            return Ok(());
        }
        // A run that died between two passes could not tell of its last batches; they are counted by the milestone of
        // the pass after them.
        walk.advance(self.state, (pass, 0), &section, checked)?;
        Ok(())
    }

    fn milestone(
        &mut self,
        lanes: &[Milestone],
        sample: Option<&Sample>,
        number: u64,
        checked: &mut Checked,
    ) -> Result<(), StoreError> {
        let here = Place::Line(number);
        if !lanes.is_sorted_by(|one, next| one.lane < next.lane) {
            checked.misfit(here.clone(), "its lanes are not in their order");
        }
        // A run that died may have counted more than it could tell, which the milestone tells that the next one begins
        // with: that one has no sample. Without fsync, what a power cut took is counted anew.
        let fsynced = self.under_way.as_ref().is_some_and(|(_, by)| by != "none");
        let exact = sample.is_some() && fsynced;
        let section = self.section.clone();
        for milestone in lanes {
            let Some(walk) = self.lanes.get_mut(milestone.lane as usize) else {
                checked.misfit(
                    here.clone(),
                    format!("the plan has no lane {}", milestone.lane),
                );
                continue;
            };
            let before = walk.total.keys_quarantined;
            let to = (milestone.pass, milestone.next_seq);
            walk.advance(self.state, to, &section, checked)?;
            walk.compare(milestone, number, checked);
            let counted = walk.total.keys_quarantined.saturating_sub(before);
            let told = std::mem::take(&mut walk.quarantined_told);
            if exact && counted != told && !walk.is_broken() {
                let what = format!(
                    "{told} quarantined keys of lane {} were told before it, its batches count {counted}",
                    milestone.lane
                );
                checked.misfit(here.clone(), what);
            }
        }
        if let Some(sample) = sample {
            self.sample(sample, number, checked);
        }
        Ok(())
    }

    fn sample(&self, sample: &Sample, number: u64, checked: &mut Checked) {
        self.must_be_under_way(sample.run, number, checked);
        if self.lanes.iter().any(Walk::is_broken) {
            return;
        }
        let mut total = Counters::default();
        self.lanes.iter().for_each(|walk| total.add(&walk.total));
        let said = (
            sample.keys_scanned,
            sample.keys_written,
            sample.payload_bytes_written,
        );
        let counted = (
            total.keys_scanned,
            total.keys_written,
            total.payload_bytes_written,
        );
        if said != counted {
            let what = "its sample is not the sum of the batches before it";
            checked.misfit(Place::Line(number), what);
        }
    }

    fn quarantined(&mut self, event: &Event, number: u64, checked: &mut Checked) {
        let Event::Quarantined {
            lane,
            pass,
            seq,
            key_hex,
            reason,
            ..
        } = event
        else {
            return;
        };
        if self.quarantined.len() < QUARANTINED_KNOWN_MAX {
            self.quarantined_keys.insert(key_id(*lane, key_hex));
            self.quarantined
                .insert(quarantined_id(*lane, *pass, *seq, key_hex, reason));
        }
        let Some(walk) = self.lanes.get_mut(*lane as usize) else {
            return checked.misfit(Place::Line(number), format!("the plan has no lane {lane}"));
        };
        walk.quarantined_told += 1;
        walk.told_quarantined += 1;
        if !walk.is_broken() && (*pass, *seq) < (walk.pass, walk.next_seq) {
            let what = "it is of a batch that was counted before it";
            checked.misfit(Place::Line(number), what);
        }
    }

    fn completed(&mut self, counters: Counters, number: u64, checked: &mut Checked) {
        if self.lanes.iter().any(Walk::is_broken) {
            return;
        }
        let mut sum = Counters::default();
        self.lanes.iter().for_each(|walk| sum.add(&walk.counters));
        if !self.lanes.iter().all(Walk::is_at_end) || sum != counters || !sum.balance() {
            let what = "the lanes were not at their end, or do not add up to it";
            checked.misfit(Place::Line(number), what);
        }
    }

    fn rebuilt(&mut self, lanes: &[Milestone], number: u64, checked: &mut Checked) {
        self.rebuilt = true;
        self.compare = Comparing::default();
        self.repaired.clear();
        for milestone in lanes {
            if let Some(walk) = self.lanes.get_mut(milestone.lane as usize) {
                walk.rebuilt(milestone, number, checked);
            }
        }
        checked.notes.push(format!(
            "the state was lost and made anew from the journal (line {number}): the batches before that are told by milestones alone"
        ));
    }

    /// Settings, servers, comparisons, repairs.
    fn result(&mut self, event: Event, number: u64, checked: &mut Checked) {
        let here = Place::Line(number);
        match &event {
            Event::Settings { run, .. }
            | Event::LimitsChanged { run, .. }
            | Event::Evicted { run, .. }
            | Event::Server { run, .. }
            | Event::LaneContinued { run, .. } => self.must_be_under_way(*run, number, checked),
            Event::CompareStarted {
                compare, copied, ..
            } => {
                if *compare != self.compare.number + 1 && self.adopted.is_none() {
                    let what = format!("comparison {compare} follows {}", self.compare.number);
                    checked.misfit(here.clone(), what);
                }
                let at = |walk: &Walk| (walk.pass, walk.next_seq);
                let whole = !self.lanes.iter().any(Walk::is_broken);
                if whole && !copied.iter().copied().eq(self.lanes.iter().map(at)) {
                    checked.misfit(here, "it does not tell how far the copy was");
                }
                self.compare = Comparing {
                    number: *compare,
                    ..Comparing::default()
                };
            }
            Event::Finding { verdict, .. } => {
                *self.compare.told.entry(*verdict).or_default() += 1;
            }
            Event::Compared {
                compare, counters, ..
            } => {
                let told: u64 = self.compare.told.values().sum();
                let listed = counters
                    .findings()
                    .min(crate::audit::entry::FINDINGS_TOLD_MAX as u64);
                let whole = counters.findings() == listed;
                let fits = self.compare.told.iter().all(|(verdict, told)| match whole {
                    true => *told == counters.of(*verdict),
                    false => *told <= counters.of(*verdict),
                });
                if *compare != self.compare.number && self.adopted.is_none() {
                    let what = format!("comparison {compare} ends, {} began", self.compare.number);
                    checked.misfit(here, what);
                } else if !counters.balance() {
                    checked.misfit(here, "its accounts do not add up");
                } else if told != listed || !fits {
                    checked.misfit(here, "the findings before it are not those that it counts");
                }
                self.compare.number = *compare;
                self.compare.compared = Some(event);
            }
            Event::Repaired { repair, .. } => {
                self.repaired.insert(*repair, event);
            }
            _ => {}
        }
    }

    /// What the journal's end leaves open.
    pub(super) fn end(&mut self, checked: &mut Checked) -> Result<(), StoreError> {
        let newest = self.runs.get(&self.meta.runs);
        if newest.is_none() {
            let which = format!("the record of run {}", self.meta.runs);
            checked.record(which, "it is missing");
        }
        let died = newest.is_some_and(|run| run.end.is_none());
        if !self.broke {
            self.journal_is_whole(died, checked)?;
        }
        let runs = 0..=self.meta.runs;
        for (walk, checkpoint) in self.lanes.iter_mut().zip(&self.checkpoints) {
            let told = walk.next_seq;
            walk.finish(self.state, &runs, checked)?;
            walk.compare_checkpoint(checkpoint, checked);
            let untold = walk.next_seq.saturating_sub(told);
            if died && untold > 0 {
                checked.notes.push(format!(
                    "the last run died, or was not asked to end: {untold} batches after its last milestone are in the state alone"
                ));
            }
            checked.lanes.push(walk.checked());
            checked.counters.add(&walk.counters);
        }
        let copied = self.meta.phase == Phase::Copied;
        let at_end = self.checkpoints.iter().all(|lane| {
            lane.position == crate::state::record::Position::End && lane.counters.balance()
        });
        if copied && !at_end {
            checked.record(
                "the state's first record",
                "it says that all is copied, and a lane is not at its end",
            );
        }
        Ok(())
    }

    fn journal_is_whole(&mut self, died: bool, checked: &mut Checked) -> Result<(), StoreError> {
        let lines = checked.lines;
        let adopted = self.adopted.unwrap_or(0);
        let after = Place::Line(lines + 1);
        for (run, record) in &self.runs {
            if *run > adopted && record.end.is_some() && !self.ended.contains(run) {
                checked.misfit(after.clone(), format!("the end of run {run} is missing"));
            }
        }
        for pass in &self.passes {
            let told = self.passes_told.contains(&(pass.lane, pass.pass));
            if pass.run > adopted && !told && !died {
                let what = format!("pass {} of lane {} is missing", pass.pass, pass.lane);
                checked.misfit(after.clone(), what);
            }
        }
        for (run, seal) in &self.seals {
            if *run > adopted && seal.lines > lines {
                let what = format!(
                    "the journal ends after {lines} lines, the state knew {} in run {run}",
                    seal.lines
                );
                checked.misfit(after.clone(), what);
            }
        }
        if !died {
            self.all_told(u32::MAX, lines + 1, checked)?;
        }
        Ok(())
    }

    /// Whether the state says how a run ended.
    pub(super) fn has_ended(&self, run: u32) -> bool {
        self.runs
            .get(&run)
            .is_some_and(|record| record.end.is_some())
    }
}

/// A quarantined key, whenever it was met.
pub(super) fn key_id(lane: u32, key_hex: &str) -> [u8; 16] {
    quarantined_id(lane, 0, 0, key_hex, "")
}

/// What a quarantined key is known by, in the journal and in the state.
pub(super) fn quarantined_id(
    lane: u32,
    pass: u32,
    seq: u64,
    key_hex: &str,
    reason: &str,
) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&lane.to_le_bytes());
    hasher.update(&pass.to_le_bytes());
    hasher.update(&seq.to_le_bytes());
    hasher.update(&(key_hex.len() as u64).to_le_bytes());
    hasher.update(key_hex.as_bytes());
    hasher.update(reason.as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    id
}
