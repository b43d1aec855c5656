//! One lane in one run: judge its past, begin a pass if need be, and copy to its end.

use std::rc::Rc;

use super::engine::{Context, drive};
use super::lane::{IN_FLIGHT_BATCHES_MAX, Lane, Rules};
use super::link::{self, Env, Waited, retrying};
use super::nodes;
use super::resume;
use super::{OnSourceChange, lost_store};
use crate::client::canary::{self, Canary, CanaryFilter};
use crate::client::cluster::identity_of_all;
use crate::client::retry::Budget;
use crate::client::{Link, LinkError};
use crate::cluster::SLOTS;
use crate::endpoint::Side;
use crate::error::{Class, Error};
use crate::plan::LanePlan;
use crate::progress::{Event, LaneDecision, ProcessChange};
use crate::renaming::{self, Renaming};
use crate::selection::Selection;
use crate::shutdown::StopReason;
use crate::state::record::{LaneCheckpoint, Position, ServerIdentity};

/// Clocks further apart than this do not share instants: expiries then travel as time left.
pub const CLOCKS_AGREE_MS: i64 = 1000;

/// How a lane's copy ended.
#[derive(Debug)]
pub enum LaneEnd {
    /// The chain of cursors is closed and everything in it is durable.
    Complete,
    /// A stop was asked for.
    Stopped(StopReason),
    /// The target's nodes are others than before: the lane goes on where it is durable, after a look at who they are.
    Again,
    /// This lane's cursor is worth nothing any more.
    NewPass(String),
    /// What the target acknowledged is in doubt, in every lane.
    TargetSuspect(String),
}

/// Copies lane number `index` from where it stands. With `forced`, from its beginning, for that reason. `again`: this run
/// has written keys of it before that it could not record.
pub async fn copy_lane(
    context: &mut Context,
    index: usize,
    forced: Option<String>,
    again: bool,
) -> Result<LaneEnd, Error> {
    let env = Rc::clone(&context.env);
    // What was submitted before is durable, or lost, before it is looked at.
    context
        .recorder
        .with_store(|_| ())
        .await
        .map_err(lost_store)?;
    let plan = env.request.plan.lanes[index];
    let checkpoint = context.lanes()[index].clone();
    if checkpoint.position == Position::End && checkpoint.pass > 0 && forced.is_none() {
        // The source may be gone by now; only the target's word has to be checked.
        return finished_lane(&env, plan, &checkpoint).await;
    }
    let mut source_budget = env.budget(Side::Source);
    let mut source = match first_source(&env, &mut source_budget, plan, &checkpoint).await? {
        Waited::Ready(link) => link,
        Waited::Stopped(reason) => return Ok(LaneEnd::Stopped(reason)),
    };
    let targets = match targets(&env, plan).await? {
        Waited::Ready(links) => links,
        Waited::Stopped(reason) => return Ok(LaneEnd::Stopped(reason)),
    };
    let target_identity = identity(&env, &targets);
    let forced = match forced {
        Some(reason) => Some(reason),
        None => match suspect(&env, &checkpoint, plan, &target_identity).await? {
            Waited::Ready(reason) => reason,
            Waited::Stopped(reason) => return Ok(LaneEnd::Stopped(reason)),
        },
    };
    let reason_to_begin = forced;
    let forced = reason_to_begin.is_some();
    let (decision, reason) = match reason_to_begin {
        Some(reason) => (LaneDecision::NewPass, reason),
        None => match judge(&env, plan, &checkpoint, &mut source).await {
            Ok(judged) => judged,
            Err(error) => {
                match reconnected(&env, plan, &checkpoint, &mut source_budget, error).await? {
                    Waited::Ready((link, decision, reason)) => {
                        source = link;
                        (decision, reason)
                    }
                    Waited::Stopped(reason) => return Ok(LaneEnd::Stopped(reason)),
                }
            }
        },
    };
    say_changes(&env, plan, &checkpoint, &source.identity, &target_identity);
    if decision == LaneDecision::NewPass && !forced {
        may_begin_anew(&env, &reason)?;
    }
    let checkpoint = begin(
        context,
        index,
        checkpoint,
        decision,
        &reason,
        &source.identity,
        &target_identity,
    )
    .await?;
    env.observer.event(&Event::Lane {
        lane: plan,
        pass: checkpoint.pass,
        decision,
        reason,
    });
    let rules = rules(context, index, &source, &targets);
    // What a dead run, or an earlier pass, wrote without being able to record it.
    let in_doubt = match (checkpoint.pass, env.run) {
        _ if env.rebuilt_pass(index) == Some(checkpoint.pass) => u64::MAX,
        (1, 1) if !again => 0,
        (1, _) => 2 * IN_FLIGHT_BATCHES_MAX,
        _ => u64::MAX,
    };
    let mut lane = Lane::new(
        rules,
        checkpoint.pass,
        checkpoint.position,
        checkpoint.next_seq,
        targets.len(),
        in_doubt,
    );
    lane.pace = Rc::clone(&env.pace);
    drive(context, index, lane, source, targets).await
}

