//! The copy's interface; what is behind it is not here yet.

use std::path::PathBuf;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::error::{Class, Error};
use crate::plan::Plan;
use crate::progress::{Observer, Status};
use crate::shutdown::{Shutdown, StopReason};
use crate::state::Durability;

/// How a run behaves.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct CopyOptions {
    pub batch_keys: u32,
    pub connections: u32,
    pub in_flight_bytes_max: u64,
    pub max_unavailable: Duration,
    pub timeout: Duration,
    pub grace: Duration,
    pub on_source_change: OnSourceChange,
    pub trust_cursor: bool,
    pub trust_target: bool,
    pub new_pass: bool,
    pub durability: Durability,
    pub max_quarantine: Option<u64>,
}

/// What happens when the source is not the server process it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum OnSourceChange {
    NewPass,
    Fail,
}

/// What to do.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Request {
    pub plan: Plan,
    pub source: Endpoint,
    pub target: Endpoint,
    pub options: CopyOptions,
    pub name: Option<String>,
    pub state_dir: PathBuf,
    pub restart: bool,
}

/// How it ended.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum CopyEnd {
    Complete { status: Status, already: bool },
    Stopped { reason: StopReason, status: Status },
}

/// Copies.
///
/// # Errors
///
/// Always.
pub fn run(
    _request: Request,
    _observer: &dyn Observer,
    _shutdown: Shutdown,
) -> Result<CopyEnd, Error> {
    Err(Error::new(Class::Incompatible, "copy", "not built yet"))
}
