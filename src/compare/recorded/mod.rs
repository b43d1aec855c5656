//! Does the target still hold what the copy wrote? Asked of the target alone: the source may be gone.
//!
//! What `migrate --record-digests` kept of each key ([`crate::recorded`]) is loaded a part at a time, and for each part the
//! target's names are listed once, its values of that part read and digested. What was recorded and not met is missing, what
//! was met and not recorded is only on the target.
//!
//! # Invariants
//!
//! - Nothing is written on the target, and no connection is made to the source.
//! - It begins only where every key of the newest pass has an entry: what was not recorded can't be proven.
//! - Entries in memory have a quarter of `--max-memory` at most, and half as much again while they are sorted; values are judged
//!   as they come.
//! - It does not go on where an earlier one was left: which keys of a part were met is in memory alone. It begins anew then,
//!   as it does when the target becomes another process on the way.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::link::{Env, Waited};
use super::report::Report;
use super::{CompareEnd, FINDINGS_SHOWN, FoundKey, Request};
use crate::audit::entry::Event as Journaled;
use crate::client::handshake::unix_ms;
use crate::client::retry::Budget;
use crate::digest::KeyspaceDigest;
use crate::endpoint::Side;
use crate::error::{Class, Error};
use crate::progress::{CompareCounters, CompareState, Event, LaneDecision, Observer};
use crate::recorded::ENTRY_BYTES;
use crate::recorded::table::Part;
use crate::shutdown::{Shutdown, StopReason};
use crate::state::record::{
    CompareEnded, CompareLane, CompareRules, CompareStage, Phase, Position, ServerIdentity,
};
use crate::state::{self, CompareCommit, OpenRequest, Store};

mod book;
mod judge;
mod read;
mod walk;

use book::Book;
use read::{Group, ReadEnd};

/// Compares the target with what was recorded.
pub fn run(
    request: Request,
    observer: Rc<dyn Observer>,
    shutdown: Shutdown,
) -> Result<CompareEnd, Error> {
    let mut request = request;
    let mut store = state::open(&OpenRequest {
        state_dir: &request.state_dir,
        name: &request.name,
        plan: &request.plan,
        restart: false,
        command: "redknot compare --recorded",
        durability: request.options.durability,
    })?;
    request.target.also_at(store.met(Side::Target));
    store.tell_settings(&request.settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Class::Usage, "start", error.to_string()))?;
    for note in store.notes() {
        observer.event(&Event::Warning {
            message: note.clone(),
        });
    }
    let report = Report::new(&store, &request);
    let env = Rc::new(Env {
        run: store.run(),
        temporary: store.temporary(),
        request,
        observer,
        shutdown,
        retries: std::cell::Cell::new(0),
        throttle: RefCell::new(None),
        clusters: RefCell::default(),
        probing: std::cell::Cell::new(None),
    });
    let mut context = Context {
        store,
        env,
        report,
        lanes: Vec::new(),
        findings: Vec::new(),
    };
    let ended = runtime.block_on(compare(&mut context));
    close(context, ended)
}

/// A run.
pub(super) struct Context {
    store: Store,
    env: Rc<Env>,
    report: Report,
    /// One checkpoint a lane, durable.
    lanes: Vec<CompareLane>,
    /// The first findings.
    findings: Vec<FoundKey>,
}

enum Ended {
    Compared,
    Stopped(StopReason),
}

async fn compare(context: &mut Context) -> Result<Ended, Error> {
    must_be_recorded(context)?;
    let env = Rc::clone(&context.env);
    let (nodes, server) = match read::look(&env).await? {
        Waited::Ready(looked) => looked,
        Waited::Stopped(reason) => return Ok(Ended::Stopped(reason)),
    };
    context.store.tell(Journaled::Server {
        run: env.run,
        side: Side::Target,
        server: Box::new(server),
    })?;
    env.clusters.replace([None, nodes]);
    context.begin()?;
    let mut why = "the target alone is compared, with what was recorded".to_owned();
    loop {
        match all(context, &why).await? {
            ReadEnd::Done => break,
            ReadEnd::Stopped(reason) => return Ok(Ended::Stopped(reason)),
            ReadEnd::Anew(reason) => {
                env.warn(format!("{reason}: it is compared from the beginning"));
                why = reason;
            }
        }
    }
    context.end()?;
    Ok(Ended::Compared)
}

/// Reads every database of the target once, from its beginning.
async fn all(context: &mut Context, why: &str) -> Result<ReadEnd, Error> {
    let env = Rc::clone(&context.env);
    let mut budget = env.budget(Side::Target);
    // It has answered before: an address at which nothing listens now is an outage and no slip.
    budget.contact();
    for group in groups(context)? {
        let done = compare_group(context, &group, &mut budget, why).await?;
        if !matches!(done, ReadEnd::Done) {
            return Ok(done);
        }
    }
    Ok(ReadEnd::Done)
}

