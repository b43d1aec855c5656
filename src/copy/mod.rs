//! Source to target: every key once at least, and never less.
//!
//! [`run`] is the whole of it: open the state, look at both servers, walk lane after lane, and say how it ended.
//! [`lane`] decides about keys and does no I/O, [`engine`] moves bytes, [`resume`] judges stored cursors,
//! [`preflight`] says what would be unsafe.
//!
//! # Invariant
//!
//! A batch is handed to the state store only when each of its keys has an outcome, and nothing is shown as done
//! before the store says that it is durable.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::audit::entry::Setting;
use crate::databases::{self, Whereabouts};
use crate::endpoint::{Endpoint, Side};
use crate::error::{Class, Error};
use crate::plan::Plan;
use crate::progress::{Event, Limits, Observer, RunState, Status};
use crate::shutdown::{Shutdown, StopReason};
use crate::state::record::{Phase, Position};
use crate::state::{self, Durability, NewList, OpenRequest, Store};

pub mod batch;
mod beside;
mod big;
mod doubt;
mod engine;
mod evictions;
mod functions;
pub mod lane;
mod link;
mod list;
mod memory;
mod nodes;
pub mod pieces;
mod preflight;
mod recorded;
mod report;
pub mod resume;
mod rivals;
mod room;
mod scan;
mod sentinel;
mod served;
mod slots;
mod strays;
mod walk;
pub mod window;
mod writing;

use engine::Context;
use functions::Stage;
use sentinel::Objection;
use walk::{LaneEnd, copy_lane};

/// How fast and how carefully, as opposed to what: none of this is part of the plan.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// COUNT of each SCAN, and so about the keys of a batch.
    pub batch_keys: u32,
    /// Connections to the target.
    pub connections: u32,
    /// Payload bytes held in memory at once. One larger payload is admitted alone.
    pub in_flight_bytes_max: u64,
    /// Keys of this many bytes, and larger ones, are copied in pieces; `None`: none is.
    pub big_key: Option<u64>,
    /// How values are asked for.
    pub read_with: ReadWith,
    /// How they are written.
    pub write_with: WriteWith,
    /// What it keeps to.
    pub limits: Limits,
    /// How long a side may be away, without progress, until the run gives up.
    pub max_unavailable: Duration,
    /// How long a connect may take, and a due answer at first.
    pub timeout: Duration,
    /// How long batches in flight may take to their end after a stop was asked for.
    pub grace: Duration,
    /// What to do if the source is another process than before.
    pub on_source_change: OnSourceChange,
    /// Continue a stored cursor without proof that it is alive.
    pub trust_cursor: bool,
    /// Count on what an earlier process of the target acknowledged.
    pub trust_target: bool,
    /// Scan again what is complete.
    pub new_pass: bool,
    /// What a checkpoint survives.
    pub durability: Durability,
    /// Carry the libraries of functions too.
    pub functions: bool,
    /// More quarantined keys than this end the run.
    pub max_quarantine: Option<u64>,
    /// Keep the digest of each key.
    pub record_digests: bool,
}

/// What to do if the source is another process than the one that issued the stored cursor, and the cursor is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSourceChange {
    /// Scan from the beginning again.
    NewPass,
    /// End the run and let the operator decide.
    Fail,
}

/// How the source is asked for values. It is a matter of cost: what arrives is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadWith {
    /// Strings by MGET wherever that costs the source less, everything else by DUMP.
    Auto,
    /// Everything by DUMP: strings arrive compressed, and with a checksum that the source has made.
    Dump,
}

/// How the target is given values. It is a matter of cost: what arrives is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteWith {
    /// Strings that were read as strings by SET wherever that costs the target less, everything else by RESTORE.
    Auto,
    /// Everything by RESTORE: the target checks a checksum before it takes a value.
    Restore,
}

/// All that a run is given.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is to be moved.
    pub plan: Plan,
    /// Where from, with credentials.
    pub source: Endpoint,
    /// Where to, with credentials.
    pub target: Endpoint,
    /// How.
    pub options: CopyOptions,
    /// Name of the migration; by default made from the plan.
    pub name: Option<String>,
    /// Folder of all migrations.
    pub state_dir: PathBuf,
    /// Set an existing state aside and begin anew.
    pub restart: bool,
    /// The list that the plan means, if it has just been read.
    pub new_list: Option<NewList>,
    /// What the command line, the environment and a file said, for the journal.
    pub settings: Vec<Setting>,
}