/// The connection to the source: in a cluster to the node where the scan goes on.
async fn first_source(
    env: &Env,
    budget: &mut Budget,
    plan: LanePlan,
    checkpoint: &LaneCheckpoint,
) -> Result<Waited<Link>, Error> {
    let Some(nodes) = env.cluster(Side::Source) else {
        return link::source(env, budget, plan.source_db, None).await;
    };
    // Where it is not a slot, the pass begins anew, and another node may have to be asked first.
    let slot = match checkpoint.position {
        Position::At(slot) => u16::try_from(slot.get()).ok().filter(|slot| *slot < SLOTS),
        Position::Start | Position::End => None,
    };
    let place = (plan.source_db, slot.unwrap_or_default());
    nodes::source(env, &nodes, budget, place, None).await
}

/// Tells which of the processes that this lane's checkpoint counts on have others in their place.
fn say_changes(
    env: &Env,
    plan: LanePlan,
    checkpoint: &LaneCheckpoint,
    source: &ServerIdentity,
    target: &ServerIdentity,
) {
    if checkpoint.pass == 0 {
        return;
    }
    if let Some(change) = change(plan.source_db, &checkpoint.source, source) {
        env.observer.event(&Event::SourceChanged(change));
    }
    if let Some(change) = change(plan.target_db, &checkpoint.target, target) {
        env.observer.event(&Event::TargetChanged(change));
    }
}

/// The change, where both processes can be told apart and are not the same.
pub fn change(db: u32, before: &ServerIdentity, now: &ServerIdentity) -> Option<ProcessChange> {
    (canary::same_process(before, now) == Some(false)).then(|| ProcessChange {
        db,
        run_id_before: before.run_id.clone(),
        run_id: now.run_id.clone(),
    })
}

/// The process that acknowledges, or all of them.
fn identity(env: &Env, targets: &[Link]) -> ServerIdentity {
    match env.cluster(Side::Target) {
        None => targets[0].identity.clone(),
        Some(_) => {
            let all: Vec<ServerIdentity> =
                targets.iter().map(|link| link.identity.clone()).collect();
            identity_of_all(&all)
        }
    }
}

/// The connections to the target.
async fn targets(env: &Rc<Env>, plan: LanePlan) -> Result<Waited<Vec<Link>>, Error> {
    if let Some(nodes) = env.cluster(Side::Target) {
        return nodes::targets(env, &nodes, plan.target_db).await;
    }
    let mut links = Vec::new();
    let mut budget = env.budget(Side::Target);
    for _ in 0..env.request.options.connections.max(1) {
        match link::target(env, &mut budget, plan.target_db, None).await? {
            Waited::Ready(link) => links.push(link),
            Waited::Stopped(reason) => return Ok(Waited::Stopped(reason)),
        }
    }
    Ok(Waited::Ready(links))
}

