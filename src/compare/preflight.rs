//! What must be known of both servers before the first key is read.
//!
//! # Invariant
//!
//! Nothing is written here, on either side.

use std::rc::Rc;
use std::time::Duration;

use super::functions;
use super::link::{Env, Waited, retrying};
use crate::audit::entry::ServerSeen;
use crate::client::Nodes;
use crate::client::control::{Control, Info, Role};
use crate::client::seeds::stand_in;
use crate::client::topology::{Asked, Refusal};
use crate::databases::came_later;
use crate::endpoint::Side;
use crate::error::{Class, Error};
use crate::progress::Event;

/// What was found out.
#[derive(Debug, Clone)]
pub struct Facts {
    /// DBSIZE of each lane's source database, in the plan's order, where it may be asked.
    pub keyspace: Vec<Option<u64>>,
    /// The nodes of source and target, where these are clusters.
    pub clusters: [Option<Rc<Nodes>>; 2],
    /// What is to be said of databases that are not in the plan.
    pub came_later: Option<String>,
    /// Who source and target are, for the journal.
    pub servers: Vec<(Side, Box<ServerSeen>)>,
}

/// Looks at both servers, waiting for them if need be.
///
/// # Errors
///
/// Servers that this version does not speak to, and one that would be compared with itself.
pub async fn check(env: &Env) -> Result<Waited<Facts>, Error> {
    let mut infos = Vec::new();
    let mut clusters = Vec::new();
    let mut servers = Vec::new();
    for side in [Side::Source, Side::Target] {
        let mut budget = env.budget(side);
        // What is refused is no trouble with the connection: it is not tried again.
        let attempt = async |timeout| match ask(env, side, timeout).await {
            Ok(asked) => Ok(Ok(asked)),
            Err(Refusal::Error(error)) => Ok(Err(*error)),
            Err(Refusal::Link(_, error)) => Err(error),
        };
        let (asked, nodes, seen) = match retrying(env, side, &mut budget, None, attempt).await? {
            Waited::Ready(asked) => asked?,
            Waited::Stopped(reason) => return Ok(Waited::Stopped(reason)),
        };
        if let Some(warning) = stand_in(env.endpoint(side), side, env.request.options.timeout).await
        {
            env.warn(warning);
        }
        match &nodes {
            Some(nodes) => {
                let masters = nodes.masters().len();
                env.observer.event(&Event::Cluster { side, masters });
            }
            None if asked.role == Role::Replica => env.warn(format!(
                "the {side} is a replica: it lags behind its master and hides expired keys a little early"
            )),
            None => {}
        }
        servers.push((side, Box::new(seen)));
        infos.push(asked.info);
        clusters.push(nodes);
    }
    let clusters: [Option<Rc<Nodes>>; 2] = clusters
        .try_into()
        .unwrap_or_else(|_| unreachable!("one for each side"));
    must_differ(env, &infos, &clusters)?;
    functions::compare(env, &infos).await;
    let mut keyspace = Vec::new();
    for lane in &env.request.plan.lanes {
        if let Some(list) = &env.request.plan.keys_from {
            keyspace.push(Some(list.keys));
            continue;
        }
        let attempt = async |timeout| match &clusters[Side::Source as usize] {
            Some(nodes) => nodes.dbsize(lane.source_db, timeout).await,
            None => {
                let mut control =
                    Control::connect(&env.request.source, lane.source_db, timeout).await?;
                control.dbsize().await
            }
        };
        let mut budget = env.budget(Side::Source);
        match retrying(env, Side::Source, &mut budget, None, attempt).await? {
            Waited::Ready(keys) => keyspace.push(keys),
            Waited::Stopped(reason) => return Ok(Waited::Stopped(reason)),
        }
    }
    let (plan, source) = (&env.request.plan, &env.request.source);
    let attempt = async |timeout| came_later(plan, source, timeout).await;
    let mut budget = env.budget(Side::Source);
    let later = retrying(env, Side::Source, &mut budget, None, attempt).await?;
    let came_later = match later {
        Waited::Ready(later) => later,
        Waited::Stopped(reason) => return Ok(Waited::Stopped(reason)),
    };
    Ok(Waited::Ready(Facts {
        keyspace,
        clusters,
        came_later,
        servers,
    }))
}

/// One side, its nodes if it is a cluster, and what the journal tells of it.
pub(super) async fn ask(
    env: &Env,
    side: Side,
    timeout: Duration,
) -> Result<(Asked, Option<Rc<Nodes>>, ServerSeen), Refusal> {
    let endpoint = env.endpoint(side);
    let mut asked = Asked::connect(side, endpoint, timeout).await?;
    asked.must_have_keys()?;
    let lanes = env.request.plan.lanes.iter();
    let dbs = lanes.map(|lane| match side {
        Side::Source => lane.source_db,
        Side::Target => lane.target_db,
    });
    let nodes = asked.nodes(endpoint, timeout, dbs).await?;
    let seen = asked
        .seen(endpoint, timeout, nodes.as_deref(), None)
        .await?;
    Ok((asked, nodes, seen))
}

/// A database that is compared with itself is equal and proves nothing.
fn must_differ(env: &Env, infos: &[Info], clusters: &[Option<Rc<Nodes>>; 2]) -> Result<(), Error> {
    let lanes = &env.request.plan.lanes;
    let itself = lanes.iter().find(|lane| lane.source_db == lane.target_db);
    if let [Some(source), Some(target)] = clusters {
        let compared = target.masters();
        let both = source.masters();
        let both = both.iter().find(|node| compared.contains(node));
        return match both.zip(itself) {
            None => Ok(()),
            Some((node, _)) => {
                let cause =
                    format!("source and target are the same cluster, {node} is a node of both");
                Err(Error::new(Class::Topology, "compare", cause)
                    .hint("give the address of another cluster"))
            }
        };
    }
    let run_id = |side: usize| {
        infos[side]
            .get("run_id")
            .filter(|id| !id.is_empty())
            .cloned()
    };
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
