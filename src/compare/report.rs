//! How the comparison stands, in numbers that a crash can't take back.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Request;
use super::link::Env;
use crate::client::handshake::unix_ms;
use crate::endpoint::Side;
use crate::progress::{
    CompareCounters, CompareState, CompareStatus, Counters, LaneStatus, Limits, RunState, Status,
    TlsUse,
};
use crate::state::record::{CompareLane, CompareStage};
use crate::state::{Store, Walked, status};

/// Rates are taken over this time.
const RATE_OVER: Duration = Duration::from_secs(5);
/// Version of [`Status`]' form.
const STATUS_VERSION: u32 = 1;
/// Part of a lane's work that walking the source is, in percent; then that of walking the target.
const SOURCE_PERCENT: f64 = 88.0;
const TARGET_PERCENT: f64 = 10.0;

/// Collects what a [`CompareStatus`] needs and the checkpoint does not have.
pub struct Report {
    /// The migration's status, as the run found it.
    base: Status,
    compare: CompareStatus,
    keyspace: Vec<Option<u64>>,
    /// Length of the list that is walked instead of the source, if there is one.
    list_bytes: Option<u64>,
    /// Durable totals of this run at some instants of the last seconds.
    samples: VecDeque<(Instant, CompareCounters)>,
}

impl Report {
    /// A report on an opened state.
    pub fn new(store: &Store, request: &Request) -> Self {
        let base = match status::read(&request.state_dir, store.name()) {
            Ok(file) => file.status,
            // Nothing was ever run here.
            Err(_) => never_run(store, request),
        };
        let died = base.state == RunState::Running;
        let base = Status {
            state: if died { RunState::Stopped } else { base.state },
            end: match died {
                true => Some("it died without a word".to_owned()),
                false => base.end,
            },
            run: store.run(),
            pid: std::process::id(),
            host: host(),
            run_began_ms: unix_ms(),
            source_tls: TlsUse::of(&request.source),
            target_tls: TlsUse::of(&request.target),
            ..base
        };
        Self {
            base,
            compare: CompareStatus::default(),
            keyspace: Vec::new(),
            list_bytes: request.plan.keys_from.map(|list| list.bytes),
            samples: VecDeque::new(),
        }
    }

    /// A comparison begins or goes on.
    pub fn began(&mut self, store: CompareStatus) {
        self.compare = store;
    }

    /// DBSIZE of each lane's source database.
    pub fn keyspace(&mut self, keys: &[Option<u64>]) {
        self.keyspace = keys.to_vec();
        self.compare.keys_estimate = keys.iter().copied().sum();
    }

    /// How it stands now, and the migration's status with that in it.
    pub fn status(
        &mut self,
        lanes: &[CompareLane],
        state: Option<CompareState>,
        env: &Rc<Env>,
    ) -> Status {
        let mut counters = CompareCounters::default();
        lanes.iter().for_each(|lane| counters.add(&lane.counters));
        self.sample(counters);
        let (throttled_by, throttle) = match state {
            None => env.held().unzip(),
            Some(_) => (None, None),
        };
        let percent = self.percent(lanes, env);
        let keys_per_s = self.rate();
        let left = self
            .compare
            .keys_estimate
            .map(|keys| keys as f64 * (1.0 - percent / 100.0));
        self.compare = CompareStatus {
            state: state.unwrap_or_else(|| present(lanes)),
            counters,
            percent,
            keys_per_s,
            eta_s: left
                .filter(|_| keys_per_s > 0.0)
                .map(|left| left / keys_per_s),
            throttle,
            throttled_by,
            limits: env.pace.borrow().limits(),
            ..self.compare.clone()
        };
        self.with(self.compare.clone())
    }

    /// The migration's status with the comparison's in it.
    pub fn with(&self, compare: CompareStatus) -> Status {
        Status {
            updated_ms: unix_ms(),
            throttle: compare.throttle.clone(),
            throttled_by: compare.throttled_by,
            limits: self.compare.limits,
            compare: Some(CompareStatus {
                limits: self.compare.limits,
                ..compare
            }),
            ..self.base.clone()
        }
    }

