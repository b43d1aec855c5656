//! One lane in one run: judge its past, begin a pass if need be, and copy to its end.

use std::rc::Rc;

use super::engine::{Context, drive};
use super::lane::{IN_FLIGHT_BATCHES_MAX, Lane, Rules};
use super::link::{self, Env, Waited, retrying};
use super::resume::{self, Canary, CanaryFilter};
use super::retry::Budget;
use super::{OnSourceChange, lost_store};
use crate::client::{Link, LinkError};
use crate::endpoint::Side;
use crate::error::{Class, Error};
use crate::plan::LanePlan;
use crate::progress::{Event, LaneDecision};
use crate::shutdown::StopReason;
use crate::state::record::{LaneCheckpoint, Position, ServerIdentity};

/// Clocks further apart than this do not share instants: expiries then travel as time left.
const CLOCKS_AGREE_MS: i64 = 1000;

/// How a lane's copy ended.
#[derive(Debug)]
pub enum LaneEnd {
    /// The chain of cursors is closed and everything in it is durable.
    Complete,
    /// A stop was asked for.
    Stopped(StopReason),
    /// This lane's cursor is worth nothing any more.
    NewPass(String),
    /// What the target acknowledged is in doubt, in every lane.
    TargetSuspect(String),
}

/// Copies lane number `index` from where it stands. With `forced`, from its beginning, for that reason.
pub async fn copy_lane(
    context: &mut Context,
    index: usize,
    forced: Option<String>,
) -> Result<LaneEnd, Error> {
    let env = Rc::clone(&context.env);
    let plan = env.request.plan.lanes[index];
    let checkpoint = context.lanes()[index].clone();
    if checkpoint.position == Position::End && checkpoint.pass > 0 && forced.is_none() {
        // The source may be gone by now; only the target's word has to be checked.
        return finished_lane(&env, plan, &checkpoint).await;
    }
    let mut source_budget = env.budget(Side::Source);
    let mut source = match link::source(&env, &mut source_budget, plan.source_db, None).await? {
        Waited::Ready(link) => link,
        Waited::Stopped(reason) => return Ok(LaneEnd::Stopped(reason)),
    };
    let targets = match targets(&env, plan).await? {
        Waited::Ready(links) => links,
        Waited::Stopped(reason) => return Ok(LaneEnd::Stopped(reason)),
    };
    let target_identity = targets[0].identity.clone();
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
    let rules = rules(context, &source, &targets);
    // What a dead run, or an earlier pass, wrote without being able to record it.
    let in_doubt = match (checkpoint.pass, env.run) {
        (1, 1) => 0,
        (1, _) => 2 * IN_FLIGHT_BATCHES_MAX,
        _ => u64::MAX,
    };
    let lane = Lane::new(
        rules,
        checkpoint.pass,
        checkpoint.position,
        checkpoint.next_seq,
        targets.len(),
        in_doubt,
    );
    drive(context, index, lane, source, targets).await
}

/// The connections to the target.
async fn targets(env: &Rc<Env>, plan: LanePlan) -> Result<Waited<Vec<Link>>, Error> {
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
    let attempt = async |_| link::suspect(env, checkpoint, plan.target_db, now).await;
    retrying(env, Side::Target, &mut budget, None, attempt).await
}

/// A lane that an earlier run brought to its end counts if the target still is who said so.
async fn finished_lane(
    env: &Rc<Env>,
    plan: LanePlan,
    checkpoint: &LaneCheckpoint,
) -> Result<LaneEnd, Error> {
    let mut budget = env.budget(Side::Target);
    let link = match link::target(env, &mut budget, plan.target_db, None).await? {
        Waited::Ready(link) => link,
        Waited::Stopped(reason) => return Ok(LaneEnd::Stopped(reason)),
    };
    match suspect(env, checkpoint, plan, &link.identity).await? {
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
    let (scan_type, _) = Rules::filter(&env.request.plan, source.scan_type);
    let filter = CanaryFilter {
        match_glob: env.request.plan.match_glob.as_deref(),
        scan_type,
    };
    let Link { wire, identity, .. } = source;
    let ask = async || -> Result<Canary, LinkError> {
        resume::ask_canary(wire, &checkpoint.canary, &filter).await
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
                .with_store(move |store| store.update_identity(lane, source, target))
        }
    };
    written.await.map_err(lost_store)??;
    Ok(checkpoint)
}

/// What plan, options and both servers make of every key.
fn rules(context: &Context, source: &Link, targets: &[Link]) -> Rules {
    let env = &context.env;
    let plan = &env.request.plan;
    let target = &targets[0];
    let (scan_type, ask_types) = Rules::filter(plan, source.scan_type);
    let skew = match (source.clock, target.clock) {
        (Some(source), Some(target)) => Some(target.ahead_of(&source)),
        _ => None,
    };
    let agree = skew.is_some_and(|ms| ms.abs() <= CLOCKS_AGREE_MS);
    if let Some(ms) = skew.filter(|_| !agree) {
        let side = if ms > 0 { "ahead of" } else { "behind" };
        env.warn(format!(
            "the target's clock is {:.1} s {side} the source's: keys keep the time they have left, not the instant of their expiry",
            ms.abs() as f64 / 1000.0
        ));
    }
    Rules {
        batch_keys: env.request.options.batch_keys,
        match_glob: plan.match_glob.clone(),
        scan_type,
        ask_types,
        read_with: env.request.options.read_with,
        on_conflict: plan.on_conflict,
        ttl: plan.ttl,
        field_ttl: plan.field_ttl,
        takes: target
            .takes
            .clone()
            .expect("a connection to a target knows what it takes"),
        expire_time: agree && source.absolute_expiry && target.absolute_expiry,
        absttl: target.absolute_expiry,
        source_clock: source.clock,
        target_clock: target.clock,
        payload_bytes_max: context.facts().payload_bytes_max,
        in_flight_bytes_max: env.request.options.in_flight_bytes_max,
        quarantined_max: env.request.options.max_quarantine,
    }
}
