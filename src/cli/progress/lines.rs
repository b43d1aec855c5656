//! Events as lines of text on standard error.

use std::time::{Duration, Instant};

use redknot::plan::LanePlan;
use redknot::progress::{
    CompareState, CompareStatus, Event, LaneDecision, RepairOutcome, RepairStatus, Status,
};
use redknot::shutdown::StopReason;

use crate::cli::console::Console;
use crate::cli::format;

/// Where no bar is drawn, one line this often says how far it is.
const INTERVAL: Duration = Duration::from_secs(5);

/// Quarantined keys that are shown one by one; the rest is counted.
const QUARANTINED_SHOWN_MAX: u64 = 10;

/// Writes a line for every event that deserves one.
pub struct Lines {
    console: Console,
    name: String,
    state: String,
    last_progress: Instant,
    quarantined: u64,
    /// Keys that were repaired and still differ.
    differing: u64,
}

impl Lines {
    pub fn new(console: Console, name: String, state: String) -> Self {
        Self {
            console,
            name,
            state,
            last_progress: Instant::now(),
            quarantined: 0,
            differing: 0,
        }
    }

    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Start {
                run,
                resumed,
                last_run,
                percent,
            } => {
                let name = self.console.err_paint.bold(&self.name);
                self.line(&format!(
                    "  migration {name}  {}",
                    start(*run, *resumed, *percent)
                ));
                if let Some(last_run) = last_run {
                    self.line(&format!("  last run  {}", format::one_line(last_run)));
                }
                self.line(&format!("  state     {}", self.state));
            }
            Event::Lane {
                lane,
                pass,
                decision,
                reason,
            } => self.lane(*lane, *pass, *decision, reason),
            Event::Cluster { side, masters } => {
                let nodes = match masters {
                    1 => "1 master".to_owned(),
                    several => format!("{several} masters"),
                };
                self.line(&format!("  {side}    a cluster of {nodes}"));
            }
            Event::Progress(status) => {
                if self.last_progress.elapsed() >= INTERVAL {
                    self.last_progress = Instant::now();
                    self.line(&format!("  copy      {}", progress(status)));
                }
            }
            Event::Retry {
                side,
                cause,
                attempt,
                wait_ms,
            } => {
                // An outage of ten minutes is not worth hundreds of lines.
                if *attempt <= 3 || attempt.is_power_of_two() {
                    let wait = format::seconds(*wait_ms as f64 / 1000.0);
                    let cause = format::one_line(cause);
                    let next = format!("{cause}; next try in {wait} (try {attempt})");
                    self.console.warn_of(*side, &next);
                }
            }
            Event::Recovered { side } => self.line(&format!("  {side} answers again")),
            Event::Quarantined { db, key, reason } => {
                self.quarantined += 1;
                if self.quarantined <= QUARANTINED_SHOWN_MAX {
                    self.console
                        .warn(&format!("quarantined db{db} \"{key}\": {reason}"));
                }
                if self.quarantined == QUARANTINED_SHOWN_MAX {
                    self.console
                        .note("further quarantined keys are counted, not shown");
                }
            }
            Event::Warning { message } => self.console.warn(message),
            Event::LimitsChanged { limits } => self.line(&format!("  limits    {limits}")),
            Event::Functions(functions) => {
                self.line(&format!("  functions {}", format::functions(functions)))
            }
            Event::FunctionsCompared {
                equal,
                missing,
                different,
                extra,
            } => self.functions_compared(*equal, [missing, different, extra]),
            Event::Stopping { batches } => {
                self.line(&format!("  stopping: {} in flight", batches_text(*batches)))
            }
            Event::CompareStart {
                resumed,
                run,
                percent,
                ..
            } => {
                let name = self.console.err_paint.bold(&self.name);
                self.line(&format!(
                    "  compare   {name}  {}",
                    start(*run, *resumed, *percent)
                ));
            }
            Event::CompareLane {
                lane,
                decision,
                reason,
            } => self.compare_lane(*lane, *decision, reason),
            Event::CompareProgress(status) => {
                if self.last_progress.elapsed() >= INTERVAL {
                    self.last_progress = Instant::now();
                    self.line(&format!("  compare   {}", compared(status).join("  ")));
                }
            }
            Event::RepairStart {
                repair,
                compare,
                findings,
                delete,
                ..
            } => self.repair_start(*repair, *compare, *findings, *delete),
            Event::Repair {
                db,
                key,
                verdict,
                outcome: RepairOutcome::Differs,
                detail,
            } => {
                self.differing += 1;
                if self.differing <= QUARANTINED_SHOWN_MAX {
                    let (verdict, detail) = (verdict.name(), format::one_line(detail));
                    self.console
                        .warn(&format!("still {verdict} db{db} \"{key}\": {detail}"));
                }
            }
            Event::RepairProgress(status) => {
                if self.last_progress.elapsed() >= INTERVAL {
                    self.last_progress = Instant::now();
                    self.line(&format!("  repair    {}", repaired(status)));
                }
            }
            // What is decided because of it is said with the lane.
            Event::SourceChanged(_) | Event::TargetChanged(_) => {}
            // The summary says it.
            Event::Repair { .. } | Event::Repaired(_) => {}
            Event::Complete(_) | Event::Finding { .. } | Event::Compared(_) => {}
        }
    }

    pub fn signal(&mut self, reason: StopReason) {
        let what = match reason {
            StopReason::Hangup => "SIGHUP",
            StopReason::Interrupt => "Ctrl-C",
            StopReason::Terminate => "SIGTERM",
            StopReason::TimeUp => "--max-duration is over",
            StopReason::WindowClosed => "--window has closed",
        };
        self.line(&format!(
            "  stopping: {what}, saving a checkpoint (Ctrl-C again to stop now)"
        ));
    }

    pub fn finish(&mut self) {
        if self.quarantined > QUARANTINED_SHOWN_MAX {
            let count = format::count(self.quarantined);
            self.console
                .warn(&format!("{count} keys were quarantined in this run"));
        }
    }

    fn lane(&self, lane: LanePlan, pass: u32, decision: LaneDecision, reason: &str) {
        let what = match decision {
            LaneDecision::Begin => "begins",
            LaneDecision::Continue => "continues",
            LaneDecision::NewPass => "is scanned anew",
            LaneDecision::Finished => "is at its end",
        };
        let (source, target) = (lane.source_db, lane.target_db);
        let to = if source == target {
            String::new()
        } else {
            format!(" \u{2192} db{target}")
        };
        self.line(&format!("  db{source}{to} {what}, pass {pass}: {reason}"));
    }

    fn repair_start(&self, repair: u32, compare: u32, findings: u64, delete: Option<u64>) {
        let name = self.console.err_paint.bold(&self.name);
        let findings = format::counted(findings, "finding");
        let delete = delete.map_or_else(String::new, |keys| {
            format!(", {} may be deleted", format::counted(keys, "key"))
        });
        self.line(&format!(
            "  repair    {name}  {repair}: {findings} of comparison {compare}{delete}"
        ));
    }

    /// Whose names: on the source alone, others of the same name, on the target alone.
    fn functions_compared(&self, equal: u64, differ: [&Vec<String>; 3]) {
        if differ.iter().all(|names| names.is_empty()) {
            let equal = format::count(equal);
            self.line(&format!(
                "  functions libraries equal on both sides: {equal}"
            ));
            return;
        }
        let [missing, different, extra] = differ;
        let parts: Vec<String> = [
            (missing, "missing on the target"),
            (different, "different"),
            (extra, "only on the target"),
        ]
        .into_iter()
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, what)| format!("{what}: {}", names.join(", ")))
        .collect();
        self.console.warn(&format!(
            "libraries of functions differ ({}); the same: {}",
            parts.join("; "),
            format::count(equal)
        ));
    }

    fn compare_lane(&self, lane: LanePlan, decision: LaneDecision, reason: &str) {
        let what = match decision {
            LaneDecision::Begin => "is compared",
            LaneDecision::Continue => "is compared further",
            LaneDecision::NewPass => "is compared anew",
            LaneDecision::Finished => "has been compared",
        };
        let LanePlan {
            source_db,
            target_db,
        } = lane;
        self.line(&format!(
            "  db{source_db} and db{target_db} {what}: {reason}"
        ));
    }

    fn line(&self, text: &str) {
        self.console.say(&format!("{text}\n"));
    }
}

