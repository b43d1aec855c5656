//! Moves the bytes where a side is a cluster: which node to speak to, and what to do when that is another one by now.
//!
//! The source is read node by node, in the order of the slots: one connection, to the node that has the next slots
//! (`slots.rs` says why that is enough). The target is written at all its masters at the same time.
//!
//! # Invariants
//!
//! - A node that is lost stops what goes to it and nothing else, for as long as the other nodes have something to do.
//! - When other masters have slots than before, the lane begins anew where it is durable: only then is it known again
//!   whose acknowledgements count.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::engine::{End, Shared, source_receive, source_send};
use super::lane::Trouble;
use super::link::{Env, Waited, retrying};
use super::walk::{CLOCKS_AGREE_MS, LaneEnd};
use super::writing::exchange;
use crate::client::cluster::{SLOTS_IDENTITY, is_among};
use crate::client::handshake::end_earlier;
use crate::client::retry::Budget;
use crate::client::{Link, LinkError, Nodes};
use crate::cluster::{NodeAddress, Slot};
use crate::endpoint::Side;
use crate::error::Error;

/// A connection to database `db` of the node of the source that has `slot`. With `failure`, a wait comes first.
pub async fn source(
    env: &Env,
    nodes: &Nodes,
    budget: &mut Budget,
    (db, slot): (u32, Slot),
    failure: Option<LinkError>,
) -> Result<Waited<Link>, Error> {
    let name = env.client_name();
    let outdated = Cell::new(failure.is_some());
    let attempt = async |timeout: Duration| {
        if outdated.replace(true) {
            nodes.refresh(timeout).await?;
        }
        let (_, node) = nodes.owner(slot)?;
        let mut link = nodes.connect_source(&node, db, &name, timeout).await?;
        link.identity.run_id = Some(SLOTS_IDENTITY.to_owned());
        nodes.set_reading(node);
        Ok(link)
    };
    retrying(env, Side::Source, budget, failure, attempt).await
}

/// Connections to database `db` of all masters of the target, so many to each, in the order of their numbers.
pub async fn targets(env: &Env, nodes: &Nodes, db: u32) -> Result<Waited<Vec<Link>>, Error> {
    let name = env.client_name();
    let mut budget = env.budget(Side::Target);
    let of_each = env.request.options.connections.max(1);
    let attempt = async |timeout: Duration| {
        nodes.refresh(timeout).await?;
        if let Some((slots, first)) = nodes.topology().hole() {
            let what = format!("{slots} slots are at no node, the first of them {first}");
            return Err(LinkError::Elsewhere(what));
        }
        let mut links = Vec::new();
        for node in nodes.masters() {
            for _ in 0..of_each {
                links.push(nodes.connect_target(&node, db, &name, timeout).await?);
            }
        }
        Ok(links)
    };
    retrying(env, Side::Target, &mut budget, None, attempt).await
}

/// Reads the source, one node after the other.
pub async fn source_side(shared: Rc<Shared>, nodes: Rc<Nodes>, mut link: Link) -> End {
    let env = Rc::clone(&shared.env);
    let db = env.request.plan.lanes[shared.index].source_db;
    let mut budget = env.budget(Side::Source);
    budget.contact();
    loop {
        serve(&shared, &nodes, &link);
        link.wire.set_silence_max(budget.silence_max());
        let (reader, writer) = link.wire.split();
        let trouble = tokio::select! {
            trouble = source_send(&shared, writer) => trouble,
            trouble = source_receive(&shared, reader) => trouble,
        };
        let (progress, slot) = {
            let mut lane = shared.lane.borrow_mut();
            lane.source_lost();
            (lane.source_answers, lane.source_slot())
        };
        budget.progress(progress);
        let failure = match trouble {
            Trouble::NextNode => None,
            Trouble::Link(error) => Some(match nodes.reading() {
                Some(node) => error.at(&node),
                None => error.of_node(),
            }),
            Trouble::Fatal(error) => return End::Failed(error),
            Trouble::CursorRefused(_) | Trouble::UnknownNode(_) => {
                unreachable!("slots have no cursors, and only the target is written")
            }
        };
        link = match source(&env, &nodes, &mut budget, (db, slot), failure).await {
            Ok(Waited::Ready(link)) => link,
            Ok(Waited::Stopped(reason)) => return End::Lane(LaneEnd::Stopped(reason)),
            Err(error) => return error.into(),
        };
    }
}

