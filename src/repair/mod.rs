//! Makes the target right where a comparison found it wrong.
//!
//! [`preview`] tells from the state what would be done. [`run`] does it, a handful of findings at a time: [`decide`] says
//! what is done about each, [`write`] reads it anew on the source and restores it, [`delete`] removes what only the target
//! has; then both sides are compared again, and what came of it becomes durable.
//!
//! # Invariants
//!
//! - A finding is settled only after both sides were read again and were equal.
//! - A run that dies repeats at most a handful of findings, and repeating them changes nothing: a key is read anew, and
//!   before it is deleted the source is asked again.
//! - The source is only read.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::audit::entry::Setting;
use crate::endpoint::Endpoint;
use crate::error::{Class, Error};
use crate::plan::Plan;
use crate::progress::{Limits, Observer, RepairStatus};
use crate::shutdown::{Shutdown, StopReason};
use crate::state::record::CompareRecord;
use crate::state::{self, Durability, OpenRequest};

mod again;
mod convert;
mod decide;
mod delete;
mod ends;
mod expiry;
mod pace;
mod preview;
mod report;
mod rivals;
mod sides;
mod walk;
mod write;

pub use preview::{Preview, preview};

/// All that a repair is given.
#[derive(Debug, Clone)]
pub struct Request {
    /// What the migration moves, as [`Preview::plan`] says.
    pub plan: Plan,
    /// Where from, with credentials.
    pub source: Endpoint,
    /// Where to, with credentials.
    pub target: Endpoint,
    /// How.
    pub options: RepairOptions,
    /// Name of the migration.
    pub name: String,
    /// Folder of all migrations.
    pub state_dir: PathBuf,
    /// What the command line, the environment and a file said, for the journal.
    pub settings: Vec<Setting>,
}

/// What may be done, and how patiently.
#[derive(Debug, Clone)]
pub struct RepairOptions {
    /// How many keys that only the target has are to be deleted: one of [`Preview::confirmations`].
    pub delete_extra: Option<u64>,
    /// Write over keys that differ although the plan keeps what the target had.
    pub overwrite_kept: bool,
    /// What it keeps to.
    pub limits: Limits,
    /// How long a side may be away, without progress, until the run gives up.
    pub max_unavailable: Duration,
    /// How long a connect may take, and a due answer at first.
    pub timeout: Duration,
}

/// How a run ended that did not fail.
#[derive(Debug, Clone)]
pub enum RepairEnd {
    /// Every finding was tried.
    Done(RepairStatus),
    /// Stopped on request; what was done is recorded.
    Stopped {
        /// Who asked.
        reason: StopReason,
        /// The last one.
        status: RepairStatus,
    },
}

/// What was found without the source is no list of what is to be made like it: of missing keys not even the names are known.
fn refuse_recorded(compare: Option<&CompareRecord>, name: &str) -> Result<(), Error> {
    match compare {
        Some(record) if record.rules.recorded => Err(Error::new(
            Class::Usage,
            "repair",
            "the newest comparison was one with what was recorded, and repairing needs one with the source",
        )
        .hint(format!("redknot compare {name}, while the source is there"))),
        _ => Ok(()),
    }
}

/// Tries every open finding of the migration's newest comparison once.
///
/// Blocks until that is done, a stop was asked for, or it can't go on. Whatever the end, what was repaired is recorded
/// when it returns.
///
/// # Errors
///
/// [`Error::class`] says whether the same command may be run again.
pub fn run(
    request: Request,
    observer: Rc<dyn Observer>,
    shutdown: Shutdown,
) -> Result<RepairEnd, Error> {
    let store = state::open(&OpenRequest {
        state_dir: &request.state_dir,
        name: &request.name,
        plan: &request.plan,
        restart: false,
        durability: Durability::Fsync,
        command: "redknot repair",
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Class::Usage, "start", error.to_string()))?;
    runtime.block_on(walk::walk(store, request, observer, shutdown))
}
