//! What is known at the end of the journal, put together.

use super::Builder;
use super::lists::{Lists, RawList, list};
use super::settings::{of_others, settings};
use crate::audit::report::model::{
    Chain, Lane, Phase, REPORT_VERSION, Redaction, Report, RunEnd, Side,
};
use crate::audit::report::redact;
use crate::audit::report::verdict::{Verdict, verdict};
use crate::figures::count;
use crate::key::visible;
use crate::plan::Plan;
use crate::progress::{Counters, Makeup};

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

impl Builder {
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
        for (run, keys) in std::mem::take(&mut self.evicted) {
            let keys = count(keys);
            self.remarks.push(format!(
                "Keys evicted on the target during run {run}, as it was full, whosever they were: {keys}."
            ));
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
            settings_of: of_others(&self.settings_of, &created.plan, redaction),
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
    pub(super) fn findings_told(&self) -> Option<u64> {
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
