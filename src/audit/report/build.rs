//! Makes a report of the journal, line by line, and of the lists that only the state has.
//!
//! # Invariants
//!
//! - A line adds to what is known and never needs one after it: the journal of a migration that is under way, or whose
//!   last run was killed, gives a report of what is known until there.
//! - However long the journal is, what is kept of it is bounded by the number of runs, passes and comparisons.

use std::collections::BTreeMap;

use super::curve::Curve;
use super::model::{
    Chain, Compare, KeyList, Lane, ListedKey, Pass, Phase, Process, REPORT_VERSION, Redaction,
    Repair, Report, Run, RunEnd, Setting, Side, Wait,
};
use super::redact;
use super::verdict::{Verdict, verdict};
use crate::audit::entry::{self, EndKind, Event, Milestone, Origin, ServerSeen, unhex};
use crate::endpoint;
use crate::figures;
use crate::key::visible;
use crate::plan::Plan;
use crate::progress::{Counters, FunctionsStatus, Makeup, Verdict as KeyVerdict};

/// Keys of a list that are shown.
pub const LISTED_MAX: usize = 100;
/// Waits that are shown.
const WAITS_MAX: usize = 50;

/// What is known after some lines.
#[derive(Default)]
pub struct Builder {
    created: Option<Created>,
    settings: Vec<entry::Setting>,
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
}

struct Created {
    at_ms: u64,
    migration: String,
    plan: Box<Plan>,
    fingerprint: String,
}

/// What the journal does not say.
#[derive(Debug)]
pub struct Rest {
    /// When the report is made, Unix milliseconds.
    pub made_ms: u64,
    /// Version of redknot.
    pub made_by: String,
    /// Whether a process works on the migration.
    pub running: bool,
    /// Which keys could not be copied, and which differ, by the state; `None` where nobody could look.
    pub lists: Option<Lists>,
    /// Where the journal ends.
    pub chain: Chain,
    /// How names of keys are shown.
    pub redact_keys: Redaction,
}

/// Lists that are too long for the journal, or change.
#[derive(Debug, Default)]
pub struct Lists {
    /// Keys that could not be copied.
    pub quarantined: RawList,
    /// Findings that are open.
    pub findings: RawList,
}

/// The beginning of a list, and how long it is.
#[derive(Debug, Default)]
pub struct RawList {
    /// All of them.
    pub total: u64,
    /// At most [`LISTED_MAX`].
    pub keys: Vec<RawKey>,
}

/// A key of a list, as it is stored.
#[derive(Debug)]
pub struct RawKey {
    /// Database on the source.
    pub db: u32,
    /// Its name, or the beginning of it.
    pub name: Vec<u8>,
    /// Length of its whole name.
    pub name_bytes: u64,
    /// What a comparison says of it.
    pub verdict: Option<KeyVerdict>,
    /// What it holds.
    pub key_type: String,
    /// Why it is in the list, in our words.
    pub reason: String,
    /// The same, in those of a server.
    pub error: Option<String>,
}

