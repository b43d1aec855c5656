//! One lane in one run: judge its past, then walk the source, walk the target, and read again what differed.
//!
//! # Invariants
//!
//! - A checkpoint's cursor is used only on a process that is proven to be the one that issued it, or to share its hash seed.
//! - What was read of a process that is another one now counts no more: the lane begins anew, and the reason is said.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::batch::Counted;
use super::engine::{End, Shared, Traffic};
use super::expiry::Expiries;
use super::lane::{Lane, Rules, SOURCE, TARGET};
use super::link::{Env, Waited};
use super::listing::slot_at;
use super::named::Named;
use super::nodes::{Reached, reach};
use super::rivals::looks_for_extras;
use super::settle::recheck;
use super::{CompareWith, Context, lost_store};
use crate::client::LinkError;
use crate::client::canary::{Canary, CanaryFilter, ask_canary, same_process};
use crate::client::retry::Budget;
use crate::endpoint::Side;
use crate::error::Error;
use crate::plan::{LanePlan, TtlPolicy};
use crate::progress::{Event, LaneDecision};
use crate::renaming;
use crate::shutdown::StopReason;
use crate::state::record::{
    CANARY_BATCHES, CANARY_BYTES, CANARY_KEYS, CanaryBatch, CompareLane, CompareStage, Position,
};
use crate::state::{CompareCommit, StoreError};

/// So long what was compared waits for its commit. What a crash repeats is what was read in this time.
const COMMIT_EVERY: Duration = Duration::from_millis(200);
/// So many batches, or candidates, are committed at once.
const COMMIT_BATCHES: u64 = 32;
const COMMIT_CANDIDATES: usize = 1_000;
/// How often the canary is written.
const CANARY_EVERY: Duration = Duration::from_secs(1);
/// How often the status is written and progress is told.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Why what was read of a cluster is in doubt.
const NODE_IS_GONE: &str = "a process that had slots is gone";
/// How long batches in flight may take to their end after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// How a lane's comparison ended.
#[derive(Debug)]
pub enum LaneEnd {
    /// Every key has its verdict.
    Done,
    /// A stop was asked for.
    Stopped(StopReason),
    /// The servers have to be looked at anew; nothing was lost.
    Judge(String),
    /// The lane has to begin anew.
    Anew(String),
    /// What was read of the target is in doubt, in every lane.
    TargetChanged(String),
}

/// Compares lane number `index` from where it stands. With `forced`, from its beginning, for that reason.
pub async fn compare_lane(
    context: &mut Context,
    index: usize,
    forced: Option<String>,
) -> Result<LaneEnd, Error> {
    let env = Rc::clone(&context.env);
    let plan = env.request.plan.lanes[index];
    let mut checkpoint = context.lane(index).clone();
    let mut budgets = [env.budget(Side::Source), env.budget(Side::Target)];
    // Both have answered the preflight: an address at which nothing listens now is an outage and no slip.
    budgets.iter_mut().for_each(Budget::contact);
    let source = reach(&env, Side::Source, &mut budgets[0], plan.source_db, None).await?;
    let Waited::Ready(mut source) = source else {
        return stopped(source);
    };
    let target = reach(&env, Side::Target, &mut budgets[1], plan.target_db, None).await?;
    let Waited::Ready(mut target) = target else {
        return stopped(target);
    };
    let (decision, reason) = match forced {
        Some(reason) => (LaneDecision::NewPass, reason),
        None => match decide(&env, plan, &checkpoint, &mut source, &mut target).await {
            Ok((LaneDecision::NewPass, reason))
                if same_process(&checkpoint.target, &target.identity) == Some(false) =>
            {
                return Ok(LaneEnd::TargetChanged(reason));
            }
            Ok(decided) => decided,
            // The budget decides whether it is worth another try.
            Err((side, error)) => return again(&env, side, &mut budgets, plan, error).await,
        },
    };
    env.observer.event(&Event::CompareLane {
        lane: plan,
        decision,
        reason: reason.clone(),
    });
    match decision {
        LaneDecision::Finished => return Ok(LaneEnd::Done),
        LaneDecision::Begin | LaneDecision::NewPass => {
            let identities = (source.identity.clone(), target.identity.clone());
            checkpoint = context.begin_lane(index, identities, &reason).await?;
        }
        LaneDecision::Continue => {
            if same_process(&checkpoint.target, &target.identity) != Some(true) {
                checkpoint.forget_listed();
            }
            checkpoint.source = source.identity.clone();
            checkpoint.target = target.identity.clone();
        }
    }
    let mut links = Some([source, target]);
    loop {
        let [source, target] = match links.take() {
            Some(links) => links,
            None => match both(&env, &mut budgets, plan, &checkpoint).await? {
                Ok(links) => links,
                Err(end) => return Ok(end),
            },
        };
        let rules = context.rules(index, checkpoint.stage, &source, &target);
        let (position, listed_to) = (checkpoint.position, checkpoint.listed_to);
        let lane = Lane::new(rules, checkpoint.stage, position, listed_to);
        let list = context.list(checkpoint.stage);
        let (shared, mut traffic) = Traffic::start(&env, index, lane, list, [source, target]);
        let ended = match checkpoint.stage {
            CompareStage::Source | CompareStage::Target => {
                walk(context, &shared, &mut traffic, &mut checkpoint).await
            }
            CompareStage::Recheck => recheck(context, &shared, &mut traffic, &mut checkpoint).await,
            CompareStage::Done => Ok(()),
        };
        traffic.shut_down().await;
        match ended {
            Ok(()) => {}
            Err(End::Stopped(reason)) => return Ok(LaneEnd::Stopped(reason)),
            Err(End::Judge(reason)) => return Ok(LaneEnd::Judge(reason)),
            Err(End::Anew(reason)) => return Ok(LaneEnd::Anew(reason)),
            Err(End::Failed(error)) => return Err(*error),
        }
        if checkpoint.stage == CompareStage::Done {
            return Ok(LaneEnd::Done);
        }
    }
}

