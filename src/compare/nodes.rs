//! Connections to a side: one to a single server, one to each master of a cluster.
//!
//! # Invariant
//!
//! What is read of a cluster counts as long as the processes that it was read from have slots: others may join them, and
//! slots may move between them, but when one of them is gone what it said is in doubt.

use std::rc::Rc;
use std::time::Duration;

use super::engine::{End, Shared, list_is_lost, move_bytes, name_of};
use super::lane::Trouble;
use super::link::{Env, Waited, connected, retrying};
use crate::client::cluster::{identity_of_all, is_among};
use crate::client::retry::Budget;
use crate::client::{Clock, Link, LinkError, Nodes};
use crate::cluster::{NodeAddress, Topology};
use crate::endpoint::Side;
use crate::error::Error;
use crate::state::record::ServerIdentity;

/// A side that answers.
pub struct Reached {
    /// To each of its masters, in the order of their numbers.
    pub links: Vec<Link>,
    /// The process, or all of them.
    pub identity: ServerIdentity,
    /// Which node has which slot, if it is a cluster.
    pub topology: Option<Topology>,
}

impl Reached {
    fn single(link: Link) -> Self {
        Self {
            identity: link.identity.clone(),
            links: vec![link],
            topology: None,
        }
    }

    /// Whether all of it knows PEXPIRETIME.
    pub fn absolute_expiry(&self) -> bool {
        self.links.iter().all(|link| link.absolute_expiry)
    }

    /// Whether all of it knows SCAN … TYPE.
    pub fn scan_type(&self) -> bool {
        self.links.iter().all(|link| link.scan_type)
    }

    /// Its clock, if all of it tells one. Of several it is the first: those of one cluster are taken to agree.
    pub fn clock(&self) -> Option<Clock> {
        let clocks: Option<Vec<Clock>> = self.links.iter().map(|link| link.clock).collect();
        clocks?.first().copied()
    }
}

/// Connections to all of a side, waiting for it if need be. With `failure`, a wait comes first.
pub async fn reach(
    env: &Env,
    side: Side,
    budget: &mut Budget,
    db: u32,
    failure: Option<LinkError>,
) -> Result<Waited<Reached>, Error> {
    let Some(nodes) = env.cluster(side) else {
        return Ok(match connected(env, side, budget, db, failure).await? {
            Waited::Ready(link) => Waited::Ready(Reached::single(link)),
            Waited::Stopped(reason) => Waited::Stopped(reason),
        });
    };
    let name = env.client_name();
    let attempt = async |timeout: Duration| {
        nodes.refresh(timeout).await?;
        if let Some((slots, first)) = nodes.topology().hole() {
            let what = format!("{slots} slots are at no node, the first of them {first}");
            return Err(LinkError::Elsewhere(what));
        }
        let topology = nodes.topology().clone();
        let mut links = Vec::new();
        for node in topology.nodes() {
            let link = nodes
                .connect_source(&node.address, db, &name, timeout)
                .await?;
            links.push(link);
        }
        let all: Vec<ServerIdentity> = links.iter().map(|link| link.identity.clone()).collect();
        Ok(Reached {
            links,
            identity: identity_of_all(&all),
            topology: Some(topology),
        })
    };
    retrying(env, side, budget, failure, attempt).await
}

/// Reads one node of a cluster, over as many connections as it takes.
pub async fn drive_node(
    shared: Rc<Shared>,
    nodes: Rc<Nodes>,
    side: usize,
    pipe: usize,
    mut link: Link,
) -> End {
    let env = Rc::clone(&shared.env);
    let node = shared.lane.borrow().node(side, pipe);
    let mut budget = env.budget(name_of(side));
    budget.contact();
    loop {
        link.wire.set_silence_max(budget.silence_max());
        let trouble = move_bytes(&shared, side, pipe, link).await;
        let answers = {
            let mut lane = shared.lane.borrow_mut();
            lane.lost(side, pipe);
            lane.answers[side]
        };
        shared.wake();
        budget.progress(answers);
        let failure = match trouble {
            Trouble::Link(error) => error.at(&node),
            Trouble::UnknownNode(other) => {
                LinkError::Elsewhere(format!("{other} has slots by now, and had none before"))
            }
            Trouble::List(error) => return list_is_lost(error),
            Trouble::CursorRefused(line) => LinkError::Unexpected("CLUSTER GETKEYSINSLOT", line),
        };
        link = match again(&shared, &nodes, side, &node, &mut budget, failure).await {
            Ok(Waited::Ready(Some(link))) => link,
            Ok(Waited::Ready(None)) => {
                return End::Judge(format!(
                    "other processes of the {} have slots than before",
                    name_of(side)
                ));
            }
            Ok(Waited::Stopped(reason)) => return End::Stopped(reason),
            Err(error) => return error.into(),
        };
    }
}

/// A connection to the same process at the same node; `None` if it is another, or if other nodes have slots by now.
async fn again(
    shared: &Shared,
    nodes: &Nodes,
    side: usize,
    node: &NodeAddress,
    budget: &mut Budget,
    failure: LinkError,
) -> Result<Waited<Option<Link>>, Error> {
    let env = &shared.env;
    let name = env.client_name();
    let db = shared.db(side);
    let known = &shared.identities[side];
    let attempt = async |timeout: Duration| {
        nodes.refresh(timeout).await?;
        if !shared.lane.borrow_mut().set_routes(side, &nodes.topology()) {
            return Ok(None);
        }
        let link = nodes.connect_source(node, db, &name, timeout).await?;
        let same = match &link.identity.run_id {
            Some(run_id) => is_among(known, run_id),
            None => false,
        };
        Ok(same.then_some(link))
    };
    retrying(env, name_of(side), budget, Some(failure), attempt).await
}