fn start(run: u32, resumed: bool, percent: f64) -> String {
    match resumed {
        true => format!("resumed at {} (run {run})", format::percent(percent)),
        false => "begins".into(),
    }
}

/// One line that says how far it is and why it is slow.
fn progress(status: &Status) -> String {
    let mut parts = vec![format::percent(status.percent), keys(status)];
    parts.push(format!("{} keys/s", format::rough(status.keys_per_s)));
    parts.push(format!("{}/s", format::bytes(status.bytes_per_s)));
    if let Some(eta) = status.eta_s {
        parts.push(format!("{} left", format::seconds(eta)));
    }
    parts.extend(details(status));
    parts.join("  ")
}

/// How far a comparison is and what it has found, most important first.
pub fn compared(status: &CompareStatus) -> Vec<String> {
    let counters = &status.counters;
    let keys = format::count(counters.keys_scanned);
    let mut parts = vec![format::percent(status.percent)];
    parts.push(match status.keys_estimate {
        Some(estimate) if estimate >= counters.keys_scanned => {
            format!("{keys} of about {} keys", format::count(estimate))
        }
        _ => format!("{keys} keys"),
    });
    parts.push(match status.state {
        CompareState::Extras => "looking for keys that only the target has".to_owned(),
        CompareState::Settling => "reading again what differed".to_owned(),
        CompareState::Comparing | CompareState::Stopped | CompareState::Compared => {
            format!("{} keys/s", format::rough(status.keys_per_s))
        }
    });
    if let Some(eta) = status.eta_s {
        parts.push(format!("{} left", format::seconds(eta)));
    }
    if let Some(throttle) = &status.throttle {
        parts.push(format!("waiting: {throttle}"));
    }
    let named = [
        ("to be read again", counters.candidates),
        ("differ", counters.findings()),
        ("not compared", counters.not_compared),
    ];
    parts.extend(
        named
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {}", format::count(count))),
    );
    parts
}