/// How a run ended that did not fail.
#[derive(Debug, Clone)]
pub enum CopyEnd {
    /// Every lane is at its end.
    Complete {
        /// The last one.
        status: Status,
        /// It was so before this run; nothing was sent.
        already: bool,
        /// Why it should not be counted on: the target is another process than the one that acknowledged.
        suspect: Option<String>,
    },
    /// Stopped on request; a checkpoint is saved.
    Stopped {
        /// Who asked.
        reason: StopReason,
        /// The last one.
        status: Status,
    },
}

/// Copies what the plan names, from where an earlier run of the same migration left off.
///
/// Blocks until the migration is complete, a stop was asked for, or it can't go on. Whatever the end, what was
/// acknowledged is on disk when it returns.
///
/// # Errors
///
/// [`Error::class`] says whether the same command may be run again.
pub fn run(
    request: Request,
    observer: Rc<dyn Observer>,
    shutdown: Shutdown,
) -> Result<CopyEnd, Error> {
    let mut request = request;
    let name = request
        .name
        .clone()
        .unwrap_or_else(|| request.plan.default_name());
    let whereabouts = Whereabouts {
        state_dir: &request.state_dir,
        name: &name,
        restart: request.restart,
        source: &request.source,
        max_unavailable: request.options.max_unavailable,
        timeout: request.options.timeout,
    };
    if let Some(reason) =
        databases::resolve(&mut request.plan, &whereabouts, &*observer, &shutdown)?
    {
        return Ok(CopyEnd::Stopped {
            reason,
            status: Status {
                migration: name,
                ..Status::default()
            },
        });
    }
    let store = state::open(&OpenRequest {
        state_dir: &request.state_dir,
        name: &name,
        plan: &request.plan,
        restart: request.restart,
        durability: request.options.durability,
        command: "redknot migrate",
    })
    .map_err(Error::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Class::Usage, "start", error.to_string()))?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, run_on(store, request, observer, shutdown))
}

async fn run_on(
    mut store: Store,
    mut request: Request,
    observer: Rc<dyn Observer>,
    shutdown: Shutdown,
) -> Result<CopyEnd, Error> {
    let phase = store.meta().phase;
    request.source.also_at(store.met(Side::Source));
    request.target.also_at(store.met(Side::Target));
    let list = match store.key_list(request.new_list.as_ref()) {
        Ok(list) => list,
        Err(error) => {
            let error = Error::from(error);
            store.end_run(&error.to_string())?;
            return Err(error);
        }
    };
    let note = match recorded::note(&store, &request) {
        Ok(note) => note,
        Err(error) => {
            store.end_run(&error.to_string())?;
            return Err(error);
        }
    };
    let mut context = Context::new(store, list, request, observer, shutdown);
    note.into_iter().for_each(|note| context.env.warn(note));
    let ended = match phase {
        Phase::Copied if !context.request.options.new_pass => already_complete(&mut context).await,
        Phase::Planned | Phase::Copying | Phase::Copied => copy(&mut context, phase).await,
    };
    close(context, ended).await
}

