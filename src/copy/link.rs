//! Getting a connection, and getting it back.
//!
//! # Invariant
//!
//! A stop that is asked for ends every wait here at once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Request;
use super::engine::Context;
use super::evictions::Evictions;
use super::lane::Ways;
use super::preflight::{self, Facts};
use crate::audit::entry::ThrottleKind;
use crate::client::canary::same_process;
use crate::client::control::Control;
use crate::client::retry::{Budget, Verdict};
use crate::client::topology::{Refusal, is_cluster};
use crate::client::{Link, LinkError, Nodes, connect_source, connect_target};
use crate::endpoint::Side;
use crate::error::Error;
use crate::pace;
use crate::plan::LanePlan;
use crate::progress::{BigKeyStatus, Event, FunctionsStatus, HeldBy, Observer};
use crate::renaming::Renaming;
use crate::selection::Selection;
use crate::shutdown::{Shutdown, StopReason};
use crate::state::Pulse;
use crate::state::record::{LaneCheckpoint, Phase, ServerIdentity};

/// What every part of a run shares.
pub struct Env {
    /// What the run was given.
    pub request: Request,
    /// Name of the migration.
    pub name: String,
    /// Number of this run.
    pub run: u32,
    /// Who is told.
    pub observer: Rc<dyn Observer>,
    /// Whether a stop has been asked for.
    pub shutdown: Shutdown,
    /// What the copy feels, for the journal.
    pub pulse: Pulse,
    /// By lane, the pass that was made anew from the journal, if one was.
    pub rebuilt: Vec<Option<u32>>,
    /// Failures of a side that were tried again.
    pub retries: Cell<u64>,
    /// Why the copy waits, if it does.
    pub throttle: RefCell<Option<(HeldBy, String)>>,
    /// What the copy keeps to.
    pub pace: pace::Shared,
    /// Keys that the target has evicted since the run began.
    pub evictions: Evictions,
    /// The nodes of source and target, where these are clusters.
    pub clusters: RefCell<[Option<Rc<Nodes>>; 2]>,
    /// How keys are read and written, once a lane has begun.
    pub ways: Cell<Option<Ways>>,
    /// What became of the libraries of functions in this run.
    pub functions: RefCell<Option<FunctionsStatus>>,
    /// The big key that is being copied.
    pub big_key: RefCell<Option<BigKeyStatus>>,
}

/// What came of waiting.
pub enum Waited<T> {
    /// It came.
    Ready(T),
    /// A stop was asked for first.
    Stopped(StopReason),
}

impl Env {
    /// How this run's connections are called on the servers.
    pub fn client_name(&self) -> String {
        // CLIENT SETNAME takes no spaces and no control characters.
        let name: String = self.name.chars().filter(char::is_ascii_graphic).collect();
        format!("redknot:{name}:{}", self.run)
    }

    /// The nodes of one side, if it is a cluster.
    pub fn cluster(&self, side: Side) -> Option<Rc<Nodes>> {
        self.clusters.borrow()[side as usize].clone()
    }

    /// A full budget for one side.
    pub fn budget(&self, side: Side) -> Budget {
        Budget::new(
            side,
            self.request.options.max_unavailable,
            self.request.options.timeout,
        )
    }

    /// Remembers how keys are read and written, and logs when that changes.
    pub fn goes_by(&self, now: Ways) {
        if self.ways.replace(Some(now)) != Some(now) {
            let Ways {
                strings,
                strings_written,
                expiries,
            } = now;
            tracing::info!("{strings}, {strings_written}; {expiries}");
        }
    }

    /// See [`Store::rebuilt_pass`](crate::state::Store::rebuilt_pass).
    pub fn rebuilt_pass(&self, lane: usize) -> Option<u32> {
        self.rebuilt.get(lane).copied().flatten()
    }

    /// Tells the operator something; the run goes on.
    pub fn warn(&self, message: String) {
        self.observer.event(&Event::Warning { message });
    }
}

