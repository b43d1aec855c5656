//! Makes a report of the journal, line by line, and of the lists that only the state has.
//!
//! # Invariants
//!
//! - A line adds to what is known and never needs one after it: the journal of a migration that is under way, or whose
//!   last run was killed, gives a report of what is known until there.
//! - However long the journal is, what is kept of it is bounded by the number of runs, passes and comparisons.

mod finish;
mod lists;
mod settings;
mod sides;

use std::collections::BTreeMap;

pub use finish::Rest;
pub use lists::{LISTED_MAX, Lists, RawKey, RawList};

use super::curve::Curve;
use super::model::{Compare, Pass, Repair, Run, RunEnd, Side, Wait};
use crate::audit::entry::{self, EndKind, Event, Milestone, unhex};
use crate::endpoint;
use crate::figures;
use crate::key::visible;
use crate::plan::Plan;
use crate::progress::{Counters, FunctionsStatus};

/// Waits that are shown.
const WAITS_MAX: usize = 50;

/// What is known after some lines.
#[derive(Default)]
pub struct Builder {
    created: Option<Created>,
    settings: Vec<entry::Setting>,
    /// Of each other command, what its newest run was told.
    settings_of: Vec<(String, Vec<entry::Setting>)>,
    /// What the run at work runs.
    command: String,
    runs: Vec<Run>,
    passes: Vec<Pass>,
    waits: Vec<Wait>,
    waits_total: u64,
    /// A wait that has begun, by side.
    waiting: BTreeMap<String, (u64, String)>,
    /// Newest milestone and present pass of each lane, by its index.
    lanes: BTreeMap<u32, Milestone>,
    source: Side,
    target: Side,
    copied: bool,
    copying: bool,
    completed_ms: Option<u64>,
    curve: Curve,
    compares: Vec<Compare>,
    repairs: Vec<Repair>,
    /// Keys that could not be copied, and findings of the newest comparison: as far as they were told one by one.
    quarantined: RawList,
    findings: RawList,
    remarks: Vec<String>,
    /// Keys that the target evicted, by run.
    evicted: BTreeMap<u32, u64>,
}

struct Created {
    at_ms: u64,
    migration: String,
    plan: Box<Plan>,
    fingerprint: String,
}

impl Builder {
    /// Takes the next line.
    pub fn learn(&mut self, at_ms: u64, event: Event) {
        if !matches!(event, Event::RunBegan { .. }) {
            self.heard(at_ms);
        }
        match event {
            Event::Created { .. }
            | Event::Restarted { .. }
            | Event::Adopted { .. }
            | Event::Rebuilt { .. } => self.state_made(at_ms, event),
            Event::RunBegan { .. } => self.run_began(at_ms, event),
            Event::Settings { settings, .. } => self.told(settings),
            Event::Server { side, server, .. } => self.side(side).met(&server, at_ms),
            Event::RunEnded { how, end, .. } => self.run_ended(at_ms, how, end),
            Event::Phase { phase } => {
                self.worked("copy");
                self.copying |= phase == "copying";
                self.copied &= phase != "copying";
            }
            Event::PassBegan {
                lane,
                pass,
                reason,
                source_run_id,
                target_run_id,
                ..
            } => {
                self.source.met_again(source_run_id, at_ms);
                self.target.met_again(target_run_id, at_ms);
                self.pass_began(at_ms, lane, pass, reason);
            }
            Event::LaneContinued { .. } => self.worked("copy"),
            Event::Checkpoint { lanes, sample } => {
                self.checkpoint(at_ms, lanes);
                if let Some(sample) = sample {
                    self.curve.push(at_ms, &sample);
                }
            }
            Event::ThrottleBegan { side, reason, .. } => {
                self.waiting.insert(side.to_string(), (at_ms, reason));
            }
            Event::ThrottleEnded {
                side,
                reason,
                began_ms,
                ..
            } => {
                self.waiting.remove(&side.to_string());
                self.waited(began_ms, at_ms, side.to_string(), reason);
            }
            Event::Completed { .. } => {
                (self.copied, self.copying) = (true, false);
                self.completed_ms = Some(at_ms);
            }
            Event::Served {
                run,
                side,
                node,
                calls,
                unknown,
            } => self.side(side).served(run, node, calls, unknown),
            Event::Quarantined { .. } | Event::Finding { .. } => self.key_told(event),
            Event::CompareStarted { .. }
            | Event::CompareLaneBegan { .. }
            | Event::Compared { .. } => self.compared(at_ms, event),
            Event::RepairStarted { .. } | Event::Repaired { .. } => self.repaired(at_ms, event),
            Event::Deleted { .. } => self.worked("repair"),
            Event::Functions {
                libraries,
                written,
                kept,
            } => {
                let carried = FunctionsStatus {
                    libraries,
                    written,
                    kept,
                };
                let told = figures::functions(&carried);
                self.remarks
                    .push(format!("Functions of the source: {told}."));
            }
            Event::Evicted { run, keys } => {
                self.evicted.insert(run, keys);
            }
            // That it was held back is told by waits.
            Event::LimitsChanged { .. } | Event::Unknown => {}
        }
    }

