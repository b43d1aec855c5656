//! Are both sides equal? Every key, by type, value and expiry, in both directions.
//!
//! # Invariants
//!
//! - Nothing is written on either side.
//! - Nothing here comes from the copy: a bug of the writer must not hide itself in the verifier.
//! - A key that differs is read again, with time between, before it is a finding.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::audit::entry::{Event as Journaled, Setting};
use crate::client::handshake::unix_ms;
use crate::client::served::Served;
use crate::databases::{self, Whereabouts};
use crate::digest::KeyspaceDigest;
use crate::endpoint::{Endpoint, Side};
use crate::error::{Class, Error};
use crate::pace::Pace;
use crate::plan::{Plan, TtlPolicy};
use crate::progress::{
    CompareCounters, CompareState, CompareStatus, Event, Limits, Observer, Verdict,
};
use crate::shutdown::{Shutdown, StopReason};
use crate::state::record::{
    CompareEnded, CompareLane, CompareRules, CompareStage, Position, ServerIdentity,
};
use crate::state::{self, Durability, KeyList, NewList, OpenRequest, Recorder, Store};

mod batch;
mod big;
pub(crate) mod detail;
mod engine;
pub(crate) mod expiry;
mod functions;
pub(crate) mod judge;
mod lane;
mod left_out;
mod link;
mod listing;
mod named;
mod names;
mod nodes;
mod preflight;
pub(crate) mod recheck;
mod recorded;
mod report;
mod rivals;
pub mod sample;
mod scan;
mod sentinel;
mod settle;
mod walk;
mod window;

use left_out::left_out;
use link::{Env, Waited};
use report::Report;
use sample::Sample;
use walk::{LaneEnd, compare_lane};

/// Findings that the summary shows.
const FINDINGS_SHOWN: usize = 10;

/// All that a comparison is given.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is compared: databases, filters, and whether expiries were kept.
    pub plan: Plan,
    /// The one side, with credentials.
    pub source: Endpoint,
    /// The other side, with credentials.
    pub target: Endpoint,
    /// How.
    pub options: CompareOptions,
    /// Name of the migration whose state keeps the result.
    pub name: String,
    /// Folder of all migrations.
    pub state_dir: PathBuf,
    /// Forget a comparison that was left unfinished, and begin one.
    pub restart: bool,
    /// The target alone is compared, with what the copy has kept of each key; the source is not spoken to.
    pub recorded: bool,
    /// The list that the plan means, if it has just been read.
    pub new_list: Option<NewList>,
    /// What the command line, the environment and a file said, for the journal.
    pub settings: Vec<Setting>,
}

/// How is compared.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// Keys that only the target has are not looked for.
    pub one_way: bool,
    /// Only a part of the keys is looked at.
    pub sample: Option<Sample>,
    /// Chooses the part; the same seed chooses the same keys.
    pub seed: u64,
    /// How long a key that differs is left alone before it is read again; it doubles with each time.
    pub settle: Duration,
    /// So much may instants of expiry differ.
    pub ttl_tolerance: Duration,
    /// How strings are read.
    pub compare_with: CompareWith,
    /// COUNT of each SCAN.
    pub batch_keys: u32,
    /// What it keeps to.
    pub limits: Limits,
    /// Bytes of values held in memory at once. One larger value a side is admitted alone.
    pub in_flight_bytes_max: u64,
    /// How long a side may be away, without progress, until the run gives up.
    pub max_unavailable: Duration,
    /// How long a connect may take, and a due answer at first.
    pub timeout: Duration,
    /// Keys from this size on, as MEMORY USAGE tells it on either side, are compared in pieces; `None`: never.
    pub big_key: Option<u64>,
    /// What a checkpoint survives.
    pub durability: Durability,
}

/// How strings are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareWith {
    /// By MGET where there are enough of them, which is cheaper for both servers.
    Auto,
    /// By DUMP, as everything else.
    Dump,
}