fn stopped(waited: Waited<Reached>) -> Result<LaneEnd, Error> {
    match waited {
        Waited::Stopped(reason) => Ok(LaneEnd::Stopped(reason)),
        Waited::Ready(_) => unreachable!("a side that is ready is used"),
    }
}

/// After a failure while the past was judged: waits as long as the budget says, and then all is judged anew.
async fn again(
    env: &Rc<Env>,
    side: Side,
    budgets: &mut [Budget; 2],
    plan: LanePlan,
    error: LinkError,
) -> Result<LaneEnd, Error> {
    let db = match side {
        Side::Source => plan.source_db,
        Side::Target => plan.target_db,
    };
    let reason = error.to_string();
    match reach(env, side, &mut budgets[side as usize], db, Some(error)).await? {
        Waited::Stopped(reason) => Ok(LaneEnd::Stopped(reason)),
        Waited::Ready(_) => Ok(LaneEnd::Judge(reason)),
    }
}

/// Connections for the next stage; they must lead to the processes that the lane was read from.
async fn both(
    env: &Rc<Env>,
    budgets: &mut [Budget; 2],
    plan: LanePlan,
    checkpoint: &CompareLane,
) -> Result<Result<[Reached; 2], LaneEnd>, Error> {
    let mut reached = Vec::new();
    let sides = [
        (Side::Source, plan.source_db, &checkpoint.source),
        (Side::Target, plan.target_db, &checkpoint.target),
    ];
    for (side, db, before) in sides {
        let now = match reach(env, side, &mut budgets[side as usize], db, None).await? {
            Waited::Ready(now) => now,
            Waited::Stopped(reason) => return Ok(Err(LaneEnd::Stopped(reason))),
        };
        if same_process(before, &now.identity) == Some(false) {
            return Ok(Err(LaneEnd::Judge(format!(
                "the {side} is another process than before"
            ))));
        }
        reached.push(now);
    }
    let reached: Result<[Reached; 2], _> = reached.try_into();
    Ok(Ok(
        reached.unwrap_or_else(|_| unreachable!("one for each side"))
    ))
}