/// How far a repair is.
fn repaired(status: &RepairStatus) -> String {
    let counters = &status.counters;
    let mut parts = Vec::new();
    if let Some(throttle) = &status.throttle {
        parts.push(format!("waiting: {throttle}"));
    }
    let named = [
        ("repaired", counters.keys_repaired),
        ("deleted", counters.keys_deleted),
        ("vanished", counters.keys_vanished),
        ("still differ", status.keys_differing),
        ("left", status.findings_left),
    ];
    parts.extend(
        named
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {}", format::count(count))),
    );
    parts.join("  ")
}

/// `8 911 220 of about 12 481 903 keys`.
pub fn keys(status: &Status) -> String {
    let keys = format::count(status.counters.keys_scanned);
    match status.keys_estimate {
        // SCAN may return a key twice, and keys are created meanwhile: an estimate that was passed is none.
        Some(estimate) if estimate >= status.counters.keys_scanned => {
            format!("{keys} of about {} keys", format::count(estimate))
        }
        _ => format!("{keys} keys"),
    }
}

/// What stands behind the figures, most important first.
pub fn details(status: &Status) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(throttle) = &status.throttle {
        parts.push(format!("waiting: {throttle}"));
    }
    parts.extend(status.big_key.as_ref().map(format::big_key));
    parts.push(format!(
        "durable to batch {}",
        format::count(status.batches_durable)
    ));
    let counters = &status.counters;
    let named = [
        ("in flight", status.batches_in_flight),
        ("retries", status.retries),
        ("re-encoded", counters.keys_reencoded),
        ("in pieces", counters.keys_in_pieces),
        ("vanished", counters.keys_vanished),
        ("kept", counters.keys_kept),
        ("quarantined", counters.keys_quarantined),
        ("filtered", counters.keys_filtered),
    ];
    parts.extend(
        named
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {}", format::count(count))),
    );
    if let Some(latency) = status.source_latency_ms {
        parts.push(format!("source latency {latency:.1} ms"));
    }
    parts
}

fn batches_text(batches: u64) -> String {
    match batches {
        1 => "1 batch".into(),
        _ => format!("{} batches", format::count(batches)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::status;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_safe() {
        let line = progress(&status());
        assert_eq!(
            line,
            "71.4 %  8 911 632 of about 12 481 903 keys  184 k keys/s  96 MiB/s  19 s left  durable to batch 17 822  \
             in flight 6  retries 3  vanished 412  source latency 0.9 ms"
        );
        let throttled = Status {
            throttle: Some("target answers OOM".into()),
            keys_estimate: Some(5),
            ..status()
        };
        let line = progress(&throttled);
        assert!(line.contains("  waiting: target answers OOM  "), "{line}");
        assert!(line.contains("  8 911 632 keys  "), "{line}");
    }
}