    /// Whether the state knows something that the journal does not: which findings were repaired, and which keys could not
    /// be copied, each once.
    pub fn needs_state(&self) -> bool {
        self.quarantined.total > 0 || self.findings_told().is_none()
    }

    /// Something that was not as it should be, in a sentence.
    pub fn remark(&mut self, sentence: String) {
        self.remarks.push(visible(&sentence));
    }

    fn side(&mut self, side: endpoint::Side) -> &mut Side {
        match side {
            endpoint::Side::Source => &mut self.source,
            endpoint::Side::Target => &mut self.target,
        }
    }

    /// The state was made, or made anew.
    fn state_made(&mut self, at_ms: u64, event: Event) {
        match event {
            Event::Created {
                migration,
                plan,
                fingerprint,
                ..
            } => {
                self.created = Some(Created {
                    at_ms,
                    migration,
                    plan,
                    fingerprint,
                });
            }
            Event::Restarted { set_aside } => self.remarks.push(format!(
                "An earlier state was set aside as {} (--restart); this report is not about it.",
                visible(&set_aside)
            )),
            Event::Adopted { runs } => self.remarks.push(format!(
                "The journal was missing after run {runs} and began anew: what happened before is not in it."
            )),
            Event::Rebuilt { runs, lanes, .. } => {
                self.remarks.push(format!(
                    "The state was lost after run {runs}, and made anew from the milestones of the journal."
                ));
                self.checkpoint(at_ms, lanes);
            }
            _ => {}
        }
    }

    // ---- runs

    /// The run at work is alive at this instant.
    fn heard(&mut self, at_ms: u64) {
        if let Some(run) = self.at_work() {
            run.ended_ms = run.ended_ms.max(at_ms);
        }
    }

    fn at_work(&mut self) -> Option<&mut Run> {
        self.runs
            .last_mut()
            .filter(|run| run.end == RunEnd::Running)
    }

    fn worked(&mut self, what: &str) {
        if let Some(run) = self.runs.last_mut()
            && !run.work.iter().any(|known| known == what)
        {
            run.work.push(what.to_owned());
        }
    }

    fn run_began(&mut self, at_ms: u64, event: Event) {
        let Event::RunBegan {
            run,
            pid,
            host,
            version,
            user,
            durability,
            command,
        } = event
        else {
            return;
        };
        self.end_died();
        self.command = command;
        if durability == "none" {
            self.remarks.push(format!(
                "Run {run} worked with --durability none: a power cut could have taken back what it had acknowledged last."
            ));
        }
        self.runs.push(Run {
            run,
            began_ms: at_ms,
            ended_ms: at_ms,
            end: RunEnd::Running,
            how: String::new(),
            work: Vec::new(),
            user: visible(&user),
            host: visible(&host),
            pid,
            version: visible(&version),
        });
    }