/// Is what an earlier run, or an earlier connection, found still worth anything?
async fn decide(
    env: &Env,
    plan: LanePlan,
    checkpoint: &CompareLane,
    source: &mut Reached,
    target: &mut Reached,
) -> Result<(LaneDecision, String), (Side, LinkError)> {
    let of_source = same_process(&checkpoint.source, &source.identity);
    let of_target = same_process(&checkpoint.target, &target.identity);
    if checkpoint.stage == CompareStage::Source && checkpoint.position == Position::Start {
        return Ok((
            LaneDecision::Begin,
            "no key has been compared yet".to_owned(),
        ));
    }
    let changed = |side: Side, why: &str| {
        format!(
            "the {side} is another process than the one that was read ({why}), so what was found is in doubt"
        )
    };
    let why = |side: Side| match env.cluster(side) {
        None => "run_id changed",
        Some(_) => NODE_IS_GONE,
    };
    if of_target == Some(false) {
        return Ok((
            LaneDecision::NewPass,
            changed(Side::Target, why(Side::Target)),
        ));
    }
    // Whose cursor it is.
    let (side, same, reached) = match checkpoint.stage {
        CompareStage::Target => (Side::Target, of_target, target),
        _ => (Side::Source, of_source, source),
    };
    let walks = matches!(
        checkpoint.stage,
        CompareStage::Source | CompareStage::Target
    ) && checkpoint.position != Position::Start;
    let in_list = side == Side::Source && env.request.plan.keys_from.is_some();
    if walks && in_list {
        // A place in a list means the same to everybody.
    } else if walks && env.cluster(side).is_some() {
        // A slot is the same slot to every process. What a process said that is gone now is in doubt all the same.
        if same == Some(false) || slot_at(checkpoint.position).is_none() {
            return Ok((LaneDecision::NewPass, changed(side, NODE_IS_GONE)));
        }
    } else if walks && same != Some(true) {
        let glob = Named::glob(&env.request.plan, plan.source_db, side as usize);
        let filter = CanaryFilter {
            match_glob: glob.as_deref(),
            scan_type: scan_type(env, reached),
        };
        let [link] = reached.links.as_mut_slice() else {
            unreachable!("a single server has one connection")
        };
        let canary = ask_canary(&mut link.wire, &checkpoint.canary, &filter)
            .await
            .map_err(|error| (side, error))?;
        let why = match same {
            Some(_) => "run_id changed",
            None => "it can't be identified, it has no run_id",
        };
        return Ok(match canary {
            Canary::Alive { names } => (
                LaneDecision::Continue,
                format!(
                    "the {side} is not known to be the same process ({why}), but all {names} canary keys came back: the cursor is alive"
                ),
            ),
            Canary::Dead { missing, names } => (
                LaneDecision::NewPass,
                format!(
                    "{}, and {missing} of {names} canary keys did not come back: the cursor is dead",
                    changed(side, why)
                ),
            ),
            Canary::Undecided(undecided) => (
                LaneDecision::NewPass,
                format!(
                    "{}, and {undecided}: the cursor is not trusted",
                    changed(side, why)
                ),
            ),
        });
    }
    if of_source == Some(false) {
        return Ok((
            LaneDecision::NewPass,
            changed(Side::Source, why(Side::Source)),
        ));
    }
    Ok(match checkpoint.stage {
        CompareStage::Done => (
            LaneDecision::Finished,
            "every key has its verdict".to_owned(),
        ),
        _ => (
            LaneDecision::Continue,
            "both servers are the same processes as before".to_owned(),
        ),
    })
}

fn scan_type(env: &Env, reached: &Reached) -> Option<crate::plan::KeyType> {
    match env.request.plan.types.as_slice() {
        [one] if reached.scan_type() => Some(*one),
        _ => None,
    }
}

impl Context {
    /// What plan, options and both servers make of every key.
    fn rules(
        &self,
        index: usize,
        stage: CompareStage,
        source: &Reached,
        target: &Reached,
    ) -> Rules {
        let request = &self.env.request;
        let db = request.plan.lanes[index].source_db;
        let (earlier, later) = renaming::rivals(&request.plan, index);
        let alone = earlier.is_empty() && later.is_empty();
        let sides = [SOURCE, TARGET];
        let expiries = (request.plan.ttl == TtlPolicy::Keep).then(|| {
            Expiries::new(
                request.options.ttl_tolerance,
                [source.absolute_expiry(), target.absolute_expiry()],
                [source.clock(), target.clock()],
            )
        });
        Rules {
            batch_keys: request.options.batch_keys,
            globs: sides.map(|side| Named::glob(&request.plan, db, side)),
            scan_types: [scan_type(&self.env, source), scan_type(&self.env, target)],
            types: request.plan.types.clone(),
            field_ttl: request.plan.field_ttl,
            named: sides.map(|side| {
                let sample = self.rules.sample.clone();
                Named::new(&request.plan, db, side, sample, Some(&self.env.temporary))
            }),
            lists: !request.options.one_way && alone && request.plan.keys_from.is_none(),
            from_list: self.list(stage).is_some(),
            has_rivals: stage == CompareStage::Target && !alone,
            expiries,
            source_clock: source.clock(),
            strings: request.options.compare_with == CompareWith::Auto
                && stage == CompareStage::Source,
            extras: !request.options.one_way,
            // A quarter for each side's answers; buffers and the engine's cache need the rest.
            held_bytes_max: request.options.in_flight_bytes_max / 4,
            big_key: request.options.big_key,
            by_slot: [Side::Source, Side::Target]
                .map(|side| self.env.cluster(side).map(|nodes| nodes.probes())),
            routes: [source.topology.clone(), target.topology.clone()],
        }
    }
}