/// How a comparison ended that did not fail.
#[derive(Debug, Clone)]
pub enum CompareEnd {
    /// Every key has its verdict.
    Compared {
        /// The result.
        status: CompareStatus,
        /// The first findings, for the summary.
        findings: Vec<FoundKey>,
    },
    /// Stopped on request; a checkpoint is saved.
    Stopped {
        /// Who asked.
        reason: StopReason,
        /// How far it is.
        status: CompareStatus,
    },
}

/// A finding as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundKey {
    /// Database on the source.
    pub db: u32,
    /// The key, escaped.
    pub key: String,
    /// What is wrong with it.
    pub verdict: Verdict,
    /// Type of the value on the source; of the one on the target, if only that has it.
    pub key_type: String,
    /// Where it differs first, and the beginnings of both digests.
    pub detail: String,
}

/// Compares what the plan names, from where an earlier run left off.
///
/// Blocks until every key has its verdict, a stop was asked for, or it can't go on. Whatever the end, what was found is
/// on disk when it returns.
///
/// # Errors
///
/// [`Error::class`] says whether the same command may be run again.
pub fn run(
    request: Request,
    observer: Rc<dyn Observer>,
    shutdown: Shutdown,
) -> Result<CompareEnd, Error> {
    if request.recorded {
        return recorded::run(request, observer, shutdown);
    }
    let mut request = request;
    let whereabouts = Whereabouts {
        state_dir: &request.state_dir,
        name: &request.name,
        restart: false,
        source: &request.source,
        max_unavailable: request.options.max_unavailable,
        timeout: request.options.timeout,
    };
    if let Some(reason) =
        databases::resolve(&mut request.plan, &whereabouts, &*observer, &shutdown)?
    {
        return Ok(CompareEnd::Stopped {
            reason,
            status: CompareStatus::default(),
        });
    }
    let store = state::open(&OpenRequest {
        state_dir: &request.state_dir,
        name: &request.name,
        plan: &request.plan,
        restart: false,
        command: "redknot compare",
        durability: request.options.durability,
    })
    .map_err(Error::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Class::Usage, "start", error.to_string()))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, run_on(store, request, observer, shutdown))
}

/// A run: the state store, the outside, and how it stands.
struct Context {
    env: Rc<Env>,
    /// The state store on its own thread.
    recorder: Recorder,
    /// How is compared, as it was decided when the comparison began.
    rules: CompareRules,
    /// One durable checkpoint a lane.
    lanes: Vec<CompareLane>,
    keyspace: Vec<Option<u64>>,
    /// The names that are compared, if the plan has a list of them.
    list: Option<KeyList>,
    /// What is to be said of databases that are not in the plan.
    came_later: Option<String>,
    report: Report,
    /// The first findings of this run.
    findings: Vec<FoundKey>,
    served: Option<Served>,
}

enum Ended {
    Compared(Box<CompareStatus>),
    Stopped(StopReason),
}

async fn run_on(
    mut store: Store,
    mut request: Request,
    observer: Rc<dyn Observer>,
    shutdown: Shutdown,
) -> Result<CompareEnd, Error> {
    for note in store.notes() {
        observer.event(&Event::Warning {
            message: note.clone(),
        });
    }
    request.source.also_at(store.met(Side::Source));
    request.target.also_at(store.met(Side::Target));
    if let Err(error) = store.tell_settings(&request.settings) {
        // The next write meets the same and ends the run.
        tracing::warn!(%error, "the journal could not be written");
    }
    let report = Report::new(&store, &request);
    let list = match store.key_list(request.new_list.as_ref()) {
        Ok(list) => list,
        Err(error) => {
            let error = Error::from(error);
            store.end_run(&error.to_string())?;
            return Err(error);
        }
    };
    // Both sides answer the same questions; the bytes that count are the source's.
    let spared = &[Side::Source, Side::Target];
    let pace = Pace::new(Side::Source, spared, request.options.limits);
    let env = Rc::new(Env::new(request, &store, pace, observer, shutdown));
    let mut context = Context {
        env,
        recorder: Recorder::start(store),
        rules: CompareRules {
            sample: None,
            one_way: false,
            ttl_tolerance_ms: None,
            recorded: false,
        },
        lanes: Vec::new(),
        keyspace: Vec::new(),
        list,
        came_later: None,
        report,
        findings: Vec::new(),
        served: None,
    };
    let ended = compare(&mut context).await;
    close(context, ended).await
}