    /// What the run at work was told. What `migrate` was told stands for the migration.
    fn told(&mut self, settings: Vec<entry::Setting>) {
        let command = self.command.as_str();
        if !["redknot compare", "redknot repair"].contains(&command) {
            self.settings = settings;
            return;
        }
        match self.settings_of.iter_mut().find(|of| of.0 == command) {
            Some((_, known)) => *known = settings,
            None => self.settings_of.push((command.to_owned(), settings)),
        }
    }

    /// The run before could not say how it ended.
    fn end_died(&mut self) {
        self.stop_waiting();
        if let Some(run) = self.at_work() {
            run.end = RunEnd::Died;
        }
    }

    fn run_ended(&mut self, at_ms: u64, how: String, end: EndKind) {
        self.stop_waiting();
        if let Some(run) = self.runs.last_mut() {
            run.ended_ms = at_ms;
            run.end = match end {
                EndKind::Complete => RunEnd::Done,
                EndKind::Stopped => RunEnd::Stopped,
                EndKind::Failed => RunEnd::Failed,
                EndKind::Unknown => by_words(&how),
            };
            run.how = how;
        }
    }

    /// Waits that have no end of their own end with their run.
    fn stop_waiting(&mut self) {
        let until = self.runs.last().map_or(0, |run| run.ended_ms);
        for (side, (from_ms, reason)) in std::mem::take(&mut self.waiting) {
            self.waited(from_ms, until.max(from_ms), side, reason);
        }
    }

    fn waited(&mut self, from_ms: u64, to_ms: u64, side: String, reason: String) {
        self.waits_total += 1;
        if self.waits.len() < WAITS_MAX {
            self.waits.push(Wait {
                from_ms,
                to_ms,
                side,
                reason,
            });
        }
    }

    // ---- the copy

    fn pass_began(&mut self, at_ms: u64, lane: u32, pass: u32, reason: String) {
        self.worked("copy");
        let complete = self.copied;
        let db = self.source_db(lane);
        let mut before = self.passes.iter_mut().rev();
        if let Some(before) = before.find(|known| known.db == db) {
            before.superseded = !complete;
        }
        self.passes.push(Pass {
            db,
            pass,
            began_ms: at_ms,
            ended_ms: at_ms,
            reason,
            superseded: false,
            counters: Counters::default(),
        });
        let before = self.lanes.remove(&lane);
        let fresh = Milestone {
            lane,
            pass,
            next_seq: 0,
            chain: before.map_or_else(String::new, |before| before.chain),
            cursor: None,
            counters: Counters::default(),
            makeup: Box::default(),
            counters_of_all_passes: Counters::default(),
        };
        self.lanes.insert(lane, fresh);
        (self.copied, self.copying) = (false, true);
        self.outdate();
    }

    /// What was compared before is not what is there now.
    fn outdate(&mut self) {
        if let Some(compare) = self.compares.last_mut() {
            compare.outdated = true;
        }
    }

    fn checkpoint(&mut self, at_ms: u64, lanes: Vec<Milestone>) {
        for milestone in lanes {
            let db = self.source_db(milestone.lane);
            let mut passes = self.passes.iter_mut().rev();
            let pass = passes.find(|known| known.db == db && known.pass == milestone.pass);
            if let Some(pass) = pass {
                pass.ended_ms = at_ms;
                pass.counters = milestone.counters;
            }
            let before = self.lanes.get(&milestone.lane);
            let before = before.map_or((0, 0), |before| (before.pass, before.next_seq));
            if (milestone.pass, milestone.next_seq) > before {
                self.outdate();
            }
            self.lanes.insert(milestone.lane, milestone);
        }
    }