/// What was compared and is not on its way to the disk.
struct Pending {
    counted: Counted,
    batches: u64,
    since: Instant,
    canary_at: Option<Instant>,
}

/// A commit that is on its way.
type Committing = oneshot::Receiver<Result<CompareLane, StoreError>>;

/// Walks one side to its end; the checkpoint is at the next stage then, durably.
async fn walk(
    context: &mut Context,
    shared: &Rc<Shared>,
    traffic: &mut Traffic,
    checkpoint: &mut CompareLane,
) -> Result<(), End> {
    let mut pending = Pending {
        counted: Counted::default(),
        batches: 0,
        since: Instant::now(),
        canary_at: None,
    };
    let mut committing: Option<(Committing, CompareLane, u64)> = None;
    let mut shutdown = context.env.shutdown.clone();
    let mut stop: Option<StopReason> = None;
    let mut grace = Box::pin(tokio::time::sleep(Duration::MAX));
    let mut status = tokio::time::interval(STATUS_EVERY);
    let mut commit = tokio::time::interval(COMMIT_EVERY);
    let mut end: Option<End> = None;
    loop {
        take_finished(context, shared, checkpoint, &mut pending);
        let settled = shared.lane.borrow().is_settled() || end.is_some();
        let due = pending.since.elapsed() >= COMMIT_EVERY
            || pending.batches >= COMMIT_BATCHES
            || pending.counted.candidates.len() >= COMMIT_CANDIDATES
            || settled;
        if committing.is_none() && pending.batches > 0 && due {
            committing = Some(submit(context, shared.index, checkpoint, &mut pending));
        }
        if committing.is_none() && settled {
            if let Some(end) = end {
                return Err(end);
            }
            if let Some(reason) = stop {
                return Err(End::Stopped(reason));
            }
            return next_stage(context, shared.index, checkpoint)
                .await
                .map_err(End::from);
        }
        tokio::select! {
            () = shared.settled.notified() => {}
            done = async { (&mut committing.as_mut().expect("checked in the branch's condition").0).await }, if committing.is_some() => {
                let (_, sent, batches) = committing.take().expect("just awaited it");
                let durable = done.map_err(lost_store)?.map_err(Error::from)?;
                doubles(&sent, &durable, checkpoint);
                context.durable(shared.index, durable);
                shared.lane.borrow_mut().durable(batches);
                shared.wake();
            }
            _ = commit.tick() => {}
            _ = status.tick() => context.tell(),
            ended = traffic.ended(), if end.is_none() => end = Some(ended),
            reason = shutdown.wait(), if stop.is_none() => {
                stop = Some(reason);
                shared.lane.borrow_mut().stop();
                let batches = shared.lane.borrow().batches_in_flight();
                context.env.observer.event(&Event::Stopping { batches });
                grace = Box::pin(tokio::time::sleep(GRACE));
            }
            () = &mut grace, if stop.is_some() && end.is_none() => {
                end = stop.map(End::Stopped);
            }
        }
    }
}

