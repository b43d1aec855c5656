//! What has been told, as the text that Prometheus reads.
//!
//! # Invariant
//!
//! A counter falls only where what it counts begins anew: counters of a database have its pass as a label, since another
//! pass counts from 0.

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use redknot::endpoint::Side;
use redknot::progress::{
    CompareCounters, CompareStatus, HeldBy, LaneStatus, RepairStatus, RunState, Status, Verdict,
};

use super::Told;

/// Labels beside the migration's name, and a figure.
type Sample = (Vec<(&'static str, String)>, f64);

/// The whole page.
pub fn of(told: &Told, now_ms: u64) -> String {
    let mut page = Page {
        migration: &told.migration,
        families: Vec::new(),
    };
    page.run(told);
    if let Some(status) = told.copy.as_deref() {
        page.copy(status, now_ms);
    }
    page.limits(told);
    page.progress(told);
    // A copy knows of the comparison and the repair that an earlier run made.
    let earlier = told.copy.as_deref();
    let compare = told.compare.as_deref();
    if let Some(status) = compare.or_else(|| earlier?.compare.as_ref()) {
        page.compare(status);
    }
    let repair = told.repair.as_deref();
    if let Some(status) = repair.or_else(|| earlier?.repair.as_ref()) {
        page.repair(status);
    }
    // Fails for families without a sample, and there are none.
    TextEncoder::new()
        .encode_to_string(&page.families)
        .unwrap_or_default()
}

struct Page<'a> {
    migration: &'a str,
    families: Vec<MetricFamily>,
}

impl Page<'_> {
    fn run(&mut self, told: &Told) {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let mut labels = vec![("version", version)];
        labels.extend(told.run.map(|run| ("run", run.to_string())));
        if let Some(status) = &told.copy {
            labels.push(("source", status.source.clone()));
            labels.push(("target", status.target.clone()));
        }
        self.gauge(
            "redknot_info",
            "Which run this is: always 1.",
            [(labels, 1.0)],
        );
        let phases = ["copy", "compare", "repair"];
        self.gauge(
            "redknot_phase",
            "1 for what the run has begun last: copy, compare or repair.",
            phases.map(|phase| (vec![("phase", phase.into())], is(told.phase == Some(phase)))),
        );
        let sides = [Side::Source, Side::Target];
        self.counter(
            "redknot_retries_total",
            "Failures of a side that this process has tried again.",
            sides.map(|side| {
                (
                    vec![("side", side.to_string())],
                    told.retries_of(side) as f64,
                )
            }),
        );
    }

    fn copy(&mut self, status: &Status, now_ms: u64) {
        let lanes = || status.lanes.iter().filter(|lane| lane.pass > 0);
        self.counter(
            "redknot_keys_total",
            "Keys by what became of them in a pass, as it is on disk; together they are the keys scanned.",
            lanes().flat_map(outcomes),
        );
        self.counter(
            "redknot_keys_reencoded_total",
            "Of the keys written in a pass, those whose values were encoded anew for the target.",
            lanes().map(|lane| (of_pass(lane), lane.counters.keys_reencoded as f64)),
        );
        self.counter(
            "redknot_keys_in_pieces_total",
            "Of the keys written in a pass, those that were too big to be read at once.",
            lanes().map(|lane| (of_pass(lane), lane.counters.keys_in_pieces as f64)),
        );
        let written = |lane: &LaneStatus| {
            let mut labels = of_pass(lane);
            labels.push(("dir", "written".into()));
            (labels, lane.counters.payload_bytes_written as f64)
        };
        self.counter(
            "redknot_bytes_total",
            "Bytes of payload that the target acknowledged in a pass.",
            lanes().map(written),
        );
        self.counter(
            "redknot_passes_total",
            "Passes that were begun, over all runs.",
            status.lanes.iter().enumerate().map(|(index, lane)| {
                let of_lane = |pass: &&redknot::progress::PassStatus| pass.lane as usize == index;
                let passes = status.passes.iter().filter(of_lane).count();
                (vec![("db", lane.source_db.to_string())], passes as f64)
            }),
        );
        let mut one = |name, help, figure| self.gauge(name, help, [(vec![], figure)]);
        one(
            "redknot_complete",
            "1 if the copy has come to its end.",
            is(status.state == RunState::Complete),
        );
        one(
            "redknot_batches_durable",
            "Batches of the current passes whose acknowledgement is on disk.",
            status.batches_durable as f64,
        );
        one(
            "redknot_batches_inflight",
            "Batches scanned and not yet on disk.",
            status.batches_in_flight as f64,
        );
        one(
            "redknot_run_start_time_seconds",
            "When the run began, Unix time.",
            seconds(status.run_began_ms),
        );
        if let Some(at) = status.checkpoint_ms {
            one(
                "redknot_watermark_age_seconds",
                "Time since the newest checkpoint.",
                seconds(now_ms.saturating_sub(at)),
            );
        }
        if let Some(keys) = status.keys_estimate {
            one(
                "redknot_keys_estimate",
                "Keys of the source when the run began, as DBSIZE says.",
                keys as f64,
            );
        }
        self.counter(
            "redknot_target_evicted_keys_total",
            "Keys that the target has evicted since the run began, whosever they were.",
            [(vec![], status.evicted_keys as f64)],
        );
        if let Some(latency) = status.source_latency_ms {
            let labels = vec![("side", "source".into()), ("cmd", "ping".into())];
            self.gauge(
                "redknot_redis_latency_seconds",
                "Round trip of the probe, smoothed.",
                [(labels, latency / 1000.0)],
            );
        }
    }

    /// What holds back the phase that the run has begun last, and what it keeps to.
    fn limits(&mut self, told: &Told) {
        let Some((throttled_by, limits)) = told.held() else {
            return;
        };
        self.gauge(
            "redknot_throttled",
            "1 while the run waits for a side, or for a limit that it was given.",
            [(vec![], is(throttled_by.is_some()))],
        );
        let held = HeldBy::ALL.map(|by| {
            let label = ("by", by.name().to_owned());
            (vec![label], is(throttled_by == Some(by)))
        });
        self.gauge(
            "redknot_throttled_by",
            "1 for what the run waits for at present.",
            held,
        );
        let given = [
            ("rate", limits.keys_per_s.map(|keys| keys as f64)),
            ("bandwidth", limits.bytes_per_s.map(|bytes| bytes as f64)),
            ("latency", limits.latency().map(|most| most.as_secs_f64())),
        ];
        let given = given
            .into_iter()
            .filter_map(|(limit, figure)| Some((vec![("limit", limit.into())], figure?)));
        self.gauge(
            "redknot_limit",
            "What the run keeps to: keys a second, bytes a second, seconds of latency.",
            given,
        );
    }

    /// How far it is, in each phase that there is something to be told of.
    fn progress(&mut self, told: &Told) {
        let copy = told
            .copy
            .as_deref()
            .map(|status| ("copy", status.percent, status.eta_s));
        let compare = told.compare.as_deref();
        let compare = compare.map(|status| ("compare", status.percent, status.eta_s));
        let phases = || copy.into_iter().chain(compare);
        self.gauge(
            "redknot_progress_ratio",
            "Share of the keyspace that is done, 0 to 1.",
            phases().map(|(phase, percent, _)| (vec![("phase", phase.into())], percent / 100.0)),
        );
        self.gauge(
            "redknot_eta_seconds",
            "Time left, if the rate stays.",
            phases().filter_map(|(phase, _, eta)| Some((vec![("phase", phase.into())], eta?))),
        );
    }

    fn compare(&mut self, status: &CompareStatus) {
        let counters = &status.counters;
        let number = || ("compare", status.compare.to_string());
        let keys = classes(counters)
            .map(|(class, count)| (vec![number(), ("class", class.into())], count as f64));
        self.counter(
            "redknot_compare_keys_total",
            "Keys of the source by what a comparison says of them.",
            keys,
        );
        self.counter(
            "redknot_compare_bytes_total",
            "Bytes of values that a comparison read from the source.",
            [(vec![number()], counters.bytes_read as f64)],
        );
        let findings = Verdict::ALL.map(|verdict| {
            let class = ("class", verdict.name().to_owned());
            (vec![class], counters.of(verdict) as f64)
        });
        self.gauge(
            "redknot_compare_findings",
            "Keys that the newest comparison found not to be equal, also when they were read again.",
            findings,
        );
        let mut one = |name, help, figure| self.gauge(name, help, [(vec![], figure)]);
        one(
            "redknot_compare_candidates",
            "Keys that differed and wait to be read again.",
            counters.candidates as f64,
        );
        one(
            "redknot_compare_outdated",
            "1 if keys have been copied since the newest comparison began.",
            is(status.outdated),
        );
    }

    fn repair(&mut self, status: &RepairStatus) {
        let counters = &status.counters;
        let number = || ("repair", status.repair.to_string());
        let keys = [
            ("repaired", counters.keys_repaired),
            ("deleted", counters.keys_deleted),
            ("vanished", counters.keys_vanished),
        ];
        self.counter(
            "redknot_repair_keys_total",
            "Findings that are none any more, by what became of them.",
            keys.map(|(class, count)| (vec![number(), ("class", class.into())], count as f64)),
        );
        self.counter(
            "redknot_repair_bytes_total",
            "Bytes of payload that the target acknowledged of a repair.",
            [(vec![number()], counters.payload_bytes_written as f64)],
        );
        self.gauge(
            "redknot_repair_findings_left",
            "Findings that the newest repair has left.",
            [(vec![], status.findings_left as f64)],
        );
    }

    fn counter(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        self.family(MetricType::COUNTER, name, help, samples);
    }

    fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = Sample>) {
        self.family(MetricType::GAUGE, name, help, samples);
    }

    fn family(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = Sample>,
    ) {
        let metrics: Vec<Metric> = samples
            .into_iter()
            .map(|sample| self.metric(kind, sample))
            .collect();
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.families.push(family);
    }

    fn metric(&self, kind: MetricType, (labels, figure): Sample) -> Metric {
        let migration = ("migration", self.migration.to_owned());
        let labels = std::iter::once(migration).chain(labels);
        let mut metric = Metric::from_label(labels.map(label).collect());
        if kind == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(figure);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(figure);
            metric.set_gauge(gauge);
        }
        metric
    }
}