/// Looks at both servers, begins or goes on, and compares lane after lane.
async fn compare(context: &mut Context) -> Result<Ended, Error> {
    let env = Rc::clone(&context.env);
    let facts = match preflight::check(&env).await? {
        Waited::Ready(facts) => facts,
        Waited::Stopped(reason) => return Ok(Ended::Stopped(reason)),
    };
    context.keyspace = facts.keyspace;
    context.came_later = facts.came_later;
    env.clusters.replace(facts.clusters);
    let run = env.run;
    context.recorder.with_store(move |store| {
        facts
            .servers
            .into_iter()
            .try_for_each(|(side, server)| store.tell(Journaled::Server { run, side, server }))
    });
    let nodes = [Side::Source, Side::Target].map(|side| env.cluster(side));
    let [source, target] = nodes.each_ref().map(Option::as_deref);
    let sides = [(&env.request.source, source), (&env.request.target, target)];
    context.served = Some(Served::begin(sides).await);
    context.begin().await?;
    let mut forced: Vec<Option<String>> = vec![None; context.lanes.len()];
    let mut index = 0;
    loop {
        if index == forced.len() {
            match sentinel::objection(&env, &context.lanes).await? {
                Waited::Ready(None) => break,
                Waited::Ready(Some(reason)) => {
                    forced.fill(Some(reason));
                    index = 0;
                }
                Waited::Stopped(reason) => return Ok(Ended::Stopped(reason)),
            }
        }
        match compare_lane(context, index, forced[index].take()).await? {
            LaneEnd::Done => index += 1,
            LaneEnd::Stopped(reason) => return Ok(Ended::Stopped(reason)),
            LaneEnd::Judge(reason) => env.warn(reason),
            LaneEnd::Anew(reason) => forced[index] = Some(reason),
            // What was read of the target is in doubt, in whichever lane.
            LaneEnd::TargetChanged(reason) => {
                for (lane, forced) in context.lanes.iter().zip(&mut forced) {
                    let begun =
                        lane.stage != CompareStage::Source || lane.position != Position::Start;
                    if begun {
                        *forced = Some(reason.clone());
                    }
                }
                index = 0;
            }
        }
    }
    let status = context.end().await?;
    Ok(Ended::Compared(Box::new(status)))
}