/// Adds up the batches that are finished, and what was listed beside them.
fn take_finished(
    context: &Context,
    shared: &Shared,
    checkpoint: &mut CompareLane,
    pending: &mut Pending,
) {
    if let Some(listed) = shared.lane.borrow_mut().take_listed() {
        checkpoint.listed_to = listed.to;
        checkpoint.names_of_target.merge(&listed.names);
        checkpoint.counters.target_keys_scanned += listed.keys;
        checkpoint.counters.target_keys_unselected += listed.unselected;
    }
    loop {
        let Some(batch) = shared.lane.borrow_mut().take_finished() else {
            return;
        };
        if pending.batches == 0 {
            pending.since = Instant::now();
        }
        pending.batches += 1;
        checkpoint.counters.add(&batch.counted.counters);
        checkpoint.lives.add(&batch.counted.lives);
        checkpoint.source_keys.merge(&batch.counted.source_keys);
        checkpoint.target_keys.merge(&batch.counted.target_keys);
        checkpoint.names_of_both.merge(&batch.counted.names_of_both);
        pending.counted.candidates.extend(batch.counted.candidates);
        if let Some((cursor_in, cursor_out)) = batch.cursors {
            checkpoint.position = Position::after(cursor_out);
            remember(
                checkpoint,
                CanaryBatch {
                    cursor_in,
                    cursor_out,
                    count: context.env.request.options.batch_keys,
                    keyspace: context.keyspace(shared.index, checkpoint.stage),
                    keys: batch.canary_keys,
                },
            );
        }
    }
}

/// Keeps the names of a batch and forgets those of the oldest.
fn remember(checkpoint: &mut CompareLane, mut batch: CanaryBatch) {
    if checkpoint.canary.len() == CANARY_BATCHES {
        checkpoint.canary.remove(0);
    }
    let mut bytes = 0;
    batch.keys.retain(|name| {
        let fits = bytes + name.len() <= CANARY_BYTES;
        bytes += if fits { name.len() } else { 0 };
        fits
    });
    batch.keys.truncate(CANARY_KEYS);
    checkpoint.canary.push(batch);
}

/// Sends what is pending to the disk.
fn submit(
    context: &Context,
    index: usize,
    checkpoint: &CompareLane,
    pending: &mut Pending,
) -> (Committing, CompareLane, u64) {
    let canary = pending
        .canary_at
        .is_none_or(|at| at.elapsed() >= CANARY_EVERY);
    if canary {
        pending.canary_at = Some(Instant::now());
    }
    let commit = CompareCommit {
        lane: index as u32,
        checkpoint: checkpoint.clone(),
        canary,
        candidates: std::mem::take(&mut pending.counted.candidates),
        reread: Vec::new(),
        settled: Vec::new(),
        findings: Vec::new(),
    };
    let batches = std::mem::take(&mut pending.batches);
    crate::crash_point!("compared_before_state_write");
    let committing = context
        .recorder
        .with_store(move |store| store.commit_compare(commit));
    (committing, checkpoint.clone(), batches)
}

/// Candidates that waited already were counted once too often.
fn doubles(sent: &CompareLane, durable: &CompareLane, checkpoint: &mut CompareLane) {
    checkpoint.counters.candidates -= sent.counters.candidates - durable.counters.candidates;
    checkpoint.counters.doubled += durable.counters.doubled - sent.counters.doubled;
}

/// The lane goes on to its next stage, durably.
pub async fn next_stage(
    context: &mut Context,
    index: usize,
    checkpoint: &mut CompareLane,
) -> Result<(), Error> {
    let env = &context.env;
    let alone = renaming::rivals(&env.request.plan, index) == (Vec::new(), Vec::new());
    checkpoint.stage = match checkpoint.stage {
        // What only the target has can't be told from what a list leaves out.
        CompareStage::Source
            if env.request.options.one_way || env.request.plan.keys_from.is_some() =>
        {
            CompareStage::Recheck
        }
        // The target has the names of several databases: their sum is none of this lane's.
        CompareStage::Source if !alone && looks_for_extras(env, index) => CompareStage::Target,
        CompareStage::Source if !alone => CompareStage::Recheck,
        // Every name that the target has was read on the source.
        CompareStage::Source if checkpoint.lists_no_others() => CompareStage::Recheck,
        CompareStage::Source => {
            // They are counted once more, one by one.
            checkpoint.counters.target_keys_scanned = 0;
            checkpoint.counters.target_keys_unselected = 0;
            CompareStage::Target
        }
        CompareStage::Target => CompareStage::Recheck,
        CompareStage::Recheck | CompareStage::Done => CompareStage::Done,
    };
    checkpoint.position = Position::Start;
    checkpoint.canary.clear();
    let commit = CompareCommit {
        lane: index as u32,
        checkpoint: checkpoint.clone(),
        canary: false,
        candidates: Vec::new(),
        reread: Vec::new(),
        settled: Vec::new(),
        findings: Vec::new(),
    };
    let durable = context
        .recorder
        .with_store(move |store| store.commit_compare(commit))
        .await
        .map_err(lost_store)??;
    context.durable(index, durable);
    Ok(())
}
