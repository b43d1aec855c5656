//! How the run stands, in numbers that a crash can't take back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Request;
use super::lane::Lane;
use super::link::Env;
use crate::client::cluster::SLOTS_IDENTITY;
use crate::client::handshake::unix_ms;
use crate::progress::{
    CompareStatus, Counters, FunctionsStatus, LaneStatus, PassStatus, RepairStatus, RunState,
    Status, TlsUse,
};
use crate::state::record::{LaneCheckpoint, Phase, Position, RunRecord};
use crate::state::{Durable, Store, Walked, status};

/// Rates are taken over this time.
const RATE_OVER: Duration = Duration::from_secs(5);
/// Version of [`Status`]' form.
const STATUS_VERSION: u32 = 1;

/// Collects what a [`Status`] needs and the checkpoint does not have.
pub struct Report {
    name: String,
    source: String,
    target: String,
    source_tls: TlsUse,
    target_tls: TlsUse,
    plan: Vec<String>,
    run: u32,
    began_ms: u64,
    /// When an earlier run completed the migration.
    completed_ms: Option<u64>,
    last_run: Option<RunRecord>,
    passes: Vec<PassStatus>,
    /// What an earlier run found both sides to be.
    compare: Option<CompareStatus>,
    /// How far the lanes were when the run began.
    copied: Vec<(u32, u64)>,
    repair: Option<RepairStatus>,
    /// What an earlier run carried beside the keys.
    functions: Option<FunctionsStatus>,
    lanes: Vec<(u32, u32)>,
    /// Length of the list that is walked instead of the source, if there is one.
    list_bytes: Option<u64>,
    /// DBSIZE a lane.
    keyspace: Vec<Option<u64>>,
    /// Durable totals of this run at some instants of the last seconds.
    samples: VecDeque<(Instant, Counters)>,
}

impl Report {
    /// A report on an opened state.
    pub fn new(store: &Store, request: &Request) -> Self {
        let passes = store.passes().into_iter().map(|pass| PassStatus {
            lane: pass.lane,
            pass: pass.pass,
            began_ms: pass.began_ms,
            reason: pass.reason,
        });
        Self {
            name: store.name().to_owned(),
            source: request.source.to_string(),
            target: request.target.to_string(),
            source_tls: TlsUse::of(&request.source),
            target_tls: TlsUse::of(&request.target),
            plan: request.plan.flags(),
            run: store.run(),
            began_ms: unix_ms(),
            completed_ms: match store.meta().phase {
                Phase::Copied => status::read(&request.state_dir, store.name())
                    .ok()
                    .and_then(|file| file.status.completed_ms),
                Phase::Planned | Phase::Copying => None,
            },
            last_run: store.last_run().cloned(),
            passes: passes.collect(),
            compare: store.compare_status(),
            copied: copied(store.lanes()),
            repair: store.repair_status(),
            functions: status::read(&request.state_dir, store.name())
                .ok()
                .and_then(|file| file.status.functions),
            lanes: request
                .plan
                .lanes
                .iter()
                .map(|lane| (lane.source_db, lane.target_db))
                .collect(),
            list_bytes: request.plan.keys_from.map(|list| list.bytes),
            keyspace: vec![None; request.plan.lanes.len()],
            samples: VecDeque::new(),
        }
    }

    /// How the run before this one ended.
    pub fn last_run(&self) -> Option<String> {
        let last = self.last_run.as_ref()?;
        Some(match &last.end {
            Some(end) => end.how.clone(),
            None => "it died without a word (killed, or the machine went away)".to_owned(),
        })
    }

    /// DBSIZE of each lane's source database.
    pub fn keyspace(&mut self, keys: &[Option<u64>]) {
        self.keyspace = keys.to_vec();
    }

    /// A pass began.
    pub fn pass_began(&mut self, pass: PassStatus) {
        self.passes.push(pass);
    }

    /// Remembers the durable totals, for the rates.
    pub fn sample(&mut self, durable: &Durable, now: Instant) {
        let totals = sum(&durable.lanes);
        // A new pass takes the counters back to zero; a rate over that is no rate.
        if self
            .samples
            .back()
            .is_some_and(|(_, last)| last.keys_scanned > totals.keys_scanned)
        {
            self.samples.clear();
        }
        self.samples.push_back((now, totals));
        while self.samples.len() > 2
            && self
                .samples
                .front()
                .is_some_and(|(at, _)| now.duration_since(*at) > RATE_OVER)
        {
            self.samples.pop_front();
        }
    }

    fn rates(&self) -> (f64, f64) {
        let (Some((since, first)), Some((until, last))) =
            (self.samples.front(), self.samples.back())
        else {
            return (0.0, 0.0);
        };
        let seconds = until.duration_since(*since).as_secs_f64();
        if seconds < 0.05 {
            return (0.0, 0.0);
        }
        let per_second = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        (
            per_second(first.keys_scanned, last.keys_scanned),
            per_second(first.payload_bytes_written, last.payload_bytes_written),
        )
    }