/// Tries until it works, the budget is used up, or a stop is asked for. With `failure`, a wait comes first.
pub async fn retrying<T>(
    env: &Env,
    side: Side,
    budget: &mut Budget,
    mut failure: Option<LinkError>,
    attempt: impl AsyncFn(Duration) -> Result<T, LinkError>,
) -> Result<Waited<T>, Error> {
    let mut shutdown = env.shutdown.clone();
    let mut failed_before = false;
    loop {
        if let Some(error) = failure.take() {
            failed_before = true;
            if let Some(reason) = pause(env, side, budget, &error).await? {
                return Ok(Waited::Stopped(reason));
            }
        }
        let result = tokio::select! {
            result = attempt(budget.silence_max()) => result,
            reason = shutdown.wait() => return Ok(Waited::Stopped(reason)),
        };
        match result {
            Ok(value) => {
                budget.contact();
                if failed_before {
                    recovered(env, side);
                }
                return Ok(Waited::Ready(value));
            }
            Err(error) => failure = Some(error),
        }
    }
}

/// Waits before the next try, as long as the budget says; returns early, and why, if a stop is asked for.
async fn pause(
    env: &Env,
    side: Side,
    budget: &mut Budget,
    error: &LinkError,
) -> Result<Option<StopReason>, Error> {
    let (wait, attempt) = match budget.failed(error, Instant::now()) {
        Verdict::Wait { wait, attempt } => (wait, attempt),
        Verdict::GiveUp(error) => return Err(*error),
    };
    env.retries.set(env.retries.get() + 1);
    env.pulse.waits(side, kind(error), &error.to_string());
    *env.throttle.borrow_mut() = Some((side.into(), format!("{side}: {error}")));
    env.observer.event(&Event::Retry {
        side,
        cause: error.to_string(),
        attempt,
        wait_ms: wait.as_millis() as u64,
    });
    let mut shutdown = env.shutdown.clone();
    tokio::select! {
        () = tokio::time::sleep(wait) => Ok(None),
        reason = shutdown.wait() => Ok(Some(reason)),
    }
}

/// Whether the server is gone, or answers that it can't serve at the moment.
fn kind(error: &LinkError) -> ThrottleKind {
    match error {
        LinkError::Reply(..) | LinkError::Elsewhere(_) => ThrottleKind::Refused,
        _ => ThrottleKind::Lost,
    }
}

fn recovered(env: &Env, side: Side) {
    env.pulse.answers(side);
    env.throttle.borrow_mut().take();
    env.observer.event(&Event::Recovered { side });
}

/// A connection that reads database `db` of the source.
pub async fn source(
    env: &Env,
    budget: &mut Budget,
    db: u32,
    failure: Option<LinkError>,
) -> Result<Waited<Link>, Error> {
    let name = env.client_name();
    let attempt = async |timeout| connect_source(&env.request.source, db, &name, timeout).await;
    retrying(env, Side::Source, budget, failure, attempt).await
}

/// A connection that writes database `db` of the target.
pub async fn target(
    env: &Env,
    budget: &mut Budget,
    db: u32,
    failure: Option<LinkError>,
) -> Result<Waited<Link>, Error> {
    let name = env.client_name();
    let attempt = async |timeout| connect_target(&env.request.target, db, &name, timeout).await;
    retrying(env, Side::Target, budget, failure, attempt).await
}

/// Looks at both servers, waiting for them if need be.
pub async fn preflight(context: &mut Context, phase: Phase) -> Result<Waited<Facts>, Error> {
    let env = Rc::clone(&context.env);
    let mut shutdown = env.shutdown.clone();
    let mut budgets = [env.budget(Side::Source), env.budget(Side::Target)];
    let mut failed_before: Option<Side> = None;
    loop {
        let checked = tokio::select! {
            checked = preflight::check(&env.request, phase) => checked,
            reason = shutdown.wait() => return Ok(Waited::Stopped(reason)),
        };
        let (side, error) = match checked {
            Ok(facts) => {
                if let Some(side) = failed_before {
                    recovered(&env, side);
                }
                return Ok(Waited::Ready(facts));
            }
            Err(Refusal::Error(error)) => return Err(*error),
            Err(Refusal::Link(side, error)) => (side, error),
        };
        failed_before = Some(side);
        if let Some(reason) = pause(&env, side, &mut budgets[side as usize], &error).await? {
            return Ok(Waited::Stopped(reason));
        }
    }
}