async fn suspect(
    env: &Rc<Env>,
    checkpoint: &LaneCheckpoint,
    plan: LanePlan,
    now: &ServerIdentity,
) -> Result<Waited<Option<String>>, Error> {
    let mut budget = env.budget(Side::Target);
    let attempt = async |_| link::suspect(env, checkpoint, plan, now).await;
    retrying(env, Side::Target, &mut budget, None, attempt).await
}

/// A lane that an earlier run brought to its end counts if the target still is who said so.
async fn finished_lane(
    env: &Rc<Env>,
    plan: LanePlan,
    checkpoint: &LaneCheckpoint,
) -> Result<LaneEnd, Error> {
    let links = match targets(env, plan).await? {
        Waited::Ready(links) => links,
        Waited::Stopped(reason) => return Ok(LaneEnd::Stopped(reason)),
    };
    match suspect(env, checkpoint, plan, &identity(env, &links)).await? {
        Waited::Stopped(reason) => Ok(LaneEnd::Stopped(reason)),
        Waited::Ready(Some(reason)) => Ok(LaneEnd::TargetSuspect(reason)),
        Waited::Ready(None) => {
            let reason = format!("database {} was scanned to its end", plan.source_db);
            let decision = LaneDecision::Finished;
            env.observer.event(&Event::Lane {
                lane: plan,
                pass: checkpoint.pass,
                decision,
                reason,
            });
            Ok(LaneEnd::Complete)
        }
    }
}

/// Decides about the stored cursor, on the connection that would use it.
pub async fn judge(
    env: &Env,
    plan: LanePlan,
    checkpoint: &LaneCheckpoint,
    source: &mut Link,
) -> Result<(LaneDecision, String), LinkError> {
    let begun = checkpoint.pass > 0 && checkpoint.position != Position::End;
    if env.request.plan.keys_from.is_some() && begun {
        let reason = "a place in the list of keys means the same to every server".to_owned();
        return Ok((LaneDecision::Continue, reason));
    }
    let (scan_type, _) = Rules::filter(&env.request.plan, source.scan_type);
    let filter = CanaryFilter {
        match_glob: env.request.plan.match_glob.as_deref(),
        scan_type,
    };
    let Link { wire, identity, .. } = source;
    let ask = async || -> Result<Canary, LinkError> {
        canary::ask_canary(wire, &checkpoint.canary, &filter).await
    };
    resume::decide(
        plan,
        checkpoint,
        identity,
        env.request.options.trust_cursor,
        ask,
    )
    .await
}

/// A connection to the source, after `failure`, and what is decided about the stored cursor on it.
pub async fn reconnected(
    env: &Env,
    plan: LanePlan,
    checkpoint: &LaneCheckpoint,
    budget: &mut Budget,
    failure: LinkError,
) -> Result<Waited<(Link, LaneDecision, String)>, Error> {
    let mut failure = Some(failure);
    loop {
        let mut link = match link::source(env, budget, plan.source_db, failure.take()).await? {
            Waited::Ready(link) => link,
            Waited::Stopped(reason) => return Ok(Waited::Stopped(reason)),
        };
        match judge(env, plan, checkpoint, &mut link).await {
            Ok((decision, reason)) => return Ok(Waited::Ready((link, decision, reason))),
            Err(error) => failure = Some(error),
        }
    }
}

/// With `--on-source-change fail`, a cursor that can't be continued ends the run.
pub fn may_begin_anew(env: &Env, reason: &str) -> Result<(), Error> {
    match env.request.options.on_source_change {
        OnSourceChange::NewPass => Ok(()),
        OnSourceChange::Fail => Err(Error::new(Class::SourceChanged, "continue the scan", reason)
            .on(Side::Source)
            .hint(
                "without --on-source-change fail, the database is scanned from its beginning again",
            )),
    }
}