impl RawList {
    /// Adds a key; it is counted in any case.
    pub fn push(&mut self, key: impl FnOnce() -> RawKey) {
        self.total += 1;
        if self.keys.len() < LISTED_MAX {
            self.keys.push(key());
        }
    }
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
            Event::Settings { settings, .. } => self.settings = settings,
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
                calls,
                unknown,
            } => self.side(side).served(run, calls, unknown),
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
            Event::Unknown => {}
        }
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
            ..
        } = event
        else {
            return;
        };
        self.end_died();
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
                EndKind::Unknown => RunEnd::Unknown,
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
                ..
            } => {
                self.findings = RawList::default();
                self.compares.push(Compare {
                    compare,
                    began_ms: at_ms,
                    ended_ms: None,
                    sample,
                    one_way,
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

    /// The report; `None` if the journal does not say what was to be moved.
    pub fn finish(mut self, rest: Rest) -> Option<Report> {
        match rest.running {
            true => self.stop_waiting(),
            false => self.end_died(),
        }
        let created = self.created.take()?;
        let redaction = rest.redact_keys;
        self.tell_unknown_served();
        self.redact(redaction);
        let mut chain = rest.chain;
        chain.lanes = self.chains(&created.plan);
        if chain.torn {
            self.remarks
                .push("The last line of the journal was torn by a crash, and left out.".into());
        }
        let mut makeup = Makeup::default();
        self.lanes
            .values()
            .for_each(|lane| makeup.add(&lane.makeup));
        let command = |class| format!("redknot keys {} --class {class}", created.migration);
        let (quarantined, findings) = match rest.lists {
            Some(lists) => (lists.quarantined, Some(lists.findings)),
            None => {
                let open = self.findings_told();
                let told = std::mem::take(&mut self.findings);
                let findings = open.map(|total| RawList { total, ..told });
                (std::mem::take(&mut self.quarantined), findings)
            }
        };
        let mut report = Report {
            v: REPORT_VERSION,
            made_ms: rest.made_ms,
            made_by: rest.made_by,
            redact_keys: redaction,
            migration: visible(&created.migration),
            verdict: Verdict::default(),
            phase: match (self.copied, self.copying) {
                (true, _) => Phase::Copied,
                (false, true) => Phase::Copying,
                (false, false) => Phase::Planned,
            },
            running: rest.running,
            settings: settings(&self.settings, &created.plan, redaction),
            fingerprint: created.fingerprint.clone(),
            created_ms: created.at_ms,
            completed_ms: self.completed_ms,
            counters: self.sum(),
            lanes: self.lanes_of(&created.plan),
            not_compared: self.not_compared(),
            source: Side {
                address: visible(&created.plan.source),
                ..self.source
            },
            target: Side {
                address: visible(&created.plan.target),
                ..self.target
            },
            runs: self.runs,
            passes: self.passes,
            waits: self.waits,
            waits_total: self.waits_total,
            makeup,
            curve: self.curve.finish(),
            compares: self.compares,
            repairs: self.repairs,
            quarantined: list(redaction, Some(quarantined), command("quarantined")),
            findings: list(redaction, findings, command("findings")),
            remarks: self.remarks,
            chain,
        };
        report.verdict = verdict(&report);
        Some(report)
    }

    /// Keeps names of keys out of messages.
    fn redact(&mut self, redaction: Redaction) {
        let runs = self.runs.iter_mut().map(|run| &mut run.how);
        let passes = self.passes.iter_mut().map(|pass| &mut pass.reason);
        let waits = self.waits.iter_mut().map(|wait| &mut wait.reason);
        for text in runs.chain(passes).chain(waits) {
            *text = redact::message(redaction, text);
        }
    }

    fn chains(&self, plan: &Plan) -> Vec<(u32, String)> {
        let known = self.lanes.values().filter(|lane| !lane.chain.is_empty());
        known
            .filter_map(|lane| {
                let db = plan.lanes.get(lane.lane as usize)?.source_db;
                Some((db, lane.chain.clone()))
            })
            .collect()
    }

    fn lanes_of(&self, plan: &Plan) -> Vec<Lane> {
        let lanes = (0..).zip(&plan.lanes).map(|(index, lane)| {
            let known = self.lanes.get(&index);
            Lane {
                source_db: lane.source_db,
                target_db: lane.target_db,
                pass: known.map_or(0, |known| known.pass),
                counters: known.map_or_else(Counters::default, |known| known.counters),
            }
        });
        lanes.collect()
    }

    /// How many findings are open, if the journal alone tells.
    fn findings_told(&self) -> Option<u64> {
        let Some(compare) = self.compares.last() else {
            return Some(0);
        };
        compare.ended_ms?;
        // Which of them a repair has settled, only the state knows.
        let mut repairs = self.repairs.iter();
        match repairs.any(|repair| repair.compare == compare.compare) {
            true => None,
            false => Some(compare.counters.findings()),
        }
    }

    /// Says of which runs nobody knows what the servers served.
    fn tell_unknown_served(&mut self) {
        for run in self.runs.iter().filter(|run| !run.work.is_empty()) {
            let why = match run.end {
                RunEnd::Died => "it died before it could ask",
                RunEnd::Running => "it is at work",
                RunEnd::Done | RunEnd::Stopped | RunEnd::Failed | RunEnd::Unknown => {
                    "nobody has asked"
                }
            };
            for side in [&mut self.source, &mut self.target] {
                let served = &mut side.served;
                let told = served.runs.contains(&run.run)
                    || served.unknown.iter().any(|(known, _)| *known == run.run);
                if !told {
                    served.unknown.push((run.run, why.to_owned()));
                }
            }
        }
        for side in [&mut self.source, &mut self.target] {
            side.served
                .commands
                .sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        }
    }

    fn not_compared(&self) -> Vec<String> {
        let Some(compare) = self.compares.last() else {
            return vec!["No key was compared.".to_owned()];
        };
        if compare.ended_ms.is_none() {
            return vec!["The comparison has no result yet.".to_owned()];
        }
        let mut sentences: Vec<String> = compare
            .not_compared
            .iter()
            .map(|sentence| visible(sentence))
            .collect();
        if compare.outdated {
            sentences.push("keys that were copied after the comparison had begun".to_owned());
        }
        sentences
    }
}

impl Side {
    /// A process answered there.
    fn met(&mut self, server: &ServerSeen, at_ms: u64) {
        self.tls = Some(server.tls);
        let process = Process {
            version: visible(&server.version),
            run_id: server.run_id.as_deref().map(visible),
            since_ms: at_ms,
            role: server.role.as_deref().map(visible),
            masters: server.masters,
            certificate_sha256: server.certificate_sha256.clone(),
        };
        match self.processes.last_mut() {
            Some(last) if last.run_id == process.run_id => {
                *last = Process {
                    since_ms: last.since_ms,
                    ..process
                };
            }
            _ => self.processes.push(process),
        }
    }

    /// A process that a line names answered there: nothing new, unless nobody has told who it is.
    fn met_again(&mut self, run_id: Option<String>, at_ms: u64) {
        let known = self.processes.iter().any(|known| known.run_id == run_id);
        if !known {
            self.processes.push(Process {
                version: String::new(),
                run_id: run_id.as_deref().map(visible),
                since_ms: at_ms,
                role: None,
                masters: None,
                certificate_sha256: None,
            });
        }
    }

    /// It told what it served in a run, or why not.
    fn served(&mut self, run: u32, calls: BTreeMap<String, u64>, unknown: Option<String>) {
        let served = &mut self.served;
        if let Some(why) = unknown {
            served.unknown.push((run, visible(&why)));
            return;
        }
        served.runs.push(run);
        for (command, more) in calls {
            let command = visible(&command);
            match served.commands.iter_mut().find(|known| known.0 == command) {
                Some((_, calls)) => *calls += more,
                None => served.commands.push((command, more)),
            }
        }
    }
}

fn list(redaction: Redaction, raw: Option<RawList>, command: String) -> KeyList {
    let total = raw.as_ref().map(|raw| raw.total);
    let keys = raw.map_or_else(Vec::new, |raw| raw.keys);
    KeyList {
        total,
        keys: keys.iter().map(|key| listed(redaction, key)).collect(),
        command,
    }
}

fn listed(redaction: Redaction, key: &RawKey) -> ListedKey {
    let reason = redact::message(redaction, &key.reason);
    ListedKey {
        db: key.db,
        key: redact::name(redaction, &key.name, key.name_bytes),
        verdict: key.verdict,
        key_type: visible(&key.key_type),
        reason: match &key.error {
            Some(line) => format!("{reason}: {}", redact::error(redaction, line)),
            None => reason,
        },
    }
}

/// What the newest run was told; what the plan says, where nobody recorded that.
fn settings(told: &[entry::Setting], plan: &Plan, redaction: Redaction) -> Vec<Setting> {
    if told.is_empty() {
        return planned(plan, redaction);
    }
    let told = told.iter().map(|setting| {
        let value = match (setting.name.as_str(), &plan.match_glob) {
            ("match", Some(glob)) => redact::pattern(redaction, glob),
            _ => redact::message(redaction, &setting.value),
        };
        Setting {
            name: format!("--{}", visible(&setting.name)),
            value,
            origin: setting.origin,
        }
    });
    told.collect()
}

/// What the plan says, as the operator would have said it.
fn planned(plan: &Plan, redaction: Redaction) -> Vec<Setting> {
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let databases = plan.lanes.iter().map(|lane| lane.source_db.to_string());
    let types = plan.types.iter().map(|kind| kind.name().to_owned());
    let glob = plan.match_glob.as_ref();
    let all = [
        ("--from", visible(&plan.source)),
        ("--to", visible(&plan.target)),
        ("--db", databases.collect::<Vec<_>>().join(",")),
        (
            "--match",
            glob.map_or_else(String::new, |glob| redact::pattern(redaction, glob)),
        ),
        ("--type", types.collect::<Vec<_>>().join(",")),
        ("--on-conflict", word(serde_json::json!(plan.on_conflict))),
        ("--ttl", word(serde_json::json!(plan.ttl))),
        ("--field-ttl", word(serde_json::json!(plan.field_ttl))),
    ];
    all.into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| Setting {
            name: name.to_owned(),
            value,
            origin: Origin::Unknown,
        })
        .collect()
}