/// Why the acknowledgements of `checkpoint` can't be counted on, if they can't.
///
/// An acknowledgement is as durable as the process that gave it: after a restart or a failover the keys may be gone.
pub async fn suspect(
    env: &Env,
    checkpoint: &LaneCheckpoint,
    lane: LanePlan,
    now: &ServerIdentity,
) -> Result<Option<String>, LinkError> {
    let same = same_process(&checkpoint.target, now);
    if checkpoint.pass == 0 || same == Some(true) || checkpoint.canary.is_empty() {
        return Ok(None);
    }
    let plan = &env.request.plan;
    let selection = Selection::of(plan);
    let renaming = Renaming::of(plan, lane.source_db);
    let names: Vec<Vec<u8>> = checkpoint
        .canary
        .iter()
        .flat_map(|batch| batch.keys.iter())
        .filter(|name| {
            selection
                .as_ref()
                .is_none_or(|selection| selection.contains(name))
        })
        .map(|name| renaming.to_target(name))
        .collect();
    let timeout = env.request.options.timeout;
    let found = match env.cluster(Side::Target) {
        Some(nodes) => {
            nodes
                .count_existing(&names, lane.target_db, timeout)
                .await?
        }
        None => {
            let mut control =
                Control::connect(&env.request.target, lane.target_db, timeout).await?;
            control.count_existing(&names).await?
        }
    };
    let sample = format!(
        "{found} of the {} keys acknowledged last exist",
        names.len()
    );
    Ok(match same {
        Some(_) if env.request.options.trust_target && found > 0 => {
            env.warn(format!(
                "the target is another process than the one that acknowledged (run_id changed); {sample}; trusted because of --trust-target"
            ));
            None
        }
        Some(_) => Some(format!(
            "the target is another process than the one that acknowledged (run_id changed; {sample}), so its acknowledgements are suspect"
        )),
        // Without an identity only emptiness can be noticed.
        None if names.is_empty() && env.rebuilt.iter().flatten().any(|pass| *pass == checkpoint.pass) => Some(
            "the target can't be identified (no run_id), and the names of the keys that it acknowledged last were lost with the state, so its acknowledgements are suspect"
                .to_owned(),
        ),
        None if found == 0 && !names.is_empty() => Some(format!(
            "the target can't be identified (no run_id) and {sample}, so its acknowledgements are suspect"
        )),
        None => None,
    })
}

/// Whether the target of a complete migration still is the process that acknowledged it; the reason, if it is not.
/// A target that can't be reached is no reason.
pub async fn target_changed_since(context: &Context) -> Option<String> {
    let env = &context.env;
    let timeout = env.request.options.timeout;
    let checkpoint = context.lanes().into_iter().next()?;
    let lane = *env.request.plan.lanes.first()?;
    let mut control = Control::connect(&env.request.target, 0, timeout)
        .await
        .ok()?;
    let info = control.info().await.ok()?;
    let now = match is_cluster(&info) {
        true => {
            let nodes = Nodes::discover(&env.request.target, timeout).await.ok()?;
            let now = nodes.identity(timeout).await.ok()?;
            env.clusters.replace([None, Some(Rc::new(nodes))]);
            now
        }
        false => ServerIdentity {
            run_id: info.get("run_id").cloned(),
            version: String::new(),
        },
    };
    suspect(env, &checkpoint, lane, &now).await.ok().flatten()
}