/// Tells the lane what the node has that is read from now on.
fn serve(shared: &Shared, nodes: &Nodes, link: &Link) {
    let topology = nodes.topology();
    let number = nodes.reading().and_then(|node| topology.number_of(&node));
    let mut lane = shared.lane.borrow_mut();
    // Nothing is asked at the moment, so the question may change.
    let shares_instants = match (link.clock, lane.rules.target_clock) {
        (Some(source), Some(target)) => target.ahead_of(&source).abs() <= CLOCKS_AGREE_MS,
        _ => false,
    };
    lane.rules.set_source_clock(link.clock);
    lane.rules.expire_time &= link.absolute_expiry && shares_instants;
    // A node that has lost its slots since it was chosen has none of the next ones, and another one will be chosen.
    lane.source_serves(&topology, number.unwrap_or(usize::MAX));
}

/// Writes to one node of the target.
pub async fn target_side(
    shared: Rc<Shared>,
    nodes: Rc<Nodes>,
    connection: usize,
    mut link: Link,
) -> End {
    let env = Rc::clone(&shared.env);
    let node = shared.lane.borrow().target_node(connection);
    let mut budget = env.budget(Side::Target);
    budget.contact();
    loop {
        let client_id = link.client_id;
        let trouble = exchange(&shared, connection, link, &mut budget).await;
        let failure = match trouble {
            Trouble::Link(error) => error.at(&node),
            Trouble::Fatal(error) => return End::Failed(error),
            Trouble::UnknownNode(node) => {
                LinkError::Elsewhere(format!("{node} has slots by now, and had none before"))
            }
            Trouble::CursorRefused(_) | Trouble::NextNode => {
                unreachable!("only the source is asked to scan")
            }
        };
        match again(&shared, &nodes, &node, client_id, &mut budget, failure).await {
            Ok(Waited::Ready(Some(next))) => link = next,
            Ok(Waited::Ready(None)) => return End::Lane(LaneEnd::Again),
            Ok(Waited::Stopped(reason)) => return End::Lane(LaneEnd::Stopped(reason)),
            Err(error) => return error.into(),
        }
    }
}

/// A connection to the same process at the same node; `None` if it is another, or if other nodes have slots by now.
async fn again(
    shared: &Shared,
    nodes: &Nodes,
    node: &NodeAddress,
    earlier: Option<i64>,
    budget: &mut Budget,
    failure: LinkError,
) -> Result<Waited<Option<Link>>, Error> {
    let env = &shared.env;
    let name = env.client_name();
    let db = env.request.plan.lanes[shared.index].target_db;
    let attempt = async |timeout: Duration| {
        nodes.refresh(timeout).await?;
        if !shared.lane.borrow().has_nodes_of(&nodes.topology()) {
            return Ok(None);
        }
        let mut link = nodes.connect_target(node, db, &name, timeout).await?;
        let known = shared.durable.borrow().lanes[shared.index].target.clone();
        let known_process = match (&known.run_id, &link.identity.run_id) {
            (Some(_), Some(run_id)) => is_among(&known, run_id),
            (Some(_), None) => false,
            // Nothing can be told apart.
            (None, _) => true,
        };
        if !known_process {
            return Ok(None);
        }
        // What the lost connection may still have in the server's buffers: an old value must not land after a newer one.
        // In another process the number would be somebody else's.
        if let Some(client_id) = earlier {
            end_earlier(&mut link, client_id).await?;
        }
        let mut lane = shared.lane.borrow_mut();
        lane.set_routes(nodes.topology().clone());
        Ok(Some(link))
    };
    retrying(env, Side::Target, budget, Some(failure), attempt).await
}