async fn compare_group(
    context: &mut Context,
    group: &Group,
    budget: &mut Budget,
    why: &str,
) -> Result<ReadEnd, Error> {
    let env = Rc::clone(&context.env);
    let plan = env.request.plan.lanes[group.first()];
    let reached = match read::reach_target(&env, budget, plan.target_db, None).await? {
        Waited::Ready(reached) => reached,
        Waited::Stopped(reason) => return Ok(ReadEnd::Stopped(reason)),
    };
    for lane in &group.lanes {
        let (nobody, target) = (ServerIdentity::default(), reached.identity.clone());
        let lane = *lane as u32;
        context
            .store
            .begin_compare_lane(lane, nobody, target, why)?;
        context.lanes[lane as usize] = context.store.compare_lanes()[lane as usize].clone();
        env.observer.event(&Event::CompareLane {
            lane: env.request.plan.lanes[lane as usize],
            decision: LaneDecision::Begin,
            reason: why.to_owned(),
        });
    }
    let mut book = Book::new(context, group);
    let mut reached = Some(reached);
    for index in 0..group.parts {
        let part = Part {
            index,
            of: group.parts,
        };
        let end = read::part(context, &mut book, group, part, budget, &mut reached).await?;
        if !matches!(end, ReadEnd::Done) {
            return Ok(end);
        }
    }
    book.close(context)?;
    Ok(ReadEnd::Done)
}

/// The lanes whose keys arrive in one database of the target are looked at together.
fn groups(context: &Context) -> Result<Vec<Group>, Error> {
    let plan = &context.env.request.plan;
    let mut by_db: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, lane) in plan.lanes.iter().enumerate() {
        by_db.entry(lane.target_db).or_default().push(index);
    }
    // A quarter: sorting takes half as much again, and the engine's cache has to fit beside it.
    let entries_max = context.env.request.options.in_flight_bytes_max / 4 / ENTRY_BYTES as u64;
    by_db
        .into_values()
        .map(|lanes| {
            let mut entries = 0;
            for lane in &lanes {
                entries += context.store.recorded_entries(*lane as u32)?;
            }
            let parts = Part::count(entries, entries_max);
            Ok(Group::new(
                plan,
                &context.env.request.options,
                &context.env.temporary,
                lanes,
                parts,
            ))
        })
        .collect()
}

/// Refuses where something of the newest pass was not recorded.
fn must_be_recorded(context: &Context) -> Result<(), Error> {
    let name = &context.env.request.name;
    let refused = |cause: String| Error::new(Class::NoGo, "compare with what was recorded", cause);
    let store = &context.store;
    if store.meta().phase != Phase::Copied
        || store
            .lanes()
            .iter()
            .any(|lane| lane.position != Position::End)
    {
        return Err(refused(format!("the copy of {name} is not complete"))
            .hint("run redknot migrate until it is, with --record-digests"));
    }
    for (lane, plan) in (0..).zip(&context.env.request.plan.lanes) {
        let coverage = store.recorded(lane)?;
        if coverage.without > 0 {
            let cause = format!(
                "of {} of the {} batches of database {} nothing was recorded",
                coverage.without, coverage.batches, plan.source_db
            );
            return Err(refused(cause).hint(
                "redknot migrate … --record-digests --new-pass copies it again and records, while the source is there",
            ));
        }
    }
    Ok(())
}

impl Context {
    fn begin(&mut self) -> Result<(), Error> {
        let options = &self.env.request.options;
        let unfinished = self
            .store
            .compare()
            .is_some_and(|record| record.ended.is_none());
        if unfinished {
            self.env.warn(
                "the comparison that was left unfinished is forgotten; another one begins".into(),
            );
        }
        self.store.begin_compare(CompareRules {
            sample: None,
            one_way: options.one_way,
            ttl_tolerance_ms: Some(options.ttl_tolerance.as_millis() as u64),
            recorded: true,
        })?;
        self.lanes = self.store.compare_lanes().to_vec();
        self.report
            .began(self.store.compare_status().unwrap_or_default());
        let keys = |lane: &state::record::LaneCheckpoint| {
            Some(lane.counters.keys_written + lane.counters.keys_kept)
        };
        let keyspace: Vec<Option<u64>> = self.store.lanes().iter().map(keys).collect();
        self.report.keyspace(&keyspace);
        let compare = self.tell(0.0, None)?;
        self.env.observer.event(&Event::CompareStart {
            compare,
            run: self.env.run,
            resumed: false,
            percent: 0.0,
        });
        Ok(())
    }

