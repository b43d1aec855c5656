//! What must be known of both servers before the first key moves.
//!
//! # Invariant
//!
//! Nothing is written here, on either side.

use std::rc::Rc;
use std::time::Duration;

use super::Request;
use super::link::Env;
use super::room;
use crate::audit::entry::ServerSeen;
use crate::client::Nodes;
use crate::client::control::{Control, Info, Role};
use crate::client::seeds::stand_in;
use crate::client::topology::{
    Asked, Refusal, different_clusters, different_servers, not_replicated, same_server,
};
use crate::databases::came_later;
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
    /// The nodes of the source, if it is a cluster.
    pub source_nodes: Option<Rc<Nodes>>,
    /// The nodes of the target, if it is a cluster.
    pub target_nodes: Option<Rc<Nodes>>,
    /// Who the source is.
    pub source: ServerSeen,
    /// Who the target is.
    pub target: ServerSeen,
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
    let mut source = Asked::connect(Side::Source, &request.source, timeout).await?;
    let mut target = Asked::connect(Side::Target, &request.target, timeout).await?;
    let mut warnings = Vec::new();
    for (side, endpoint) in [
        (Side::Source, &request.source),
        (Side::Target, &request.target),
    ] {
        warnings.extend(stand_in(endpoint, side, timeout).await);
    }
    source.must_have_keys()?;
    target.must_have_keys()?;
    let lanes = &request.plan.lanes;
    let dbs = lanes.iter().map(|lane| lane.source_db);
    let source_nodes = source.nodes(&request.source, timeout, dbs).await?;
    let dbs = lanes.iter().map(|lane| lane.target_db);
    let target_nodes = target.nodes(&request.target, timeout, dbs).await?;
    different_servers(&source.info, &target.info, lanes)?;
    different_addresses(request)?;
    warnings.extend(same_server(&source.info, &target.info, lanes));
    let later = came_later(&request.plan, &request.source, timeout).await;
    warnings.extend(later.map_err(|error| Refusal::Link(Side::Source, error))?);
    different_clusters(source_nodes.as_deref(), target_nodes.as_deref(), lanes)?;
    if source_nodes.is_none() {
        source.must_have_databases_to_read(lanes).await?;
    }
    // Whichever node of a cluster was named, the masters are written.
    if target_nodes.is_none() {
        not_replicated(&source, &target)?;
        target.must_take_writes()?;
        target.must_have_databases(lanes).await?;
    }
    if source.role == Role::Replica && source_nodes.is_none() {
        warnings.extend(replica(&source.info));
    }
    warnings.extend(match target_nodes.as_deref() {
        None => room::evicts(&target.info).map(|policy| evicting("the target", policy)),
        Some(nodes) => evicting_node(nodes, timeout).await,
    });
    if !request.options.functions {
        warnings.extend(left_behind(&source.info));
    }
    if phase == Phase::Planned && request.plan.on_conflict == OnConflict::RequireEmpty {
        must_be_empty(request, lanes, target_nodes.as_deref()).await?;
    }
    let mut keyspace = Vec::with_capacity(lanes.len());
    for lane in lanes {
        if let Some(list) = &request.plan.keys_from {
            keyspace.push(Some(list.keys));
            continue;
        }
        let nodes = source_nodes.as_deref();
        let db = lane.source_db;
        keyspace.push(dbsize(Side::Source, &request.source, nodes, db, timeout).await?);
    }
    let payload_bytes_max = target.payload_bytes_max().await?;
    let keys = keyspace.iter().copied().sum();
    Ok(Facts {
        source: source
            .seen(&request.source, timeout, source_nodes.as_deref(), keys)
            .await?,
        target: target
            .seen(&request.target, timeout, target_nodes.as_deref(), None)
            .await?,
        keyspace,
        payload_bytes_max,
        source_nodes,
        target_nodes,
        warnings,
    })
}

/// Where INFO may not be asked, equal addresses still say that it is one server.
fn different_addresses(request: &Request) -> Result<(), Refusal> {
    let lanes = &request.plan.lanes;
    let read = |db: u32| lanes.iter().any(|lane| lane.source_db == db);
    match lanes.iter().find(|lane| read(lane.target_db)) {
        Some(lane) if request.source.address == request.target.address => {
            let cause = format!(
                "source and target have the same address, and database {} is both read and written",
                lane.target_db
            );
            Err(Error::new(Class::Topology, "begin", cause)
                .hint("give another server, or another database of it (--to redis://…/1)")
                .into())
        }
        _ => Ok(()),
    }
}

/// Says which databases of the source are not in the plan because they got keys only later. Not to be had: nothing is said.
pub async fn say_what_came_later(env: &Env) {
    let (plan, source) = (&env.request.plan, &env.request.source);
    let later = came_later(plan, source, env.request.options.timeout).await;
    if let Ok(Some(warning)) = later {
        env.warn(warning);
    }
}

/// What it means to read a replica.
fn replica(source: &Info) -> Vec<String> {
    let mut warnings = vec![
        "the source is a replica: it lags behind its master, hides expired keys a little early, and its cursors die with it"
            .to_owned(),
    ];
    if source
        .get("master_link_status")
        .is_some_and(|link| link == "down")
    {
        warnings.push(
            "the replica is alone: it has lost its master, so what it has may be old".to_owned(),
        );
    }
    warnings
}

/// A target that evicts may lose keys while they arrive.
fn evicting(who: &str, policy: &str) -> String {
    format!(
        "{who} evicts keys when it is full ({policy}): set maxmemory-policy noeviction until the migration is done"
    )
}

/// The first node of the target that evicts. Whoever can't be asked is looked at again while it is written.
async fn evicting_node(nodes: &Nodes, timeout: Duration) -> Option<String> {
    for node in nodes.masters() {
        let Ok(info) = nodes.info(&node, "memory", timeout).await else {
            continue;
        };
        if let Some(policy) = room::evicts(&info) {
            return Some(evicting(&format!("{node}, a node of the target,"), policy));
        }
    }
    None
}

/// Functions are no keys, and stay where they are unless somebody says so.
fn left_behind(source: &Info) -> Option<String> {
    let libraries = source
        .get("number_of_libraries")
        .filter(|number| *number != "0")?;
    Some(format!(
        "the source has libraries of functions ({libraries}), which are no keys and stay behind: --functions carries them"
    ))
}

async fn dbsize(
    side: Side,
    endpoint: &Endpoint,
    nodes: Option<&Nodes>,
    db: u32,
    timeout: Duration,
) -> Result<Option<u64>, Refusal> {
    let failed = |error| Refusal::Link(side, error);
    if let Some(nodes) = nodes {
        return nodes.dbsize(db, timeout).await.map_err(failed);
    }
    let mut control = Control::connect(endpoint, db, timeout)
        .await
        .map_err(failed)?;
    control.dbsize().await.map_err(failed)
}

async fn must_be_empty(
    request: &Request,
    lanes: &[LanePlan],
    nodes: Option<&Nodes>,
) -> Result<(), Refusal> {
    let timeout = request.options.timeout;
    let ways = "--on-conflict skip keeps the target's keys, replace overwrites them, fail stops at the first";
    for lane in lanes {
        let db = lane.target_db;
        let error = match dbsize(Side::Target, &request.target, nodes, db, timeout).await? {
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
