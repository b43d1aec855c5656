//! What must be known of both servers before the first key moves.
//!
//! # Invariant
//!
//! Nothing is written here, on either side.

use std::time::Duration;

use super::Request;
use crate::client::control::{Control, Info, Role};
use crate::client::topology::{Asked, Refusal, different_servers};
use crate::endpoint::{Endpoint, Side};
use crate::error::{Class, Error};
use crate::plan::{LanePlan, OnConflict};
use crate::state::record::Phase;

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
    target.must_take_writes()?;
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
    let payload_bytes_max = target.payload_bytes_max().await?;
    Ok(Facts {
        keyspace,
        payload_bytes_max,
        warnings,
    })
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
