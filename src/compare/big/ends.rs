//! The connections that big keys are read over: one to each side, in a cluster to the node that has the key's slot.
//!
//! # Invariant
//!
//! A connection leads to the process that the lane is read from, or the lane is judged anew.

use std::rc::Rc;
use std::time::Duration;

use crate::client::LinkError;
use crate::client::cluster::is_among;
use crate::client::control::{Control, Info};
use crate::client::retry::Budget;
use crate::cluster::{NodeAddress, slot_of};
use crate::compare::engine::{End, Shared, name_of};
use crate::compare::link::{Env, Waited, retrying};
use crate::state::record::ServerIdentity;

/// A side, as big keys see it.
pub(super) struct Reach {
    env: Rc<Env>,
    side: usize,
    db: u32,
    identity: ServerIdentity,
    budget: Budget,
    /// In a cluster with the node that it leads to.
    control: Option<(Option<NodeAddress>, Control)>,
    failure: Option<LinkError>,
    /// Answers that brought something forward.
    progress: u64,
}

impl Reach {
    pub fn new(shared: &Shared, side: usize) -> Self {
        Self {
            env: Rc::clone(&shared.env),
            side,
            db: shared.db(side),
            identity: shared.identities[side].clone(),
            budget: shared.env.budget(name_of(side)),
            control: None,
            failure: None,
            progress: 0,
        }
    }

    /// Makes sure that there is a connection for the key `name`, after a wait if the last one failed.
    pub async fn connect(&mut self, name: &[u8]) -> Result<(), End> {
        let side = name_of(self.side);
        let nodes = self.env.cluster(side);
        if let Some((node, _)) = &self.control {
            let owner = nodes.as_ref().map(|nodes| nodes.owner(slot_of(name)));
            match owner {
                None => return Ok(()),
                Some(Ok((_, owner))) if Some(&owner) == node.as_ref() => return Ok(()),
                Some(_) => {}
            }
        }
        self.control = None;
        let (env, db) = (Rc::clone(&self.env), self.db);
        let attempt = async |timeout: Duration| {
            let (node, mut control) = match &nodes {
                Some(nodes) => {
                    let (node, control) = nodes.control_at(name, db, timeout).await?;
                    (Some(node), control)
                }
                None => {
                    let endpoint = env.endpoint(side);
                    (None, Control::connect(endpoint, db, timeout).await?)
                }
            };
            let info = control.info().await?;
            Ok((node, control, info))
        };
        let failure = self.failure.take();
        match retrying(&env, side, &mut self.budget, failure, attempt).await? {
            Waited::Ready((node, control, info)) => {
                if is_another(&self.identity, nodes.is_some(), &info) {
                    return Err(End::Judge(format!(
                        "the {side} is another process than the one that was read"
                    )));
                }
                self.control = Some((node, control));
                Ok(())
            }
            Waited::Stopped(reason) => Err(End::Stopped(reason)),
        }
    }

    /// The connection.
    ///
    /// # Errors
    ///
    /// If it was lost; [`Self::connect`] gets the next one.
    pub fn control(&mut self) -> Result<&mut Control, LinkError> {
        match &mut self.control {
            Some((_, control)) => Ok(control),
            None => Err(LinkError::Closed),
        }
    }

    /// The connection is of no more use, for this reason.
    pub fn lost(&mut self, error: LinkError) {
        self.failure = Some(match self.control.take() {
            Some((Some(node), _)) => error.at(&node),
            _ => error,
        });
    }

    /// Something was brought forward.
    pub fn moved(&mut self) {
        self.progress += 1;
        self.budget.progress(self.progress);
    }
}

/// Whether a server says that it is none of those that were read.
fn is_another(known: &ServerIdentity, is_cluster: bool, info: &Info) -> bool {
    let now = info.get("run_id").filter(|id| !id.is_empty());
    match (&known.run_id, now) {
        (Some(_), Some(now)) if is_cluster => !is_among(known, now),
        (Some(known), Some(now)) => known != now,
        _ => false,
    }
}