impl Context {
    /// Goes on with the comparison that was left unfinished, or begins one.
    async fn begin(&mut self) -> Result<(), Error> {
        let keyspace = self.keyspace.iter().copied().sum::<Option<u64>>();
        let request = &self.env.request;
        let options = &request.options;
        let rules = CompareRules {
            sample: options
                .sample
                .map(|sample| sample.resolve(options.seed, keyspace)),
            one_way: options.one_way,
            ttl_tolerance_ms: (request.plan.ttl == TtlPolicy::Keep)
                .then_some(options.ttl_tolerance.as_millis() as u64),
            recorded: false,
        };
        let restart = request.restart;
        let begun = move |store: &mut Store| {
            let wanted = rules.clone();
            let why_not = store
                .compare()
                .filter(|record| record.ended.is_none())
                .map(|record| {
                    if restart {
                        Some("the comparison that was left unfinished is forgotten (--restart)")
                    } else if !same_rules(&record.rules, &wanted) {
                        Some("the comparison that was left unfinished had other rules; another one begins")
                    } else if record.copied != store.copied() {
                        Some("keys have been copied since the comparison was left unfinished; another one begins")
                    } else {
                        None
                    }
                });
            let resumed = why_not == Some(None);
            if !resumed {
                store.begin_compare(rules)?;
            }
            let record = store.compare().cloned();
            let rules = record.expect("it was begun").rules;
            let status = store.compare_status().unwrap_or_default();
            Ok::<_, state::StoreError>((
                resumed,
                why_not.flatten(),
                rules,
                store.compare_lanes().to_vec(),
                status,
            ))
        };
        let (resumed, why_not, rules, lanes, status) = self
            .recorder
            .with_store(begun)
            .await
            .map_err(lost_store)??;
        if let Some(why) = why_not {
            self.env.warn(why.to_owned());
        }
        self.rules = rules;
        self.lanes = lanes;
        self.report.began(status);
        self.report.keyspace(&self.keyspace);
        let status = self.report.status(&self.lanes, None, &self.env);
        let compare = status.compare.clone().unwrap_or_default();
        self.env.observer.event(&Event::CompareStart {
            compare: compare.compare,
            run: self.env.run,
            resumed,
            percent: compare.percent,
        });
        self.recorder.write_status(status);
        Ok(())
    }

    /// Begins a lane, or begins it anew, durably.
    async fn begin_lane(
        &mut self,
        index: usize,
        (source, target): (ServerIdentity, ServerIdentity),
        reason: &str,
    ) -> Result<CompareLane, Error> {
        let reason = reason.to_owned();
        let lane = self
            .recorder
            .with_store(move |store| {
                store.begin_compare_lane(index as u32, source, target, &reason)?;
                Ok::<_, state::StoreError>(store.compare_lanes()[index].clone())
            })
            .await
            .map_err(lost_store)??;
        self.lanes[index] = lane.clone();
        Ok(lane)
    }

    /// Gives the comparison its result.
    async fn end(&mut self) -> Result<CompareStatus, Error> {
        let mut counters = CompareCounters::default();
        let (mut source, mut target) = (KeyspaceDigest::default(), KeyspaceDigest::default());
        for lane in &self.lanes {
            counters.add(&lane.counters);
            source.merge(&lane.source_keys);
            target.merge(&lane.target_keys);
        }
        assert!(
            counters.balance(),
            "compared means: every key is accounted for, and these are not: {counters:?}"
        );
        let ended = CompareEnded {
            run: self.env.run,
            at_ms: unix_ms(),
            counters,
            source_digest: source.to_string(),
            target_digest: target.to_string(),
            not_compared: left_out(
                &self.env.request.plan,
                &self.rules,
                self.came_later.as_deref(),
                &counters,
            ),
        };
        let status = self
            .recorder
            .with_store(move |store| {
                store.end_compare(ended)?;
                Ok::<_, state::StoreError>(store.compare_status().unwrap_or_default())
            })
            .await
            .map_err(lost_store)??;
        Ok(status)
    }

    /// Tells the journal what both servers have served in this run, which came to its end or `failed`.
    async fn tell_served(&mut self, failed: bool) -> Result<(), Error> {
        let Some(served) = self.served.take() else {
            return Ok(());
        };
        let calls = match failed {
            false => served.end().await,
            true => served.failed(),
        };
        let told = self
            .recorder
            .with_store(move |store| store.tell_served(calls));
        Ok(told.await.map_err(lost_store)??)
    }

    /// The list that a stage walks.
    fn list(&self, stage: CompareStage) -> Option<KeyList> {
        match stage {
            CompareStage::Source => self.list.clone(),
            CompareStage::Target | CompareStage::Recheck | CompareStage::Done => None,
        }
    }

    fn lane(&self, index: usize) -> &CompareLane {
        &self.lanes[index]
    }

    /// A lane's checkpoint is durable.
    fn durable(&mut self, index: usize, lane: CompareLane) {
        self.lanes[index] = lane;
    }