    /// Tells how it stands. Returns the number of the comparison.
    fn tell(&mut self, percent: f64, state: Option<CompareState>) -> Result<u32, Error> {
        let mut status = self.report.status(&self.lanes, state, &self.env);
        let mut number = 0;
        if let Some(compare) = &mut status.compare {
            compare.percent = percent;
            number = compare.compare;
            self.env
                .observer
                .event(&Event::CompareProgress(Box::new(compare.clone())));
        }
        if let Err(error) = self.store.write_status(&status) {
            tracing::warn!(%error, "the status file could not be replaced");
        }
        Ok(number)
    }

    /// Makes durable how far a lane is, and what was found in it.
    fn commit(&mut self, commit: CompareCommit) -> Result<(), Error> {
        let lane = commit.lane as usize;
        self.lanes[lane] = self.store.commit_compare(commit)?;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        let mut counters = CompareCounters::default();
        let mut target = KeyspaceDigest::default();
        for lane in &self.lanes {
            counters.add(&lane.counters);
            target.merge(&lane.target_keys);
        }
        assert!(
            counters.balance(),
            "compared means: every key is accounted for, and these are not: {counters:?}"
        );
        let quarantined: u64 = self
            .store
            .lanes()
            .iter()
            .map(|lane| lane.counters.keys_quarantined)
            .sum();
        self.store.end_compare(CompareEnded {
            run: self.env.run,
            at_ms: unix_ms(),
            counters,
            // Of what was recorded there is only the beginning of each digest.
            source_digest: "not asked".to_owned(),
            target_digest: target.to_string(),
            not_compared: not_compared(&self.env.request, &counters, quarantined),
        })?;
        Ok(())
    }

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

/// What was not compared, in sentences.
fn not_compared(request: &Request, counters: &CompareCounters, quarantined: u64) -> Vec<String> {
    let mut sentences = vec![
        "the source was not asked: the target holds, or does not, what was recorded when each key was copied (--recorded)"
            .to_owned(),
    ];
    let plan = &request.plan;
    if request.options.one_way {
        sentences.push("keys that only the target has were not looked for (--one-way)".into());
    } else if plan.keys_from.is_some() {
        sentences.push("keys that are not in the list were not looked for (--keys-from)".into());
    }
    if plan.prefix.is_some() || plan.db_prefix.is_some() {
        sentences.push(
            "keys of the target that no key of the source can be called like were not looked at (--prefix, --db-prefix)"
                .into(),
        );
    }
    if counters.target_keys_unselected > 0 {
        sentences.push(format!(
            "{} keys of the target have names that the plan does not select",
            counters.target_keys_unselected
        ));
    }
    if counters.not_compared > 0 {
        sentences.push(format!(
            "{} keys: kept, written without an answer, quarantined ({quarantined} were), a module's with other bytes, or with fields that have expired since",
            counters.not_compared
        ));
    }
    sentences
}

/// Records how the run ended, and writes the last status.
fn close(mut context: Context, ended: Result<Ended, Error>) -> Result<CompareEnd, Error> {
    let status = context.store.compare_status();
    let findings = status
        .as_ref()
        .map_or(0, |status| status.counters.findings());
    let how = match &ended {
        Ok(Ended::Compared) if findings == 0 => "compared with what was recorded: equal".to_owned(),
        Ok(Ended::Compared) => format!("compared with what was recorded: {findings} findings"),
        Ok(Ended::Stopped(reason)) => format!("compare stopped by {}", reason.name()),
        Err(error) => error.to_string(),
    };
    let began = !context.lanes.is_empty();
    let status = match &ended {
        Ok(Ended::Compared) => context.report.with(status.unwrap_or_default()),
        Ok(Ended::Stopped(_)) | Err(_) => {
            context
                .report
                .status(&context.lanes, Some(CompareState::Stopped), &context.env)
        }
    };
    let saved = context.store.end_run(&how);
    if began && let Err(error) = context.store.write_status(&status) {
        tracing::warn!(%error, "the status file could not be replaced");
    }
    let ended = ended?;
    saved?;
    let status = status.compare.unwrap_or_default();
    Ok(match ended {
        Ended::Compared => {
            context
                .env
                .observer
                .event(&Event::Compared(Box::new(status.clone())));
            CompareEnd::Compared {
                status,
                findings: context.findings,
            }
        }
        Ended::Stopped(reason) => CompareEnd::Stopped { reason, status },
    })
}

/// A commit with nothing in it yet.
fn commit_of(lane: u32, checkpoint: CompareLane) -> CompareCommit {
    CompareCommit {
        lane,
        checkpoint,
        canary: false,
        candidates: Vec::new(),
        reread: Vec::new(),
        settled: Vec::new(),
        findings: Vec::new(),
    }
}

/// The stage of a lane that has its result.
const DONE: CompareStage = CompareStage::Done;
