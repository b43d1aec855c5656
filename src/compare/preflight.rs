//! What must be known of both servers before the first key is read.
//!
//! # Invariant
//!
//! Nothing is written here, on either side.

use std::time::Duration;

use super::functions;
use super::link::{Env, Waited, retrying};
use crate::client::LinkError;
use crate::client::control::{Control, Info, Role};
use crate::client::handshake::speaks_resp;
use crate::client::topology::SENTINEL_HINT;
use crate::endpoint::{Endpoint, Side};
use crate::error::{Class, Error};

/// What was found out.
#[derive(Debug, Clone)]
pub struct Facts {
    /// DBSIZE of each lane's source database, in the plan's order, where it may be asked.
    pub keyspace: Vec<Option<u64>>,
}

/// Looks at both servers, waiting for them if need be.
///
/// # Errors
///
/// Servers that this version does not speak to, and one that would be compared with itself.
pub async fn check(env: &Env) -> Result<Waited<Facts>, Error> {
    let mut infos = Vec::new();
    for side in [Side::Source, Side::Target] {
        let endpoint = match side {
            Side::Source => &env.request.source,
            Side::Target => &env.request.target,
        };
        let attempt = async |timeout| ask(endpoint, timeout).await;
        let mut budget = env.budget(side);
        let (info, role) = match retrying(env, side, &mut budget, None, attempt).await? {
            Waited::Ready(asked) => asked,
            Waited::Stopped(reason) => return Ok(Waited::Stopped(reason)),
        };
        must_be_single(side, &info, role)?;
        if role == Role::Replica {
            env.warn(format!(
                "the {side} is a replica: it lags behind its master and hides expired keys a little early"
            ));
        }
        infos.push(info);
    }
    must_differ(env, &infos)?;
    functions::compare(env, &infos).await;
    let mut keyspace = Vec::new();
    for lane in &env.request.plan.lanes {
        let attempt = async |timeout| {
            let mut control =
                Control::connect(&env.request.source, lane.source_db, timeout).await?;
            control.dbsize().await
        };
        let mut budget = env.budget(Side::Source);
        match retrying(env, Side::Source, &mut budget, None, attempt).await? {
            Waited::Ready(keys) => keyspace.push(keys),
            Waited::Stopped(reason) => return Ok(Waited::Stopped(reason)),
        }
    }
    Ok(Waited::Ready(Facts { keyspace }))
}

async fn ask(endpoint: &Endpoint, timeout: Duration) -> Result<(Info, Role), LinkError> {
    // Our own codec shows what a server said that is none of Redis; the crate's parser would not.
    speaks_resp(endpoint, timeout).await?;
    let mut control = Control::connect(endpoint, 0, timeout).await?;
    let info = control.info().await?;
    let role = control.role(&info).await?;
    Ok((info, role))
}

/// Neither a cluster's node nor a sentinel.
fn must_be_single(side: Side, info: &Info, role: Role) -> Result<(), Error> {
    let mode = info
        .get("redis_mode")
        .map(String::as_str)
        .unwrap_or_default();
    let (cause, hint) = if mode == "sentinel" || role == Role::Sentinel {
        (
            "it is a sentinel: it watches servers and has no keys",
            SENTINEL_HINT,
        )
    } else if mode == "cluster" {
        (
            "it is a node of a cluster, which this version of redknot does not speak to",
            "only single servers, with or without replicas, for now",
        )
    } else {
        return Ok(());
    };
    let doing = format!("use the {side}");
    Err(Error::new(Class::Usage, doing, cause).on(side).hint(hint))
}

/// A database that is compared with itself is equal and proves nothing.
fn must_differ(env: &Env, infos: &[Info]) -> Result<(), Error> {
    let run_id = |side: usize| {
        infos[side]
            .get("run_id")
            .filter(|id| !id.is_empty())
            .cloned()
    };
    let lanes = &env.request.plan.lanes;
    let itself = lanes.iter().find(|lane| lane.source_db == lane.target_db);
    match (run_id(0), run_id(1), itself) {
        (Some(source), Some(target), Some(lane)) if source == target => {
            let cause = format!(
                "source and target are the same server (run_id {}), and database {} would be compared with itself",
                source.get(..12).unwrap_or(&source),
                lane.source_db
            );
            Err(Error::new(Class::Topology, "compare", cause)
                .hint("give another server, or another database of it (--to redis://…/1)"))
        }
        _ => Ok(()),
    }
}