    /// How the run stands now.
    pub fn status(
        &self,
        state: RunState,
        durable: &Durable,
        env: &Env,
        lane: Option<&Lane>,
    ) -> Status {
        let counters = sum(&durable.lanes);
        let (keys_per_s, bytes_per_s) = self.rates();
        let keys_estimate = self.keyspace.iter().copied().sum::<Option<u64>>();
        let percent = self.percent(&durable.lanes);
        let held = env.throttle.borrow().clone();
        let held = held.or_else(|| {
            let held = lane.and_then(Lane::held)?;
            Some((held.by, held.reason))
        });
        let (throttled_by, throttle) = held.unzip();
        let ways = env.ways.get();
        let left = keys_estimate.map(|keys| keys as f64 * (1.0 - percent / 100.0));
        Status {
            v: STATUS_VERSION,
            migration: self.name.clone(),
            source: self.source.clone(),
            target: self.target.clone(),
            source_tls: self.source_tls,
            target_tls: self.target_tls,
            plan: self.plan.clone(),
            state,
            end: None,
            completed_ms: match state {
                RunState::Complete => Some(self.completed_ms.unwrap_or_else(unix_ms)),
                RunState::Running | RunState::Stopped | RunState::Failed => None,
            },
            run: self.run,
            pid: std::process::id(),
            host: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            run_began_ms: self.began_ms,
            updated_ms: unix_ms(),
            lanes: self
                .lanes
                .iter()
                .zip(durable.lanes.iter())
                .map(lane_status)
                .collect(),
            counters,
            batches_durable: durable.lanes.iter().map(|lane| lane.next_seq).sum(),
            batches_in_flight: lane.map_or(0, Lane::batches_in_flight),
            keys_estimate,
            percent,
            keys_per_s,
            bytes_per_s,
            eta_s: left
                .filter(|_| keys_per_s > 0.0)
                .map(|left| left / keys_per_s),
            checkpoint_ms: durable.checkpoint_ms,
            retries: env.retries.get(),
            source_latency_ms: lane
                .and_then(|lane| lane.window.latency())
                .map(|latency| latency.as_secs_f64() * 1000.0),
            strings_by: ways.map(|ways| ways.strings),
            strings_written_by: ways.map(|ways| ways.strings_written),
            expiries_by: ways.map(|ways| ways.expiries),
            read_window: lane.map_or(0, |lane| lane.window.keys() as u32),
            throttle,
            throttled_by,
            limits: env.pace.borrow().limits(),
            evicted_keys: env.evictions.count(),
            passes: self.passes.clone(),
            compare: self.compare.clone().map(|compare| CompareStatus {
                outdated: compare.outdated || self.copied != copied(&durable.lanes),
                ..compare
            }),
            repair: self.repair.clone(),
            functions: env.functions.borrow().or(self.functions),
            big_key: match state {
                RunState::Running => env.big_key.borrow().clone(),
                RunState::Complete | RunState::Stopped | RunState::Failed => None,
            },
        }
    }

    fn walked(&self, lane: &LaneCheckpoint) -> Walked {
        match self.list_bytes {
            Some(bytes) => Walked::List { bytes },
            None if lane.source.run_id.as_deref() == Some(SLOTS_IDENTITY) => Walked::Slots,
            None => Walked::Cursors,
        }
    }

    /// Share of the keyspace behind the durable cursors, 0–100; lanes weigh as many keys as they have.
    fn percent(&self, lanes: &[LaneCheckpoint]) -> f64 {
        let weights: Vec<f64> = match self.keyspace.iter().copied().collect::<Option<Vec<u64>>>() {
            Some(keys) if keys.iter().sum::<u64>() > 0 => {
                keys.iter().map(|keys| *keys as f64).collect()
            }
            _ => vec![1.0; lanes.len()],
        };
        let done: f64 = lanes
            .iter()
            .zip(&weights)
            .map(|(lane, weight)| self.walked(lane).share(lane.position) * weight)
            .sum();
        100.0 * done / weights.iter().sum::<f64>()
    }
}

fn copied(lanes: &[LaneCheckpoint]) -> Vec<(u32, u64)> {
    lanes
        .iter()
        .map(|lane| (lane.pass, lane.next_seq))
        .collect()
}

fn sum(lanes: &[LaneCheckpoint]) -> Counters {
    let mut total = Counters::default();
    for lane in lanes {
        total.add(&lane.counters);
    }
    total
}

fn lane_status((dbs, checkpoint): (&(u32, u32), &LaneCheckpoint)) -> LaneStatus {
    LaneStatus {
        source_db: dbs.0,
        target_db: dbs.1,
        pass: checkpoint.pass,
        cursor: match checkpoint.position {
            Position::At(cursor) => Some(cursor.get()),
            Position::Start | Position::End => None,
        },
        finished: checkpoint.position == Position::End,
        source_run_id: checkpoint.source.run_id.clone(),
        target_run_id: checkpoint.target.run_id.clone(),
        counters: checkpoint.counters,
    }
}