/// Makes the decision durable before anything is sent because of it.
async fn begin(
    context: &mut Context,
    index: usize,
    mut checkpoint: LaneCheckpoint,
    decision: LaneDecision,
    reason: &str,
    source: &ServerIdentity,
    target: &ServerIdentity,
) -> Result<LaneCheckpoint, Error> {
    let lane = index as u32;
    let same = checkpoint.source == *source && checkpoint.target == *target;
    let (source, target) = (source.clone(), target.clone());
    let reason = reason.to_owned();
    let written = match decision {
        LaneDecision::Begin | LaneDecision::NewPass => {
            let fresh = checkpoint.next_pass(source, target);
            checkpoint = fresh.clone();
            context.pass_began(lane, fresh.pass, &reason);
            context
                .recorder
                .with_store(move |store| store.begin_pass(lane, fresh, &reason))
        }
        LaneDecision::Continue if same => return Ok(checkpoint),
        LaneDecision::Continue | LaneDecision::Finished => {
            checkpoint.source = source.clone();
            checkpoint.target = target.clone();
            context
                .recorder
                .with_store(move |store| store.update_identity(lane, source, target, &reason))
        }
    };
    written.await.map_err(lost_store)??;
    Ok(checkpoint)
}

/// What plan, options and both servers make of every key.
fn rules(context: &Context, index: usize, source: &Link, targets: &[Link]) -> Rules {
    let env = &context.env;
    let plan = &env.request.plan;
    let dbs = plan.lanes[index];
    let target = &targets[0];
    let by_slot = env.cluster(Side::Source).map(|nodes| nodes.probes());
    let from_list = plan.keys_from.is_some();
    // A slot is listed with all its keys, of whatever type, and so is a list.
    let scans = by_slot.is_none() && !from_list;
    let (scan_type, ask_types) = Rules::filter(plan, source.scan_type && scans);
    let skews = targets.iter().map(|target| {
        let (source, target) = source.clock.zip(target.clock)?;
        Some(target.ahead_of(&source))
    });
    let skew = skews
        .collect::<Option<Vec<i64>>>()
        .and_then(|skews| skews.into_iter().max_by_key(|ms| ms.abs()));
    let agree = skew.is_some_and(|ms| ms.abs() <= CLOCKS_AGREE_MS);
    if let Some(ms) = skew.filter(|_| !agree) {
        let side = if ms > 0 { "ahead of" } else { "behind" };
        env.warn(format!(
            "the target's clock is {:.1} s {side} the source's: keys keep the time they have left, not the instant of their expiry",
            ms.abs() as f64 / 1000.0
        ));
    }
    let absttl = targets.iter().all(|target| target.absolute_expiry);
    Rules {
        batch_keys: env.request.options.batch_keys,
        match_glob: plan.match_glob.clone(),
        scan_type,
        ask_types,
        selection: match from_list {
            true => Selection::of(plan),
            false => Selection::beside_scan(plan),
        },
        renaming: Renaming::of(plan, dbs.source_db),
        from_list,
        dbs,
        has_rivals: !renaming::rivals(plan, index).0.is_empty(),
        read_with: env.request.options.read_with,
        write_with: env.request.options.write_with,
        counts_expiries: source.identity.run_id.is_some(),
        by_slot,
        routes: env
            .cluster(Side::Target)
            .map(|nodes| nodes.topology().clone()),
        big_key: env.request.options.big_key,
        on_conflict: plan.on_conflict,
        ttl: plan.ttl,
        field_ttl: plan.field_ttl,
        takes: target
            .takes
            .clone()
            .expect("a connection to a target knows what it takes"),
        expire_time: agree && source.absolute_expiry && absttl,
        absttl,
        source_clock: source.clock,
        target_clock: target.clock,
        payload_bytes_max: context.facts().payload_bytes_max,
        in_flight_bytes_max: env.request.options.in_flight_bytes_max,
        quarantined_max: env.request.options.max_quarantine,
        record_digests: env.request.options.record_digests,
    }
}