/// Walks lane after lane; a lane whose past can't be trusted is walked again.
async fn copy(context: &mut Context, phase: Phase) -> Result<Ended, Error> {
    context.say_start();
    let facts = match link::preflight(context, phase).await? {
        link::Waited::Ready(facts) => facts,
        link::Waited::Stopped(reason) => return Ok(Ended::Stopped(reason)),
    };
    context.learn(facts);
    context.count_served().await;
    if context.request.options.functions
        && let link::Waited::Stopped(reason) = functions::between(context, Stage::Check).await?
    {
        return Ok(Ended::Stopped(reason));
    }
    context
        .recorder
        .with_store(|store| store.set_phase(Phase::Copying))
        .await
        .map_err(lost_store)??;
    let lanes = context.request.plan.lanes.len();
    let mut forced: Vec<Option<String>> = vec![None; lanes];
    if phase == Phase::Copied {
        forced.fill(Some("a new pass was asked for (--new-pass)".to_owned()));
    }
    let mut index = 0;
    let mut again = false;
    loop {
        if index == lanes {
            match sentinel::objection(context).await? {
                None => break,
                Some(Objection::Stopped(reason)) => return Ok(Ended::Stopped(reason)),
                Some(Objection::Suspect(reason)) => {
                    begin_all_anew(context, &mut forced, &reason);
                    index = 0;
                }
            }
        }
        let begun_before = std::mem::take(&mut again);
        match copy_lane(context, index, forced[index].take(), begun_before).await? {
            LaneEnd::Complete => {
                if let Some(reason) = big::sweep(context, index).await? {
                    return Ok(Ended::Stopped(reason));
                }
                index += 1;
            }
            LaneEnd::Stopped(reason) => return Ok(Ended::Stopped(reason)),
            LaneEnd::NewPass(reason) => forced[index] = Some(reason),
            LaneEnd::Again => again = true,
            // What the target acknowledged is in doubt, in whichever lane.
            LaneEnd::TargetSuspect(reason) => {
                begin_all_anew(context, &mut forced, &reason);
                index = 0;
            }
        }
    }
    if context.request.options.functions
        && let link::Waited::Stopped(reason) = functions::between(context, Stage::Carry).await?
    {
        return Ok(Ended::Stopped(reason));
    }
    preflight::say_what_came_later(&context.env).await;
    let lanes = context.lanes();
    assert!(
        lanes
            .iter()
            .all(|lane| lane.position == Position::End && lane.counters.balance()),
        "complete means: every lane at its end and every key accounted for"
    );
    context
        .recorder
        .with_store(|store| store.set_phase(Phase::Copied))
        .await
        .map_err(lost_store)??;
    Ok(Ended::Complete {
        already: false,
        suspect: None,
    })
}

/// What the target acknowledged does not count, for the reason that is given.
fn begin_all_anew(context: &Context, forced: &mut [Option<String>], reason: &str) {
    for (lane, forced) in context.lanes().iter().zip(forced) {
        if lane.pass > 0 {
            *forced = Some(reason.to_owned());
        }
    }
}

/// A migration that an earlier run completed: nothing is sent, but functions if they are asked for. Whether the target still is who acknowledged is asked,
/// once and politely; the source may be gone for good.
async fn already_complete(context: &mut Context) -> Result<Ended, Error> {
    let suspect = link::target_changed_since(context).await;
    if context.request.options.functions
        && let link::Waited::Stopped(reason) = functions::between(context, Stage::Carry).await?
    {
        return Ok(Ended::Stopped(reason));
    }
    Ok(Ended::Complete {
        already: true,
        suspect,
    })
}

enum Ended {
    Complete {
        already: bool,
        suspect: Option<String>,
    },
    Stopped(StopReason),
}

/// Saves what is pending, records how the run ended, and writes the last status.
async fn close(mut context: Context, ended: Result<Ended, Error>) -> Result<CopyEnd, Error> {
    let (state, how) = match &ended {
        Ok(Ended::Complete { .. }) => (RunState::Complete, "complete".to_owned()),
        Ok(Ended::Stopped(reason)) => (RunState::Stopped, format!("stopped by {}", reason.name())),
        Err(error) => (RunState::Failed, error.to_string()),
    };
    if ended.is_ok() && context.env.evictions.may_happen() {
        memory::count_evicted(&context.env).await;
    }
    context.tell_evicted();
    // A store that refuses this refuses the end as well, and says why then.
    let _ = context.tell_served(ended.is_err()).await;
    let class = ended.as_ref().err().map(|error| error.class);
    let saved = context.finish(state, how, class).await;
    match (ended, saved) {
        // The first trouble is the cause; a state store that can't be closed after it adds nothing.
        (Err(error), _) => Err(error),
        (Ok(_), Err(error)) => Err(error),
        (Ok(Ended::Complete { already, suspect }), Ok((status, observer))) => {
            observer.event(&Event::Complete(Box::new(status.clone())));
            Ok(CopyEnd::Complete {
                status,
                already,
                suspect,
            })
        }
        (Ok(Ended::Stopped(reason)), Ok((status, _))) => Ok(CopyEnd::Stopped { reason, status }),
    }
}

/// The state store's thread is gone without an answer; it has said why through its last checkpoint.
fn lost_store(_: tokio::sync::oneshot::error::RecvError) -> Error {
    Error::new(
        Class::StateIo,
        "use the state store",
        "it has stopped after an error",
    )
    .hint("look at the disk of --state-dir, then run the same command to continue")
}
