//! The connections that big keys are copied over: one to each side, in a cluster to the node that has the key's slot.
//!
//! # Invariant
//!
//! A connection is used again only after every question on it was answered.

use std::rc::Rc;
use std::time::Duration;

use super::rights::Broken;
use crate::client::LinkError;
use crate::client::control::Control;
use crate::client::retry::Budget;
use crate::cluster::{NodeAddress, slot_of};
use crate::copy::link::{Env, Waited, retrying};
use crate::endpoint::Side;
use crate::error::Error;

/// A side, as big keys see it.
pub(super) struct End {
    env: Rc<Env>,
    side: Side,
    db: u32,
    budget: Budget,
    /// In a cluster with the node that it leads to.
    control: Option<(Option<NodeAddress>, Control)>,
    failure: Option<LinkError>,
    /// Answers that brought something forward.
    progress: u64,
}

impl End {
    pub fn new(env: &Rc<Env>, side: Side, db: u32) -> Self {
        Self {
            env: Rc::clone(env),
            side,
            db,
            budget: env.budget(side),
            control: None,
            failure: None,
            progress: 0,
        }
    }

    /// Makes sure that there is a connection for the key `name`, after a wait if the last one failed. Returns whether it
    /// is a new one.
    pub async fn connect(&mut self, name: &[u8]) -> Result<Waited<bool>, Error> {
        let nodes = self.env.cluster(self.side);
        if let Some((node, _)) = &self.control {
            let owner = nodes.as_ref().map(|nodes| nodes.owner(slot_of(name)));
            match owner {
                None => return Ok(Waited::Ready(false)),
                Some(Ok((_, owner))) if Some(&owner) == node.as_ref() => {
                    return Ok(Waited::Ready(false));
                }
                Some(_) => {}
            }
        }
        self.control = None;
        let (env, side, db) = (Rc::clone(&self.env), self.side, self.db);
        let attempt = async |timeout: Duration| match &nodes {
            Some(nodes) => {
                let (node, control) = nodes.control_at(name, db, timeout).await?;
                Ok((Some(node), control))
            }
            None => {
                let endpoint = match side {
                    Side::Source => &env.request.source,
                    Side::Target => &env.request.target,
                };
                let control = Control::connect(endpoint, db, timeout).await?;
                Ok((None, control))
            }
        };
        let failure = self.failure.take();
        match retrying(&self.env, side, &mut self.budget, failure, attempt).await? {
            Waited::Ready(connected) => {
                self.control = Some(connected);
                Ok(Waited::Ready(true))
            }
            Waited::Stopped(reason) => Ok(Waited::Stopped(reason)),
        }
    }

    /// The connection.
    ///
    /// # Errors
    ///
    /// If it was lost; [`Self::connect`] gets the next one.
    pub fn control(&mut self) -> Result<&mut Control, Broken> {
        match &mut self.control {
            Some((_, control)) => Ok(control),
            None => Err(Broken {
                side: self.side,
                error: LinkError::Closed,
            }),
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