fn label((name, value): (&str, String)) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value);
    label
}

fn of_pass(lane: &LaneStatus) -> Vec<(&'static str, String)> {
    vec![
        ("db", lane.source_db.to_string()),
        ("pass", lane.pass.to_string()),
    ]
}

/// The terms of the accounts.
fn outcomes(lane: &LaneStatus) -> [Sample; 5] {
    let counters = &lane.counters;
    let outcomes = [
        ("written", counters.keys_written),
        ("vanished", counters.keys_vanished),
        ("kept", counters.keys_kept),
        ("quarantined", counters.keys_quarantined),
        ("filtered", counters.keys_filtered),
    ];
    outcomes.map(|(class, count)| {
        let mut labels = of_pass(lane);
        labels.push(("class", class.into()));
        (labels, count as f64)
    })
}

/// The terms of a comparison's accounts: together they are the keys scanned, but for those that wait.
fn classes(counters: &CompareCounters) -> impl Iterator<Item = (&'static str, u64)> {
    let of_source = Verdict::ALL
        .into_iter()
        .filter(|verdict| *verdict != Verdict::Extra);
    let verdicts = of_source.map(|verdict| (verdict.name(), counters.of(verdict)));
    let others = [
        ("equal", counters.equal),
        ("not_compared", counters.not_compared),
        ("vanished", counters.vanished),
        ("filtered", counters.filtered),
        ("collided", counters.collided),
        ("unsampled", counters.unsampled),
        ("doubled", counters.doubled),
    ];
    verdicts.collect::<Vec<_>>().into_iter().chain(others)
}

fn is(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