    /// DBSIZE of the database that a stage walks, where it is known.
    fn keyspace(&self, index: usize, stage: CompareStage) -> Option<u64> {
        match stage {
            CompareStage::Source => self.keyspace[index],
            CompareStage::Target | CompareStage::Recheck | CompareStage::Done => None,
        }
    }

    /// Tells how it stands.
    fn tell(&mut self) {
        if let Some(limits) = self.env.take_change() {
            let run = self.env.run;
            let told = Journaled::LimitsChanged { run, limits };
            self.recorder.with_store(|store| store.tell(told));
        }
        let status = self.report.status(&self.lanes, None, &self.env);
        if let Some(compare) = &status.compare {
            self.env
                .observer
                .event(&Event::CompareProgress(Box::new(compare.clone())));
        }
        self.recorder.write_status(status);
    }

    /// A finding is durable.
    fn found(&mut self, found: FoundKey) {
        self.env.observer.event(&Event::Finding {
            db: found.db,
            key: found.key.clone(),
            verdict: found.verdict,
            key_type: found.key_type.clone(),
            detail: found.detail.clone(),
        });
        if self.findings.len() < FINDINGS_SHOWN {
            self.findings.push(found);
        }
    }
}

/// Whether a comparison may go on with these rules. How large a part a number of keys is, was decided when it began.
fn same_rules(stored: &CompareRules, wanted: &CompareRules) -> bool {
    let sample = |rules: &CompareRules| {
        rules
            .sample
            .as_ref()
            .map(|sample| (sample.asked.clone(), sample.seed))
    };
    sample(stored) == sample(wanted)
        && stored.recorded == wanted.recorded
        && stored.one_way == wanted.one_way
        && stored.ttl_tolerance_ms == wanted.ttl_tolerance_ms
}

/// Saves what is pending, records how the run ended, and writes the last status.
async fn close(mut context: Context, ended: Result<Ended, Error>) -> Result<CompareEnd, Error> {
    let how = match &ended {
        Ok(Ended::Compared(status)) if status.counters.findings() == 0 => {
            "compared: equal".to_owned()
        }
        Ok(Ended::Compared(status)) => {
            format!("compared: {} findings", status.counters.findings())
        }
        Ok(Ended::Stopped(reason)) => format!("compare stopped by {}", reason.name()),
        Err(error) => error.to_string(),
    };
    let status = match &ended {
        Ok(Ended::Compared(status)) => context.report.with((**status).clone()),
        Ok(Ended::Stopped(_)) | Err(_) => {
            context
                .report
                .status(&context.lanes, Some(CompareState::Stopped), &context.env)
        }
    };
    let findings = std::mem::take(&mut context.findings);
    // A store that refuses this refuses the end as well, and says why then.
    let _ = context.tell_served(ended.is_err()).await;
    let saved = context
        .recorder
        .with_store(move |store| store.end_run(&how))
        .await;
    // Before the first comparison has begun there is nothing to be told about it.
    if !context.lanes.is_empty() {
        context.recorder.write_status(status.clone());
    }
    let observer = Rc::clone(&context.env.observer);
    // Joining a thread for the length of one commit; nothing else runs any more.
    let closed = context.recorder.finish();
    let ended = ended?;
    closed?;
    saved.map_err(lost_store)??;
    let status = status.compare.unwrap_or_default();
    Ok(match ended {
        Ended::Compared(_) => {
            observer.event(&Event::Compared(Box::new(status.clone())));
            CompareEnd::Compared { status, findings }
        }
        Ended::Stopped(reason) => CompareEnd::Stopped { reason, status },
    })
}

/// The state store's thread is gone without an answer; it has said why through its last checkpoint.
fn lost_store(_: oneshot::error::RecvError) -> Error {
    Error::new(
        Class::StateIo,
        "use the state store",
        "it has stopped after an error",
    )
    .hint("look at the disk of --state-dir, then run the same command to continue")
}