    /// A key that could not be copied, or that differs.
    fn key_told(&mut self, event: Event) {
        match event {
            Event::Quarantined {
                lane,
                key_hex,
                key_bytes,
                reason,
                error,
                ..
            } => {
                let db = self.source_db(lane);
                self.quarantined.push(|| RawKey {
                    db,
                    name: unhex(&key_hex).unwrap_or_default(),
                    name_bytes: key_bytes,
                    verdict: None,
                    key_type: String::new(),
                    reason,
                    error,
                });
            }
            Event::Finding {
                lane,
                key_hex,
                key_bytes,
                verdict,
                key_type,
                detail,
                ..
            } => {
                let db = self.source_db(lane);
                self.findings.push(|| RawKey {
                    db,
                    name: unhex(&key_hex).unwrap_or_default(),
                    name_bytes: key_bytes,
                    verdict: Some(verdict),
                    key_type,
                    reason: detail,
                    error: None,
                });
            }
            _ => {}
        }
    }

    // ---- comparisons and repairs

    fn compared(&mut self, at_ms: u64, event: Event) {
        self.worked("compare");
        match event {
            Event::CompareStarted {
                compare,
                sample,
                one_way,
                recorded,
                ..
            } => {
                self.findings = RawList::default();
                self.compares.push(Compare {
                    compare,
                    began_ms: at_ms,
                    ended_ms: None,
                    sample,
                    one_way,
                    recorded,
                    outdated: false,
                    counters: Default::default(),
                    lives: None,
                    source_digest: String::new(),
                    target_digest: String::new(),
                    not_compared: Vec::new(),
                });
            }
            Event::Compared {
                compare,
                counters,
                source_digest,
                target_digest,
                not_compared,
                lives,
                ..
            } => {
                let mut known = self.compares.iter_mut().rev();
                if let Some(known) = known.find(|known| known.compare == compare) {
                    known.ended_ms = Some(at_ms);
                    known.counters = counters;
                    known.lives = (lives.keys() > 0).then_some(*lives);
                    known.source_digest = source_digest;
                    known.target_digest = target_digest;
                    known.not_compared = not_compared;
                }
            }
            _ => {}
        }
    }

    fn repaired(&mut self, at_ms: u64, event: Event) {
        self.worked("repair");
        let (Event::RepairStarted {
            repair, compare, ..
        }
        | Event::Repaired {
            repair, compare, ..
        }) = event
        else {
            return;
        };
        let mut known = self.repairs.iter();
        let at = known.position(|known| (known.repair, known.compare) == (repair, compare));
        let at = at.unwrap_or_else(|| {
            let findings = self.compares.last();
            self.repairs.push(Repair {
                repair,
                compare,
                began_ms: at_ms,
                ended_ms: None,
                counters: Default::default(),
                findings_left: findings.map_or(0, |compare| compare.counters.findings()),
            });
            self.repairs.len() - 1
        });
        if let Event::Repaired {
            counters,
            findings_left,
            ..
        } = event
        {
            let known = &mut self.repairs[at];
            known.ended_ms = Some(at_ms);
            known.counters = counters;
            known.findings_left = findings_left;
        }
    }

    fn source_db(&self, lane: u32) -> u32 {
        let plan = self.created.as_ref().map(|created| &created.plan);
        plan.and_then(|plan| plan.lanes.get(lane as usize))
            .map_or(lane, |lane| lane.source_db)
    }

    fn sum(&self) -> Counters {
        let mut sum = Counters::default();
        self.lanes.values().for_each(|lane| sum.add(&lane.counters));
        sum
    }
}

/// How a run ended that said it in words alone.
fn by_words(how: &str) -> RunEnd {
    let begins = |words: &[&str]| words.iter().any(|word| how.starts_with(word));
    match how {
        "complete" | "repaired" => RunEnd::Done,
        _ if begins(&["compared: "]) => RunEnd::Done,
        _ if begins(&["stopped by ", "compare stopped by "]) => RunEnd::Stopped,
        _ => RunEnd::Unknown,
    }
}

#[cfg(test)]
mod tests;
