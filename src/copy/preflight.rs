//! What must be known of both servers before the first key moves.
//!
//! # Invariant
//!
//! Nothing is written here, on either side.

use std::time::Duration;

use super::Request;
use crate::client::LinkError;
use crate::client::control::{Control, Info, Role};
use crate::client::handshake::speaks_resp;
use crate::endpoint::{Endpoint, Side};
use crate::error::{Class, Error};
use crate::plan::{LanePlan, OnConflict};
use crate::state::record::Phase;

/// Redis takes no argument above this, unless its operator has raised the limit.
const PROTO_MAX_BULK_LEN: u64 = 512 * 1024 * 1024;

/// What was found out.
#[derive(Debug, Clone)]
pub struct Facts {
    /// DBSIZE of each lane's source database, in the plan's order, where it may be asked.
    pub keyspace: Vec<Option<u64>>,
    /// Largest argument that the target takes.
    pub payload_bytes_max: u64,
    /// What the operator should know before the start.
    pub warnings: Vec<String>,
}

/// Why the preflight ended.
pub enum Refusal {
    /// Trouble with one side; may be tried again.
    Link(Side, LinkError),
    /// This can't be done.
    Error(Box<Error>),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(Box::new(error))
    }
}

/// Looks at both servers.
///
/// # Errors
///
/// Topologies that would lose or mix up data, and a target that is not empty although nobody said what to do then.
pub async fn check(request: &Request, phase: Phase) -> Result<Facts, Refusal> {
    let timeout = request.options.timeout;
    let source = Asked::connect(Side::Source, &request.source, timeout).await?;
    let mut target = Asked::connect(Side::Target, &request.target, timeout).await?;
    let mut warnings = Vec::new();
    source.must_be_single()?;
    target.must_be_single()?;
    different_servers(&source.info, &target.info, &request.plan.lanes)?;
    match target.role {
        Role::Replica => {
            return Err(Error::new(
                Class::Topology,
                "use the target",
                "it is a replica, and replicas refuse writes",
            )
            .on(Side::Target)
            .hint("give --to the address of its master (INFO replication, master_host)")
            .into());
        }
        Role::Master | Role::Unknown | Role::Sentinel => {}
    }
    if source.role == Role::Replica {
        warnings.push(
            "the source is a replica: it lags behind its master, hides expired keys a little early, and its cursors die with it"
                .to_owned(),
        );
    }
    warnings.extend(eviction(&target.info));
    let lanes = &request.plan.lanes;
    if phase == Phase::Planned && request.plan.on_conflict == OnConflict::RequireEmpty {
        must_be_empty(request, lanes).await?;
    }
    let mut keyspace = Vec::with_capacity(lanes.len());
    for lane in lanes {
        keyspace.push(dbsize(Side::Source, &request.source, lane.source_db, timeout).await?);
    }
    let limit = target
        .control
        .config("proto-max-bulk-len")
        .await
        .map_err(|error| Refusal::Link(Side::Target, error))?;
    let payload_bytes_max = limit
        .and_then(|bytes| bytes.parse().ok())
        .unwrap_or(PROTO_MAX_BULK_LEN);
    Ok(Facts {
        keyspace,
        payload_bytes_max,
        warnings,
    })
}

/// One side and what it says of itself.
struct Asked {
    side: Side,
    control: Control,
    info: Info,
    role: Role,
}

impl Asked {
    async fn connect(side: Side, endpoint: &Endpoint, timeout: Duration) -> Result<Self, Refusal> {
        let failed = |error| Refusal::Link(side, error);
        // Our own codec shows what a server said that is none of Redis; the crate's parser would not.
        speaks_resp(endpoint, timeout).await.map_err(failed)?;
        let mut control = Control::connect(endpoint, 0, timeout)
            .await
            .map_err(failed)?;
        let info = control.info().await.map_err(failed)?;
        let role = control.role(&info).await.map_err(failed)?;
        Ok(Self {
            side,
            control,
            info,
            role,
        })
    }

    /// Neither a cluster's node nor a sentinel.
    fn must_be_single(&self) -> Result<(), Refusal> {
        let mode = self
            .info
            .get("redis_mode")
            .map(String::as_str)
            .unwrap_or_default();
        if mode == "sentinel" || self.role == Role::Sentinel {
            return Err(Error::new(
                Class::Usage,
                format!("use the {}", self.side),
                "it is a sentinel: it watches servers and has no keys",
            )
            .on(self.side)
            .hint(
                "give the address of the master that it watches (SENTINEL GET-MASTER-ADDR-BY-NAME)",
            )
            .into());
        }
        if mode == "cluster" {
            return Err(Error::new(
                Class::Usage,
                format!("use the {}", self.side),
                "it is a node of a cluster, which this version of redknot does not speak to",
            )
            .on(self.side)
            .hint("only single servers, with or without replicas, for now")
            .into());
        }
        Ok(())
    }
}

/// The same process under two names would copy keys onto themselves, or databases over each other.
fn different_servers(source: &Info, target: &Info, lanes: &[LanePlan]) -> Result<(), Refusal> {
    let run_id = |info: &Info| info.get("run_id").filter(|id| !id.is_empty()).cloned();
    let (Some(source), Some(target)) = (run_id(source), run_id(target)) else {
        return Ok(());
    };
    let read: Vec<u32> = lanes.iter().map(|lane| lane.source_db).collect();
    let onto_itself = lanes.iter().find(|lane| read.contains(&lane.target_db));
    match onto_itself {
        Some(lane) if source == target => {
            let cause = format!(
                "source and target are the same server (run_id {}), and database {} is both read and written",
                source.get(..12).unwrap_or(&source),
                lane.target_db
            );
            Err(Error::new(Class::Topology, "begin", cause)
                .hint("give another server, or another database of it (--to redis://…/1)")
                .into())
        }
        _ => Ok(()),
    }
}

/// A target that evicts may lose keys while they arrive.
fn eviction(target: &Info) -> Option<String> {
    let limited = target.get("maxmemory").is_some_and(|bytes| bytes != "0");
    let policy = target.get("maxmemory_policy")?;
    (limited && policy != "noeviction").then(|| {
        format!("the target evicts keys when it is full ({policy}): set maxmemory-policy noeviction until the migration is done")
    })
}

async fn dbsize(
    side: Side,
    endpoint: &Endpoint,
    db: u32,
    timeout: Duration,
) -> Result<Option<u64>, Refusal> {
    let failed = |error| Refusal::Link(side, error);
    let mut control = Control::connect(endpoint, db, timeout)
        .await
        .map_err(failed)?;
    control.dbsize().await.map_err(failed)
}

async fn must_be_empty(request: &Request, lanes: &[LanePlan]) -> Result<(), Refusal> {
    let ways = "--on-conflict skip keeps the target's keys, replace overwrites them, fail stops at the first";
    for lane in lanes {
        let db = lane.target_db;
        let error = match dbsize(Side::Target, &request.target, db, request.options.timeout).await?
        {
            Some(0) => continue,
            Some(keys) => {
                let keys = match keys {
                    1 => "1 key".to_owned(),
                    several => format!("{several} keys"),
                };
                let cause = format!(
                    "database {db} has {keys}, and nothing was said about keys that are there already"
                );
                Error::new(Class::TargetNotEmpty, "begin", cause)
            }
            None => Error::new(
                Class::TargetNotEmpty,
                "begin",
                format!("whether database {db} is empty can't be found out (DBSIZE is refused)"),
            ),
        };
        return Err(error.on(Side::Target).hint(ways).into());
    }
    Ok(())
}