    fn sample(&mut self, counters: CompareCounters) {
        let now = Instant::now();
        let fell =
            |(_, last): &(Instant, CompareCounters)| last.keys_scanned > counters.keys_scanned;
        if self.samples.back().is_some_and(fell) {
            self.samples.clear();
        }
        self.samples.push_back((now, counters));
        while self.samples.len() > 2
            && self
                .samples
                .front()
                .is_some_and(|(at, _)| now.duration_since(*at) > RATE_OVER)
        {
            self.samples.pop_front();
        }
    }

    fn rate(&self) -> f64 {
        let (Some((since, first)), Some((until, last))) =
            (self.samples.front(), self.samples.back())
        else {
            return 0.0;
        };
        let seconds = until.duration_since(*since).as_secs_f64();
        match seconds < 0.05 {
            true => 0.0,
            false => last.keys_scanned.saturating_sub(first.keys_scanned) as f64 / seconds,
        }
    }

    /// Lanes weigh as many keys as they have.
    fn percent(&self, lanes: &[CompareLane], env: &Env) -> f64 {
        let walked = |side| match env.cluster(side) {
            Some(_) => Walked::Slots,
            None => Walked::Cursors,
        };
        let source = match self.list_bytes {
            Some(bytes) => Walked::List { bytes },
            None => walked(Side::Source),
        };
        let walks = [source, walked(Side::Target)];
        let weights: Vec<f64> = match self.keyspace.iter().copied().collect::<Option<Vec<u64>>>() {
            Some(keys) if keys.len() == lanes.len() && keys.iter().sum::<u64>() > 0 => {
                keys.iter().map(|keys| *keys as f64).collect()
            }
            _ => vec![1.0; lanes.len()],
        };
        let done: f64 = lanes
            .iter()
            .zip(&weights)
            .map(|(lane, weight)| lane_percent(lane, walks) * weight)
            .sum();
        done / weights.iter().sum::<f64>().max(1.0)
    }
}

fn lane_percent(lane: &CompareLane, [source, target]: [Walked; 2]) -> f64 {
    match lane.stage {
        CompareStage::Source => SOURCE_PERCENT * source.share(lane.position),
        CompareStage::Target => SOURCE_PERCENT + TARGET_PERCENT * target.share(lane.position),
        CompareStage::Recheck => SOURCE_PERCENT + TARGET_PERCENT,
        CompareStage::Done => 100.0,
    }
}

/// What the first lane that is not done is doing.
fn present(lanes: &[CompareLane]) -> CompareState {
    let stage = lanes
        .iter()
        .map(|lane| lane.stage)
        .find(|stage| *stage != CompareStage::Done);
    match stage {
        Some(CompareStage::Source) => CompareState::Comparing,
        Some(CompareStage::Target) => CompareState::Extras,
        Some(CompareStage::Recheck | CompareStage::Done) | None => CompareState::Settling,
    }
}

fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The status of a state in which nothing was copied.
fn never_run(store: &Store, request: &Request) -> Status {
    let lanes = request.plan.lanes.iter().map(|lane| LaneStatus {
        source_db: lane.source_db,
        target_db: lane.target_db,
        pass: 0,
        cursor: None,
        finished: false,
        source_run_id: None,
        target_run_id: None,
        counters: Counters::default(),
    });
    Status {
        v: STATUS_VERSION,
        migration: store.name().to_owned(),
        source: request.source.to_string(),
        target: request.target.to_string(),
        source_tls: TlsUse::of(&request.source),
        target_tls: TlsUse::of(&request.target),
        plan: request.plan.flags(),
        state: RunState::Stopped,
        end: Some("nothing was copied".to_owned()),
        completed_ms: None,
        run: store.run(),
        pid: std::process::id(),
        host: host(),
        run_began_ms: unix_ms(),
        updated_ms: unix_ms(),
        lanes: lanes.collect(),
        counters: Counters::default(),
        batches_durable: 0,
        batches_in_flight: 0,
        keys_estimate: None,
        percent: 0.0,
        keys_per_s: 0.0,
        bytes_per_s: 0.0,
        eta_s: None,
        checkpoint_ms: None,
        retries: 0,
        source_latency_ms: None,
        strings_by: None,
        strings_written_by: None,
        expiries_by: None,
        functions: None,
        big_key: None,
        read_window: 0,
        throttle: None,
        throttled_by: None,
        limits: Limits::default(),
        evicted_keys: 0,
        passes: Vec::new(),
        compare: None,
        repair: None,
    }
}
